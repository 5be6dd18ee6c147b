"""Newer container images are published: the daily upgrade takes them, pods are made from them, a launch keeps them."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.machine import daily
from tests.machine.conftest import Launch
from tests.machine.newer import newer
from tests.machine.stack import Machine, Say
from vre import image
from vre.artifacts import oci
from vre.artifacts.containers import Containers
from vre.artifacts.store import Store
from vre.packages import containers, repository
from vre.progress import silent

CHANGED = ("traefik", "jupyter-notebook")
"""One that an object names itself, and one that stands in a service's settings."""


@dataclass(frozen=True, kw_only=True)
class Newer:
    """What was there before, and what is published: short name -> reference."""

    before: Mapping[str, str]
    now: Mapping[str, str]
    published: daily.Published


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Newer:
    """A signed repository in which one image is another of the same tag, and one has the next patch level."""
    folder, built = tmp_path_factory.mktemp("newer"), image.build(Store(), silent)
    tags = {short: built.images[short].partition("@")[0].rpartition(":")[2] for short in CHANGED}
    head, _, patch = tags["jupyter-notebook"].rpartition(".")
    tags["jupyter-notebook"] = f"{head}.{int(patch) + 1}"
    references = newer(built, folder / "images", "newer", **tags)
    names = {short: each.partition("@")[0] for short, each in references.items()}
    digests = {short: each.partition("@")[2] for short, each in references.items()}
    layout, served = folder / "images" / "layout", folder / "served"
    made = Containers(layout=layout, names=names, digests=digests, key="newer")
    # The repository has no list yet: the machine's own one is of the same number, and this one is newer.
    package = containers.write(made, folder, f"{containers.version()}+newer")
    _blobs(layout, [digests[short] for short in CHANGED], served / containers.BLOBS)
    key = repository.publish([package], served, folder / "keys")
    return Newer(before=built.images, now=references, published=daily.packed(served, key))


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
