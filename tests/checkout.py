"""A clone of the checkout to launch from, so that tests write neither to it nor to what is launched from it."""

from vre.release.trial import Checkout, clone, environment

__all__ = ["Checkout", "clone", "environment"]
