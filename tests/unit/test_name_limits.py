"""The longest name of a stack makes no name that its cloud refuses: so one limit serves for all of them."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import pytest

from tests.oracle.configs import KEY, case
from tests.oracle.declared import declared
from tests.oracle.told import Resource
from tests.unit import test_oracle_aws, test_oracle_azure, test_oracle_gcp, test_oracle_openstack
from vre.clouds import libvirt
from vre.config import Config
from vre.edge.names import certified

LONGEST = "a" * 20
MACHINES = {"workers": {"count": 1, "without": list(range(1, 101))}}
GOOGLE = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
AZURE = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,78}[A-Za-z0-9_])?"
LIMITS: Mapping[str, Mapping[str, str]] = {
    "aws": {
        "aws:ec2/securityGroup:SecurityGroup name": r"(?!sg-)[A-Za-z0-9 ._:/()#,@\[\]+=&;{}!$*-]{1,255}",
        "aws:ec2/keyPair:KeyPair keyName": r"[ -~]{1,255}",
        "aws:kms/alias:Alias name": r"alias/(?!aws/)[A-Za-z0-9/_-]{1,250}",
        "tags Name": r".{1,256}",
    },
    "azure": {
        "azure-native:resources:ResourceGroup resourceGroupName": r"[\w().-]{0,89}[\w()-]",
        "azure-native:compute:VirtualMachine vmName": r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_])?",
        "azure-native:compute:VirtualMachine computerName": r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?",
        "virtualNetworkName": AZURE, "natGatewayName": AZURE, "publicIpAddressName": AZURE,
        "diskEncryptionSetName": AZURE, "applicationSecurityGroupName": AZURE, "networkSecurityGroupName": AZURE,
        "diskName": AZURE, "networkInterfaceName": AZURE, "azure-native:compute:VirtualMachine name": AZURE,
    },
    "gcp": {
        **dict.fromkeys(
            (f"gcp:compute/{each}:{each[0].upper()}{each[1:]} name" for each in
             ("network", "subnetwork", "router", "routerNat", "firewall", "disk", "address", "instance")), GOOGLE
        ),
        "sourceTags": GOOGLE, "targetTags": GOOGLE, "gcp:compute/instance:Instance tags": GOOGLE,
        "vre": r"[a-z0-9_-]{0,63}",
    },
    "openstack": {"name": r".{1,255}", "tags": r"[^,/]{1,60}"},
}  # fmt: skip
"""Patterns of names, by the property, with the resource's type before it where it counts.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference, https://learn.microsoft.com/azure/azure-resource-manager/
management/resource-name-rules, https://cloud.google.com/compute/docs/naming-resources, and the schemas of OpenStack.
"""
TOLD: Mapping[str, tuple[Mapping[str, Any], Any, Any]] = {
    "aws": (test_oracle_aws.CLOUD, test_oracle_aws.answer, test_oracle_aws.CALLS),
    "azure": (
        test_oracle_azure.CLOUD, test_oracle_azure.answer,
        {"azure-native:authorization:getClientConfig": lambda _: {"tenantId": "tenant"}},
    ),
    "gcp": (test_oracle_gcp.CLOUD, test_oracle_gcp.answer, test_oracle_gcp.CALLS),
    "openstack": (test_oracle_openstack.WITH_WORKERS["cloud"], None, test_oracle_openstack.CALLS),
}  # fmt: skip


@cache
def told(cloud: str) -> tuple[Resource, ...]:
    part, answer, calls = TOLD[cloud]
    stack = case(
        {
            "name": LONGEST,
            "cloud": part,
            "access": {"keys": [KEY], "operators": ["203.0.113.0/24", "2001:db8::/32"]},
            "edge": {"provider": "direct", "domain": "example.org"},
            "outbound": {"resolvers": ["192.0.2.53/32"]},
            "machines": MACHINES,
        }
    )
    more: dict[str, Callable[..., Any]] = {"answer": answer} if answer else {}
    return tuple(declared(stack, calls=calls, **more))


def named(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Yield every name inside of what a resource was told, with the property that it stands in."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from named(each, f"tags {key}" if at == "tags" else key)
    elif isinstance(value, list):
        for each in value:
            yield from named(each, at)
    elif isinstance(value, str) and LONGEST in value:
        yield at, value


def judged(cloud: str) -> Iterator[tuple[str, str]]:
    """Yield each name that has a limit, with the limit's key."""
    for each in told(cloud):
        for at, name in named(each.inputs):
            yield from ((key, name) for key in (f"{each.type} {at}", at) if key in LIMITS[cloud])


@pytest.mark.requirement("P-18")
@pytest.mark.parametrize("cloud", LIMITS)
def test_no_name_is_one_that_the_cloud_refuses(cloud: str) -> None:
    found = list(judged(cloud))
    assert [(key, name) for key, name in found if not re.fullmatch(LIMITS[cloud][key], name)] == []
    assert {key for key, _ in found} == set(LIMITS[cloud])


def test_a_machines_name_is_a_label_and_a_service_has_one_below_the_zone() -> None:
    stack = Config.model_validate(
        {
            "name": LONGEST,
            "cloud": {"provider": "libvirt"},
            "access": {"keys": [KEY]},
            "edge": {"provider": "direct", "domain": "example.org"},
            "services": {"jupyter": {"admin": "researcher"}},
        }
    )
    assert all(len(label) <= 63 for name in certified(stack) for label in name.split("."))


def test_two_long_names_on_one_hypervisor_have_bridges_of_their_own_that_the_kernel_takes() -> None:
    bridges = {libvirt.bridge(LONGEST[:-1] + last) for last in "abc"}
    assert len(bridges) == 3
    assert all(len(each) <= 15 for each in bridges)


def test_azures_vault_is_named_by_as_much_of_the_name_as_leaves_room_for_what_the_provider_adds() -> None:
    [vault] = [each for each in told("azure") if each.type == "azure-native:keyvault:Vault"]
    assert re.fullmatch(r"[a-z][a-z0-9-]{1,15}", vault.name)
