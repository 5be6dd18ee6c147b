"""AWS is told exactly what the policy says: every peer, both families, every port, in and out."""

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings

from tests.oracle import aws, mutate
from tests.oracle.compare import assert_agree, differences
from tests.oracle.configs import KEY, Case, case, cases
from tests.oracle.told import Props, Resource, declared
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


def answer(token: str, name: str, inputs: Props) -> tuple[str, Props]:
    computed = {"ipv6CidrBlock": "2600:1f18:1234:5600::/56"} if token == aws.VPC else {}
    if token == "aws:ebs/volume:Volume":
        return "vol-0123456789abcdef0", {}
    return f"{name}-id", {**computed, "arn": f"arn:aws:x:eu-west-1:123456789012:{name}", "publicIp": "192.0.2.10"}


def said(stack: Case) -> list[Resource]:
    return declared(stack, answer, CALLS)


@pytest.mark.requirement("P-16", "P-17", "P-18", "P-100", "C-16")
@settings(max_examples=20, deadline=None)
@given(case=cases(CLOUD))
def test_the_groups_say_what_the_policy_says(case: Case) -> None:
    told = said(case)
    assert_agree(case, aws.told(told).evaluator(), told)


RULES = (aws.INGRESS, aws.EGRESS)


def moved(inputs: Props) -> Props:
    return {**inputs, "fromPort": inputs["fromPort"] + 1, "toPort": inputs["toPort"] + 1}


def everything(inputs: Props) -> Props:
    return {**inputs, "ipProtocol": "-1"}


def gone(inputs: Props) -> None:
    return None


def without_groups(inputs: Props) -> Props:
    return {**inputs, "securityGroups": []}


def of_workers(inputs: Props) -> Props | None:
    return None if inputs.get("referencedSecurityGroupId") == "worker-group-id" else inputs


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
        pytest.param(aws.INGRESS, everything, id="every protocol in"),
        pytest.param(aws.EGRESS, everything, id="every protocol out"),
        pytest.param(RULES, mutate.setting(ipProtocol="udp"), id="another protocol"),
        pytest.param(RULES, of_workers, id="a role's group left out"),
        pytest.param(RULES, nodes_by_address, id="the whole network for nodes"),
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
    stack = case(WITH_WORKERS, sftp=("198.51.100.0/25",), vpn=("2001:db8:8000::/33",))
    told = mutate.mutated(said(stack), kinds, change)
    assert differences(stack, aws.told(told).evaluator(), told)


def test_source_and_destination_cannot_be_swapped_unnoticed() -> None:
    stack = case(WITH_WORKERS)
    other = {aws.INGRESS: aws.EGRESS, aws.EGRESS: aws.INGRESS}
    told = [replace(each, type=other.get(each.type, each.type)) for each in said(stack)]
    assert differences(stack, aws.told(told).evaluator(), told)


@pytest.mark.requirement("P-17")
def test_a_machine_in_the_default_group_reaches_nobody_and_nobody_reaches_it() -> None:
    stack = case(WITH_WORKERS)
    told = mutate.mutated(said(stack), aws.CARD, without_groups)
    assert {each.cloud for each in differences(stack, aws.told(told).evaluator(), told)} == {0}
    whole = [each for each in told if each.type != aws.DEFAULT_GROUP]
    assert {each.cloud for each in differences(stack, aws.told(whole).evaluator(), whole)} != {0}


@pytest.mark.requirement("P-17")
def test_a_worker_is_reached_from_outside_by_nobody_even_with_open_groups() -> None:
    stack = case(WITH_WORKERS)
    told = mutate.mutated(said(stack), RULES, mutate.widened)
    outside = [
        str(peer)
        for each in differences(stack, aws.told(told).evaluator(), told)
        for peer in each.peers
        if each.machine.role == "worker" and each.direction == "in" and not near(peer.address)
    ]
    assert outside == []


def near(address: Address) -> bool:
    own = (ip_network("10.77.0.0/16"), ip_network("2600:1f18:1234:5600::/56"), *aws.LINK_LOCAL)
    return any(address.version == each.version and address in each for each in own)
