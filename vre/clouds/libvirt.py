"""libvirt. The same sections in the same order as every module beside it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from pulumi import Output, ResourceOptions

from vre import resources
from vre.cloud import Libvirt
from vre.clouds.site import Data, Made, Order
from vre.config import Config
from vre.errors import Finding
from vre.fields import servers
from vre.inventory import Machine, Plan
from vre.machine.cloudinit import Seed
from vre.machine.seed import encoded
from vre.plan import Surroundings, host_address
from vre.policy import Network as Cidr
from vre.policy import Policy, Protocol

GIB = 1024**3
DATA_SERIAL = "vre-data"
FIRST_PRIORITY = 300
LAST_PRIORITY = 900


@dataclass(frozen=True, kw_only=True)
class Network:
    """The stack's own network and the pool its disks lie in."""

    order: Order
    uri: str
    resource: resources.Network
    pool: resources.Pool
    ranges: tuple[str, ...]
    resolvers: tuple[str, ...]
    child: ResourceOptions

    @property
    def gateways(self) -> tuple[str, ...]:
        """The hypervisor's addresses: what leaves the network goes through them."""
        return tuple(host_address(each, 1) for each in self.ranges)

    def interfaces(self, machine: Machine) -> tuple[str, ...]:
        """Return a machine's addresses with their prefix lengths."""
        addresses = (machine.ipv4, machine.ipv6)
        return tuple(f"{one}/{ip_network(each).prefixlen}" for one, each in zip(addresses, self.ranges, strict=False))


def surroundings(config: Config) -> Surroundings:
    """Say that the hypervisor operates the stack and resolves names for it, from its addresses in the network."""
    own = tuple(str(ip_network(host_address(each, 1))) for each in _ranges(config))
    return Surroundings(operators=own, resolvers=own)


def faults(config: Config, plan: Plan) -> Iterator[Finding]:
    """Yield nothing: what a hypervisor of one's own cannot do, it has to be asked."""
    yield from ()


def network(order: Order, opts: ResourceOptions) -> Network:
    """Make the network, isolated or behind NAT, and the pool for its disks."""
    config = order.config
    cloud = _cloud(config)
    uri = cloud.uri
    made = resources.Network(
        "network",
        uri=uri,
        name=f"vre-{config.name}",
        bridge=bridge(config.name),
        ipv4=cloud.network,
        ipv6=cloud.network6,
        mode=cloud.mode,
        domain=f"{config.name}.internal",
        hosts=[{"name": m.name, "mac": m.mac, "ipv4": m.ipv4, "ipv6": m.ipv6} for m in order.plan.machines],
        opts=opts,
    )
    pool = resources.Pool("pool", uri=uri, name=f"vre-{config.name}", path=folder(config), opts=opts)
    return Network(
        order=order,
        uri=uri,
        resource=made,
        pool=pool,
        ranges=_ranges(config),
        resolvers=_resolvers(config),
        child=opts,
    )


def firewalls(net: Network) -> dict[str, resources.Filter]:
    """Make a filter in front of each machine, from the policy. The machine's own nftables says the same again."""
    return {machine.name: _filter(net, machine) for machine in net.order.plan.machines}


def _filter(net: Network, machine: Machine) -> resources.Filter:
    return resources.Filter(
        f"{machine.name}-filter",
        uri=net.uri,
        name=f"vre-{machine.name}",
        mac=machine.mac,
        rules=filter_rules(net.order.policy, machine, _ranges(net.order.config)),
        anti_spoofing=True,
        opts=net.child,
    )


def data(net: Network, machine: Machine) -> Data:
    """Make a machine's data disk, encrypted by libvirt with a key that only libvirt's secret holds."""
    secret = resources.Secret(f"{machine.name}-key", uri=net.uri, name=f"vre-{machine.name}-data", opts=net.child)
    volume = resources.Volume(
        f"{machine.name}-data",
        uri=net.uri,
        pool=net.pool.name,
        name=volumes(machine)[1],
        format="raw",
        capacity=machine.data * GIB,
        encryption={"secret": secret.uuid},
        opts=net.child,
    )
    disk = {
        "volume": volume.path,
        "format": "raw",
        "device": "disk",
        "target": "vdb",
        "serial": DATA_SERIAL,
        "secret": secret.uuid,
    }
    return Data(device=f"/dev/disk/by-id/virtio-{DATA_SERIAL}", volume=disk)


def machine(net: Network, plan: Machine, guard: resources.Filter, data: Data, boot: Output[Seed]) -> Made:
    """Make one machine: system disk from the base image, data disk, seed, and its place in the network."""
    domain = resources.Domain(
        plan.name,
        uri=net.uri,
        name=f"vre-{plan.name}",
        cpus=plan.cpus,
        memory=plan.memory,
        accelerator=_cloud(net.order.config).accelerator,
        disks=_disks(net, plan, data, boot),
        interfaces=[
            {
                "network": net.resource.name,
                "mac": plan.mac,
                "filter": guard.name,
                "addresses": [address for address in (plan.ipv4, plan.ipv6) if address],
            }
        ],
        console=net.pool.path.apply(lambda path: f"{path}/{plan.name}-console.log"),
        autostart=True,
        opts=net.child,
    )
    return Made(resource=domain, id=domain.uuid, address=plan.ipv4, accelerator=domain.accelerator)


