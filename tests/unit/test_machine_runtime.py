"""A container runtime that is replaced: no kubelet acts before every pod is known again."""

from collections.abc import Callable

import pytest
import runtime


class Machine:
    """Says which pods containerd knows at each look, and notes what was done."""

    def __init__(self, *looks: str, kubelet: str = "active") -> None:
        self.looks = list(looks)
        self.kubelet = kubelet
        self.did: list[str] = []

    def run(self, *words: str, accept: tuple[int, ...] = (0,)) -> str:
        if words[:2] == ("systemctl", "is-active"):
            return f"{self.kubelet}\n"
        if words[0] == "crictl":
            return self.looks.pop(0)
        self.did.append(" ".join(words[1:] if words[0] == "systemctl" else words[:1]))
        return ""

    def work(self) -> None:
        self.did.append("work")


STOP, START, AGAIN = "stop kubelet.service", "start kubelet.service", "restart containerd.service"
OVER = f"stop {runtime.UNIT}.timer"


@pytest.mark.requirement("P-38", "H-04")
@pytest.mark.parametrize(
    ("looks", "again"),
    [
        (["a\nb\n", "a\nb\n"], 0),
        (["a\nb\n", "a\nb\nc\n"], 0),
        (["a\nb\n", "a\n", "a\nb\n"], 1),
        (["a\nb\n", "", "b\n", "b\n", "b\n"], runtime.STARTS),
    ],
)
def test_the_kubelet_waits_until_every_pod_is_known_again(looks: list[str], again: int) -> None:
    machine = Machine(*looks)
    runtime.quietly(machine.run, machine.work)
    assert machine.did == ["systemd-run", STOP, "work", *[AGAIN] * again, START, OVER]


def fail() -> None:
    raise OSError("dpkg ended with 100")


def end() -> None:
    raise SystemExit(0)


@pytest.mark.parametrize(("work", "kind"), [(fail, OSError), (end, SystemExit)])
def test_the_kubelet_runs_again_whatever_happens(work: Callable[[], None], kind: type[BaseException]) -> None:
    machine = Machine("a\n")
    with pytest.raises(kind):
        runtime.quietly(machine.run, work)
    assert machine.did == ["systemd-run", STOP, START, OVER]


@pytest.mark.parametrize("state", ["inactive", "failed", ""])
def test_a_machine_without_a_kubelet_that_runs_is_given_none(state: str) -> None:
    machine = Machine(kubelet=state)
    runtime.quietly(machine.run, machine.work)
    assert machine.did == ["work"]
