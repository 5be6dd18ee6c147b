"""What is read out of captured frames."""

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.machine.wire import TLS_RECORD, first_words


def segment(source: int, to: int, flags: str, payload: bytes = b"") -> Packet:
    return Ether(bytes(Ether() / IP(dst="192.0.2.1") / TCP(sport=source, dport=to, flags=flags) / Raw(payload)))


def test_the_first_words_of_connections_that_began_are_told() -> None:
    frames = [
        segment(7, 443, "PA", b"in the midst of another"),
        segment(5, 443, "S"),
        segment(443, 5, "SA"),
        segment(5, 443, "A", b"\0\0"),
        segment(5, 443, "PA", TLS_RECORD + b"hello"),
        segment(443, 5, "PA", b"HTTP/1.1 400"),
        segment(5, 443, "PA", b"later"),
    ]
    assert first_words(frames) == {(5, 443): TLS_RECORD + b"hello", (443, 5): b"HTTP/1.1 400"}
