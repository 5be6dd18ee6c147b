"""A libvirt network: a bridge with addresses of its own, NAT or none, and DNS that knows the stack's machines.

Machines have static addresses, so there is no DHCP.
"""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any
from xml.etree.ElementTree import Element

from vre.errors import Finding, VreError
from vre.provider.handler import UNKNOWN, Changes, Context, Found, Handler, Props, Unknown
from vre.provider.libvirt.connection import connect, found, module, told
from vre.provider.libvirt.identity import derived, known, named, own, revived
from vre.provider.libvirt.xml import attribute, drifted, node, parse, text

INPUTS = ("uri", "name", "bridge", "mode", "ipv4", "ipv6", "domain", "hosts")
LONGEST_BRIDGE = 15  # bytes of an interface's name in the kernel
MODES = ("nat", "isolated")


class Network(Handler):
    """Hosts change in place; anything else needs a new network."""

    token = "vre:libvirt:Network"  # noqa: S105
    replace_on = frozenset({"name", "bridge", "mode", "ipv4", "ipv6", "domain"})
    ignore = frozenset({"uri"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse ranges, names and hosts that cannot be."""
        findings = named(inputs) + _bad_bridge(inputs) + _bad_range(inputs, "ipv4", 4) + _bad_range(inputs, "ipv6", 6)
        if known(inputs.get("mode")) and inputs["mode"] not in MODES:
            findings.append(Finding(key="mode", reason=f"must be one of {', '.join(MODES)}"))
        return findings or _bad_hosts(inputs)

    def normalise(self, inputs: Props) -> Props:
        """Fill in NAT, no IPv6, no domain, no hosts."""
        return {"mode": "nat", "ipv6": "", "domain": "", "hosts": [], **inputs}

    def diff(self, state: Props, inputs: Props) -> Changes:
        """Compare; a network that is down is a change."""
        return revived(super().diff(state, inputs), state, "active")

    def preview(self, inputs: Props, state: Props) -> Props:
        """Everything follows from the inputs."""
        return {**inputs, **_computed(inputs)}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Define and start it. One of ours that a killed run left is adopted if it is the same, else made again."""
        name = inputs["name"]
        context.report(f"making network {name}")
        connection = connect(inputs["uri"], context.report)
        with told(f"network {name}"):
            old = own("network", name, _uuid(name), found(connection.networkLookupByName, name))
            if old is not None and describe(parse(old.XMLDesc(0))) != describe(document(inputs)):
                _remove(old)
                old = None
            if old is None:
                _refuse_overlap(connection, inputs)
            _start(old or connection.networkDefineXML(text(document(inputs))))
        return name, {**inputs, **_computed(inputs)}

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Compare what is there with what was asked for."""
        connection = connect(state.get("uri", "auto"), context.report)
        with told(f"network {resource_id}"):
            live = found(connection.networkLookupByName, resource_id)
            if own("network", resource_id, _uuid(resource_id), live) is None or live is None:
                return None
            shown = parse(live.XMLDesc(0))
            active = bool(live.isActive())
        old = {key: state[key] for key in INPUTS if key in state}
        inputs = drifted(old, document(state), shown, describe) if state else describe(shown)
        return Found(inputs=inputs, outputs={**inputs, **_computed(inputs), "active": active})

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Bring it up, and the hosts to what they should be."""
        connection = connect(inputs["uri"], context.report)
        with told(f"network {resource_id}"):
            live = connection.networkLookupByName(resource_id)
            _start(live)
            _set_hosts(live, _addresses(inputs["hosts"], inputs["domain"]))
        return {**inputs, **_computed(inputs)}

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Take it down with its bridge, DNS and rules."""
        connection = connect(state.get("uri", "auto"), context.report)
        with told(f"network {resource_id}"):
            live = found(connection.networkLookupByName, resource_id)
            if own("network", resource_id, _uuid(resource_id), live) is not None:
                _remove(live)


def document(inputs: Mapping[str, Any]) -> Element:
    """Return the XML of a network."""
    domain, nat = inputs["domain"], inputs["mode"] == "nat"
    return node(
        "network",
        node("name", inputs["name"]),
        node("uuid", _uuid(inputs["name"])),
        node("forward", node("nat", ipv6="yes"), mode="nat") if nat else None,
        node("bridge", name=inputs["bridge"], stp="off", delay=0),
        node("domain", name=domain, localOnly="yes") if domain else None,
        node("dns", *(_dns_host(ip, names) for ip, names in sorted(_addresses(inputs["hosts"], domain).items()))),
        *(_ip(inputs[family]) for family in ("ipv4", "ipv6") if inputs[family]),
    )


def describe(root: Element) -> Props:
    """Return the inputs that a network's XML amounts to."""
    hosts: dict[str, dict[str, str]] = {}
    domain = attribute(root, "domain", "name")
    for host in root.iterfind("dns/host"):
        name, ip = host.findtext("hostname", "").removesuffix(f".{domain}"), host.get("ip", "")
        entry = hosts.setdefault(name, {"name": name})
        entry[f"ipv{ip_address(ip).version}"] = ip
    return {
        "name": root.findtext("name", ""),
        "bridge": attribute(root, "bridge", "name"),
        "mode": attribute(root, "forward", "mode", "isolated"),
        "domain": domain,
        "ipv4": _range(root, "ipv4"),
        "ipv6": _range(root, "ipv6"),
        "hosts": [hosts[name] for name in sorted(hosts)],
    }


def gateway(cidr: str) -> str:
    """Return the hypervisor's address in a range: the first."""
    return str(ip_network(cidr)[1]) if cidr else ""


def _computed(inputs: Props) -> Props:
    ranges = {family: inputs.get(family) for family in ("ipv4", "ipv6")}
    gateways = {key: UNKNOWN if isinstance(cidr, Unknown) else gateway(cidr or "") for key, cidr in ranges.items()}
    name = inputs["name"]
    return {"uuid": UNKNOWN if isinstance(name, Unknown) else _uuid(name), "gateways": gateways, "active": True}


def _uuid(name: str) -> str:
    return derived(Network.token, name)


def _ip(cidr: str) -> Element:
    net = ip_network(cidr)
    return node("ip", family=f"ipv{net.version}", address=gateway(cidr), prefix=net.prefixlen)


def _range(root: Element, family: str) -> str:
    for ip in root.iterfind("ip"):
        if ip.get("family", "ipv4") == family:
            prefix = ip.get("prefix") or ip.get("netmask")
            return str(ip_network(f"{ip.get('address')}/{prefix}", strict=False))
    return ""


def _dns_host(ip: str, names: list[str]) -> Element:
    return node("host", *(node("hostname", name) for name in names), ip=ip)


def _addresses(hosts: list[dict[str, str]], domain: str) -> dict[str, list[str]]:
    """Return address -> names: libvirt keeps one DNS entry an address, and while a network runs takes each name once.

    So IPv6 stands under the name with its domain; machines look that up too, the domain being their search list.
    """
    table: dict[str, list[str]] = {}
    for host in hosts:
        if host.get("ipv4"):
            table.setdefault(host["ipv4"], []).append(host["name"])
        if host.get("ipv6") and domain:
            table.setdefault(host["ipv6"], []).append(f"{host['name']}.{domain}")
    return table


def _set_hosts(live: Any, new: dict[str, list[str]]) -> None:
    libvirt = module()
    flags = libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE | libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG
    section = libvirt.VIR_NETWORK_SECTION_DNS_HOST
    old = {
        host.get("ip", ""): [name.text or "" for name in host.iterfind("hostname")]
        for host in parse(live.XMLDesc(0)).iterfind("dns/host")
    }
    for ip in sorted(old.keys() | new.keys()):
        if ip in old and old.get(ip) != new.get(ip):
            gone = text(_dns_host(ip, []))
            live.update(libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE, section, -1, gone, flags)
    for ip in sorted(old.keys() | new.keys()):
        if ip in new and old.get(ip) != new[ip]:
            come = text(_dns_host(ip, new[ip]))
            live.update(libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, section, -1, come, flags)


def _start(live: Any) -> None:
    try:
        live.setAutostart(1)
        if not live.isActive():
            live.create()
    except module().libvirtError:
        _remove(live)
        raise


def _remove(live: Any) -> None:
    if live.isActive():
        live.destroy()
    live.undefine()


def _refuse_overlap(connection: Any, inputs: Props) -> None:
    """libvirt compares with the host's IPv4 routes when it starts a network, but not with networks that are down."""
    ours = [ip_network(inputs[family]) for family in ("ipv4", "ipv6") if inputs[family]]
    for other in connection.listAllNetworks():
        described = describe(parse(other.XMLDesc(0)))
        theirs = [ip_network(described[family]) for family in ("ipv4", "ipv6") if described[family]]
        for mine in ours:
            if any(_overlap(mine, their) for their in theirs):
                raise VreError(
                    f"the range {mine} is taken by the hypervisor's network {other.name()!r}",
                    hint="choose another range in the stack file, under cloud:",
                )


def _overlap(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.overlaps(other)
    return isinstance(one, IPv6Network) and isinstance(other, IPv6Network) and one.overlaps(other)


def _bad_bridge(inputs: Props) -> list[Finding]:
    bridge = inputs.get("bridge")
    if isinstance(bridge, Unknown) or (isinstance(bridge, str) and 0 < len(bridge) <= LONGEST_BRIDGE):
        return []
    return [Finding(key="bridge", reason=f"must be 1 to {LONGEST_BRIDGE} characters", example="vre1a2b3c4d")]


def _bad_range(inputs: Props, key: str, version: int) -> list[Finding]:
    cidr = inputs.get(key)
    if isinstance(cidr, Unknown) or (key == "ipv6" and not cidr):
        return []
    example = "192.168.77.0/24" if version == 4 else "fd00:77::/64"
    try:
        net = ip_network(str(cidr))
    except ValueError as error:
        return [Finding(key=key, reason=f"is no network: {error}", example=example)]
    if net.version == version and net.num_addresses >= 4:
        return []
    return [Finding(key=key, reason=f"must be an IPv{version} network with room for machines", example=example)]


def _bad_hosts(inputs: Props) -> list[Finding]:
    hosts = inputs.get("hosts") or []
    if isinstance(hosts, Unknown):
        return []
    return [
        Finding(key=f"hosts[{index}].{family}", reason=f"{host[family]} is not in {inputs.get(family)}")
        for index, host in enumerate(hosts)
        for family in ("ipv4", "ipv6")
        if known(host) and host.get(family) and known(host[family]) and known(inputs.get(family))
        if not inputs[family] or ip_address(host[family]) not in ip_network(inputs[family])
    ]
