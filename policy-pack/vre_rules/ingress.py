"""Nobody comes in from everywhere. For each kind of resource: from where it lets something in."""

from collections.abc import Callable, Iterator, Mapping

from vre_rules.resource import Part as Source
from vre_rules.resource import Report, Resource, Rule
from vre_rules.sources import ANYBODY, fault, named

AZURE_ANYBODY = ("*", "any", "internet")
AZURE_OWN = ("virtualnetwork", "azureloadbalancer")
"""Azure's words for what is no stranger; its other words stand for services that anybody can rent."""
GCP_SOURCES = ("sourceRanges", "sourceTags", "sourceServiceAccounts")
GCP_MATCHES = ("srcIpRanges", "srcAddressGroups", "srcSecureTags", "srcNetworks")
OPENSTACK_SOURCES = ("remoteIpPrefix", "remoteGroupId", "remoteAddressGroupId")

Sources = Callable[[Resource], Iterator[Source]]


def check(resource: Resource, report: Report) -> None:
    """Refuse what lets in everybody, or a network that the institution did not name."""
    allowed = named(resource.config.get("allowedNetworks", ()))
    sources = OPENINGS.get(resource.kind)
    for source in sources(resource) if sources else ():
        wrong = fault(source, allowed)
        if wrong:
            report(f"{source.path}: {wrong}; name the networks that have to get in")


def _security_group(resource: Resource) -> Iterator[Source]:
    for rule in resource["ingress"].each():
        yield from rule["cidrBlocks"].each()
        yield from rule["ipv6CidrBlocks"].each()


def _security_group_rule(resource: Resource) -> Iterator[Source]:
    if resource["type"].may_be("ingress"):
        yield from resource["cidrBlocks"].each()
        yield from resource["ipv6CidrBlocks"].each()


def _ingress_rule(resource: Resource) -> Iterator[Source]:
    yield from (resource[key] for key in ("cidrIpv4", "cidrIpv6") if resource[key].given)


def _prefix_list(resource: Resource) -> Iterator[Source]:
    # Whether a rule lets these in or out is not known here, but no rule out needs a list that says everywhere.
    yield from (entry["cidr"] for entry in resource["entries"].each())


def _prefix_list_entry(resource: Resource) -> Iterator[Source]:
    yield resource["cidr"]


def _gcp_firewall(resource: Resource) -> Iterator[Source]:
    inbound = resource["direction"].may_be(None, "", "INGRESS")
    if inbound and resource["allows"].given:
        yield from _or_anybody(resource["sourceRanges"], *(resource[key] for key in GCP_SOURCES))


def _gcp_policy_rule(resource: Resource) -> Iterator[Source]:
    match = resource["match"]
    if resource["direction"].may_be("INGRESS") and resource["action"].may_be("allow", "apply_security_profile_group"):
        yield from _or_anybody(match["srcIpRanges"], *(match[key] for key in GCP_MATCHES))


def _or_anybody(ranges: Source, *ways_to_say: Source) -> Iterator[Source]:
    """Yield the ranges of a rule; whoever says in no way who may come in lets in everybody."""
    if not any(way.given for way in ways_to_say):
        yield ranges.instead(ANYBODY)
    yield from ranges.each()


def _azure_group(resource: Resource) -> Iterator[Source]:
    for rule in resource["securityRules"].each():
        yield from _azure(rule)


def _azure_rule(resource: Resource) -> Iterator[Source]:
    yield from _azure(resource.inputs)


def _azure(rule: Source) -> Iterator[Source]:
    if not (rule["direction"].may_be("Inbound") and rule["access"].may_be("Allow")):
        return
    one, many = rule["sourceAddressPrefix"], rule["sourceAddressPrefixes"]
    if not (one.given or many.given or rule["sourceApplicationSecurityGroups"].given):
        yield one.instead(ANYBODY)
    for source in [*([one] if one.given else []), *many.each()]:
        word = str(source.value).casefold()
        if word not in AZURE_OWN:
            yield source.instead(ANYBODY) if word in AZURE_ANYBODY else source


def _openstack_rule(resource: Resource) -> Iterator[Source]:
    prefix = resource["remoteIpPrefix"]
    if not resource["direction"].may_be("ingress"):
        return
    if not any(resource[key].given for key in OPENSTACK_SOURCES):
        yield prefix.instead(ANYBODY)
    elif prefix.given:
        yield prefix


def _openstack_addresses(resource: Resource) -> Iterator[Source]:
    yield from resource["addresses"].each()


def _openstack_port(resource: Resource) -> Iterator[Source]:
    """Before a port without security stands no firewall at all."""
    for key, unguarded in (("portSecurityEnabled", False), ("noSecurityGroups", True)):
        if resource[key].value is unguarded:
            yield resource[key].instead(ANYBODY)


def _libvirt_filter(resource: Resource) -> Iterator[Source]:
    for rule in resource["rules"].each():
        inbound = rule["direction"].may_be("in") and rule["action"].may_be("accept")
        # Without address resolution and path MTU discovery nothing works (RFC 4890), and no program answers there.
        network = rule["family"].value == "arp" or rule["protocol"].value in ("icmp", "icmpv6")
        if inbound and not network:
            yield rule["source"] if rule["source"].given else rule["source"].instead(ANYBODY)


def _libvirt_domain(resource: Resource) -> Iterator[Source]:
    for interface in resource["interfaces"].each():
        if not interface["filter"].given:
            yield interface["filter"].instead(ANYBODY)


OPENINGS: Mapping[str, Sources] = {
    "aws:ec2/securityGroup:SecurityGroup": _security_group,
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": _security_group,
    "aws:ec2/securityGroupRule:SecurityGroupRule": _security_group_rule,
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _ingress_rule,
    "aws:ec2/managedPrefixList:ManagedPrefixList": _prefix_list,
    "aws:ec2/managedPrefixListEntry:ManagedPrefixListEntry": _prefix_list_entry,
    "gcp:compute/firewall:Firewall": _gcp_firewall,
    "gcp:compute/firewallPolicyRule:FirewallPolicyRule": _gcp_policy_rule,
    "gcp:compute/networkFirewallPolicyRule:NetworkFirewallPolicyRule": _gcp_policy_rule,
    "gcp:compute/regionNetworkFirewallPolicyRule:RegionNetworkFirewallPolicyRule": _gcp_policy_rule,
    "azure-native:network:NetworkSecurityGroup": _azure_group,
    "azure-native:network:SecurityRule": _azure_rule,
    "openstack:networking/secGroupRule:SecGroupRule": _openstack_rule,
    "openstack:networking/addressGroupV2:AddressGroupV2": _openstack_addresses,
    "openstack:networking/port:Port": _openstack_port,
    "openstack:networking/network:Network": _openstack_port,
    "vre:libvirt:Filter": _libvirt_filter,
    "vre:libvirt:Domain": _libvirt_domain,
}

RULES = (
    Rule(
        name="no-open-ingress",
        description="No firewall lets in everybody, or a network that the institution did not name",
        check=check,
        settings={
            "allowedNetworks": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Networks (CIDR) that may come in, beside private ones; empty: any but everybody",
                "default": [],
            }
        },
    ),
)
