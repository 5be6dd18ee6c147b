"""Google's cloud is told exactly what the policy says: every peer, both families, every port, in and out."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings

from tests.oracle import gcp, mutate, ports
from tests.oracle.compare import IN, OUT, Flow, assert_agree, differences
from tests.oracle.configs import KEY, Case, case, cases
from tests.oracle.declared import declared
from tests.oracle.peers import Peer
from tests.oracle.told import Props, Resource
from vre.inventory import Machine
from vre.policy import Role

CLOUD = {"provider": "gcp", "project": "phenome-1234", "region": "europe-west1"}
CALLS = {"gcp:organizations/getProject:getProject": lambda args: {"number": "123456789012"}}
WITH_WORKERS: dict[str, Any] = {
    "cloud": CLOUD,
    "access": {"keys": [KEY], "operators": ["203.0.113.0/24", "2001:db8::/32"]},
    "machines": {"workers": {"count": 3, "without": [2]}},
    "edge": {"provider": "cloudflare", "zone": "example.org"},
}


def answer(token: str, name: str, inputs: Props) -> tuple[str, Props]:
    return f"{name}-id", {"address": "192.0.2.10", "instanceId": "1234567890"}


def said(stack: Case) -> list[Resource]:
    return declared(stack, answer, CALLS)


@pytest.mark.requirement("P-16", "P-17", "P-18", "C-16")
@settings(max_examples=25)
@given(case=cases(CLOUD))
def test_the_rules_say_what_the_policy_says(case: Case) -> None:
    told = said(case)
    assert_agree(case, gcp.evaluator(told), told)


def of(key: str, change: mutate.Change) -> mutate.Change:
    """Change only rules that have a key."""
    return lambda inputs: change(inputs) if key in inputs else inputs


def gone(inputs: Props) -> None:
    return None


def without(*keys: str) -> mutate.Change:
    return lambda inputs: {key: value for key, value in inputs.items() if key not in keys}


def moved(inputs: Props) -> Props:
    opened = [{**each, "ports": ["8080"]} for each in inputs["allows"]]
    return {**inputs, "allows": opened}


def every_port(inputs: Props) -> Props:
    return {**inputs, "allows": [{"protocol": each["protocol"]} for each in inputs["allows"]]}


def every_protocol(inputs: Props) -> Props:
    return {**inputs, "allows": [{"protocol": "all"}]}


def turned(inputs: Props) -> Props:
    other = {"INGRESS": "EGRESS", "EGRESS": "INGRESS"}
    sides = {"sourceRanges": "destinationRanges", "destinationRanges": "sourceRanges"}
    made = {sides.get(key, key): value for key, value in inputs.items() if key != "sourceTags"}
    return {**made, "direction": other[inputs["direction"]]}


def without_public(inputs: Props) -> Props:
    return {**inputs, "networkInterfaces": [without("accessConfigs")(each) for each in inputs["networkInterfaces"]]}


@pytest.mark.parametrize(
    ("kinds", "change"),
    [
        pytest.param(gcp.FIREWALL, of("allows", mutate.widened), id="widen what is let through"),
        pytest.param(gcp.FIREWALL, of("sourceRanges", of("allows", mutate.widened)), id="widen what comes in"),
        pytest.param(gcp.FIREWALL, of("destinationRanges", of("allows", mutate.widened)), id="widen what goes out"),
        pytest.param(gcp.FIREWALL, of("allows", mutate.without_ipv6), id="drop IPv6"),
        pytest.param(gcp.FIREWALL, of("denies", mutate.without_ipv6), id="do not refuse IPv6"),
        pytest.param(gcp.FIREWALL, of("denies", gone), id="do not refuse what is let out by itself"),
        pytest.param(gcp.FIREWALL, turned, id="swap source and destination"),
        pytest.param(gcp.FIREWALL, mutate.setting(priority=1000), id="one priority for all: denials win"),
        pytest.param(gcp.FIREWALL, of("allows", mutate.setting(priority=65001)), id="permissions after denials"),
        pytest.param(gcp.FIREWALL, of("allows", moved), id="other ports"),
        pytest.param(gcp.FIREWALL, of("allows", every_port), id="every port"),
        pytest.param(gcp.FIREWALL, of("allows", every_protocol), id="every protocol"),
        pytest.param(gcp.FIREWALL, without("targetTags"), id="for every machine"),
        pytest.param(gcp.FIREWALL, of("sourceTags", without("sourceTags")), id="from everybody in place of machines"),
        pytest.param(gcp.FIREWALL, mutate.setting(targetTags=["vre-oracle-worker"]), id="for the other role"),
        pytest.param(gcp.FIREWALL, mutate.setting(network="another"), id="in another network"),
        pytest.param(gcp.FIREWALL, lambda inputs: {**inputs, "disabled": True}, id="switched off"),
        pytest.param(gcp.INSTANCE, without("tags"), id="machines without tags"),
        pytest.param(gcp.INSTANCE, mutate.setting(tags=["vre-oracle-worker"]), id="machines with the other tag"),
        pytest.param(gcp.INSTANCE, without_public, id="no public address"),
        pytest.param(gcp.NAT, gone, id="no way out for workers"),
    ],
)
def test_what_says_something_else_is_noticed(kinds: str, change: mutate.Change) -> None:
    stack = case(WITH_WORKERS, sftp=("198.51.100.0/25",), vpn=("2001:db8:8000::/33",))
    told = mutate.mutated(said(stack), kinds, change)
    assert differences(stack, gcp.evaluator(told), told)


def flow(direction: str, address: str, told: list[Resource]) -> int:
    """Ask about a machine with the tags a and b."""
    machine = Machine(
        name="m", role=Role.CONTROL, cpus=2, memory=1, disk=1, data=1, ipv4="10.0.0.2", ipv6="", mac=""
    )  # fmt: skip
    card = {"subnetwork": "subnet", "networkIp": "10.0.0.2", "accessConfigs": [{}], "ipv6AccessConfigs": [{}]}
    cards = [card, {"subnetwork": "subnet", "networkIp": "10.0.0.3"}, {"subnetwork": "other", "networkIp": "10.0.0.4"}]
    world = [
        Resource(type=gcp.SUBNET, name=name, id=name, inputs={"network": net}, outputs={})
        for name, net in (("subnet", "net"), ("other", "elsewhere"))
    ] + [
        Resource(type=gcp.INSTANCE, name=name, id=name, inputs={"networkInterfaces": [each], "tags": tags}, outputs={})
        for name, each, tags in zip("mno", cards, (["a", "b"], ["c"], ["c"]), strict=True)
    ]
    peer = Peer(address=ip_address(address), what="somebody")
    return gcp.evaluator([*world, *told])(Flow(direction=direction, peer=peer, machine=machine, protocol="tcp"))


def told(action: str = "allows", **inputs: Any) -> Resource:
    made = {"network": "net", action: [{"protocol": "tcp", "ports": ["22"]}], **inputs}
    return Resource(type=gcp.FIREWALL, name="rule", id="rule", inputs=made, outputs={})


SSH = ports.one(22)


@pytest.mark.parametrize(
    ("direction", "address", "rules", "wanted"),
    [
        pytest.param(IN, "192.0.2.1", [], ports.NONE, id="implied: nothing in"),
        pytest.param(OUT, "192.0.2.1", [], ports.SOME, id="implied: everything out"),
        pytest.param(OUT, "2001:db8::1", [], ports.SOME, id="implied: everything out, IPv6"),
        pytest.param(IN, "192.0.2.1", [told()], SSH, id="no range: everybody of IPv4"),
        pytest.param(IN, "2001:db8::1", [told()], ports.NONE, id="no range: nobody of IPv6"),
        pytest.param(IN, "192.0.2.1", [told(disabled=True)], ports.NONE, id="disabled"),
        pytest.param(IN, "192.0.2.1", [told(targetTags=["b", "x"])], SSH, id="one of its tags"),
        pytest.param(IN, "192.0.2.1", [told(targetTags=["x"])], ports.NONE, id="none of its tags"),
        pytest.param(IN, "192.0.2.1", [told(network="other")], ports.NONE, id="another network"),
        pytest.param(IN, "192.0.2.1", [told(), told("denies")], ports.NONE, id="denial wins at equal priority"),
        pytest.param(IN, "192.0.2.1", [told(priority=9), told("denies", priority=10)], SSH, id="lower number wins"),
        pytest.param(IN, "192.0.2.1", [told(priority=11), told("denies", priority=10)], 0, id="higher number loses"),
        pytest.param(IN, "10.0.0.3", [told(sourceTags=["c"])], SSH, id="a machine with the source tag"),
        pytest.param(IN, "10.0.0.4", [told(sourceTags=["c"])], 0, id="a machine of another network with that tag"),
        pytest.param(IN, "192.0.2.1", [told(sourceTags=["c"])], 0, id="somebody without a tag"),
        pytest.param(IN, "192.0.2.1", [told(sourceTags=["c"], sourceRanges=["192.0.2.0/24"])], SSH, id="range or tag"),
        pytest.param(OUT, "192.0.2.1", [told("denies", direction="EGRESS")], ports.SOME & ~SSH, id="ports of a denial"),
        pytest.param(OUT, "192.0.2.1", [told("denies", direction="INGRESS")], ports.SOME, id="the other direction"),
    ],
)
def test_the_published_rules(direction: str, address: str, rules: list[Resource], wanted: int) -> None:
    assert flow(direction, address, rules) == wanted


@pytest.mark.requirement("P-17")
def test_workers_are_reached_from_outside_by_nobody_even_with_open_rules() -> None:
    stack = case(WITH_WORKERS)
    wide = mutate.mutated(said(stack), gcp.FIREWALL, of("allows", mutate.widened))
    outside = [
        str(peer)
        for each in differences(stack, gcp.evaluator(wide), wide)
        if each.machine.role == Role.WORKER and each.direction == IN
        for peer in each.peers
        if not str(peer.address).startswith("10.77.")
    ]
    assert outside == []


@pytest.mark.requirement("P-17")
def test_a_machine_that_somebody_adds_to_the_network_is_closed() -> None:
    stack = case(WITH_WORKERS)
    told = [
        replace(each, inputs={**each.inputs, "tags": []}) if each.type == gcp.INSTANCE else each for each in said(stack)
    ]
    assert {each.cloud for each in differences(stack, gcp.evaluator(told), told)} == {0}
