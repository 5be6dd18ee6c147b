"""Who may be at the other end: of every network that anybody names, the edges, and what lies just outside."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address, ip_network

from tests.oracle.told import Resource, texts
from vre.inventory import Plan
from vre.policy import Address, Network, Policy

OUTSIDERS = ("100.64.13.7", "223.255.255.1", "2001:db8:ffff:ffff::7", "2c0f:ffff::1")
"""Addresses that nobody names."""
CIDR = re.compile(r"(?<![0-9a-fA-F:.])[0-9a-fA-F:.]{2,43}/\d{1,3}")
LONGEST = 4096  # characters: what is longer is a machine's, such as user-data, and no rule of the cloud's


@cache
def network(text: str) -> Network:
    """Return the network behind a CIDR. Kept: evaluators ask for the same few very often."""
    return ip_network(text)


def within(address: Address, text: str) -> bool:
    """Say whether an address is in a CIDR; one of the other family is not."""
    wide = network(text)
    return wide.version == address.version and address in wide


@dataclass(frozen=True, kw_only=True)
class Peer:
    """An address, and why it is asked about."""

    address: Address
    what: str

    def __str__(self) -> str:
        return f"{self.address} ({self.what})"


def peers(policy: Policy, plan: Plan, told: Iterable[Resource] = ()) -> tuple[Peer, ...]:
    """Return every address worth asking about, each once.

    The edges of every network that the policy, or the cloud, names, split all addresses into classes: what holds for
    these holds for all.
    """
    found: dict[Address, str] = {}
    for machine in plan.machines:
        for text in (machine.ipv4, machine.ipv6):
            if text:
                found.setdefault(ip_address(text), machine.name)
    for who, networks in policy.networks.items():
        for network in networks:
            _add(found, network, f"of {who}")
    for network in mentioned(told):
        _add(found, network, f"in {network}, which the cloud was told of")
    for text in OUTSIDERS:
        found.setdefault(ip_address(text), "outsider")
    return tuple(Peer(address=address, what=what) for address, what in found.items())


def _add(found: dict[Address, str], network: Network, what: str) -> None:
    for address in (network[0], network[-1]):
        found.setdefault(address, what)
    for number in (int(network[0]) - 1, int(network[-1]) + 1):
        if 0 <= number < 1 << network.max_prefixlen:
            kind = type(network[0])
            found.setdefault(kind(number), f"just outside {network}")


def mentioned(told: Iterable[Resource]) -> Iterator[Network]:
    """Yield every network that stands anywhere in what a cloud was told."""
    seen = {text for resource in told for value in texts(resource.inputs) for text in _cidrs(value)}
    for text in sorted(seen):
        try:
            yield ip_network(text, strict=False)
        except ValueError:
            continue


def _cidrs(text: str) -> list[str]:
    return CIDR.findall(text) if len(text) <= LONGEST else []
