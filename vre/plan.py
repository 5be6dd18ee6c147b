"""From what was asked for to what will stand: machines with names and addresses, and the doors of the policy. Pure."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

from vre.cloud import workers_part
from vre.config import CONTROL_HOST, FIRST_WORKER, Config, Control, Native, Workers, shape
from vre.fields import networks
from vre.inventory import Machine, Plan
from vre.policy import ANYWHERE, Doors, Network, Role


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Who a cloud has around a stack's machines. A cloud's module says it, without asking the cloud.

    `operators` are hosts of the cloud's that operate the stack (one's own hypervisor). `resolvers`, `time` and
    `metadata` answer the machines. `bastion`: only the control plane's machine has a public address. `dhcp`: machines
    have their addresses by DHCP.
    """

    operators: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()
    time: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    bastion: bool = False
    dhcp: bool = False


def plan(config: Config) -> Plan:
    """Return every machine of the stack. Adding or removing a worker changes no other machine's name or address."""
    workers = config.machines.workers
    first = workers_part(config.cloud) + FIRST_WORKER
    return Plan(
        machines=(
            _machine(config, config.machines.control, Role.CONTROL, "control", CONTROL_HOST),
            *(
                _machine(config, workers, Role.WORKER, f"worker-{number}", first + number - 1)
                for number in workers.numbers
            ),
        )
    )


def doors(config: Config, stack: Plan, here: Surroundings, *, edge: tuple[Network, ...] = ()) -> Doors:
    """Return who stands behind each peer of the policy. `edge` is who comes to the ingress, where it is not direct."""
    own = networks(here.operators)
    operators = _merged(networks(config.access.operators), own)
    asked = edge or (networks(config.edge.networks) if config.edge.provider == "direct" else ())
    return Doors(
        operators=operators,
        edge=_merged(asked, own) if asked else operators,
        nodes=_addresses(stack.machines),
        control=_addresses((stack.control,)) if here.bastion else (),
        roles=stack.roles,
        resolver=networks(config.outbound.resolvers) or networks(here.resolvers),
        time=networks(config.outbound.time) or networks(here.time),
        metadata=networks(here.metadata),
        mirrors=_mirrors(config),
        named=networks(config.outbound.networks),
        pods=_pods(config),
    )


def _addresses(machines: Iterable[Machine]) -> tuple[Network, ...]:
    return tuple(ip_network(address) for each in machines for address in (each.ipv4, each.ipv6) if address)


def mac(stack: str, machine: str) -> str:
    """Return a machine's MAC address: always the same, locally administered, in QEMU's range."""
    digest = hashlib.sha256(f"{stack}/{machine}".encode()).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def _machine(config: Config, group: Control | Workers, role: Role, name: str, host: int) -> Machine:
    size = None if isinstance(group.size, Native) else shape(group.size)
    ipv6 = getattr(config.cloud, "network6", "")
    return Machine(
        name=f"{config.name}-{name}",
        role=role,
        cpus=size.cpus if size else 0,
        memory=round(size.memory * 1024) if size else 0,
        native=group.size.type if isinstance(group.size, Native) else "",
        disk=group.disk,
        data=group.data,
        ipv4=host_address(config.cloud.network, host),
        ipv6=host_address(ipv6, host) if ipv6 else "",
        mac=mac(config.name, name),
    )


def host_address(network: str, host: int) -> str:
    """Return the address of a host in a network by its number."""
    inside: IPv4Network | IPv6Network = ip_network(network)
    return str(inside[host])


def _mirrors(config: Config) -> tuple[Network, ...]:
    """Return where packages may come from; what `patches` names is admitted with the others where it has an address."""
    every = networks(config.outbound.mirrors) or _open_mirrors(config)
    named = (config.patches.repository, config.patches.archive)
    return _merged(every, *(_host(each) for each in named if each)) if every else ()


def _host(address: str) -> tuple[Network, ...]:
    """Return the address that a URL names its host by, none where it is a name."""
    host = urlsplit(address).hostname or ""
    try:
        return (ip_network(host),)
    except ValueError:
        return ()


def _open_mirrors(config: Config) -> tuple[Network, ...]:
    """Return anywhere (for the package manager only), unless the network leads nowhere or the data is sensitive."""
    isolated = getattr(config.cloud, "mode", "nat") == "isolated"
    return () if isolated or config.data.class_ == "sensitive" else ANYWHERE


def _pods(config: Config) -> tuple[Network, ...]:
    jupyter = config.services.jupyter
    return networks(getattr(jupyter, "egress", ()) or ()) if jupyter else ()


def _merged(*groups: tuple[Network, ...]) -> tuple[Network, ...]:
    """Return the networks once each, without those that lie inside a wider one."""
    every = dict.fromkeys(network for group in groups for network in group)
    return tuple(one for one in every if not any(_inside(one, other) for other in every if other != one))


def _inside(one: Network, other: Network) -> bool:
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.subnet_of(other)
    if isinstance(one, IPv6Network) and isinstance(other, IPv6Network):
        return one.subnet_of(other)
    return False
