"""The base image of every machine: Debian, Kubernetes' programs and every container image, built once."""

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vre import packages
from vre.artifacts import debian
from vre.artifacts.containers import Containers
from vre.artifacts.store import Store
from vre.errors import VreError
from vre.image import bake, disk, grub, importer, listing, packed, root
from vre.image.recipe import Recipe, laid, load
from vre.progress import Report

RECIPE = "3"  # raised when this package makes another image from the same inputs
DISK = "disk.qcow2"
IMAGES = "images.json"
PACKAGES = "packages.json"
TAR = "root.tar"


@dataclass(frozen=True, kw_only=True)
class Image:
    """What machines are made of: a file, each container image's short name -> reference with digest, its identity.

    The file is the base image (qcow2), or the software for machines that started from Debian's own image. `packages` is
    a JSON file: Debian's packages in it (name, version, architecture, source, source_version). `layout` is the folder
    with the OCI layout that the container images came from.
    """

    path: Path
    images: Mapping[str, str]
    id: str
    packages: Path
    layout: Path


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What an image is put together from. `packages` is a folder with those of ours."""

    debian: Path
    loader: Path
    programs: Mapping[str, Path]
    packages: Path
    containers: Containers


def build(store: Store, report: Report, *, recipe: Recipe | None = None) -> Image:
    """Return the base image, built first where it is not in the store. Raises VreError with what failed."""
    recipe = recipe or load()
    parts = gather(store, report, recipe)
    inputs = _inputs(recipe, parts)
    key = store.path("image", inputs).name
    path = store.get("image", inputs, lambda folder: assemble(folder, recipe, parts, key, report), report)
    return _image(path, DISK, parts.containers)


def software(store: Store, report: Report, *, recipe: Recipe | None = None) -> Image:
    """Return the software that makes a plain Debian machine one of ours, packed first where it is not in the store."""
    recipe = recipe or load()
    ours = packages.gather(store, report, recipe)
    made, containers = ours.packages, ours.containers
    inputs = {**_own(recipe, made), "containers": containers.key, "script": packed.SCRIPT.read_bytes()}
    path = store.get("software", inputs, lambda folder: packed.pack(folder, recipe, made, containers, report), report)
    return _image(path, packed.TAR, containers)


def _image(path: Path, file: str, containers: Containers) -> Image:
    images = json.loads((path / IMAGES).read_text())
    return Image(path=path / file, images=images, id=path.name, packages=path / PACKAGES, layout=containers.layout)


def gather(store: Store, report: Report, recipe: Recipe) -> Parts:
    """Return what an image is made of, building what is missing: packages come over the network while Go compiles."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        roots = pool.submit(lambda: (debian_root(store, report, recipe), grub.pieces(store, recipe.suite, report)))
        ours = packages.gather(store, report, recipe)
        archive, loader = roots.result()
        return Parts(
            debian=archive, loader=loader, programs=ours.programs, packages=ours.packages, containers=ours.containers
        )


def debian_root(store: Store, report: Report, recipe: Recipe | None = None) -> Path:
    """Return the Debian part of the image as a tar file, built first where it is not in the store."""
    wanted = recipe or load()
    inputs: dict[str, bytes | str] = {
        "recipe": RECIPE,
        "suite": wanted.suite,
        "packages": " ".join(sorted((*wanted.boot, *wanted.packages))),
        **({"moment": moment} if (moment := debian.moment()) else {}),
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
    own = _own(recipe, parts.packages)
    debian_part, loader = parts.debian.parent.name, parts.loader.name
    return {**own, "debian": debian_part, "loader": loader, "containers": parts.containers.key}


def _own(recipe: Recipe, ours: Path) -> dict[str, bytes | str]:
    files = {f"file/{path.relative_to(recipe.files)}": path.read_bytes() for path in laid(recipe)}
    rest = repr((recipe.accounts, recipe.folders, recipe.modes, recipe.enable, recipe.mask))
    rest += repr((recipe.overrides, recipe.generators))
    script = Path(importer.__file__).read_bytes()
    return {"recipe": RECIPE, "rest": rest, **files, "packages": ours.name, "importer": script}


def assemble(folder: Path, recipe: Recipe, parts: Parts, key: str, report: Report) -> None:
    """Put the image together in an empty folder. `key` is the digest of all that goes into it: same key, same bytes."""
    work, home = folder / "root", folder / "containerd"
    report("unpacking Debian")
    debian.unpack(parts.debian, work)
    with ThreadPoolExecutor(max_workers=1) as pool:
        baked = pool.submit(bake.bake, work, home, parts.containers)
        root.fill(work, recipe, parts.packages, report)
        report(f"{len(parts.containers.names)} container images into the root")
        baked.result()
    bake.bring(work, home, parts.containers)
    (folder / PACKAGES).write_text(listing.packages(work))
    root.settle(work)
    disk.assemble(work, folder / DISK, report, key=key, loader=parts.loader)
    (folder / IMAGES).write_text(bake.listing(parts.containers.references))
    shutil.rmtree(work)
