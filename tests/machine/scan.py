"""Port scans that can be believed: what was sent, what arrived, what the firewall passed, what answered.

A port that drops is silent, and so is a lost packet. So sets in nftables count on the way: in front of the scanned
machine (every probe must have left), on it before its firewall (arrived) and after it (passed). Probes that got lost
are sent again.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol as Shape
from xml.etree import ElementTree

from tests.machine.lab import Host

EVERY = range(1, 65536)
ROUNDS = 6
RATE = 4000
Say = Callable[[str], None]


class Machine(Shape):
    """Whatever is scanned: commands run on it as root."""

    def root(self, *words: str, stdin: str = "") -> str:
        """Run a command as root and return what it printed."""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What one scan of every port of one protocol found. `answered`: TCP handshakes; `refused`: TCP resets."""

    sent: frozenset[int]
    arrived: frozenset[int]
    passed: frozenset[int]
    answered: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()


TABLE = "vre_probe"
KINDS = [f"{place}_{protocol}" for place in ("arrived", "passed") for protocol in ("tcp", "udp")]


def _sets(names: Iterable[str]) -> str:
    return "".join(f"    set {each} {{ type inet_service; size 65536; flags dynamic; }}\n" for each in names)


def _counted(family: str, source: str) -> str:
    """Return the rules of the machine's counting table, for probes from one source.

    What passes counts only when it opens a flow: answers to what the machine itself asked (names) are no probes.
    """
    of = f"{family} saddr {source}"
    syn = "tcp flags & (syn | ack) == syn"
    return f"""table inet {TABLE} {{
{_sets(KINDS)}
    chain arrived {{
        type filter hook prerouting priority -400; policy accept;
        {of} {syn} add @arrived_tcp {{ tcp dport }}
        {of} meta l4proto udp add @arrived_udp {{ udp dport }}
    }}
    chain passed_in {{
        type filter hook input priority 200; policy accept;
        {of} ct state new {syn} add @passed_tcp {{ tcp dport }}
        {of} ct state new meta l4proto udp add @passed_udp {{ udp dport }}
    }}
    chain passed_on {{
        type filter hook forward priority 200; policy accept;
        {of} ct state new {syn} add @passed_tcp {{ ct original proto-dst }}
        {of} ct state new meta l4proto udp add @passed_udp {{ ct original proto-dst }}
    }}
}}
"""


def _sent(port: str, family: str, address: str) -> str:
    """Return the counting table of the network in front of the machine, for probes that come out of one bridge port."""
    kind = "ip" if family == "ip" else "ip6"
    to = f'iifname "{port}" {kind} daddr {address}'
    return f"""table bridge {TABLE} {{
{_sets(("sent_tcp", "sent_udp"))}
    chain sent {{
        type filter hook prerouting priority -400; policy accept;
        {to} tcp flags & (syn | ack) == syn add @sent_tcp {{ tcp dport }}
        {to} meta l4proto udp add @sent_udp {{ udp dport }}
    }}
}}
"""


def _left(family: str, address: str) -> str:
    """Return the counting table of a scanner that is the hypervisor itself."""
    to = f"{family} daddr {address}"
    return f"""table inet {TABLE} {{
{_sets(("sent_tcp", "sent_udp"))}
    chain sent {{
        type filter hook postrouting priority 400; policy accept;
        {to} tcp flags & (syn | ack) == syn add @sent_tcp {{ tcp dport }}
        {to} meta l4proto udp add @sent_udp {{ udp dport }}
    }}
}}
"""


def _members(listed: str) -> frozenset[int]:
    """Read `nft --json list set`."""
    found = next(each["set"] for each in json.loads(listed)["nftables"] if "set" in each)
    return frozenset(_number(each) for each in found.get("elem", []))


