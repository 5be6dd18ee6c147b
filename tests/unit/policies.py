"""What NetworkPolicies let through, by their published semantics: a flow needs leave at both of its ends."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from vre.services import Object


@dataclass(frozen=True, kw_only=True)
class End:
    """One end of a flow: a pod (of a namespace, with labels) or an address outside the cluster."""

    space: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


def reaches(policies: list[Object], source: End, target: End, port: int, *, protocol: str = "TCP") -> bool:
    """Say whether a flow is let out of its source and into its target."""
    return _open(policies, source, target, port, protocol, "Egress") and _open(
        policies, target, source, port, protocol, "Ingress"
    )


def _open(policies: list[Object], here: End, there: End, port: int, protocol: str, way: str) -> bool:
    """Say whether one end lets the flow through. An end that no policy selects, or no pod, lets everything through."""
    mine = [
        policy["spec"]
        for policy in policies
        if here.space
        and policy["metadata"]["namespace"] == here.space
        and way in policy["spec"]["policyTypes"]
        and _matches(policy["spec"]["podSelector"], here.labels)
    ]
    rules = [rule for spec in mine for rule in spec.get(way.lower(), [])]
    return not mine or any(_rule(rule, there, port, protocol, "to" if way == "Egress" else "from") for rule in rules)


def _rule(rule: Object, there: End, port: int, protocol: str, word: str) -> bool:
    wanted = {"protocol": protocol, "port": port}
    return (not rule.get(word) or any(_peer(each, there) for each in rule[word])) and (
        not rule.get("ports") or wanted in rule["ports"]
    )


def _peer(peer: Object, there: End) -> bool:
    if "ipBlock" in peer:
        return bool(there.address) and _inside(peer["ipBlock"], there.address)
    names = {"kubernetes.io/metadata.name": there.space}
    if not there.space or not _matches(peer["namespaceSelector"], names):
        return False
    return _matches(peer.get("podSelector", {}), there.labels)


def _inside(block: Object, address: str) -> bool:
    where = ip_address(address)
    return where in ip_network(block["cidr"]) and not any(where in ip_network(each) for each in block.get("except", ()))


def _matches(selector: Object, labels: Mapping[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()
