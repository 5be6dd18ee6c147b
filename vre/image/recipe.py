"""What is in the base image: build/image/image.yaml, read once and true from there on."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vre import paths, yamltext
from vre.errors import VreError

PROGRAMS, SETTINGS = "usr", "etc"
"""The folders of `files` that are the Debian package vre-machine, but for settings that are laid once."""


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Programs of one set built from source: the folder they are put in, and which of them when not all.

    `package` is the Debian package that they are in together; without, each is in one of its own name.
    """

    folder: str
    only: tuple[str, ...] = ()
    package: str = ""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """An empty folder that the image brings, with its mode and owner."""

    mode: int
    owner: str = "root"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The base image's parts. `files` is a tree that it gets as it is, `generators` those of systemd that are off.

    `boot` are the packages that a disk needs to start, `boot_files` how the names of the files for that begin: neither
    is for a machine that started from somebody else's image. `once` is how the names of settings begin that belong to
    other packages, or are written by launches: they come with the machine, and not with the package vre-machine.
    `overrides` are modes of Debian's own files.
    """

    suite: str
    packages: tuple[str, ...]
    files: Path
    boot: tuple[str, ...] = ()
    boot_files: tuple[str, ...] = ()
    once: tuple[str, ...] = ()
    programs: Mapping[str, Programs] = field(default_factory=dict)
    accounts: tuple[str, ...] = ()
    folders: Mapping[str, Folder] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    overrides: Mapping[str, int] = field(default_factory=dict)
    enable: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    generators: tuple[str, ...] = ()

    def mode(self, name: str) -> int:
        """Return the mode that one of `files` has on a machine."""
        return self.modes.get(name, 0o755 if os.access(self.files / name, os.X_OK) else 0o644)

    def in_package(self, name: str) -> bool:
        """Say whether one of `files` reaches machines as a part of the package vre-machine."""
        top = name.partition("/")[0]
        return top == PROGRAMS or (top == SETTINGS and not name.startswith((*self.once, *self.boot_files)))


def load(folder: Path | None = None) -> Recipe:
    """Read the recipe from `folder` (build/image by default). Raises VreError when its shape is wrong."""
    folder = folder or paths.project() / "build" / "image"
    table = yamltext.load((folder / "image.yaml").read_text())
    try:
        recipe = _recipe(table, folder / "files")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VreError(f"{folder / 'image.yaml'}: {error!r}", hint="compare it with vre/image/recipe.py") from error
    missing = [name for name in recipe.modes if not (recipe.files / name).is_file()]
    if missing:
        raise VreError(f"{folder / 'image.yaml'}: a mode for files that are not there: {', '.join(missing)}")
    return recipe


def laid(recipe: Recipe) -> list[Path]:
    """Return the files that are laid into the image, in order."""
    return [path for path in _ours(recipe.files) if not recipe.in_package(str(path.relative_to(recipe.files)))]


def packaged(recipe: Recipe) -> list[Path]:
    """Return the files that reach machines as a package, in order."""
    return [path for path in _ours(recipe.files) if recipe.in_package(str(path.relative_to(recipe.files)))]


def _ours(files: Path) -> list[Path]:
    """Return every file but what Python keeps beside its programs."""
    return sorted(path for path in files.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _recipe(table: Mapping[str, Any], files: Path) -> Recipe:
    return Recipe(
        suite=table["suite"],
        packages=tuple(table["packages"]),
        boot=tuple(table.get("boot", ())),
        boot_files=tuple(table.get("boot-files", ())),
        once=tuple(table.get("once", ())),
        files=files,
        programs={
            name: Programs(folder=entry["folder"], only=tuple(entry.get("only", ())), package=entry.get("package", ""))
            for name, entry in table.get("programs", {}).items()
        },
        accounts=tuple(table.get("accounts", ())),
        folders={
            name: Folder(mode=int(entry["mode"], 8), owner=entry.get("owner", "root"))
            for name, entry in table.get("folders", {}).items()
        },
        modes={name: int(mode, 8) for name, mode in table.get("modes", {}).items()},
        overrides={name: int(mode, 8) for name, mode in table.get("overrides", {}).items()},
        enable=tuple(table.get("enable", ())),
        mask=tuple(table.get("mask", ())),
        generators=tuple(table.get("generators", ())),
    )
