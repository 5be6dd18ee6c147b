"""The longest drills: killed and interrupted at every stage, a second machine, and everything gone at the end."""

import base64
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from scapy.layers.inet import UDP

from tests.checkout import Checkout
from tests.machine.browser import browser
from tests.machine.conftest import make_stack
from tests.machine.lab import NAMESPACE, Lab
from tests.machine.stack import Machine, Running, Say, Stack, family, kill
from tests.machine.wire import SSH, TLS_RECORD, capturing, first_words
from tests.patience import until
from vre.machine import patches
from vre.setup import hypervisor as own

pytestmark = pytest.mark.drill
PATIENCE = 1500.0
patiently = partial(until, seconds=PATIENCE, pause=1)
UPLOAD = "the upload of the disk image"
STAGES = {
    "the boot": "✓ Domain drill-control: created",
    "kubeadm": "… ControlPlane control-plane: creating",
    "the services": "… Objects jupyter: creating",
}
"""What `vre up` says when a stage goes on."""
WORKER_NAME = "drill-worker-1"
WIREGUARD = 51820
MARK = "what-a-user-asks-the-hub-for"
ASK = """
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(f"http://10.96.0.80:8081/jupyter/hub/api/{sys.argv[1]}", timeout=60)
except urllib.error.HTTPError as error:
    print(error.code)
"""
WORKER = {"count": 1, "size": {"cpus": 2, "memory": 1.5}, "disk": 8, "data": 1}


@pytest.fixture(scope="module")
def drill(lab: Lab, checkout: Checkout, hypervisor: str, say: Say) -> Iterator[Stack]:
    """A stack of its own, on a network of its own. The hypervisor ended with the stack before it."""
    own.ensure(checkout.state, say, netns=NAMESPACE)
    stack = make_stack(lab, checkout, hypervisor, say, name="drill", network=78)
    yield stack
    say("taking the drill's stack away")
    stack.vre("down", "-s", stack.name, "--yes")


def reached(now: Running, stage: str, stack: Stack, say: Say) -> None:
    """Wait for a stage, and a little into it."""
    deadline = time.monotonic() + PATIENCE
    while not (now.saw(STAGES[stage]) if stage in STAGES else _uploading(stack)):
        assert now.process.poll() is None, f"it ended before {stage}:\n{''.join(now.lines)[-3000:]}"
        assert time.monotonic() < deadline, stage
        time.sleep(0.2)
    say(f"in the midst of {stage}")
    time.sleep(1)


def _uploading(stack: Stack) -> bool:
    return any((stack.folder / "pool").glob("vre-drill/drill-control-system*"))


def test_interrupted_it_ends_in_order_and_the_next_one_goes_on(drill: Stack, say: Say) -> None:
    with drill.running(*drill.engine("up")) as now:
        reached(now, UPLOAD, drill, say)
        engine = [pid for pid in family(now.process.pid) if _name(pid) == "pulumi"]
        os.kill(engine[-1], signal.SIGINT)
        ended = now.ended()
    say(f"interrupted: exit code {ended.code} after {ended.seconds:.0f} s")
    assert ended.code != 0
    assert "Traceback" not in ended.text
    assert not list(drill.checkout.backend.rglob("locks/**/*.json")), "an interrupted run keeps its lock"


def test_killed_at_every_stage_the_next_one_goes_on(drill: Stack, say: Say) -> None:
    for stage in (UPLOAD, *STAGES):
        with drill.running(*_vre_up(drill)) as now:
            reached(now, stage, drill, say)
            kill(now.process.pid)
            now.process.wait()
        say(f"killed during {stage}")
    ended = drill.vre("up", "-s", drill.name)
    assert ended.code == 0, ended.text[-5000:]
    whole(drill, machines=1)
    drill.do("up", "--expect-no-changes")


