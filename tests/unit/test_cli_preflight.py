"""Before a launch: what a stack needs, what this machine has, and everything that stands in the way at once."""

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from vre import engine, preflight, stackfile
from vre.cli import building, obstacles, parts, preparation
from vre.cli.checks import State
from vre.clouds.libvirt import volumes
from vre.config import Config
from vre.errors import Refused, VreError
from vre.plan import plan
from vre.preflight import GIB, Facts, judge, need
from vre.provider.libvirt import accelerator, connection, host

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO7pYHNTKlbjhJcKVYz4oTCdoBH/V1KdbSFHwMcjSSo2"
CONFIG = Config.model_validate(
    {
        "cloud": {"provider": "libvirt"},
        "access": {"keys": [KEY]},
        "machines": {"control": {"size": {"cpus": 2, "memory": 3}, "disk": 10, "data": 4}, "workers": {"count": 1}},
    }
)
STACK = plan(CONFIG)


def facts(**changes: Any) -> Facts:
    usual: dict[str, Any] = {
        "memory": 16384, "disk": 100 * GIB, "disk_at": "/disks", "hypervisor": "libvirt 11.3", "fault": "", "kvm": True,
        "routes": (),
    }  # fmt: skip
    return Facts(**{**usual, **changes})


def faults(**changes: Any) -> list[str]:
    return [finding.key for finding in judge(CONFIG, STACK, facts(**changes), bridge="vre0")]


def test_nothing_stands_in_the_way_of_a_machine_that_fits() -> None:
    assert faults() == []


def test_everything_is_told_at_once() -> None:
    route = (ip_network("192.168.0.0/16"), "eth0")
    found = faults(fault="libvirt does not answer", memory=1024, disk=GIB, routes=(route,), passphrase="there is none")
    assert found == [
        "vre:cloud.uri", "vre:machines.control.size", "vre:machines.control.disk", "vre:cloud.network", "passphrase",
    ]  # fmt: skip


def test_what_runs_needs_nothing_more() -> None:
    both = need(STACK)
    one = need(STACK, ["local-control"])
    assert (both.memory, both.disk) == (3 * 1024 + 4 * 1024 + 2 * preflight.OVERHEAD, 14 + 22 + preflight.SPARE)
    assert one.memory == 4 * 1024 + preflight.OVERHEAD
    assert need(STACK, [machine.name for machine in STACK.machines]) == preflight.Need(memory=0, disk=0)
    everything = frozenset(machine.name for machine in STACK.machines)
    assert faults(memory=1, disk=1, running=everything) == []


def test_room_that_a_stopped_stacks_disks_take_already_is_not_asked_for_again() -> None:
    control, worker = (machine.name for machine in STACK.machines)
    filled = {control: 6 * GIB + 1, worker: 500 * GIB}
    assert need(STACK, taken=filled).disk == 8 + preflight.SPARE
    assert faults(disk=9 * GIB, taken=filled) == []
    assert faults(disk=9 * GIB) == ["vre:machines.control.disk"]
    assert need(STACK, [control], {control: 6 * GIB}).disk == 22 + preflight.SPARE


def test_a_disks_holes_take_no_room(tmp_path: Path) -> None:
    system, data = volumes(STACK.machines[0])
    with (tmp_path / system).open("wb") as file:
        file.truncate(GIB)
    (tmp_path / data).write_bytes(b"x" * 2**20)
    assert 2**20 <= preflight.occupied(tmp_path, (system, data, "absent")) < 2**21


@pytest.mark.parametrize(
    ("route", "device", "found"),
    [
        ("192.168.77.0/24", "eth0", ["vre:cloud.network"]),
        ("192.168.77.128/25", "eth0", ["vre:cloud.network"]),
        ("192.168.0.0/16", "eth0", ["vre:cloud.network"]),
        ("fd76:7265::/32", "eth0", ["vre:cloud.network6"]),
        ("192.168.77.0/24", "vre0", []),
        ("192.168.78.0/24", "eth0", []),
        ("0.0.0.0/0", "eth0", []),
    ],
)
def test_ranges_in_use_here_are_refused_but_for_the_stacks_own(route: str, device: str, found: list[str]) -> None:
    assert faults(routes=((ip_network(route), device),)) == found


