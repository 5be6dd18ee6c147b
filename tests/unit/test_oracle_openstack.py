"""OpenStack is told exactly what the policy says: every peer, both families, every port, in and out."""

from typing import Any

import pytest
from hypothesis import given, settings

from tests.oracle import mutate, openstack
from tests.oracle.compare import assert_agree, differences
from tests.oracle.configs import KEY, Case, case, cases
from tests.oracle.declared import declared
from tests.oracle.told import Props, Resource

CLOUD = {
    "provider": "openstack",
    "region": "RegionOne",
    "public": True,
    "external-network": "public",
    "volume-type": "LUKS",
}
CALLS = {
    "openstack:networking/getNetwork:getNetwork": lambda args: {"id": "outside"},
    "openstack:images/getImage:getImage": lambda args: {"id": "debian"},
    "openstack:compute/getFlavor:getFlavor": lambda args: {"id": "flavour", "flavorId": "flavour"},
}
NOT_NOTICED = pytest.mark.xfail(strict=True, reason="says the same")
WITH_WORKERS: dict[str, Any] = {
    "cloud": CLOUD,
    "access": {"keys": [KEY], "operators": ["203.0.113.0/24", "2001:db8::/32"]},
    "machines": {"workers": {"count": 3, "without": [2]}},
    "edge": {"provider": "cloudflare", "zone": "example.org"},
    "outbound": {"resolvers": ["192.0.2.53/32"], "networks": ["198.51.100.0/25"]},
}


def said(stack: Case) -> list[Resource]:
    return declared(stack, calls=CALLS)


@pytest.mark.requirement("P-16", "P-17", "P-18", "P-100", "C-16")
@settings(max_examples=25)
@given(case=cases(CLOUD, resolvers=1))
def test_the_groups_say_what_the_policy_says(case: Case) -> None:
    told = said(case)
    assert_agree(case, openstack.told(told).evaluator(), told)


def other_way(inputs: Props) -> Props:
    return {**inputs, "direction": {"ingress": "egress", "egress": "ingress"}[inputs["direction"]]}


def inward(change: mutate.Change) -> mutate.Change:
    return lambda inputs: change(inputs) if inputs["direction"] == "ingress" else inputs


def outward(change: mutate.Change) -> mutate.Change:
    return lambda inputs: change(inputs) if inputs["direction"] == "egress" else inputs


def everybody(inputs: Props) -> Props:
    return {key: value for key, value in inputs.items() if key not in ("remoteIpPrefix", "remoteGroupId")}


def without_ipv6(inputs: Props) -> Props | None:
    return None if inputs["ethertype"] == "IPv6" else inputs


def moved(inputs: Props) -> Props:
    if "portRangeMin" not in inputs:
        return inputs
    return {**inputs, "portRangeMin": inputs["portRangeMin"] + 1, "portRangeMax": inputs["portRangeMax"] + 1}


def of_the_role(inputs: Props) -> Props:
    return {**inputs, "remoteGroupId": inputs["securityGroupId"]} if "remoteGroupId" in inputs else inputs


def the_network(inputs: Props) -> Props:
    if "remoteGroupId" not in inputs:
        return inputs
    prefix = {"IPv4": "10.77.0.0/16", "IPv6": "fd76:7265:77::/64"}[inputs["ethertype"]]
    return {**everybody(inputs), "remoteIpPrefix": prefix}


def set_to(**values: Any) -> mutate.Change:
    return lambda inputs: {**inputs, **values}


def borrowing(inputs: Props) -> Props:
    return {**inputs, "allowedAddressPairs": [{"ipAddress": "10.77.9.9"}]}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        pytest.param(openstack.RULE, mutate.setting(description=""), id="nothing", marks=NOT_NOTICED),
        pytest.param(openstack.RULE, other_way, id="swap source and destination"),
        pytest.param(openstack.RULE, inward(mutate.widened), id="widen what comes in"),
        pytest.param(openstack.RULE, outward(mutate.widened), id="widen what goes out"),
        pytest.param(openstack.RULE, inward(everybody), id="nobody named in"),
        pytest.param(openstack.RULE, outward(everybody), id="nobody named out"),
        pytest.param(openstack.RULE, inward(without_ipv6), id="drop IPv6 in"),
        pytest.param(openstack.RULE, outward(without_ipv6), id="drop IPv6 out"),
        pytest.param(openstack.RULE, moved, id="other ports"),
        pytest.param(openstack.RULE, set_to(portRangeMin=None, portRangeMax=None), id="all ports"),
        pytest.param(openstack.RULE, inward(set_to(protocol=None)), id="every protocol in"),
        pytest.param(openstack.RULE, outward(set_to(protocol=None)), id="every protocol out"),
        pytest.param(openstack.RULE, mutate.setting(protocol="udp"), id="another protocol"),
        pytest.param(openstack.RULE, of_the_role, id="only the role's own group"),
        pytest.param(openstack.RULE, the_network, id="the whole network for nodes"),
        pytest.param(openstack.RULE, set_to(securityGroupId="control-group-id"), id="all rules in one group"),
        pytest.param(openstack.RULE, set_to(securityGroupId="nodes-group-id"), id="all rules in every machine's group"),
        pytest.param(openstack.GROUP, mutate.setting(deleteDefaultRules=False), id="default rules left"),
        pytest.param(openstack.GROUP, set_to(stateful=False), id="no replies"),
        pytest.param(openstack.PORT, mutate.setting(portSecurityEnabled=False), id="no port security"),
        pytest.param(openstack.PORT, mutate.setting(securityGroupIds=[]), id="the default group"),
        pytest.param(openstack.PORT, mutate.setting(securityGroupIds=["nodes-group-id"]), id="only the group of all"),
        pytest.param(openstack.PORT, borrowing, id="an address more"),
    ],
)  # fmt: skip
def test_what_says_something_else_is_noticed(kind: str, change: mutate.Change) -> None:
    stack = case(WITH_WORKERS, sftp=("198.51.100.128/25",), vpn=("2001:db8:8000::/33",))
    told = mutate.mutated(said(stack), kind, change)
    found = [*told, Resource(type="seen", name="seen", id="seen", inputs={"seen": "10.77.9.9/32"})]
    assert differences(stack, openstack.told(told).evaluator(), found)


@pytest.mark.requirement("P-17")
def test_no_rule_has_twice_what_neutron_takes_once() -> None:
    stack = case({**WITH_WORKERS, "outbound": {**WITH_WORKERS["outbound"], "mirrors": ["198.51.100.0/25"]}})
    rules = [frozenset(set(each.inputs.items()) - {("description", each.inputs["description"])})
             for each in said(stack) if each.type == openstack.RULE]  # fmt: skip
    assert len(rules) == len(set(rules)) > 20
