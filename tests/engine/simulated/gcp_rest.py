"""Google's REST interfaces over the simulated cloud: a session that is logged in, for who asks what stands there."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.engine.simulated.gcp import ADDRESS, DISK, FOR_EVER, KEY, NETWORK, RING, ROUTER
from tests.engine.simulated.store import Cloud, Thing
from tests.oracle.gcp import FIREWALL, INSTANCE, NAT, SUBNET

LISTED = {"instances": INSTANCE, "disks": DISK, "addresses": ADDRESS, "firewalls": FIREWALL}
NAMED = {**LISTED, "routers": ROUTER, "subnetworks": SUBNET, "networks": NETWORK}
LABEL = re.compile(r"labels\.([a-z-]+)=([a-z0-9_-]+)")
DONE = {"selfLink": "https://compute.googleapis.com/compute/v1/operations/done"}


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer."""

    status_code: int
    body: Any

    def json(self) -> Any:
        """Return what it says."""
        return self.body


@dataclass(frozen=True, kw_only=True)
class Session:
    """What `requests` would be, logged in."""

    cloud: Cloud

    def request(
        self, method: str, url: str, *, timeout: float, params: Mapping[str, str] | None = None, json: Any = None
    ) -> Reply:
        """Answer a question, or do what is ordered."""
        path = re.sub(r"^/(compute/)?v1/", "", urlsplit(url).path)
        if path == "operations/done":
            return Reply(status_code=200, body={"status": "DONE"})
        found = self._shown(path, params or {}) if method == "GET" else self._done(method, path, json)
        if found is None:
            return Reply(status_code=404, body={"error": {"code": 404, "message": f"{path} was not found"}})
        refused = found.get("error")
        return Reply(status_code=int(refused["code"]) if refused else 200, body=found)

    def _shown(self, path: str, params: Mapping[str, str]) -> dict[str, Any] | None:
        parent, _, last = path.rpartition("/")
        if last in LISTED:
            wanted = dict(LABEL.findall(params.get("filter", "")))
            every = (self._about(each) for each in self.cloud.resources(LISTED[last], given=True) if _in(each, path))
            # An empty list has no items at all.
            items = [each for each in every if wanted.items() <= each.get("labels", {}).items()]
            return {"items": items} if items else {}
        if last in ("keyRings", "cryptoKeys"):
            kind = {"keyRings": RING, "cryptoKeys": KEY}[last]
            there = [self._about(each) for each in self.cloud.resources(kind, given=True) if _in(each, path)]
            return {last: there} if there else {}
        if last == "cryptoKeyVersions":
            there = [] if self.cloud.find(KEY, parent) is None else [{"name": f"{path}/1", "state": "ENABLED"}]
            return {last: there}
        found = self._find(path)
        return self._about(found) if found else None

    def _about(self, thing: Thing) -> dict[str, Any]:
        told: dict[str, Any] = {"name": thing.inputs["name"], "selfLink": thing.outputs.get("selfLink", "")}
        told |= {key: thing.inputs[key] for key in ("labels", "network") if thing.inputs.get(key)}
        if thing.type == DISK:
            told["sizeGb"] = str(thing.inputs["size"])
        if thing.type == ROUTER:
            told["nats"] = [{"name": each.inputs["name"]} for each in self._nats(thing)]
        if thing.type in (RING, KEY):
            told |= {"name": thing.id, "primary": {"state": "ENABLED"}}
        return told

    def _nats(self, router: Thing) -> Iterator[Thing]:
        for each in self.cloud.resources(NAT, given=True):
            if each.inputs["router"] == router.inputs["name"]:
                yield each

    def _find(self, path: str) -> Thing | None:
        kind = NAMED.get(path.split("/")[-2], "")
        return self.cloud.find(kind, path) if kind else None

    def _done(self, method: str, path: str, body: Any) -> dict[str, Any] | None:
        if path.endswith(":destroy"):
            return self._destroyed(path.rpartition("/cryptoKeyVersions/")[0])
        found = self._find(path)
        if found is None:
            return None
        if method == "PATCH":
            kept = {each["name"] for each in body["nats"]}
            for each in [each for each in self._nats(found) if each.inputs["name"] not in kept]:
                self.cloud.remove(NAT, each.id)
            return DONE
        users = [each.id for each in self.cloud.referring(found.type, found.id)]
        if users:
            return {"error": {"code": 400, "message": f"{path} is already being used by {users[0]}"}}
        self.cloud.remove(found.type, found.id)
        return DONE

    def _destroyed(self, key: str) -> dict[str, Any]:
        """Destroy a key's one version: its name is there for ever."""
        self.cloud.remove(KEY, key)
        self.cloud.put(Thing(type=FOR_EVER, id=key, inputs={}, outputs={}, given=True))
        return {"state": "DESTROY_SCHEDULED"}


def _in(thing: Thing, collection: str) -> bool:
    return thing.id.rpartition("/")[0] == collection
