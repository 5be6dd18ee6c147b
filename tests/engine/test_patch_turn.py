"""What a node may do with its kubelet's credentials, asked of a real API server: its turn, its cordon, its pods."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import patching
import pytest
import turn
import yaml

from tests.patience import until
from tests.unit.test_services import made
from vre.artifacts import golang
from vre.template import render_template

RULES = Path(turn.__file__).parents[6] / "vre" / "cluster" / "manifests" / "patch.yaml"
CONFIG = """
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: 192.0.2.10, bindPort: {port}}}
nodeRegistration: {{name: {node}, criSocket: "unix:///run/containerd/containerd.sock"}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: {version}
controlPlaneEndpoint: 127.0.0.1:{port}
encryptionAlgorithm: ECDSA-P256
certificatesDir: {folder}/pki
"""


class Cluster:
    """etcd and an API server with the authorizers and the admission of ours, on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs, etcd = golang.program("kubernetes"), golang.program("etcd")
        self.port, client, peer = (_free_port() for _ in range(3))
        version = subprocess.run([self.programs / "kubelet", "--version"], capture_output=True, text=True, check=True)
        self.version = version.stdout.split()[-1]
        for name in ("one", "two"):
            self._kubeadm(name, "kubeconfig", "kubelet", "--kubeconfig-dir", folder / name)
        self._kubeadm("one", "kubeconfig", "super-admin", "--kubeconfig-dir", folder)
        own = f"http://127.0.0.1:{client}"
        self.running = [
            self._start(
                etcd / "etcd", f"--data-dir={folder}/etcd",
                f"--listen-client-urls={own}", f"--advertise-client-urls={own}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}", f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}", "--unsafe-no-fsync", "--logger=zap",
            ),
            self._start(
                self.programs / "kube-apiserver", f"--etcd-servers={own}", f"--secure-port={self.port}",
                "--bind-address=127.0.0.1", "--advertise-address=192.0.2.10", "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction", "--disable-admission-plugins=ServiceAccount",
                f"--client-ca-file={folder}/pki/ca.crt",
                f"--tls-cert-file={folder}/pki/apiserver.crt", f"--tls-private-key-file={folder}/pki/apiserver.key",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-key-file={folder}/pki/sa.pub",
                f"--service-account-signing-key-file={folder}/pki/sa.key", "--service-cluster-ip-range=10.96.0.0/16",
            ),
        ]  # fmt: skip

    def _start(self, *words: str | Path) -> "subprocess.Popen[bytes]":
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(list(map(str, words)), stdout=log, stderr=log)

    def _kubeadm(self, node: str, *phase: str | Path) -> None:
        config = self.folder / f"{node}.yaml"
        config.write_text(CONFIG.format(port=self.port, node=node, version=self.version, folder=self.folder))
        program: list[str] = [str(self.programs / "kubeadm"), "init", "phase"]
        if not (self.folder / "pki").exists():
            for part in ("ca", "apiserver", "front-proxy-ca", "sa"):
                only = [] if part == "sa" else ["--config", str(config)]
                where = ["--cert-dir", str(self.folder / "pki")] if part == "sa" else []
                subprocess.run([*program, "certs", part, *only, *where], check=True, capture_output=True)
        subprocess.run([*program, *map(str, phase), "--config", str(config)], check=True, capture_output=True)

    def kubectl(self, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        command = [str(self.programs / "kubectl"), f"--kubeconfig={self.folder}/super-admin.conf", *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    def apply(self, *objects: Any) -> None:
        done = self.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))
        assert done.returncode == 0, done.stderr

    def get(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", *words, "-o", "json").stdout)
        return found

    def node(self, name: str) -> turn.Node:
        file = self.folder / name / "kubelet.conf"
        file.write_text(file.read_text().replace("https://192.0.2.10:", "https://127.0.0.1:"))
        api = turn.api(self.folder, file, self.folder / "none")
        assert api is not None
        return turn.Node(name=name, api=api, boot="b", say=print, pause=lambda _: None)

    def stop(self) -> None:
        for each in reversed(self.running):
            each.terminate()
            each.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    made = Cluster(folder)
    try:
        until(
            lambda: not made.kubectl("get", "--raw", "/readyz").returncode,
            lambda: (folder / "log").read_text()[-3000:],
            seconds=240,
            pause=1,
        )
        for name in ("one", "two"):
            made.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        made.apply(*yaml.safe_load_all(render_template(RULES)))
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)


def pod(name: str, node: str, **labels: str) -> dict[str, Any]:
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "none"}], "terminationGracePeriodSeconds": 0}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": spec,
    }


def soon() -> datetime:
    return datetime.now(UTC)


@pytest.mark.requirement("P-23")
def test_it_is_one_nodes_turn_and_then_the_others(cluster: Cluster) -> None:
    one, two = cluster.node("one"), cluster.node("two")
    one.take(soon())
    with pytest.raises(turn.TooLong, match="turn of one"):
        two.take(soon())
    two.give_back()  # not its own: nothing happens
    with pytest.raises(turn.TooLong, match="turn of one"):
        two.take(soon())
    one.keep()
    one.give_back()
    two.take(soon())
    two.give_back()


