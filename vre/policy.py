"""Who may reach what, on every cloud. Pure: no files, no network, no clock.

Whatever no rule names is refused, inbound and outbound, on IPv4 and IPv6. The only place where our ports are written.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

ANYWHERE: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
METADATA: tuple[Address, ...] = (
    ip_address("169.254.169.254"),
    ip_address("168.63.129.16"),
    ip_address("fd00:ec2::254"),
)
"""Where clouds answer with credentials and user-data (the second is Azure's). Never reached from a pod."""
PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"
"""The ranges inside the cluster."""


class Role(StrEnum):
    """What a machine is for."""

    CONTROL = "control"
    WORKER = "worker"
    STORAGE = "storage"


class Peer(StrEnum):
    """Who is at the other end of a flow: the origin of what comes in, the destination of what goes out."""

    OPERATORS = "operators"
    EDGE = "edge"
    NODES = "nodes"
    CONTROL = "control"
    """The control plane's machine, through which operators reach machines that have no public address."""
    SFTP = "sftp"
    VPN = "vpn"
    RESOLVER = "resolver"
    TIME = "time"
    MIRRORS = "mirrors"
    METADATA = "metadata"
    """Where a cloud tells a machine what it is. For the machine, never for pods."""
    REGISTRY = "registry"
    """A registry outside that container images are pulled from."""
    NAMED = "named"
    OPENED = "opened"
    """What pods may reach outside, opened in the stack file."""


class Protocol(StrEnum):
    """What ports belong to."""

    TCP = "tcp"
    UDP = "udp"


class Sender(StrEnum):
    """Who on a machine may use an outbound flow."""

    MACHINE = "machine"
    PACKAGES = "packages"
    """The package manager's own user, so that a mirror is no way out for anybody else."""
    PODS = "pods"


@dataclass(frozen=True, kw_only=True)
class Ports:
    """A range of ports, both ends included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last <= 65535:
            raise ValueError(f"no such ports: {self.first}-{self.last}")

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One flow that is let in."""

    origin: Peer
    role: Role
    protocol: Protocol
    ports: Ports
    why: str
    forwarded: bool = False
    """True where the port leads on to a pod (the ingress), so that the machine forwards it instead of answering."""


@dataclass(frozen=True, kw_only=True)
class Outlet:
    """One flow that is let out."""

    role: Role
    destination: Peer
    protocol: Protocol
    ports: Ports
    why: str
    sender: Sender = Sender.MACHINE


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Every flow there is, and the addresses behind each peer."""

    inbound: tuple[Rule, ...]
    outbound: tuple[Outlet, ...]
    networks: Mapping[Peer, tuple[Network, ...]]

    def of(self, peer: Peer) -> tuple[Network, ...]:
        """Return the networks of a peer; none when it has no address yet."""
        return self.networks.get(peer, ())

    def into(self, role: Role) -> tuple[Rule, ...]:
        """Return the rules that let something into machines of this role."""
        return tuple(rule for rule in self.inbound if rule.role == role)

    def out_of(self, role: Role) -> tuple[Outlet, ...]:
        """Return the rules that let something out of machines of this role."""
        return tuple(outlet for outlet in self.outbound if outlet.role == role)


@dataclass(frozen=True, kw_only=True)
class Doors:
    """What the policy is decided from: the peers' addresses and the optional doors that are switched on."""

    operators: tuple[Network, ...]
    edge: tuple[Network, ...]
    nodes: tuple[Network, ...]
    control: tuple[Network, ...] = ()
    """The control plane's own addresses, where operators reach workers only through it."""
    roles: frozenset[Role] = frozenset({Role.CONTROL})
    resolver: tuple[Network, ...] = ()
    time: tuple[Network, ...] = ()
    mirrors: tuple[Network, ...] = ANYWHERE
    named: tuple[Network, ...] = ()
    pods: tuple[Network, ...] = ()
    """Networks outside that pods may reach."""
    metadata: tuple[Network, ...] = ()
    registry: tuple[Network, ...] = ()
    """Registries outside; none: images are on the machine."""
    sftp: tuple[Network, ...] = ()
    vpn: tuple[Network, ...] = ()
    """Networks that the VPN's clients come from; none: there is no VPN."""
    extra: tuple[Rule, ...] = field(default=())


def one(port: int) -> Ports:
    """Return a single port as a range."""
    return Ports(first=port, last=port)


SSH = one(22)
SFTP = one(44)
HTTP = one(80)
HTTPS = one(443)
DNS = one(53)
NTP = one(123)
VPN = one(51822)
API = one(6443)
KUBELET = one(10250)
WIREGUARD = Ports(first=51820, last=51821)
ANY = Ports(first=1, last=65535)


def decide(doors: Doors) -> Policy:
    """Return every flow for these doors: the one table that firewalls, machines, tests and docs are made from."""
    roles = sorted(doors.roles)
    inbound = [rule for role in roles for rule in (*_access(role, doors), *_cluster(role), *_web(role))]
    if doors.sftp and Role.CONTROL in doors.roles:
        inbound.append(
            _in(Peer.SFTP, Role.CONTROL, SFTP, "sftp downloader, switched on in the stack file", forwarded=True)
        )
    if doors.vpn and Role.CONTROL in doors.roles:
        inbound.append(_in(Peer.VPN, Role.CONTROL, VPN, "VPN, switched on in the stack file", protocol=Protocol.UDP))
    return Policy(
        inbound=(*inbound, *doors.extra),
        outbound=tuple(outlet for role in roles for outlet in _outlets(role, doors)),
        networks={
            Peer.OPERATORS: doors.operators,
            Peer.EDGE: doors.edge,
            Peer.NODES: doors.nodes,
            Peer.CONTROL: doors.control,
            Peer.SFTP: doors.sftp,
            Peer.VPN: doors.vpn,
            Peer.RESOLVER: doors.resolver,
            Peer.TIME: doors.time,
            Peer.MIRRORS: doors.mirrors,
            Peer.METADATA: doors.metadata,
            Peer.REGISTRY: doors.registry,
            Peer.NAMED: doors.named,
            Peer.OPENED: doors.pods,
        },
    )


def reaches(policy: Policy, source: Address, role: Role, protocol: Protocol, port: int) -> bool:
    """Say whether a packet from `source` to this port of a machine of this role is let in."""
    return any(
        rule.protocol == protocol and port in rule.ports and _within(source, policy.of(rule.origin))
        for rule in policy.into(role)
    )


def leaves(
    policy: Policy, role: Role, destination: Address, protocol: Protocol, port: int, *, sender: Sender = Sender.MACHINE
) -> bool:
    """Say whether a packet of `sender` on a machine of this role to this address and port is let out."""
    if sender == Sender.PODS and destination in METADATA:
        return False
    return any(
        outlet.sender == sender
        and outlet.protocol == protocol
        and port in outlet.ports
        and _within(destination, policy.of(outlet.destination))
        for outlet in policy.out_of(role)
    )


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _in(
    origin: Peer, role: Role, ports: Ports, why: str, *, protocol: Protocol = Protocol.TCP, forwarded: bool = False
) -> Rule:
    return Rule(origin=origin, role=role, protocol=protocol, ports=ports, why=why, forwarded=forwarded)


def _access(role: Role, doors: Doors) -> list[Rule]:
    if role != Role.CONTROL and doors.control:
        return [_in(Peer.CONTROL, role, SSH, "operators log in with SSH keys, through the control plane's machine")]
    return [_in(Peer.OPERATORS, role, SSH, "operators log in with SSH keys")]


def _web(role: Role) -> list[Rule]:
    if role != Role.CONTROL:
        return []
    return [
        _in(Peer.EDGE, role, HTTP, "http, answered only by a redirect to https", forwarded=True),
        _in(Peer.EDGE, role, HTTPS, "https to the ingress", forwarded=True),
    ]


def _cluster(role: Role) -> list[Rule]:
    if role == Role.STORAGE:
        return []
    rules = [
        _in(Peer.NODES, role, KUBELET, "control plane to kubelet"),
        _in(Peer.NODES, role, WIREGUARD, "pod network between nodes, encrypted", protocol=Protocol.UDP),
    ]
    return [*rules, _in(Peer.NODES, role, API, "nodes to the Kubernetes API")] if role == Role.CONTROL else rules


def _outlets(role: Role, doors: Doors) -> list[Outlet]:
    def out(
        to: Peer, ports: Ports, why: str, *, protocol: Protocol = Protocol.TCP, sender: Sender = Sender.MACHINE
    ) -> Outlet:
        return Outlet(role=role, destination=to, protocol=protocol, ports=ports, why=why, sender=sender)

    outlets = [
        out(Peer.RESOLVER, DNS, "names", protocol=Protocol.UDP),
        out(Peer.RESOLVER, DNS, "names, long answers"),
        out(Peer.MIRRORS, HTTP, "packages, signed", sender=Sender.PACKAGES),
        out(Peer.MIRRORS, HTTPS, "packages", sender=Sender.PACKAGES),
        out(Peer.RESOLVER, DNS, "names of the mirrors", protocol=Protocol.UDP, sender=Sender.PACKAGES),
        out(Peer.RESOLVER, DNS, "names of the mirrors", sender=Sender.PACKAGES),
    ]
    if doors.time:
        outlets.append(out(Peer.TIME, NTP, "time", protocol=Protocol.UDP))
    if doors.metadata:
        outlets.append(out(Peer.METADATA, HTTP, "what the cloud tells the machine of itself"))
    if doors.registry:
        outlets.append(out(Peer.REGISTRY, HTTPS, "container images"))
    if doors.control and role == Role.CONTROL:
        outlets.append(out(Peer.NODES, SSH, "operators' way to the other machines"))
    if role != Role.STORAGE:
        outlets += [
            out(Peer.NODES, API, "nodes to the Kubernetes API"),
            out(Peer.NODES, KUBELET, "control plane to kubelet"),
            out(Peer.NODES, WIREGUARD, "pod network between nodes, encrypted", protocol=Protocol.UDP),
        ]
    if doors.named:
        outlets += [out(Peer.NAMED, ANY, "networks named in the stack file", protocol=each) for each in Protocol]
    if doors.pods:
        outlets += [
            out(Peer.OPENED, ANY, "networks that pods may reach", protocol=each, sender=Sender.PODS)
            for each in Protocol
        ]
    return outlets
