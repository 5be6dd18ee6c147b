"""From where something may come in: what is too wide, and what an institution did not name."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from vre_rules.resource import UNKNOWN, Odd, Part

Network = IPv4Network | IPv6Network

ANYBODY = "0.0.0.0/0"
WIDEST = {4: 8, 6: 16}
"""Prefix lengths. What is wider is the internet in parts: two halves of it are as open as the whole."""
PRIVATE = tuple(ip_network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
"""Addresses that nobody has on the internet (RFC 1918, RFC 4193): machines of a stack talk to each other with them."""


def named(networks: Sequence[str]) -> tuple[Network, ...]:
    """Return the networks that an institution allows. Raises Odd for what is none."""
    try:
        return tuple(ip_network(each) for each in networks)
    except ValueError as error:
        raise Odd("allowedNetworks, in the pack's configuration") from error


def fault(source: Part, allowed: Sequence[Network] = ()) -> str:
    """Say what is wrong with a source of what comes in; nothing when it is right, or not known yet."""
    if source.value is UNKNOWN:
        return ""
    try:
        network = ip_network(str(source.value), strict=False)
    except ValueError:
        return "is no network, so that nobody can say who is in it"
    if network.prefixlen < WIDEST[network.version]:
        return "lets in everybody"
    if allowed and not any(_inside(network, each) for each in (*allowed, *PRIVATE)):
        return "lets in a network that is not in allowedNetworks"
    return ""


def _inside(network: Network, other: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(other, IPv4Network) and network.subnet_of(other)
    return isinstance(other, IPv6Network) and network.subnet_of(other)
