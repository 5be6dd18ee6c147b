"""What AWS would do with what it was told, by its published rules.

A group lets through the union of what its rules allow, and what answers that; a machine, what any of its groups does:
https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html. Outside of the network, it is reached where
its subnet's routes lead to an internet gateway and it has a public address:
https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Internet_Gateway.html. The resolver, the clock and the metadata
service are not filtered at all, whatever the rules say; the machine's own firewall does that.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any

from tests.oracle import ports
from tests.oracle.compare import IN, OTHER, Evaluator, Flow
from tests.oracle.configs import Case
from tests.oracle.told import Props, Resource
from vre.inventory import Plan
from vre.policy import Address, Network, Peer

VPC = "aws:ec2/vpc:Vpc"
SUBNET = "aws:ec2/subnet:Subnet"
CARD = "aws:ec2/networkInterface:NetworkInterface"
GROUP = "aws:ec2/securityGroup:SecurityGroup"
DEFAULT_GROUP = "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"
INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
EGRESS = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
ROUTE = "aws:ec2/route:Route"
TABLE = "aws:ec2/routeTable:RouteTable"
SUBNET_ROUTES = "aws:ec2/routeTableAssociation:RouteTableAssociation"
INTERNET = "aws:ec2/internetGateway:InternetGateway"
EGRESS_ONLY = "aws:ec2/egressOnlyInternetGateway:EgressOnlyInternetGateway"
NAT = "aws:ec2/natGateway:NatGateway"
PUBLIC = "aws:ec2/eip:Eip"
LED = "aws:ec2/eipAssociation:EipAssociation"
INSTANCE = "aws:ec2/instance:Instance"
UNDERSTOOD = {
    VPC, SUBNET, CARD, GROUP, DEFAULT_GROUP, INGRESS, EGRESS, ROUTE, TABLE, SUBNET_ROUTES, INTERNET, EGRESS_ONLY, NAT,
    PUBLIC, LED, INSTANCE,
}  # fmt: skip
BESIDE = {"aws:ebs/volume:Volume", "aws:ec2/volumeAttachment:VolumeAttachment", "aws:ec2/keyPair:KeyPair"}
"""What has no part in who reaches whom."""
LINK_LOCAL = (ip_network("169.254.0.0/16"), ip_network("fe80::/10"))
GATEWAYS = {"gatewayId": "internet", "egressOnlyGatewayId": "outward", "natGatewayId": "outward"}
"""The kinds of ways out: both ways, or outward only."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule of a group: whom it lets through is a range, or the members of a group. Protocol `-1` is every one."""

    group: str
    inbound: bool
    protocol: str
    first: int
    last: int
    network: Network | None = None
    members_of: str = ""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A machine's place in the network. `public`: an address outside leads to it."""

    addresses: frozenset[Address]
    groups: tuple[str, ...]
    subnet: str
    public: bool


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that decides who reaches whom. `ways`: of each subnet and family, what kind of way leads outside."""

    networks: tuple[Network, ...]
    rules: tuple[Rule, ...]
    cards: tuple[Card, ...]
    ways: Mapping[tuple[str, int], str]

    def placed(self, case: Case) -> Case:
        """Return a case whose machines have the IPv6 addresses that AWS gave them, which no plan can know.

        They are nodes' addresses like those of the plan; the operators' way through the control plane's machine is
        IPv4's alone.
        """
        machines = tuple(replace(each, ipv6=self._six(each.ipv4)) for each in case.plan.machines)
        nodes = (*case.policy.of(Peer.NODES), *(ip_network(each.ipv6) for each in machines if each.ipv6))
        policy = replace(case.policy, networks={**case.policy.networks, Peer.NODES: nodes})
        return replace(case, plan=Plan(machines=machines), policy=policy)

    def _six(self, ipv4: str) -> str:
        """Return the IPv6 address of whatever has this IPv4 address."""
        found = (each for card in self.cards if ip_address(ipv4) in card.addresses for each in card.addresses)
        return next((str(each) for each in found if each.version == 6), "")

    def evaluator(self) -> Evaluator:
        """Return what answers which ports a flow may have."""
        places = {address: card for card in self.cards for address in card.addresses}

        def lets(flow: Flow) -> int:
            own = flow.machine.ipv4 if flow.peer.address.version == 4 else flow.machine.ipv6
            card = places.get(ip_address(own)) if own else None
            if card is None or not self._leads(card, flow):
                return ports.NONE
            found = ports.NONE
            for rule in self.rules:
                if rule.group in card.groups and rule.inbound == (flow.direction == IN) and self._meant(rule, flow):
                    found |= _ports(rule, flow.protocol)
            return found

        return lets

    def _leads(self, card: Card, flow: Flow) -> bool:
        """Say whether there is a way at all between a machine and a peer."""
        peer = flow.peer.address
        if any(peer.version == each.version and peer in each for each in (*self.networks, *LINK_LOCAL)):
            return True
        way = self.ways.get((card.subnet, peer.version), "")
        open_both_ways = way == "internet" and (card.public or peer.version == 6)
        return open_both_ways or (way == "outward" and flow.direction != IN)

    def _meant(self, rule: Rule, flow: Flow) -> bool:
        peer = flow.peer.address
        if rule.members_of:
            return any(peer in card.addresses for card in self.cards if rule.members_of in card.groups)
        return rule.network is not None and peer.version == rule.network.version and peer in rule.network


def _ports(rule: Rule, protocol: str) -> int:
    if protocol == OTHER:
        return ports.one(0) if rule.protocol not in ("tcp", "udp", "icmp", "icmpv6") else ports.NONE
    if rule.protocol == "-1":
        return ports.SOME
    return ports.span(rule.first, rule.last) if rule.protocol == protocol else ports.NONE


def told(resources: Iterable[Resource]) -> World:
    """Return the world as it would be after AWS was told of these resources."""
    every = list(resources)
    strange = {each.type for each in every if each.type.startswith(("aws:ec2/", "aws:vpc/", "aws:ebs/"))}
    assert strange <= UNDERSTOOD | BESIDE, strange - UNDERSTOOD - BESIDE
    led = {each.inputs["networkInterfaceId"] for each in _of(every, LED)}
    return World(
        networks=tuple(_networks(every)),
        rules=tuple(_rules(every)),
        cards=tuple(_card(each, led) for each in _of(every, CARD)),
        ways=_ways(every),
    )


def _of(every: Iterable[Resource], *kinds: str) -> list[Resource]:
    return [each for each in every if each.type in kinds]


def _networks(every: list[Resource]) -> Iterator[Network]:
    for vpc in _of(every, VPC):
        yield ip_network(vpc.inputs["cidrBlock"])
        if vpc.outputs.get("ipv6CidrBlock"):
            yield ip_network(vpc.outputs["ipv6CidrBlock"])


def _card(card: Resource, led: set[str]) -> Card:
    return Card(
        addresses=frozenset(map(ip_address, [*card.inputs["privateIps"], *_six(card)])),
        # Without a group of its own it is in the default one.
        groups=tuple(card.inputs.get("securityGroups") or ["default"]),
        subnet=card.inputs["subnetId"],
        public=card.id in led,
    )


def _six(card: Resource) -> list[str]:
    """Return the IPv6 addresses that AWS gave a card: as many as were asked for."""
    return list(card.outputs.get("ipv6Addresses", ()))[: card.inputs.get("ipv6AddressCount", 0)]


def _rules(every: list[Resource]) -> Iterator[Rule]:
    for each in _of(every, INGRESS, EGRESS):
        yield _rule(each.inputs["securityGroupId"], each.inputs, inbound=each.type == INGRESS)
    for each in _of(every, GROUP, DEFAULT_GROUP):
        assert not each.inputs.get("ingress"), "rules stand in resources of their own"
        assert not each.inputs.get("egress"), "rules stand in resources of their own"
    if not _of(every, DEFAULT_GROUP):
        yield from untouched("default")


def untouched(group: str) -> Iterator[Rule]:
    """Return the rules of a default security group that nobody has emptied."""
    yield Rule(group=group, inbound=True, protocol="-1", first=0, last=0, members_of=group)
    for text in ("0.0.0.0/0", "::/0"):
        yield Rule(group=group, inbound=False, protocol="-1", first=0, last=0, network=ip_network(text))


def _rule(group: str, inputs: Props, *, inbound: bool) -> Rule:
    network = inputs.get("cidrIpv4") or inputs.get("cidrIpv6")
    assert not inputs.get("prefixListId")
    return Rule(
        group=group,
        inbound=inbound,
        protocol=inputs["ipProtocol"],
        first=inputs.get("fromPort", 0),
        last=inputs.get("toPort", 65535),
        network=ip_network(network) if network else None,
        members_of=inputs.get("referencedSecurityGroupId", ""),
    )


def _ways(every: list[Resource]) -> dict[tuple[str, int], str]:
    subnets: dict[str, list[str]] = {}
    for each in _of(every, SUBNET_ROUTES):
        subnets.setdefault(each.inputs["routeTableId"], []).append(each.inputs["subnetId"])
    found = {}
    for route in _of(every, ROUTE):
        everywhere = route.inputs.get("destinationCidrBlock") or route.inputs.get("destinationIpv6CidrBlock")
        network = ip_network(str(everywhere))
        assert network.prefixlen == 0, "routes lead everywhere or nowhere"
        kind = next(word for key, word in GATEWAYS.items() if route.inputs.get(key))
        for subnet in subnets.get(route.inputs["routeTableId"], ()):
            found[subnet, 4 if isinstance(network, IPv4Network) else 6] = kind
    return found


def read_back(ec2: Any, stack: str) -> World:
    """Return the world as AWS itself says it is, through its own API: everything in the stack's network."""
    [vpc] = ec2.describe_vpcs(Filters=[{"Name": "tag:vre", "Values": [stack]}])["Vpcs"]
    inside = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    six = [each["Ipv6CidrBlock"] for each in vpc.get("Ipv6CidrBlockAssociationSet", ())]
    groups = ec2.describe_security_groups(Filters=inside)["SecurityGroups"]
    cards = ec2.describe_network_interfaces(Filters=inside)["NetworkInterfaces"]
    wanted = [{"Name": "group-id", "Values": [each["GroupId"] for each in groups]}]
    pages = ec2.get_paginator("describe_security_group_rules").paginate(Filters=wanted)
    tables = ec2.describe_route_tables(Filters=inside)["RouteTables"]
    public = {each.get("NetworkInterfaceId") for each in ec2.describe_addresses()["Addresses"]}
    return World(
        networks=tuple(map(ip_network, [vpc["CidrBlock"], *six])),
        rules=tuple(_read_rule(rule) for page in pages for rule in page["SecurityGroupRules"]),
        cards=tuple(_read_card(each, public) for each in cards),
        ways={key: way for table in tables for key, way in _read_ways(table)},
    )