def _disks(net: Network, plan: Machine, data: Data, boot: Output[Seed]) -> list[dict[str, Any]]:
    # A newer base image or other first-boot instructions are for new machines: a standing one keeps its disks.
    once = ResourceOptions.merge(net.child, ResourceOptions(ignore_changes=["source", "sourceId", "content"]))
    system = resources.Volume(
        f"{plan.name}-system",
        uri=net.uri,
        pool=net.pool.name,
        name=volumes(plan)[0],
        format="qcow2",
        capacity=plan.disk * GIB,
        source=net.order.image.path,
        source_id=net.order.image.id,
        opts=once,
    )
    first = resources.Volume(
        f"{plan.name}-seed",
        uri=net.uri,
        pool=net.pool.name,
        name=f"{plan.name}-seed.iso",
        format="raw",
        content=Output.secret(boot.apply(encoded)),
        opts=once,
    )
    return [
        {"volume": system.path, "format": "qcow2", "device": "disk", "target": "vda", "serial": "vre-system"},
        data.volume,
        {"volume": first.path, "format": "raw", "device": "disk", "target": "vdc", "serial": "vre-seed"},
    ]


def filter_rules(policy: Policy, machine: Machine, ranges: Sequence[str]) -> list[dict[str, Any]]:
    """Return the nwfilter rules of one machine: what the policy lets in and out, then a drop.

    `ranges` are those of the stack's network.
    """
    flows = [
        (_direction("in"), rule.protocol, str(rule.ports), rule.why, policy.of(rule.origin))
        for rule in policy.into(machine.role)
    ] + [
        (_direction("out"), outlet.protocol, str(outlet.ports), outlet.why, policy.of(outlet.destination))
        for outlet in policy.out_of(machine.role)
    ]
    rules = [
        _accept(direction, protocol, ports, why, peer)
        for direction, protocol, ports, why, peers in flows
        for peer in peers
    ]
    unique = list({tuple(sorted(rule.items())): rule for rule in rules}.values())
    return [*_resolution(), *_begun(ranges), *unique, *_last()]


def _direction(word: str) -> Mapping[str, str]:
    return {"direction": word, "peer": "source" if word == "in" else "destination"}


def _accept(direction: Mapping[str, str], protocol: Protocol, ports: str, why: str, peer: Cidr) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "direction": direction["direction"],
        "action": "accept",
        "family": f"ipv{peer.version}",
        "protocol": str(protocol),
        "ports": ports,
        "priority": FIRST_PRIORITY,
        "comment": why,
    }
    return rule if peer.prefixlen == 0 else {**rule, direction["peer"]: str(peer)}


def _resolution() -> Sequence[dict[str, Any]]:
    """Address resolution and path MTU, without which nothing else works (RFC 4890)."""
    every = {"action": "accept", "priority": FIRST_PRIORITY - 100}
    return [
        {**every, "direction": direction, "family": family, "protocol": protocol, "comment": "address resolution"}
        for direction in ("in", "out")
        for family, protocol in (("arp", "all"), ("ipv6", "icmpv6"), ("ipv4", "icmp"))
    ]


def _begun(ranges: Sequence[str]) -> Sequence[dict[str, Any]]:
    """What machines of the stack began with each other goes on, as in a rented cloud's firewall and the machine's own.

    A worker that leaves is no peer any more before it is drained: without this it would not hear that it is to drain.
    """
    return [
        {
            "direction": direction,
            "action": "accept",
            "family": f"ipv{ip_network(network).version}",
            "protocol": "all",
            "priority": FIRST_PRIORITY - 50,
            "established": True,
            _direction(direction)["peer"]: network,
            "comment": "what has begun between machines of the stack",
        }
        for direction in ("in", "out")
        for network in ranges
        if network
    ]


def _last() -> Sequence[dict[str, Any]]:
    return [
        {
            "direction": direction,
            "action": "drop",
            "family": "any",
            "protocol": "all",
            "priority": LAST_PRIORITY,
            "comment": "whatever no rule names",
        }
        for direction in ("in", "out")
    ]


def bridge(name: str) -> str:
    """Return the bridge's name: the kernel allows 15 characters."""
    return f"vre{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _ranges(config: Config) -> tuple[str, ...]:
    cloud = _cloud(config)
    return (cloud.network, cloud.network6)


def _resolvers(config: Config) -> tuple[str, ...]:
    return servers(config.outbound.resolvers) or (host_address(_cloud(config).network, 1),)


def volumes(machine: Machine) -> tuple[str, str]:
    """Return the names of a machine's system disk and data disk in the pool."""
    return f"{machine.name}-system.qcow2", f"{machine.name}-data.img"


def folder(config: Config) -> str:
    """Return the folder of the stack's pool, as the hypervisor names it."""
    return f"{_cloud(config).pool or '/var/lib/libvirt/images'}/vre-{config.name}"


def _cloud(config: Config) -> Libvirt:
    if not isinstance(config.cloud, Libvirt):
        raise TypeError(f"not a libvirt stack: {config.cloud.provider}")
    return config.cloud
