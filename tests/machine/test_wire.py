"""What crosses the network: nothing in the clear, and nobody's address but one's own."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_RA, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.machine.browser import browser
from tests.machine.conftest import NAME, OPERATOR, STRANGER, Launch
from tests.machine.lab import NAMESPACE, Host, Lab
from tests.machine.stack import Stack
from tests.machine.wire import TLS_RECORD, capturing, first_words

GATEWAY = "192.168.77.1"
LOCAL_EXPERIMENT = 0x88B5  # EtherType for private use (IEEE 802)
HONEST = ("its own IPv4 address", "its own IPv6 address", "an ARP request of its own")
SEND = """
import json, socket, sys
mac, frames = json.loads(sys.argv[1])
link = next(name for _, name in socket.if_nameindex() if open(f"/sys/class/net/{name}/address").read().strip() == mac)
way = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
way.bind((link, 0))
for frame in frames:
    way.send(bytes.fromhex(frame))
"""


def mark(name: str) -> bytes:
    """Return what a frame is known by."""
    return f"<vre: {name}>".encode()


def ipv4(source: str) -> Packet:
    """Return the head of an IPv4 packet to the neighbour."""
    return IP(src=source, dst=OPERATOR[0])


def ipv6(source: str) -> Packet:
    """Return the head of an IPv6 packet to the neighbour."""
    return IPv6(src=source, dst=OPERATOR[1])


def frames(own: str, addresses: list[str], peer: str) -> dict[str, Packet]:
    """Return frames to the neighbour by what they claim. `own` and `peer` are MAC addresses."""
    mine, another = Ether(src=own, dst=peer), Ether(src="52:54:00:66:66:66", dst=peer)
    ask = ARP(op="who-has", hwsrc=own, psrc=addresses[0], pdst=OPERATOR[0])
    claim = ARP(op="is-at", hwsrc=own, psrc=GATEWAY, hwdst=peer, pdst=OPERATOR[0])
    made = {
        "another's IPv4 address": mine / ipv4(STRANGER[0]) / ICMP(),
        "another's IPv6 address": mine / ipv6(STRANGER[1]) / ICMPv6EchoRequest(),
        "another's MAC address": another / ipv4(addresses[0]) / ICMP(),
        "the gateway's address, by ARP": mine / claim,
        "to be a router": mine / IPv6(src="fe80::1", dst="ff02::1") / ICMPv6ND_RA(),
        "another protocol": Ether(src=own, dst=peer, type=LOCAL_EXPERIMENT),
        "a flow that no rule names": mine / ipv4(addresses[0]) / UDP(sport=4444, dport=4444),
        "its own IPv6 address": mine / ipv6(addresses[1]) / ICMPv6EchoRequest(),
        "an ARP request of its own": mine / ask,
        "its own IPv4 address": mine / ipv4(addresses[0]) / ICMP(),
    }
    return {name: frame / Raw(mark(name)) for name, frame in made.items()}


@pytest.mark.requirement("P-17", "P-01")
def test_a_machine_sends_from_its_own_addresses_only(site: Launch, stack: Stack, outside: Host, tmp_path: Path) -> None:
    """Its root can write any frame, past its own firewall: the filter in front of it stands alone here."""
    own = stack.of("libvirt:Domain")[0]["inputs"]["interfaces"][0]["mac"]
    peer = json.loads(outside.run("ip", "-json", "link", "show", "eth0"))[0]["address"]
    sent = frames(own, site.outputs["machines"][0]["addresses"], peer)
    coded = json.dumps([own, [bytes(frame).hex() for frame in sent.values()]])
    with capturing(outside, "eth0", tmp_path / "neighbour.pcap") as seen:
        site.control.root("python3", "-c", SEND, coded)
        seen.until(mark(HONEST[0]))
    told = seen.raw()
    assert {name for name in sent if mark(name) in told} == set(HONEST)


@pytest.mark.requirement("P-14", "H-34")
def test_nothing_is_said_in_the_clear(site: Launch, stack: Stack, lab: Lab, tmp_path: Path) -> None:
    """A login by the browser, and one by http, which must be led to https before anything of it is read."""
    service, password = site.outputs["services"]["jupyter"], site.outputs["password"]
    place = urlsplit(service)
    with capturing(lab.hypervisor, stack.link(f"{NAME}-control"), tmp_path / "login.pcap") as seen:
        plain = ("curl", "-s", "-m", "30", "-o", "/dev/null", "-w", "%{http_code}")
        assert lab.hypervisor.result(*plain, f"http://{place.netloc}{place.path}").stdout[0] == "3"
        with browser(tmp_path, authority=site.outputs["authority"], space=NAMESPACE) as chromium:
            where = chromium.sign_in(service, site.outputs["user"], password)
            assert "/hub/login" not in where, "else it proves nothing"
    said = first_words(seen.frames())
    secure = {ports: words for ports, words in said.items() if 443 in ports}
    assert secure
    assert {words[:2] for words in secure.values()} == {TLS_RECORD}
    answers = [words for (port, _), words in said.items() if port == 80]
    assert answers
    assert all(words.startswith(b"HTTP/1.1 30") for words in answers)
    told = seen.raw()
    assert password.encode() not in told
    assert b"_xsrf" not in told
