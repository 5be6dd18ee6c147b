"""A fixed container runtime is published: the daily upgrade takes it, and what runs in pods does not notice."""

from collections.abc import Iterator

import pytest

from tests.machine import daily
from tests.machine.conftest import Launch
from tests.machine.rebuilt import rebuilt
from tests.machine.stack import Machine, Say
from vre.artifacts.store import Store
from vre.image import check
from vre.packages import repository

RUNTIME = ("containerd", "runc")
FIXED = "+fixed1"
# Each container that runs, its first process, and the moment that one began: started anew it would be another.
CONTAINERS = """
for container in $(crictl ps --quiet); do
    first=$(crictl inspect --output go-template --template '{{.info.pid}}' "$container")
    echo "$container $(cut -d ' ' -f 1,22 "/proc/$first/stat")"
done
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> daily.Published:
    """A signed repository with both packages."""
    folder = tmp_path_factory.mktemp("runtime")
    with check.unpacked(Store()) as root:
        made = [rebuilt(root, name, FIXED, folder) for name in RUNTIME]
    return daily.packed(folder / "served", repository.publish(made, folder / "served", folder / "keys"))


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
    daily.take_away(site.control)


@pytest.mark.requirement("P-38", "H-04")
def test_a_fixed_runtime_is_taken_and_pods_live_on(
    control: Machine, notebook: str, published: daily.Published, say: Say
) -> None:
    known_before, running_before, runtime_before = restarts(control), running(control), main_process(control)
    assert any(each.startswith(notebook) for each in known_before.values())
    published.give(control)
    say("the daily upgrade, with a fixed container runtime")
    found = daily.upgrade(control)
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
