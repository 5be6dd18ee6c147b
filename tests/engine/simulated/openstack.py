"""OpenStack: keystone and neutron are real (`tests/engine/openstack_services.py`), nova, cinder and glance are not.

What a change replaces is from the provider's own documentation (https://www.pulumi.com/registry/packages/openstack/).
Whoever runs the engine is logged in by its environment, as with the official plugin.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import openstack
from openstack import exceptions

from tests.engine.simulated.openstack_compute import (
    IMAGE,
    IMAGES,
    NOTHING,
    PORT,
    Instance,
    Keypair,
    Volume,
    find_flavor,
    find_image,
    image_id,
)  # fmt: skip
from tests.engine.simulated.store import Thing
from tests.engine.simulated.table import Call, CloudError, Kind, Provider
from vre.provider.handler import Found, Props

NETWORK = "openstack:networking/network:Network"
SUBNET = "openstack:networking/subnet:Subnet"
ROUTER = "openstack:networking/router:Router"
INTERFACE = "openstack:networking/routerInterface:RouterInterface"
GROUP = "openstack:networking/secGroup:SecGroup"
RULE = "openstack:networking/secGroupRule:SecGroupRule"
FLOATING = "openstack:networking/floatingIp:FloatingIp"
ASSOCIATION = "openstack:networking/floatingIpAssociate:FloatingIpAssociate"
LOCK = threading.Lock()
CONNECTIONS: dict[str, Any] = {}


@contextmanager
def neutron(region: str) -> Iterator[Any]:
    """Ask the real neutron; what it refuses is told in its own words."""
    with LOCK:
        try:
            if region not in CONNECTIONS:
                CONNECTIONS[region] = openstack.connect(region_name=region, load_yaml_config=False)
            yield CONNECTIONS[region].network
        except (exceptions.SDKException, Exception) as error:
            if isinstance(error, CloudError):
                raise
            raise CloudError(str(error)) from error


class Real(Kind):
    """What stands in neutron: made, looked at, changed and removed there."""

    noun: ClassVar[str]
    """What the SDK for the API calls it."""
    fields: ClassVar[Mapping[str, str]] = {}
    """Inputs, and what the API's SDK calls them."""
    optional: ClassVar[frozenset[str]] = frozenset()

    def told(self, call: Call, inputs: Props) -> Props:
        """Return what neutron is told."""
        return {to: inputs[name] for name, to in self.fields.items() if inputs.get(name) is not None}

    def seen(self, call: Call, real: Any) -> Props:
        """Return the inputs as neutron has them."""
        return {name: getattr(real, to) for name, to in self.fields.items()}

    def computed(self, call: Call, real: Any) -> Props:
        """Return what neutron made up."""
        return {}

    def create(self, call: Call) -> Props:
        """Make it in neutron."""
        with neutron(call.config["region"]) as api:
            real = getattr(api, f"create_{self.noun}")(**self.told(call, call.inputs))
            call.id = real.id
            self.after(api, real)
            self._tag(api, real, call)
            return {"region": call.config["region"], **self._about(call, real)}

    def after(self, api: Any, real: Any) -> None:
        """Do what else belongs to making it."""

    def read(self, call: Call) -> Found | None:
        """Look at it in neutron."""
        with neutron(call.config["region"]) as api:
            real = getattr(api, f"find_{self.noun}")(call.id)
            if real is None:
                return None
            now = {name: value for name, value in self.seen(call, real).items() if name in call.inputs}
            if "tags" in call.inputs:
                now["tags"] = _as_before(call.inputs["tags"], real.tags)
            inputs = {**call.inputs, **now}
            return Found(inputs=inputs, outputs={**call.state, **inputs, **self._about(call, real)})

    def update(self, call: Call) -> Props:
        """Change it in neutron."""
        with neutron(call.config["region"]) as api:
            changed = {key: value for key, value in call.inputs.items() if value != call.old_inputs.get(key)}
            real = getattr(api, f"get_{self.noun}")(call.id)
            if changed.keys() - {"tags"}:
                real = getattr(api, f"update_{self.noun}")(real, **self.told(call, changed))
            self._tag(api, real, call)
            return self._about(call, real)

    def delete(self, call: Call) -> None:
        """Remove it from neutron."""
        with neutron(call.config["region"]) as api:
            getattr(api, f"delete_{self.noun}")(call.id, ignore_missing=True)

    def _tag(self, api: Any, real: Any, call: Call) -> None:
        if call.inputs.get("tags"):
            api.set_tags(real, call.inputs["tags"])

    def _about(self, call: Call, real: Any) -> Props:
        tags = {"allTags": sorted(call.inputs.get("tags") or [])} if self.noun != "security_group_rule" else {}
        return {"tenantId": real.project_id, **tags, **self.computed(call, real)}


