"""vre-machine: what of ours runs on machines, as a Debian package, so that a mended one reaches those that stand.

Settings below /etc are no part of it: launches write there, and so may whoever runs a machine.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from vre import paths
from vre.errors import VreError
from vre.image import recipe as recipes
from vre.image.recipe import Recipe
from vre.packages import deb
from vre.packages.deb import Package

NAME = "vre-machine"
UNITS = "usr/lib/systemd/system"
STARTED = (".path", ".timer")
"""Kinds of units that begin at once where they are new. What runs is left alone: the upgrade itself is among it."""
AFTER = """systemctl daemon-reload
    systemd-tmpfiles --create /usr/lib/tmpfiles.d/vre.conf
    deb-systemd-invoke start {} > /dev/null || true"""
TEXT = """# Made by `make generate`: a number that grows when the package vre-machine is another, and what has this one.
number: {}
digest: {}
"""


@dataclass(frozen=True, kw_only=True)
class Stated:
    """The package's version, and the digest of what has it."""

    number: int
    digest: str


def package(recipe: Recipe) -> Package | None:
    """Return the package of a recipe's files; None where it has none."""
    made = _package(recipe)
    return replace(made, version=str(stated().number)) if made.files else None


def text() -> str:
    """Return what the file of the version has to say: the next number when the package is another than it says."""
    before, now = stated(), digest(_package(recipes.load()))
    return TEXT.format(before.number if now == before.digest else before.number + 1, now)


def stated(file: Path | None = None) -> Stated:
    """Return the version that is written down. Raises VreError when it cannot be read."""
    place = file or paths.project() / "build" / "image" / "machine.yaml"
    try:
        told = yaml.safe_load(place.read_text())
        return Stated(number=int(told["number"]), digest=str(told["digest"]))
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise VreError(
            f"{place}: {error!r}", hint="take it from where the project came from, then make generate"
        ) from error


def digest(package: Package) -> str:
    """Return what tells two packages apart whatever their versions are: every file with its mode, and the script."""
    whole = hashlib.sha256(deb.postinst(package).encode())
    for name, content in contents(package).items():
        whole.update(f"\n{name} {len(content)}\n".encode() + content)
    return whole.hexdigest()


def contents(package: Package) -> Mapping[str, bytes]:
    """Return each file's content by its name and mode."""
    return {f"{name} {package.modes[name]:o}": file.read_bytes() for name, file in sorted(package.files.items())}


def _package(recipe: Recipe) -> Package:
    files = {str(path.relative_to(recipe.files)): path for path in recipes.packaged(recipe.files)}
    units = tuple(unit for unit in recipe.enable if f"{UNITS}/{unit}" in files)
    return Package(
        name=NAME,
        version="0",
        architecture="all",
        files=files,
        modes={name: recipe.mode(name) for name in files},
        description="what keeps a machine patched, and looks whether it was changed",
        units=units,
        after=AFTER.format(" ".join(unit for unit in units if unit.endswith(STARTED))),
    )