def _vre_up(stack: Stack) -> tuple[str | Path, ...]:
    return (Path(stack.checkout.env["PATH"].split(":")[0], "vre"), "up", "-s", stack.name)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def whole(stack: Stack, *, machines: int) -> None:
    """See that nothing is missing, nothing is there twice, and the state knows all there is."""
    mark = f"vre-{stack.name}"

    def listed(*words: str) -> list[str]:
        return [line.split()[-1] for line in stack.virsh(*words).splitlines() if mark in line]

    assert len(listed("list", "--name")) == machines
    assert len(listed("list", "--all", "--name")) == machines
    assert len(listed("net-list", "--all", "--name")) == 1
    assert len(listed("nwfilter-list")) == machines
    # Keys have numbers only; whatever this hypervisor keeps is this stack's.
    assert len(re.findall(r"^ *[0-9a-f]{8}-", stack.virsh("secret-list"), re.MULTILINE)) == machines
    volumes = stack.of("libvirt:Volume")
    assert len(volumes) == 3 * machines
    there = {str(file) for file in Path(volumes[0]["outputs"]["path"]).parent.iterdir() if file.suffix != ".log"}
    assert there == {each["outputs"]["path"] for each in volumes}
    exported = stack.export()["deployment"]
    assert not exported.get("pending_operations")
    assert [each["urn"] for each in exported["resources"] if each.get("delete")] == []


