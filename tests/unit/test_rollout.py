"""Pods made anew from newer container images: when, which, what is noted, and what happens where they do not start."""

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import renew
import rollout
import turn
from rollout import Cluster, NotReady, Waits

OLD, NEW = (f"localhost/vre/hub:6.1.{patch}@sha256:{patch * 64}" for patch in ("1", "2"))
OLDER = f"localhost/vre/hub:6.1.0@sha256:{'0' * 64}"
PROXY = f"localhost/vre/proxy:5.3.0@sha256:{'5' * 64}"


def pods(kind: str, name: str, image: str, *settings: str) -> dict[str, Any]:
    volumes = [{"name": each, "configMap": {"name": each}} for each in settings]
    spec = {"containers": [{"name": name, "image": image}], "volumes": volumes}
    return {
        "kind": kind, "metadata": {"namespace": "jupyter", "name": name, "generation": 1},
        "spec": {"replicas": 1, "template": {"spec": spec}}, "status": {},
    }  # fmt: skip


class Api:
    """A cluster in memory. Pods become ready when they are asked about, but those of images that are in `broken`."""

    def __init__(self, *things: dict[str, Any]) -> None:
        self.kept: dict[str, Any] = {self.place(each): each for each in things}
        self.asked: list[str] = []
        self.broken: set[str] = set()
        self.conflicts = 0
        self.ends = 0
        self.images = {OLD, NEW, PROXY}
        members = [["v1", each["kind"], "jupyter", each["metadata"]["name"]] for each in things]
        members += [["v1", "Secret", "jupyter", "accounts"], ["v1", "ConfigMap", "jupyter", "gone"]]
        for name, data in (("vre-objects-jupyter", {"members": json.dumps(members)}), ("coredns", {"a": OLD})):
            self.kept[f"{rollout.SPACE}/{name}"] = {"metadata": {"name": name}, "data": data}

    def place(self, thing: dict[str, Any]) -> str:
        return rollout.KINDS[thing["kind"]].format("jupyter", thing["metadata"]["name"])

    def request(self, method: str, path: str, body: Any = None, *, content: str = "") -> dict[str, Any]:
        path = path.partition("?")[0]
        if method != "GET":
            self.asked.append(f"{method} {path.rpartition('/')[2]}")
        if path == "/api/v1/nodes":
            names = [renew.both(each)[1] for each in self.images]
            return {"items": [{"metadata": {"name": "one"}, "status": {"images": [{"names": names}]}}]}
        if path == rollout.PODS.format("jupyter"):
            return {"items": [self.pod(each) for each in self.kept.values() if "template" in each.get("spec", {})]}
        if path == rollout.SPACE and method == "GET":
            return {"items": [each for place, each in self.kept.items() if place.startswith(f"{path}/")]}
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
        if path not in self.kept and method != "POST":
            raise turn.ApiError(404, "not found")
        if method == "PUT" and self.conflicts:
            self.conflicts -= 1
            raise turn.ApiError(409, "the object has been modified")
        if body is not None:
            self.kept[path] = copy.deepcopy(body)
        found: dict[str, Any] = copy.deepcopy(self.kept[path])
        found.pop("kind", None)  # a list's items have none
        if "spec" in found:
            well = not any(each in json.dumps(found["spec"]) for each in self.broken)
            counts = ("replicas", "updatedReplicas", "availableReplicas", "updatedNumberScheduled", "numberAvailable")
            up = {**dict.fromkeys(counts, 1), "desiredNumberScheduled": 1}
            found["status"] = {"observedGeneration": 1, **(up if well else {"desiredNumberScheduled": 1})}
        return found

    def pod(self, thing: dict[str, Any]) -> dict[str, Any]:
        """A pod of an object, whose container ends again and again where its image is broken."""
        template = thing["spec"]["template"]
        ends = self.ends if any(each in json.dumps(template) for each in self.broken) else 0
        name = thing["metadata"]["name"]
        about = {"name": f"{name}-x", **template.get("metadata", {})}
        return {"metadata": about, "status": {"containerStatuses": [{"name": name, "restartCount": ends}]}}

    def image(self, kind: str, name: str) -> str:
        thing = self.kept[rollout.KINDS[kind].format("jupyter", name)]
        return str(thing["spec"]["template"]["spec"]["containers"][0]["image"])

    @property
    def taken(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.kept[rollout.TAKEN]["data"]["taken"])
        return found


