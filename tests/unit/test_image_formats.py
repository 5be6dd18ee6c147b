"""The forms of a disk: each holds the very same bytes, is what its target takes, and is written the same twice."""

import dataclasses
import hashlib
import json
import struct
import tarfile
import uuid
from pathlib import Path

import pytest

from vre.errors import Refused, VreError
from vre.image import formats, listing
from vre.image.disk import MIB
from vre.progress import silent
from vre.run import run


def disk(folder: Path, size: int) -> Path:
    """Make a small qcow2 with something at its beginning, in its middle and at its end."""
    source, target = folder / "source.raw", folder / "source.qcow2"
    with source.open("wb") as stream:
        stream.truncate(size)
        for place in (0, size // 2 + 4096, size - 1024):
            stream.seek(place)
            stream.write(hashlib.sha256(str(place).encode()).digest() * 32)
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", source, target])
    return target


def digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def back(name: str, file: Path, folder: Path) -> Path:
    """Return the raw bytes that a target would make of a file."""
    target = folder / "back.raw"
    if name == "gcp":
        run(["tar", "--extract", "--file", file, "--directory", folder])
        return folder / "disk.raw"
    run(["qemu-img", "convert", "-f", {"azure": "vpc"}.get(name, name), "-O", "raw", file, target])
    return target


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Google Cloud take small disks: reading gigabytes of zeros takes its time."""
    table = {**formats.FORMATS, "gcp": dataclasses.replace(formats.FORMATS["gcp"], unit=MIB)}
    monkeypatch.setattr(formats, "FORMATS", table)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", sorted(formats.FORMATS))
def test_each_form_holds_the_same_bytes_and_is_written_the_same_twice(name: str, tmp_path: Path) -> None:
    source = disk(tmp_path, 3 * MIB)
    one = formats.write(name, source, tmp_path / "one", silent)
    two = formats.write(name, source, tmp_path / "two", silent)
    assert one.name == formats.FORMATS[name].file
    assert digest(one) == digest(two)
    (tmp_path / "back").mkdir()
    assert digest(back(name, one, tmp_path / "back")) == digest(tmp_path / "source.raw")
    assert [path.name for path in (tmp_path / "one").iterdir()] == [one.name]


def test_a_vhd_is_fixed_aligned_and_has_a_sound_footer(tmp_path: Path) -> None:
    size = 5 * MIB
    made = formats.write("azure", disk(tmp_path, size), tmp_path / "out", silent)
    assert made.stat().st_size == size + formats.VHD_FOOTER
    footer = made.read_bytes()[-formats.VHD_FOOTER :]
    kept, current = struct.unpack_from(">QQ", footer, 40)
    assert (kept, current) == (size, size)
    stamp, kind = struct.unpack_from(">I", footer, 24)[0], struct.unpack_from(">I", footer, 60)[0]
    assert (stamp, kind) == (0, formats.VHD_TYPE_FIXED)
    (checksum,) = struct.unpack_from(">I", footer, 64)
    assert checksum == ~(sum(footer) - sum(footer[64:68])) & 0xFFFFFFFF


def test_two_disks_have_two_identities(tmp_path: Path) -> None:
    footer = formats.write("azure", disk(tmp_path, MIB), tmp_path / "out", silent).read_bytes()[-512:]
    one, two = (formats.settled(footer, uuid.UUID(int=number)) for number in (1, 2))
    assert one != two
    assert one[68:84] == uuid.UUID(int=1).bytes


@pytest.mark.parametrize("footer", [b"", b"x" * 512, b"conectix" + bytes(504)])
def test_what_is_no_fixed_vhd_is_not_taken_for_one(footer: bytes) -> None:
    with pytest.raises(VreError, match="VHD"):
        formats.settled(footer, uuid.UUID(int=1))


@pytest.mark.usefixtures("small")
def test_what_google_cloud_takes_is_one_sparse_member_without_owner_or_time(tmp_path: Path) -> None:
    made = formats.write("gcp", disk(tmp_path, 3 * MIB), tmp_path / "out", silent)
    assert made.read_bytes()[4:8] == bytes(4)  # RFC 1952: the time in gzip's header
    with tarfile.open(made) as archive:
        (member,) = archive.getmembers()
        kind = member.type
    assert (member.name, member.size, member.mtime, member.uid) == ("disk.raw", 3 * MIB, 0, 0)
    assert kind == tarfile.GNUTYPE_SPARSE
    assert made.stat().st_size < MIB


@pytest.mark.parametrize(("name", "size"), [("azure", MIB + 512), ("gcp", 3 * MIB)])
def test_a_size_that_the_target_does_not_take_is_refused(name: str, size: int, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=f"format {name}: .* not whole"):
        formats.write(name, disk(tmp_path, size), tmp_path / "out", silent)
    assert not (tmp_path / "out").exists()


def test_an_unknown_form_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="there is no form floppy; there are azure, gcp, qcow2, raw"):
        formats.write("floppy", tmp_path / "none", tmp_path / "out", silent)


def test_a_form_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = disk(tmp_path, MIB)
    monkeypatch.setattr(formats, "VHD_TYPE_FIXED", 3)
    with pytest.raises(VreError, match="fixed size"):
        formats.write("azure", source, tmp_path / "out", silent)
    assert list((tmp_path / "out").iterdir()) == []


def test_packages_are_listed_by_name_and_only_those_installed() -> None:
    listed = (
        "installed\tb\t2\tall\tsource-b\t2\nconfig-files\tgone\t1\tall\tgone\t1\ninstalled\ta\t1-1\tamd64\ta\t1-1\n"
    )
    found = json.loads(listing.text(listed))
    assert [each["name"] for each in found] == ["a", "b"]
    assert found[1] == {
        "name": "b",
        "version": "2",
        "architecture": "all",
        "source": "source-b",
        "source_version": "2",
    }
