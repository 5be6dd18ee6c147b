"""A place apart for real machines: a network namespace with a way to package mirrors alone, and hosts beside it."""

import fcntl
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.machine.ledger import Ledger, command

HOME = Path("/var/tmp/vre-lab")
NAMESPACE = "vre-lab"
UPLINK = "vre-lab-up"
TABLE = "vre_lab"
SETTINGS = (
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    # A scan of every port opens as many connections that nobody answers: they must not fill the table.
    "net.netfilter.nf_conntrack_tcp_timeout_syn_sent=10",
    "net.netfilter.nf_conntrack_udp_timeout=5",
)


@dataclass(frozen=True, kw_only=True)
class Host:
    """A network namespace as a computer of its own."""

    namespace: str
    ipv4: str = ""
    ipv6: str = ""

    def words(self, *words: str | Path) -> list[str]:
        """Return the command that runs `words` on this host."""
        return ["ip", "netns", "exec", self.namespace, *map(str, words)]

    def run(self, *words: str | Path, check: bool = True) -> str:
        """Run a command on this host and return what it printed."""
        return command(*self.words(*words), check=check)

    def result(
        self, *words: str | Path, stdin: str = "", timeout: float = 300, env: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on this host and return everything about its end."""
        return subprocess.run(
            self.words(*words), input=stdin, capture_output=True, text=True, timeout=timeout, env=env, check=False
        )

    def python(self, module: str, *words: str, stdin: str = "", timeout: float = 300) -> str:
        """Run one of the tests' own programs on this host."""
        root = Path(__file__).resolve().parents[2]
        done = self.result(
            sys.executable,
            "-m",
            module,
            *words,
            stdin=stdin,
            timeout=timeout,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        if done.returncode:
            raise RuntimeError(f"{module}: {done.stderr}")
        return done.stdout


class Lab:
    """One at a time on a machine. What an earlier run left behind is taken away first."""

    def __init__(self, home: Path = HOME, *, keep: bool = False) -> None:
        self.home = home
        self.keep = keep
        self.ledger = Ledger(home.with_name(home.name + ".ledger"))
        self.hypervisor = Host(namespace=NAMESPACE)
        self.lock: IO[str] | None = None

    def open(self) -> None:
        """Take the lock, clear an earlier run's remains, make the namespace and its way out."""
        self.lock = self.home.with_name(self.home.name + ".lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(f"another run holds {self.lock.name}: tests/machine runs once at a time") from error
        if self.keep and self.home.exists() and Path("/run/netns", NAMESPACE).exists():
            return
        self.ledger.undo()
        self.ledger.add("folder", path=str(self.home))
        self.home.mkdir(mode=0o711, parents=True)
        self.host(NAMESPACE)
        for each in SETTINGS:
            self.hypervisor.run("sysctl", "-q", "-w", each)
        self._uplink()

    def close(self) -> None:
        """Take everything away again."""
        if self.lock is not None:
            if not self.keep:
                self.ledger.undo()
            self.lock.close()
            Path(self.lock.name).unlink(missing_ok=True)
            self.lock = None

    def host(self, namespace: str) -> Host:
        """Make an empty host with only a loopback."""
        self.ledger.add("namespace", name=namespace)
        command("ip", "netns", "add", namespace)
        command("ip", "-n", namespace, "link", "set", "lo", "up")
        return Host(namespace=namespace)

    def beside(self, namespace: str, bridge: str, ipv4: str, ipv6: str, *, gateways: Sequence[str] = ()) -> Host:
        """Make a host on the network of a bridge: a cable to a port of it. Addresses have prefix lengths."""
        made = Host(namespace=namespace, ipv4=ipv4.split("/")[0], ipv6=ipv6.split("/")[0])
        if Path("/run/netns", namespace).exists():
            return made
        self.host(namespace)
        port = port_of(made)
        command("ip", "-n", NAMESPACE, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        command("ip", "-n", NAMESPACE, "link", "set", port, "master", bridge, "up")
        # An address that the network's router hands out would be another one than that of the host we mean.
        made.run("sysctl", "-q", "-w", "net.ipv6.conf.eth0.accept_ra=0")
        for address in (ipv4, ipv6):
            quick = ["nodad"] if ":" in address else []
            command("ip", "-n", namespace, "address", "add", address, "dev", "eth0", *quick)
        command("ip", "-n", namespace, "link", "set", "eth0", "up")
        for gateway in gateways:
            command("ip", "-n", namespace, "route", "add", "default", "via", gateway)
        return made

    def _uplink(self) -> None:
        """Lead the namespace to the mirrors and name servers of this machine's network; to nothing on the machine."""
        way = _default_route()
        here, there = _free_addresses()
        self.ledger.add("link", name=UPLINK)
        command("ip", "link", "add", UPLINK, "type", "veth", "peer", "name", "uplink", "netns", NAMESPACE)
        command("ip", "address", "add", f"{here}/30", "dev", UPLINK)
        command("ip", "-n", NAMESPACE, "address", "add", f"{there}/30", "dev", "uplink")
        for place in ((), ("-n", NAMESPACE)):
            name = "uplink" if place else UPLINK
            command("ip", *place, "link", "set", name, "up", *(("mtu", str(way["mtu"])) if way else ()))
        self.ledger.add("table", family="inet", name=TABLE)
        _load(_rules(f"{here}/30"))
        if way:
            self._forwarding(str(way["dev"]))
            command("ip", "-n", NAMESPACE, "route", "add", "default", "via", str(here))
        folder = Path("/etc/netns", NAMESPACE)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").write_text("".join(f"nameserver {each}\n" for each in resolvers()))

    def _forwarding(self, link: str) -> None:
        for each in (UPLINK, link):
            switch = Path("/proc/sys/net/ipv4/conf", each, "forwarding")
            if switch.read_text().strip() == "0":
                if each != UPLINK:
                    self.ledger.add("forwarding", link=each)
                switch.write_text("1\n")


def port_of(host: Host) -> str:
    """Return the name of the bridge's port that a host's cable leads to."""
    return f"{host.namespace}-p"


def _rules(network: str) -> str:
    return f"""
table inet {TABLE} {{
    chain forward {{
        type filter hook forward priority filter - 5; policy accept;
        oifname "{UPLINK}" ct state established,related accept
        oifname "{UPLINK}" drop
        iifname "{UPLINK}" meta l4proto {{ tcp, udp }} th dport {{ 53, 80, 443 }} accept
        iifname "{UPLINK}" ct state established,related accept
        iifname "{UPLINK}" drop
    }}
    chain input {{
        type filter hook input priority filter - 5; policy accept;
        iifname "{UPLINK}" icmp type {{ destination-unreachable, time-exceeded }} accept
        iifname "{UPLINK}" drop
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {network} masquerade
    }}
}}
"""


def _load(rules: str) -> None:
    done = subprocess.run(["nft", "-f", "-"], input=rules, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"nft: {done.stderr}")


def _default_route() -> Mapping[str, object] | None:
    """Return device and MTU of this machine's way out; None when it has none."""
    routes = json.loads(command("ip", "-json", "-4", "route", "show", "default") or "[]")
    if not routes:
        return None
    device = routes[0]["dev"]
    return {"dev": device, "mtu": json.loads(command("ip", "-json", "link", "show", device))[0]["mtu"]}


def _free_addresses() -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]:
    """Return both ends of a small network that this machine has no use for yet."""
    taken = [
        ipaddress.ip_network(each["dst"])
        for each in json.loads(command("ip", "-json", "-4", "route"))
        if each["dst"] != "default"
    ]
    every = ipaddress.IPv4Network("10.213.0.0/16").subnets(new_prefix=30)
    network = next(each for each in every if not any(each.overlaps(other) for other in taken))
    return network[1], network[2]


def resolvers() -> list[str]:
    """Return the name servers of this machine that can be reached from a namespace, too."""
    for file in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        if file.exists():
            words = [line.split() for line in file.read_text().splitlines()]
            found = [each[1] for each in words if len(each) > 1 and each[0] == "nameserver"]
            usable = [
                each for each in found if not ipaddress.ip_address(each.split("%")[0]).is_loopback and ":" not in each
            ]
            if usable:
                return usable
    return []
