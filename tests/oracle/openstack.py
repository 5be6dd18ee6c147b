"""What OpenStack's security groups let through, by Neutron's published rules.

https://docs.openstack.org/api-ref/network/v2/#security-groups-security-groups: rules only allow, and all of all groups
of a port count; what no rule names is dropped; a new group lets everything out; without groups of its own a port gets
the project's default one, whose members reach each other; without port security nothing is looked at; replies pass
where a group is stateful; a rule without prefix and group is for everybody, without ports for all ports, without
protocol for all protocols; another group stands for the addresses of the ports that are in it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from tests.oracle import ports
from tests.oracle.compare import IN, OTHER, Evaluator, Flow
from tests.oracle.told import Resource
from vre.policy import Address, Network

GROUP = "openstack:networking/secGroup:SecGroup"
RULE = "openstack:networking/secGroupRule:SecGroupRule"
PORT = "openstack:networking/port:Port"
DEFAULT = "the project's default group"
NUMBERS = {"6": "tcp", "17": "udp"}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of a group. `protocol` and `remote` are empty for all; `ports` are those it is for."""

    group: str
    inbound: bool
    version: int
    protocol: str = ""
    ports: int = ports.ALL
    network: Network | None = None
    remote: str = ""


@dataclass(frozen=True, kw_only=True)
class Port:
    """A place in the network: addresses, also those it may borrow, and groups; `guarded` says whether they count."""

    addresses: frozenset[Address]
    groups: frozenset[str]
    guarded: bool = True


@dataclass(frozen=True, kw_only=True)
class Neutron:
    """What Neutron knows."""

    rules: tuple[Rule, ...]
    ports: tuple[Port, ...]
    stateless: frozenset[str] = frozenset()

    def evaluator(self) -> Evaluator:
        """Return what tells which ports a flow gets through."""

        def lets(flow: Flow) -> int:
            mine = {ip_address(text) for text in (flow.machine.ipv4, flow.machine.ipv6) if text}
            here = [port for port in self.ports if mine & port.addresses]
            everything = ports.one(0) if flow.protocol == OTHER else ports.SOME
            if not all(port.guarded for port in here):
                return everything
            groups = {group for port in here for group in port.groups} - self.stateless
            found = ports.NONE
            for rule in self.rules:
                if rule.group in groups and self._fits(rule, flow):
                    found |= rule.ports & everything
            return found

        return lets

    def _fits(self, rule: Rule, flow: Flow) -> bool:
        peer = flow.peer.address
        if rule.inbound != (flow.direction == IN) or rule.version != peer.version:
            return False
        if rule.protocol not in ("", flow.protocol):
            return False
        if rule.remote:
            return any(peer in port.addresses for port in self.ports if rule.remote in port.groups)
        return rule.network is None or (rule.network.version == peer.version and peer in rule.network)


def told(resources: Iterable[Resource]) -> Neutron:
    """Return what Neutron makes of resources as a Pulumi program declares them."""
    every = list(resources)
    groups = [each for each in every if each.type == GROUP]
    rules = [_rule(each.inputs) for each in every if each.type == RULE]
    for each in groups:
        if not each.inputs.get("deleteDefaultRules"):
            rules += _let_out(each.id)
    return Neutron(
        rules=(*rules, *_default()),
        ports=tuple(_port(each.inputs) for each in every if each.type == PORT),
        stateless=frozenset(each.id for each in groups if each.inputs.get("stateful") is False),
    )


def _rule(inputs: dict[str, Any]) -> Rule:
    return rule(
        group=inputs["securityGroupId"],
        direction=inputs["direction"],
        ethertype=inputs["ethertype"],
        protocol=inputs.get("protocol"),
        span=(inputs.get("portRangeMin"), inputs.get("portRangeMax")),
        prefix=inputs.get("remoteIpPrefix"),
        remote=inputs.get("remoteGroupId"),
    )


def rule(
    *,
    group: str,
    direction: str,
    ethertype: str,
    protocol: str | None,
    span: tuple[int | None, int | None],
    prefix: str | None,
    remote: str | None,
) -> Rule:
    """Return a rule from its parts as the API has them."""
    first, last = (0, 65535) if span[0] is None else (int(span[0]), int(span[1] or 0))
    return Rule(
        group=group,
        inbound=direction == "ingress",
        version=int(ethertype.removeprefix("IPv")),
        protocol=NUMBERS.get(protocol or "", protocol or ""),
        ports=ports.span(first, last) if first <= last else ports.NONE,
        network=ip_network(prefix) if prefix else None,
        remote=remote or "",
    )


def _port(inputs: dict[str, Any]) -> Port:
    pairs = [each["ipAddress"] for each in inputs.get("allowedAddressPairs") or []]
    fixed = [each["ipAddress"] for each in inputs.get("fixedIps") or []]
    return Port(
        addresses=frozenset(ip_address(each) for each in (*fixed, *pairs)),
        groups=frozenset(inputs.get("securityGroupIds") or ([] if inputs.get("noSecurityGroups") else [DEFAULT])),
        guarded=inputs.get("portSecurityEnabled", True),
    )


def _let_out(group: str) -> Iterator[Rule]:
    for version in (4, 6):
        yield Rule(group=group, inbound=False, version=version)


def _default() -> Iterator[Rule]:
    yield from _let_out(DEFAULT)
    for version in (4, 6):
        yield Rule(group=DEFAULT, inbound=True, version=version, remote=DEFAULT)


def read_back(connection: Any) -> Neutron:
    """Return what a real Neutron says itself, asked through its API (openstacksdk), about what the project owns."""
    own = connection.current_project_id
    rules = [
        rule(
            group=each.security_group_id,
            direction=each.direction,
            ethertype=each.ether_type,
            protocol=each.protocol,
            span=(each.port_range_min, each.port_range_max),
            prefix=each.remote_ip_prefix,
            remote=each.remote_group_id,
        )
        for each in connection.network.security_group_rules(project_id=own)
    ]
    return Neutron(
        rules=tuple(rules),
        ports=tuple(_real(each) for each in connection.network.ports(project_id=own)),
        stateless=frozenset(
            each.id for each in connection.network.security_groups(project_id=own) if each.stateful is False
        ),
    )


def _real(port: Any) -> Port:
    pairs: Sequence[dict[str, str]] = port.allowed_address_pairs or []
    return Port(
        addresses=frozenset(ip_address(each["ip_address"]) for each in (*port.fixed_ips, *pairs)),
        groups=frozenset(port.security_group_ids),
        guarded=port.is_port_security_enabled,
    )
