"""A container runtime that is replaced: no kubelet acts before it is known what lives. And how shims begin."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import runtime

from vre.image import recipe


def listed(kind: str, names: str) -> str:
    """Return what crictl prints of a pod or container for each letter, `!` for no answer."""
    if names == "!":
        return "level=fatal msg=connection refused"
    pod = {"io.kubernetes.pod.namespace": "site"}
    return json.dumps({kind: [{"id": each, "labels": {**pod, "io.kubernetes.pod.name": each}} for each in names]})


class Machine:
    """Says which pods and containers containerd knows at each look (`pods/containers`, a letter each).

    Notes what was done.
    """

    def __init__(self, *looks: str, kubelet: str = "active") -> None:
        self.looks = list(looks)
        self.kubelet = kubelet
        self.did: list[str] = []
        self.said: list[str] = []

    def run(self, *words: str, accept: tuple[int, ...] = (0,)) -> str:
        if words[:2] == ("systemctl", "is-active"):
            return f"{self.kubelet}\n"
        if words[:4] == (*runtime.CRICTL, "pods"):
            return listed("items", self.looks[0].split("/")[0])
        if words[:4] == (*runtime.CRICTL, "ps"):
            return listed("containers", self.looks.pop(0).split("/")[1])
        self.did.append(" ".join(words[1:] if words[0] == "systemctl" else words[:1]))
        return ""

    def say(self, text: str) -> None:
        self.said.append(text)

    def work(self) -> None:
        self.did.append("work")


STOP, START = "stop kubelet.service", "start kubelet.service"
OVER = f"stop {runtime.UNIT}.timer"


@pytest.mark.requirement("P-38", "H-04")
@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ("ab/c", "ab/c", []),
        ("ab/c", "abd/ce", []),
        ("ab/c", "a/c", ["site/b"]),
        ("ab/c", "ab/", ["site/c"]),
        ("ab/c", "b/", ["site/a", "site/c"]),
        ("ab/c", "!/!", ["site/a", "site/b", "site/c"]),
    ],
)
def test_the_kubelet_waits_and_what_is_lost_is_named(before: str, after: str, lost: list[str]) -> None:
    machine = Machine(before, after)
    assert runtime.quietly(machine.run, machine.say, machine.work) == lost
    assert machine.did == ["systemd-run", STOP, "work", START, OVER]
    assert len(machine.said) == bool(lost)
    assert all(each in machine.said[-1] for each in lost)


def test_a_pod_of_no_kubelet_is_seen_too() -> None:
    made = {"id": "a", "metadata": {"name": "trial"}}
    assert runtime.known(lambda *words, accept: json.dumps({"items": [made], "containers": None})) == {"a": "?/?"}


def fail() -> None:
    raise OSError("dpkg ended with 100")


def end() -> None:
    raise SystemExit(0)


@pytest.mark.parametrize(("work", "kind"), [(fail, OSError), (end, SystemExit)])
def test_the_kubelet_runs_again_whatever_happens(work: Callable[[], None], kind: type[BaseException]) -> None:
    machine = Machine("a/c")
    with pytest.raises(kind):
        runtime.quietly(machine.run, machine.say, work)
    assert machine.did == ["systemd-run", STOP, START, OVER]


@pytest.mark.parametrize("state", ["inactive", "failed", ""])
def test_a_machine_without_a_kubelet_that_runs_is_given_none(state: str) -> None:
    machine = Machine(kubelet=state)
    runtime.quietly(machine.run, machine.say, machine.work)
    assert machine.did == ["work"]


@pytest.mark.parametrize(
    ("words", "first"), [(["-id", "a b", "start"], True), (["-id", "start", "delete"], False), (["-info"], False)]
)
def test_a_shim_that_begins_goes_before_everything_else(words: list[str], first: bool, tmp_path: Path) -> None:
    shim, chrt = tmp_path / "containerd-shim-runc-v2", tmp_path / "chrt"
    shim.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    chrt.write_text('#!/bin/sh\necho "$1 $2 $3"; shift 3; exec "$@"\n')
    for each in (shim, chrt):
        each.chmod(0o755)
    script = (recipe.load().files / "usr/lib/vre/shim").read_text()
    assert script.count(f"/usr/bin/{shim.name}") == 2
    script = script.replace(f"/usr/bin/{shim.name}", str(shim)).replace("exec chrt", f"exec {chrt}")
    done = subprocess.run(["sh", "-c", script, "shim", *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [*["--reset-on-fork --rr 1"] * first, *words]
