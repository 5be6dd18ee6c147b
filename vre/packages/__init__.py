"""Programs of ours, as Debian packages: dpkg knows them, apt upgrades them, like everything else there."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vre.artifacts import containers as container_images
from vre.artifacts import table, versions
from vre.artifacts.containers import Containers
from vre.artifacts.golang import architecture, build_all
from vre.artifacts.store import Store
from vre.image.recipe import Programs, Recipe, load
from vre.packages import containers, deb, machine
from vre.packages.deb import Package
from vre.progress import Report

RECIPE = "1"  # raised when the same programs are to be packed in another way
AFTER = {"kubelet": "systemctl try-restart kubelet.service"}
"""What is done after an upgrade. The pods live on; the unit's settings are files of the image, not of the package."""


@dataclass(frozen=True, kw_only=True)
class Ours:
    """What of a machine's software is ours: built programs, container images, and the folder with the packages."""

    programs: Mapping[str, Path]
    containers: Containers
    packages: Path


def build(store: Store, report: Report, *, recipe: Recipe | None = None) -> Path:
    """Return the folder with every package of ours, made first where it is not in the store."""
    return gather(store, report, recipe or load()).packages


def gather(store: Store, report: Report, recipe: Recipe) -> Ours:
    """Return what is ours, building what is missing: images that need no program are made while Go compiles."""
    wanted = table.load()
    sets = sorted({*recipe.programs, *(name for image in wanted.images for name in image.programs)})
    with ThreadPoolExecutor(max_workers=1) as pool:
        programs = pool.submit(build_all, sets, report, store)
        containers = container_images.build(store, report, table=wanted, programs=programs.result)
        folder = pack(store, recipe, programs.result(), containers, report)
        return Ours(programs=programs.result(), containers=containers, packages=folder)


def pack(store: Store, recipe: Recipe, programs: Mapping[str, Path], images: Containers, report: Report) -> Path:
    """Return the folder with the packages of these built programs, and of the list of these container images."""
    pins = versions.load()
    found = list(packages(recipe, programs, pins))
    inputs: dict[str, bytes | str] = {f"programs/{name}": programs[name].name for name in recipe.programs}
    inputs |= {"recipe": RECIPE, "packages": repr([(each.name, each.version, each.after) for each in found])}
    inputs |= {"images": images.key, "images version": containers.version()}
    inputs |= {f"files/{each.name}": machine.digest(each) for each in found if each.name == machine.NAME}

    def make(folder: Path) -> None:
        for each in found:
            report(f"package {each.name} {each.version}")
            deb.write(each, folder)
        containers.write(images, folder)

    return store.get("packages", inputs, make, report)


def packages(recipe: Recipe, programs: Mapping[str, Path], pins: versions.Versions) -> Iterator[Package]:
    """Yield what is packed: each set of programs by its own name, or each of them by theirs; then vre-machine."""
    for source, wanted in recipe.programs.items():
        pinned = pins.program(source)
        for name, parts in _named(wanted, programs[source]).items():
            yield Package(
                name=name,
                version=f"{pinned.version.removeprefix('v')}-{pinned.revision}",
                architecture=architecture(),
                files={f"{wanted.folder}/{part}": programs[source] / part for part in parts},
                description=f"{', '.join(parts)}, built from {pinned.module}",
                homepage=f"https://pkg.go.dev/{pinned.module}@{pinned.version}",
                after=AFTER.get(name, ""),
            )
    if own := machine.package(recipe):
        yield own


def _named(wanted: Programs, built: Path) -> dict[str, list[str]]:
    parts = list(wanted.only) or sorted(file.name for file in built.iterdir())
    return {wanted.package: parts} if wanted.package else {part: [part] for part in parts}
