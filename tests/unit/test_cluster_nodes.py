"""Nodes through the API: certificates signed once, taints set and taken, a node that leaves is drained first."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.test_cluster import NODE, request
from tests.unit.test_objects import Server
from vre.cluster import nodes
from vre.errors import VreError
from vre.provider.handler import Context


class Cluster(Server):
    """An API server with certificate requests, nodes and pods."""

    def __init__(self) -> None:
        super().__init__()
        self.approved: list[str] = []
        self.evicted: list[str] = []

    def _answer(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> tuple[int, bytes] | None:
        if path.endswith("/approval"):
            self.approved.append(body["metadata"]["name"])
            self.kept[nodes.REQUESTS]["items"] = [body]
            return 200, b"{}"
        if path.endswith("/proxy/healthz"):
            return 200, b"ok" if self.approved else b"remote error: tls: internal error"
        if path.endswith("/eviction"):
            self.evicted.append(body["metadata"]["name"])
            self.kept["/api/v1/pods"]["items"] = [
                pod for pod in self.kept["/api/v1/pods"]["items"] if pod["metadata"]["name"] != body["metadata"]["name"]
            ]
            return 200, b"{}"
        if method == "PATCH" and "/nodes/" in path:
            self.kept[path]["spec"] |= body["spec"]
            return 200, b"{}"
        if path in ("/api/v1",):
            return 200, b'{"resources": [{"kind": "Node", "name": "nodes", "namespaced": false}]}'
        return super()._answer(method, path, body, query)


@pytest.mark.requirement("H-17")
def test_a_serving_certificate_is_signed_once_it_is_asked_for() -> None:
    cluster, told = Cluster(), []

    def report(message: str) -> None:
        told.append(message)
        cluster.kept[nodes.REQUESTS] = {"items": [request(user="system:node:other"), request()]}

    nodes.certify(cluster, Context(report=report), NODE, timeout=5)
    assert told == ["waiting for w to ask for its certificate"]
    assert cluster.approved == ["csr-1"]
    nodes.certify(cluster, Context(), NODE, timeout=1)
    assert cluster.approved == ["csr-1"], "a second time it is signed already"
    cluster.kept[nodes.REQUESTS] = {"items": []}
    nodes.certify(cluster, Context(), NODE, timeout=1)


@pytest.mark.requirement("H-17")
def test_a_certificate_for_another_s_address_is_never_signed() -> None:
    cluster = Cluster()
    cluster.kept[nodes.REQUESTS] = {"items": [request(addresses=("192.168.77.10",))]}
    with pytest.raises(VreError, match=r"not this machine's: 192\.168\.77\.10") as caught:
        nodes.certify(cluster, Context(), NODE, timeout=1)
    assert caught.value.hint
    assert cluster.approved == []


def test_the_control_plane_s_taint_comes_and_goes_and_others_stay() -> None:
    cluster, path = Cluster(), "/api/v1/nodes/c"
    other = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    ours = {"key": nodes.TAINT, "effect": "NoSchedule"}
    cluster.kept[path] = {"spec": {"taints": [other]}}
    nodes.taint(cluster, "c", [ours])
    assert cluster.kept[path]["spec"]["taints"] == [other, ours]
    nodes.taint(cluster, "c", [])
    assert cluster.kept[path]["spec"]["taints"] == [other]
    nodes.taint(cluster, "not there", [ours])


def pod(name: str, *, owner: str = "ReplicaSet", phase: str = "Running") -> dict[str, Any]:
    about = {"name": name, "namespace": "a", "ownerReferences": [{"kind": owner}]}
    return {"metadata": about, "status": {"phase": phase}}


@pytest.mark.requirement("P-23")
def test_a_node_that_leaves_is_drained_first() -> None:
    cluster, path = Cluster(), "/api/v1/nodes/w"
    cluster.kept[path] = {"spec": {}}
    cluster.kept["/api/v1/pods"] = {
        "items": [pod("a"), pod("b", owner="DaemonSet"), pod("c", phase="Succeeded"), pod("d")]
    }
    nodes.leave(cluster, Context(), "w")
    assert cluster.evicted == ["a", "d"]
    assert path not in cluster.kept
    nodes.leave(cluster, Context(), "w")


def test_pods_that_do_not_go_are_named_and_end_with_the_machine() -> None:
    cluster, path = Cluster(), "/api/v1/nodes/w"
    told: list[str] = []
    stuck = pod("stuck")
    stuck["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster.kept[path] = {"spec": {}}
    cluster.kept["/api/v1/pods"] = {"items": [stuck, pod("a")]}
    nodes.leave(cluster, Context(report=told.append), "w", timeout=0.1)
    assert cluster.evicted == ["a"], "a pod that is ending already is not asked again"
    assert told == ["draining w: 2 pods left: a, stuck", "draining w: 1 pods left: stuck; they end with the machine"]
    assert path not in cluster.kept


def test_a_node_that_is_not_heard_of_is_not_waited_for() -> None:
    cluster, path = Cluster(), "/api/v1/nodes/w"
    told: list[str] = []
    ending = pod("a")
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster.kept["/api/v1/pods"] = {"items": [ending]}
    cluster.kept[path] = {"spec": {}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    nodes.leave(cluster, Context(report=told.append), "w", timeout=60)
    assert told == ["draining w: 1 pods left: a; they end with the machine"]
    assert path not in cluster.kept


def test_a_node_s_range_is_waited_for() -> None:
    cluster = Cluster()

    def report(message: str) -> None:
        cluster.kept["/api/v1/nodes/w"] = {"spec": {"podCIDR": "10.244.1.0/24"}}

    assert nodes.pod_range(cluster, Context(report=report), "w", timeout=3) == "10.244.1.0/24"
    with pytest.raises(VreError, match="does not know the node x"):
        nodes.pod_range(cluster, Context(), "x", timeout=1)


def test_a_node_that_never_gets_ready_tells_why() -> None:
    cluster = Cluster()
    conditions = [{"type": "Ready", "status": "False", "message": "no network"}]
    cluster.kept["/api/v1/nodes/w"] = {"status": {"conditions": conditions}}
    with pytest.raises(VreError, match="no network"):
        nodes.until_ready(cluster, Context(), "w", timeout=1)
    conditions[0]["status"] = "True"
    nodes.until_ready(cluster, Context(), "w", timeout=1)
