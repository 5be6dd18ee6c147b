"""The base image of every machine: Debian, Kubernetes' programs and every container image, built once."""

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vre.artifacts import containers as container_images
from vre.artifacts import debian, table
from vre.artifacts.containers import Containers
from vre.artifacts.golang import build_all
from vre.artifacts.store import Store
from vre.errors import VreError
from vre.image import bake, disk, packed, root
from vre.image.recipe import Recipe, load
from vre.progress import Report

RECIPE = "1"  # raised when this package makes another image from the same inputs
DISK = "disk.qcow2"
IMAGES = "images.json"
TAR = "root.tar"


@dataclass(frozen=True, kw_only=True)
class Image:
    """What machines are made of: a file, each container image's short name -> reference with digest, its identity.

    The file is the base image (qcow2), or the software for machines that started from Debian's own image.
    """

    path: Path
    images: Mapping[str, str]
    id: str


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What an image is put together from."""

    debian: Path
    programs: Mapping[str, Path]
    containers: Containers


def build(store: Store, report: Report, *, recipe: Recipe | None = None) -> Image:
    """Return the base image, built first where it is not in the store. Raises VreError with what failed."""
    recipe = recipe or load()
    parts = _parts(store, report, recipe)
    path = store.get("image", _inputs(recipe, parts), lambda folder: _assemble(folder, recipe, parts, report), report)
    return Image(path=path / DISK, images=json.loads((path / IMAGES).read_text()), id=path.name)


def software(store: Store, report: Report, *, recipe: Recipe | None = None) -> Image:
    """Return the software that makes a plain Debian machine one of ours, packed first where it is not in the store."""
    recipe = recipe or load()
    wanted = table.load()
    programs = build_all(sorted(recipe.programs), report, store)
    containers = container_images.build(store, report, table=wanted)
    inputs = {**_own(recipe, programs), "containers": containers.key, "script": packed.SCRIPT.read_bytes()}
    path = store.get(
        "software", inputs, lambda folder: packed.pack(folder, recipe, programs, containers, report), report
    )
    return Image(path=path / packed.TAR, images=json.loads((path / IMAGES).read_text()), id=path.name)


def _parts(store: Store, report: Report, recipe: Recipe) -> Parts:
    """Build what is missing side by side: packages come over the network while programs are compiled."""
    wanted = table.load()
    sets = sorted({*recipe.programs, *(name for image in wanted.images for name in image.programs)})
    with ThreadPoolExecutor(max_workers=2) as pool:
        packages = pool.submit(debian_root, store, report, recipe)
        programs = pool.submit(build_all, sets, report, store)
        containers = container_images.build(store, report, table=wanted, programs=programs.result)
        return Parts(debian=packages.result(), programs=programs.result(), containers=containers)


def debian_root(store: Store, report: Report, recipe: Recipe | None = None) -> Path:
    """Return the Debian part of the image as a tar file, built first where it is not in the store."""
    wanted = recipe or load()
    inputs: dict[str, bytes | str] = {
        "recipe": RECIPE,
        "suite": wanted.suite,
        "packages": " ".join(sorted((*wanted.boot, *wanted.packages))),
    }
    made = store.get("image-debian", inputs, lambda folder: root.bootstrap(folder / TAR, wanted, report), report)
    return made / TAR


def verify(image: Image, store: Store) -> None:
    """Raise VreError when a built image is not what was built: any byte changed, or qcow2's structures damaged."""
    wrong = store.verify(image.path.parent)
    if wrong:
        raise VreError("\n".join(wrong), hint="remove the folder and build the image again")
    disk.check(image.path)


def _inputs(recipe: Recipe, parts: Parts) -> dict[str, bytes | str]:
    own = _own(recipe, parts.programs)
    return {**own, "debian": parts.debian.parent.name, "containers": parts.containers.key}


def _own(recipe: Recipe, programs: Mapping[str, Path]) -> dict[str, bytes | str]:
    files = {f"file/{path.relative_to(recipe.files)}": path.read_bytes() for path in _files(recipe.files)}
    built = {f"programs/{name}": programs[name].name for name in recipe.programs}
    rest = repr((recipe.programs, recipe.accounts, recipe.folders, recipe.modes, recipe.enable, recipe.mask))
    return {"recipe": RECIPE, "rest": rest + repr(recipe.generators), **files, **built}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _assemble(folder: Path, recipe: Recipe, parts: Parts, report: Report) -> None:
    work = folder / "root"
    report("unpacking Debian")
    debian.unpack(parts.debian, work)
    root.fill(work, recipe, parts.programs, report)
    references = bake.bake(work, parts.containers, report)
    disk.assemble(work, folder / DISK, report)
    (folder / IMAGES).write_text(bake.listing(references))
    shutil.rmtree(work)
