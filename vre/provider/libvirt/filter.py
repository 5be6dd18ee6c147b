"""A libvirt network filter: the firewall in front of one machine, and what keeps it from taking another's addresses.

The stateful rules become iptables rules on bridged frames; they act only where the hypervisor's
`net.bridge.bridge-nf-call-iptables` and `-ip6tables` are 1, and not on what the hypervisor itself sends. So the machine
filters again by itself, from the same policy.
"""

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any
from xml.etree.ElementTree import Element

from vre.errors import Finding
from vre.provider.handler import UNKNOWN, Context, Found, Handler, Props, Unknown
from vre.provider.libvirt.connection import connect, found, told
from vre.provider.libvirt.identity import derived, known, named, own
from vre.provider.libvirt.xml import drifted, node, parse, text

INPUTS = ("uri", "name", "mac", "rules", "antiSpoofing")
FAMILIES = ("ipv4", "ipv6", "arp", "any")
PROTOCOLS = ("tcp", "udp", "icmp", "icmpv6", "all")
WORDS = {"direction": ("in", "out"), "action": ("accept", "drop"), "family": FAMILIES, "protocol": PROTOCOLS}
WITH_PORTS = ("tcp", "udp")
# Connection tracking leaves IPv6's neighbour discovery alone and calls errors RELATED: with libvirt's states (NEW and
# ESTABLISHED) no neighbour would ever be found.
STATELESS = ("icmp", "icmpv6")
LONGEST_COMMENT = 256  # characters that libvirt takes
HIGHEST = 1000  # priorities go from -1000 to 1000; the user's start after ours
FIRST_OURS = -1000
OTHER_FAMILY = {"icmp": "ipv6", "icmpv6": "ipv4"}
ELEMENTS = {
    ("ipv4", "tcp"): "tcp",
    ("ipv4", "udp"): "udp",
    ("ipv4", "icmp"): "icmp",
    ("ipv4", "all"): "all",
    ("ipv6", "tcp"): "tcp-ipv6",
    ("ipv6", "udp"): "udp-ipv6",
    ("ipv6", "icmpv6"): "icmpv6",
    ("ipv6", "all"): "all-ipv6",
    ("arp", "all"): "arp",
}


