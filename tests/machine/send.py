"""Send one UDP datagram to each port: `python -m tests.machine.send ADDRESS RATE`, ports as JSON on standard input.

A firewall that drops is silent, so what was sent and what got through is counted on the way (scan.py), not guessed.
"""

import json
import socket
import sys
import time
from collections.abc import Sequence

BURST = 50


def send(address: str, ports: Sequence[int], rate: float) -> None:
    """Send to every port, `rate` datagrams a second."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as out:
        begun = time.monotonic()
        for count, port in enumerate(ports):
            _one(out, address, port)
            if count % BURST == 0:
                time.sleep(max(0.0, begun + count / rate - time.monotonic()))


def _one(out: socket.socket, address: str, port: int) -> None:
    for _ in range(100):
        try:
            out.sendto(b"vre", (address, port))
        except BlockingIOError:
            time.sleep(0.01)
        except ConnectionRefusedError:
            continue  # the answer to an earlier one
        else:
            return


if __name__ == "__main__":
    send(sys.argv[1], json.load(sys.stdin), float(sys.argv[2]))
