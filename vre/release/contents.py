"""What is in an image: Debian's packages, programs with their modules, container images and what those hold."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from vre import image
from vre.artifacts import containers as container_images
from vre.artifacts import golang, table, versions
from vre.artifacts.store import Store
from vre.artifacts.versions import STRICT
from vre.image import recipe as recipes
from vre.image.recipe import Recipe
from vre.progress import Report
from vre.release.layers import Piece, pieces
from vre.release.manifest import Package, Program
from vre.run import run

RECIPE = "2"  # raised when this module finds other things in the same image


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Container:
    """A container image: its name with digest, the sets of programs in it, and its packages."""

    reference: str
    programs: tuple[str, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Contents:
    """Everything in an image. `modules` are the Go modules, with versions, in each set of programs; `own` its sets."""

    suite: str
    architecture: str
    inputs: Mapping[str, str]
    packages: tuple[Package, ...]
    programs: Mapping[str, Program]
    own: tuple[str, ...]
    modules: Mapping[str, tuple[tuple[str, str], ...]]
    containers: Mapping[str, Container]


def parse(told: bytes) -> Contents:
    """Return contents that were written down."""
    return TypeAdapter(Contents).validate_json(told)


def text(contents: Contents) -> bytes:
    """Return contents to be written down."""
    return (json.dumps(TypeAdapter(Contents).dump_python(contents, mode="json"), indent=1, sort_keys=True)).encode()


def look(built: image.Image, store: Store, report: Report) -> Contents:
    """Return what is in a built image. Takes about a minute."""
    recipe, wanted = recipes.load(), table.load()
    sets = sorted({*recipe.programs, *(name for each in wanted.images for name in each.programs)})
    programs = golang.build_all(sets, report, store)
    report("what is in the container images")
    return Contents(
        suite=recipe.suite,
        architecture=golang.architecture(),
        inputs=_inputs(built, store, recipe, programs),
        packages=tuple(Package(**each) for each in json.loads(built.packages.read_text())),
        programs={name: _program(name, path) for name, path in programs.items()},
        own=tuple(sorted(recipe.programs)),
        modules={name: _modules(path) for name, path in programs.items()},
        containers=_containers(built, store, report, wanted),
    )


def _program(name: str, folder: Path) -> Program:
    pinned = versions.load().program(name)
    sums = {file: str(told["sha256"]) for file, told in _measured(folder).items()}
    return Program(module=pinned.module, version=pinned.version, sums=sums)


def _measured(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what the store measured when it kept a folder."""
    found: dict[str, dict[str, Any]] = json.loads(folder.with_name(f"{folder.name}.json").read_text())
    return found


def _modules(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return the Go modules that were linked into the programs of a folder, as those say themselves."""
    command = golang.toolchain().command
    told = run([command, "version", "-m", *sorted(path for path in folder.iterdir() if path.is_file())])
    return tuple(sorted(set(linked(told))))


def linked(told: str) -> list[tuple[str, str]]:
    """Return module and version out of what `go version -m` says; one that was replaced is what stands for it. Pure.

    Go's own library is one of them, under the name that it has in lists of vulnerabilities.
    """
    found = [("stdlib", f"v{version}") for version in re.findall(r"^\S.*: go(\d[\w.]*)", told, re.MULTILINE)]
    for words in (line.split("\t") for line in told.splitlines()):
        if words[:2] == ["", "dep"] or words[:2] == ["", "mod"]:
            found.append((words[2], words[3]))
        elif words[:2] == ["", "=>"] and not words[2].startswith("."):
            found[-1] = (words[2], words[3])
    return [each for each in found if each[1] not in {"", "(devel)"}]


def _containers(built: image.Image, store: Store, report: Report, wanted: table.Table) -> dict[str, Container]:
    made = container_images.build(store, report, table=wanted)
    seen: dict[str, list[Piece]] = {}
    return {
        each.name: Container(
            reference=built.images[each.name],
            programs=tuple(sorted(each.programs)),
            pieces=tuple(pieces(made.layout, made.digests[each.name], seen)),
        )
        for each in wanted.images
    }


def _inputs(built: image.Image, store: Store, recipe: Recipe, programs: Mapping[str, Path]) -> dict[str, str]:
    """Return the digests of what the image was made from: Debian's part, programs, our files, container images."""
    root = image.debian_root(store, lambda _: None, recipe)
    found = {"debian": str(_measured(root.parent)[root.name]["sha256"])}
    found |= {
        f"program/{name}/{file}": str(told["sha256"])
        for name, path in programs.items()
        for file, told in _measured(path).items()
    }
    found |= {f"container/{name}": reference.rpartition("@sha256:")[2] for name, reference in built.images.items()}
    return found
