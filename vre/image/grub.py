"""GRUB for machines whose firmware is a BIOS: two pieces, made from Debian's package, and where they lie on a disk.

What the pieces want to be told is what grub-bios-setup writes: util/setup.c and include/grub/i386/pc/boot.h of GRUB
2.12, and the manual's "BIOS installation" (https://www.gnu.org/software/grub/manual/grub/html_node/BIOS-installation.html).
"""

import shutil
import struct
from pathlib import Path

from vre.artifacts import debian
from vre.artifacts.sandbox import inside
from vre.artifacts.store import Store
from vre.errors import VreError
from vre.progress import Report

RECIPE = "1"  # raised when this file makes other pieces from the same package
PACKAGE = "grub-pc-bin"
FOLDER = "usr/lib/grub/i386-pc"
# The partition by number, on whatever disk was started: an ESP of another disk is never taken for ours.
PREFIX = "(,gpt2)/grub"
MODULES = ("biosdisk", "part_gpt", "fat", "normal", "linux", "smbios", "regexp", "test", "echo", "reboot")
SECTOR = 512
CODE = 440  # bytes of the first sector before the disk's signature and the table of partitions
CORE_SECTOR = 0x5C  # GRUB_BOOT_MACHINE_KERNEL_SECTOR
DRIVE_CHECK = 0x66  # GRUB_BOOT_MACHINE_DRIVE_CHECK: two no-operations where the disk is no floppy
BLOCK_LIST = 0x1F4  # the last of the block lists at the end of core's first sector: start, length, segment
FIRST, CORE = "boot.img", "core.img"


def pieces(store: Store, suite: str, report: Report) -> Path:
    """Return a folder with boot.img and core.img, made first where they are not in the store. Raises VreError."""
    inputs = {"recipe": RECIPE, "suite": suite, "modules": " ".join(MODULES), "prefix": PREFIX, "package": PACKAGE}
    return store.get("grub", inputs, lambda folder: _make(folder, suite, report), report)


def _make(folder: Path, suite: str, report: Report) -> None:
    report("GRUB for machines with a BIOS")
    archive, root = folder / "root.tar", folder / "root"
    debian.bootstrap(archive, suite=suite, packages=[PACKAGE], report=report)
    debian.unpack(archive, root)
    out = folder / "out"
    out.mkdir()
    words = ["grub-mkimage", "--format=i386-pc", f"--prefix={PREFIX}", f"--output=/run/out/{CORE}", *MODULES]
    inside(root, words, share={"/run/out": out})
    shutil.copyfile(root / FOLDER / FIRST, folder / FIRST)
    shutil.copyfile(out / CORE, folder / CORE)
    for rest in (root, out):
        shutil.rmtree(rest)
    archive.unlink()


def install(disk: Path, made: Path, *, offset: int, size: int) -> None:
    """Write GRUB into a disk: its start into the first sector, the rest into the partition at `offset` (bytes)."""
    first, core = start(made.joinpath(FIRST).read_bytes(), made.joinpath(CORE).read_bytes(), sector=offset // SECTOR)
    if len(core) > size:
        raise VreError(
            f"GRUB has {len(core)} bytes, its partition {size}", hint="leave out modules in vre/image/grub.py"
        )
    with disk.open("r+b") as stream:
        stream.write(first)
        stream.seek(offset)
        stream.write(core)


def start(first: bytes, core: bytes, *, sector: int) -> tuple[bytes, bytes]:
    """Return the code of the disk's first sector and GRUB's core, told that the core begins at `sector`. Pure."""
    code, rest = bytearray(first[:CODE]), bytearray(core)
    struct.pack_into("<Q", code, CORE_SECTOR, sector)
    code[DRIVE_CHECK : DRIVE_CHECK + 2] = b"\x90\x90"
    struct.pack_into("<Q", rest, BLOCK_LIST, sector + 1)
    return bytes(code), bytes(rest)
