"""The disk: an ESP and a root file system in one qcow2 file, made without loop devices and without mounting."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from vre.image.root import BOOT
from vre.progress import Report
from vre.run import run

MIB = 1024**2
SECTOR = 512
ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
ROOT_TYPE = (
    "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"  # root file system, x86-64, of the Discoverable Partitions Specification
)
ESP_OFFSET = 1 * MIB


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the disk and its ESP are, in MiB. The root file system takes the rest and grows with the disk."""

    disk: int = 8 * 1024
    esp: int = 256

    @property
    def root_offset(self) -> int:
        """Return where the root file system begins, in bytes."""
        return ESP_OFFSET + self.esp * MIB

    @property
    def root_size(self) -> int:
        """Return the root file system's length in bytes: up to the last MiB, where the table of partitions is again."""
        return self.disk * MIB - self.root_offset - MIB


def assemble(root: Path, target: Path, report: Report, sizes: Sizes = Sizes()) -> None:
    """Write the disk `target` (qcow2) from a root whose `efi` folder holds the ESP's files; that folder is emptied."""
    raw = target.with_suffix(".raw")
    report("partitions")
    with raw.open("wb") as disk:
        disk.truncate(sizes.disk * MIB)
    run(["sfdisk", "--quiet", raw], stdin=table(sizes))
    report("EFI system partition")
    _esp(root / BOOT, raw, sizes)
    report("root file system")
    _root(root, raw, sizes)
    report("disk image")
    # Compressed: written, hashed and uploaded in a third of the time, and never noticed in a guest.
    run(
        [
            "qemu-img",
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-c",
            "-o",
            "compression_type=zstd",
            "-W",
            "-m",
            "8",
            raw,
            target,
        ]
    )
    raw.unlink()


def table(sizes: Sizes) -> str:
    """Return sfdisk's description of the two partitions."""
    esp = f"start={ESP_OFFSET // SECTOR}, size={sizes.esp * MIB // SECTOR}, type={ESP_TYPE}, name=ESP"
    root = f"start={sizes.root_offset // SECTOR}, size={sizes.root_size // SECTOR}, type={ROOT_TYPE}, name=root"
    return f"label: gpt\nunit: sectors\n{esp}\n{root}\n"


def _esp(source: Path, raw: Path, sizes: Sizes) -> None:
    image = f"{raw}@@{ESP_OFFSET}"
    sectors = sizes.esp * MIB // SECTOR
    run(["mformat", "-i", image, "-F", "-v", "ESP", "-T", str(sectors), "-h", "255", "-s", "63", "::"])
    for entry in sorted(source.iterdir()):
        run(["mcopy", "-i", image, "-s", "-p", "-m", entry, "::"])
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _root(source: Path, raw: Path, sizes: Sizes) -> None:
    # A new file is all zeros: nothing is left for the guest to clear in the background after its first start.
    options = f"offset={sizes.root_offset},assume_storage_prezeroed=1,nodiscard"
    command: list[str | Path] = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-m", "1", "-J", "size=64"]
    run([*command, "-E", options, "-d", source, raw, f"{sizes.root_size // 1024}k"])


def check(target: Path) -> dict[str, int]:
    """Return the disk's virtual and real size in bytes. Raises VreError when qcow2's own structures are damaged."""
    run(["qemu-img", "check", "-q", target], hint="remove it and build the image again")
    found = json.loads(run(["qemu-img", "info", "--output", "json", target]))
    return {"virtual": found["virtual-size"], "real": found["actual-size"]}
