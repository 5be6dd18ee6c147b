"""What a cloud hands on: machines that run, each with how to reach it. The same on every cloud."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pulumi
from pulumi import Input, Output, ResourceOptions

from vre import access, clouds, resources
from vre.config import Config
from vre.errors import Finding
from vre.fields import servers
from vre.inventory import Machine, Plan
from vre.machine import cloudinit, nftables, patches
from vre.plan import Surroundings
from vre.policy import Peer, Policy, Role

USER = "vre"
FIREWALL = "/etc/vre/firewall.nft"
AUTHORIZED_KEYS = f"/home/{USER}/.ssh/authorized_keys"


@dataclass(frozen=True, kw_only=True)
class Disk:
    """The base image as a file here, and its content's hash.

    `images` are the container images by their short names, `layout` the folder here that holds them; empty where the
    image is a release, whose disk alone holds them.
    """

    path: str
    id: str
    images: Mapping[str, str] = field(default_factory=dict)
    layout: str = ""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be built: the same for every machine.

    Where machines start from Debian's own image, `packages` are those of Debian that ours has beyond it, and `image` is
    the archive of everything else.
    """

    config: Config
    plan: Plan
    policy: Policy
    image: Disk
    packages: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Data:
    """A machine's data disk: `device` is its path on the machine, `volume` what the cloud's module wants to know."""

    device: Input[str]
    volume: Any


@dataclass(frozen=True, kw_only=True)
class Made:
    """A machine as a cloud made it.

    `id` changes when it is replaced, `accelerator` is kvm, tcg or native. `address` is where operators reach it: public
    where it has such an address, else its own in the stack's network.
    """

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
    ready: pulumi.Resource
    """What stands once the machine can be given work."""
    images: Sequence[pulumi.Resource]
    """What stands once the machine has every container image that pods are made from."""


class Net(Protocol):
    """What a cloud's network says to cloud-init: nothing where the cloud's DHCP says it."""

    @property
    def gateways(self) -> Sequence[str]:
        """Addresses that what leaves the network goes through."""

    @property
    def resolvers(self) -> Sequence[str]:
        """Addresses of name servers."""

    def interfaces(self, machine: Machine) -> Sequence[str]:
        """Return a machine's addresses with their prefix lengths."""


class Room(Protocol):
    """What every cloud's module has, under the same names and in the same order."""

    def surroundings(self, config: Config) -> Surroundings:
        """Return who the cloud has around the machines. Pure."""

    def faults(self, config: Config, plan: Plan) -> Iterator[Finding]:
        """Yield what the cloud would refuse, as far as that can be known without asking it. Pure."""

    def network(self, order: Order, opts: ResourceOptions) -> Any:
        """Make addresses and routes."""

    def firewalls(self, net: Any) -> Mapping[str, Any]:
        """Make the guards in front of the machines, from the policy; return each machine's by its name."""

    def data(self, net: Any, machine: Machine) -> Data:
        """Make a machine's encrypted data disk."""

    def machine(self, net: Any, machine: Machine, guard: Any, data: Data, boot: Output[cloudinit.Seed]) -> Made:
        """Make one machine, with its stable address."""


def inside(base: ResourceOptions, machine: pulumi.Resource, *after: pulumi.Resource) -> ResourceOptions:
    """Return options for what lives inside a machine: it comes after `after`, and goes when the machine goes."""
    return ResourceOptions.merge(base, ResourceOptions(depends_on=list(after), deleted_with=machine))


