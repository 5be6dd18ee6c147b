"""Another patch level of the control plane: when, how, and what runs afterwards where it does not get ready."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import controlplane
import pytest
import renew
import rollout
import turn
from controlplane import ControlPlane, Places

from vre.cluster import kubeadm

DIGEST = f"@sha256:{'a' * 64}"
PROXY = rollout.KINDS["DaemonSet"].format("kube-system", "kube-proxy")
MANIFEST = "kind: Pod\nimage: localhost/vre/{}:{}\n"


def images(kubernetes: str = "v1.36.4", etcd: str = "3.6.8-0") -> dict[str, str]:
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
    tags = {**dict.fromkeys(names, kubernetes), "etcd": etcd, "traefik": "3.6.1"}
    return {name: f"localhost/vre/{name}:{tag}{DIGEST}" for name, tag in tags.items()}


def settings(kubernetes: str = "v1.36.3", etcd: str = "3.6.8-0") -> str:
    versions = kubeadm.Versions(kubernetes=kubernetes, etcd=etcd)
    return kubeadm.first(kubeadm.Control(name="one", address="192.168.77.10", cluster="x", versions=versions))


@dataclass
class Machine:
    """A control machine: files, kubeadm that writes static pods, a kubelet that runs them, but none of `broken`."""

    root: Path
    broken: str = "none"
    fails: str = "none"
    there: set[str] = field(default_factory=lambda: set(images().values()))
    did: list[str] = field(default_factory=list)
    now: datetime = datetime(2026, 11, 28, tzinfo=UTC)
    proxy: str = "v1.36.3"

    def __post_init__(self) -> None:
        self.places = Places(root=self.root)
        self.places.manifests.mkdir(parents=True)
        self.places.settings.write_text(settings())
        self.write(settings())

    def write(self, text: str) -> None:
        tags = controlplane.tags(text)
        for name in controlplane.COMPONENTS:
            tag = tags.get(name, tags["kube-apiserver"])
            (self.places.manifests / f"{name}.yaml").write_text(MANIFEST.format(name, tag))

    def run(self, *words: str) -> None:
        self.did.append(" ".join(words[3:5]))
        if self.fails in words:
            raise OSError("kubeadm ended with 1")
        text = Path(words[-1]).read_text()
        if words[3] == "control-plane":
            self.write(text)
        if words[3] == "addon":
            self.proxy = controlplane.tags(text)["kube-apiserver"]

    def request(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        assert method == "GET"
        runs = {file.stem: file.read_text().split()[-1] for file in self.places.manifests.glob("*.yaml")}
        if any(self.broken in image for image in runs.values()):
            raise turn.Unreachable("connection refused")
        if path == "/api/v1/nodes":
            names = [renew.both(each)[1] for each in self.there]
            return {"items": [{"metadata": {"name": "one"}, "status": {"images": [{"names": names}]}}]}
        if path == PROXY:
            counts = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
            about = {"name": "kube-proxy", "namespace": "kube-system"}
            return {"metadata": about, "spec": {}, "status": dict.fromkeys(counts, 1)}
        assert path == controlplane.PODS
        return {
            "items": [
                {
                    "metadata": {"labels": {"component": name}},
                    "spec": {"containers": [{"image": image}]},
                    "status": {"containerStatuses": [{"ready": True}]},
                }
                for name, image in runs.items()
            ]
        }

    def bring(self, wanted: dict[str, str], run: Callable[..., Any] | None = None) -> list[str]:
        def pause(seconds: float) -> None:
            self.now += timedelta(seconds=seconds)

        api = cast("turn.Api", self)
        cluster = rollout.Cluster(api=api, say=lambda _: None, clock=lambda: self.now, pause=pause)
        plane = ControlPlane(places=self.places, cluster=cluster, run=run or self.run)
        return plane.bring(wanted, self.now + timedelta(minutes=15))

    @property
    def runs(self) -> set[str]:
        return {file.read_text().rpartition(":")[2].strip() for file in self.places.manifests.glob("kube-*.yaml")}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(root=tmp_path)


@pytest.mark.requirement("P-38", "P-40", "H-05")
def test_a_patch_level_is_taken_by_kubeadms_own_means(machine: Machine) -> None:
    assert machine.bring(images()) == ["kube-apiserver v1.36.4"]
    assert machine.runs == {"v1.36.4"}
    assert machine.proxy == "v1.36.4"
    assert machine.places.settings.read_text() == settings("v1.36.4")
    assert machine.did == ["etcd local", "control-plane all", "addon kube-proxy", "upload-config all"]
    assert not machine.places.former.exists()
    assert not machine.places.next.exists()
    machine.did.clear()
    assert machine.bring(images()) == []
    assert machine.did == []


@pytest.mark.parametrize(
    ("kubernetes", "etcd", "becomes"),
    [
        ("v1.36.4", "3.6.9-0", ("v1.36.4", "3.6.9-0")),
        ("v1.36.3", "3.6.8-1", ("v1.36.3", "3.6.8-1")),
        ("v1.37.0", "3.7.0-0", ("v1.36.3", "3.6.8-0")),
        ("v1.36.2", "3.6.7-0", ("v1.36.3", "3.6.8-0")),
        ("v1.36.10", "3.6.8-0", ("v1.36.10", "3.6.8-0")),
    ],
)
def test_only_higher_patch_levels_are_taken(kubernetes: str, etcd: str, becomes: tuple[str, str]) -> None:
    assert controlplane.raised(settings(), images(kubernetes, etcd)) == settings(*becomes)


def test_nothing_is_done_before_every_machine_has_the_proxy(machine: Machine) -> None:
    machine.there = {each for each in machine.there if "kube-proxy" not in each}
    with pytest.raises(rollout.Waits, match="one lacks localhost/vre/kube-proxy"):
        machine.bring(images())
    assert machine.did == []


@pytest.mark.requirement("H-20")
@pytest.mark.parametrize(("broken", "fails"), [("v1.36.4", "none"), ("none", "addon"), ("none", "control-plane")])
def test_what_does_not_get_ready_is_put_back(machine: Machine, broken: str, fails: str) -> None:
    machine.broken, machine.fails = broken, fails

    def run(*words: str) -> None:
        if words[-1] == str(machine.places.settings):
            machine.fails = "none"  # kubeadm does what it did before
        machine.run(*words)

    with pytest.raises(rollout.NotReady, match="the former control plane is back"):
        machine.bring(images(), run)
    assert machine.runs == {"v1.36.3"}
    assert machine.proxy == "v1.36.3"
    assert machine.places.settings.read_text() == settings()
    assert not machine.places.former.exists()


def test_a_run_that_was_broken_off_is_done_again_and_can_still_be_put_back(machine: Machine) -> None:
    class Off(BaseException):
        pass

    def off(*words: str) -> None:
        machine.run(*words)
        if words[3] == "control-plane":
            raise Off

    with pytest.raises(Off):
        machine.bring(images(), off)
    assert machine.runs == {"v1.36.4"}
    machine.broken = "v1.36.5"
    with pytest.raises(rollout.NotReady):
        machine.bring(images("v1.36.5") | {"kube-proxy": images()["kube-proxy"]})
    assert machine.runs == {"v1.36.3"}


def test_a_launch_from_an_older_checkout_does_not_take_it_back() -> None:
    told, live = settings(), settings("v1.36.5", "3.6.9-0")
    assert kubeadm.kept(told, live) == live
    assert kubeadm.kept(live, told) == live
    assert kubeadm.kept(settings("v1.37.0"), live) == settings("v1.37.0", "3.6.9-0")
