"""The one module of several that a stack file chooses: no other is imported, since their packages are large."""

from importlib import import_module
from typing import Any

from vre.errors import VreError


def module(folder: str, provider: str) -> Any:
    """Import `vre.FOLDER.PROVIDER`. Raises VreError when the packages that it needs are not installed."""
    try:
        return import_module(f"vre.{folder}.{provider}")
    except ModuleNotFoundError as error:
        if str(error.name).startswith("vre."):
            raise
        raise VreError(
            f"the Python packages for {provider} are not installed ({error.name})",
            hint=f"install them: vre setup {provider}-packages",
        ) from error
