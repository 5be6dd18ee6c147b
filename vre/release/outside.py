"""Runs as root on a machine under test: looks at it from outside, out of a network namespace of its own.

Only the standard library; started with -c. Prints, as JSON, which of all TCP ports answer, for IPv4 and for IPv6.
"""

import errno
import json
import select
import socket
import subprocess
import sys
import time

SPACE = "vre-outside"
LINK = ("vre-near", "vre-far")
NEAR = {"ipv4": "198.18.77.1", "ipv6": "fd00:77:77::1"}
FAR = {"ipv4": "198.18.77.2/30", "ipv6": "fd00:77:77::2/64"}
LENGTH = {"ipv4": 30, "ipv6": 64}
PATIENCE = 5.0  # seconds until a port counts as silent
QUIET = 1000  # milliseconds without any answer after which the others of a batch count as silent
AT_ONCE = 500


def ip(*words: str, space: bool = False) -> None:
    """Run one ip command, here or in the namespace."""
    subprocess.run(["ip", *(["-n", SPACE] if space else []), *words], check=True, capture_output=True)


def knock(address: str, ports: range) -> list[int]:
    """Return those of some ports that accept a connection; all are asked at once."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    lines = {port: socket.socket(family, socket.SOCK_STREAM) for port in ports}
    asked: dict[int, int] = {}
    waiting, found, over = select.poll(), list[int](), time.monotonic() + PATIENCE
    for port, line in lines.items():
        line.setblocking(False)
        code = line.connect_ex((address, port))
        found += [] if code else [port]
        if code == errno.EINPROGRESS:
            asked[line.fileno()] = port
            waiting.register(line, select.POLLOUT)
    while asked and time.monotonic() < over and (told := waiting.poll(QUIET)):
        for number, _ in told:
            port = asked.pop(number)
            waiting.unregister(number)
            found += [] if lines[port].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else [port]
    for line in lines.values():
        line.close()
    return found


def scan(address: str) -> list[int]:
    """Return the TCP ports that answer, of all."""
    return sorted(port for first in range(1, 65536, AT_ONCE) for port in knock(address, batch(first)))


def batch(first: int) -> range:
    """Return the ports that are asked together."""
    return range(first, min(first + AT_ONCE, 65536))


def main() -> None:
    """Make the namespace, scan out of it, and take it away again."""
    ip("netns", "add", SPACE)
    try:
        ip("link", "add", LINK[0], "type", "veth", "peer", "name", LINK[1], "netns", SPACE)
        for family, address in NEAR.items():
            quick = ["nodad"] if family == "ipv6" else []
            ip("addr", "add", f"{address}/{LENGTH[family]}", "dev", LINK[0], *quick)
            ip("addr", "add", FAR[family], "dev", LINK[1], *quick, space=True)
        ip("link", "set", LINK[0], "up")
        ip("link", "set", LINK[1], "up", space=True)
        source = sys.orig_argv[sys.orig_argv.index("-c") + 1]
        subprocess.run(["ip", "netns", "exec", SPACE, sys.executable, "-c", source, "scan"], check=True)
    finally:
        ip("netns", "delete", SPACE)
        subprocess.run(["ip", "link", "delete", LINK[0]], check=False, capture_output=True)


if __name__ == "__main__":
    if "scan" in sys.argv:
        print(json.dumps({family: scan(address) for family, address in NEAR.items()}))
    else:
        main()
