"""The disk in the form that each target takes: the same bytes every time, without a clock or a name in them."""

import hashlib
import json
import shutil
import struct
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vre.errors import Finding, Refused, VreError
from vre.image.disk import MIB, check
from vre.progress import Report
from vre.run import run

GIB = 1024 * MIB
VHD_FOOTER = 512
VHD_TYPE_FIXED = 2
VHD_NAMESPACE = uuid.UUID("6f0a3e0c-6e33-5d0b-9a55-0d3c4b6b0f51")
"""Names of ours below it: a disk's identity in its footer comes from its content."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One form of the disk: the file's name, who takes it, and the unit in bytes that its size must be whole in.

    `source` is the page that says so. `make` writes the file (its third) from a qcow2 and an empty folder to work in.
    """

    file: str
    targets: str
    source: str
    make: Callable[[Path, Path, Path], None]
    unit: int = 1


def write(name: str, disk: Path, folder: Path, report: Report) -> Path:
    """Write `disk` (qcow2) into `folder` in the form called `name` and return the file.

    Raises Refused for an unknown form or a size that the target does not take, VreError with what failed; a half
    written file does not stay.
    """
    if name not in FORMATS:
        reason = f"there is no form {name}; there are {', '.join(sorted(FORMATS))}"
        raise Refused([Finding(key="format", reason=reason, example="--format qcow2")])
    form = FORMATS[name]
    _whole(name, form, disk)
    report(f"{form.file} for {form.targets}")
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / f".{name}.part"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        made = work / form.file
        form.make(disk, work, made)
        return made.rename(folder / form.file)
    finally:
        shutil.rmtree(work)


def room(name: str, disk: Path) -> int:
    """Return how many bytes `disk` (qcow2) takes in a form, and beside it while that is written."""
    if FORMATS[name].make is _qcow2:
        return disk.stat().st_size
    told = run(["qemu-img", "measure", "--output", "json", "-f", "qcow2", "-O", "raw", disk])
    whole = int(json.loads(told)["required"])
    return 2 * whole if FORMATS[name].make is _gcp else whole


def _whole(name: str, form: Format, disk: Path) -> None:
    size = check(disk)["virtual"]
    if size % form.unit:
        reason = f"{disk.name} has {size} bytes, which is not whole in units of {form.unit} ({form.source})"
        raise Refused([Finding(key=f"format {name}", reason=reason)])


def raw(disk: Path, target: Path) -> None:
    """Write the disk's bytes as they are, with holes where they are zero."""
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk, target], hint="is there room for the disk?")


def _qcow2(disk: Path, work: Path, target: Path) -> None:
    shutil.copyfile(disk, target)


def _raw(disk: Path, work: Path, target: Path) -> None:
    raw(disk, target)


def _gcp(disk: Path, work: Path, target: Path) -> None:
    """A tar file of GNU's old form, whose members may have holes: those that qemu-img left, of whole blocks of 4 KiB.

    To look for smaller ones in the bytes takes five times as long, gzip's usual level twice as long as its fastest, for
    a file that is a tenth smaller.
    """
    raw(disk, work / "disk.raw")
    words = ["--format=oldgnu", "--sparse", "--hole-detection=seek", "--mtime=@0", "--mode=0644"]
    words += ["--owner=root:0", "--group=root:0", "--numeric-owner", "--use-compress-program=gzip --no-name --fast"]
    run(["tar", "--create", *words, "--directory", work, "--file", target, "disk.raw"])


def _azure(disk: Path, work: Path, target: Path) -> None:
    options = "subformat=fixed,force_size=on"
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "vpc", "-o", options, disk, target])
    with disk.open("rb") as stream:
        identity = hashlib.file_digest(stream, "sha256").hexdigest()
    with target.open("r+b") as stream:
        stream.seek(-VHD_FOOTER, 2)
        footer = stream.read(VHD_FOOTER)
        stream.seek(-VHD_FOOTER, 2)
        stream.write(settled(footer, uuid.uuid5(VHD_NAMESPACE, identity)))


def settled(footer: bytes, identity: uuid.UUID) -> bytes:
    """Return a VHD's footer without the time it was written, with an identity that is given. Pure.

    Offsets are those of the Virtual Hard Disk Image Format Specification 1.0, "Hard Disk Footer Format":
    https://learn.microsoft.com/en-us/windows/win32/vstor/about-vhd
    """
    if len(footer) != VHD_FOOTER or not footer.startswith(b"conectix"):
        raise VreError("the written VHD has no footer", hint="does qemu-img write the format vpc?")
    if struct.unpack_from(">I", footer, 60) != (VHD_TYPE_FIXED,):
        raise VreError("the written VHD is not of fixed size", hint="does qemu-img know subformat=fixed?")
    made = bytearray(footer)
    struct.pack_into(">I", made, 24, 0)  # seconds since 2000
    made[68:84] = identity.bytes
    struct.pack_into(">I", made, 64, 0)
    struct.pack_into(">I", made, 64, ~sum(made) & 0xFFFFFFFF)
    return bytes(made)


FORMATS: Mapping[str, Format] = {
    "qcow2": Format(
        file="disk.qcow2",
        targets="libvirt and OpenStack",
        source="https://docs.openstack.org/image-guide/introduction.html",
        make=_qcow2,
    ),
    "raw": Format(
        file="disk.raw",
        targets="the import of AWS",
        source="https://docs.aws.amazon.com/vm-import/latest/userguide/prerequisites.html",
        make=_raw,
    ),
    "gcp": Format(
        file="gcp.tar.gz",
        targets="Google Cloud",
        source="https://cloud.google.com/compute/docs/import/import-existing-image",
        make=_gcp,
        unit=GIB,
    ),
    "azure": Format(
        file="azure.vhd",
        targets="Azure",
        source="https://learn.microsoft.com/en-us/azure/virtual-machines/linux/create-upload-generic",
        make=_azure,
        unit=MIB,
    ),
}
"""Each form that an image can be written in, by its name."""
