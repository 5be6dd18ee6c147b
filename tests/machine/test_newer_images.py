"""Newer container images are published: the daily upgrade takes them, pods are made from them, a launch keeps them."""

import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.machine import daily
from tests.machine.conftest import Launch
from tests.machine.lab import Host
from tests.machine.newer import newer
from tests.machine.stack import Machine, Say
from vre import image
from vre.artifacts import oci
from vre.artifacts.containers import Containers
from vre.artifacts.store import Store
from vre.packages import containers, repository
from vre.progress import silent

ASK = ("curl", "--silent", "--insecure", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "60")
LAYER = {"newer": b"newer"}
PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")


@dataclass(frozen=True, kw_only=True)
class Newer:
    """What was there before, and what is published: short name -> reference."""

    before: Mapping[str, str]
    now: Mapping[str, str]
    published: daily.Published


def publish(
    folder: Path, mark: str, tags: Mapping[str, str], layer: Mapping[str, bytes], there: Collection[str] = ()
) -> Newer:
    """Make a signed repository in which these images (short name -> tag) have that layer, too, and these tags.

    What is of those that the machine has already is not in it.
    """
    built = image.build(Store(), silent)
    references = newer(built, folder / "images", tags, layer)
    names = {short: each.partition("@")[0] for short, each in references.items()}
    digests = {short: each.partition("@")[2] for short, each in references.items()}
    layout, served = folder / "images" / "layout", folder / "served"
    made = Containers(layout=layout, names=names, digests=digests, key=mark)
    # The repository has no list yet: the machine's own one is of the same number, and this one is newer.
    package = containers.write(made, folder, f"{containers.version()}+{mark}")
    _blobs(layout, [digests[short] for short in tags if short not in there], served / containers.BLOBS)
    key = repository.publish([package], served, folder / "keys")
    return Newer(before=built.images, now=references, published=daily.packed(served, key))


def tag(short: str, *, higher: int = 0) -> str:
    """Return an image's tag, its patch level so much higher."""
    head, _, patch = image.build(Store(), silent).images[short].partition("@")[0].rpartition(":")[2].rpartition(".")
    return f"{head}.{int(patch) + higher}"


def newer_tags() -> dict[str, str]:
    """Return one that an object names itself, with its own tag; and one that stands in settings, a level higher."""
    return {"traefik": tag("traefik"), "jupyter-notebook": tag("jupyter-notebook", higher=1)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Newer:
    """A repository in which one image is another of the same tag, and one has the next patch level."""
    return publish(tmp_path_factory.mktemp("newer"), "newer", newer_tags(), LAYER)


def _blobs(layout: Path, digests: list[str], target: Path) -> None:
    """Put there what these images are made of, and nothing of the others: nobody asks for it."""
    target.mkdir(parents=True)
    for blob in {each for digest in digests for each in oci.blobs(layout, digest)}:
        name = blob.partition(":")[2]
        shutil.copyfile(layout / "blobs" / "sha256" / name, target / name)


@pytest.fixture
def control(site: Launch) -> Iterator[Machine]:
    """The machine, whose sources are its own again afterwards."""
    yield site.control
    daily.take_away(site.control)


def pods(machine: Machine, space: str) -> dict[str, str]:
    """Return each pod's identity -> the image of its first container."""
    found = machine.objects("pods", "--namespace", space)
    return {pod["metadata"]["uid"]: pod["spec"]["containers"][0]["image"] for pod in found}


@pytest.mark.requirement("P-38", "P-40", "H-05", "H-20")
def test_newer_container_images_come_by_themselves_and_stay(
    site: Launch, control: Machine, notebook: str, made: Newer, say: Say
) -> None:
    users, doors = pods(control, "jupyter-users"), pods(control, "ingress")
    assert made.before["traefik"] in doors.values()
    made.published.give(control)
    say("the daily upgrade, with newer container images")
    found = daily.upgrade(control)
    assert "failure" not in found
    assert set(found["rolled"]["objects"]) == {
        "ConfigMap jupyter/hub", "Deployment jupyter/hub", "DaemonSet ingress/traefik"
    }  # fmt: skip
    now = pods(control, "ingress")
    assert set(now.values()) == {made.now["traefik"]}
    assert not set(now) & set(doors)
    assert pods(control, "jupyter-users") == users  # whoever works there notices nothing
    assert control.kubectl("exec", "--namespace", "jupyter-users", notebook, "--", "echo", "here") == "here\n"
    settings = control.kubectl("get", "configmap", "hub", "--namespace", "jupyter", "--output", "yaml")
    assert made.now["jupyter-notebook"] in settings
    assert made.before["jupyter-notebook"] not in settings
    say("pulumi up, from a checkout that has the former ones")
    site.stack.do("up", "--refresh", "--expect-no-changes")
    assert pods(control, "ingress") == now


@pytest.mark.drill
@pytest.mark.requirement("H-20", "P-40")
def test_an_image_that_does_not_start_is_put_back(
    site: Launch, control: Machine, outside: Host, tmp_path: Path, say: Say
) -> None:
    """The door opens again with the image that it had, without anybody's help."""
    doors = pods(control, "ingress")
    wrong = {"usr/local/bin/traefik": b"no program"}
    broken = publish(tmp_path, "zbroken", {"traefik": tag("traefik")}, wrong)
    broken.published.give(control)
    say("the daily upgrade, with an image that does not start")
    found = daily.upgrade(control)
    assert "the former images are back" in found["failure"]["said"]
    assert set(pods(control, "ingress").values()) == set(doors.values())
    assert outside.run(*ASK, f"https://{control.address}/jupyter/hub/login").startswith("200")
    say("pulumi up")
    site.stack.do("up", "--refresh", "--expect-no-changes")


@pytest.mark.drill
@pytest.mark.requirement("P-38", "P-40", "H-05")
def test_another_patch_level_of_the_control_plane_is_taken_and_stays(
    site: Launch, control: Machine, made: Newer, tmp_path: Path, say: Say
) -> None:
    """Its version stands in kubeadm's settings. A launch that has the former one takes nothing back."""
    higher = tag("kube-apiserver", higher=1)
    tags = {**dict.fromkeys(PLANE, higher), **newer_tags()}
    levels = publish(tmp_path, "zzhigher", tags, LAYER, there=("jupyter-notebook",))
    levels.published.give(control)
    say(f"the daily upgrade, with Kubernetes {higher}")
    found = daily.upgrade(control)
    assert levels.now["traefik"] == made.now["traefik"]
    assert "failure" not in found
    assert found["followed"]["versions"] == [f"kube-apiserver {higher}"]
    runs = {
        pod["spec"]["containers"][0]["image"].partition("@")[0]
        for pod in control.objects("pods", "--namespace", "kube-system")
        if pod["metadata"]["labels"].get("tier") == "control-plane" or "kube-proxy" in pod["metadata"]["name"]
    }
    assert {each for each in runs if "etcd" not in each} == {levels.now[short].partition("@")[0] for short in PLANE}
    assert higher in control.root("cat", "/etc/kubernetes/kubeadm.yaml")
    say("pulumi up, from a checkout that has the former ones")
    site.stack.do("up", "--refresh", "--expect-no-changes")
