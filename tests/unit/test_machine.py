"""First contact: cloud-init's own account becomes progress, errors, or a machine that is ready."""

import json
import subprocess
from typing import Any

import pytest

from vre.errors import VreError
from vre.provider import files, machine
from vre.provider.files import Files
from vre.provider.handler import Context
from vre.provider.machine import Machine, errors, stage

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGH0mGwBzlSf8/+/vFZq8eZrDcBlGZIL2Rq3gkUj2Bvh"


class Shell:
    """A machine whose boot shows these states, one a look."""

    connection = "vre@192.0.2.1"

    def __init__(self, *looks: str) -> None:
        self.looks = list(looks)

    def run(self, command: list[str], **given: Any) -> str:
        if command[2] == machine.SAID:
            return "first boot: exit code 100: apt-get update\nE: no network\n"
        return self.looks.pop(0)


def look(marks: str = "", **status: Any) -> str:
    return json.dumps({"v1": status}) + f"\n---\n{marks}"


def watch(*looks: str) -> tuple[bool, list[str]]:
    told: list[str] = []
    ended = machine._watch(Context(report=told.append), Shell(*looks), float("inf"))  # type: ignore[arg-type]
    return ended, told


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "EVERY", 0.0)


def test_progress_names_the_stage_and_what_it_says() -> None:
    ended, told = watch("---\n", look("Unpacking libc6\n", stage="modules-final"), look("finished\n", stage=None))
    assert ended
    assert told == ["first boot: starting", "first boot: data disk and patches (Unpacking libc6)"]


@pytest.mark.requirement("P-39")
def test_a_machine_that_is_about_to_reboot_is_not_ready() -> None:
    ended, told = watch(look("finished\nrebooting\n"), look("finished\nrebooting\n"), look("finished\n"))
    assert ended
    assert told == ["rebooting into what the upgrade installed"] * 2


@pytest.mark.parametrize(
    "bad",
    [
        look("finished\n", **{"modules-final": {"errors": ["('scripts_user', RuntimeError('1 failure'))"]}}),
        look("failed\n", stage="modules-final"),
    ],
)
def test_a_failed_boot_tells_the_command_and_what_next(bad: str) -> None:
    with pytest.raises(VreError) as caught:
        watch(bad)
    assert "exit code 100: apt-get update" in caught.value.message
    assert "vre logs" in caught.value.hint


def test_errors_of_every_stage_are_found() -> None:
    status: dict[str, Any] = {
        "stage": None,
        "init": {"errors": ["a"]},
        "modules-config": {"errors": []},
        "modules-final": {"errors": ["b"]},
    }
    assert errors(status) == ["init: a", "modules-final: b"]
    assert stage({"stage": "init"}) == "network, users and firewall"
    assert stage({}) == "starting"


def test_a_host_key_that_is_none_is_refused() -> None:
    good = {"bootKeys": [KEY], "hostKey": {"publicKey": KEY, "privateKey": "x"}}
    assert Machine().check(good) == []
    [finding] = Machine().check({**good, "bootKeys": ["nonsense"]})
    assert finding.key == "bootKeys"
    [finding] = Machine().check({**good, "hostKey": {"publicKey": "nonsense"}})
    assert finding.key == "hostKey.publicKey"


@pytest.mark.parametrize("script", ["LOOK", "FACTS", "REPLACE", "SAID"])
def test_what_runs_on_the_machine_is_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=getattr(machine, script), text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_files_get_a_mode_and_an_owner() -> None:
    made = Files().normalise({"files": [{"path": "/x", "content": "y"}]})
    assert made["files"] == [{"path": "/x", "content": "y", "mode": "0644", "owner": "root"}]
    assert made["after"] == []
    assert files._expected({"content": "", "mode": "600", "owner": "root"})[1:] == ["0600", "root"]


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ({"path": "etc/x"}, "files[0].path"),
        ({"path": "/etc/../root"}, "files[0].path"),
        ({"path": "/x", "mode": "rw"}, "files[0].mode"),
    ],
)
def test_faulty_files_are_refused(file: dict[str, str], key: str) -> None:
    [finding] = Files().check({"files": [file]})
    assert finding.key == key


def test_the_order_of_contact_is_no_change() -> None:
    state = {"machine": "m", "bootKeys": ["a"], "connection": {}, "hostKey": {"publicKey": "k"}}
    same = Machine().diff(state, {**state, "bootKeys": ["b"], "connection": {"port": 1}})
    assert not same.update | same.replace
    assert Machine().diff(state, {**state, "hostKey": {"publicKey": "l"}}).update == {"hostKey"}


def test_files_of_a_machine_that_does_not_answer_are_kept_as_last_seen() -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJh2Ow9c6ZtQ0wM0N7R6mJmY6pX6qkq0rYb8Wk7v3s1D"
    nobody = {"address": "127.0.0.1", "port": 1, "hostKeys": [key]}
    inputs = Files().normalise({"machine": "m", "connection": nobody, "files": [{"path": "/x", "content": "y"}]})
    state = {**inputs, "digests": {"/x": "z"}}
    seen = Files().read(Context(), "m:1", state)
    assert seen is not None
    assert (seen.inputs, seen.outputs) == (inputs, state)
