"""From what was asked for to what will stand: machines with names and addresses, and the doors of the policy. Pure."""

import hashlib
from ipaddress import IPv4Network, IPv6Network, ip_network

from vre.config import CONTROL_HOST, FIRST_WORKER, Config, Control, Workers, shape
from vre.fields import networks
from vre.inventory import Machine, Plan
from vre.policy import ANYWHERE, Doors, Network, Role


def plan(config: Config) -> Plan:
    """Return every machine of the stack. Adding or removing a worker changes no other machine's name or address."""
    workers = config.machines.workers
    return Plan(
        machines=(
            _machine(config, config.machines.control, Role.CONTROL, "control", CONTROL_HOST),
            *(
                _machine(config, workers, Role.WORKER, f"worker-{index + 1}", FIRST_WORKER + index)
                for index in range(workers.count)
            ),
        )
    )


def doors(config: Config, stack: Plan, *, gateways: tuple[str, ...] = ()) -> Doors:
    """Return who stands behind each peer of the policy.

    `gateways` are the hypervisor's addresses in the stack's own network: it operates and resolves names for it. Empty
    on clouds, whose hypervisors are somebody else's.
    """
    hypervisor = networks(gateways)
    operators = _merged(networks(config.access.operators), hypervisor)
    asked = networks(config.edge.networks) if config.edge.provider == "direct" else ()
    return Doors(
        operators=operators,
        edge=_merged(asked, hypervisor) if asked else operators,
        nodes=tuple(ip_network(address) for each in stack.machines for address in (each.ipv4, each.ipv6) if address),
        roles=stack.roles,
        resolver=networks(config.outbound.resolvers) or hypervisor,
        time=networks(config.outbound.time),
        mirrors=networks(config.outbound.mirrors) or _open_mirrors(config),
        named=networks(config.outbound.networks),
        pods=_pods(config),
    )


def mac(stack: str, machine: str) -> str:
    """Return a machine's MAC address: always the same, locally administered, in QEMU's range."""
    digest = hashlib.sha256(f"{stack}/{machine}".encode()).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def _machine(config: Config, group: Control | Workers, role: Role, name: str, host: int) -> Machine:
    size = shape(group.size)
    ipv6 = getattr(config.cloud, "network6", "")
    return Machine(
        name=f"{config.name}-{name}",
        role=role,
        cpus=size.cpus,
        memory=round(size.memory * 1024),
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
