"""Reads the rules that we write and says what becomes of a packet. An unknown word is a fault."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network


@dataclass(frozen=True, kw_only=True)
class Packet:
    """A packet at one of the hooks. `asked` is the address and port it was sent to before it was mapped."""

    chain: str
    source: str
    destination: str
    protocol: str
    port: int
    into: str = ""
    out: str = ""
    user: str = "root"
    state: str = "new"
    asked: tuple[str, int] | None = None
    from_port: int = 40000

    @property
    def family(self) -> str:
        """The family of its addresses."""
        return "ip6" if ":" in self.source else "ip"


def verdict(text: str, packet: Packet, *, asked: bool = True) -> bool:
    """Say whether the rules accept a packet; `asked` is the answer of what enforces network policies."""
    for rule in rules(text, packet.chain):
        words = re.sub(r' comment "[^"]*"$', "", rule)
        if words.startswith("limit rate"):
            continue
        condition, _, action = words.replace("queue num 98", "queue").rpartition(" ")
        if action == "queue" and _matches(condition, packet):
            return asked
        if action == "queue":
            continue
        if action not in ("accept", "drop"):
            raise AssertionError(f"an unknown verdict: {rule}")
        if _matches(condition, packet):
            return action == "accept"
    return False


def rules(text: str, chain: str) -> Iterator[str]:
    """Yield the rules of one chain; its policy has to be drop."""
    body = text.split(f"chain {chain} {{\n", 1)[1].split("\n    }", 1)[0].splitlines()
    assert body[0].strip().endswith("policy drop;")
    yield from (line.strip() for line in body[1:])


PATTERNS = {
    r"ct state ([\w,]+)": lambda p, v: p.state in v.split(","),
    r"iifname (lo|cni0)": lambda p, v: p.into == v,
    r"oifname (lo|cni0)": lambda p, v: p.out == v,
    r"iifname \{ ([^}]*) \}": lambda p, v: p.into in v.split(", "),
    r"iifname != \{ ([^}]*) \}": lambda p, v: p.into not in v.split(", "),
    r"oifname \{ ([^}]*) \}": lambda p, v: p.out in v.split(", "),
    r"oifname != \{ ([^}]*) \}": lambda p, v: p.out not in v.split(", "),
    r"ct status (dnat)": lambda p, v: p.asked is not None,
    r"meta nfproto (ipv6)": lambda p, v: p.family == "ip6",
    r"meta l4proto (\w+)": lambda p, v: p.protocol == v,
    r"meta skuid (\w+)": lambda p, v: p.user == v,
    r"ct original ip6? daddr (\{ [^}]* \})": lambda p, v: p.asked is not None and _within(p.asked[0], v),
    r"ct original proto-dst ([\d-]+)": lambda p, v: p.asked is not None and _in_range(p.asked[1], v),
    r"(ip6? saddr (?:\{ [^}]* \}|\S+))": lambda p, v: _address(p, p.source, v),
    r"(ip6? daddr (?:\{ [^}]* \}|\S+))": lambda p, v: _address(p, p.destination, v),
    r"(udp sport \d+)": lambda p, v: p.protocol == "udp" and p.from_port == int(v.split()[2]),
    r"((?:tcp|udp) dport [\d-]+)": lambda p, v: p.protocol == v.split()[0] and _in_range(p.port, v.split()[2]),
    r"(icmp(?:v6)? type (?:\{ [^}]* \}|\S+))": lambda p, v: False,
    r"(limit rate \d+/second)": lambda p, v: True,
}


def _matches(condition: str, packet: Packet) -> bool:
    rest, good = condition, True
    while rest:
        for pattern, test in PATTERNS.items():
            if found := re.match(pattern + r"(?: |$)", rest):
                good = bool(test(packet, found[1])) and good  # type: ignore[no-untyped-call]
                rest = rest[found.end() :]
                break
        else:
            raise AssertionError(f"unknown words in a rule: {rest!r}")
    return good


def _address(packet: Packet, address: str, words: str) -> bool:
    return ("ip6" if ":" in address else "ip") == words.split()[0] and _within(address, words.split(maxsplit=2)[2])


def _within(address: str, members: str) -> bool:
    found = ip_address(address)
    networks = [ip_network(each) for each in members.strip("{ }").split(", ")]
    return any(found.version == each.version and found in each for each in networks)


def _in_range(port: int, ports: str) -> bool:
    first, _, last = ports.partition("-")
    return int(first) <= port <= int(last or first)
