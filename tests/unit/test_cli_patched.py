"""`vre status` on patches: what a machine notes of itself is shown, and judged."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vre.cli import outputs, patched, status
from vre.cli.checks import Check, State
from vre.cli.main import app

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def before(**length: float) -> str:
    return (NOW - timedelta(**length)).isoformat(timespec="seconds")


FAULT = {"command": "apt-get update", "code": 100, "said": "E: no such host", "at": before(minutes=5)}
REBOOT = {"boot": "a", "since": before(hours=7), "why": ["kernel 6.12.57 -> 6.12.60"]}
WINDOW = "02:00-05:00 UTC"


def seen(state: dict[str, Any], *, first: str = "", failed: str = "") -> dict[str, Check]:
    found = patched.look("control", patched.Noted(state=state, first=first, failed=failed), NOW)
    return {check.name.removeprefix("control "): check for check in found}


@pytest.mark.requirement("P-38")
@pytest.mark.parametrize(
    ("state", "judged", "told"),
    [
        ({"patched": before(hours=3), "pending": []}, State.GOOD, "patched 3 h ago, nothing pending"),
        ({"patched": before(hours=3), "pending": ["a", "b"]}, State.GOOD, "patched 3 h ago, 2 pending: a, b"),
        ({"patched": before(hours=3), "pending": [*"abcde"]}, State.GOOD, "5 pending: a, b, c, d, ..."),
        ({"patched": before(days=3)}, State.WARNING, "patched 3 d ago"),
        ({"patched": before(hours=3), "waits": "it is the turn of two"}, State.WARNING, "it is the turn of two"),
        ({"patched": before(days=1), "failure": FAULT}, State.BAD, "failed 5 min ago with exit code 100: apt-get upd"),
        ({"failure": FAULT}, State.BAD, "E: no such host"),
        ({}, State.WARNING, "never patched yet"),
    ],
)
def test_when_a_machine_was_patched_and_what_is_left(state: dict[str, Any], judged: State, told: str) -> None:
    check = seen(state)["patches"]
    assert check.state == judged
    assert told in check.found


@pytest.mark.requirement("P-39")
def test_a_reboot_that_waits_says_since_when_why_and_until_when() -> None:
    found = seen({"patched": before(hours=1), "reboot": REBOOT, "window": WINDOW})
    assert found["reboot"].found == "waits since 7 h (kernel 6.12.57 -> 6.12.60), window 02:00-05:00 UTC"
    assert found["reboot"].state == State.WARNING
    assert "reboot" not in seen({"patched": before(hours=1), "window": WINDOW})


@pytest.mark.requirement("P-38", "H-04")
def test_pods_that_a_newer_container_runtime_ended_are_named() -> None:
    lost = {"at": before(hours=3), "pods": ["jupyter/hub-1", "kube-system/kube-proxy-2"]}
    found = seen({"patched": before(hours=3), "lost": lost})["container runtime"]
    assert found.found == "jupyter/hub-1, kube-system/kube-proxy-2 started anew 3 h ago, when it was upgraded"
    assert found.state == State.WARNING
    old = {**lost, "at": before(hours=72)}
    assert "container runtime" not in seen({"patched": before(hours=3), "lost": old})
    assert "container runtime" not in seen({"patched": before(hours=3), "lost": None})


@pytest.mark.requirement("P-35")
@pytest.mark.parametrize(
    ("moment", "judged", "age"),
    [
        ("20261121T000000Z", State.GOOD, "12 h"),
        ("20261119T130000Z", State.GOOD, "2 d"),
        ("20261119T110000Z", State.WARNING, "2 d"),
    ],
)
def test_a_moment_that_grows_old_is_warned_of(moment: str, judged: State, age: str) -> None:
    archive = {"moment": moment, "announced": before(hours=8), "taken": before(hours=3)}
    found = patched.look("control", patched.Noted(state={"patched": before(hours=3)}, archive=archive), NOW)
    [check] = [each for each in found if each.name == "control archive"]
    assert (check.state, check.found) == (judged, f"Debian as tested: {moment}, {age} old, announced 8 h ago")


@pytest.mark.requirement("P-11", "H-22")
def test_how_far_each_component_is() -> None:
    found = seen({"patched": before(hours=1), "components": {"kernel": "6.12.57", "containerd": "1.7.24"}})
    assert found["versions"].found == "kernel 6.12.57, containerd 1.7.24"
    state = {"patched": before(hours=1), "components": {"kernel": "6.12.57", "kubelet": "1.36.4-1"}}
    found = seen({**state, "behind": {"kubelet": "1.37.0-1"}})
    assert found["versions"].found == "kernel 6.12.57, kubelet 1.36.4-1 (newest: 1.37.0-1)"


@pytest.mark.requirement("P-32")
def test_the_first_boot_counts_as_patched_and_its_failure_is_told() -> None:
    assert seen({}, first="2026-11-21T11:00:00Z")["patches"].found == "patched 1 h ago, nothing pending"
    check = seen({}, failed="first boot: exit code 100: apt-get update")["first boot"]
    assert (check.state, check.found) == (State.BAD, "first boot: exit code 100: apt-get update")


@pytest.mark.parametrize("spare", [False, True])
def test_what_is_read_on_a_machine_is_what_is_judged(tmp_path: Path, spare: bool) -> None:
    for folder in ("var/lib/vre", "run/vre"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "var/lib/vre/patch.json").write_text(json.dumps({"patched": "disk"}))
    if spare:
        (tmp_path / "run/vre/patch.json").write_text(json.dumps({"patched": "memory"}))
    (tmp_path / "var/lib/vre/upgraded").write_text("2026-11-21T11:00:00Z\n")
    if spare:
        (tmp_path / "var/lib/vre/archive.json").write_text(json.dumps({"moment": "20261121T000000Z"}))
    script = patched.LOOK.replace("/var/lib", f"{tmp_path}/var/lib").replace("/run/vre", f"{tmp_path}/run/vre")
    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    found = patched.noted(told)
    archive = {"moment": "20261121T000000Z"} if spare else {}
    state = {"patched": "memory" if spare else "disk"}
    assert found == patched.Noted(state=state, first="2026-11-21T11:00:00Z", archive=archive)


def test_status_of_a_launch_that_failed_shows_its_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    node = outputs.Node(name="local-control", role="control", addresses=("192.0.2.1",), host_keys=("k",))
    there = outputs.Outputs(
        stack="local", url="", services={}, user="", password="", authority="", passwords={}, machines=(node,),
        identity="",
    )  # fmt: skip
    failed = patched.Noted(state={}, failed="first boot: exit code 100: apt-get update")
    monkeypatch.setattr(outputs, "machines", lambda stack: there)
    monkeypatch.setattr(status, "machine", lambda _, node: patched.look(node.name, failed, NOW))
    done = CliRunner().invoke(app, ["status", "--json"])
    assert done.exit_code == 1
    checks = {each["name"]: each for each in json.loads(done.stdout)["checks"]}
    assert checks["local"]["found"] == "did not come to its end"
    assert checks["local-control first boot"]["found"] == failed.failed
