"""What Azure does with the security rules it was told, by its published rules.

https://learn.microsoft.com/azure/virtual-network/network-security-groups-overview: rules in the order of their
priority, lowest number first, the first that fits decides; three rules of Azure's own come last in each direction; what
is let in or out needs the subnet's group *and* the interface's, where there are both; replies need no rule.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any

from tests.oracle import ports
from tests.oracle.compare import IN, OTHER, Evaluator, Flow
from tests.oracle.told import Props, Resource
from vre.policy import Address

NETWORK, SUBNET, GROUP, FIREWALL, INTERFACE = (
    f"azure-native:network:{name}"
    for name in (
        "VirtualNetwork", "Subnet", "ApplicationSecurityGroup", "NetworkSecurityGroup", "NetworkInterface",
    )
)  # fmt: skip
HOST = ip_address("168.63.129.16")
METADATA = ip_address("169.254.169.254")
PLATFORM = {
    "AzurePlatformDNS": (HOST, ports.one(53)),
    "AzurePlatformIMDS": (METADATA, ports.one(80)),
    "AzurePlatformLKM": (None, ports.one(1688)),
}
"""Azure's own services, which no rule by address closes: only one for the tag does (None: addresses that change)."""
LAST: tuple[Props, ...] = tuple(
    {
        "name": name,
        "direction": direction,
        "priority": priority,
        "access": access,
        "protocol": "*",
        "sourceAddressPrefix": source,
        "sourcePortRange": "*",
        "destinationAddressPrefix": destination,
        "destinationPortRange": "*",
    }
    for name, direction, priority, access, source, destination in (
        ("AllowVnetInBound", "Inbound", 65000, "Allow", "VirtualNetwork", "VirtualNetwork"),
        ("AllowAzureLoadBalancerInBound", "Inbound", 65001, "Allow", "AzureLoadBalancer", "*"),
        ("DenyAllInBound", "Inbound", 65500, "Deny", "*", "*"),
        ("AllowVnetOutBound", "Outbound", 65000, "Allow", "VirtualNetwork", "VirtualNetwork"),
        ("AllowInternetOutBound", "Outbound", 65001, "Allow", "*", "Internet"),
        ("DenyAllOutBound", "Outbound", 65500, "Deny", "*", "*"),
    )
)
"""The rules that every group ends with, whoever made it."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One address of a machine's interface: the application security groups it is in, the rules in front of it."""

    groups: frozenset[str]
    guards: tuple[Sequence[Props], ...]


class Told:
    """The resources, read once."""

    def __init__(self, told: Sequence[Resource]) -> None:
        self._rules = {
            each.id: sorted([*(each.inputs.get("securityRules") or []), *LAST], key=lambda rule: int(rule["priority"]))
            for each in told
            if each.type == FIREWALL
        }
        self._subnets = {each.id: _id(each.inputs.get("networkSecurityGroup")) for each in told if each.type == SUBNET}
        spaces = [each.inputs["addressSpace"]["addressPrefixes"] for each in told if each.type == NETWORK]
        self.space = [text for space in spaces for text in space]
        self.places = {
            ip_address(config["privateIPAddress"]): self._place(each.inputs, config)
            for each in told
            if each.type == INTERFACE
            for config in each.inputs["ipConfigurations"]
        }

    def _place(self, interface: Props, config: Props) -> Place:
        groups = frozenset(_id(each) for each in config.get("applicationSecurityGroups") or [])
        guards = (self._subnets[_id(config["subnet"])], _id(interface.get("networkSecurityGroup")))
        return Place(groups=groups, guards=tuple(self._rules[each] for each in guards if each))

    def lets(self, flow: Flow) -> int:
        """Return the ports that every guard in front of the machine lets through."""
        text = flow.machine.ipv4 if flow.peer.address.version == 4 else flow.machine.ipv6
        own = ip_address(text)
        if own not in self.places:
            return ports.NONE
        open_ = ports.ALL
        for rules in self.places[own].guards:
            open_ &= self._decided(rules, flow, own)
        return open_ & (ports.one(0) if flow.protocol == OTHER else ports.SOME)

    def _decided(self, rules: Sequence[Props], flow: Flow, own: Address) -> int:
        direction = "Inbound" if flow.direction == IN else "Outbound"
        source, destination = (flow.peer.address, own) if flow.direction == IN else (own, flow.peer.address)
        allowed, open_ = ports.NONE, ports.ALL
        for rule in rules:
            kind = rule["protocol"] == "*" or rule["protocol"].lower() == flow.protocol
            both = kind and rule["direction"] == direction and self._fits(rule, "source", source)
            if both and (both := both & self._fits(rule, "destination", destination)):
                hit = open_ & both & _ports(rule)
                allowed |= hit if rule["access"] == "Allow" else ports.NONE
                open_ &= ~hit
        return allowed

    def _fits(self, rule: Props, side: str, address: Address) -> int:
        """Return the ports for which an address is what one side of a rule is about: all or none, but for tags."""
        place = self.places.get(address)
        groups = rule.get(f"{side}ApplicationSecurityGroups") or []
        if place and any(_id(each) in place.groups for each in groups):
            return ports.ALL
        fits = ports.NONE
        for word in (rule.get(f"{side}AddressPrefix"), *(rule.get(f"{side}AddressPrefixes") or [])):
            if word:
                fits |= self._word(str(word), address)
        return fits

    def _word(self, word: str, address: Address) -> int:
        match word:
            case "*":
                return ports.ALL
            case "VirtualNetwork":
                return ports.ALL if self._inside(address) else ports.NONE
            case "Internet":
                return ports.NONE if self._inside(address) else ports.ALL
            case "AzureLoadBalancer":
                return ports.ALL if address == HOST else ports.NONE
            case tag if tag in PLATFORM:
                there, open_ = PLATFORM[tag]
                return open_ if address == there else ports.NONE
        return ports.ALL if _within(address, word) else ports.NONE

    def _inside(self, address: Address) -> bool:
        return address == HOST or any(_within(address, each) for each in self.space)

    def platform(self) -> set[str]:
        """Return Azure's own services that machines reach: all that no rule for their tag refuses."""
        refused = {
            str(rule.get("destinationAddressPrefix"))
            for rules in self._rules.values()
            for rule in rules
            if rule["direction"] == "Outbound" and rule["access"] == "Deny"
        }
        return PLATFORM.keys() - refused


