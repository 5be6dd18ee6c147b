"""A container runtime that is replaced: no kubelet acts before every pod and container is known again."""

import json
from collections.abc import Callable

import pytest
import runtime


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


STOP, START, AGAIN = "stop kubelet.service", "start kubelet.service", "restart containerd.service"
OVER = f"stop {runtime.UNIT}.timer"


@pytest.mark.requirement("P-38", "H-04")
@pytest.mark.parametrize(
    ("looks", "again", "lost"),
    [
        (["ab/c", "ab/c"], 0, []),
        (["ab/c", "abd/ce"], 0, []),
        (["ab/c", "a/c", "ab/c"], 1, []),
        (["ab/c", "ab/", "ab/c"], 1, []),
        (["ab/c", "!/!", "b/c", "ab/c"], 2, []),
        (["ab/c", "/", "b/c", "a/c", "ab/c"], runtime.STARTS, []),
        (["ab/c", "/", "b/c", "a/c", "b/"], runtime.STARTS, ["site/a", "site/c"]),
    ],
)
def test_the_kubelet_waits_until_all_that_runs_is_known_again(looks: list[str], again: int, lost: list[str]) -> None:
    machine = Machine(*looks)
    assert runtime.quietly(machine.run, machine.say, machine.work) == lost
    assert machine.did == ["systemd-run", STOP, "work", *[AGAIN] * again, START, OVER]
    assert len(machine.said) == again + bool(lost)
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
