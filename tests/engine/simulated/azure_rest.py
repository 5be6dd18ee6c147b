"""Azure Resource Manager over the simulated cloud: what answers whoever asks what stands in a subscription."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from tests.engine.simulated.azure import DELETED, DISK, GRANT, KEY, MACHINE, VAULT, Azure
from tests.engine.simulated.store import Cloud, Thing
from tests.oracle.azure import SUBNET

PARTS = {SUBNET: "subnets", KEY: "keys"}
"""What is listed below the thing that it is a part of, and nowhere else."""


@dataclass(frozen=True, kw_only=True)
class Manager:
    """What a request is answered by. Ids are the same however they are written."""

    cloud: Cloud

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a question, or do what is ordered."""
        if request.url.host == "login.microsoftonline.com":
            return httpx.Response(200, json={"access_token": "a-token"})
        path = request.url.path
        if request.method == "DELETE":
            return self._deleted(path)
        parent, _, last = path.rpartition("/")
        if last == "resources":
            return httpx.Response(200, json={"value": list(self._within(parent))})
        if last in PARTS.values():
            parts = [each for each in self._things() if _same(each.id.rpartition("/")[0], path)]
            return httpx.Response(200, json={"value": [_about(each) for each in parts]})
        found = self._find(path)
        return httpx.Response(200, json=_about(found)) if found else _missing(path)

    def _things(self) -> Iterator[Thing]:
        for kind in Azure.kinds:
            yield from self.cloud.resources(kind.token, given=True)

    def _find(self, path: str) -> Thing | None:
        return next((each for each in self._things() if _same(each.id, path)), None)

    def _within(self, group: str) -> Iterator[dict[str, Any]]:
        """Yield what is listed of a group: no parts, but the system disk that comes with a machine."""
        for each in self._things():
            if each.id.casefold().startswith(f"{group}/".casefold()) and each.type not in (*PARTS, GRANT):
                yield _about(each)
            if each.type == MACHINE:
                disk = each.inputs["storageProfile"]["osDisk"]["name"]
                own = f"{group}/providers/Microsoft.Compute/disks/{disk}"
                tags = each.inputs["tags"]
                yield {"id": own, "name": disk, "type": "Microsoft.Compute/disks", "tags": tags, "managedBy": each.id}

    def _deleted(self, path: str) -> httpx.Response:
        found = self._find(path)
        if found is None:
            return httpx.Response(204)
        every = (self.cloud.find(each.type, each.id) for each in self.cloud.referring(found.type, found.id))
        users = [each for each in every if each is not None and each.type not in (KEY, GRANT)]
        if users:
            return httpx.Response(409, json={"error": {"code": "InUse", "message": f"in use by {users[0].id}"}})
        if found.type == VAULT:
            self._buried(found)
        self.cloud.remove(found.type, found.id)
        return httpx.Response(202)

    def _buried(self, vault: Thing) -> None:
        """Keep a vault's name; its keys and policies go with it."""
        name = vault.inputs["vaultName"]
        for kind in (KEY, GRANT):
            for each in self.cloud.resources(kind, given=True):
                if each.inputs["vaultName"] == name:
                    self.cloud.remove(kind, each.id)
        self.cloud.put(Thing(type=DELETED, id=name, inputs={}, outputs={}, given=True))


def _about(thing: Thing) -> dict[str, Any]:
    # What is listed of some services has the group's name in capitals.
    loud = thing.type in (DISK, MACHINE)
    own = thing.id.replace("/vre-", "/VRE-", 1) if loud else thing.id
    told = {"id": own, "name": thing.outputs["name"], "type": thing.outputs["type"]}
    users = {"managedBy": "a machine"} if thing.type == DISK else {}
    return {**told, **users, "tags": thing.inputs.get("tags") or {}}


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def _missing(path: str) -> httpx.Response:
    return httpx.Response(404, json={"error": {"code": "ResourceNotFound", "message": path}})
