"""Before a launch: what a stack needs, what this machine has, and everything that stands in the way at once."""

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from vre import preflight, stackfile
from vre.cli import outputs, preparation
from vre.clouds.libvirt import volumes
from vre.config import Config
from vre.errors import Refused, VreError
from vre.plan import plan
from vre.preflight import GIB, Facts, judge, need
from vre.provider.libvirt import connection

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
    assert preparation.require("local", prepared=False) is None  # type: ignore[func-returns-value]
    with pytest.raises(Refused) as told:
        preparation.require("local")
    assert [finding.key for finding in told.value.findings] == ["vre:access.keys.0", "vre:cloud.uri", "passphrase"]
    monkeypatch.setattr(preflight, "probe", lambda config, plan, pool: facts(memory=100))
    with pytest.raises(Refused, match="of memory are free"):
        preparation.require("local", prepared=False)


def test_a_machine_without_libvirts_module_is_looked_at_before_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise VreError("the Python module libvirt is not installed", hint="run: make setup")

    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    monkeypatch.setattr(connection, "module", absent)
    monkeypatch.setattr(preflight, "kvm", lambda: False)
    monkeypatch.setattr(outputs, "config", lambda stack: CONFIG)
    huge = "MemAvailable: 99999999 kB\n"
    monkeypatch.setattr(preflight, "memory", lambda text, real=preflight.memory: real(huge))
    seen = preflight.probe(CONFIG, STACK, pool=preparation.pool("local"))
    assert seen.fault == "the Python module libvirt is not installed; run: make setup"
    assert seen.memory > 0
    preparation.require("local", prepared=False)


def test_room_is_looked_for_where_the_own_hypervisor_puts_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "config", lambda stack: CONFIG)
    monkeypatch.setattr(connection, "system_answers", lambda: False)
    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    assert preparation.pool("local") == tmp_path / "hypervisor" / "lib" / "images" / "vre-local"


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
