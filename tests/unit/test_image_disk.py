"""The disk: its partitions, both loaders, containerd's databases, and that the same inputs give the same bytes."""

import struct
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vre.artifacts.debian import EPOCH
from vre.errors import VreError
from vre.image import bake, bolt, boot, disk, grub, recipe, root
from vre.run import run

FILES = recipe.load().files


def text(name: str) -> str:
    return (FILES / name).read_text()


# partitions


def test_partitions_follow_each_other_and_the_root_takes_the_rest() -> None:
    parts = disk.layout(disk.Sizes(disk=4096), stored=300 * disk.MIB)
    assert [part.name for part in parts] == ["bios", "ESP", "log", "containerd", "root"]
    ends = [part.offset + part.size for part in parts]
    assert [part.offset for part in parts] == [disk.MIB, *ends[:-1]]
    assert ends[-1] == 4095 * disk.MIB
    assert all(part.offset % disk.MIB == part.size % disk.MIB == 0 for part in parts)


@given(st.integers(min_value=1, max_value=2 * 1024**3))
def test_containers_have_room_for_a_newer_set_beside_the_baked_one(stored: int) -> None:
    found = next(part for part in disk.layout(disk.Sizes(), stored) if part.name == "containerd")
    layers = stored / 3  # compressed, and gone once they are unpacked
    assert found.size >= stored + layers + stored


def test_a_disk_without_room_for_a_root_is_refused() -> None:
    with pytest.raises(VreError, match="no room for a root"):
        disk.layout(disk.Sizes(disk=2048), stored=1024**3)


def test_the_disk_is_as_large_as_each_cloud_wants_it() -> None:
    assert disk.Sizes().disk % 1024 == 0  # Google Cloud: whole GiB
    assert disk.Sizes().disk <= 8 * 1024  # the smallest system disk of a stack


def test_every_partition_is_mounted_as_it_was_made() -> None:
    mounted = {line.split()[0]: line.split() for line in text("etc/fstab").splitlines()}
    for part in disk.layout(disk.Sizes(), 1):
        if part.path:
            assert mounted[f"LABEL={part.name}"][1] == f"/{part.path}".rstrip(".")
    assert mounted["LABEL=log"][3] == "nodev,nosuid,noexec"
    assert "nodev" in mounted["LABEL=containerd"][3].split(",")
    assert {"nodev", "nosuid", "noexec"} <= set(mounted["tmpfs"][3].split(","))


def test_the_table_is_the_same_for_the_same_inputs_and_another_for_others() -> None:
    parts = disk.layout(disk.Sizes(), 1)
    assert disk.table(parts, "a") == disk.table(parts, "a") != disk.table(parts, "b")
    found = [word for word in disk.table(parts, "a").replace(",", " ").split() if word.startswith("uuid=")]
    assert len({uuid.UUID(word.partition("=")[2]) for word in found}) == len(parts)


def written(folder: Path) -> bytes:
    """Make a small disk with its table, GRUB and an ESP, as `assemble` does."""
    folder.mkdir()
    pieces, source, raw = folder / "pieces", folder / "efi", folder / "disk.raw"
    pieces.mkdir()
    (pieces / grub.FIRST).write_bytes(bytes(512))
    (pieces / grub.CORE).write_bytes(bytes(range(256)) * 4)
    (source / "EFI/BOOT").mkdir(parents=True)
    (source / "EFI/BOOT/BOOTX64.EFI").write_text("a loader")
    root.settle(source)
    parts = {part.name: part for part in disk.layout(disk.Sizes(disk=512, esp=40, log=8, containerd=8), 0)}
    with raw.open("wb") as stream:
        stream.truncate(512 * disk.MIB)
    run(["sfdisk", "--quiet", raw], stdin=disk.table(list(parts.values()), "key"))
    grub.install(raw, pieces, offset=parts["bios"].offset, size=parts["bios"].size)
    disk.fill_esp(source, raw, parts["ESP"], "key")
    with raw.open("rb") as stream:
        head = stream.read(52 * disk.MIB)
        stream.seek(-disk.MIB, 2)
        return head + stream.read()


def test_the_same_parts_give_the_same_disk(tmp_path: Path) -> None:
    one = written(tmp_path / "one")
    time.sleep(2.1)  # FAT counts in steps of two seconds
    assert one == written(tmp_path / "two")


def test_the_table_of_partitions_stays_when_grub_comes(tmp_path: Path) -> None:
    written(tmp_path / "one")
    listed = run(["sfdisk", "--dump", tmp_path / "one/disk.raw"])
    assert [f'name="{name}"' in listed for name in ("bios", "ESP", "log", "containerd", "root")] == [True] * 5
    assert run(["mdir", "-b", "-/", "-i", f"{tmp_path / 'one/disk.raw'}@@{2 * disk.MIB}", "::"]).split() == [
        "::/EFI/",
        "::/EFI/BOOT/",
        "::/EFI/BOOT/BOOTX64.EFI",
    ]


