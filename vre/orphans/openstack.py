"""What stands on OpenStack with a stack's tags. The same sections in the same order as every module beside it."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vre.accounts.openstack import catalogue
from vre.cloud import OpenStack
from vre.clouds.rented import tags
from vre.config import Config
from vre.errors import VreError
from vre.orphans import Resource, Thing
from vre.policy import Role

ORDER = (
    "machine", "disk", "public address", "port", "firewall rule", "security group", "router interface", "router",
    "subnet", "network", "key pair",
)  # fmt: skip
INTERFACE = "network:router_interface"
PATIENCE = 300  # seconds for a machine or a disk to be gone


class Account:
    """What is in the project and region of a stack file, with the login of the environment or clouds.yaml."""

    order = ORDER
    plugin = "openstack"

    def __init__(self, config: Config) -> None:
        import openstack

        if not isinstance(config.cloud, OpenStack):
            raise TypeError(f"not an OpenStack stack: {config.cloud.provider}")
        self.stack = config.name
        self.region = config.cloud.region
        with _told():
            self.api: Any = openstack.connect(region_name=self.region)

    def standing(self) -> list[Thing]:
        """Return everything with the stack's tags. A service that the region does not have holds nothing."""
        parts: dict[str, Callable[[], Iterator[Thing]]] = {
            "compute": self._computes, "block-storage": self._stores, "network": self._networks,
        }  # fmt: skip
        with _told():
            there = {service for service, region in catalogue(self.api) if region == self.region}
            return [thing for service, listed in parts.items() if service in there for thing in listed()]

    def identity(self, resource: Resource) -> str:
        """Return a resource's id."""
        return str(resource.get("id", ""))

    def delete(self, thing: Thing) -> None:
        """Delete a thing, and wait until it is gone."""
        network = self.api.network
        by_kind: dict[str, Callable[[str], Any]] = {
            "machine": self._end,
            "disk": self._free,
            "public address": network.delete_ip,
            "port": network.delete_port,
            "firewall rule": network.delete_security_group_rule,
            "security group": network.delete_security_group,
            "router interface": lambda own: network.remove_interface_from_router(thing.within, port_id=own),
            "router": self._close,
            "subnet": network.delete_subnet,
            "network": network.delete_network,
            "key pair": self._forget,
        }
        with _told(gone=True):
            by_kind[thing.kind](thing.id)

    def _computes(self) -> Iterator[Thing]:
        for each in self.api.compute.servers():
            if self._is_tagged(each.metadata):
                yield _thing("machine", each)
        # A key pair knows no tags.
        for each in self.api.compute.keypairs():
            if each.name == f"vre-{self.stack}":
                yield Thing(kind="key pair", id=str(each.name))

    def _stores(self) -> Iterator[Thing]:
        for each in self.api.block_storage.volumes():
            if self._is_tagged(each.metadata):
                yield _thing("disk", each, loss=f"{each.size} GiB, and whatever data is on it")

    def _networks(self) -> Iterator[Thing]:
        own, api = self.api.current_project_id, self.api.network
        machine = r"-(control|worker-\d+)"
        role = f"-({'|'.join(sorted((*map(str, Role), 'nodes')))})"
        for each in api.ips(project_id=own):
            if self._ours(each.tags, each.description or "", prefix="VRE machine ", ending=machine):
                yield _thing("public address", each, name=str(each.floating_ip_address))
        for each in api.ports(project_id=own):
            if self._ours(each.tags, each.name, ending=machine):
                yield _thing("port", each)
        for each in api.security_groups(project_id=own):
            if self._ours(each.tags, each.name, ending=role):
                yield _thing("security group", each)
                for rule in api.security_group_rules(security_group_id=each.id):
                    name = (
                        f"{each.name} {rule.direction} {rule.protocol or 'any'} {rule.remote_ip_prefix or ''}".strip()
                    )
                    yield _thing("firewall rule", rule, name=name, within=str(each.id))
        for each in api.routers(project_id=own):
            if self._ours(each.tags, each.name):
                yield _thing("router", each)
                for port in api.ports(device_id=each.id, device_owner=INTERFACE):
                    yield _thing("router interface", port, name=str(each.name), within=str(each.id))
        for kind, listed, ending in (("subnet", api.subnets, "-ipv[46]"), ("network", api.networks, "")):
            yield from (
                _thing(kind, each) for each in listed(project_id=own) if self._ours(each.tags, each.name, ending=ending)
            )

    def _is_tagged(self, metadata: Mapping[str, str] | None) -> bool:
        return tags(self.stack).items() <= (metadata or {}).items()

    def _ours(self, given: list[str] | None, name: str, *, prefix: str = "vre-", ending: str = "") -> bool:
        """Say whether something in Neutron is the stack's.

        It gets its tags after it was made: without any, it is by its name, which no other stack gives to such a thing.
        """
        marks = {f"{key}={value}" for key, value in tags(self.stack).items()}
        if any(each.startswith("vre=") for each in given or ()):
            return marks <= set(given or ())
        return re.fullmatch(f"{prefix}{re.escape(self.stack)}{ending}", name) is not None

    def _forget(self, own: str) -> None:
        self.api.compute.delete_keypair(own)

    def _end(self, own: str) -> None:
        self.api.compute.delete_server(own)
        self.api.compute.wait_for_delete(self.api.compute.get_server(own), wait=PATIENCE)

    def _free(self, own: str) -> None:
        self.api.block_storage.delete_volume(own)
        self.api.block_storage.wait_for_delete(self.api.block_storage.get_volume(own), wait=PATIENCE)

    def _close(self, own: str) -> None:
        for port in self.api.network.ports(device_id=own, device_owner=INTERFACE):
            self.api.network.remove_interface_from_router(own, port_id=port.id)
        self.api.network.delete_router(own)


def _thing(kind: str, each: Any, *, name: str = "", within: str = "", loss: str = "") -> Thing:
    own = str(each.id)
    return Thing(kind=kind, id=own, name=name or str(each.name or ""), words=(own,), within=within, loss=loss)


@contextmanager
def _told(*, gone: bool = False) -> Iterator[None]:
    """Say in our words what the cloud refuses. With `gone`, that a thing is not there any more is no fault."""
    from keystoneauth1.exceptions import ClientException
    from openstack.exceptions import NotFoundException, SDKException

    try:
        yield
    except NotFoundException as error:
        if not gone:
            raise VreError(f"OpenStack refuses: {' '.join(str(error).split())}") from error
    except (SDKException, ClientException) as error:
        raise VreError(f"OpenStack refuses: {' '.join(str(error).split())}") from error
