"""Only machines that have to be seen from outside have a public address."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from vre_rules.resource import UNKNOWN, Part, Report, Resource, Rule

ROLE = "vre-role"
"""The tag with which a stack says what a machine is for."""
PUBLIC = ("control",)
SETTINGS = {
    "publicRoles": {
        "type": "array",
        "items": {"type": "string"},
        "description": f"The roles (tag {ROLE}) whose machines may have a public address",
        "default": list(PUBLIC),
    }
}

Found = Callable[[Resource], Iterator[Part]]


def check(resource: Resource, report: Report) -> None:
    """Refuse a public address on what is not tagged as a machine that may have one."""
    find = FOUND.get(resource.kind)
    parts = list(find(resource)) if find else []
    if parts and not may_be_public(resource):
        for part in parts:
            report(f"{part.path}: a public address; only machines whose tag {ROLE} is in publicRoles have one")


def may_be_public(resource: Resource) -> bool:
    """Say whether a resource's tags, labels or metadata say a role that may be seen from outside."""
    return any(role is UNKNOWN or role in _roles(resource) for role in _said(resource))


def _roles(resource: Resource) -> list[str]:
    return list(resource.config.get("publicRoles", PUBLIC))


def _said(resource: Resource) -> Iterator[object]:
    """Yield the role; Neutron's tags are words, the others' are names with a value."""
    for key in ("tags", "labels", "metadata"):
        held = resource[key]
        if held.value is UNKNOWN:
            yield UNKNOWN
        elif isinstance(held.value, Mapping):
            yield from ([held[ROLE].value] if held[ROLE].given else [])
        elif isinstance(held.value, list):
            words = [str(each.value).partition("=") for each in held.each()]
            yield from (value for name, _, value in words if name == ROLE)


def _aws_machine(resource: Resource) -> Iterator[Part]:
    yield from _on(resource["associatePublicIpAddress"])


def _aws_template(resource: Resource) -> Iterator[Part]:
    for interface in resource["networkInterfaces"].each():
        yield from _on(interface["associatePublicIpAddress"])


def _aws_subnet(resource: Resource) -> Iterator[Part]:
    yield from _on(resource["mapPublicIpOnLaunch"])


def _on(switch: Part) -> Iterator[Part]:
    if switch.value in (True, "true"):
        yield switch


def _aws_address(resource: Resource) -> Iterator[Part]:
    yield from (resource[key] for key in ("instance", "networkInterface") if resource[key].given)


def _gcp_machine(resource: Resource) -> Iterator[Part]:
    for interface in resource["networkInterfaces"].each():
        yield from (interface[key] for key in ("accessConfigs", "ipv6AccessConfigs") if interface[key].given)


def _azure_interface(resource: Resource) -> Iterator[Part]:
    yield from _azure_addresses(resource["ipConfigurations"], "publicIPAddress")


def _azure_machine(resource: Resource) -> Iterator[Part]:
    for interface in resource["networkProfile"]["networkInterfaceConfigurations"].each():
        yield from _azure_addresses(interface["ipConfigurations"], "publicIPAddressConfiguration")


def _azure_set(resource: Resource) -> Iterator[Part]:
    network = resource["virtualMachineProfile"]["networkProfile"]
    for interface in network["networkInterfaceConfigurations"].each():
        yield from _azure_addresses(interface["ipConfigurations"], "publicIPAddressConfiguration")


def _azure_addresses(configurations: Part, key: str) -> Iterator[Part]:
    yield from (each[key] for each in configurations.each() if each[key].given)


def _openstack_address(resource: Resource) -> Iterator[Part]:
    if resource["portId"].given:
        yield resource["portId"]


FOUND: Mapping[str, Found] = {
    "aws:ec2/instance:Instance": _aws_machine,
    "aws:ec2/spotInstanceRequest:SpotInstanceRequest": _aws_machine,
    "aws:ec2/launchTemplate:LaunchTemplate": _aws_template,
    "aws:ec2/subnet:Subnet": _aws_subnet,
    "aws:ec2/eip:Eip": _aws_address,
    "gcp:compute/instance:Instance": _gcp_machine,
    "gcp:compute/instanceTemplate:InstanceTemplate": _gcp_machine,
    "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate": _gcp_machine,
    "azure-native:network:NetworkInterface": _azure_interface,
    "azure-native:compute:VirtualMachine": _azure_machine,
    "azure-native:compute:VirtualMachineScaleSet": _azure_set,
    "openstack:networking/floatingIp:FloatingIp": _openstack_address,
}
LINKS: Mapping[str, tuple[str, ...]] = {
    "aws:ec2/eipAssociation:EipAssociation": ("networkInterfaceId", "instanceId"),
    "openstack:networking/floatingIpAssociate:FloatingIpAssociate": ("portId",),
}
"""What only joins an address to a machine: by which inputs the machine is named."""


class Link(Protocol):
    """A resource among all of a stack, with the resources that its inputs came from."""

    @property
    def resource_type(self) -> str:
        """The type."""

    @property
    def property_dependencies(self) -> Mapping[str, Sequence["Link"]]:
        """What each input came from."""


def astray(link: Link, seen: Callable[[Link], Resource]) -> bool:
    """Say whether a link gives an address to what may have none, or to what the stack does not know."""
    if link.resource_type not in LINKS:
        return False
    machines = [seen(each) for key in LINKS[link.resource_type] for each in link.property_dependencies.get(key, ())]
    return not machines or not all(may_be_public(each) for each in machines)


RULES = (
    Rule(
        name="no-public-workers",
        description="Only the control plane's machine has a public address",
        check=check,
        settings=SETTINGS,
    ),
)
LINK = Rule(
    name="no-public-links",
    description="No public address is joined to any machine but the control plane's",
    check=lambda resource, report: None,
    settings=SETTINGS,
)
