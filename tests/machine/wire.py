"""What crosses a wire of the lab: captured by tcpdump, read by scapy."""

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scapy.layers.inet import TCP
from scapy.packet import Packet
from scapy.utils import rdpcap

from tests.machine.lab import Host
from tests.patience import until

PATIENCE = 60.0  # seconds for what was sent to be seen
TLS_RECORD = b"\x16\x03"  # a handshake begins so in every version (RFC 8446, 5.1)
SSH = b"SSH-2.0-"  # RFC 4253, 4.2


@dataclass(frozen=True, kw_only=True)
class Capture:
    """Frames of one link, written as they come."""

    file: Path

    def frames(self) -> list[Packet]:
        """Return the frames so far."""
        return list(rdpcap(str(self.file)))

    def raw(self) -> bytes:
        """Return everything so far as it went over the wire."""
        return self.file.read_bytes()

    def until(self, mark: bytes) -> None:
        """Wait for a mark. What was sent before it has come by then, or never will."""
        until(lambda: mark in self.raw(), f"seen on the wire: {mark!r}", seconds=PATIENCE)


@contextmanager
def capturing(host: Host, link: str, file: Path) -> Iterator[Capture]:
    """Capture all frames of a link. A frame that was lost here ends the test: it may have been the one that matters."""
    words = ("tcpdump", "--interface", link, "--snapshot-length", "0", "--buffer-size", "65536", "--packet-buffered")
    command = host.words(*words, "--relinquish-privileges", "root", "-w", file)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told: list[str] = []
        _read_until(process.stderr.readline, told, "listening on")
        reader = threading.Thread(target=lambda stderr: told.extend(stderr), args=(process.stderr,), daemon=True)
        reader.start()
        try:
            yield Capture(file=file)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=PATIENCE)
            reader.join()
    assert any(line.startswith("0 packets dropped") for line in told), told


def _read_until(line: Callable[[], str], told: list[str], words: str) -> None:
    while words not in (said := line()):
        told.append(said)
        assert said, f"tcpdump: {told}"


def first_words(frames: list[Packet]) -> dict[tuple[int, int], bytes]:
    """Return what was said first from each side of every TCP connection that began: (from port, to port) to bytes."""
    begun: set[tuple[int, int]] = set()
    said: dict[tuple[int, int], bytes] = {}
    for segment in (frame[TCP] for frame in frames if TCP in frame):
        ports = (segment.sport, segment.dport)
        if segment.flags.S:
            begun.add(ports)
        # Ethernet fills short frames up with zeros.
        elif ports in begun and (payload := bytes(segment.payload).rstrip(b"\0")):
            said.setdefault(ports, payload)
    return said
