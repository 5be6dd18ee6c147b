"""Objects in the cluster: applied in order, pruned, put right after manual changes, no secret in any message."""

import base64
import copy
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from vre.cluster import taken
from vre.cluster.api import Api, ApiError
from vre.errors import VreError
from vre.machine.ssh import Connection
from vre.provider import objects
from vre.provider.handler import Context
from vre.provider.objects import Objects, apply, secrets, until_ready

PLURALS = {
    "Namespace": "namespaces",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "Deployment": "deployments",
    "Job": "jobs",
}


def thing(kind: str, name: str, space: str = "a", **rest: Any) -> dict[str, Any]:
    version = {"Deployment": "apps/v1", "Job": "batch/v1"}.get(kind, "v1")
    about = {"name": name} if kind == "Namespace" else {"name": name, "namespace": space}
    return {"apiVersion": version, "kind": kind, "metadata": about, **rest}


class Server(Api):
    """An API server in memory: keeps what is applied, by path."""

    def __init__(self) -> None:
        super().__init__(None, patience=0, pause=0)  # type: ignore[arg-type]
        self.kept: dict[str, Any] = {}
        self.asked: list[str] = []
        self.immutable: set[str] = set()

    def _exchange(
        self, method: str, path: str, data: bytes, content: str, query: Mapping[str, str], *, insist: bool = True
    ) -> tuple[int, bytes]:
        answer = self._answer(method, path, json.loads(data) if data else None, query)
        return (404, b'{"kind": "Status", "message": "not found"}') if answer is None else answer

    def _answer(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> tuple[int, bytes] | None:
        if re.fullmatch(r"/(api|apis/\w+)/v1", path):
            known = [{"kind": kind, "name": name, "namespaced": kind != "Namespace"} for kind, name in PLURALS.items()]
            return 200, json.dumps({"resources": known}).encode()
        if method == "GET":
            found = self.kept.get(path)
            return None if found is None else (200, json.dumps(found).encode())
        if "dryRun" not in query:
            self.asked.append(f"{method} {path}")
        if method == "PATCH":
            if path in self.immutable and path in self.kept:
                return 422, b'{"message": "spec: field is immutable", "reason": "Invalid"}'
            made = {**copy.deepcopy(self.kept.get(path, {})), **body}
            if "dryRun" not in query:
                self.kept[path] = made
            return 200, json.dumps(made).encode()
        return (200, b"{}") if self.kept.pop(path, None) is not None else None


NAMESPACE, SETTINGS, OTHER = (
    thing("Namespace", "a"),
    thing("ConfigMap", "settings", data={"x": "1"}),
    thing("ConfigMap", "other"),
)


def test_what_leaves_the_set_leaves_the_cluster() -> None:
    server = Server()
    apply(server, Context(), "set", [NAMESPACE, SETTINGS, OTHER])
    server.kept["/api/v1/namespaces/a/configmaps/foreign"] = thing("ConfigMap", "foreign")
    apply(server, Context(), "set", [NAMESPACE, SETTINGS])
    assert server.get("/api/v1/namespaces/a/configmaps/other") is None
    assert server.get("/api/v1/namespaces/a/configmaps/settings") is not None
    assert server.get("/api/v1/namespaces/a/configmaps/foreign") is not None


def test_sets_do_not_touch_each_other() -> None:
    server = Server()
    apply(server, Context(), "one", [SETTINGS])
    apply(server, Context(), "two", [OTHER])
    apply(server, Context(), "two", [])
    assert server.get("/api/v1/namespaces/a/configmaps/settings") is not None
    assert server.get("/api/v1/namespaces/a/configmaps/other") is None


def test_a_kill_in_the_middle_leaves_nothing_unknown() -> None:
    server = Server()

    def killed(message: str) -> None:
        if "2 of 2" in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply(server, Context(report=killed), "set", [SETTINGS, OTHER])
    apply(server, Context(), "set", [OTHER])
    assert server.get("/api/v1/namespaces/a/configmaps/settings") is None


def test_applying_twice_changes_nothing() -> None:
    server = Server()
    apply(server, Context(), "set", [NAMESPACE, SETTINGS])
    before = copy.deepcopy(server.kept)
    apply(server, Context(), "set", [NAMESPACE, SETTINGS])
    assert server.kept == before


def test_a_field_that_cannot_change_makes_its_object_anew_unless_it_holds_data() -> None:
    server = Server()
    job, path = thing("Job", "j", spec={"x": 1}), "/apis/batch/v1/namespaces/a/jobs/j"
    apply(server, Context(), "set", [job])
    server.immutable.add(path)
    apply(server, Context(), "set", [{**job, "spec": {"x": 2}}])
    assert server.kept[path]["spec"] == {"x": 2}
    apply(server, Context(), "other", [SETTINGS])
    server.immutable.add("/api/v1/namespaces/a/configmaps/settings")
    with pytest.raises(ApiError, match="immutable"):
        apply(server, Context(), "other", [SETTINGS])


def test_secrets_reach_the_cluster_coded_and_lose_what_is_removed() -> None:
    server = Server()
    server.apply(thing("Secret", "s", stringData={"password": "hunter22"}))
    kept = server.kept["/api/v1/namespaces/a/secrets/s"]
    assert kept["data"] == {"password": base64.b64encode(b"hunter22").decode()}
    assert "stringData" not in kept


def test_manual_changes_are_found() -> None:
    server = Server()
    server.apply(SETTINGS)
    assert objects._unchanged(server, SETTINGS)
    server.kept["/api/v1/namespaces/a/configmaps/settings"]["data"] = {"x": "changed"}
    assert not objects._unchanged(server, SETTINGS)
    assert not objects._unchanged(server, OTHER)
    assert not objects._unchanged(server, {**SETTINGS, "kind": "Unheard"})


def pod(name: str, *, up: bool, reason: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": "see above"}} if reason else {"running": {}}
    return {
        "metadata": {"name": name, "namespace": "a"},
        "spec": {"containers": [{"name": "main"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(up)}],
            "containerStatuses": [{"state": state}],
        },
    }


WAITED = [{"kind": "Deployment", "name": "d", "namespace": "a"}]
DEPLOYMENT = "/apis/apps/v1/namespaces/a/deployments/d"
PODS = "/api/v1/namespaces/a/pods"


def deployed(available: int) -> dict[str, Any]:
    status = {"observedGeneration": 1, "updatedReplicas": 1, "availableReplicas": available, "replicas": 1}
    return {"metadata": {"name": "d", "generation": 1}, "spec": {"replicas": 1}, "status": status}


def test_progress_counts_pods_until_all_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    server, told = Server(), []
    monkeypatch.setattr(objects, "EVERY", 0.0)
    server.kept |= {DEPLOYMENT: deployed(0), PODS: {"items": [pod("p", up=True), pod("q", up=False)]}}

    def report(message: str) -> None:
        told.append(message)
        server.kept[DEPLOYMENT] = deployed(1)

    until_ready(server, Context(report=report), WAITED, 60)
    assert told == ["0 of 1 up, pods ready 1 of 2; waiting for d"]


@pytest.mark.parametrize("log", [b"Traceback: boom\nlast line\n"])
def test_what_is_not_up_in_time_is_explained_by_events_and_logs(log: bytes) -> None:
    class Talking(Server):
        def _answer(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> tuple[int, bytes] | None:
            if path.endswith("/log"):
                assert query["container"] == "main"
                return 200, log
            return super()._answer(method, path, body, query)

    server = Talking()
    server.kept |= {
        DEPLOYMENT: deployed(0),
        PODS: {"items": [pod("p", up=False, reason="CrashLoopBackOff")]},
        "/api/v1/namespaces/a/events": {"items": [{"reason": "BackOff", "message": "restarting"}]},
    }
    with pytest.raises(VreError) as caught:
        until_ready(server, Context(), WAITED, 0)
    for part in ("Deployment d in a", "CrashLoopBackOff", "BackOff: restarting", "main: last line"):
        assert part in caught.value.message
    assert "vre logs" in caught.value.hint


def test_a_missing_image_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    monkeypatch.setattr(objects, "IN_VAIN", -1.0)
    server.kept |= {DEPLOYMENT: deployed(0), PODS: {"items": [pod("p", up=False, reason="ErrImageNeverPull")]}}
    with pytest.raises(VreError, match="ErrImageNeverPull"):
        until_ready(server, Context(), WAITED, 600)


def test_every_secret_text_is_known_so_that_none_is_shown() -> None:
    made = [
        thing("Secret", "a", stringData={"x": "hunter22"}),
        thing("Secret", "b", data={"y": base64.b64encode(b"swordfish").decode()}),
        thing("ConfigMap", "c", data={"z": "public"}),
    ]
    assert set(secrets(made)) == {"hunter22", "swordfish"}


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"objects": [{"kind": "ConfigMap"}]}, "no apiVersion, kind or metadata.name"),
        ({"objects": [SETTINGS, SETTINGS]}, "the second ConfigMap settings in a"),
        ({"objects": [], "ready": [{"kind": "Wish", "name": "x"}]}, "a Wish cannot be waited for"),
    ],
)
def test_faulty_sets_are_refused(inputs: dict[str, Any], reason: str) -> None:
    [finding] = Objects().check(inputs)
    assert finding.reason == reason