def test_files_that_the_build_wrote_have_the_time_of_no_clock(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "old").write_text("")
    old = EPOCH - 1000
    subprocess.run(["touch", "-d", f"@{old}", str(tmp_path / "old")], check=True)
    root.settle(tmp_path)
    assert {path.name: int(path.lstat().st_mtime) for path in tmp_path.iterdir()} == {
        "new": EPOCH,
        "link": EPOCH,
        "old": old,
    }


# GRUB


def test_grub_is_told_where_it_lies() -> None:
    first, core = grub.start(bytes(512), bytes(1024), sector=2048)
    assert len(first) == grub.CODE
    assert struct.unpack_from("<Q", first, grub.CORE_SECTOR) == (2048,)
    assert struct.unpack_from("<Q", core, grub.BLOCK_LIST) == (2049,)
    assert first[grub.DRIVE_CHECK :][:2] == b"\x90\x90"


def test_grub_that_does_not_fit_its_partition_is_refused(tmp_path: Path) -> None:
    for name in (grub.FIRST, grub.CORE):
        (tmp_path / name).write_bytes(bytes(2048))
    (tmp_path / "disk").write_bytes(bytes(4096))
    with pytest.raises(VreError, match="GRUB has 2048 bytes, its partition 1024"):
        grub.install(tmp_path / "disk", tmp_path, offset=1024, size=1024)
    assert (tmp_path / "disk").read_bytes() == bytes(4096)


def test_grub_looks_on_the_partition_that_is_the_esp() -> None:
    names = [part.name for part in disk.layout(disk.Sizes(), 1)]
    assert f"(,gpt{names.index('ESP') + 1})/grub" == grub.PREFIX


ENTRY = """title      Debian's
version    {0}
options    root=LABEL=root ro
linux      /vre/{0}/linux
initrd     /vre/{0}/i
"""


def test_grub_starts_the_kernels_that_systemd_boot_starts_the_newest_first(tmp_path: Path) -> None:
    entries = tmp_path / "loader/entries"
    entries.mkdir(parents=True)
    for version in ("6.12.9", "6.12.117"):
        (entries / f"vre-{version}.conf").write_text(ENTRY.format(version))
    settings = {"KERNEL_INSTALL_BOOT_ROOT": str(tmp_path), "KERNEL_INSTALL_LAYOUT": "bls"}
    run(["sh", FILES / "etc/kernel/install.d/95-grub.install", "add", "6.12.117"], env=settings)
    lines = [line.strip() for line in (tmp_path / "grub/grub.cfg").read_text().splitlines()]
    assert [line for line in lines if line.startswith(("menuentry", "linux", "initrd"))] == [
        "menuentry 'Debians, 6.12.117' {",
        "linux /vre/6.12.117/linux root=LABEL=root ro $extra",
        "initrd /vre/6.12.117/i",
        "menuentry 'Debians, 6.12.9' {",
        "linux /vre/6.12.9/linux root=LABEL=root ro $extra",
        "initrd /vre/6.12.9/i",
    ]
    assert [path.name for path in (tmp_path / "grub").iterdir()] == ["grub.cfg"]


