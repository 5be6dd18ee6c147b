"""A container runtime that is replaced: no kubelet acts before it is known what lives. And how shims begin."""

import json
import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
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


BIND = 'import socket; socket.socket(socket.AF_UNIX).bind("%s/socket")'
SHIM = """#!/bin/sh
echo "$@" >> %(place)s/asked
[ "$1" != takes ] || { rm %(place)s/socket; python3 -c '%(bind)s'; }
[ "$1" != fails ] || { echo why >&2; exit 3; }
printf unix://%(place)s/socket
"""


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container's folder, its pod's beside it with the address of a shim, and the programs that the script runs."""

    place: Path
    pod: str = "ab"

    @classmethod
    def made(cls, place: Path) -> "Container":
        (place / "c").mkdir()
        (place / "ab").mkdir()
        (place / "ab" / "address").write_text(f"unix://{place}/socket")
        (place / "c" / "config.json").write_text('{"a":{"io.kubernetes.cri.sandbox-id":"ab","b":"c"}}')
        with socket.socket(socket.AF_UNIX) as first:
            first.bind(str(place / "socket"))
        for name, text in (
            ("containerd-shim-runc-v2", SHIM % {"place": place, "bind": BIND % place}),
            *((name, f'#!/bin/sh\necho "{name} $*" >> {place}/asked\n') for name in ("pkill", "logger")),
        ):
            (place / name).write_text(text)
            (place / name).chmod(0o755)
        return cls(place=place)

    def shim(self, *words: str) -> "subprocess.CompletedProcess[str]":
        script = (recipe.load().files / "usr/lib/vre/shim").read_text()
        script = script.replace("/usr/bin/containerd-shim-runc-v2", f"{self.place}/containerd-shim-runc-v2")
        env = {"PATH": f"{self.place}:{os.environ['PATH']}"}
        command = ["sh", "-c", script, "shim", *words]
        return subprocess.run(command, cwd=self.place / "c", env=env, capture_output=True, text=True, check=False)

    def asked(self) -> list[str]:
        return (self.place / "asked").read_text().splitlines()


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container.made(tmp_path)


@pytest.mark.requirement("P-38")
@pytest.mark.parametrize("first", ["asks", "takes", "fails"])
def test_the_address_of_a_pods_shim_stays_its_own(container: Container, first: str) -> None:
    address = container.place / "socket"
    before = address.stat().st_ino
    done = container.shim(first, "-id", "c1", "start")
    assert address.stat().st_ino == before
    assert not list(container.place.glob("socket.*"))
    if first == "fails":
        assert (done.returncode, done.stdout, done.stderr) == (3, "", "why\n")
        return
    # containerd takes both streams for the address.
    assert (done.returncode, done.stdout, done.stderr) == (0, f"unix://{address}", "")
    ended = ["pkill -KILL -f ^[^ ]*/containerd-shim-runc-v2 .*-id c1 ", "logger --tag vre-shim c1: "]
    assert [line[: len(wanted)] for line, wanted in zip(container.asked()[1:], ended, strict=False)] == ended * (
        first == "takes"
    )


@pytest.mark.parametrize("words", [("-id", "c1", "delete"), ("-id", "start", "-info"), ("-v",)])
def test_whatever_else_a_shim_is_asked_is_asked_of_it(container: Container, words: tuple[str, ...]) -> None:
    assert container.shim(*words).returncode == 0
    assert container.asked() == [" ".join(words)]


def test_the_first_shim_of_a_pod_just_begins(container: Container) -> None:
    (container.place / "ab" / "address").unlink()
    done = container.shim("takes", "-id", "ab", "start")
    assert (done.returncode, done.stderr) == (0, "")
    assert container.asked() == ["takes -id ab start"]
