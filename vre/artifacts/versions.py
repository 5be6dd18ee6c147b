"""The pinned versions of what is built from source: `build/versions.yaml`, read and checked."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from vre import paths, yamltext
from vre.errors import Finding, Refused, VreError

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Toolchain:
    """The least Go that serves, and the checksums of the module it is fetched as, by `system-architecture`."""

    version: str
    sums: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class File:
    """A file that is taken from a module as it is: `path` lies inside the module `module`."""

    module: str
    path: str


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Program:
    """One set of programs that come from one module, built together from `build/go/NAME`."""

    module: str
    version: str
    packages: Mapping[str, str]  # what the program is called -> its main package
    stamps: Mapping[str, str] = field(
        default_factory=dict
    )  # variables the linker sets: how a program knows its version
    tags: tuple[str, ...] = ()
    cgo: bool = False
    files: Mapping[str, File] = field(default_factory=dict)
    # module -> folder of a package in it -> the one file that stands there instead (build/go/NAME/instead/FILE)
    instead: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # Of the Debian package: raised when the same version is built anew, and 1 again with the next. No part of what is
    # built, so not of what it is kept by.
    revision: int = field(default=1, repr=False)
    # Built when a test asks for it, and with nothing else: no part of a launch. No part of what is built, either.
    test: bool = field(default=False, repr=False)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Versions:
    """All of `build/versions.yaml`."""

    toolchain: Toolchain
    programs: Mapping[str, Program]

    def program(self, name: str) -> Program:
        """Return what is pinned for one set of programs. Raises VreError for a name that is not in the table."""
        if name not in self.programs:
            raise VreError(f"no program is called {name}", hint=f"there are: {', '.join(sorted(self.programs))}")
        return self.programs[name]


def table() -> Path:
    """Return the file that pins every version."""
    return paths.project() / "build" / "versions.yaml"


def modules() -> Path:
    """Return the folder with one Go module (go.mod and go.sum) for each set of programs."""
    return paths.project() / "build" / "go"


def load(file: Path | None = None) -> Versions:
    """Return the pinned versions. Raises Refused with every fault of the file at once."""
    place = file or table()
    return parse(place.read_text(), where=str(place))


def parse(text: str, *, where: str) -> Versions:
    """Return the versions written in a YAML text. `where` names the text in what Refused says."""
    try:
        return TypeAdapter(Versions).validate_python(yamltext.load(text))
    except yaml.YAMLError as error:
        raise VreError(f"{where} is no YAML: {error}", hint="get the file back as the project has it") from error
    except ValidationError as error:
        raise Refused([_finding(fault, where) for fault in error.errors()]) from error


def _finding(fault: Mapping[str, object], where: str) -> Finding:
    place = fault["loc"]
    key = ".".join(str(part) for part in place) if isinstance(place, tuple) else ""
    return Finding(key=key or "file", reason=str(fault["msg"]), where=where)
