"""The hypervisor's filter says exactly what the policy says: every peer, both families, every port, in and out."""

from collections.abc import Callable, Sequence
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings

from tests.oracle import ports
from tests.oracle.compare import IN, OTHER, Evaluator, Flow, agree, differences
from tests.oracle.configs import Case, case, cases
from tests.oracle.mutate import mutated, widened
from tests.oracle.told import Props, Resource, declared

FILTER = "vre:libvirt:Filter"
CLOUD = {"provider": "libvirt"}
CASES = {
    "local": case({"cloud": CLOUD}),
    "isolated": case({"cloud": {**CLOUD, "mode": "isolated"}, "data": {"class": "sensitive"}}),
}


def evaluator(told: Sequence[Resource]) -> Evaluator:
    """Evaluate the filter of a machine's interface as libvirt does (libvirt.org/formatnwfilter.html)."""
    filters = {each.inputs["name"]: each.inputs["rules"] for each in told if each.type == FILTER}
    machines = {
        each.name: filters[each.inputs["interfaces"][0]["filter"]] for each in told if each.type == "vre:libvirt:Domain"
    }
    ordered = {name: sorted(rules, key=lambda each: int(each["priority"])) for name, rules in machines.items()}
    return lambda flow: lets(ordered[flow.machine.name], flow)


def lets(rules: Sequence[Props], flow: Flow) -> int:
    """Go by priority: the first rule that fits a port decides, and a port that none fits is let through."""
    undecided = ports.one(0) if flow.protocol == OTHER else ports.ALL
    let = ports.NONE
    for rule in rules:
        fits = undecided & _fitting(rule, flow)
        let |= fits if rule["action"] == "accept" else ports.NONE
        undecided &= ~fits
    # Port 0 is nobody's: the last rule drops what is not TCP or UDP, with it.
    return let | undecided


def _fitting(rule: Props, flow: Flow) -> int:
    address = flow.peer.address
    side = "source" if flow.direction == IN else "destination"
    network = ip_network(rule.get(side) or ("0.0.0.0/0" if address.version == 4 else "::/0"))
    if (
        rule["direction"] != flow.direction
        or rule["family"] not in ("any", f"ipv{address.version}")
        or rule["protocol"] not in ("all", flow.protocol)
        or network.version != address.version
        or address not in network
    ):
        return ports.NONE
    if "ports" not in rule:
        return ports.ALL
    first, _, last = str(rule["ports"]).partition("-")
    return ports.span(int(first), int(last or first))


@pytest.mark.requirement("P-16", "P-17", "C-16", "H-35")
@given(made=cases(CLOUD))
@settings(max_examples=40)
def test_the_filter_lets_through_what_the_policy_lets_through(made: Case) -> None:
    told = declared(made)
    agree(made, evaluator(told), told)


@pytest.mark.parametrize("name", CASES)
def test_so_it_does_without_a_way_out(name: str) -> None:
    told = declared(CASES[name])
    agree(CASES[name], evaluator(told), told)


@pytest.mark.parametrize(
    ("mutation", "noticed"),
    [("swap", "SSH or ingress"), ("widen", "anybody"), ("drop-ipv6", "no IPv6"), ("priority", "all dropped")],
)
def test_the_oracle_notices_a_filter_that_says_something_else(mutation: str, noticed: str) -> None:
    told = mutated(declared(CASES["local"]), FILTER, MUTATIONS[mutation])
    found = differences(CASES["local"], evaluator(told), told)
    assert found, noticed
    expected = {"swap": "refuses", "widen": "lets through", "drop-ipv6": "IPv6", "priority": "refuses"}[mutation]
    assert all(expected in str(each) for each in found), "\n".join(map(str, found))


def _each(change: Callable[[Props], Props | None]) -> Callable[[Props], Props]:
    def every(inputs: Props) -> Props:
        changed = [change(rule) for rule in inputs["rules"]]
        return {**inputs, "rules": [rule for rule in changed if rule is not None]}

    return every


def _swapped(rule: Props) -> Props:
    other: dict[str, Any] = {key: value for key, value in rule.items() if key not in ("source", "destination")}
    return {**other, **({"destination": rule["source"]} if "source" in rule else {})}


MUTATIONS: dict[str, Callable[[Props], Props]] = {
    "swap": _each(lambda rule: rule),
    "widen": _each(lambda rule: widened(rule) if rule.get("ports") == "22" else rule),
    "drop-ipv6": _each(lambda rule: None if rule["family"] == "ipv6" else rule),
    "priority": _each(lambda rule: {**rule, "priority": 1} if rule["action"] == "drop" else rule),
}