def evaluator(told: Sequence[Resource]) -> Evaluator:
    """Return what says which ports Azure lets through."""
    return Told(told).lets


def faults(rules: Sequence[Props]) -> Iterator[str]:
    """Yield what Azure refuses in the rules of one group, in its words."""
    for direction in ("Inbound", "Outbound"):
        ours = [rule for rule in rules if rule["direction"] == direction]
        for number, rule in enumerate(ours):
            if not 100 <= rule["priority"] <= 4096:
                yield f"SecurityRuleInvalidPriority: {rule['name']} has priority {rule['priority']}"
            if any(rule["priority"] == other["priority"] for other in ours[:number]):
                yield f"SecurityRuleConflict: {rule['name']} has the priority {rule['priority']} of another"
    names = [rule["name"] for rule in rules]
    yield from (f"SecurityRuleDuplicateName: {name}" for name in {each for each in names if names.count(each) > 1})
    for rule in rules:
        yield from _rule_faults(rule)
    if len(rules) > 1000:
        yield "MaximumNumberOfRulesReached"
    if sum(len(_networks(rule)) for rule in rules) > 4000:
        yield "MaximumNumberOfAddressPrefixesReached"


def _rule_faults(rule: Props) -> Iterator[str]:
    families = {each.version for each in _networks(rule)}
    if len(families) > 1:
        yield f"ResourceCannotContainAddressPrefixesFromDifferentAddressFamilies: {rule['name']}"
    if len(rule["name"]) > 80 or len(rule.get("description") or "") > 140:
        yield f"SecurityRuleInvalidName: {rule['name']}"
    for side in ("source", "destination"):
        ways = (f"{side}AddressPrefix", f"{side}AddressPrefixes", f"{side}ApplicationSecurityGroups")
        if sum(bool(rule.get(way)) for way in ways) != 1:
            yield f"SecurityRuleParameterConflict: {rule['name']}: one of {', '.join(ways)}"
        listed = [ip_network(text) for text in rule.get(f"{side}AddressPrefixes") or []]
        if any(one.overlaps(other) for at, one in enumerate(listed) for other in listed[:at]):
            yield f"SecurityRuleOverlappingAddressPrefixes: {rule['name']}"


def _networks(rule: Props) -> list[Any]:
    words = [
        word
        for side in ("source", "destination")
        for word in (rule.get(f"{side}AddressPrefix"), *(rule.get(f"{side}AddressPrefixes") or []))
        if word
    ]
    return [ip_network(word) for word in words if "/" in word]


def _ports(rule: Props) -> int:
    made = ports.NONE
    for text in (rule.get("destinationPortRange"), *(rule.get("destinationPortRanges") or [])):
        made |= _span(str(text)) if text else ports.NONE
    return made


@cache
def _span(text: str) -> int:
    first, _, last = text.partition("-")
    return ports.ALL if text == "*" else ports.span(int(first), int(last or first))


@cache
def _within(address: Address, network: str) -> bool:
    wide = ip_network(network)
    return wide.version == address.version and address in wide


def _id(reference: Props | None) -> str:
    return str(reference["id"]) if reference else ""