def _as_before(before: list[Any], now: list[Any]) -> list[Any]:
    """Return what neutron says in the order that was asked for: it keeps none."""
    return before if sorted(map(str, before)) == sorted(map(str, now)) else sorted(now)


class Network(Real):
    """A network."""

    token = NETWORK
    noun = "network"
    named = "name"
    known_by = ("name",)
    replace_on = frozenset({"region", "tenantId", "segments", "valueSpecs", "availabilityZoneHints"})
    fields: ClassVar = {"name": "name", "portSecurityEnabled": "is_port_security_enabled"}

    def computed(self, call: Call, real: Any) -> Props:
        """Give what is the usual."""
        return {"adminStateUp": True, "mtu": real.mtu}


class Subnet(Real):
    """A range of addresses in a network."""

    token = SUBNET
    noun = "subnet"
    named = "name"
    replace_on = frozenset({"region", "networkId", "cidr", "ipVersion", "tenantId", "ipv6AddressMode", "ipv6RaMode"})
    refers: ClassVar = {"networkId": NETWORK}
    fields: ClassVar = {
        "name": "name", "networkId": "network_id", "cidr": "cidr", "ipVersion": "ip_version",
        "enableDhcp": "is_dhcp_enabled", "dnsNameservers": "dns_nameservers",
    }  # fmt: skip

    def told(self, call: Call, inputs: Props) -> Props:
        """Ask for no gateway where none is wanted."""
        return {**super().told(call, inputs), **({"gateway_ip": None} if inputs.get("noGateway") else {})}

    def seen(self, call: Call, real: Any) -> Props:
        """Say whether there is a gateway."""
        return {**super().seen(call, real), "noGateway": real.gateway_ip is None}

    def computed(self, call: Call, real: Any) -> Props:
        """Give the gateway."""
        return {"gatewayIp": real.gateway_ip or ""}


class Router(Real):
    """A router to the network outside."""

    token = ROUTER
    noun = "router"
    named = "name"
    replace_on = frozenset({"region", "distributed", "tenantId", "valueSpecs", "availabilityZoneHints"})
    refers: ClassVar = {"externalNetworkId": NETWORK}
    fields: ClassVar = {"name": "name"}

    def told(self, call: Call, inputs: Props) -> Props:
        """Say where outside is."""
        outside = inputs.get("externalNetworkId")
        return {**super().told(call, inputs), **({"external_gateway_info": {"network_id": outside}} if outside else {})}

    def seen(self, call: Call, real: Any) -> Props:
        """Say where outside is."""
        info = real.external_gateway_info or {}
        return {**super().seen(call, real), "externalNetworkId": info.get("network_id")}


