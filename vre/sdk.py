"""Clouds' SDKs, without what is not used: their packages import hundreds of modules at once, one for each resource.

Here a name of such a package is looked for in the module that has it, and nothing else of the package is run. A name
that is not where its spelling says has the package imported as it is: slower, never wrong.
"""

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

from vre import sdk_classes

ROOTS = ("pulumi_aws", "pulumi_azure_native", "pulumi_gcp", "pulumi_openstack")
"""SDKs with a package for each of a cloud's services."""
FLAT = ("pulumi_cloudflare",)
"""SDKs that are one package."""
WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def slim() -> None:
    """Have what is imported of the SDKs from now on be no more than is used."""
    if not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def places(name: str) -> Iterator[str]:
    """Return the modules of a package that may have a name, the likeliest first. Pure.

    As Pulumi's generator lays them out: a class and its function's result in a module of the resource's name, arguments
    that are part of others in `_inputs`, words that an argument may be in `_enums`.
    """
    module = WORD.sub("_", name).lower()
    if name == module:
        yield name.removesuffix("_output")
        return
    if name.endswith("Args"):
        yield "_inputs"
        yield module.removesuffix("_args")
    else:
        yield module.removesuffix("_result")
        yield "_enums"


class _Finder(MetaPathFinder):
    """Finds the packages of resources, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root, _, rest = fullname.partition(".")
        if not (root in FLAT or (root in ROOTS and rest)):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return spec
        if spec.submodule_search_locations:
            spec.loader = _Slim(spec.loader)
        elif rest.rpartition(".")[2] in sdk_classes.NAMES:
            spec.loader = sdk_classes.Bodies(spec.loader)
        else:
            spec.loader = sdk_classes.Mentioned(spec.loader)
        return spec


class _Slim(Loader):
    """Makes a package whose names are found when they are asked for."""

    def __init__(self, whole: Loader) -> None:
        self.whole = whole

    def exec_module(self, module: ModuleType) -> None:
        """Leave the package's own text unread."""
        module.__dict__["__getattr__"] = _names(module, self.whole)


def _names(package: ModuleType, whole: Loader) -> Callable[[str], Any]:
    def find(name: str) -> Any:
        if not name.startswith("__"):
            for place in places(name):
                found = _found(package, place, name)
                if found is not None:
                    package.__dict__[name] = found
                    return found
            if "__whole__" not in package.__dict__:
                package.__dict__["__whole__"] = True
                whole.exec_module(package)
                return getattr(package, name)
        raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")

    return find


def _found(package: ModuleType, place: str, name: str) -> Any:
    try:
        module = importlib.import_module(f"{package.__name__}.{place}")
    except ModuleNotFoundError as error:
        if error.name != f"{package.__name__}.{place}":
            raise
        return None
    return getattr(module, name, module if place == name else None)
