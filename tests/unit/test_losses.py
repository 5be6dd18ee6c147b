"""What a change or an end takes away is said before, and done only when somebody says yes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from vre import engine, losses
from vre.cli import launch
from vre.errors import VreError

CLOUDS = [
    ("aws:ec2/instance:Instance", "aws:ebs/volume:Volume"),
    ("gcp:compute/instance:Instance", "gcp:compute/disk:Disk"),
    ("azure-native:compute:VirtualMachine", "azure-native:compute:Disk"),
    ("openstack:compute/instance:Instance", "openstack:blockstorage/volume:Volume"),
]


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:a::vre::vre:site:Site${kind}::{name}"


def planned(step: str, kind: str, name: str) -> dict[str, Any]:
    return {"resourcePreEvent": {"metadata": {"op": step, "urn": urn(kind, name)}}}


def test_what_is_lost_is_said_before_it_is_destroyed() -> None:
    urns = [urn("vre:libvirt:Domain", "local-control"), urn("vre:libvirt:Volume", "local-control-data")]
    told = losses.of_end("local", urns)
    assert "2 resources, machines local-control, 1 disks with all notebooks" in told


@pytest.mark.parametrize(("machine", "disk"), CLOUDS)
def test_what_is_lost_on_a_cloud_is_said_too(machine: str, disk: str) -> None:
    urns = [urn(kind, "a-control") for kind in (machine, disk, "aws:ec2/vpc:Vpc")]
    assert "3 resources, machines a-control, 1 disks with" in losses.of_end("a", urns)


@pytest.mark.parametrize(("machine", "disk"), CLOUDS)
def test_a_rented_machine_and_a_disk_that_go_are_losses(machine: str, disk: str) -> None:
    steps = ("create-replacement", "replace", "delete-replaced")
    lost = losses.of_change([
        *(planned(step, machine, "a-control") for step in steps),
        planned("delete", disk, "a-worker-1-data"),
        planned("update", disk, "a-control-data"),
        planned("create", disk, "a-worker-2-data"),
        {"diagnosticEvent": {"message": "delete"}},
    ])  # fmt: skip
    called = {disk: "Disk" if disk.endswith("Disk") else "Volume", machine: machine.rpartition(":")[2]}
    assert lost == sorted([
        f"{called[disk]} a-worker-1-data: deleted, with everything on it",
        f"{called[machine]} a-control: made anew, with the disk that it starts from",
    ])  # fmt: skip


def test_on_libvirt_disks_are_lost_and_a_machine_that_keeps_them_is_not() -> None:
    lost = losses.of_change([
        planned("replace", "vre:libvirt:Domain", "a-control"),
        planned("replace", "vre:libvirt:Volume", "a-control-seed"),
        planned("delete", "vre:libvirt:Volume", "a-worker-1-data"),
        planned("delete", "vre:cluster:Objects", "jupyter"),
    ])  # fmt: skip
    assert lost == [
        "Objects jupyter: deleted, with what its users saved",
        "Volume a-worker-1-data: deleted, with everything on it",
    ]


def test_where_nothing_is_held_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [{"urn": urn("vre:libvirt:Network", "a")}, {"urn": urn("vre:libvirt:Volume", "a-control-seed")}]
    monkeypatch.setattr(engine, "resources", lambda stack: first)
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(engine, "change", lambda *words: asked.append(words))
    launch.ask_before_a_loss("a")
    assert asked == [], "a first launch needs no preview"


@pytest.fixture
def previewing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Have the engine's preview tell of some steps, and end with a code; and somebody or nobody be here."""

    def set_up(*events: dict[str, Any], code: int = 0, here: bool = False, answer: bool = False) -> None:
        def change(action: str, stack: str, take: Callable[[dict[str, Any]], None], log: Path) -> int:
            assert (action, stack) == ("preview", "a")
            for event in events:
                take(event)
            return code

        monkeypatch.setenv("VRE_STATE", str(tmp_path))
        monkeypatch.setattr(engine, "resources", lambda stack: [{"urn": urn("vre:libvirt:Volume", "a-control-data")}])
        monkeypatch.setattr(engine, "change", change)
        monkeypatch.setattr("sys.stdin.isatty", lambda: here, raising=False)
        monkeypatch.setattr(typer, "confirm", lambda question: answer)

    return set_up


GONE = planned("delete", "vre:libvirt:Volume", "a-worker-1-data")


def test_a_change_that_loses_nothing_asks_nothing(
    previewing: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    previewing(planned("update", "vre:libvirt:Volume", "a-control-data"))
    launch.ask_before_a_loss("a")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("here", "hint"), [(False, "vre up -s a --yes"), (True, "")])
def test_without_a_yes_nothing_is_changed(
    previewing: Callable[..., None], capsys: pytest.CaptureFixture[str], here: bool, hint: str
) -> None:
    previewing(GONE, here=here)
    with pytest.raises(VreError, match="nothing was changed") as told:
        launch.ask_before_a_loss("a")
    assert told.value.hint.endswith(hint)
    assert bool(told.value.hint) is bool(hint)
    assert "  Volume a-worker-1-data: deleted, with everything on it\n" in capsys.readouterr().out


def test_with_a_yes_it_goes_on(previewing: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    previewing(GONE, here=True, answer=True)
    launch.ask_before_a_loss("a")
    assert "a-worker-1-data" in capsys.readouterr().out


def test_what_cannot_be_previewed_is_not_changed(previewing: Callable[..., None]) -> None:
    fault = {"diagnosticEvent": {"severity": "error", "message": "the program is wrong"}}
    previewing(fault, code=255)
    with pytest.raises(VreError, match="preview of stack a failed\n  the program is wrong") as told:
        launch.ask_before_a_loss("a")
    assert "go on from here" in told.value.hint