def test_grub_s_list_is_whole_on_the_disk_before_it_takes_its_name(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name, does in {"sync": "true", "mv": 'exec /bin/mv "$@"'}.items():
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $(basename "$2")" >> {log}\n{does}\n')
        (tmp_path / name).chmod(0o755)
    settings = {"KERNEL_INSTALL_BOOT_ROOT": str(tmp_path), "KERNEL_INSTALL_LAYOUT": "bls"}
    settings["PATH"] = f"{tmp_path}:/usr/bin:/bin"
    run(["sh", FILES / "etc/kernel/install.d/95-grub.install", "add", "6.12.117"], env=settings)
    assert log.read_text().splitlines() == ["sync grub.cfg.part", "mv grub.cfg.part", "sync grub"]


# which cloud

CLOUDS = [
    ({"sys_vendor": "QEMU", "product_name": "Standard PC (Q35 + ICH9, 2009)", "product_uuid": "ec2aaaaa-"}, None),
    ({"sys_vendor": "Amazon EC2", "product_name": "t3.large"}, "Ec2"),
    ({"sys_vendor": "Xen", "product_uuid": "ec2e1916-9099-7caf"}, "Ec2"),
    ({"sys_vendor": "Xen", "product_uuid": "aaae1916-9099-7caf"}, None),
    ({"sys_vendor": "Google", "product_name": "Google Compute Engine"}, "GCE"),
    ({"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77"}, "Azure"),
    ({"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": "1111"}, None),
    ({"sys_vendor": "OpenStack Foundation", "product_name": "OpenStack Nova"}, "ConfigDrive, OpenStack"),
    ({"sys_vendor": "x", "chassis_asset_tag": "OpenTelekomCloud"}, "ConfigDrive, OpenStack"),
    ({}, None),
]


@pytest.mark.parametrize(("firmware", "source"), CLOUDS)
def test_cloud_init_asks_the_cloud_that_the_firmware_names(
    tmp_path: Path, firmware: dict[str, str], source: str | None
) -> None:
    for name, value in firmware.items():
        (tmp_path / name).write_text(f"{value}\n")
    script = text("etc/systemd/system-generators/vre-datasource")
    target = tmp_path / "run/cloud.cfg"
    script = script.replace("/sys/class/dmi/id", str(tmp_path)).replace("/run/cloud-init/cloud.cfg", str(target))
    run(["sh", "-s"], stdin=script)
    assert (target.read_text() if target.exists() else None) == (source and f"datasource_list: [{source}, None]\n")


def test_elsewhere_no_network_is_asked() -> None:
    listed = next(line for line in text("etc/cloud/cloud.cfg.d/90-vre.cfg").splitlines() if "datasource_list" in line)
    assert listed == "datasource_list: [NoCloud, ConfigDrive, None]"


# containerd's databases

tables = st.recursive(
    st.binary(max_size=40),
    lambda below: st.builds(
        lambda items, sequence: bolt.Bucket(items=items, sequence=sequence),
        st.dictionaries(st.binary(min_size=1, max_size=20), below, max_size=30),
        st.integers(0, 99),
    ),
)


@given(tables.filter(lambda value: isinstance(value, bolt.Bucket)))
def test_a_database_holds_what_was_written(bucket: bolt.Bucket) -> None:
    data = bolt.write(bucket)
    assert len(data) % bolt.PAGE == 0
    assert bolt.read(data) == bucket
    assert bolt.write(bolt.read(data)) == data


def test_large_tables_are_read_back() -> None:
    bucket = bolt.Bucket(items={str(number).encode(): bytes(100) for number in range(5000)}, sequence=7)
    assert bolt.read(bolt.write(bolt.Bucket(items={b"all": bucket}))).items == {b"all": bucket}


def test_pages_of_branches_are_followed() -> None:
    leaf = bolt.write(bolt.Bucket(items={b"a": b"1"}))
    pages = [bytearray(leaf[place : place + bolt.PAGE]) for place in range(0, len(leaf), bolt.PAGE)]
    head = bolt.HEADER.pack(4, bolt.BRANCH, 1, 0) + bolt.BRANCH_ELEMENT.pack(bolt.BRANCH_ELEMENT.size, 1, 3) + b"a"
    for number in (0, 1):
        top = list(bolt.TOP.unpack_from(pages[number], bolt.HEADER.size))
        top[4] = 4
        packed = bolt.TOP.pack(*top)
        pages[number][16 : 16 + len(packed) + 8] = packed + struct.pack("<Q", bolt.checksum(packed))
    assert bolt.read(b"".join(pages) + head.ljust(bolt.PAGE, b"\0")).items == {b"a": b"1"}


def test_the_sum_of_a_page_is_fnv_1a() -> None:
    assert bolt.checksum(b"foobar") == 0x85944171F73967E8  # from the authors' own test vectors


@pytest.mark.parametrize("data", [b"", bytes(16384), b"x" * 16384])
def test_what_is_no_database_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "meta.db").write_bytes(data)
    with pytest.raises(VreError, match=r"meta\.db|no bbolt"):
        bolt.load(tmp_path / "meta.db")


def test_two_imports_of_the_same_images_become_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for moment in (1, 2):
        home = tmp_path / str(moment)
        (home / bake.SNAPSHOTTER / "snapshots/1/fs").mkdir(parents=True)
        (home / bake.SNAPSHOTTER / "snapshots/1/fs/file").write_bytes(bytes(5000))
        (home / bake.DATABASES[0]).parent.mkdir()
        stamp = struct.pack(">BqIh", 1, moment, moment, -1)
        snapshot = bolt.Bucket(items={b"id": b"\1", b"size": bolt.varint(moment), b"createdat": stamp})
        for name in bake.DATABASES:
            (home / name).write_bytes(bolt.write(bolt.Bucket(items={b"one": snapshot})))
        bake.settle(home)
        made.append([(home / name).read_bytes() for name in bake.DATABASES])
    assert made[0] == made[1]
    one = bolt.read(made[0][1]).items[b"one"]
    assert isinstance(one, bolt.Bucket)
    assert one.items[b"size"] == bolt.varint(2 * 8192)


@given(st.integers(0, 2**63))
def test_numbers_are_written_as_go_writes_them(number: int) -> None:
    assert bolt.unvarint(bolt.varint(number)) == number


# booting by hand


@pytest.mark.parametrize(("name", "flash", "guarded"), [("bios", 0, False), ("uefi", 2, False), ("secure", 2, True)])
def test_each_firmware_is_what_it_is_called(name: str, flash: int, guarded: bool) -> None:
    words = " ".join(boot.qemu(Path("folder"), port=2222, memory=1024, open_network=False, firmware=name))
    assert words.count("if=pflash") == flash
    assert ("smm=on" in words and "secure,value=on" in words) is guarded


def test_an_unknown_firmware_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with (
        pytest.raises(VreError, match="no firmware coreboot"),
        boot.boot(tmp_path / "none", tmp_path / "guest", print, firmware="coreboot"),
    ):
        pass
    assert not (tmp_path / "guest").exists()