class RouterInterface(Kind):
    """A subnet's way to a router. It has no name, and the id of the port that it is."""

    token = INTERFACE
    replace_on = frozenset({"region", "routerId", "subnetId", "portId"})
    refers: ClassVar = {"routerId": ROUTER, "subnetId": SUBNET}

    def create(self, call: Call) -> Props:
        """Join them."""
        with neutron(call.config["region"]) as api:
            made = api.add_interface_to_router(call.inputs["routerId"], subnet_id=call.inputs["subnetId"])
            call.id = made["port_id"]
        return {"region": call.config["region"], "portId": call.id}

    def read(self, call: Call) -> Found | None:
        """Look at the port."""
        with neutron(call.config["region"]) as api:
            there = api.find_port(call.id) is not None
        return Found(inputs=call.inputs, outputs=call.state) if there else None

    def delete(self, call: Call) -> None:
        """Part them."""
        with neutron(call.config["region"]) as api:
            if api.find_port(call.id) is not None:
                api.remove_interface_from_router(call.state["routerId"], subnet_id=call.state["subnetId"])


class SecGroup(Real):
    """A security group."""

    token = GROUP
    noun = "security_group"
    named = "name"
    replace_on = frozenset({"region", "tenantId", "deleteDefaultRules"})
    fields: ClassVar = {"name": "name", "description": "description", "stateful": "stateful"}

    def create(self, call: Call) -> Props:
        """Make it, and take away the rules that it comes with where they are not wanted."""
        made = super().create(call)
        if call.inputs.get("deleteDefaultRules"):
            with neutron(call.config["region"]) as api:
                for rule in api.get_security_group(call.id).security_group_rules:
                    api.delete_security_group_rule(rule["id"])
        return {**made, "stateful": True}


class SecGroupRule(Real):
    """A rule of a security group: never changed, only made anew."""

    token = RULE
    noun = "security_group_rule"
    refers: ClassVar = {"securityGroupId": GROUP, "remoteGroupId": GROUP}
    frees = frozenset({"securityGroupId", "remoteGroupId"})
    fields: ClassVar = {
        "securityGroupId": "security_group_id", "direction": "direction", "ethertype": "ether_type",
        "protocol": "protocol", "portRangeMin": "port_range_min", "portRangeMax": "port_range_max",
        "remoteGroupId": "remote_group_id", "remoteIpPrefix": "remote_ip_prefix", "description": "description",
    }  # fmt: skip
    replace_on = frozenset(fields) | {"region"}

    def computed(self, call: Call, real: Any) -> Props:
        """Give the ports as neutron has them: none where all were asked for."""
        return {"portRangeMin": real.port_range_min or 0, "portRangeMax": real.port_range_max or 0}


class Port(Real):
    """A machine's place in a network."""

    token = PORT
    noun = "port"
    named = "name"
    replace_on = frozenset({"region", "networkId", "macAddress", "tenantId"})
    refers: ClassVar = {"networkId": NETWORK, "fixedIps[*].subnetId": SUBNET, "securityGroupIds[*]": GROUP}
    fields: ClassVar = {
        "name": "name", "networkId": "network_id", "portSecurityEnabled": "is_port_security_enabled",
        "securityGroupIds": "security_group_ids",
    }  # fmt: skip

    def told(self, call: Call, inputs: Props) -> Props:
        """Ask for addresses."""
        made = super().told(call, inputs)
        if "fixedIps" in inputs:
            pairs = [{"subnet_id": each["subnetId"], "ip_address": each["ipAddress"]} for each in inputs["fixedIps"]]
            made["fixed_ips"] = pairs
        return made

    def seen(self, call: Call, real: Any) -> Props:
        """Say which addresses it has."""
        pairs = [{"subnetId": each["subnet_id"], "ipAddress": each["ip_address"]} for each in real.fixed_ips]
        before = call.inputs.get("fixedIps") or []
        same = sorted(map(str, pairs)) == sorted(
            str({key: each[key] for key in ("subnetId", "ipAddress")}) for each in before
        )
        groups = _as_before(call.inputs.get("securityGroupIds") or [], real.security_group_ids)
        return {**super().seen(call, real), "securityGroupIds": groups, "fixedIps": before if same else pairs}

    def computed(self, call: Call, real: Any) -> Props:
        """Give its addresses."""
        return {"macAddress": real.mac_address, "allFixedIps": [each["ip_address"] for each in real.fixed_ips]}


