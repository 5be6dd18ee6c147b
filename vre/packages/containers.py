"""vre-images: which container images there are, as a Debian package, and what they are made of beside it.

The package lists every image with its digest, and apt brings it to standing machines, which take no older one. What has
these digests lies in the repository's folder `blobs`, each file named by its own digest, so that the list's signature
holds for them, too: build/image/files/usr/lib/vre/containers.py fetches what a machine lacks.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from vre import paths
from vre.artifacts import containers, debian, oci, table
from vre.artifacts.containers import Containers
from vre.packages import deb, number
from vre.packages.deb import Package
from vre.packages.number import Stated
from vre.run import run

NAME = "vre-images"
LIST = "usr/share/vre/listed.json"
BLOBS = "blobs"
KEPT = 2
"""So many lists are whole in the repository: the newest, and the one before, which somebody may be fetching."""


def version() -> str:
    """Return the package's version: its number, and the moment of Debian's archive where one is built from."""
    moment = debian.moment()
    return f"{stated().number}+{moment}" if moment else str(stated().number)


def write(made: Containers, folder: Path, named: str | None = None) -> Path:
    """Write the package into `folder`, in the version `named` where it is not the usual one."""
    listed = folder / "listed.json"
    listed.write_text(json.dumps(made.references, indent=1, sort_keys=True) + "\n")
    package = Package(
        name=NAME,
        version=named or version(),
        architecture="all",
        files={LIST: listed},
        modes={LIST: 0o644},
        description="which container images a machine is to have",
    )
    file = deb.write(package, folder)
    listed.unlink()
    return file


def publish(made: Containers, target: Path, folder: Path) -> list[Path]:
    """Put what the images are made of beside the packages of the repository `target`; return the package to add.

    None where the newest list there is the same. Without a moment of Debian's archive the same number may stand for
    other images, built on another day: then the version says when they were published.
    """
    lists = published(target)
    if lists and lists[-1][1] == made.references:
        return []
    newest = lists[-1][0] if lists else ""
    named = version()
    if newest and not _higher(named, newest):
        named = f"{stated().number}+{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    blobs = target / BLOBS
    blobs.mkdir(parents=True, exist_ok=True)
    for blob in _blobs(made):
        _copy(made.layout / "blobs" / "sha256" / blob, blobs / blob)
    return [write(made, folder, named)]


def clear(target: Path) -> None:
    """Remove from a repository what none of its last lists names any more."""
    blobs = target / BLOBS
    lists = published(target)[-KEPT:]
    kept = {blob for _, listed in lists for each in listed.values() for blob in _of(blobs, each.partition("@")[2])}
    for file in blobs.iterdir() if blobs.is_dir() else ():
        if file.name not in kept:
            file.unlink()


def published(target: Path) -> list[tuple[str, dict[str, str]]]:
    """Return version and list of every package of this name in a repository, the oldest first."""
    found: list[tuple[str, dict[str, str]]] = []
    for file in target.glob(f"{NAME}_*.deb"):
        listed = json.loads(run(["sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -xO "./$2"', "sh", file, LIST]))
        each = (run(["dpkg-deb", "--field", file, "Version"]).strip(), listed)
        place = sum(_higher(each[0], other) for other, _ in found)
        found.insert(place, each)
    return found


def _higher(one: str, other: str) -> bool:
    """Say whether one version is higher than another, as apt sees it."""
    return run(["sh", "-c", 'dpkg --compare-versions "$1" gt "$2" && echo yes || true', "sh", one, other]) != ""


def _blobs(made: Containers) -> Iterator[str]:
    """Yield all that the images are made of, by the name of its file."""
    every = {each for digest in made.digests.values() for each in oci.blobs(made.layout, digest)}
    return (each.partition(":")[2] for each in sorted(every))


def _of(blobs: Path, digest: str) -> Iterator[str]:
    name = digest.partition(":")[2]
    yield name
    if (blobs / name).exists():
        manifest = json.loads((blobs / name).read_text())
        yield manifest["config"]["digest"].partition(":")[2]
        yield from (layer["digest"].partition(":")[2] for layer in manifest["layers"])


def _copy(source: Path, target: Path) -> None:
    """Copy whole or not at all; what is there by this name has this content."""
    if target.exists():
        return
    part = target.with_suffix(".part")
    shutil.copyfile(source, part)
    part.chmod(0o644)
    os.replace(part, target)  # noqa: PTH105


def stated() -> Stated:
    """Return the number that is written down."""
    return number.stated(_file())


def text() -> str:
    """Return what the file of the number has to say: the next one when images are made of something else."""
    return number.text(NAME, stated(), digest())


def digest() -> str:
    """Return what tells apart what images are made of: pins, sums, locks, how they are built; but for Debian's part."""
    whole = hashlib.sha256(repr((containers.RECIPE, containers.GATHERED, containers.FINISH)).encode())
    build = paths.project() / "build"
    files = {build / "versions.yaml", *(build / "containers").rglob("*"), *(build / "go").rglob("*")}
    files |= {file for image in table.load().images for file in containers.sources(image)}
    for file in sorted(each for each in files if each.is_file() and each != _file()):
        whole.update(f"\n{file.relative_to(paths.project())}\n".encode() + file.read_bytes())
    return whole.hexdigest()


def _file() -> Path:
    return paths.project() / "build" / "containers" / "number.yaml"
