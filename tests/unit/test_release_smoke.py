"""The list that every image has to pass: each point of it is asked of the machine, and a bad machine fails it."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import paramiko
import pytest

from tests.unit import releases
from tests.unit.ssh_server import Machine, line, serving
from vre.cli import image_checks, image_logins
from vre.cli.checks import State
from vre.errors import VreError
from vre.image import boot
from vre.image.boot import Guest
from vre.progress import silent

DONE = {"status": "done", "errors": [], "recoverable_errors": {}}
ANSWERS = {
    "firmware": "uefi\nSecureBoot disabled\n",
    "cloud-init": json.dumps(DONE),
    "id": "vre\n",
    "units": "",
    "clock": "NOW",
    "packages": "bash\t5.2-1\tinstalled\n",
    "images": json.dumps({"images": [{"repoDigests": [f"localhost/vre/pause@sha256:{'a' * 64}"]}]}),
    "vulnerabilities": "/sys/devices/system/cpu/vulnerabilities/mds:Not affected\n",
    "cmdline": "quiet\n",
    "scan": json.dumps({"ipv4": [22], "ipv6": [22]}),
}
"""What a good machine says, by what is asked."""
ASKED = {
    "test -d /sys/firmware/efi": "firmware",
    "cloud-init status": "cloud-init",
    "id -un": "id",
    "systemctl list-units": "units",
    "date": "clock",
    "dpkg-query": "packages",
    "sudo crictl": "images",
    "grep -r . /sys/devices/system/cpu": "vulnerabilities",
    "cat /proc/cmdline": "cmdline",
    "sudo python3": "scan",
}


@dataclass
class Answers:
    """A machine's answers, one of them perhaps bad."""

    said: dict[str, str]

    def __call__(self, command: str) -> str:
        [name] = [name for begin, name in ASKED.items() if command.startswith(begin)]
        if self.said[name] == "FAILS":
            raise VreError(f"{command[:20]}: no")
        return self.said[name].replace("NOW", str(time.time()))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """An SSH server that lets in who holds the key."""
    person = boot.new_key()
    (tmp_path / "key").write_text(person.private)
    (tmp_path / "host").write_text(boot.new_key().private)
    host, allowed = (paramiko.Ed25519Key(filename=str(tmp_path / name)) for name in ("host", "key"))
    with serving(Machine(host_key=host, allowed=[allowed])) as made:
        yield made


@pytest.fixture
def guest(machine: Machine, tmp_path: Path) -> Guest:
    host = boot.Key(private="", public=line(machine.host_key))
    return Guest(
        port=machine.port, key=tmp_path / "key", host=host, console=tmp_path / "console.log",
        process=cast(Any, None), begun=0.0,
    )  # fmt: skip


def seen(guest: Guest, started: str = "uefi", **said: str) -> dict[str, State]:
    """Return how each point is; one that was found bad and good is bad, as in the signed result."""
    run = Answers({**ANSWERS, **said})
    found = image_checks._booted(guest, run, releases.described(), silent, started)
    good_first = sorted(found, key=lambda each: each.state == State.BAD)
    return {each.name: each.state for each in good_first}


POINTS = {
    "firmware", "cloud-init", "key login", "password login", "root login", "units", "clock", "packages",
    "container images", "mitigations", "ports ipv4", "ports ipv6",
}  # fmt: skip


def test_a_good_machine_passes_every_point(guest: Guest) -> None:
    assert seen(guest) == dict.fromkeys(POINTS, State.GOOD)


