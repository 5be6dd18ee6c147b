"""Destroy leaves nothing behind: no machine, network, disk, key, file, process, rule, mount."""

import re
from pathlib import Path

import pytest

from tests.machine.conftest import NAME, Launch
from tests.machine.lab import Lab
from tests.machine.ledger import command
from tests.machine.stack import Stack
from vre.clouds.libvirt import bridge

LISTS = (
    ("list", "--all", "--name"),
    ("net-list", "--all", "--name"),
    ("pool-list", "--all", "--name"),
    ("nwfilter-list",),
    ("secret-list",),
)
OURS = "vre-"
RUNNING = ("qemu-system", "dnsmasq", "pulumi", "vre.provider")


def traces(stack: Stack, lab: Lab) -> dict[str, list[str]]:
    """Return whatever of the stack there is in the lab, by kind."""
    words = {" ".join(each): stack.virsh(*each).splitlines() for each in LISTS}
    found = {name: [line for line in lines if OURS in line] for name, lines in words.items()}
    # The list shows a secret's number only; whatever this hypervisor keeps is ours.
    found["secret-list"] = [line for line in words["secret-list"] if re.match(r"\s*[0-9a-f]{8}-", line)]
    found["links"] = [
        line
        for line in lab.hypervisor.run("ip", "-brief", "link").splitlines()
        if line.startswith(("vre", "vnet", "virbr")) and "-p@" not in line
    ]
    found["rules"] = [
        line
        for line in lab.hypervisor.run("nft", "list", "ruleset").splitlines()
        if "192.168.77." in line or "vnet" in line
    ]
    found["files"] = [str(file) for file in (lab.home / "pool").rglob("*")] if (lab.home / "pool").exists() else []
    found["processes"] = _processes(lab)
    found["mounts"] = [line for line in Path("/proc/mounts").read_text().splitlines() if str(lab.home) in line]
    return found


def _processes(lab: Lab, *others: str) -> list[str]:
    """Return the emulators, name servers and engine's children that run in the lab, and others by name."""
    pids = lab.hypervisor.run("ip", "netns", "pids", lab.hypervisor.namespace, check=False).split()
    told = [_command(int(pid)) for pid in pids]
    return [words for words in told if any(name in words for name in (*RUNNING, *others))]


def _command(pid: int) -> str:
    """Return the command line of a process; empty of one that has ended, also while nobody has asked how."""
    try:
        return Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.requirement("P-99")
def test_destroy_leaves_nothing(site: Launch, stack: Stack, lab: Lab) -> None:
    before = traces(stack, lab)
    for kind in (
        "list --all --name",
        "net-list --all --name",
        "pool-list --all --name",
        "nwfilter-list",
        "secret-list",
    ):
        assert before[kind], f"{kind}: else this proves nothing"
    for kind in ("links", "rules", "files", "processes"):
        assert before[kind], f"{kind}: else this proves nothing"
    stack.do("destroy")
    assert traces(stack, lab) == {kind: [] for kind in before}
    assert stack.of("libvirt:Domain") == []
    assert not list(lab.home.rglob("secrets/*.base64")), "the key of the data disk is still there"


def test_destroy_again_is_fine(site: Launch, stack: Stack) -> None:
    assert stack.do("destroy").code == 0


@pytest.mark.requirement("P-99")
def test_down_takes_the_stack_itself_away_and_the_hypervisor_with_it(site: Launch, stack: Stack, lab: Lab) -> None:
    """Where nothing is defined any more, the project's own libvirtd has no reason to stay."""
    own = stack.checkout.state / "hypervisor"
    daemon = int((own / "libvirtd.pid").read_text())
    ended = stack.vre("down", "-s", NAME, "--yes")
    assert (ended.code, ended.text.splitlines()[-1]) == (0, f"stack {NAME} is gone"), ended.text
    assert _processes(lab, "libvirtd") == []
    assert not _command(daemon)
    assert not own.exists()
    again = stack.vre("down", "-s", NAME, "--yes")
    assert (again.code, again.text) == (0, f"stack {NAME} is not launched\n")


def test_the_network_of_the_machine_itself_was_not_touched(site: Launch) -> None:
    """But for the lab's uplink: what a stack of its own has there stays as it is."""
    ours = (bridge(NAME), "vre-outside", "vre-stranger")
    for words in (("ip", "-brief", "link"), ("ip", "route"), ("nft", "list", "ruleset")):
        shown = command(*words)
        assert [line for line in shown.splitlines() if any(name in line for name in ours)] == []
