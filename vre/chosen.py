"""The one module of several that a stack file chooses: no other is imported, since their packages are large."""

from importlib import import_module
from typing import Any

from vre import sdk
from vre.errors import VreError


def module(folder: str, provider: str, *, packages: str = "") -> Any:
    """Import `vre.FOLDER.PROVIDER`. Raises VreError when the packages that it needs are not installed.

    `packages` is what set-up calls them, where that is not the provider.
    """
    sdk.slim()
    try:
        return import_module(f"vre.{folder}.{provider}")
    except ModuleNotFoundError as error:
        if str(error.name).startswith("vre."):
            raise
        raise VreError(
            f"the Python packages for {packages or provider} are not installed ({error.name})",
            hint=f"install them: vre setup {packages or provider}-packages",
        ) from error