@pytest.mark.parametrize(
    ("asked", "said", "failed"),
    [
        ("firmware", "bios\n", {"firmware"}),
        ("firmware", "uefi\nSecureBoot enabled\n", {"firmware"}),
        ("firmware", "", {"firmware"}),
        ("cloud-init", json.dumps({**DONE, "status": "error"}), {"cloud-init"}),
        ("cloud-init", json.dumps({**DONE, "errors": ["no datasource"]}), {"cloud-init"}),
        ("cloud-init", json.dumps({**DONE, "recoverable_errors": {"WARNING": ["x"]}}), {"cloud-init"}),
        ("cloud-init", "", {"cloud-init"}),
        ("id", "root\n", {"key login"}),
        ("id", "FAILS", {"key login"}),
        ("units", "ssh.service loaded failed failed OpenSSH\n", {"units"}),
        ("clock", "0", {"clock"}),
        ("packages", "", {"packages"}),
        ("images", '{"images": []}', {"container images"}),
        ("cmdline", "mitigations=off", {"mitigations"}),
        ("scan", '{"ipv4": [22, 6443], "ipv6": [22]}', {"ports ipv4"}),
        ("scan", '{"ipv4": [22], "ipv6": [22, 10250]}', {"ports ipv6"}),
        ("scan", '{"ipv4": [22], "ipv6": []}', {"ports ipv6"}),
        ("scan", '{"ipv4": [22]}', {"ports ipv6"}),
        ("scan", "{}", {"ports ipv4", "ports ipv6"}),
        ("scan", "", {"ports ipv4", "ports ipv6"}),
        ("scan", "FAILS", {"ports"}),
    ],
)
def test_a_bad_answer_fails_its_point_and_no_other(guest: Guest, asked: str, said: str, failed: set[str]) -> None:
    assert {name for name, state in seen(guest, **{asked: said}).items() if state == State.BAD} == failed


@pytest.mark.requirement("P-36")
@pytest.mark.parametrize(
    ("fault", "failed", "told"),
    [
        ({"ways": "publickey,password"}, "password login", "SSH takes publickey, password"),
        ({"ways": "publickey,keyboard-interactive"}, "password login", "keyboard-interactive"),
        ({"ways": "publickey,password", "careless": True}, "password login", "any password"),
        ({"open": True}, "password login", "everybody is let in"),
        ({"accounts": ("vre", "root")}, "root login", "root may log in"),
    ],
)
def test_a_machine_that_lets_others_in_fails(
    machine: Machine, guest: Guest, fault: dict[str, Any], failed: str, told: str
) -> None:
    for name, value in fault.items():
        setattr(machine, name, value)
    [bad] = [each for each in image_logins.look(guest) if each.state == State.BAD]
    assert (bad.name, told in bad.found) == (failed, True)


def test_a_machine_that_answers_nobody_is_not_taken_for_a_closed_one(guest: Guest, machine: Machine) -> None:
    silent_port = Guest(**{**vars(guest), "port": 1})
    with pytest.raises(VreError, match="no SSH at the guest"):
        list(image_logins.look(silent_port))


@pytest.mark.parametrize("firmware", sorted(set(boot.FIRMWARE) - {image_checks.FULL}))
def test_by_every_firmware_it_starts_whole(guest: Guest, firmware: str) -> None:
    told = {"bios": "bios\n", "secure": "uefi\nSecureBoot enabled\n"}[firmware]
    names = {f"{name} by {firmware}" for name in image_checks.BRIEF}
    assert seen(guest, firmware, firmware=told) == dict.fromkeys(names, State.GOOD)
    bad = seen(guest, firmware, firmware="uefi\n", units="x.service", **{"cloud-init": "{}"})
    assert bad == dict.fromkeys(names, State.BAD)


def test_both_ways_to_start_are_tried(tmp_path: Path) -> None:
    assert {"bios", "uefi"} <= set(boot.FIRMWARE)
    assert image_checks.FULL in boot.FIRMWARE


def test_a_machine_that_does_not_start_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise VreError("the guest did not let us in")

    monkeypatch.setattr(boot, "boot", fails)
    [only] = image_checks.look(tmp_path / "disk", releases.described(), tmp_path, silent, "bios")
    assert (only.state, only.name) == (State.BAD, "starts by bios")


# kubeadm


def node(name: str, ready: str, *, control: bool) -> dict[str, Any]:
    labels = {image_checks.CONTROL: ""} if control else {}
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"conditions": [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": ready}]},
    }


@pytest.mark.parametrize(
    ("nodes", "state", "told"),
    [
        ([node("a", "True", control=True)], State.GOOD, "ready: a"),
        ([node("a", "False", control=True)], State.BAD, "not ready: a"),
        ([node("a", "True", control=True), node("b", "Unknown", control=False)], State.BAD, "not ready: b"),
        ([node("b", "True", control=False)], State.BAD, "there is no control machine"),
        ([], State.BAD, "there is no control machine"),
        ([{"metadata": {"name": "a"}, "status": {}}], State.BAD, "not ready: a"),
    ],
)
def test_kubeadm_has_to_reach_ready(nodes: list[dict[str, Any]], state: State, told: str) -> None:
    found = image_checks.nodes(json.dumps({"items": nodes}))
    assert (found.state, found.found) == (state, told)
