"""What a cloud hands on: machines that run, each with how to reach it. The same on every cloud."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pulumi
from pulumi import Input, Output, ResourceOptions

from vre import access, resources
from vre.config import Config
from vre.errors import VreError
from vre.inventory import Machine, Plan
from vre.machine import cloudinit, nftables, seed
from vre.policy import Peer, Policy

USER = "vre"
FIREWALL = "/etc/vre/firewall.nft"
AUTHORIZED_KEYS = f"/home/{USER}/.ssh/authorized_keys"


@dataclass(frozen=True, kw_only=True)
class Disk:
    """The base image as a file here, and its content's hash."""

    path: str
    id: str


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be built: the same for every machine."""

    config: Config
    plan: Plan
    policy: Policy
    image: Disk


@dataclass(frozen=True, kw_only=True)
class Made:
    """A machine as a cloud made it: `id` changes when it is replaced, `accelerator` is kvm, tcg or native."""

    resource: pulumi.Resource
    id: Output[str]
    address: Input[str]
    accelerator: Output[str]


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine that has booted and answers with its pinned host key."""

    machine: Machine
    resource: pulumi.Resource
    id: Output[str]
    address: Input[str]
    accelerator: Output[str]
    connection: Mapping[str, Any]
    host_key: Output[str]
    ready: resources.Machine


def inside(base: ResourceOptions, machine: pulumi.Resource, *after: pulumi.Resource) -> ResourceOptions:
    """Return options for what lives inside a machine: it comes after `after`, and goes when the machine goes."""
    return ResourceOptions.merge(base, ResourceOptions(depends_on=list(after), deleted_with=machine))


def cloud(config: Config) -> ModuleType:
    """Return the module of the chosen cloud, and import no other. Raises VreError for one that is not in place."""
    name = f"vre.clouds.{config.cloud.provider}"
    if find_spec(name) is None:
        raise VreError(f"nothing can be launched on {config.cloud.provider} yet", hint="in place is: libvirt")
    return import_module(name)


class Site(pulumi.ComponentResource):
    """Network, firewalls and machines of one stack on one cloud."""

    nodes: list[Node]

    def __init__(self, order: Order) -> None:
        """Build everything left of the cluster."""
        super().__init__("vre:site:Site", order.config.name)
        child = ResourceOptions(parent=self)
        room = cloud(order.config)
        net = room.network(order, child)
        self.nodes = [_node(room, net, order, machine, child) for machine in order.plan.machines]
        self.register_outputs({"machines": [node.machine.name for node in self.nodes]})


def _node(room: ModuleType, net: Any, order: Order, machine: Machine, child: ResourceOptions) -> Node:
    first, pinned = (resources.HostKey(f"{machine.name}-{kind}-host-key", opts=child) for kind in ("first", "pinned"))
    made: Made = room.machine(net, machine, room.firewall(net, machine), _boot(net, order, machine, first))
    connection = {
        "address": made.address,
        "port": 22,
        "user": USER,
        "hostKeys": [pinned.public_key],
        "identity": access.identity(order.config),
    }
    ready = resources.Machine(
        machine.name,
        machine=made.id,
        connection=connection,
        boot_keys=[first.public_key],
        host_key={"publicKey": pinned.public_key, "privateKey": pinned.private_key},
        opts=inside(child, made.resource),
    )
    _access(order, machine, made, connection, inside(child, made.resource, ready))
    return Node(
        machine=machine,
        resource=made.resource,
        id=made.id,
        address=made.address,
        accelerator=made.accelerator,
        connection=connection,
        host_key=pinned.public_key,
        ready=ready,
    )


def _access(
    order: Order, machine: Machine, made: Made, connection: Mapping[str, Any], after: ResourceOptions
) -> resources.Files:
    """Keep a standing machine's firewall and keys as the stack file says now: cloud-init set them at its first boot."""
    lines = "".join(f"{key}\n" for key in access.keys(order.config))
    return resources.Files(
        f"{machine.name}-access",
        machine=made.id,
        connection=connection,
        files=[
            {"path": FIREWALL, "mode": "0600", "owner": "root", "content": rules(order.policy, machine)},
            {"path": AUTHORIZED_KEYS, "mode": "0600", "owner": USER, "content": lines},
        ],
        after=[["nft", "-f", FIREWALL]],
        opts=after,
    )


def rules(policy: Policy, machine: Machine) -> str:
    """Return the machine's own firewall."""
    own = tuple(address for address in (machine.ipv4, machine.ipv6) if address)
    return nftables.ruleset(policy, machine.role, nftables.Site(addresses=own))


def _boot(net: Any, order: Order, machine: Machine, first: resources.HostKey) -> Output[str]:
    """Return the seed for a machine's first boot. A secret: it holds the host key for the first contact."""

    def render(public: str, private: str) -> str:
        boot = cloudinit.Boot(
            name=machine.name,
            mac=machine.mac,
            addresses=net.interfaces(machine),
            keys=access.keys(order.config),
            host_key=cloudinit.HostKey(public=public, private=private),
            firewall=rules(order.policy, machine),
            gateways=net.gateways,
            resolvers=net.resolvers,
            nodes={
                each.name: [address for address in (each.ipv4, each.ipv6) if address] for each in order.plan.machines
            },
            time_servers=[str(network.network_address) for network in order.policy.of(Peer.TIME)],
            data_serial=net.data_serial,
            upgrade=bool(order.policy.of(Peer.MIRRORS)),
        )
        return seed.encoded(cloudinit.render(boot))

    return Output.secret(Output.all(first.public_key, first.private_key).apply(lambda pair: render(*pair)))