def test_a_second_machine_joins_and_runs_a_users_work(drill: Stack, tmp_path: Path) -> None:
    drill.do("up")  # nothing to do after the drills before this one
    outputs = drill.outputs()
    url, authority = outputs["services"]["jupyter"], outputs["authority"]
    first = tmp_path / "first"
    first.mkdir()
    with browser(first, authority=authority, space=NAMESPACE) as chromium:
        chromium.login(url, outputs["user"], outputs["password"])
        assert chromium.run_cell("print(open('/home/jovyan/kept', 'w').write('kept'))") == "4"
    _change(drill, lambda config: config["vre:machines"].update({"workers": WORKER}))
    _change(drill, lambda config: config["vre:services"]["jupyter"].update({"users": ["bob"]}))
    drill.do("up")
    whole(drill, machines=2)
    control, worker = drill.machines()
    nodes = {each["metadata"]["name"]: each for each in control.objects("nodes")}
    assert set(nodes) == {"drill-control", WORKER_NAME}
    for node in nodes.values():
        assert {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"] == "True"
    assert _bob(drill, tmp_path / "second", "print(6 * 7)") == "42"
    assert [name for name in _users(control) if "bob" in name]
    third = tmp_path / "third"
    third.mkdir()
    with browser(third, authority=authority, space=NAMESPACE) as chromium:
        chromium.login(url, outputs["user"], outputs["password"])
        assert chromium.run_cell("print(open('/home/jovyan/kept').read())") == "kept"
    assert worker.root("cat", "/etc/vre/firewall.nft")


def _bob(drill: Stack, folder: Path, code: str) -> str:
    """Run a cell as the user who came with the second machine, and return what it prints."""
    outputs, control = drill.outputs(), drill.machines()[0]
    password = control.objects("secret", "accounts", "--namespace", "jupyter")[0]["data"]["bob"]
    folder.mkdir()
    with browser(folder, authority=outputs["authority"], space=NAMESPACE) as chromium:
        chromium.login(outputs["services"]["jupyter"], "bob", base64.b64decode(password).decode())
        return chromium.run_cell(code)


@pytest.mark.requirement("P-14", "P-76", "P-01", "H-34")
def test_between_machines_nothing_is_said_in_the_clear(drill: Stack, lab: Lab, tmp_path: Path) -> None:
    """A user's pod on one machine asks the hub on the other, by http: pods' traffic is the network's to encrypt."""
    control = drill.machines()[0]
    pod = _users(control)[0]
    asks = ("exec", "--namespace", "jupyter-users", pod, "--", "/opt/jupyter/bin/python", "-c", ASK, MARK)
    with capturing(lab.hypervisor, drill.link(WORKER_NAME), tmp_path / "between.pcap") as seen:
        assert control.kubectl(*asks).strip() == "404", "the hub answers, else it proves nothing"
    frames = seen.frames()
    assert MARK.encode() not in seen.raw()
    assert [frame for frame in frames if UDP in frame and frame[UDP].dport == WIREGUARD]
    said = first_words(frames)
    assert said
    assert [words for words in said.values() if not words.startswith((TLS_RECORD, SSH))] == []


@pytest.mark.requirement("P-38", "P-39", "P-23")
def test_one_of_two_that_has_to_reboot_is_drained_first_and_takes_pods_again(drill: Stack, say: Say) -> None:
    control, worker = drill.machines()
    told = json.loads(worker.root("cat", patches.SETTINGS))
    worker.root("tee", patches.SETTINGS, stdin=json.dumps({**told, "window": "00:00-24:00"}))
    worker.root("touch", "/run/reboot-required")
    before = worker.boot()
    assert _users(control), "else there is nothing to drain"
    say("a pretended upgrade of the kernel")
    worker.root("systemctl", "start", "--no-block", "vre-patch.service")
    patiently(lambda: _node(control)["spec"].get("unschedulable"), "it is cordoned")
    patiently(lambda: _lock(control).get("vre/holder") == WORKER_NAME, "it has its turn")
    patiently(lambda: _lock(control).get("vre/reboot-node") == WORKER_NAME, "its users are told")
    patiently(lambda: not _users(control), "users' pods have gone")
    assert worker.boot() in {before, ""}, "it was up again before it was drained"
    worker.hang_up()
    patiently(lambda: worker.boot() not in {"", before}, "it is up again")
    patiently(lambda: not _node(control)["spec"].get("unschedulable"), "it takes pods again")
    conditions = {each["type"]: each["status"] for each in _node(control)["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    patiently(lambda: not _lock(control).get("vre/holder"), "its turn is over")
    # The turn ends as soon as the node is ready; the run that goes on looks whether another reboot is wanted.
    patiently(lambda: "reboot" not in _patched(worker), "no reboot waits any more")
    assert "failure" not in _patched(worker)
    worker.root("tee", patches.SETTINGS, stdin=json.dumps(told))


def _patched(machine: Machine) -> dict[str, Any]:
    return dict(json.loads(machine.root("cat", "/var/lib/vre/patch.json")))


def _node(control: Machine) -> dict[str, Any]:
    return control.objects("node", WORKER_NAME)[0]


def _lock(control: Machine) -> dict[str, str]:
    found = control.objects("configmap", "vre-patch", "--namespace", "kube-system")[0]
    return dict(found["metadata"].get("annotations") or {})


def _users(control: Machine) -> list[str]:
    pods = control.objects("pods", "--namespace", "jupyter-users")
    return [pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName") == WORKER_NAME]


@pytest.mark.requirement("P-23")
def test_a_machine_that_goes_is_drained_first(drill: Stack, tmp_path: Path) -> None:
    """A user works on it, else there is nothing to drain: the reboot before has ended the servers there."""
    assert _bob(drill, tmp_path / "again", "print(6 * 7)") == "42"
    assert _users(drill.machines()[0])
    _change(drill, lambda config: config["vre:machines"].pop("workers"))
    ended = drill.do("up")
    assert f"draining {WORKER_NAME}" in ended.text
    assert "they end with the machine" not in ended.text, "it did not hear that it was to drain"
    whole(drill, machines=1)
    control = drill.machines()[0]
    assert [each["metadata"]["name"] for each in control.objects("nodes")] == ["drill-control"]
    # What every node runs (DaemonSets) the cluster clears away a minute after its node is gone.
    until(lambda: not _elsewhere(control), lambda: _elsewhere(control), seconds=240, pause=5)


def _elsewhere(control: Machine) -> dict[str, str]:
    pods = control.objects("pods", "--all-namespaces")
    places = {pod["metadata"]["name"]: str(pod["spec"].get("nodeName")) for pod in pods}
    return {name: node for name, node in places.items() if node not in {"drill-control", "None"}}


def _change(stack: Stack, change: Callable[[dict[str, dict[str, dict[str, object]]]], object]) -> None:
    file = stack.checkout.path / "stacks" / f"Pulumi.{stack.name}.yaml"
    text = yaml.safe_load(file.read_text())
    change(text["config"])
    file.write_text(yaml.safe_dump(text, sort_keys=False))
