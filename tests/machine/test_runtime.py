"""A fixed container runtime is published: the daily upgrade takes it, and what runs in pods does not notice.

But for a pod with two shims, which is made here on purpose: the new containerd ends it, the machine notes that, and the
kubelet makes it anew. build/image/files/usr/lib/vre/shim says how that comes about, and sees that it does not.
"""

from collections.abc import Iterator

import pytest

from tests.machine import daily
from tests.machine.conftest import Launch
from tests.machine.rebuilt import rebuilt
from tests.machine.stack import Machine, Say
from tests.patience import until
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
# Of a pod: "address" has where its shim is, "stop" ends its container, which is started anew.
POD = """
pod=$(crictl pods --quiet --no-trunc --state Ready --namespace "$1" --name "$2")
address() { cut -d : -f 2 "/run/containerd/io.containerd.runtime.v2.task/k8s.io/$pod/address" | sed 's,^//,,'; }
stop() { crictl stop --timeout 0 $(crictl ps --quiet --pod "$pod"); }
"""
SHIM = "/usr/bin/containerd-shim-runc-v2"
PLACE = "/opt/vre-test-shim"
# Takes the address of its pod's shim, as one that could not ask in time.
HASTY = f"""#!/bin/sh
for word; do :; done
if [ "$word" = start ]; then
    pod=$(sed -n 's/.*"io.kubernetes.cri.sandbox-id":"\\([0-9a-f]*\\)".*/\\1/p' config.json)
    read -r address < "../$pod/address"
    rm -f "${{address#unix://}}"
fi 2> /dev/null
exec {PLACE}/{SHIM.rpartition("/")[2]} "$@"
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


def wait_for(machine: Machine, pod: str) -> None:
    until(lambda: is_back(machine, pod), f"{pod} is back", seconds=PATIENCE, pause=3)


def main_process(machine: Machine) -> str:
    return machine.root("systemctl", "show", "--property=MainPID", "--value", "containerd.service").strip()


@pytest.fixture
def control(site: Launch) -> Iterator[Machine]:
    """The machine, whose sources are its own again afterwards."""
    yield site.control
    daily.take_away(site.control)


def told(machine: Machine, pod: str, words: str) -> str:
    """Run words of POD's for a pod (`namespace/name`)."""
    return machine.root("sh", "-c", POD + words, "sh", *pod.split("/"))


def anew(machine: Machine, pod: str, words: str = "stop") -> None:
    """Have the container of a pod started anew, and wait for it."""
    before = running(machine)[pod]
    told(machine, pod, words)
    what = f"the container of {pod} is started anew"
    until(lambda: not running(machine)[pod] & before and is_back(machine, pod), what, seconds=PATIENCE, pause=3)


@pytest.fixture
def torn(control: Machine) -> str:
    """A pod with two shims: one for the pod, another at its address for the container."""
    [pod] = [pod for pod in running(control) if pod.startswith("storage/")]
    anew(control, pod, 'rm "$(address)"\nstop')
    assert pod in split(control)
    return pod


@pytest.fixture
def mended(control: Machine) -> str:
    """A pod whose container's shim could not ask in time whether there is one already."""
    [pod] = [pod for pod in running(control) if pod.startswith("kube-system/coredns")]
    control.root("sh", "-c", f"mkdir -p {PLACE} && cp {SHIM} {PLACE} && cat > {PLACE}/hasty", stdin=HASTY)
    control.root("sh", "-c", f"chmod 755 {PLACE}/hasty && mount --bind {PLACE}/hasty {SHIM}")
    try:
        before = told(control, pod, 'stat --format %i "$(address)"')
        anew(control, pod)
        assert told(control, pod, 'stat --format %i "$(address)"') == before, "its shim lost its address"
        said = control.root("journalctl", "--identifier=vre-shim", "--since=-5min", "--output=cat")
        assert "is its own again" in said
    finally:
        control.root("umount", SHIM)
        control.root("rm", "-r", PLACE)
    return pod


@pytest.mark.requirement("P-38", "H-04")
def test_a_fixed_runtime_is_taken_and_pods_live_on(
    control: Machine, notebook: str, mended: str, torn: str, published: daily.Published, say: Say
) -> None:
    before, runtime_before = running(control), main_process(control)
    assert before.keys() > {mended, torn, f"jupyter-users/{notebook}"}
    assert split(control) == {torn}
    published.give(control)
    say("the daily upgrade, with a fixed container runtime")
    found = daily.upgrade(control)
    assert "failure" not in found
    assert {each.split()[0] for each in found["changed"]["packages"]} >= set(RUNTIME)
    for name in RUNTIME:
        assert control.root("dpkg-query", "--show", "--showformat", "${Version}", name).endswith(FIXED)
        assert found["components"][name].endswith(FIXED)
    assert main_process(control) not in {"0", runtime_before}, "what runs is still the old one"
    assert found["lost"]["pods"] == [torn]
    after = running(control)
    assert {**after, torn: set()} == {**before, torn: set()}
    shown = control.kubectl("exec", "--namespace", "jupyter-users", notebook, "--", "echo", "still here")
    assert shown == "still here\n"
    wait_for(control, torn)


@pytest.mark.requirement("P-38")
def test_what_begins_a_shim_is_ours(control: Machine) -> None:
    places = control.root(
        "sh", "-c", "for each in /run/containerd/*/k8s.io/*/shim-binary-path; do sed 's/$/\\n/' $each; done"
    )
    assert set(places.split()) == {"/usr/lib/vre/shim"}
