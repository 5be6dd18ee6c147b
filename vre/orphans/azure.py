"""What stands on Azure with a stack's tags. The same sections in the same order as every module beside it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from vre.accounts.azure import TIMEOUT, Api, login
from vre.cloud import Azure
from vre.clouds.azure import KEY_DAYS
from vre.clouds.rented import tags
from vre.config import Config
from vre.errors import VreError
from vre.orphans import Resource, Thing

GROUPS, NETWORK, DISK, VAULT = "2022-09-01", "2024-05-01", "2024-03-02", "2023-07-01"
TYPES = {
    "microsoft.compute/virtualmachines": ("machine", "2024-07-01"),
    "microsoft.network/networkinterfaces": ("network interface", NETWORK),
    "microsoft.network/virtualnetworks/subnets": ("subnet", NETWORK),
    "microsoft.network/natgateways": ("NAT gateway", NETWORK),
    "microsoft.network/publicipaddresses": ("public address", NETWORK),
    "microsoft.network/virtualnetworks": ("network", NETWORK),
    "microsoft.network/networksecuritygroups": ("firewall", NETWORK),
    "microsoft.network/applicationsecuritygroups": ("security group", NETWORK),
    "microsoft.compute/disks": ("disk", DISK),
    "microsoft.compute/diskencryptionsets": ("disk encryption set", DISK),
    "microsoft.keyvault/vaults": ("key vault", VAULT),
    "microsoft.keyvault/vaults/keys": ("key", VAULT),
    "microsoft.resources/resourcegroups": ("resource group", GROUPS),
}
"""What each type is called, and the version of the interface to it. In an order in which they can be deleted."""
VERSIONS = dict(TYPES.values())
PATIENCE = 900.0  # seconds for something to be gone
PAUSE = 5.0


class Account:
    """What is in the subscription of a stack file, with the credentials of the environment."""

    order = tuple(VERSIONS)
    plugin = "azure-native"

    def __init__(self, config: Config, transport: httpx.BaseTransport | None = None) -> None:
        if not isinstance(config.cloud, Azure):
            raise TypeError(f"not an Azure stack: {config.cloud.provider}")
        self.stack = config.name
        client = httpx.Client(timeout=TIMEOUT, transport=transport)
        with _told():
            self.api = Api(client, config.cloud.subscription, login(client))

    def standing(self) -> list[Thing]:
        """Return everything with the stack's tags in its resource group, and that itself."""
        place = f"/resourceGroups/vre-{self.stack}"
        with _told():
            group = self.api.get(place, GROUPS)
            if group is None:
                return []
            found = [each for each in self.api.list(f"{place}/resources", GROUPS) if self._ours(each)]
            if self._ours(group):
                found.append({**group, "type": "microsoft.resources/resourcegroups"})
            return [thing for each in found for thing in self._things(each)]

    def identity(self, resource: Resource) -> str:
        """Return a resource's id."""
        return str(resource.get("id", ""))

    def delete(self, thing: Thing) -> None:
        """Delete a thing, and wait until it is gone."""
        version = VERSIONS[thing.kind]
        with _told():
            if thing.kind == "key" and self.api.get(thing.id, version) is not None:
                raise VreError("Azure deletes a key only with its vault: destroy the stack, and launch it anew")
            if thing.kind == "resource group":
                self._empty(thing)
            if thing.kind != "key":
                self.api.delete(thing.id, version)
            waiting = Retrying(stop=stop_after_delay(PATIENCE), wait=wait_fixed(PAUSE), retry=retry_if_result(bool))
            waiting(lambda: self.api.get(thing.id, version) is not None)

    def _things(self, each: Mapping[str, Any]) -> Iterator[Thing]:
        """Yield what a resource is, and its parts: those have no tags of their own."""
        own, kind = str(each["id"]), TYPES.get(str(each["type"]).lower(), ("", ""))[0]
        # A machine's system disk goes with it.
        if not kind or (each.get("managedBy") and str(each["name"]).endswith("-system")):
            return
        yield Thing(kind=kind, id=own, name=str(each["name"]), **_worth(kind, own))
        for parent, part, path in (("network", "subnet", "subnets"), ("key vault", "key", "keys")):
            for inner in self.api.list(f"{own}/{path}", VERSIONS[part]) if kind == parent else ():
                yield Thing(kind=part, id=str(inner["id"]), name=str(inner["name"]), within=own)

    def _ours(self, each: Mapping[str, Any]) -> bool:
        return tags(self.stack).items() <= (each.get("tags") or {}).items()

    def _empty(self, thing: Thing) -> None:
        """Raise VreError for a group that holds something: whatever it is would go with it."""
        inside = [str(each["name"]) for each in self.api.list(f"{thing.id}/resources", GROUPS)]
        if inside:
            raise VreError(f"the resource group is not empty: {', '.join(inside)}")


def _worth(kind: str, own: str) -> dict[str, Any]:
    """Return what is lost with a thing. What data hangs on is known, too, where a state only mentions it.

    Others name those that use them, so that to be mentioned says nothing.
    """
    key = f"what its key encrypted cannot be read any more; for {KEY_DAYS} days it can be called back"
    losses = {
        "disk": "with whatever data is on it",
        "machine": "its system disk goes with it",
        "key vault": key,
        "disk encryption set": "",
    }
    return {"loss": losses[kind], "words": (own,)} if kind in losses else {}


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise VreError(f"Azure does not answer: {type(error).__name__}") from error
    except RetryError as error:
        raise VreError(f"it is still there after {PATIENCE / 60:.0f} minutes") from error