@pytest.mark.requirement("P-23")
def test_a_machine_not_heard_of_for_an_hour_has_had_its_turn(cluster: Cluster) -> None:
    cluster.node("one").take(soon())
    two = cluster.node("two")
    two.clock = lambda: datetime.now(UTC) + timedelta(minutes=61)
    two.take(soon())
    assert turn._notes(two.api.request("GET", turn.LOCK))["vre/holder"] == "two"
    two.give_back()


def test_of_two_that_read_the_same_one_is_refused(cluster: Cluster) -> None:
    one, two = cluster.node("one"), cluster.node("two")
    lock = one.api.request("GET", turn.LOCK)
    two.take(soon())
    with pytest.raises(turn.ApiError) as refused:
        one._hold(lock, "one")
    assert refused.value.status == 409
    two.give_back()


@pytest.mark.requirement("P-39", "P-50")
def test_a_note_of_a_node_is_read_by_the_hub_which_may_read_nothing_else_there(cluster: Cluster) -> None:
    objects = made("jupyter")
    cluster.apply(*(each for each in objects if each["kind"] in ("Namespace", "ServiceAccount")))
    cluster.apply(*(each for each in objects if each["kind"] in ("Role", "RoleBinding")))
    one = cluster.node("one")
    one.take(soon())
    one.announce(datetime(2026, 11, 21, 18, 5, tzinfo=UTC), "kernel a -> b", others=True)
    one.keep()
    hub = ("--as", "system:serviceaccount:jupyter:hub", "--namespace", "kube-system")
    found = cluster.get("configmap", "vre-patch", *hub)["metadata"]["annotations"]
    assert {key: found[key] for key in found if key.startswith("vre/reboot")} == {
        "vre/reboot-at": "2026-11-21T18:05:00Z", "vre/reboot-why": "kernel a -> b", "vre/reboot-node": "one",
    }  # fmt: skip
    assert found["vre/holder"] == "one"
    one.give_back()
    refused = [("get", "configmap", "other"), ("get", "configmaps"), ("get", "secrets"), ("get", "pods"),
               ("annotate", "configmap", "vre-patch", "a=b"), ("delete", "configmap", "vre-patch")]  # fmt: skip
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other", "namespace": "kube-system"}})
    for words in refused:
        assert "Forbidden" in cluster.kubectl(*words, *hub).stderr, words


def test_users_servers_are_seen_and_those_on_other_machines_are_not(cluster: Cluster) -> None:
    one, two = cluster.node("one"), cluster.node("two")
    cluster.apply(pod("plain", "one"), pod("jupyter-bob", "two", **{patching.USER: "bob"}))
    assert (one.has_users(), two.has_users()) == (False, True)
    one.drain(soon() + timedelta(minutes=1))
    two.drain(soon() + timedelta(minutes=1))


def test_a_node_cordons_itself_and_no_other(cluster: Cluster) -> None:
    one = cluster.node("one")
    assert not one.cordoned()
    one.cordon()
    assert one.cordoned()
    assert cluster.get("node", "one")["spec"]["unschedulable"] is True
    one.uncordon()
    assert "unschedulable" not in cluster.get("node", "one")["spec"]
    one.name = "two"
    with pytest.raises(turn.ApiError) as refused:
        one.cordon()
    assert refused.value.status == 403


def test_a_node_evicts_its_own_pods_and_keeps_budgets(cluster: Cluster) -> None:
    cluster.apply(pod("a", "one"), pod("b", "one"), pod("c", "two"))
    one = cluster.node("one")
    one.drain(soon() + timedelta(minutes=1))
    left = [each["metadata"]["name"] for each in cluster.get("pods")["items"]]
    assert left == ["c"]
    with pytest.raises(turn.ApiError) as refused:
        one._evict(pod("c", "two"))
    assert refused.value.status == 403


def test_a_budget_is_kept_and_named(cluster: Cluster) -> None:
    budget = {"minAvailable": 1, "selector": {"matchLabels": {"app": "kept"}}}
    cluster.apply(
        pod("kept", "one", app="kept"),
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "kept", "namespace": "default"},
            "spec": budget,
        },
    )
    # Bound, running and ready, as its kubelet would say: what has not begun may always go.
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    cluster.kubectl("patch", "pod", "kept", "--subresource=status", "--type=merge", "-p", json.dumps({"status": ready}))
    with pytest.raises(turn.TooLong, match="default/kept"):
        cluster.node("one").drain(soon())
    assert cluster.get("pods", "-l", "app=kept")["items"]


def test_what_happens_is_noted_on_the_node(cluster: Cluster) -> None:
    cluster.node("one").event("Rebooting", "This machine reboots")
    events = cluster.get("events", "--field-selector", "involvedObject.name=one")["items"]
    assert [each["message"] for each in events] == ["This machine reboots"]
