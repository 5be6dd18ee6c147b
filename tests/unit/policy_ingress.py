"""What the policy pack refuses and what it lets pass, of what lets something in: inputs as they are on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Inputs = Mapping[str, Any]
OFFICE = "203.0.113.0/24"
ASG = [{"id": "asg"}]
OPEN4 = ("0.0.0.0/0", "128.0.0.0/1")
OPEN6 = ("::/0", "2000::/3")


@dataclass(frozen=True, kw_only=True)
class Case:
    """Inputs of one kind of resource that a rule refuses, each by itself, and such that it lets pass."""

    rule: str
    type: str
    bad: tuple[Inputs, ...]
    good: tuple[Inputs, ...]
    config: Inputs = field(default_factory=dict)


def _group(**rule: Any) -> Inputs:
    return {"ingress": [{"protocol": "tcp", "fromPort": 22, "toPort": 22, **rule}]}


GROUP_BAD = (*(_group(cidrBlocks=[OFFICE, each]) for each in OPEN4), *(_group(ipv6CidrBlocks=[each]) for each in OPEN6))
GROUP_GOOD: tuple[Inputs, ...] = (
    _group(cidrBlocks=[OFFICE], ipv6CidrBlocks=["2001:db8::/32"]),
    _group(self=True),
    {},
    {"egress": [{"protocol": "tcp", "fromPort": 443, "toPort": 443, "cidrBlocks": ["0.0.0.0/0"]}]},
)


def _aws_rule(**more: Any) -> Inputs:
    return {"type": "ingress", "protocol": "tcp", "fromPort": 22, "toPort": 22, "securityGroupId": "sg-1", **more}


AWS_INGRESS = (
    *(
        Case(rule="no-open-ingress", type=f"aws:ec2/{each}", bad=GROUP_BAD, good=GROUP_GOOD)
        for each in ("securityGroup:SecurityGroup", "defaultSecurityGroup:DefaultSecurityGroup")
    ),
    Case(
        rule="no-open-ingress",
        type="aws:ec2/securityGroupRule:SecurityGroupRule",
        bad=(_aws_rule(cidrBlocks=["0.0.0.0/0"]), _aws_rule(ipv6CidrBlocks=["::/0"])),
        good=(
            _aws_rule(cidrBlocks=[OFFICE]),
            _aws_rule(sourceSecurityGroupId="sg-2"),
            _aws_rule(type="egress", cidrBlocks=["0.0.0.0/0"]),
        ),
    ),
    Case(
        rule="no-open-ingress",
        type="aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        bad=({"cidrIpv4": "0.0.0.0/0"}, {"cidrIpv6": "::/0"}),
        good=({"cidrIpv4": OFFICE}, {"cidrIpv6": "2001:db8::/32"}, {"referencedSecurityGroupId": "sg-2"}),
    ),
    Case(
        rule="no-open-ingress",
        type="aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
        bad=(),
        good=({"cidrIpv4": "0.0.0.0/0"},),
    ),
    Case(
        rule="no-open-ingress",
        type="aws:ec2/managedPrefixList:ManagedPrefixList",
        bad=({"entries": [{"cidr": "0.0.0.0/0"}]},),
        good=({"entries": [{"cidr": OFFICE}]},),
    ),
    Case(
        rule="no-open-ingress",
        type="aws:ec2/managedPrefixListEntry:ManagedPrefixListEntry",
        bad=({"cidr": "0.0.0.0/0"},),
        good=({"cidr": OFFICE},),
    ),
)


def _gcp(**more: Any) -> Inputs:
    return {"allows": [{"protocol": "tcp", "ports": ["22"]}], **more}


def _match(**more: Any) -> Inputs:
    return {"direction": "INGRESS", "action": "allow", "match": {"layer4Configs": [{"ipProtocol": "tcp"}], **more}}


GCP_INGRESS = (
    Case(
        rule="no-open-ingress",
        type="gcp:compute/firewall:Firewall",
        bad=(
            _gcp(),  # Google: whoever names no source means everybody, and no direction means inwards
            _gcp(direction="INGRESS", sourceRanges=[OFFICE, "0.0.0.0/0"]),
            _gcp(direction="ingress", sourceRanges=["::/0"]),
            _gcp(sourceTags=["control"], sourceRanges=["0.0.0.0/0"]),
        ),
        good=(
            _gcp(sourceRanges=[OFFICE]),
            _gcp(sourceTags=["control"]),
            _gcp(direction="EGRESS", destinationRanges=["0.0.0.0/0"]),
            {"direction": "INGRESS", "denies": [{"protocol": "all"}], "sourceRanges": ["0.0.0.0/0"]},
        ),
    ),
    *(
        Case(
            rule="no-open-ingress",
            type=f"gcp:compute/{each}",
            bad=(_match(), _match(srcIpRanges=["0.0.0.0/0"])),
            good=(
                _match(srcIpRanges=[OFFICE]),
                {**_match(srcIpRanges=["0.0.0.0/0"]), "action": "deny"},
                {**_match(destIpRanges=["0.0.0.0/0"]), "direction": "EGRESS"},
            ),
        )
        for each in (
            "firewallPolicyRule:FirewallPolicyRule",
            "networkFirewallPolicyRule:NetworkFirewallPolicyRule",
            "regionNetworkFirewallPolicyRule:RegionNetworkFirewallPolicyRule",
        )
    ),
)


def _azure(**more: Any) -> Inputs:
    return {"name": "in", "direction": "Inbound", "access": "Allow", "protocol": "Tcp", "priority": 100, **more}


AZURE_BAD = (
    _azure(),
    *(_azure(sourceAddressPrefix=each) for each in ("*", "Internet", "Any", "0.0.0.0/0", "::/0", "AzureCloud")),
    _azure(sourceAddressPrefixes=[OFFICE, "0.0.0.0/0"]),
)
AZURE_GOOD = (
    _azure(sourceAddressPrefix=OFFICE),
    _azure(sourceAddressPrefix="VirtualNetwork"),
    _azure(sourceApplicationSecurityGroups=ASG),
    _azure(sourceAddressPrefix="*", access="Deny"),
    _azure(sourceAddressPrefix="*", direction="Outbound"),
)
AZURE_INGRESS = (
    Case(rule="no-open-ingress", type="azure-native:network:SecurityRule", bad=AZURE_BAD, good=AZURE_GOOD),
    Case(
        rule="no-open-ingress",
        type="azure-native:network:NetworkSecurityGroup",
        bad=tuple({"securityRules": [AZURE_GOOD[0], each]} for each in AZURE_BAD),
        good=({"securityRules": list(AZURE_GOOD)}, {}),
    ),
)


def _libvirt(**more: Any) -> Inputs:
    rule = {"direction": "in", "action": "accept", "family": "ipv4", "protocol": "tcp", "ports": "22", **more}
    return {"rules": [rule]}


OTHER_INGRESS = (
    Case(
        rule="no-open-ingress",
        type="openstack:networking/secGroupRule:SecGroupRule",
        bad=(
            {"direction": "ingress", "ethertype": "IPv4"},
            {"direction": "ingress", "remoteIpPrefix": "0.0.0.0/0"},
            {"direction": "ingress", "remoteIpPrefix": "::/0"},
        ),
        good=(
            {"direction": "ingress", "remoteIpPrefix": OFFICE},
            {"direction": "ingress", "remoteGroupId": "nodes"},
            {"direction": "egress", "ethertype": "IPv4"},
        ),
    ),
    Case(
        rule="no-open-ingress",
        type="openstack:networking/addressGroupV2:AddressGroupV2",
        bad=({"addresses": [OFFICE, "0.0.0.0/0"]},),
        good=({"addresses": [OFFICE]},),
    ),
    *(
        Case(
            rule="no-open-ingress",
            type=f"openstack:networking/{each}",
            bad=({"portSecurityEnabled": False},),
            good=({"portSecurityEnabled": True}, {}),
        )
        for each in ("port:Port", "network:Network")
    ),
    Case(
        rule="no-open-ingress",
        type="openstack:networking/port:Port",
        bad=({"noSecurityGroups": True},),
        good=({"noSecurityGroups": False},),
    ),
    Case(
        rule="no-open-ingress",
        type="vre:libvirt:Filter",
        bad=(_libvirt(), _libvirt(source="0.0.0.0/0"), _libvirt(family="ipv6", source="::/0")),
        good=(
            _libvirt(source=OFFICE),
            _libvirt(direction="out"),
            _libvirt(action="drop"),
            _libvirt(family="ipv6", protocol="icmpv6"),
            _libvirt(family="arp", protocol="all"),
        ),
    ),
    Case(
        rule="no-open-ingress",
        type="vre:libvirt:Domain",
        bad=({"interfaces": [{"network": "vre", "filter": "vre-a"}, {"network": "vre"}]},),
        good=({"interfaces": [{"network": "vre", "filter": "vre-a"}]},),
    ),
    Case(
        rule="no-open-ingress",
        type="aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        config={"allowedNetworks": ["198.51.0.0/16", "2001:db8:1::/48"]},
        bad=(
            {"cidrIpv4": OFFICE},
            {"cidrIpv4": "0.0.0.0/0"},
            {"cidrIpv6": "2001:db8::/32"},
            {"cidrIpv4": "198.0.0.0/8"},
        ),
        good=(
            {"cidrIpv4": "198.51.100.0/24"},
            {"cidrIpv6": "2001:db8:1:2::/64"},
            {"cidrIpv4": "10.77.0.10/32"},
            {"cidrIpv6": "fd76:7265:77::a/128"},
        ),
    ),
    Case(
        rule="no-open-ingress",
        type="aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        config={"allowedNetworks": ["the institute's"]},
        bad=({"cidrIpv4": OFFICE},),
        good=(),
    ),
)

INGRESS = (*AWS_INGRESS, *GCP_INGRESS, *AZURE_INGRESS, *OTHER_INGRESS)
