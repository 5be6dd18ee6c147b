"""AWS is told exactly what the policy says: every peer, both families, every port, in and out."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings

from tests.oracle import aws, mutate
from tests.oracle.compare import Difference, assert_agree, differences
from tests.oracle.configs import KEY, Case, case, cases
from tests.oracle.declared import declared
from tests.oracle.told import Props, Resource
from vre.policy import Address

CLOUD = {"provider": "aws", "region": "eu-west-1"}
CALLS: dict[str, Any] = {
    "aws:index/getAvailabilityZones:getAvailabilityZones": lambda args: {"names": ["eu-west-1b", "eu-west-1a"]},
    "aws:ec2/getAmi:getAmi": lambda args: {"id": "ami-0123456789abcdef0"},
}
WITH_WORKERS: dict[str, Any] = {
    "cloud": CLOUD,
    "access": {
        "keys": [KEY],
        "operators": ["203.0.113.0/24", "2001:db8::/32"],
    },
    "machines": {"workers": {"count": 3, "without": [2]}},
    "edge": {"provider": "cloudflare", "zone": "example.org"},
}
SUBNETS = {"public-subnet-id": "2600:1f18:1234:5600::/64", "private-subnet-id": "2600:1f18:1234:5601::/64"}


def answer(token: str, name: str, inputs: Props) -> tuple[str, Props]:
    computed: Props = {"ipv6CidrBlock": "2600:1f18:1234:5600::/56"} if token == aws.VPC else {}
    if token == aws.CARD:
        # AWS chooses: no address that a plan could know.
        number = int(ip_address(inputs["privateIps"][0])) * 7 % 65521
        computed = {"ipv6Addresses": [str(ip_network(SUBNETS[inputs["subnetId"]])[number])]}
    if token == "aws:ebs/volume:Volume":
        return "vol-0123456789abcdef0", {}
    return f"{name}-id", {**computed, "arn": f"arn:aws:x:eu-west-1:123456789012:{name}", "publicIp": "192.0.2.10"}


def said(stack: Case) -> list[Resource]:
    return declared(stack, answer, CALLS)


@cache
def everything() -> tuple[Case, list[Resource]]:
    """Return a stack with all there is, its machines where AWS placed them, and what AWS was told."""
    outbound = {"networks": ["2001:db8:1::/48"]}
    stack = case({**WITH_WORKERS, "outbound": outbound}, sftp=("198.51.100.0/25",), vpn=("2001:db8:8000::/33",))
    told = said(stack)
    return aws.told(told).placed(stack), told


def changed(kinds: str | tuple[str, ...], change: mutate.Change) -> list[Difference]:
    """Return what is noticed when something else is said."""
    return noticed(mutate.mutated(everything()[1], kinds, change))


def noticed(told: list[Resource]) -> list[Difference]:
    return differences(everything()[0], aws.told(told).evaluator(), told)


@pytest.mark.requirement("P-16", "P-17", "P-18", "P-100", "C-16")
@settings(max_examples=20, deadline=None)
@given(case=cases(CLOUD))
def test_the_groups_say_what_the_policy_says(case: Case) -> None:
    told = said(case)
    world = aws.told(told)
    placed = world.placed(case)
    assert all(each.ipv6 for each in placed.plan.machines)
    assert_agree(placed, world.evaluator(), told)


RULES = (aws.INGRESS, aws.EGRESS)


def moved(inputs: Props) -> Props:
    return (
        inputs
        if inputs["toPort"] == 65535
        else {**inputs, "fromPort": inputs["fromPort"] + 1, "toPort": inputs["toPort"] + 1}
    )


def every_protocol(inputs: Props) -> Props:
    return {**inputs, "ipProtocol": "-1"}


def gone(inputs: Props) -> None:
    return None


def without_groups(inputs: Props) -> Props:
    return {**inputs, "securityGroups": []}


def of_workers(inputs: Props) -> Props | None:
    return None if inputs.get("referencedSecurityGroupId") == "worker-group-id" else inputs


def of_ipv6(change: Callable[[Props], Props | None]) -> mutate.Change:
    """Change the rules alone that name networks of IPv6."""
    return lambda inputs: change(inputs) if "cidrIpv6" in inputs else inputs


def nodes_by_ipv6_address(inputs: Props) -> Props:
    if "referencedSecurityGroupId" not in inputs:
        return inputs
    kept = {key: value for key, value in inputs.items() if key != "referencedSecurityGroupId"}
    return {**kept, "cidrIpv6": "2600:1f18:1234:5600::/56"}


def nodes_by_address(inputs: Props) -> Props:
    if "referencedSecurityGroupId" not in inputs:
        return inputs
    kept = {key: value for key, value in inputs.items() if key != "referencedSecurityGroupId"}
    return {**kept, "cidrIpv4": "10.77.0.0/16"}


@pytest.mark.parametrize(
    ("kinds", "change"),
    [
        pytest.param(aws.INGRESS, mutate.widened, id="widen what comes in"),
        pytest.param(aws.EGRESS, mutate.widened, id="widen what goes out"),
        pytest.param(aws.INGRESS, mutate.without_ipv6, id="drop IPv6 in"),
        pytest.param(aws.EGRESS, mutate.without_ipv6, id="drop IPv6 out"),
        pytest.param(RULES, moved, id="other ports"),
        pytest.param(aws.INGRESS, every_protocol, id="every protocol in"),
        pytest.param(aws.EGRESS, every_protocol, id="every protocol out"),
        pytest.param(RULES, mutate.setting(ipProtocol="udp"), id="another protocol"),
        pytest.param(RULES, of_workers, id="a role's group left out"),
        pytest.param(RULES, nodes_by_address, id="the whole network for nodes"),
        pytest.param(RULES, nodes_by_ipv6_address, id="the whole IPv6 network for nodes"),
        pytest.param(RULES, mutate.setting(securityGroupId="control-group-id"), id="all in one group"),
        pytest.param(RULES, mutate.setting(securityGroupId="worker-group-id"), id="all in the other group"),
        pytest.param(aws.CARD, without_groups, id="the default group"),
        pytest.param(aws.LED, gone, id="no public address"),
        pytest.param(aws.ROUTE, mutate.without_ipv6, id="no IPv6 route"),
        pytest.param(aws.ROUTE, gone, id="no route"),
        pytest.param(aws.SUBNET_ROUTES, gone, id="routes of no subnet"),
    ],
)
def test_what_says_something_else_is_noticed(kinds: str | tuple[str, ...], change: mutate.Change) -> None:
    assert changed(kinds, change)


WAYS = ("in", "out")


@pytest.mark.requirement("P-18")
@pytest.mark.parametrize(
    ("kinds", "change", "ways"),
    [
        pytest.param(aws.INGRESS, of_ipv6(gone), ("in",), id="IPv6 rules in lost"),
        pytest.param(aws.EGRESS, of_ipv6(gone), ("out",), id="IPv6 rules out lost"),
        pytest.param(aws.INGRESS, of_ipv6(mutate.widened), ("in",), id="IPv6 rules in widened"),
        pytest.param(aws.EGRESS, of_ipv6(mutate.widened), ("out",), id="IPv6 rules out widened"),
        pytest.param(aws.CARD, mutate.setting(ipv6AddressCount=0), WAYS, id="machines without IPv6 addresses"),
        pytest.param(aws.ROUTE, mutate.without_ipv6, WAYS, id="no IPv6 route"),
    ],
)
def test_what_is_wrong_with_ipv6_alone_is_noticed(kinds: str, change: mutate.Change, ways: tuple[str, ...]) -> None:
    every = changed(kinds, change)
    assert {peer.address.version for each in every for peer in each.peers} == {6}
    assert {each.direction for each in every} == set(ways)


@pytest.mark.requirement("P-17")
def test_nodes_that_are_let_in_by_their_ipv4_addresses_alone_are_noticed() -> None:
    stack, told = everything()
    every = noticed([other for each in told for other in by_ipv4(each, stack)])
    assert {(each.direction, peer.address.version) for each in every for peer in each.peers} == {("in", 6), ("out", 6)}
    assert {each.machine.role for each in every} == {"control", "worker"}


def by_ipv4(told: Resource, stack: Case) -> list[Resource]:
    """Return, for a rule about a group of machines, one about each of these machines' planned addresses."""
    group = told.inputs.get("referencedSecurityGroupId", "")
    if not group:
        return [told]
    kept = {key: value for key, value in told.inputs.items() if key != "referencedSecurityGroupId"}
    return [
        replace(told, inputs={**kept, "cidrIpv4": f"{each.ipv4}/32"})
        for each in stack.plan.machines
        if group == f"{each.role}-group-id"
    ]


def test_source_and_destination_cannot_be_swapped_unnoticed() -> None:
    other = {aws.INGRESS: aws.EGRESS, aws.EGRESS: aws.INGRESS}
    assert noticed([replace(each, type=other.get(each.type, each.type)) for each in everything()[1]])


@pytest.mark.requirement("P-17")
def test_a_machine_in_the_default_group_reaches_nobody_and_nobody_reaches_it() -> None:
    told = mutate.mutated(everything()[1], aws.CARD, without_groups)
    assert {each.cloud for each in noticed(told)} == {0}
    whole = [each for each in told if each.type != aws.DEFAULT_GROUP]
    assert {each.cloud for each in noticed(whole)} != {0}


@pytest.mark.requirement("P-17")
def test_a_worker_is_reached_from_outside_by_nobody_even_with_open_groups() -> None:
    outside = [
        str(peer)
        for each in changed(RULES, mutate.widened)
        for peer in each.peers
        if each.machine.role == "worker" and each.direction == "in" and not near(peer.address)
    ]
    assert outside == []


def near(address: Address) -> bool:
    own = (ip_network("10.77.0.0/16"), ip_network("2600:1f18:1234:5600::/56"), *aws.LINK_LOCAL)
    return any(address.version == each.version and address in each for each in own)
