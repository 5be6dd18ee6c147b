"""The disk: partitions, loaders and file systems in one qcow2 file, made without loop devices and without mounting."""

import json
import math
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vre.artifacts.debian import FIXED_TIME
from vre.artifacts.sandbox import inside
from vre.errors import VreError
from vre.image import bake, grub
from vre.image.root import BOOT
from vre.progress import Report
from vre.run import run

MIB = 1024**2
SECTOR = 512
NAMESPACE = uuid.UUID("2d1f9a3e-2c0b-5f1e-8a7a-4b7f6d1c9e02")
"""Identities of disks, partitions and file systems are names below it."""
BIOS_TYPE = "21686148-6449-6E6F-744E-656564454649"
ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
LINUX_TYPE = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
# Root file system, x86-64, of the Discoverable Partitions Specification.
ROOT_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
STEP = 256 * MIB
ROOM = 2.5
"""How often the baked container images fit into containerd's partition: they, a newer set, that set's compressed layers
while they are unpacked (less than a third), what containers write."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One partition, sizes in bytes; `path` is what of the root it holds, empty for the loaders' own."""

    name: str
    type: str
    offset: int
    size: int
    path: str = ""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the disk and its partitions are, in MiB. The root is the last one, takes the rest, and grows later.

    `containerd` is 0 where it comes from what is in it.
    """

    disk: int = 8 * 1024
    bios: int = 1
    esp: int = 256
    log: int = 1024
    containerd: int = 0


def layout(sizes: Sizes, stored: int = 0) -> list[Partition]:
    """Return the partitions in their order, for `stored` bytes of container images. Raises VreError: no room. Pure.

    The order is also that of their numbers: GRUB's core looks for its settings on the second.
    """
    containerd = sizes.containerd * MIB or max(1, math.ceil(stored * ROOM / STEP)) * STEP
    wanted = [
        ("bios", BIOS_TYPE, sizes.bios * MIB, ""),
        ("ESP", ESP_TYPE, sizes.esp * MIB, ""),
        ("log", LINUX_TYPE, sizes.log * MIB, "var/log"),
        ("containerd", LINUX_TYPE, containerd, bake.HOME),
    ]
    offset, found = MIB, []
    for name, kind, size, path in wanted:
        found.append(Partition(name=name, type=kind, offset=offset, size=size, path=path))
        offset += size
    rest = sizes.disk * MIB - offset - MIB  # up to the last MiB, where the table of partitions is again
    if rest < STEP:
        raise VreError(f"the disk of {sizes.disk} MiB has no room for a root file system", hint="make the disk larger")
    return [*found, Partition(name="root", type=ROOT_TYPE, offset=offset, size=rest, path=".")]


def identity(key: str, name: str) -> uuid.UUID:
    """Return the identity of a part of the disk: the same for the same inputs, whose digest `key` is. Pure."""
    return uuid.uuid5(NAMESPACE, f"{key}/{name}")


def assemble(root: Path, target: Path, report: Report, *, key: str, loader: Path, sizes: Sizes = Sizes()) -> None:
    """Write the disk `target` (qcow2) from a root whose `efi` folder holds the ESP's files; that folder is emptied.

    `key` is the digest of the inputs, `loader` the folder with GRUB's pieces. Folders that become file systems of their
    own are moved out of the root.
    """
    raw = target.with_suffix(".raw")
    report("partitions")
    parts = layout(sizes, bake.used(root / bake.HOME))
    with raw.open("wb") as disk:
        disk.truncate(sizes.disk * MIB)
    run(["sfdisk", "--quiet", raw], stdin=table(parts, key))
    by_name = {part.name: part for part in parts}
    grub.install(raw, loader, offset=by_name["bios"].offset, size=by_name["bios"].size)
    report("EFI system partition")
    fill_esp(root / BOOT, raw, by_name["ESP"], key)
    _file_systems(root, raw, parts, key, report)
    report("disk image")
    # Compressed: written, hashed and uploaded in a third of the time, and never noticed in a guest. Written in order,
    # since out of order the same bytes come to lie elsewhere each time.
    options = ["-c", "-o", "compression_type=zstd", "-m", "8"]
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, raw, target])
    raw.unlink()


def table(parts: Sequence[Partition], key: str) -> str:
    """Return sfdisk's description of the partitions. Pure."""
    head = f"label: gpt\nlabel-id: {identity(key, 'disk')}\nunit: sectors\n"
    rows = (
        f"start={part.offset // SECTOR}, size={part.size // SECTOR}, type={part.type}, "
        f"uuid={identity(key, f'partition/{part.name}')}, name={part.name}\n"
        for part in parts
    )
    return head + "".join(rows)


def fill_esp(source: Path, raw: Path, part: Partition, key: str) -> None:
    """Make the ESP's file system in a disk, from a folder that is emptied."""
    image = f"{raw}@@{part.offset}"
    serial = identity(key, "file system/ESP").hex[:8]
    words = ["-F", "-v", part.name, "-N", serial, "-T", str(part.size // SECTOR), "-h", "255", "-s", "63"]
    run(["mformat", "-i", image, *words, "::"], env=FIXED_TIME)
    for entry in sorted(source.rglob("*")):
        place = f"::{entry.relative_to(source)}"
        if entry.is_dir():
            run(["mmd", "-i", image, place], env=FIXED_TIME)
        else:
            run(["mcopy", "-i", image, "-m", entry, place], env=FIXED_TIME)
    for entry in sorted(source.iterdir()):
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _file_systems(root: Path, raw: Path, parts: Sequence[Partition], key: str, report: Report) -> None:
    apart = raw.with_name("apart")
    apart.mkdir()
    for part in parts:
        if part.path and part.path != ".":
            _move(root / part.path, apart / part.name)
    for part in parts:
        if part.path:
            report(f"file system {part.name}")
            _ext4(root, root if part.path == "." else apart / part.name, raw, part, key)
    shutil.rmtree(apart)


def _move(folder: Path, away: Path) -> None:
    """Move a folder away and leave an empty one, which is what the file system is mounted on."""
    folder.mkdir(parents=True, exist_ok=True)
    found = folder.stat()
    folder.rename(away)
    folder.mkdir()
    folder.chmod(found.st_mode & 0o7777)


def _ext4(root: Path, source: Path, raw: Path, part: Partition, key: str) -> None:
    """Make a file system from a folder, with the root's own mke2fs: the same on whatever machine builds."""
    name = identity(key, f"file system/{part.name}")
    # A new file is all zeros: nothing is left for the guest to clear in the background after its first start.
    options = f"offset={part.offset},assume_storage_prezeroed=1,nodiscard,hash_seed={identity(key, 'hash')}"
    command: list[str | Path] = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", part.name, "-U", str(name), "-m", "1"]
    command += ["-J", f"size={64 if part.path == '.' else 16}", "-E", options, "-d", "/run/source"]
    inside(
        root,
        [*command, "/run/disk", f"{part.size // 1024}k"],
        lend={"/run/source": source},
        share={"/run/disk": raw},
        env=FIXED_TIME,
    )


def check(target: Path) -> dict[str, int]:
    """Return the disk's virtual and real size in bytes. Raises VreError when qcow2's own structures are damaged."""
    run(["qemu-img", "check", "-q", target], hint="remove it and build the image again")
    found = json.loads(run(["qemu-img", "info", "--output", "json", target]))
    return {"virtual": found["virtual-size"], "real": found["actual-size"]}