def _number(element: object) -> int:
    if isinstance(element, dict):
        return _number(element["elem"]["val"] if "elem" in element else element["val"])
    return int(str(element))


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One scanner and one machine. `port` is the scanner's port of the bridge, empty for the hypervisor itself."""

    scanner: Host
    machine: Machine
    address: str
    source: str
    hypervisor: Host
    port: str = ""
    say: Say = print

    @property
    def family(self) -> str:
        """The family's name in nftables."""
        return "ip6" if ":" in self.address else "ip"

    def udp(self, ports: Sequence[int] = EVERY) -> Sight:
        """Send to every port until every probe has left."""
        return self._counting("udp", ports, self._datagrams)

    def tcp(self, ports: Sequence[int] = EVERY) -> Sight:
        """Scan every port with nmap until every probe has left; ask again, patiently, where something got through."""
        sight = self._counting("tcp", ports, self._nmap)
        near = sorted(sight.passed | sight.answered | sight.refused)
        again = nmap(self.scanner, self.address, near) if near else {}
        return replace(
            sight,
            answered=frozenset(port for port, state in again.items() if state == "open"),
            refused=frozenset(port for port, state in again.items() if state == "closed"),
        )

    def _counting(self, protocol: str, ports: Sequence[int], probe: Callable[[Sequence[int]], dict[int, str]]) -> Sight:
        self._start()
        states: dict[int, str] = {}
        sent: frozenset[int] = frozenset()
        try:
            for turn in range(ROUNDS):
                missing = self._missing(ports, protocol, sent)
                if not missing:
                    break
                self.say(
                    f"scan of {self.address} from {self.source}: {protocol}, {len(missing)} ports, round {turn + 1}"
                )
                states |= probe(missing)
                sent = self._read(self.hypervisor.run, "bridge" if self.port else "inet", f"sent_{protocol}")
            arrived, passed = (
                self._read(self.machine.root, "inet", f"{each}_{protocol}") for each in ("arrived", "passed")
            )
        finally:
            self._stop()
        return Sight(
            sent=sent,
            arrived=arrived,
            passed=passed,
            answered=frozenset(port for port, state in states.items() if state == "open"),
            refused=frozenset(port for port, state in states.items() if state == "closed"),
        )

    def _missing(self, ports: Sequence[int], protocol: str, sent: frozenset[int]) -> list[int]:
        """Return what must be sent (again). From the hypervisor nothing may stop a probe before the machine."""
        if not sent:
            return list(ports)
        known = sent if self.port else sent & self._read(self.machine.root, "inet", f"arrived_{protocol}")
        return [port for port in ports if port not in known]

    def _start(self) -> None:
        self._stop()
        self.machine.root("nft", "-f", "-", stdin=_counted(self.family, self.source))
        rules = _sent(self.port, self.family, self.address) if self.port else _left(self.family, self.address)
        done = self.hypervisor.result("nft", "-f", "-", stdin=rules)
        if done.returncode:
            raise RuntimeError(f"nft: {done.stderr}")

    def _stop(self) -> None:
        table = f"table inet {TABLE}\ndelete table inet {TABLE}\n"
        self.machine.root("nft", "-f", "-", stdin=table)
        for family in ("inet", "bridge"):
            self.hypervisor.result("nft", "-f", "-", stdin=table.replace("inet", family))

    def _read(self, run: Callable[..., str], family: str, name: str) -> frozenset[int]:
        return _members(run("nft", "--json", "list", "set", family, TABLE, name))

    def _datagrams(self, ports: Sequence[int]) -> dict[int, str]:
        self.scanner.python("tests.machine.send", self.address, str(RATE), stdin=json.dumps(list(ports)))
        return {}

    def _nmap(self, ports: Sequence[int]) -> dict[int, str]:
        # No second try here: what did not arrive is seen and sent again.
        return nmap(self.scanner, self.address, ports, retries=0)


def nmap(scanner: Host, address: str, ports: Sequence[int], *, retries: int = 3) -> dict[int, str]:
    """Return the state of each TCP port as nmap sees it: open, closed (a reset) or filtered (silence)."""
    words = ["nmap", "-n", "-Pn", "-sS", "-T4", "--max-retries", str(retries), "--max-rtt-timeout", "300ms"]
    pace = ["--min-rate", str(RATE)] if len(ports) > 100 else []
    family = ["-6"] if ":" in address else []
    told = scanner.run(*words, *pace, *family, "-p", _spans(ports), "-oX", "-", address)
    host = ElementTree.fromstring(told).find("host")
    if host is None:
        raise RuntimeError(f"nmap says nothing of {address}: {told}")
    named = {int(each.attrib["portid"]): _state(each) for each in host.iter("port")}
    others = [each.attrib["state"] for each in host.iter("extraports")]
    rest = others[0] if len(others) == 1 else "silent"
    return {port: named.get(port, rest) for port in ports} if len(others) <= 1 else named


def _state(port: ElementTree.Element) -> str:
    state = port.find("state")
    return "" if state is None else state.attrib["state"]


def _spans(ports: Sequence[int]) -> str:
    """Return ports as nmap wants them: `1-21,23,80-90`."""
    spans: list[list[int]] = []
    for port in sorted(ports):
        if spans and port == spans[-1][1] + 1:
            spans[-1][1] = port
        else:
            spans.append([port, port])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in spans)
