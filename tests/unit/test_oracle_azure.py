"""Azure's security group says exactly what the policy says, and what it cannot say is known."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.oracle import mutate
from tests.oracle.azure import FIREWALL, INTERFACE, PLATFORM, SUBNET, Told, evaluator, faults
from tests.oracle.compare import assert_agree, differences
from tests.oracle.configs import Case, case, cases
from tests.oracle.declared import declared
from tests.oracle.told import Props, Resource
from vre.clouds.azure import security_rules

CLOUD = {
    "provider": "azure",
    "subscription": "00000000-0000-0000-0000-000000000000",
    "region": "westeurope",
}
EVERYTHING = {
    "cloud": CLOUD,
    "machines": {"workers": {"count": 2}},
    "access": {"keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL a"],
               "operators": ["203.0.113.0/24", "2001:db8::/32"]},
    "edge": {"provider": "direct", "domain": "example.org", "networks": ["198.51.100.0/25", "2001:db8:1::/48"]},
    "outbound": {"mirrors": ["192.0.2.0/24"], "networks": ["8.0.0.0/7"]},
}  # fmt: skip


def answer(token: str, name: str, inputs: Props) -> tuple[str, Props]:
    """Compute what the cloud would."""
    computed: dict[str, Props] = {
        "azure-native:compute:DiskEncryptionSet": {"identity": {"type": "SystemAssigned", "principalId": "principal"}},
        "azure-native:keyvault:Key": {"keyUriWithVersion": "https://vault/keys/disks/1"},
        "azure-native:network:PublicIPAddress": {"ipAddress": "198.51.100.200"},
        "azure-native:compute:VirtualMachine": {"vmId": f"{name}-uuid"},
    }
    return f"/{token}/{name}", {"name": name, **computed.get(token, {})}


def told(stack: Case) -> list[Resource]:
    return declared(stack, answer, {"azure-native:authorization:getClientConfig": lambda _: {"tenantId": "tenant"}})


@cache
def everything() -> tuple[Case, list[Resource]]:
    stack = case(EVERYTHING, sftp=("192.0.2.53/32",), vpn=("203.0.113.64/26", "2001:db8:8000::/33"))
    return stack, told(stack)


def rules(resources: list[Resource]) -> list[Props]:
    [firewall] = [each for each in resources if each.type == FIREWALL]
    made: list[Props] = firewall.inputs["securityRules"]
    return made


@pytest.mark.requirement("P-18", "P-16", "P-17", "C-16")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stack=cases(CLOUD))
def test_the_group_says_what_the_policy_says(stack: Case) -> None:
    resources = told(stack)
    assert_agree(stack, evaluator(resources), resources)
    assert list(faults(rules(resources))) == []
    own = {"AzurePlatformIMDS"} | ({"AzurePlatformDNS"} if not stack.config.outbound.resolvers else set())
    assert Told(resources).platform() == own


def test_a_stack_with_everything_agrees() -> None:
    stack, resources = everything()
    assert_agree(stack, evaluator(resources), resources)
    assert len(rules(resources)) > 30


def test_a_hundred_workers_need_no_more_rules_than_two() -> None:
    many, few = (
        security_rules(stack.policy, {role: f"/{role}" for role in sorted(stack.plan.roles)})
        for stack in (case({**EVERYTHING, "machines": {"workers": {"count": count}}}) for count in (100, 2))
    )
    assert [each["name"] for each in many] == [each["name"] for each in few]
    assert list(faults([{camel(key): value for key, value in each.items()} for each in many])) == []


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each.capitalize() for each in others)


def test_sources_stand_where_sources_stand_and_priorities_are_counted() -> None:
    """No network of the stack file is ever a destination of what comes in; equal ports have different priorities."""
    _, resources = everything()
    for rule in rules(resources)[:-1]:
        if rule["direction"] == "Inbound" and rule["access"] == "Allow":
            assert [each["id"] for each in rule["destinationApplicationSecurityGroups"]]
            assert "destinationAddressPrefix" not in rule
    for direction in ("Inbound", "Outbound"):
        ours = [rule["priority"] for rule in rules(resources) if rule["direction"] == direction]
        assert ours == [*range(100, 100 + len(ours) - 1), 4096]


def test_named_name_servers_close_azures_own() -> None:
    named = told(case({**EVERYTHING, "outbound": {"resolvers": ["192.0.2.53/32"]}}))
    assert Told(named).platform() == {"AzurePlatformIMDS"}
    [network] = [each for each in named if each.type == "azure-native:network:VirtualNetwork"]
    assert network.inputs["dhcpOptions"] == {"dnsServers": ["192.0.2.53"]}


def each_rule(change: Callable[[Props], Props | None], **only: Any) -> mutate.Change:
    """Change the rules that have these values; None leaves one out."""

    def changed(inputs: Props) -> Props:
        made = []
        for rule in inputs["securityRules"]:
            fits = all(rule.get(key) == value for key, value in only.items())
            new = change(rule) if fits else rule
            made += [new] if new is not None else []
        return {**inputs, "securityRules": made}

    return changed


def exchanged(rule: Props) -> Props:
    for kind in ("AddressPrefix", "AddressPrefixes", "ApplicationSecurityGroups"):
        rule = mutate.swapped(f"source{kind}", f"destination{kind}")(rule) or {}
    return rule


def outside_the_groups(inputs: Props) -> Props:
    """Leave the second address, the one of IPv6, out of its groups."""
    first, *others = inputs["ipConfigurations"]
    kept = [{key: value for key, value in each.items() if key != "applicationSecurityGroups"} for each in others]
    return {**inputs, "ipConfigurations": [first, *kept]}


def without(key: str) -> mutate.Change:
    return lambda inputs: {name: value for name, value in inputs.items() if name != key}


MUTATIONS: dict[str, tuple[str, mutate.Change]] = {
    "source and destination exchanged": (FIREWALL, each_rule(exchanged, access="Allow", direction="Inbound")),
    "source and destination exchanged outbound": (FIREWALL, each_rule(exchanged, access="Allow", direction="Outbound")),
    "networks widened": (FIREWALL, mutate.widened),
    "IPv6 dropped": (FIREWALL, mutate.without_ipv6),
    "IPv6 outside the groups": (INTERFACE, outside_the_groups),
    "deny inbound first": (
        FIREWALL, each_rule(lambda rule: {**rule, "priority": 99}, access="Deny", direction="Inbound"),
    ),
    "deny outbound gone": (FIREWALL, each_rule(lambda _: None, priority=4096, direction="Outbound")),
    "deny inbound gone": (FIREWALL, each_rule(lambda _: None, priority=4096, direction="Inbound")),
    "every protocol": (FIREWALL, each_rule(lambda rule: {**rule, "protocol": "*"}, access="Allow")),
    "another direction": (FIREWALL, each_rule(lambda rule: {**rule, "direction": "Outbound"}, direction="Inbound")),
    "a port more": (
        FIREWALL, each_rule(lambda rule: {**rule, "destinationPortRange": "22-23"}, destinationPortRange="22"),
    ),
    "another role": (
        FIREWALL,
        each_rule(lambda rule: {**rule, "destinationApplicationSecurityGroups": [
            {"id": "/azure-native:network:ApplicationSecurityGroup/worker-group"}
        ]}, destinationPortRange="443", direction="Inbound"),
    ),
    "subnet without its guard": (SUBNET, without("networkSecurityGroup")),
}  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_oracle_notices(mutation: str) -> None:
    stack, resources = everything()
    kind, change = MUTATIONS[mutation]
    changed = mutate.mutated(resources, kind, change)
    assert differences(stack, evaluator(changed), changed)


def test_a_guard_at_the_interface_has_to_let_through_too() -> None:
    stack, resources = everything()
    closed = Resource(type=FIREWALL, name="closed", id="closed", inputs={"securityRules": []})
    both = mutate.mutated(resources, INTERFACE, lambda inputs: {**inputs, "networkSecurityGroup": {"id": "closed"}})
    found = differences(stack, evaluator([*both, closed]), resources)
    assert found
    assert all(each.cloud & ~each.policy == 0 for each in found)


@pytest.mark.parametrize("tag", PLATFORM)
def test_a_service_of_azures_own_is_closed_by_its_tag_alone(tag: str) -> None:
    _, resources = everything()

    def opened(inputs: Props) -> Props:
        kept = [rule for rule in inputs["securityRules"] if rule.get("destinationAddressPrefix") not in PLATFORM]
        return {**inputs, "securityRules": kept}

    def closed(inputs: Props) -> Props:
        rule = {**inputs["securityRules"][-1], "priority": 4000, "name": "tag", "destinationAddressPrefix": tag}
        return {**opened(inputs), "securityRules": [rule, *opened(inputs)["securityRules"]]}

    assert Told(mutate.mutated(resources, FIREWALL, opened)).platform() == PLATFORM.keys()
    assert Told(mutate.mutated(resources, FIREWALL, closed)).platform() == PLATFORM.keys() - {tag}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"priority": 99}, "SecurityRuleInvalidPriority"),
        ({"priority": 101}, "SecurityRuleConflict"),
        ({"sourceAddressPrefix": "", "sourceAddressPrefixes": ["192.0.2.0/24", "2001:db8::/32"]}, "DifferentAddress"),
        ({"sourceAddressPrefix": "", "sourceAddressPrefixes": ["192.0.2.0/24", "192.0.2.0/25"]}, "Overlapping"),
        ({"destinationAddressPrefix": "*"}, "SecurityRuleParameterConflict"),
    ],
)
def test_what_azure_refuses_is_refused_here(change: Props, fault: str) -> None:
    _, resources = everything()
    first, *others = rules(resources)
    assert [each for each in faults([{**first, **change}, *others]) if fault in each]
