"""A fixed container runtime is published: the daily upgrade takes it, and what runs in pods does not notice."""

import base64
import io
import json
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.machine.conftest import Launch
from tests.machine.rebuilt import rebuilt
from tests.machine.repository import PLACE
from tests.machine.stack import Machine, Say
from vre.artifacts.store import Store
from vre.config import Patches
from vre.image import check
from vre.machine import patches
from vre.packages import repository

RUNTIME = ("containerd", "runc")
FIXED = "+fixed1"
FOLDER = "/srv/vre-packages"
PATIENCE = 900.0  # seconds
# Each container that runs, its first process, and the moment that one began: started anew it would be another.
CONTAINERS = """
for container in $(crictl ps --quiet); do
    first=$(crictl inspect --output go-template --template '{{.info.pid}}' "$container")
    echo "$container $(cut -d ' ' -f 1,22 "/proc/$first/stat")"
done
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A signed repository with both packages, as it is to lie on the machine: files there, by path, in base64."""
    folder = tmp_path_factory.mktemp("runtime")
    with check.unpacked(Store()) as root:
        made = [rebuilt(root, name, FIXED, folder) for name in RUNTIME]
    key = repository.publish(made, folder / "served", folder / "keys").read_text()
    told = patches.files(Patches(repository=PLACE), key, name="probe", alone=True, upgrade=True)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder / "served", arcname=FOLDER.lstrip("/"))
    return {
        "": base64.b64encode(packed.getvalue()).decode(),
        patches.SOURCES: told[patches.SOURCES].replace(PLACE, f"file://{FOLDER}/"),
        patches.KEY: told[patches.KEY],
    }


def restarts(machine: Machine) -> dict[str, str]:
    """Return how often each container of each pod was started anew, as the cluster has it."""
    return {
        each["containerID"]: f"{pod['metadata']['name']} {each['name']} {each['restartCount']}"
        for pod in machine.objects("pods", "--all-namespaces")
        for each in pod["status"].get("containerStatuses", [])
    }


def running(machine: Machine) -> list[str]:
    return sorted(machine.root("sh", "-c", CONTAINERS).splitlines())


def main_process(machine: Machine) -> str:
    return machine.root("systemctl", "show", "--property=MainPID", "--value", "containerd.service").strip()


@pytest.fixture
def control(site: Launch) -> Iterator[Machine]:
    """The machine, whose sources are its own again afterwards."""
    yield site.control
    site.control.root("rm", "-rf", patches.SOURCES, patches.KEY, FOLDER)


@pytest.mark.requirement("P-38", "H-04")
def test_a_fixed_runtime_is_taken_and_pods_live_on(
    control: Machine, notebook: str, published: dict[str, str], say: Say
) -> None:
    known_before, running_before, runtime_before = restarts(control), running(control), main_process(control)
    assert any(each.startswith(notebook) for each in known_before.values())
    control.root("sh", "-c", "base64 -d | tar -x -C /", stdin=published[""])
    for path in (patches.SOURCES, patches.KEY):
        control.root("tee", path, stdin=published[path])
    tried = _state(control).get("tried", "")
    say("the daily upgrade, with a fixed container runtime")
    control.root("systemctl", "start", "--no-block", "vre-patch.service")
    end = time.monotonic() + PATIENCE
    while _state(control).get("tried", "") == tried or _busy(control):
        assert time.monotonic() < end, _state(control)
        time.sleep(3)
    found = _state(control)
    assert "failure" not in found
    assert {each.split()[0] for each in found["changed"]["packages"]} >= set(RUNTIME)
    for name in RUNTIME:
        assert control.root("dpkg-query", "--show", "--showformat", "${Version}", name).endswith(FIXED)
        assert found["components"][name].endswith(FIXED)
    assert main_process(control) not in {"0", runtime_before}, "what runs is still the old one"
    assert running(control) == running_before
    assert restarts(control) == known_before
    shown = control.kubectl("exec", "--namespace", "jupyter-users", notebook, "--", "echo", "still here")
    assert shown == "still here\n"


def _state(machine: Machine) -> dict[str, Any]:
    """Return what the daily upgrade noted; nothing before its first run."""
    return dict(json.loads(machine.root("sh", "-c", "cat /var/lib/vre/patch.json 2> /dev/null || echo {}")))


def _busy(machine: Machine) -> bool:
    return machine.result("systemctl", "is-active", "vre-patch.service").stdout.strip() in {"active", "activating"}
