"""Somebody changes things by hand: refresh sees it, `up` mends it, and nothing else changes."""

import re
from collections.abc import Callable

import pytest

from tests.machine.conftest import Launch
from tests.machine.lab import Lab
from tests.machine.stack import Stack


def changed(text: str) -> int:
    """Return how many resources a refresh or an `up` says in its summary to have changed."""
    return sum(map(int, re.findall(r"^ +[-+~]+ (\d+) (?:created|updated|deleted|replaced)$", text, re.MULTILINE)))


def mends(stack: Stack, harm: Callable[[], object], *, lost: bool = False) -> None:
    """Do harm, see that refresh finds it, that `up` mends it, and that there is nothing left to do.

    Only what is `lost` is made anew; after that, one more look finds nothing to do.
    """
    harm()
    found = stack.do("refresh")
    assert changed(found.text), found.text
    mended = stack.do("up")
    assert changed(mended.text), mended.text
    if lost:
        stack.do("up", "--refresh", "--expect-no-changes")
    else:
        assert " replaced" not in mended.text, mended.text


def filter_rules(stack: Stack, name: str) -> int:
    return stack.virsh("nwfilter-dumpxml", name).count("<rule ")


@pytest.mark.requirement("P-17", "P-18")
def test_a_pool_looked_at_anew_is_no_change(stack: Stack, site: Launch) -> None:
    """libvirt does it by itself after an upload, too: what it guesses from the disks' content makes no machine anew."""
    stack.virsh("pool-refresh", stack.of("libvirt:Pool")[0]["outputs"]["name"])
    stack.do("up", "--refresh", "--expect-no-changes")


@pytest.mark.requirement("P-17", "P-18")
def test_a_rule_taken_out_of_the_network_filter(stack: Stack, site: Launch, lab: Lab) -> None:
    name = stack.of("libvirt:Filter")[0]["outputs"]["name"]
    before = filter_rules(stack, name)

    def harm() -> None:
        lines = stack.virsh("nwfilter-dumpxml", name).splitlines()
        # Not one of the first: without address resolution nothing on the machine could be looked at.
        first = max(i for i, line in enumerate(lines) if "<rule " in line and "accept" in line)
        last = next(i for i in range(first, len(lines)) if "</rule>" in lines[i])
        file = lab.home / "filter.xml"
        file.write_text("\n".join([*lines[:first], *lines[last + 1 :]]))
        stack.virsh("nwfilter-define", str(file))
        assert filter_rules(stack, name) == before - 1

    mends(stack, harm)
    assert filter_rules(stack, name) == before


@pytest.mark.requirement("P-17", "C-17")
def test_a_rule_added_to_the_machines_firewall(stack: Stack, site: Launch) -> None:
    def harm() -> None:
        site.control.root("sh", "-c", "echo '# by hand' >> /etc/vre/firewall.nft")
        site.control.root("nft", "insert", "rule", "inet", "vre", "input", "tcp", "dport", "8081", "accept")

    mends(stack, harm)
    rules = site.control.root("nft", "list", "table", "inet", "vre")
    assert "8081" not in rules
    assert rules.count("policy drop") == 3


def test_an_object_of_the_cluster_deleted(stack: Stack, site: Launch) -> None:
    def policies() -> set[str]:
        return {each["metadata"]["name"] for each in site.control.objects("networkpolicies", "--namespace", "jupyter")}

    before = policies()
    mends(stack, lambda: site.control.kubectl("delete", "networkpolicies", "--all", "--namespace", "jupyter"))
    assert policies() == before


def kept(site: Launch) -> set[str]:
    """Return the node and every volume as the objects they are: another one with the same name is another one."""
    found = [*site.control.objects("nodes"), *site.control.objects("persistentvolumeclaims", "--all-namespaces")]
    return {each["metadata"]["uid"] for each in found}


@pytest.mark.drill
def test_the_machine_deleted(stack: Stack, site: Launch) -> None:
    """Its disks are volumes of their own, so it comes back as it was; `up` ends when its door answers again."""
    before = kept(site)
    domain = stack.of("libvirt:Domain")[0]["outputs"]["name"]

    def harm() -> None:
        stack.virsh("destroy", domain)
        stack.virsh("undefine", domain, "--nvram")
        site.control.hang_up()

    mends(stack, harm, lost=True)
    assert stack.virsh("domstate", domain).strip() == "running"
    assert kept(site) == before