class Site(pulumi.ComponentResource):
    """Network, firewalls and machines of one stack on one cloud."""

    nodes: list[Node]

    def __init__(self, order: Order) -> None:
        """Build everything left of the cluster."""
        super().__init__("vre:site:Site", order.config.name)
        self.order = order
        self.room: Room = clouds.room(order.config)
        self.child = ResourceOptions(parent=self)
        self.net = self.room.network(order, self.child)
        guards = self.room.firewalls(self.net)
        self.nodes = []
        for machine in order.plan.machines:
            self.nodes.append(self._node(machine, guards[machine.name]))
        self.register_outputs({"machines": [node.machine.name for node in self.nodes]})

    def _node(self, machine: Machine, guard: Any) -> Node:
        first, pinned = (
            resources.HostKey(f"{machine.name}-{kind}-host-key", opts=self.child) for kind in ("first", "pinned")
        )
        data = self.room.data(self.net, machine)
        made = self.room.machine(self.net, machine, guard, data, _boot(self.net, self.order, machine, first, data))
        connection = self._connection(machine, made, pinned)
        ready = resources.Machine(
            machine.name,
            machine=made.id,
            connection=connection,
            boot_keys=[first.public_key],
            host_key={"publicKey": pinned.public_key, "privateKey": pinned.private_key},
            opts=inside(self.child, made.resource),
        )
        _access(self.order, machine, made, connection, inside(self.child, made.resource, ready))
        plain = bool(self.order.packages)
        stands = self._software(machine, made, connection, ready) if plain else ready
        held = self._images(machine, made, connection, stands)
        return Node(
            machine=machine,
            resource=made.resource,
            id=made.id,
            address=made.address,
            accelerator=made.accelerator,
            connection=connection,
            host_key=pinned.public_key,
            ready=stands,
            images=held,
        )

    def _software(
        self, machine: Machine, made: Made, connection: Mapping[str, Any], ready: pulumi.Resource
    ) -> resources.Software:
        """Bring a machine that started from Debian's own image to the state of ours."""
        image = self.order.image
        after = inside(self.child, made.resource, ready)
        return resources.Software(
            machine.name, machine=made.id, connection=connection, identity=image.id, archive=image.path, opts=after
        )

    def _images(
        self, machine: Machine, made: Made, connection: Mapping[str, Any], ready: pulumi.Resource
    ) -> list[pulumi.Resource]:
        """Keep the container images of a standing machine as they are here, where they were built here."""
        image = self.order.image
        if not image.layout:
            return []
        after = inside(self.child, made.resource, ready)
        return [
            resources.Images(
                machine.name,
                machine=made.id,
                connection=connection,
                images=image.images,
                layout=image.layout,
                opts=after,
            )
        ]

    def _connection(self, machine: Machine, made: Made, pinned: resources.HostKey) -> dict[str, Any]:
        """Return how a machine is reached: through the control plane's where it has no public address itself."""
        through = machine.role != Role.CONTROL and self.room.surroundings(self.order.config).bastion
        return {
            "address": made.address,
            "port": 22,
            "user": USER,
            "hostKeys": [pinned.public_key],
            "identity": access.identity(self.order.config),
            **({"through": self.nodes[0].connection} if through else {}),
        }


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
            {"path": FIREWALL, "mode": "0600", "owner": "root", "content": rules(order.config, order.policy, machine)},
            {"path": AUTHORIZED_KEYS, "mode": "0600", "owner": USER, "content": lines},
            *(
                {"path": path, "mode": "0644", "owner": "root", "content": text}
                for path, text in told(order, machine).items()
            ),
        ],
        after=[["nft", "-f", FIREWALL], ["systemctl", "try-restart", "systemd-resolved.service"]],
        opts=after,
    )


def told(order: Order, machine: Machine) -> dict[str, str]:
    """Return the files about a machine's daily upgrade, and about the name servers where the stack file names some."""
    wanted = order.config.patches
    key = access.repository_key(order.config) if wanted.repository else ""
    alone, upgrade = len(order.plan.machines) == 1, bool(order.policy.of(Peer.MIRRORS))
    upgrades = patches.files(wanted, key, name=machine.name, alone=alone, upgrade=upgrade)
    return upgrades | cloudinit.resolved(servers(order.config.outbound.resolvers))


def rules(config: Config, policy: Policy, machine: Machine) -> str:
    """Return the machine's own firewall."""
    own = tuple(address for address in (machine.ipv4, machine.ipv6) if address)
    dhcp = clouds.room(config).surroundings(config).dhcp
    return nftables.ruleset(policy, machine.role, nftables.Site(addresses=own, dhcp=dhcp))


def _boot(net: Net, order: Order, machine: Machine, first: resources.HostKey, data: Data) -> Output[cloudinit.Seed]:
    """Return the seed for a machine's first boot. A secret: it holds the host key for the first contact."""

    def render(public: str, private: str, device: str) -> cloudinit.Seed:
        return seed(net, order, machine, cloudinit.HostKey(public=public, private=private), device)

    known = Output.all(first.public_key, first.private_key, data.device)
    return Output.secret(known.apply(lambda values: render(*values)))


def seed(net: Net, order: Order, machine: Machine, key: cloudinit.HostKey, device: str) -> cloudinit.Seed:
    """Return the seed for a machine's first boot, with the host key for the first contact and the data disk's path."""
    boot = cloudinit.Boot(
        name=machine.name,
        mac=machine.mac,
        addresses=net.interfaces(machine),
        keys=access.keys(order.config),
        host_key=key,
        firewall=rules(order.config, order.policy, machine),
        gateways=net.gateways,
        resolvers=net.resolvers,
        nodes={each.name: [address for address in (each.ipv4, each.ipv6) if address] for each in order.plan.machines},
        time_servers=servers(order.policy.of(Peer.TIME)),
        data_device=device,
        upgrade=bool(order.policy.of(Peer.MIRRORS)),
        tested=order.config.patches.takes == "tested",
        files={path: text for path, text in told(order, machine).items() if path != patches.SETTINGS},
        packages=order.packages,
    )
    return cloudinit.render(boot)
