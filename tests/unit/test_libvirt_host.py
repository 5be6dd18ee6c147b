"""What a hypervisor on another machine is asked, and what is made of a machine without KVM."""

from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from vre.provider.handler import Context
from vre.provider.libvirt import connection, domain, host

libvirt = pytest.importorskip("libvirt")
URI = "test:///default"
REMOTE = "qemu+ssh://root@hypervisor.example/system"


class Hypervisor:
    """A connection that answers what it is told to, and nothing else."""

    def __init__(self, *, kvm: bool = True, uri: str = REMOTE, memory: dict[str, int] | None = None) -> None:
        self.kvm, self.uri, self.stats = kvm, uri, memory

    def getURI(self) -> str:
        return self.uri

    def getMemoryStats(self, cell: int, flags: int) -> dict[str, int]:
        if self.stats is None:
            raise libvirt.libvirtError("not supported")
        return self.stats

    def getFreeMemory(self) -> int:
        raise libvirt.libvirtError("not supported")

    def getDomainCapabilities(self, *words: Any) -> str:
        if not self.kvm:
            raise libvirt.libvirtError("no KVM")
        return "<domainCapabilities/>"

    def listAllStoragePools(self, flags: int) -> Any:
        raise libvirt.libvirtError("not supported")


def test_memory_is_what_is_free_and_what_caches_give_back() -> None:
    stats = {"total": 9 << 20, "free": 1 << 20, "buffers": 512 << 10, "cached": 2 << 20}
    assert host.memory(Hypervisor(memory=stats)) == 3584


def test_memory_is_the_free_one_where_nothing_more_is_told() -> None:
    assert host.memory(connection.connect(URI)) == connection.connect(URI).getFreeMemory() // 1024**2


def test_what_cannot_be_asked_is_not_known() -> None:
    seen = host.look(Hypervisor(kvm=False), PurePosixPath("/images/vre-x"), {"x-control": ("a", "b")})
    assert seen == host.Host(memory=None, disk=None, kvm=False, taken={})


def test_room_is_that_of_the_pool_in_the_folder_or_above_it(tmp_path: Path) -> None:
    live = connection.connect(URI)
    xml = f"<pool type='dir'><name>vre-host</name><target><path>{tmp_path}</path></target></pool>"
    pool = live.storagePoolCreateXML(xml)
    try:
        pool.createXML("<volume><name>a</name><capacity>4096</capacity><allocation>4096</allocation></volume>")
        left = pool.info()[3]
        own = host.look(live, PurePosixPath(tmp_path), {"x": ("a", "absent")})
        assert (own.disk, own.taken) == (left, {"x": 4096})
        assert host.look(live, PurePosixPath(tmp_path) / "vre-x", {}).disk == left
        assert host.look(live, PurePosixPath("/elsewhere/vre-x"), {}).disk is None
    finally:
        pool.destroy()


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("auto", ""),
        ("qemu:///system", ""),
        (REMOTE, "hypervisor.example"),
        ("qemu+ssh://[2001:db8::1]/system", "2001:db8::1"),
    ],
)
def test_a_hypervisors_machine_has_the_name_in_its_uri(uri: str, name: str) -> None:
    assert host.named(uri) == name


@pytest.mark.parametrize(
    ("asked", "works", "used", "warned"),
    [
        ("auto", True, "kvm", []),
        ("auto", False, "tcg", ["vre-x is emulated, about ten times slower: no KVM that works on this machine"]),
        ("tcg", False, "tcg", []),
        ("kvm", False, "kvm", []),
    ],
)
def test_a_machine_without_kvm_is_warned_of_unless_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: str, works: bool, used: str, warned: list[str]
) -> None:
    monkeypatch.setattr(domain, "kvm_works", lambda report: works)
    told: list[str] = []
    here = Hypervisor(uri="qemu:///system")
    chosen = domain._chosen(Context(warn=told.append), here, {"name": "vre-x", "accelerator": asked})
    assert (chosen["accelerator"], told) == (used, warned)


def test_kvm_of_another_machine_is_what_its_libvirt_says() -> None:
    told: list[str] = []
    inputs = {"name": "vre-x", "accelerator": "auto"}
    assert domain._chosen(Context(warn=told.append), Hypervisor(), inputs)["accelerator"] == "kvm"
    assert domain._chosen(Context(warn=told.append), Hypervisor(kvm=False), inputs)["accelerator"] == "tcg"
    assert told == [f"vre-x is emulated, about ten times slower: no KVM that works at {REMOTE}"]