class Filter(Handler):
    """Rules change in place, in the machines that use them too."""

    token = "vre:libvirt:Filter"  # noqa: S105
    replace_on = frozenset({"name"})
    ignore = frozenset({"uri"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse words, addresses, ports and pairs that cannot be."""
        rules = inputs.get("rules") or []
        if isinstance(rules, Unknown):
            return named(inputs)
        faults = [fault for index, rule in enumerate(rules) for fault in _faults(f"rules[{index}]", rule)]
        return named(inputs) + faults

    def normalise(self, inputs: Props) -> Props:
        """Fill in that machines keep to their addresses."""
        return {"rules": [], "antiSpoofing": True, **inputs}

    def preview(self, inputs: Props, state: Props) -> Props:
        """Everything follows from the inputs."""
        name = inputs["name"]
        return {**inputs, "uuid": UNKNOWN if isinstance(name, Unknown) else _uuid(name)}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Define it, also over what a killed run left."""
        context.report(f"making filter {inputs['name']}")
        return inputs["name"], self._define(context, inputs)

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Compare what is there with what was asked for."""
        connection = connect(state.get("uri", "auto"), context.report)
        with told(f"filter {resource_id}"):
            live = found(connection.nwfilterLookupByName, resource_id)
            if own("filter", resource_id, _uuid(resource_id), live) is None or live is None:
                return None
            shown = parse(live.XMLDesc(0))
        old = {key: state[key] for key in INPUTS if key in state}
        inputs = drifted(old, document(state), shown, describe) if state else describe(shown)
        if state and _guard(shown) != _guard(document(state)):
            inputs["antiSpoofing"] = not state["antiSpoofing"]
        return Found(inputs=inputs, outputs={**inputs, "uuid": _uuid(resource_id)})

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Define it again."""
        return self._define(context, inputs)

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Remove it."""
        connection = connect(state.get("uri", "auto"), context.report)
        with told(f"filter {resource_id}"):
            live = own("filter", resource_id, _uuid(resource_id), found(connection.nwfilterLookupByName, resource_id))
            if live is not None:
                live.undefine()

    def _define(self, context: Context, inputs: Props) -> Props:
        name = inputs["name"]
        connection = connect(inputs["uri"], context.report)
        with told(f"filter {name}"):
            own("filter", name, _uuid(name), found(connection.nwfilterLookupByName, name))
            connection.nwfilterDefineXML(text(document(inputs)))
        return {**inputs, "uuid": _uuid(name)}


def document(inputs: Mapping[str, Any]) -> Element:
    """Return the XML of a filter. Its machines give IP and IPV6 as parameters."""
    spoofing = _addresses_of_its_own(inputs.get("mac") or "$MAC") if inputs["antiSpoofing"] else ()
    rules = (element for rule in inputs["rules"] for element in _rules(rule))
    return node("filter", node("uuid", _uuid(inputs["name"])), *spoofing, *rules, name=inputs["name"], chain="root")


def describe(root: Element) -> Props:
    """Return the inputs that a filter's XML amounts to. A rule for any family comes out as one for each."""
    rules = [rule for rule in root.iterfind("rule") if int(rule.get("priority", "500")) >= 0]
    ours = [rule for rule in root.iterfind("rule") if int(rule.get("priority", "500")) < 0]
    guard = [rule for rule in ours if rule.find("mac") is not None]
    mac = guard[0].find("mac") if guard else None
    address = mac.get("srcmacaddr", "") if mac is not None else ""
    found_inputs: Props = {
        "name": root.get("name", ""),
        "antiSpoofing": bool(ours),
        "rules": sorted((_described(rule) for rule in rules), key=lambda rule: sorted(rule.items())),
    }
    return {**found_inputs, "mac": address} if address and "$" not in address else found_inputs


def parameters(addresses: list[str]) -> list[Element]:
    """Return what an interface tells its filter: its addresses, or one that nobody has where it has none."""
    table = {"IP": [each for each in addresses if ":" not in each], "IPV6": [each for each in addresses if ":" in each]}
    nobody = {"IP": "0.0.0.0", "IPV6": "::"}  # noqa: S104 the source of a machine without an address
    return [
        node("parameter", name=name, value=each.split("/")[0])
        for name, found_addresses in table.items()
        for each in (found_addresses or [nobody[name]])
    ]


def _guard(root: Element) -> list[tuple[object, ...]]:
    """Return the rules against spoofing as they can be compared: libvirt orders them by priority."""
    return sorted(
        (int(rule.get("priority", "500")), rule.get("action"), rule.get("direction"), *_words(rule))
        for rule in root.iterfind("rule")
        if int(rule.get("priority", "500")) < 0
    )


def _words(rule: Element) -> Iterator[str]:
    for match in rule:
        yield f"{match.tag} {sorted(match.items())}"


def _uuid(name: str) -> str:
    return derived(Filter.token, name)


def _rules(rule: Mapping[str, Any]) -> Iterator[Element]:
    for family in ("ipv4", "ipv6") if rule["family"] == "any" else (rule["family"],):
        tag = ELEMENTS.get((family, rule["protocol"]))
        if tag is None:
            continue  # icmp of the other family: refused in check unless the family is any
        match = node(tag, **_match(rule, family), state="ESTABLISHED" if rule.get("established") else None)
        yield node(
            "rule",
            match,
            action=rule["action"],
            direction=rule["direction"],
            priority=rule.get("priority", HIGHEST // 2),
            statematch="false" if rule["protocol"] in STATELESS else None,
        )


def _match(rule: Mapping[str, Any], family: str) -> dict[str, str]:
    comment = {"comment": rule["comment"][:LONGEST_COMMENT]} if rule.get("comment") else {}
    if family == "arp":
        return comment
    sides = {"src": rule.get("source"), "dst": rule.get("destination")}
    nets = {side: ip_network(cidr) for side, cidr in sides.items() if cidr}
    addresses = {f"{side}ipaddr": str(net.network_address) for side, net in nets.items()}
    masks = {f"{side}ipmask": str(net.prefixlen) for side, net in nets.items()}
    return {**addresses, **masks, **_ports(rule.get("ports", "")), **comment}


def _ports(ports: str) -> dict[str, str]:
    if not ports:
        return {}
    first, _, last = str(ports).partition("-")
    return {"dstportstart": first, "dstportend": last or first}


def _described(rule: Element) -> dict[str, Any]:
    match = rule[0]
    family, protocol = {tag: pair for pair, tag in ELEMENTS.items()}[match.tag]
    sides = {
        name: str(
            ip_network(f"{match.get(f'{side}ipaddr')}/{match.get(f'{side}ipmask', 32 if family == 'ipv4' else 128)}")
        )
        for side, name in (("src", "source"), ("dst", "destination"))
        if match.get(f"{side}ipaddr")
    }
    first, last = match.get("dstportstart"), match.get("dstportend")
    ports = {} if first is None else {"ports": first if last in (None, first) else f"{first}-{last}"}
    comment = {"comment": match.get("comment", "")} if match.get("comment") else {}
    begun = {"established": True} if match.get("state") == "ESTABLISHED" else {}
    return {
        "direction": rule.get("direction", ""),
        "action": rule.get("action", ""),
        "family": family,
        "protocol": protocol,
        "priority": int(rule.get("priority", "500")),
        **sides,
        **ports,
        **begun,
        **comment,
    }


def _addresses_of_its_own(mac: str) -> Iterator[Element]:
    """Rules on frames: out only from its own MAC, IPv4 and IPv6 addresses, in and out only IP and ARP."""
    steps: list[tuple[str, str, Element | None]] = [
        ("drop", "out", node("mac", match="no", srcmacaddr=mac)),
        ("drop", "out", node("ipv6", protocol="icmpv6", type=134)),  # a machine is no router
        ("accept", "out", node("ip", srcipaddr="$IP")),
        ("drop", "out", node("ip")),
        ("accept", "out", node("ipv6", srcipaddr="$IPV6")),
        ("accept", "out", node("ipv6", srcipaddr="fe80::", srcipmask=10)),
        ("accept", "out", node("ipv6", srcipaddr="::", srcipmask=128)),  # duplicate address detection
        ("drop", "out", node("ipv6")),
        ("accept", "out", node("arp", arpsrcmacaddr=mac, arpsrcipaddr="$IP")),
        ("accept", "out", node("arp", arpsrcmacaddr=mac, arpsrcipaddr="0.0.0.0")),  # noqa: S104 an ARP probe
        ("accept", "in", node("ip")),
        ("accept", "in", node("ipv6")),
        ("accept", "in", node("arp")),
        ("drop", "inout", None),
    ]
    for offset, (action, direction, match) in enumerate(steps):
        yield node("rule", match, action=action, direction=direction, priority=FIRST_OURS + 10 * offset)


def _faults(where: str, rule: Any) -> list[Finding]:
    if not known(rule):
        return []
    faults = [
        Finding(key=f"{where}.{key}", reason=f"must be one of {', '.join(allowed)}")
        for key, allowed in WORDS.items()
        if not isinstance(rule.get(key), Unknown) and rule.get(key) not in allowed
    ]
    if faults or any(isinstance(value, Unknown) for value in rule.values()):
        return faults
    return _bad_match(where, rule) + _bad_peer(where, rule)


def _bad_match(where: str, rule: Mapping[str, Any]) -> list[Finding]:
    faults = []
    family, protocol, priority = rule["family"], rule["protocol"], rule.get("priority", 0)
    if OTHER_FAMILY.get(protocol) == family or (family == "arp" and protocol != "all"):
        faults.append(Finding(key=f"{where}.protocol", reason=f"there is no {protocol} in {family}"))
    if not isinstance(priority, int) or not 0 <= priority <= HIGHEST:
        faults.append(Finding(key=f"{where}.priority", reason=f"must be 0 to {HIGHEST}"))
    ports = str(rule.get("ports") or "")
    if ports and protocol not in WITH_PORTS:
        faults.append(Finding(key=f"{where}.ports", reason=f"{protocol} has no ports"))
    if ports and not _are_ports(ports):
        faults.append(Finding(key=f"{where}.ports", reason=f"{ports!r} is no port or range", example="80-443"))
    return faults


def _bad_peer(where: str, rule: Mapping[str, Any]) -> list[Finding]:
    faults = []
    for key in ("source", "destination"):
        cidr = rule.get(key)
        if not cidr:
            continue
        try:
            version = f"ipv{ip_network(str(cidr)).version}"
        except ValueError as error:
            faults.append(Finding(key=f"{where}.{key}", reason=f"is no network: {error}", example="192.0.2.0/24"))
            continue
        if version != rule["family"]:
            faults.append(Finding(key=f"{where}.{key}", reason=f"{cidr} is {version}, the rule {rule['family']}"))
    return faults


def _are_ports(ports: str) -> bool:
    first, dash, last = ports.partition("-")
    numbers = [first, last] if dash else [first]
    return all(number.isdigit() and 0 < int(number) < 65536 for number in numbers) and (
        not dash or int(first) <= int(last)
    )
