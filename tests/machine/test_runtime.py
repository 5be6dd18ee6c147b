"""A fixed container runtime is published: the daily upgrade takes it, and what runs in pods does not notice.

But for a pod with two shims (build/image/files/usr/lib/vre/shim says how that comes about), which is made here on
purpose: the new containerd ends it, the machine notes that, and the kubelet makes it anew.
"""

import time
from collections.abc import Iterable, Iterator

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
# The first process of each container that runs, and the moment that one began: started anew it would be another.
CONTAINERS = """
for container in $(crictl ps --quiet); do
    first=$(crictl inspect --output go-template --template '{{.info.pid}}' "$container")
    echo "$container $(cut -d ' ' -f 1,22 "/proc/$first/stat")"
done
"""
# The containers that have a shim of their own beside that of their pod.
SECOND = """
crictl pods --quiet --no-trunc > /run/vre-pods
ps -e -o args | sed -n 's/^[^ ]*containerd-shim-runc-v2 .*-id \\([0-9a-f]*\\) .*/\\1/p' | grep -vFf /run/vre-pods
rm /run/vre-pods
"""
# The pod's shim loses its address as it does when it is taken for dead, and its container is started anew.
SPLIT = """
pod=$(crictl pods --quiet --no-trunc --state Ready --name "$1")
socket=$(cut -d : -f 2 "/run/containerd/io.containerd.runtime.v2.task/k8s.io/$pod/address")
rm "${socket#//}"
crictl stop --timeout 0 $(crictl ps --quiet --pod "$pod")
"""
PATIENCE = 180.0  # seconds


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> daily.Published:
    """A signed repository with both packages."""
    folder = tmp_path_factory.mktemp("runtime")
    with check.unpacked(Store()) as root:
        made = [rebuilt(root, name, FIXED, folder) for name in RUNTIME]
    return daily.packed(folder / "served", repository.publish(made, folder / "served", folder / "keys"))


def running(machine: Machine) -> dict[str, set[str]]:
    """Return what runs in each pod (`namespace/name`): each container, how often it was started anew, its process."""
    first = dict(line.split(" ", 1) for line in machine.root("sh", "-c", CONTAINERS).splitlines())
    return {
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": {
            f"{identity} {each['restartCount']} {first.get(identity)}"
            for each in pod["status"].get("containerStatuses", [])
            if (identity := each.get("containerID", "").rpartition("/")[2])
        }
        for pod in machine.objects("pods", "--all-namespaces")
    }


def split(machine: Machine) -> set[str]:
    """Return the pods (`namespace/name`) of which a container has a shim of its own."""
    second = machine.root("sh", "-c", SECOND).split()
    return {pod for pod, each in running(machine).items() if any(told.startswith(tuple(second)) for told in each)}


def is_back(machine: Machine, pod: str) -> bool:
    namespace, _, name = pod.partition("/")
    [found] = machine.objects("pods", name, "--namespace", namespace)
    return all(each["ready"] for each in found["status"].get("containerStatuses", []))


def wait_for(machine: Machine, pods: Iterable[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not all(is_back(machine, pod) for pod in pods):
        assert time.monotonic() < end, f"{pods} did not come back"
        time.sleep(3)


def main_process(machine: Machine) -> str:
    return machine.root("systemctl", "show", "--property=MainPID", "--value", "containerd.service").strip()


@pytest.fixture
def control(site: Launch) -> Iterator[Machine]:
    """The machine, whose sources are its own again afterwards."""
    yield site.control
    daily.take_away(site.control)


@pytest.fixture
def torn(control: Machine) -> str:
    """A pod with two shims: one for the pod, another at its address for the container."""
    [pod] = [pod for pod in running(control) if pod.startswith("storage/")]
    control.root("sh", "-c", SPLIT, "sh", pod.partition("/")[2])
    end = time.monotonic() + PATIENCE
    while pod not in split(control):
        assert time.monotonic() < end, f"{pod} has one shim"
        time.sleep(3)
    wait_for(control, [pod])
    return pod


@pytest.mark.requirement("P-38", "H-04")
def test_a_fixed_runtime_is_taken_and_pods_live_on(
    control: Machine, notebook: str, torn: str, published: daily.Published, say: Say
) -> None:
    before, runtime_before, ends = running(control), main_process(control), split(control)
    if others := ends - {torn}:
        say(f"with two shims, too: {', '.join(sorted(others))}")
    users = f"jupyter-users/{notebook}"
    assert before[users]
    assert users not in ends
    published.give(control)
    say("the daily upgrade, with a fixed container runtime")
    found = daily.upgrade(control)
    assert "failure" not in found
    assert {each.split()[0] for each in found["changed"]["packages"]} >= set(RUNTIME)
    for name in RUNTIME:
        assert control.root("dpkg-query", "--show", "--showformat", "${Version}", name).endswith(FIXED)
        assert found["components"][name].endswith(FIXED)
    assert main_process(control) not in {"0", runtime_before}, "what runs is still the old one"
    assert set(found["lost"]["pods"]) == ends
    after = running(control)
    assert {pod: each for pod, each in after.items() if pod not in ends} == {
        pod: each for pod, each in before.items() if pod not in ends
    }
    shown = control.kubectl("exec", "--namespace", "jupyter-users", notebook, "--", "echo", "still here")
    assert shown == "still here\n"
    wait_for(control, ends)


@pytest.mark.requirement("P-38")
def test_what_begins_a_shim_is_ours(control: Machine) -> None:
    told = control.root(
        "sh", "-c", "for each in /run/containerd/*/k8s.io/*/shim-binary-path; do sed 's/$/\\n/' $each; done"
    )
    assert set(told.split()) == {"/usr/lib/vre/shim"}
