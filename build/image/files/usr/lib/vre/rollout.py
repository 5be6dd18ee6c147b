"""Pods made anew from newer container images: on the control machine, once every machine of the cluster has them.

A launch wrote the objects, each image with its digest, and a later one would write them again. So what stands for what
is noted on the ConfigMap `kube-system/vre-images` first: `vre up` reads it and takes nothing back. What does not get
ready is put back as it was. Python's standard library only.
"""

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import renew
import turn

SPACE = "/api/v1/namespaces/kube-system/configmaps"
TAKEN = f"{SPACE}/vre-images"
INVENTORY = "vre-objects-"
"""How the names of the ConfigMaps begin in which a launch keeps what belongs to it."""
KINDS = {
    "ConfigMap": "/api/v1/namespaces/{}/configmaps/{}",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets/{}",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments/{}",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets/{}",
}
"""What an image may be named in, and where that is. ConfigMaps come first: pods read them when they start."""
PODS = "/api/v1/namespaces/{}/pods"
OWNER = "vre-patch"
MARK = "vre/images"
"""The annotation of a pod that starts anew since its settings name another image."""
SEEN = timedelta(minutes=2)
"""For the kubelet to say what was just imported: it looks every half minute."""
TRIES = 5
ENDS = 3
"""A container of a newer image that has ended so often is not waited for any longer."""
AGAIN = timedelta(minutes=10)
"""For what is put back to be up."""
Object = dict[str, Any]


class Waits(Exception):
    """Nothing is wrong; not every machine has the images yet."""


class NotReady(Exception):
    """Pods from the newer images did not become ready; those from the former are back."""


@dataclass(kw_only=True)
class Cluster:
    """The cluster, as its administrator. `clock` and `pause` are the world's, but in tests."""

    api: turn.Api
    say: Callable[[str], None]
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    pause: Callable[[float], None] = time.sleep

    def roll(self, replaced: Mapping[str, str], deadline: datetime) -> list[str]:
        """Have everything that names a former image name the newer one; return what was changed.

        Raises Waits, NotReady, and what the API raises.
        """
        things = self._members()
        concerned = [each for each in things if names(each, replaced)]
        if not concerned:
            return []
        named = {old for each in concerned for old in names(each, replaced)}
        self.until_everywhere({replaced[old] for old in named})
        before = self._taken()
        self._take({**{old: replaced.get(new, new) for old, new in before.items()}, **replaced})
        made = f"{self.clock():%Y-%m-%dT%H:%M:%SZ}"
        changed = [*concerned, *also(things, concerned)]
        self._change(changed, replaced, made)
        try:
            self.until_ready(changed, deadline, made)
        except turn.TooLong as error:
            self.say(f"putting back: {error}")
            self._take(before)
            self._change(changed, {replaced[old]: old for old in named}, f"{made} back")
            self._until_back(changed, error)
        return [title(each) for each in changed]

    def _members(self) -> list[Object]:
        """Return all objects of ours in which an image may be named."""
        found = []
        for one in self.api.request("GET", SPACE)["items"]:
            if not one["metadata"]["name"].startswith(INVENTORY):
                continue
            for _, kind, space, name in json.loads((one.get("data") or {}).get("members") or "[]"):
                if kind in KINDS and (thing := self._get(kind, space, name)) is not None:
                    found.append(thing)
        return sorted(found, key=lambda each: each["kind"] != "ConfigMap")

    def _live(self, thing: Mapping[str, Any]) -> Object | None:
        return self._get(thing["kind"], thing["metadata"]["namespace"], thing["metadata"]["name"])

    def _get(self, kind: str, space: str, name: str) -> Object | None:
        try:
            return {**self.api.request("GET", KINDS[kind].format(space, name)), "kind": kind}
        except turn.ApiError as error:
            if error.status != 404:
                raise
            return None

    def until_everywhere(self, wanted: Collection[str]) -> None:
        """Wait until each machine has the images: a pod whose image is not there does not start. Raises Waits."""
        deadline = self.clock() + SEEN
        while lacking := self._lacking(wanted):
            if self.clock() >= deadline:
                raise Waits(lacking)
            self.pause(turn.AGAIN)

    def _lacking(self, wanted: Collection[str]) -> str:
        """Say which machine lacks what; nothing where none does."""
        for node in self.api.request("GET", "/api/v1/nodes")["items"]:
            there = {name for image in node["status"].get("images") or [] for name in image.get("names") or []}
            lacking = sorted(each.partition("@")[0] for each in wanted if renew.both(each)[1] not in there)
            if lacking:
                return f"{node['metadata']['name']} lacks {', '.join(lacking)}"
        return ""

    def _taken(self) -> dict[str, str]:
        """Return what stands for what, as it is noted."""
        told: dict[str, str] = json.loads((self._noted().get("data") or {}).get("taken") or "{}")
        return told

    def _take(self, taken: Mapping[str, str]) -> None:
        """Note what stands for what."""
        told = {old: new for old, new in taken.items() if old != new}
        self.api.request("PUT", TAKEN, {**self._noted(), "data": {"taken": json.dumps(told, indent=1, sort_keys=True)}})

    def _noted(self) -> Object:
        try:
            return self.api.request("GET", TAKEN)
        except turn.ApiError as error:
            if error.status != 404:
                raise
        about = {"name": TAKEN.rpartition("/")[2], "namespace": "kube-system"}
        return self.api.request("POST", SPACE, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about})

    def _change(self, things: Iterable[Object], replaced: Mapping[str, str], made: str) -> None:
        for thing in things:
            self.say(f"other images: {title(thing)}")
            path = KINDS[thing["kind"]].format(thing["metadata"]["namespace"], thing["metadata"]["name"])
            for left in reversed(range(TRIES)):
                live = self._live(thing)
                if live is None:
                    break
                try:
                    self.api.request("PUT", f"{path}?fieldManager={OWNER}", renewed(live, replaced, made))
                    break
                except turn.ApiError as error:
                    if error.status != 409 or not left:  # somebody changed it meanwhile
                        raise

    def until_ready(self, things: Iterable[Object], deadline: datetime, made: str = "") -> None:
        """Wait until all pods of these objects are up. Raises turn.TooLong: they are not, or end again and again."""
        waiting = [each for each in things if each["kind"] != "ConfigMap"]

        def look() -> str:
            now = [self._live(each) for each in waiting]
            waiting[:] = [each for each, live in zip(waiting, now, strict=True) if live is not None and not ready(live)]
            for space in {each["metadata"]["namespace"] for each in waiting} if made else ():
                for fault in ended(self.api.request("GET", PODS.format(space))["items"], made):
                    raise turn.TooLong(fault)
            return ", ".join(map(title, waiting))

        self.until(look, deadline)

    def _until_back(self, things: Iterable[Object], why: Exception) -> NoReturn:
        """Wait until the former images' pods are up again. Raises NotReady, which says whether they are."""
        try:
            self.until_ready(things, self.clock() + AGAIN)
        except turn.TooLong as error:
            raise NotReady(f"{why}; put back, and still {error}") from why
        raise NotReady(f"{why}; the former images are back") from why

    def until(self, look: Callable[[], str], deadline: datetime) -> None:
        """Wait until `look` has nothing left to name; the API may be away meanwhile. Raises turn.TooLong."""
        while True:
            try:
                left = look()
            except (turn.Unreachable, turn.ApiError) as error:
                left = str(error)
            if not left:
                return
            if self.clock() >= deadline:
                raise turn.TooLong(f"not ready: {left}")
            self.pause(turn.AGAIN)


