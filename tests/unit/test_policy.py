"""Who may reach what: the table itself, and that nothing it does not name gets through."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vre.policy import (
    ANYWHERE,
    METADATA,
    Address,
    Doors,
    Network,
    Peer,
    Policy,
    Ports,
    Protocol,
    Role,
    Rule,
    Sender,
    decide,
    leaves,
    reaches,
)

OPERATORS = (ip_network("203.0.113.0/24"), ip_network("2001:db8:1::/48"))
EDGE = (ip_network("198.51.100.0/24"),)
NODES = (ip_network("192.168.77.10/32"), ip_network("fd76::10/128"))
STRANGER = ip_address("192.0.2.1")
EVERY_ROLE = frozenset(Role)


def doors(**changes: Any) -> Doors:
    usual: dict[str, Any] = {"operators": OPERATORS, "edge": EDGE, "nodes": NODES, "roles": EVERY_ROLE}
    return Doors(**{**usual, **changes})


def open_ports(policy: Policy, source: str, role: Role, protocol: Protocol) -> list[int]:
    return [port for port in range(1, 65536) if reaches(policy, ip_address(source), role, protocol, port)]


@pytest.mark.requirement("P-16", "P-17", "P-46")
@pytest.mark.parametrize(
    ("source", "role", "protocol", "ports"),
    [
        ("203.0.113.9", Role.CONTROL, Protocol.TCP, [22]),
        ("2001:db8:1::9", Role.CONTROL, Protocol.TCP, [22]),
        ("198.51.100.9", Role.CONTROL, Protocol.TCP, [80, 443]),
        ("198.51.100.9", Role.WORKER, Protocol.TCP, []),
        ("192.168.77.10", Role.CONTROL, Protocol.TCP, [6443, 10250]),
        ("fd76::10", Role.WORKER, Protocol.TCP, [10250]),
        ("192.168.77.10", Role.WORKER, Protocol.UDP, [51820, 51821]),
        ("192.0.2.1", Role.CONTROL, Protocol.TCP, []),
        ("192.0.2.1", Role.CONTROL, Protocol.UDP, []),
        ("2001:db8:2::1", Role.CONTROL, Protocol.TCP, []),
        ("203.0.113.9", Role.CONTROL, Protocol.UDP, []),
    ],
)
def test_each_of_65535_ports(source: str, role: Role, protocol: Protocol, ports: list[int]) -> None:
    assert open_ports(decide(doors()), source, role, protocol) == ports


@pytest.mark.requirement("P-41")
def test_storage_answers_ssh_only() -> None:
    policy = decide(doors())
    every = {rule.ports.first for rule in policy.into(Role.STORAGE)} | {
        rule.ports.last for rule in policy.into(Role.STORAGE)
    }
    assert every == {22}


@pytest.mark.requirement("P-16", "P-102")
def test_the_sftp_door_is_there_only_while_it_is_switched_on() -> None:
    named = ip_network("192.0.2.0/28")
    assert open_ports(decide(doors()), "192.0.2.1", Role.CONTROL, Protocol.TCP) == []
    assert open_ports(decide(doors(sftp=(named,))), "192.0.2.1", Role.CONTROL, Protocol.TCP) == [44]


def out_ports(policy: Policy, to: str, protocol: Protocol) -> list[int]:
    address = ip_address(to)
    return [port for port in range(1, 65536) if leaves(policy, Role.WORKER, address, protocol, port)]


@pytest.mark.requirement("P-92")
def test_the_vpn_is_one_udp_port_only_while_it_is_switched_on() -> None:
    named = ip_network("192.0.2.0/28")
    assert open_ports(decide(doors()), "192.0.2.1", Role.CONTROL, Protocol.UDP) == []
    switched = decide(doors(vpn=(named,)))
    assert open_ports(switched, "192.0.2.1", Role.CONTROL, Protocol.UDP) == [51822]
    assert open_ports(switched, "192.0.2.1", Role.WORKER, Protocol.UDP) == []
    assert open_ports(switched, "192.0.2.1", Role.CONTROL, Protocol.TCP) == []


@pytest.mark.requirement("C-16")
@pytest.mark.parametrize(("door", "port"), [("registry", 443), ("metadata", 80)])
def test_an_outbound_door_is_there_only_while_it_is_switched_on(door: str, port: int) -> None:
    closed = doors(mirrors=())
    assert out_ports(decide(closed), "192.0.2.1", Protocol.TCP) == []
    switched = decide(doors(mirrors=(), **{door: (ip_network("192.0.2.1/32"),)}))
    assert out_ports(switched, "192.0.2.1", Protocol.TCP) == [port]
    assert out_ports(switched, "192.0.2.1", Protocol.UDP) == []
    assert out_ports(switched, "192.0.2.2", Protocol.TCP) == []


addresses = st.ip_addresses()
networks_ = st.one_of(
    st.builds(lambda a, p: ip_network((int(a), p), strict=False), st.ip_addresses(v=4), st.integers(1, 32)),
    st.builds(lambda a, p: ip_network((int(a), p), strict=False) if int(a) > 2**32 else ip_network("fd00::/64"),
              st.ip_addresses(v=6), st.integers(1, 128)),
)  # fmt: skip
groups = st.lists(networks_, max_size=3).map(tuple)
any_doors = st.builds(
    Doors,
    operators=groups,
    edge=groups,
    nodes=groups,
    roles=st.frozensets(st.sampled_from(list(Role)), min_size=1),
    resolver=groups,
    time=groups,
    mirrors=st.one_of(st.just(ANYWHERE), groups),
    named=groups,
    pods=groups,
    sftp=groups,
)


def inside(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


@pytest.mark.requirement("P-17")
@given(any_doors, addresses, st.sampled_from(list(Role)), st.sampled_from(list(Protocol)), st.integers(1, 65535))
def test_strangers_get_in_nowhere(asked: Doors, source: Address, role: Role, protocol: Protocol, port: int) -> None:
    known = (*asked.operators, *asked.edge, *asked.nodes, *asked.sftp)
    assert inside(source, known) or not reaches(decide(asked), source, role, protocol, port)


@given(any_doors, addresses, st.sampled_from(list(Role)), st.integers(1, 65535))
def test_the_api_is_for_nodes_only(asked: Doors, source: Address, role: Role, port: int) -> None:
    assert inside(source, asked.nodes) or not reaches(decide(asked), source, role, Protocol.TCP, 6443)


@given(any_doors, st.sampled_from(list(Role)), st.sampled_from(list(Protocol)), st.integers(1, 65535))
def test_pods_never_reach_where_clouds_answer_with_credentials(
    asked: Doors, role: Role, protocol: Protocol, port: int
) -> None:
    policy = decide(asked)
    assert not any(leaves(policy, role, address, protocol, port, sender=Sender.PODS) for address in METADATA)


@pytest.mark.requirement("C-16")
@given(any_doors, addresses, st.sampled_from(list(Role)), st.sampled_from(list(Protocol)), st.integers(1, 65535))
def test_only_what_is_named_is_let_out(asked: Doors, to: Address, role: Role, protocol: Protocol, port: int) -> None:
    policy = decide(asked)
    named = (*asked.resolver, *asked.time, *asked.nodes, *asked.named)
    assert inside(to, named) or not leaves(policy, role, to, protocol, port)
    assert inside(to, asked.pods) or not leaves(policy, role, to, protocol, port, sender=Sender.PODS)


def test_open_mirrors_are_a_way_out_for_the_package_manager_only() -> None:
    policy = decide(doors())
    way = (policy, Role.CONTROL, STRANGER, Protocol.TCP, 443)
    assert leaves(*way, sender=Sender.PACKAGES)
    assert not leaves(*way, sender=Sender.MACHINE)
    assert not leaves(*way, sender=Sender.PODS)


def test_a_peer_without_an_address_lets_nobody_in() -> None:
    policy = decide(doors(operators=(), edge=(), nodes=()))
    assert not any(reaches(policy, STRANGER, role, Protocol.TCP, port) for role in Role for port in range(1, 65536))


@given(any_doors)
def test_every_rule_says_why_and_has_a_peer(asked: Doors) -> None:
    policy = decide(asked)
    assert all([rule.why for rule in policy.inbound] + [outlet.why for outlet in policy.outbound])
    assert {rule.origin for rule in policy.inbound} <= {Peer.OPERATORS, Peer.EDGE, Peer.NODES, Peer.SFTP}
    assert {rule.role for rule in policy.inbound} == asked.roles


@given(any_doors)
def test_the_same_doors_give_the_same_policy(asked: Doors) -> None:
    assert decide(asked) == decide(asked)


@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 1), (1, 65536), (-1, -1)])
def test_impossible_ports_are_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="no such ports"):
        Ports(first=first, last=last)


def test_families_are_kept_apart() -> None:
    policy = decide(doors(operators=(ip_network("0.0.0.0/0"),)))
    assert reaches(policy, IPv4Address("1.2.3.4"), Role.CONTROL, Protocol.TCP, 22)
    assert not reaches(policy, IPv6Address("::ffff:1.2.3.4"), Role.CONTROL, Protocol.TCP, 22)


def test_more_rules_can_be_added() -> None:
    extra = Rule(origin=Peer.EDGE, role=Role.CONTROL, protocol=Protocol.UDP, ports=Ports(first=7, last=9), why="a test")
    policy = decide(doors(extra=(extra,)))
    assert open_ports(policy, "198.51.100.1", Role.CONTROL, Protocol.UDP) == [7, 8, 9]
