"""The machine's own firewall, from the policy. Pure.

A table of its own beside those of kube-proxy, the pod network and port mappings: what it drops is dropped, what it
accepts the others still decide on. It stands behind the cloud's firewall and says the same again, and what may leave.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, ip_address

from vre.policy import METADATA, PODS, SERVICES, Network, Outlet, Peer, Policy, Role, Rule, Sender

POD_LINKS = ("cni0", "flannel-wg")
"""The interfaces behind which there are pods: of this machine, and of the others."""
API_PORT = 6443
QUEUE = 98
"""Where the kernel asks what enforces network policies. Nobody there: refused."""
ASKED = f"queue num {QUEUE}"
TO_THE_API = "pods to the API: as their network policies say"
PACKAGE_USER = "_apt"
LOG = 'limit rate 10/minute burst 5 packets log prefix "vre {chain} refused: "'


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where the machine stands: its own addresses, whether it has them by DHCP, and the cluster's ranges."""

    addresses: Sequence[str]
    dhcp: bool = False
    pods: str = PODS
    services: str = SERVICES


def ruleset(policy: Policy, role: Role, site: Site) -> str:
    """Return the rules for one machine, to be loaded with `nft -f`: replaces its table whole, and no other."""
    chains = [
        _chain("input", _input(policy, role, site)),
        _chain("forward", _forward(policy, role, site)),
        _chain("output", _output(policy, role, site)),
    ]
    return "#!/usr/sbin/nft -f\n\ntable inet vre\ndelete table inet vre\ntable inet vre {\n" + "\n".join(chains) + "}\n"


def _chain(name: str, rules: Iterable[str]) -> str:
    # Just after the usual priority: whatever else filters comes first, and nothing it accepts gets past this.
    head = f"    chain {name} {{\n        type filter hook {name} priority filter + 10; policy drop;\n"
    body = "".join(f"        {rule}\n" for rule in (*rules, LOG.format(chain=name)))
    return f"{head}{body}    }}\n"


def _input(policy: Policy, role: Role, site: Site) -> Iterator[str]:
    yield "ct state established,related accept"
    yield "ct state invalid drop"
    yield "iifname lo accept"
    yield (
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, packet-too-big, "
        "destination-unreachable, time-exceeded, parameter-problem } accept"
    )
    yield "icmp type { destination-unreachable, time-exceeded, parameter-problem } accept"
    if site.dhcp:
        # The answer to what was sent to all servers, which connection tracking does not know for one (RFC 8415).
        yield f"ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept {_why('the own IPv6 address, by DHCP')}"
    for match in _addresses("saddr", policy.of(Peer.OPERATORS)):
        kind = "icmp" if match.startswith("ip ") else "icmpv6"
        yield f"{match} {kind} type echo-request limit rate 5/second accept"
    if role == Role.CONTROL:
        # Network policies decide it, but nobody asks them on the way to the machine itself.
        pods = f"iifname {_set(POD_LINKS)} ip saddr {site.pods} tcp dport {API_PORT}"
        yield f"{pods} {ASKED} {_why(TO_THE_API)}"
    yield f"iifname {_set(POD_LINKS)} drop"
    for rule in policy.into(role):
        for match in _addresses("saddr", policy.of(rule.origin)):
            # Pods have IPv4 only: what is mapped to one over IPv4 is answered by the machine over IPv6.
            if not rule.forwarded or match.startswith("ip6 "):
                yield f"{match} {rule.protocol} dport {rule.ports} accept {_why(rule.why)}"


def _forward(policy: Policy, role: Role, site: Site) -> Iterator[str]:
    if role == Role.STORAGE:
        return
    links = _set(POD_LINKS)
    yield "ct state established,related accept"
    yield "ct state invalid drop"
    for address in METADATA:
        yield f"{_family(address.version)} daddr {address} drop {_why('where clouds answer with credentials')}"
    yield f"iifname {links} meta nfproto ipv6 drop {_why('pods have IPv4 only: not worth a line in the log')}"
    # What enforces network policies has rules of its own; but not yet when pods start after a boot, and not while it
    # starts anew. Asked here, nobody answering is a no.
    between = f"iifname {links} oifname {links} ip saddr {site.pods} ip daddr {site.pods}"
    yield f"{between} {ASKED} {_why('pods to pods: as their network policies say')}"
    for rule in policy.into(role):
        if rule.forwarded:
            yield from _mapped(policy, rule, site)
    outwards = f"iifname cni0 oifname != {links} ip saddr {site.pods}"
    if role == Role.WORKER:
        for match in _addresses("daddr", _ipv4(policy.of(Peer.NODES))):
            yield f"{outwards} {match} tcp dport {API_PORT} {ASKED} {_why(TO_THE_API)}"
    for outlet in policy.out_of(role):
        if outlet.sender == Sender.PODS:
            # Pods have IPv4 addresses only.
            for match in _addresses("daddr", _ipv4(policy.of(outlet.destination))):
                yield f"{outwards} {match} {_ports(outlet)} {ASKED} {_why(outlet.why)}"