def test_a_set_is_changed_in_place_also_with_another_machine_for_to_replace_would_remove_users_data() -> None:
    state = {"machine": "m", "name": "n", "objects": [SETTINGS], "ready": [], "timeout": 1, "connection": {}}
    assert Objects().diff(state, {**state, "objects": []}).update == {"objects"}
    other = Objects().diff(state, {**state, "machine": "other"})
    assert other.update == {"machine"}
    assert not other.replace
    assert Objects().diff(state, {**state, "name": "other"}).replace == {"name"}
    same = Objects().diff(state, {**state, "timeout": 2, "connection": {"address": "x"}})
    assert not same.update | same.replace


# newer container images, which the cluster took by itself

OLD, NEW = (f"localhost/vre/hub:6.1.{each}@sha256:{each * 64}" for each in ("1", "2"))


class Nowhere:
    """Stands for a connection, and for what waits for one."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> "Nowhere":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(objects, "Shell", Nowhere)
    monkeypatch.setattr(objects, "wait", Nowhere)
    monkeypatch.setattr(Connection, "read", lambda *_: None)
    monkeypatch.setattr(objects, "Api", lambda *_, **__: made)
    monkeypatch.setattr(Server, "__enter__", lambda self: self, raising=False)
    return made


@pytest.mark.requirement("P-40")
def test_a_launch_does_not_take_a_cluster_back_to_the_images_that_its_checkout_has(server: Server) -> None:
    settings = thing("ConfigMap", "settings", data={"a.json": f'{{"image": "{OLD}"}}'})
    state = {"name": "n", "objects": [settings], "ready": [], "connection": {}}
    Objects().create(Context(), state)
    path = "/api/v1/namespaces/a/configmaps/settings"
    # The control machine has done this.
    server.kept[taken.PATH] = thing("ConfigMap", "vre-images", "kube-system", data={"taken": json.dumps({OLD: NEW})})
    server.kept[path]["data"] = {"a.json": f'{{"image": "{NEW}"}}'}
    found = Objects().read(Context(), "n", state)
    assert found is not None
    assert found.inputs["objects"] == [settings]  # nothing was changed by hand
    Objects().update(Context(), "n", state, {**state, "timeout": 2})
    assert server.kept[path]["data"] == {"a.json": f'{{"image": "{NEW}"}}'}
    # An image that nothing stands for is another matter.
    newest = OLD.replace("1", "3")
    changed = thing("ConfigMap", "settings", data={"a.json": newest})
    Objects().update(Context(), "n", state, {**state, "objects": [changed]})
    assert server.kept[path]["data"] == {"a.json": newest}


def test_what_stands_for_an_image_is_said_wherever_it_is_named() -> None:
    named = {"spec": {"containers": [{"image": OLD, "args": [f"--helper={OLD}", "x"]}]}, "data": {"a": f"{OLD} {OLD}"}}
    assert json.dumps(taken.renewed(named, {OLD: NEW})) == json.dumps(named).replace(OLD, NEW)
    assert taken.renewed(named, {}) == named
