"""The hypervisor's filter says exactly what the policy says: every peer, both families, every port, in and out."""

from collections.abc import Callable, Sequence
from ipaddress import ip_address

import pytest
from hypothesis import given, settings

from tests.oracle import ports
from tests.oracle.compare import IN, OTHER, Evaluator, Flow, assert_agree, differences
from tests.oracle.configs import Case, case, cases, data
from tests.oracle.declared import declared
from tests.oracle.mutate import mutated, swapped, widened
from tests.oracle.peers import within
from tests.oracle.told import Props, Resource

FILTER = "vre:libvirt:Filter"
CLOUD = {"provider": "libvirt"}
CASES = {
    "local": case({"cloud": CLOUD}),
    "isolated": case({"cloud": {**CLOUD, "mode": "isolated"}, "data": data("sensitive")}),
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
    peer = flow.peer.address
    own = ip_address(flow.machine.ipv4 if peer.version == 4 else flow.machine.ipv6)
    source, destination = (peer, own) if flow.direction == IN else (own, peer)
    if (
        rule.get("established")  # of what begins, none is
        or rule["direction"] != flow.direction
        or rule["family"] not in ("any", f"ipv{peer.version}")
        or rule["protocol"] not in ("all", flow.protocol)
        or ("source" in rule and not within(source, rule["source"]))
        or ("destination" in rule and not within(destination, rule["destination"]))
    ):
        return ports.NONE
    if "ports" not in rule:
        return ports.ALL
    first, _, last = str(rule["ports"]).partition("-")
    return ports.span(int(first), int(last or first))


@pytest.mark.requirement("P-16", "P-17", "C-16", "H-35")
@given(made=cases(CLOUD))
@settings(max_examples=25)
def test_the_filter_lets_through_what_the_policy_lets_through(made: Case) -> None:
    told = declared(made)
    assert_agree(made, evaluator(told), told)


@pytest.mark.parametrize("name", CASES)
def test_so_it_does_without_a_way_out(name: str) -> None:
    told = declared(CASES[name])
    assert_agree(CASES[name], evaluator(told), told)


@pytest.mark.parametrize(
    ("mutation", "said"),
    [
        ("swap", "(control), tcp: the cloud lets through 6443, 10250; the cloud refuses 22, 80, 443;"),
        ("widen", "tcp: the cloud lets through 22;"),
        ("drop-ipv6", "IPv6, oracle-control (control), tcp: the cloud refuses 22, 80, 443;"),
        ("priority", "udp: the cloud refuses 53;"),
    ],
)
def test_the_oracle_notices_a_filter_that_says_something_else(mutation: str, said: str) -> None:
    told = mutated(declared(CASES["local"]), FILTER, MUTATIONS[mutation])
    found = "\n".join(map(str, differences(CASES["local"], evaluator(told), told)))
    assert said in found, found


def _each(change: Callable[[Props], Props | None]) -> Callable[[Props], Props]:
    def every(inputs: Props) -> Props:
        changed = [change(rule) for rule in inputs["rules"]]
        return {**inputs, "rules": [rule for rule in changed if rule is not None]}

    return every


MUTATIONS: dict[str, Callable[[Props], Props]] = {
    "swap": _each(swapped("source", "destination")),
    "widen": _each(lambda rule: widened(rule) if rule.get("ports") == "22" else rule),
    "drop-ipv6": _each(lambda rule: None if rule["family"] == "ipv6" else rule),
    "priority": _each(lambda rule: {**rule, "priority": 1} if rule["action"] == "drop" else rule),
}
