"""What enforces network policies cannot: pods are let through to nobody meanwhile, and it comes back by itself."""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.machine.conftest import Launch
from tests.machine.stack import Machine
from tests.patience import until
from vre.machine.nftables import QUEUE

HOLDER = "vre-test-queue"
# Takes the queue as soon as it is free, as a packet does that comes in while it is being opened: netlink(7), the
# message NFQNL_MSG_CONFIG with NFQNL_CFG_CMD_BIND of linux/netfilter/nfnetlink_queue.h.
HOLD = f"""
import socket, struct, time
NETFILTER, REQUEST_AND_ACKNOWLEDGE, CONFIG, COMMAND, BIND = 12, 5, 3 << 8 | 2, 1, 1
bind = struct.pack("=HHBxH", 8, COMMAND, BIND, 0)
body = struct.pack("=BB", 0, 0) + struct.pack(">H", {QUEUE}) + bind
taken = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
while True:
    taken.send(struct.pack("=IHHII", 16 + len(body), CONFIG, REQUEST_AND_ACKNOWLEDGE, 1, 0) + body)
    if struct.unpack_from("=i", taken.recv(4096), 16)[0] == 0:
        break
    time.sleep(0.01)
open("/run/{HOLDER}", "w").close()
time.sleep(600)
"""
ASK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()
except OSError:
    print("refused")
else:
    print("let through")
"""
patiently = partial(until, seconds=180, pause=2)


def enforcer(machine: Machine) -> dict[str, str | int]:
    """Return how it is with what enforces policies: how often it began, how it ended last, whether it is ready."""
    [pod] = machine.objects("pods", "--namespace", "kube-system", "--selector", "app=network-policies")
    [told] = pod["status"]["containerStatuses"]
    ended = told["lastState"].get("terminated") or told["state"].get("terminated") or {}
    return {"begun": told["restartCount"], "code": ended.get("exitCode", 0), "ready": told["ready"]}


def asked(machine: Machine, address: str, port: int) -> str:
    """Return what the hub is told on its way there: its policy lets it to the API and to the proxy."""
    python = "/opt/jupyterhub/bin/python"
    command = ("exec", "--namespace", "jupyter", "deploy/hub", "--", python, "-c", ASK, address, str(port))
    return machine.kubectl(*command).strip()


@pytest.fixture
def kept(site: Launch) -> Iterator[Machine]:
    """The machine, with its queue in other hands, and what enforces policies begun anew."""
    machine = site.control
    machine.root("systemd-run", "--quiet", "--collect", f"--unit={HOLDER}", "python3", "-c", HOLD)
    try:
        machine.root("sh", "-c", "crictl stop --timeout 0 $(crictl ps --quiet --name network-policies)")
        machine.root("timeout", "60", "sh", "-c", f"until [ -e /run/{HOLDER} ]; do sleep 1; done")
        yield machine
    finally:
        machine.result("sudo", "-n", "systemctl", "stop", HOLDER)
        machine.root("rm", "-f", f"/run/{HOLDER}")


@pytest.mark.requirement("C-11", "C-16", "P-06")
def test_what_cannot_enforce_policies_ends_lets_nobody_through_and_comes_back(site: Launch, kept: Machine) -> None:
    ways = [(site.control.address, 6443), ("10.96.0.81", 8001)]
    patiently(lambda: enforcer(kept)["code"] == 1, "it ends where its queue is not to be had")
    assert [asked(kept, *way) for way in ways] == ["refused"] * len(ways)
    before = enforcer(kept)["begun"]
    patiently(lambda: enforcer(kept)["begun"] != before, "it is started anew")
    kept.root("systemctl", "stop", HOLDER)
    patiently(lambda: enforcer(kept)["ready"], "it comes back")
    patiently(lambda: [asked(kept, *way) for way in ways] == ["let through"] * len(ways), "pods may again")
