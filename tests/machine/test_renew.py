"""A running machine takes newer container images: nothing stops, and the cluster's own start anew from them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine.newer import newer
from tests.patience import until
from vre import image
from vre.artifacts.store import Store
from vre.image import boot
from vre.machine.ssh import Connection, File, Shell, wait
from vre.progress import silent
from vre.provider.handler import Context
from vre.provider.images import Images

# No API server: the kubelet by itself runs the pods that lie in a folder.
KUBELET = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
staticPodPath: /run/standing/pods
enableServer: false
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: default}}
spec:
  hostNetwork: true
  containers: [{{name: {name}, image: "{image}", imagePullPolicy: Never}}]
"""


@pytest.fixture(scope="module")
def built() -> image.Image:
    return image.build(Store(), silent)


@pytest.fixture(scope="module")
def shell(built: image.Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with boot.boot(built.path, tmp_path_factory.mktemp("renew"), silent) as guest:
        connection = Connection(
            address="127.0.0.1", port=guest.port, host_keys=(guest.host.public,), identity=str(guest.key)
        )
        with wait(connection, Context(), timeout=900) as opened:
            opened.run(["cloud-init", "status", "--wait"], timeout=600)
            yield opened


def inputs(shell: Shell, built: image.Image, images: dict[str, str], layout: Path) -> dict[str, Any]:
    there = shell.connection
    connection = {
        "address": there.address, "port": there.port, "hostKeys": list(there.host_keys), "identity": there.identity
    }  # fmt: skip
    return {"machine": "m", "connection": connection, "images": images, "layout": str(layout)}


def names(shell: Shell) -> dict[str, tuple[str, bool]]:
    """Return each name by which the kubelet finds an image -> its id, and whether it is never cleaned away."""
    listed = json.loads(shell.run(["crictl", "images", "--output", "json"], sudo=True))["images"]
    return {name: (each["id"], each["pinned"]) for each in listed for name in (*each["repoTags"], *each["repoDigests"])}


def by_digest(reference: str) -> str:
    return re.sub(r":[^:@/]+@", "@", reference)


@pytest.mark.requirement("P-40", "H-05", "H-20")
@pytest.mark.drill
def test_a_newer_image_comes_beside_the_one_that_runs(built: image.Image, shell: Shell, tmp_path: Path) -> None:
    said: list[str] = []
    context, handler = Context(report=said.append), Images()
    _, state = handler.create(context, inputs(shell, built, dict(built.images), built.layout))
    assert said == []
    tag = built.images["traefik"].partition("@")[0]
    before = names(shell)
    one = newer(built, tmp_path / "one", {"traefik": tag.rpartition(":")[2]}, {"newer": b"first"})
    state = handler.update(context, "m", state, inputs(shell, built, one, tmp_path / "one/layout"))
    assert any(line.startswith("sending container images:") for line in said)
    now = names(shell)
    assert now[tag] == now[by_digest(one["traefik"])]
    assert now[tag] != before[tag]
    assert now[by_digest(built.images["traefik"])] == before[tag]
    assert all(pinned for _, pinned in now.values())
    found = handler.read(context, "m", state)
    assert found is not None
    assert found.inputs["images"] == one
    # What was replaced goes with the next change. A restart of containerd loses nothing.
    two = newer(built, tmp_path / "two", {"traefik": tag.rpartition(":")[2]}, {"newer": b"second"})
    handler.update(context, "m", state, inputs(shell, built, two, tmp_path / "two/layout"))
    shell.run(["systemctl", "restart", "containerd.service"], sudo=True)
    last = names(shell)
    assert by_digest(built.images["traefik"]) not in last
    assert last[by_digest(one["traefik"])] == now[tag]
    assert last[tag] == last[by_digest(two["traefik"])]
    assert not shell.exists("/var/tmp/vre-images.tar")


@pytest.mark.requirement("P-40", "H-05", "H-20")
@pytest.mark.drill
def test_a_container_whose_pod_names_a_tag_is_started_anew_from_it(
    built: image.Image, shell: Shell, tmp_path: Path
) -> None:
    handler, tag = Images(), built.images["pause"].partition("@")[0]
    _, state = handler.create(Context(), inputs(shell, built, dict(built.images), built.layout))
    shell.put(
        File(path="/run/standing/kubelet.yaml", content=KUBELET.encode()),
        File(path="/run/standing/pods/one.yaml", content=POD.format(name="by-tag", image=tag).encode()),
        File(
            path="/run/standing/pods/two.yaml",
            content=POD.format(name="by-digest", image=built.images["pause"]).encode(),
        ),
    )
    shell.run(["systemctl", "stop", "kubelet.service"], sudo=True)
    shell.run(["systemd-run", "--unit=standing", "kubelet", "--config=/run/standing/kubelet.yaml"], sudo=True)
    try:
        old = names(shell)[tag][0]
        until(
            lambda: images_of(shell) == {"by-tag": old, "by-digest": old}, lambda: running(shell), seconds=600, pause=1
        )
        before = running(shell)
        newest = newer(built, tmp_path, {"pause": tag.rpartition(":")[2]}, {"newer": b"newest"})
        handler.update(Context(), "m", state, inputs(shell, built, newest, tmp_path / "layout"))
        new = names(shell)[tag][0]
        assert new != old
        until(
            lambda: images_of(shell) == {"by-tag": new, "by-digest": old}, lambda: running(shell), seconds=600, pause=1
        )
        assert running(shell)["by-digest"]["id"] == before["by-digest"]["id"]
    finally:
        shell.run(["systemctl", "stop", "standing.service"], sudo=True)


def images_of(shell: Shell) -> dict[str, str]:
    """Return the containers that run: the name of each -> the id of its image."""
    return {name: each["imageRef"] for name, each in running(shell).items()}


def running(shell: Shell) -> dict[str, dict[str, Any]]:
    """Return the containers that run, by name."""
    listed = json.loads(shell.run(["crictl", "ps", "--state", "Running", "--output", "json"], sudo=True))["containers"]
    return {each["metadata"]["name"]: each for each in listed}