def _mapped(policy: Policy, rule: Rule, site: Site) -> Iterator[str]:
    """A port of the machine that is mapped to a pod: known by what the packet was sent to, not by what it became.

    So a node port or host port opened in the cluster, or a service's own address, stays closed from outside.
    """
    own = [address for address in site.addresses if ip_address(address).version == 4]
    for match in _addresses("saddr", _ipv4(policy.of(rule.origin))):
        if own:
            asked = f"ct original ip daddr {_set(own)} ct original proto-dst {rule.ports}"
            links = f"iifname != {_set(POD_LINKS)} oifname {_set(POD_LINKS)}"
            yield f"{links} ct status dnat meta l4proto {rule.protocol} {asked} {match} accept {_why(rule.why)}"


def _output(policy: Policy, role: Role, site: Site) -> Iterator[str]:
    yield "ct state established,related accept"
    yield "oifname lo accept"
    yield (
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report, "
        "packet-too-big, destination-unreachable, time-exceeded, parameter-problem } accept"
    )
    yield "icmp type { destination-unreachable, time-exceeded, parameter-problem } accept"
    if site.dhcp:
        yield f"udp sport 68 udp dport 67 accept {_why('the own address, by DHCP')}"
        yield f"udp sport 546 udp dport 547 accept {_why('the own IPv6 address, by DHCP')}"
    if role != Role.STORAGE:
        yield f"oifname {_set(POD_LINKS)} ip daddr {site.pods} accept {_why('to pods: probes, the API')}"
    for outlet in policy.out_of(role):
        if outlet.sender != Sender.PODS:
            # Names are looked up by the package manager's own user, too.
            user = f"meta skuid {PACKAGE_USER} " if outlet.sender == Sender.PACKAGES else ""
            for match in _addresses("daddr", policy.of(outlet.destination)):
                yield f"{user}{match} {_ports(outlet)} accept {_why(outlet.why)}"


def _ports(outlet: Outlet) -> str:
    return f"{outlet.protocol} dport {outlet.ports}"


def _ipv4(networks: Iterable[Network]) -> tuple[Network, ...]:
    return tuple(each for each in networks if isinstance(each, IPv4Network))


@lru_cache(maxsize=128)
def _addresses(side: str, networks: tuple[Network, ...]) -> tuple[str, ...]:
    """Return one match for each family that occurs. Kept: the machines of a stack ask for the same few."""
    four = _ipv4(networks)
    six = tuple(each for each in networks if not isinstance(each, IPv4Network))
    matches = []
    for family, found in (("ip", four), ("ip6", six)):
        if any(network.prefixlen == 0 for network in found):
            matches.append(f"{family} {side} {'0.0.0.0/0' if family == 'ip' else '::/0'}")
        elif found:
            matches.append(f"{family} {side} {_set(str(network) for network in _collapsed(found))}")
    return tuple(matches)


def _collapsed(networks: Iterable[Network]) -> list[Network]:
    """Return the networks of one family without those inside another: nft refuses sets that overlap."""
    kept: list[Network] = []
    # In this order whatever lies inside of a network comes right after it.
    for network in sorted(set(networks), key=lambda each: (int(each.network_address), each.prefixlen)):
        if not kept or network.network_address not in kept[-1]:
            kept.append(network)
    return kept


def _set(members: Iterable[str]) -> str:
    return "{ " + ", ".join(members) + " }"


def _family(version: int) -> str:
    return "ip" if version == 4 else "ip6"


def _why(text: str) -> str:
    quiet = text.replace('"', "'")[:100]
    return f'comment "{quiet}"'