def names(thing: Mapping[str, Any], replaced: Iterable[str]) -> list[str]:
    """Return which of the references an object names."""
    text = json.dumps(_told(thing))
    return [each for each in replaced if each in text]


def also(things: Iterable[Object], concerned: Collection[Object]) -> list[Object]:
    """Return what starts anew besides: its settings name an image, and it reads them when it starts."""
    settings = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in concerned if not _runs(each)}
    known = {title(each) for each in concerned}
    rest = [each for each in things if _runs(each) and title(each) not in known]
    return [each for each in rest if {(each["metadata"]["namespace"], name) for name in _read(each)} & settings]


def renewed(live: Mapping[str, Any], replaced: Mapping[str, str], made: str) -> Object:
    """Return an object that names the newer images; pods of it are made anew."""
    text = json.dumps(_told(live))
    for old, new in replaced.items():
        text = text.replace(old, new)
    thing: Object = {**live, **json.loads(text)}
    if _runs(thing):
        about = thing["spec"]["template"].setdefault("metadata", {})
        about["annotations"] = {**(about.get("annotations") or {}), MARK: made}
    return thing


def _told(thing: Mapping[str, Any]) -> dict[str, Any]:
    """Return what somebody wrote: neither what the cluster notes about an object, nor what it is like now."""
    return {key: thing[key] for key in ("spec", "data") if key in thing}


def _runs(thing: Mapping[str, Any]) -> bool:
    return bool(thing["kind"] != "ConfigMap")


def _read(thing: Mapping[str, Any]) -> set[str]:
    """Return the ConfigMaps that an object's pods read."""
    pod = thing["spec"]["template"]["spec"]
    return {each["configMap"]["name"] for each in pod.get("volumes") or [] if "configMap" in each}


def ready(thing: Mapping[str, Any]) -> bool:
    """Say whether all pods of an object are of its present form, and up."""
    status, spec = thing.get("status") or {}, thing["spec"]
    if int(status.get("observedGeneration") or 0) < int(thing["metadata"].get("generation") or 0):
        return False
    if thing["kind"] == "DaemonSet":
        wanted = int(status.get("desiredNumberScheduled") or 0)
        counts: tuple[str, ...] = ("updatedNumberScheduled", "numberAvailable")
    else:
        wanted = int(spec.get("replicas", 1))
        counts = ("replicas", "updatedReplicas", "availableReplicas")
    return all(int(status.get(each) or 0) == wanted for each in counts)


def ended(pods: Iterable[Object], made: str) -> list[str]:
    """Say which containers of the pods that were made at a moment have ended too often. Pure."""
    return [
        f"{pod['metadata']['name']}: container {one['name']} ended {one['restartCount']} times"
        for pod in pods
        if (pod["metadata"].get("annotations") or {}).get(MARK) == made
        for one in pod["status"].get("containerStatuses") or []
        if int(one["restartCount"]) >= ENDS
    ]


def title(thing: Mapping[str, Any]) -> str:
    """Return an object's kind, namespace and name for people."""
    return f"{thing['kind']} {thing['metadata']['namespace']}/{thing['metadata']['name']}"
