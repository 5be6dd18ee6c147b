"""The machine loses its power: it is back by itself, with its services, and with what was saved."""

import time
from urllib.parse import urlsplit

import pytest

from tests.machine import autopsy
from tests.machine.conftest import Launch
from tests.machine.lab import Host, Lab
from tests.machine.stack import Machine, Say, Stack
from tests.patience import until

PATIENCE = 900.0  # seconds; an emulated machine is slow
SAVED = "what was found"
NOTES = "/var/lib/cni/results"
LOSING = f"""
until crictl pods --quiet > /run/pods && [ -s /run/pods ]; do sleep 1; done
mkdir -p {NOTES}
while read -r pod; do : > {NOTES}/vre-$pod-eth0; done < /run/pods
sync {NOTES}/*
"""


def wait_for(site: Launch, host: Host, lab: Lab, say: Say) -> None:
    """Wait until the service answers through the front door, the chain verified."""
    authority = lab.home / "authority.pem"
    authority.write_text(site.outputs["authority"])
    url = f"{site.outputs['services']['jupyter'].rstrip('/')}/hub/login"
    begun = time.monotonic()
    shown = 0.0
    while True:
        done = host.result(
            "curl", "-s", "-m", "10", "--cacert", authority, "-o", "/dev/null", "-w", "%{http_code}", url
        )
        took = time.monotonic() - begun
        if done.stdout == "200":
            say(f"{urlsplit(url).netloc} answers again after {took:.0f} s")
            return
        if took > PATIENCE:
            seen = autopsy.look(site.control)
            site.lost = f"{url}: {done.stdout} {done.stderr}, {took:.0f} s after the power cut"
            pytest.fail(f"{site.lost}\n{seen}", pytrace=False)
        if took - shown > 30:
            shown = took
            say(f"waiting for {url}, {took:.0f} s: {done.stdout or done.stderr}")
        time.sleep(2)


@pytest.fixture(scope="module")
def kept(site: Launch, notebook: str) -> None:
    """A file in the user's home, put there as by a notebook, onto the disk and not just into memory."""
    script = f"import os; f = open('/home/jovyan/power.txt', 'w'); f.write('{SAVED}'); f.flush(); os.fsync(f.fileno())"
    site.control.kubectl(
        "exec", "--namespace", "jupyter-users", notebook, "--", "/opt/jupyter/bin/python", "-c", script
    )


def saved(machine: Machine) -> bool:
    """Say whether the file is there with what was written."""
    return machine.root("find", "/var/lib/vre/data", "-name", "power.txt", "-exec", "cat", "{}", ";") == SAVED


@pytest.mark.requirement("P-06")
@pytest.mark.usefixtures("kept")
def test_a_reboot_ends_everything_in_order_and_starts_it_again(site: Launch, stack: Stack, say: Say) -> None:
    before = site.control.boot()
    say("reboot, as by the power button")
    stack.virsh("reboot", stack.of("libvirt:Domain")[0]["outputs"]["name"])
    site.control.hang_up()
    until(lambda: site.control.boot() not in {"", before}, "it has started anew", seconds=PATIENCE, pause=3)
    said = site.control.root("journalctl", "--boot=-1", "--lines=400", "--output=cat", "--no-pager")
    # Partitions are unmounted side by side, the journal's own among them: which of them it can still tell of is chance.
    # That all of them ended clean is what the next start says, which mends none.
    assert "Stopped containerd.service" in said
    assert "Failed unmounting" not in said
    assert "recovery complete" not in site.control.root(
        "journalctl", "--boot=0", "--dmesg", "--output=cat", "--no-pager"
    )
    assert saved(site.control)


@pytest.mark.requirement("P-17", "H-35")
def test_after_it_the_firewall_is_up_again(site: Launch) -> None:
    rules = site.control.root("nft", "list", "table", "inet", "vre")
    assert rules.count("policy drop") == 3


@pytest.mark.requirement("P-06")
@pytest.mark.usefixtures("kept")
def test_after_a_power_cut_it_is_back_with_what_was_saved(
    site: Launch, stack: Stack, lab: Lab, outside: Host, say: Say
) -> None:
    """The power goes while the reboot before is still bringing services up: a bad moment, and time saved.

    What was written in the last seconds is often there, and empty: so is what CNI noted of each pod's network.
    """
    before = site.control.boot()
    site.control.root("sh", "-c", LOSING)
    say("power cut")
    domain = stack.of("libvirt:Domain")[0]["outputs"]["name"]
    stack.virsh("destroy", domain)
    site.control.hang_up()
    stack.virsh("start", domain)
    wait_for(site, outside, lab, say)
    assert site.control.boot() not in {"", before}
    assert saved(site.control)


def test_after_all_that_there_is_nothing_to_change(site: Launch, stack: Stack) -> None:
    stack.do("up", "--expect-no-changes")
