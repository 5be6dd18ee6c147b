"""Container images into the root's containerd, on this machine: seconds here, minutes inside an emulated guest."""

import json
import os
import shutil
from pathlib import Path

from vre.artifacts import debian
from vre.artifacts.containers import Containers
from vre.artifacts.sandbox import inside
from vre.image import bolt, importer

NAMES = "usr/share/vre/images.json"
HOME = "var/lib/containerd"
# What is of the moment, and containerd's identity, which must not be the same on two machines.
VOLATILE = (
    "io.containerd.runtime.v1.linux",
    "io.containerd.runtime.v2.task",
    "tmpmounts",
    "io.containerd.grpc.v1.introspection",
)
SNAPSHOTTER = "io.containerd.snapshotter.v1.overlayfs"
DATABASES = ("io.containerd.metadata.v1.bolt/meta.db", f"{SNAPSHOTTER}/metadata.db")
BLOCK = 4096


def bake(root: Path, home: Path, containers: Containers) -> None:
    """Have the root's containerd import every image into a folder of its own: unpacked, named by tag and by digest."""
    home.mkdir()
    (root / HOME).mkdir(parents=True, exist_ok=True)
    inside(
        root,
        ["python3", "-", json.dumps(names(containers))],
        lend={str(importer.LAYOUT): containers.layout},
        share={f"/{HOME}": home},
        stdin=Path(importer.__file__).read_text(),
    )
    for name in VOLATILE:
        shutil.rmtree(home / name, ignore_errors=True)
    settle(home)


def bring(root: Path, home: Path, containers: Containers) -> None:
    """Move what was imported to its place in the root, and write down what it is."""
    home.rename(root / HOME)
    target = root / NAMES
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(listing(containers.references))


def settle(home: Path) -> None:
    """Write containerd's databases anew, so that the same images give the same bytes: no clock, no order of events."""
    for name in DATABASES:
        found = bolt.timed(bolt.load(home / name), debian.EPOCH)
        (home / name).write_bytes(bolt.write(_sized(found, home / SNAPSHOTTER / "snapshots")))


def _sized(bucket: bolt.Bucket, snapshots: Path) -> bolt.Bucket:
    """Set each snapshot's size by its files, not by the blocks that this file system happened to give them."""
    items = {
        key: _sized(value, snapshots) if isinstance(value, bolt.Bucket) else value
        for key, value in bucket.items.items()
    }
    number = items.get(b"id")
    if isinstance(number, bytes) and b"size" in items:
        items[b"size"] = bolt.varint(2 * used(snapshots / str(bolt.unvarint(number)) / "fs"))  # signed: doubled
    return bolt.Bucket(items=items, sequence=bucket.sequence)


def used(folder: Path) -> int:
    """Return the bytes of a folder's files in whole blocks, each file once however many names it has."""
    found = {file.stat().st_ino: file.stat().st_size for file in _files(folder)}
    return sum(-(-size // BLOCK) * BLOCK for size in found.values())


def _files(folder: Path) -> list[Path]:
    paths = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    return [path for path in paths if not path.is_symlink() and path.is_file()]


def names(containers: Containers) -> dict[str, list[str]]:
    """Return each image's full name and its other one: a pod that names a digest is looked up by that."""
    return {
        name: [f"{name.rpartition(':')[0]}@{containers.digests[short]}"] for short, name in containers.names.items()
    }


def listing(references: dict[str, str]) -> str:
    """Return the text of images.json."""
    return json.dumps(references, indent=1, sort_keys=True) + "\n"
