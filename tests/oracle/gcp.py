"""What Google's cloud does with what it was told, by the rules that it publishes.

Firewall rules, https://cloud.google.com/firewall/docs/firewalls: the lowest priority number decides; at equal priority
a denial wins over a permission; what no rule names is let out and not let in. A rule is for the machines with one of
its target tags, for all of the network where it names none. What comes in matches by its source range or by the source
tag of a machine in the same network. A rule without ranges is for all IPv4. Rules are stateful.

Not asked: that 169.254.169.254 is open to a machine whatever the rules say (the machine's own firewall closes it for
all but names, time and metadata), and which way IPv6 of a machine without an IPv6 address would take.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from tests.oracle import ports
from tests.oracle.compare import IN, OTHER, Evaluator, Flow
from tests.oracle.told import Props, Resource
from vre.policy import Address, Network

FIREWALL = "gcp:compute/firewall:Firewall"
INSTANCE = "gcp:compute/instance:Instance"
SUBNET = "gcp:compute/subnetwork:Subnetwork"
NAT = "gcp:compute/routerNat:RouterNat"
EVERYBODY = "0.0.0.0/0"
ALLOW, DENY = "allows", "denies"
LINK_LOCAL = ip_network("169.254.0.0/16")


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A machine as Google sees it."""

    name: str
    ipv4: Address
    network: str
    tags: frozenset[str]
    public: frozenset[int]
    """The families in which it has an address of its own on the internet."""
    nat: bool


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A firewall rule, read once."""

    network: str
    direction: str
    priority: int
    action: str
    opens: Props
    """Ports by protocol, as bits; `all` for every protocol."""
    targets: frozenset[str] | None
    ranges: tuple[Network, ...]
    tags: frozenset[str]


def evaluator(told: Sequence[Resource]) -> Evaluator:
    """Read what was told, and return what the cloud lets through."""
    instances = {each.name: each for each in _instances(told)}
    rules = [rule(each.inputs) for each in told if each.type == FIREWALL and not each.inputs.get("disabled")]

    def lets(flow: Flow) -> int:
        machine = instances[flow.machine.name]
        return _decided(rules, instances.values(), machine, flow) if _way(instances.values(), machine, flow) else 0

    return lets


def rule(inputs: Props) -> Rule:
    """Read a rule. What Google would refuse is an AssertionError."""
    direction = inputs.get("direction", "INGRESS")
    side = "sourceRanges" if direction == "INGRESS" else "destinationRanges"
    ranges, tags = tuple(map(ip_network, inputs.get(side, ()))), frozenset(inputs.get("sourceTags", ()))
    assert ALLOW in inputs or DENY in inputs, "a rule allows or denies"
    assert not (ALLOW in inputs and DENY in inputs), "a rule allows or denies, not both"
    assert len({each.version for each in ranges}) <= 1, f"ranges of both families: {ranges}"
    if not ranges and not tags:
        ranges = (ip_network(EVERYBODY),)
    action = ALLOW if ALLOW in inputs else DENY
    return Rule(
        network=inputs["network"],
        direction=direction,
        priority=inputs.get("priority", 1000),
        action=action,
        opens={each["protocol"]: _ports(each) for each in inputs[action]},
        targets=frozenset(inputs["targetTags"]) if inputs.get("targetTags") else None,
        ranges=ranges,
        tags=tags,
    )


def _ports(opened: Props) -> int:
    made = ports.NONE
    for text in opened.get("ports") or ["0-65535"]:
        first, _, last = str(text).partition("-")
        made |= ports.span(int(first), int(last or first))
    return made


def _instances(told: Sequence[Resource]) -> Iterable[Instance]:
    subnets = {each.id: each for each in told if each.type == SUBNET}
    nat = {
        part["name"]
        for each in told
        if each.type == NAT and each.inputs["sourceSubnetworkIpRangesToNat"] == "LIST_OF_SUBNETWORKS"
        for part in each.inputs["subnetworks"]
    }
    for each in told:
        if each.type == INSTANCE:
            [card] = each.inputs["networkInterfaces"]
            subnet = subnets[card["subnetwork"]]
            families = {4: "accessConfigs", 6: "ipv6AccessConfigs"}
            yield Instance(
                name=each.name,
                ipv4=ip_address(card["networkIp"]),
                network=subnet.inputs["network"],
                tags=frozenset(each.inputs.get("tags", ())),
                public=frozenset(family for family, key in families.items() if card.get(key)),
                nat=subnet.id in nat,
            )


def _way(instances: Iterable[Instance], machine: Instance, flow: Flow) -> bool:
    """Say whether packets find their way at all: from outside, only to an address of their family."""
    peer = flow.peer.address
    near = any(peer == each.ipv4 and each.network == machine.network for each in instances)
    if near:
        return True
    if flow.direction == IN:
        return peer.version in machine.public
    link_local = peer.version == 4 and peer in LINK_LOCAL
    return link_local or peer.version == 6 or 4 in machine.public or machine.nat


def _decided(rules: Sequence[Rule], instances: Iterable[Instance], machine: Instance, flow: Flow) -> int:
    everything = ports.one(0) if flow.protocol == OTHER else ports.SOME
    mine = [each for each in rules if _is_for(each, machine, flow) and _matches(each, instances, machine, flow)]
    left, open_ = everything, ports.NONE
    for priority in sorted({each.priority for each in mine}):
        same = [each for each in mine if each.priority == priority]
        denied, allowed = (
            _union(_of(each, flow.protocol) for each in same if each.action == action) for action in (DENY, ALLOW)
        )
        open_ |= allowed & ~denied & left
        left &= ~(allowed | denied)
    return open_ if flow.direction == IN else open_ | left


def _is_for(rule: Rule, machine: Instance, flow: Flow) -> bool:
    direction = "INGRESS" if flow.direction == IN else "EGRESS"
    targeted = rule.targets is None or rule.targets & machine.tags
    return rule.network == machine.network and rule.direction == direction and bool(targeted)


def _matches(rule: Rule, instances: Iterable[Instance], machine: Instance, flow: Flow) -> bool:
    peer = flow.peer.address
    in_range = any(net.version == peer.version and peer in net for net in rule.ranges)
    return in_range or any(
        each.network == machine.network and peer == each.ipv4 and rule.tags & each.tags
        for each in instances
        if rule.direction == "INGRESS"
    )


def _of(rule: Rule, protocol: str) -> int:
    if "all" in rule.opens:
        return ports.ALL
    return int(rule.opens.get(protocol, ports.NONE))


def _union(sets: Iterable[int]) -> int:
    made = ports.NONE
    for each in sets:
        made |= each
    return made