class FloatingIp(Real):
    """An address outside that leads to a port."""

    token = FLOATING
    noun = "ip"
    replace_on = frozenset({"region", "pool", "address", "subnetId", "tenantId", "dnsName", "dnsDomain", "valueSpecs"})
    known_by = ("address",)
    fields: ClassVar = {"description": "description"}

    def told(self, call: Call, inputs: Props) -> Props:
        """Ask for one of a pool."""
        made = super().told(call, inputs)
        if "pool" in inputs:
            made["floating_network_id"] = _outside(call, inputs["pool"])
        return made

    def computed(self, call: Call, real: Any) -> Props:
        """Give the address."""
        return {"address": real.floating_ip_address, "fixedIp": real.fixed_ip_address or ""}


class FloatingIpAssociate(Kind):
    """That an address outside leads to a port."""

    token = ASSOCIATION
    replace_on = frozenset({"region", "floatingIp"})
    refers: ClassVar = {"floatingIp": FLOATING, "portId": PORT}
    frees = frozenset({"portId"})

    def create(self, call: Call) -> Props:
        """Lead it there."""
        found = call.find(FLOATING, call.inputs["floatingIp"])
        call.id = found.id if found else ""
        return {"region": call.config["region"], **self.update(call)}

    def update(self, call: Call) -> Props:
        """Lead it elsewhere."""
        with neutron(call.config["region"]) as api:
            real = api.update_ip(call.id, port_id=call.inputs["portId"])
        return {"fixedIp": real.fixed_ip_address}

    def read(self, call: Call) -> Found | None:
        """Look where it leads; nowhere is gone."""
        with neutron(call.config["region"]) as api:
            real = api.find_ip(call.id)
        if real is None or not real.port_id:
            return None
        now = {"portId": real.port_id}
        return Found(inputs={**call.inputs, **now}, outputs={**call.state, **now})

    def delete(self, call: Call) -> None:
        """Lead it nowhere."""
        with neutron(call.config["region"]) as api:
            if api.find_ip(call.id) is not None:
                api.update_ip(call.id, port_id=None)


def _outside(call: Call, name: str) -> str:
    found = next((each for each in call.things(NETWORK) if each.given and each.inputs["name"] == name), None)
    if found is None:
        raise CloudError(f"Error retrieving floating IP pool name: Unable to find network with name {name}")
    return found.id


def find_network(call: Call) -> Props:
    """Find a network by its name, in neutron."""
    with neutron(call.config["region"]) as api:
        found = list(api.networks(name=call.inputs["name"], is_router_external=call.inputs.get("external")))
    if len(found) != 1:
        raise CloudError(NOTHING)
    return {**call.inputs, "id": found[0].id, "adminStateUp": "true"}


class OpenStack(Provider):
    """The cloud."""

    name = "openstack"
    sdk = "pulumi_openstack"
    kinds = (
        Network, Subnet, Router, RouterInterface, SecGroup, SecGroupRule, Port, FloatingIp, FloatingIpAssociate,
        Keypair, Volume, Instance,
    )  # fmt: skip
    functions: ClassVar = {
        "openstack:networking/getNetwork:getNetwork": find_network,
        "openstack:images/getImage:getImage": find_image,
        "openstack:compute/getFlavor:getFlavor": find_flavor,
    }

    def given(self, config: Props) -> Iterable[Thing]:
        """Say what stands there: the network outside (in neutron), and images."""
        with neutron(config["region"]) as api:
            outside = list(api.networks(is_router_external=True))
        for each in outside:
            yield Thing(type=NETWORK, id=each.id, inputs={"name": each.name}, outputs={"name": each.name})
        for name, _ in IMAGES:
            yield Thing(type=IMAGE, id=image_id(name), inputs={"name": name}, outputs={"name": name})


PROVIDER = OpenStack