def test_before_set_up_only_what_it_cannot_make_stands_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Pulumi.local.yaml").write_text(
        "config: {vre:cloud: {provider: libvirt}, vre:access: {keys: [.vre/id_ed25519.pub]}}"
    )
    monkeypatch.setattr(stackfile, "path", lambda stack: tmp_path / f"Pulumi.{stack}.yaml")
    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    monkeypatch.setattr(connection, "system_answers", lambda: False)
    bare = facts(fault="libvirt is not installed", passphrase="there is none")
    monkeypatch.setattr(preflight, "probe", lambda config, plan, pool: bare)
    monkeypatch.setattr(building, "faults", lambda seen: [])
    monkeypatch.setattr(parts, "missing", list)
    monkeypatch.setattr(engine, "version", lambda: "3.259.0")
    assert preparation.require("local", prepared=False) is None  # type: ignore[func-returns-value]
    with pytest.raises(Refused) as told:
        preparation.require("local")
    assert [finding.key for finding in told.value.findings] == ["vre:access.keys.0", "vre:cloud.uri", "passphrase"]
    monkeypatch.setattr(preflight, "probe", lambda config, plan, pool: facts(memory=100))
    with pytest.raises(Refused, match="of memory are free"):
        preparation.require("local", prepared=False)


FAULTY = f"""\
config:
  vre:cloud: {{provider: libvirt, mode: open, network: 192.168.77.0/24}}
  vre:access: {{keys: ["{KEY} alice", absent.pub]}}
  vre:machines: {{control: {{size: {{cpus: 2, memory: 512}}, disk: 2}}}}
  vre:data: {{class: sensitive}}
  vre:services: {{jupyter: {{admin: alice, egress: open}}}}
  vre:x: 1
"""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stack file with faults of every kind, on a machine where nothing is right."""
    file = tmp_path / "Pulumi.local.yaml"
    file.write_text(FAULTY)
    route = (ip_network("192.168.0.0/16"), "eth0")
    poor = facts(fault="libvirt does not answer", memory=1024, disk=GIB, routes=(route,), passphrase="there is none")
    monkeypatch.setattr(stackfile, "path", lambda stack: tmp_path / f"Pulumi.{stack}.yaml")
    monkeypatch.setattr(connection, "system_answers", lambda: False)
    monkeypatch.setattr(preflight, "probe", lambda config, plan, pool: poor)
    full = building.Building(gib=10, where="/cache", free=GIB, begun=False)
    monkeypatch.setattr(building, "look", lambda *words, **more: full)
    monkeypatch.setattr(parts, "missing", list)
    return file


BEFORE = {
    "vre:cloud.mode": 2, "vre:cloud.network": 2, "vre:access.keys.1": 3, "vre:machines.control.disk": 4,
    "vre:machines.control.size": 4, "vre:data.approval": 5, "vre:services.jupyter.egress": 6, "vre:x": 7, "set-up": 0,
}  # fmt: skip


def test_a_fault_of_one_kind_hides_none_of_another(faulty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused) as told:
        preparation.require("local", prepared=False)
    places = {each.key: int(each.where.rpartition(":")[2] or 0) for each in told.value.findings}
    assert places == BEFORE
    assert all(each.where for each in told.value.findings if each.key.startswith("vre:"))
    with pytest.raises(Refused) as later:
        preparation.require("local")
    assert {each.key for each in later.value.findings} - BEFORE.keys() <= {"vre:cloud.uri", "passphrase", "engine"}
    assert {"vre:cloud.uri", "passphrase"} <= {each.key for each in later.value.findings}
    shown = {check.name for check in preparation.look("local") if check.state == State.BAD}
    assert shown >= {*BEFORE, "vre:cloud.uri", "passphrase"}


def test_each_fault_is_told_once_and_not_of_what_stands_in_for_it(faulty: Path) -> None:
    with pytest.raises(Refused) as told:
        preparation.require("local", prepared=False)
    keys = [each.key for each in told.value.findings]
    assert len(keys) == len(set(keys))
    [disk] = [each for each in told.value.findings if each.key == "vre:machines.control.disk"]
    assert "are needed" not in disk.reason


def test_a_stack_file_that_is_none_ends_alone(faulty: Path) -> None:
    faulty.write_text("config: [")
    for prepared in (False, True):
        with pytest.raises(Refused, match="1 fault, nothing was changed") as told:
            preparation.require("local", prepared=prepared)
        assert "no YAML" in str(told.value)
    [check] = preparation.look("local")
    assert check.state == State.BAD


REMOTE = CONFIG.model_copy(
    update={"cloud": CONFIG.cloud.model_copy(update={"uri": "qemu+ssh://root@big.example/system"})}
)


class Distant:
    """A hypervisor elsewhere, on which nothing runs."""

    def listAllDomains(self) -> list[Any]:
        return []

    def getLibVersion(self) -> int:
        return 11003000

    def getURI(self) -> str:
        return REMOTE.cloud.uri  # type: ignore[union-attr]

    def close(self) -> int:
        return 0


def test_a_hypervisor_elsewhere_is_judged_by_its_own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*words: Any, **more: Any) -> Any:
        raise AssertionError("this machine is no matter")

    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    monkeypatch.setattr(connection, "connect", lambda uri, report=None: Distant())
    monkeypatch.setattr(host, "look", lambda *words: host.Host(memory=1024, disk=GIB, kvm=False))
    for name in ("_memory", "free", "occupied", "kvm", "parse_routes"):
        monkeypatch.setattr(preflight, name, never)
    seen = preflight.probe(REMOTE, STACK, pool=obstacles.pool(REMOTE))
    assert (seen.host, seen.memory, seen.kvm, seen.routes) == ("big.example", 1024, False, ())
    found = {each.key: each.reason for each in judge(REMOTE, STACK, seen, bridge="vre0")}
    assert found["vre:machines.control.size"].startswith("1.0 GiB of memory are free on big.example, ")
    assert "on big.example, 37 GiB are needed" in found["vre:machines.control.disk"]
    assert {check.area for check in preparation.described(seen)} == {"big.example"}


def test_what_a_hypervisor_elsewhere_does_not_tell_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert judge(REMOTE, STACK, facts(memory=None, disk=None, kvm=None, host="big.example"), bridge="vre0") == []
    shown = {check.name for check in preparation.described(facts(memory=None, disk=None, kvm=None, host="big.example"))}
    assert shown == {"hypervisor"}


def test_a_hypervisor_elsewhere_that_does_not_answer_is_told_before_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    away = facts(memory=None, disk=None, kvm=None, host="big.example", fault="libvirt does not answer")
    monkeypatch.setattr(preflight, "probe", lambda config, plan, pool: away)
    monkeypatch.setattr(obstacles, "find_spec", lambda name: object())
    _, found = obstacles._machine(REMOTE, prepared=False)
    assert [(area, each.key) for area, each in found] == [("big.example", "vre:cloud.uri")]
    monkeypatch.setattr(obstacles, "find_spec", lambda name: None)
    assert obstacles._machine(REMOTE, prepared=False)[1] == []


def test_kvm_is_not_known_before_an_emulator_can_try_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(accelerator, "DEVICE", tmp_path / "kvm")
    assert preflight.kvm() is False
    (tmp_path / "kvm").touch()
    assert preflight.kvm() is None
    [told] = [each for each in preparation.described(facts(kvm=None)) if each.name == "KVM"]
    assert (told.state, "once QEMU is installed" in told.found) == (State.WARNING, True)


def test_a_machine_without_libvirts_module_is_looked_at_before_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise VreError("the Python module libvirt is not installed", hint="run: make setup")

    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    monkeypatch.setattr(connection, "module", absent)
    monkeypatch.setattr(preflight, "kvm", lambda: False)
    monkeypatch.setattr(stackfile, "path", lambda stack: tmp_path / f"Pulumi.{stack}.yaml")
    cloud, keys = "vre:cloud: {provider: libvirt}", f"vre:access: {{keys: [{KEY}]}}"
    (tmp_path / "Pulumi.local.yaml").write_text(f"config:\n  {cloud}\n  {keys}\n")
    huge = "MemAvailable: 99999999 kB\n"
    monkeypatch.setattr(preflight, "memory", lambda text, real=preflight.memory: real(huge))
    monkeypatch.setattr(preflight, "free", lambda path: 1 << 50)
    seen = preflight.probe(CONFIG, STACK, pool=obstacles.pool(CONFIG))
    assert seen.fault == "the Python module libvirt is not installed; run: make setup"
    assert seen.memory
    preparation.require("local", prepared=False)


def test_room_is_looked_for_where_the_own_hypervisor_puts_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "system_answers", lambda: False)
    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    assert obstacles.pool(CONFIG) == tmp_path / "hypervisor" / "lib" / "images" / "vre-local"


def test_routes_are_read_from_ip() -> None:
    told = [
        {"dst": "default", "gateway": "10.0.0.1", "dev": "eth0"},
        {"dst": "10.0.0.0/24", "dev": "eth0"},
        {"dst": "10.0.1.7", "dev": "tun0"},
        {"dst": "fe80::/64", "dev": "eth0"},
    ]
    assert preflight.parse_routes(json.dumps(told)) == (
        (ip_network("10.0.0.0/24"), "eth0"),
        (ip_network("10.0.1.7/32"), "tun0"),
    )
    assert preflight.parse_routes("") == ()


def test_memory_is_what_is_available() -> None:
    assert preflight.memory("MemTotal: 99 kB\nMemFree: 5 kB\nMemAvailable:    2097152 kB\n") == 2048
    assert preflight.memory("") == 0


def test_the_passphrase_is_the_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "passphrase"
    assert "make setup" in preflight.passphrase_fault(file)
    file.touch(mode=0o600)
    assert preflight.passphrase_fault(file) == ""
    file.chmod(0o644)
    assert "chmod 600" in preflight.passphrase_fault(file)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE_FILE", "/elsewhere")
    assert preflight.passphrase_fault(file) == ""


def test_free_space_is_that_of_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    assert preflight.free(tmp_path / "not" / "yet") > 0