class Time:
    """A clock that goes only while somebody waits."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 27, tzinfo=UTC)

    def pause(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


SETTINGS = {
    "kind": "ConfigMap",
    "metadata": {"namespace": "jupyter", "name": "settings"},
    "data": {"a.json": f'{{"image": "{OLD}"}}'},
}


def cluster_of(api: Api) -> Cluster:
    time = Time()
    return Cluster(api=cast("turn.Api", api), say=lambda _: None, clock=lambda: time.now, pause=time.pause)


def roll(api: Api, replaced: dict[str, str]) -> list[str]:
    return cluster_of(api).roll(replaced, Time().now + timedelta(minutes=15))


@pytest.mark.requirement("P-40", "H-05")
@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet", "StatefulSet"])
def test_what_names_a_former_image_names_the_newer_one(kind: str) -> None:
    api = Api(pods(kind, "hub", OLD), pods("Deployment", "proxy", PROXY))
    assert roll(api, {OLD: NEW}) == [f"{kind} jupyter/hub"]
    assert api.image(kind, "hub") == NEW
    assert api.image("Deployment", "proxy") == PROXY
    assert api.taken == {OLD: NEW}
    assert api.asked.index("PUT vre-images") < api.asked.index("PUT hub")
    assert "PUT coredns" not in api.asked  # no object of ours
    api.asked.clear()
    assert roll(api, {OLD: NEW}) == []
    assert api.asked == []


def test_what_reads_settings_that_name_an_image_starts_anew() -> None:
    api = Api(pods("Deployment", "hub", PROXY, "settings"), pods("Deployment", "proxy", PROXY, "other"), SETTINGS)
    assert roll(api, {OLD: NEW}) == ["ConfigMap jupyter/settings", "Deployment jupyter/hub"]
    assert NEW in api.kept[rollout.KINDS["ConfigMap"].format("jupyter", "settings")]["data"]["a.json"]
    about = api.kept[rollout.KINDS["Deployment"].format("jupyter", "hub")]["spec"]["template"]["metadata"]
    assert about["annotations"] == {rollout.MARK: "2026-11-27T00:00:00Z"}
    assert api.asked[-2:] == ["PUT settings", "PUT hub"]


def test_nothing_changes_before_every_machine_has_the_images() -> None:
    api = Api(pods("Deployment", "hub", OLD))
    api.images.discard(NEW)
    with pytest.raises(Waits, match=r"one lacks localhost/vre/hub:6\.1\.2"):
        roll(api, {OLD: NEW})
    assert api.asked == []


def test_a_kubelet_that_has_not_looked_yet_is_waited_for() -> None:
    api, time = Api(pods("Deployment", "hub", OLD)), Time()
    api.images.discard(NEW)

    def pause(seconds: float) -> None:
        time.pause(seconds)
        if time.now >= Time().now + timedelta(seconds=30):
            api.images.add(NEW)

    cluster = Cluster(api=cast("turn.Api", api), say=lambda _: None, clock=lambda: time.now, pause=pause)
    assert cluster.roll({OLD: NEW}, time.now + timedelta(minutes=15)) == ["Deployment jupyter/hub"]


@pytest.mark.requirement("H-20")
def test_what_does_not_get_ready_is_put_back() -> None:
    api = Api(pods("Deployment", "hub", OLD, "settings"), SETTINGS)
    api.kept[rollout.TAKEN] = {"metadata": {"name": "vre-images"}, "data": {"taken": json.dumps({OLDER: OLD})}}
    api.broken.add(NEW)
    with pytest.raises(NotReady, match="Deployment jupyter/hub; the former images are back"):
        roll(api, {OLDER: NEW, OLD: NEW})
    assert api.image("Deployment", "hub") == OLD
    assert OLD in api.kept[rollout.KINDS["ConfigMap"].format("jupyter", "settings")]["data"]["a.json"]
    assert api.taken == {OLDER: OLD}  # what stood for what before


@pytest.mark.requirement("H-20")
@pytest.mark.parametrize(("ends", "waits"), [(rollout.ENDS, False), (rollout.ENDS - 1, True)])
def test_what_ends_again_and_again_is_not_waited_for(ends: int, waits: bool) -> None:
    api, time = Api(pods("Deployment", "hub", OLD), pods("Deployment", "proxy", PROXY)), Time()
    api.broken, api.ends = {NEW}, ends
    cluster = Cluster(api=cast("turn.Api", api), say=lambda _: None, clock=lambda: time.now, pause=time.pause)
    with pytest.raises(NotReady, match="jupyter/hub" if waits else "hub-x: container hub ended 3 times"):
        cluster.roll({OLD: NEW}, time.now + timedelta(minutes=15))
    assert (time.now >= Time().now + timedelta(minutes=15)) is waits
    assert api.image("Deployment", "hub") == OLD


def test_what_does_not_come_back_either_is_said() -> None:
    api, time = Api(pods("Deployment", "hub", OLD)), Time()
    api.broken = {NEW, OLD}
    cluster = Cluster(api=cast("turn.Api", api), say=lambda _: None, clock=lambda: time.now, pause=time.pause)
    with pytest.raises(NotReady, match="put back, and still not ready: Deployment jupyter/hub"):
        cluster.roll({OLD: NEW}, time.now + timedelta(minutes=15))


def test_an_api_that_is_away_for_a_moment_is_waited_for() -> None:
    cluster, answers = cluster_of(Api()), iter([turn.Unreachable("refused"), turn.ApiError(500, "etcd"), None])

    def look() -> str:
        if (fault := next(answers)) is not None:
            raise fault
        return ""

    cluster.until(look, cluster.clock() + timedelta(minutes=1))
    assert next(answers, "all asked") == "all asked"


def test_what_stood_for_an_older_one_is_followed() -> None:
    api = Api(pods("Deployment", "hub", OLD))
    api.kept[rollout.TAKEN] = {"metadata": {"name": "vre-images"}, "data": {"taken": json.dumps({OLDER: OLD})}}
    roll(api, {OLD: NEW})
    assert api.taken == {OLDER: NEW, OLD: NEW}


def test_an_object_that_somebody_changes_meanwhile_is_read_anew() -> None:
    api = Api(pods("Deployment", "hub", OLD))
    api.kept[rollout.TAKEN] = {"metadata": {"name": "vre-images"}, "data": {"taken": "{}"}}
    cluster = cluster_of(api)
    api.conflicts = 2
    cluster._change([pods("Deployment", "hub", OLD)], {OLD: NEW}, "now")
    assert api.image("Deployment", "hub") == NEW
    api.conflicts = 99
    with pytest.raises(turn.ApiError):
        cluster._change([pods("Deployment", "hub", NEW)], {NEW: OLD}, "now")


@pytest.mark.parametrize(
    ("kind", "counts", "seen", "up"),
    [
        ("Deployment", (1, 1, 1), 2, True),
        ("Deployment", (1, 1, 1), 1, False),
        ("Deployment", (2, 1, 2), 2, False),
        ("StatefulSet", (1, 1, 0), 2, False),
        ("DaemonSet", (1, 1, 1), 2, True),
        ("DaemonSet", (1, 0, 1), 2, False),
        ("DaemonSet", (2, 2, 1), 2, False),
    ],
)
def test_what_counts_as_ready(kind: str, counts: tuple[int, int, int], seen: int, up: bool) -> None:
    deployed = ("replicas", "updatedReplicas", "availableReplicas")
    everywhere = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
    status = dict(zip(everywhere if kind == "DaemonSet" else deployed, counts, strict=True))
    thing = {"kind": kind, "metadata": {"generation": 2}, "spec": {"replicas": 1}}
    assert rollout.ready({**thing, "status": {**status, "observedGeneration": seen}}) is up
