"""The hypervisor's filter says exactly what the policy says: every peer, both families, every port, in and out."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vre.clouds.libvirt import filter_rules, gateways
from vre.config import Config
from vre.plan import doors, plan
from vre.policy import Address, Policy, Protocol, Role, Sender, decide, leaves, reaches

OUTSIDERS = [ip_address(text) for text in ("198.51.100.7", "192.168.77.200", "2001:db8::7", "fd76:7265:77::200")]


def told(rules: list[dict[str, object]], direction: str, peer: Address, protocol: Protocol, port: int) -> bool:
    """Evaluate the rules as libvirt does: by priority, first match decides (libvirt.org/formatnwfilter.html)."""
    side = "source" if direction == "in" else "destination"
    for rule in sorted(rules, key=lambda each: int(str(each["priority"]))):
        family = rule["family"] in {"any", f"ipv{peer.version}"}
        kind = rule["protocol"] in {"all", str(protocol)}
        network = str(rule.get(side, "")) or ("0.0.0.0/0" if peer.version == 4 else "::/0")
        first, _, last = str(rule.get("ports", "1-65535")).partition("-")
        inside = int(first) <= port <= int(last or first)
        if rule["direction"] == direction and family and kind and inside and _within(peer, network):
            return rule["action"] == "accept"
    return True


def _within(peer: Address, network: str) -> bool:
    wide = ip_network(network)
    return wide.version == peer.version and peer in wide


def decided(**more: object) -> tuple[Config, Policy]:
    config = Config.model_validate(
        {
            "cloud": {"provider": "libvirt"},
            "access": {"keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL a"]},
            **more,
        }
    )
    return config, decide(doors(config, plan(config), gateways=gateways(config)))


CONFIGS = [
    decided(),
    decided(machines={"workers": {"count": 2}}),
    decided(edge={"provider": "direct", "networks": ["198.51.100.0/24", "2001:db8::/64"]}),
    decided(outbound={"mirrors": ["203.0.113.80/32"], "networks": ["203.0.113.0/28"], "time": ["203.0.113.123/32"]}),
    decided(cloud={"provider": "libvirt", "mode": "isolated"}, data={"class": "sensitive"}),
]


@pytest.mark.requirement("P-16", "P-17", "H-35")
@given(
    stack=st.sampled_from(CONFIGS),
    protocol=st.sampled_from(Protocol),
    port=st.one_of(st.sampled_from([1, 22, 44, 53, 80, 123, 443, 6443, 10250, 51820, 65535]), st.integers(1, 65535)),
    outsider=st.sampled_from(OUTSIDERS),
)
def test_the_filter_lets_in_what_the_policy_lets_in(
    stack: tuple[Config, Policy], protocol: Protocol, port: int, outsider: Address
) -> None:
    config, policy = stack
    for machine in plan(config).machines:
        rules = filter_rules(policy, machine)
        for peer in [*_peers(policy), outsider]:
            assert told(rules, "in", peer, protocol, port) == reaches(policy, peer, machine.role, protocol, port)


@pytest.mark.requirement("C-16", "H-35")
@given(
    stack=st.sampled_from(CONFIGS),
    protocol=st.sampled_from(Protocol),
    port=st.one_of(st.sampled_from([1, 22, 53, 80, 123, 443, 6443, 10250, 51820, 65535]), st.integers(1, 65535)),
    outsider=st.sampled_from(OUTSIDERS),
)
def test_the_filter_lets_out_what_any_sender_of_the_machine_may(
    stack: tuple[Config, Policy], protocol: Protocol, port: int, outsider: Address
) -> None:
    config, policy = stack
    for machine in plan(config).machines:
        rules = filter_rules(policy, machine)
        for peer in [*_peers(policy), outsider]:
            allowed = any(leaves(policy, machine.role, peer, protocol, port, sender=sender) for sender in Sender)
            assert told(rules, "out", peer, protocol, port) == allowed


@pytest.mark.parametrize("mutation", ["swap", "widen", "drop-ipv6", "priority"])
def test_the_oracle_notices_a_filter_that_says_something_else(mutation: str) -> None:
    config, policy = CONFIGS[0]
    machine = plan(config).control
    rules = [_mutated(rule, mutation) for rule in filter_rules(policy, machine)]
    kept = [rule for rule in rules if rule]
    peers = [*_peers(policy), *OUTSIDERS]
    wrong = [
        (peer, port)
        for peer in peers
        for port in (22, 80, 443, 6443, 8080)
        if told(kept, "in", peer, Protocol.TCP, port) != reaches(policy, peer, Role.CONTROL, Protocol.TCP, port)
    ]
    assert wrong


def _mutated(rule: dict[str, object], mutation: str) -> dict[str, object]:
    match mutation:
        case "swap" if "source" in rule:
            return {key: value for key, value in rule.items() if key != "source"} | {"destination": rule["source"]}
        case "widen" if rule.get("ports") == "22":
            return {**rule, "source": "0.0.0.0/0"} if rule["family"] == "ipv4" else rule
        case "drop-ipv6" if rule["family"] == "ipv6":
            return {}
        case "priority" if rule["action"] == "drop":
            return {**rule, "priority": 1}
    return rule


def _peers(policy: Policy) -> list[Address]:
    return [network[min(1, network.num_addresses - 1)] for peers in policy.networks.values() for network in peers]