def _read_rule(rule: Mapping[str, Any]) -> Rule:
    network = rule.get("CidrIpv4") or rule.get("CidrIpv6")
    return Rule(
        group=rule["GroupId"],
        inbound=not rule["IsEgress"],
        protocol=rule["IpProtocol"],
        first=rule["FromPort"],
        last=rule["ToPort"],
        network=ip_network(network) if network else None,
        members_of=rule.get("ReferencedGroupInfo", {}).get("GroupId", ""),
    )


def _read_card(card: Mapping[str, Any], public: set[Any]) -> Card:
    return Card(
        addresses=frozenset(
            [
                *(ip_address(each["PrivateIpAddress"]) for each in card["PrivateIpAddresses"]),
                *(ip_address(each["Ipv6Address"]) for each in card["Ipv6Addresses"]),
            ]
        ),
        groups=tuple(each["GroupId"] for each in card["Groups"]),
        subnet=card["SubnetId"],
        public=card["NetworkInterfaceId"] in public,
    )


def _read_ways(table: Mapping[str, Any]) -> Iterator[tuple[tuple[str, int], str]]:
    subnets = [each["SubnetId"] for each in table["Associations"] if each.get("SubnetId")]
    names = {"EgressOnlyInternetGatewayId": "outward", "NatGatewayId": "outward", "GatewayId": "internet"}
    for route in table["Routes"]:
        kind = next((way for name, way in names.items() if route.get(name) not in (None, "", "local")), "")
        everywhere = route.get("DestinationIpv6CidrBlock") or route["DestinationCidrBlock"]
        if kind and ip_network(everywhere).prefixlen == 0:
            yield from (((subnet, ip_network(everywhere).version), kind) for subnet in subnets)
