"""The machine's own firewall does what the policy says: its text is evaluated here, packet by packet."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.nft import Packet, verdict
from vre.machine.nftables import QUEUE, Site, ruleset
from vre.policy import (
    ANYWHERE,
    METADATA,
    Doors,
    Network,
    Outlet,
    Peer,
    Policy,
    Protocol,
    Role,
    Sender,
    decide,
    leaves,
    one,
    reaches,
)


def nets(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


CONTROL, CONTROL6, WORKER = "192.168.77.10", "fd76::10", "192.168.77.20"
SITE = Site(addresses=(CONTROL, CONTROL6))
DOORS = Doors(
    operators=nets("203.0.113.0/24", "2001:db8:1::/64"),
    edge=nets("198.51.100.0/24", "2001:db8:2::/64"),
    nodes=nets(CONTROL, CONTROL6, WORKER),
    roles=frozenset(Role),
    resolver=nets("192.168.77.1"),
    time=nets("192.0.2.123"),
    named=nets("192.0.2.0/28"),
    sftp=nets("203.0.113.128/25"),
)
POLICY = decide(DOORS)
ORIGINS = (
    "203.0.113.5",
    "203.0.113.200",
    "198.51.100.7",
    WORKER,
    "8.8.8.8",
    "2001:db8:1::5",
    "2001:db8:2::5",
    "2a00::1",
)
PORTS = (1, 22, 44, 53, 80, 111, 443, 2379, 4194, 6443, 8443, 10249, 10250, 30080, 51820, 51821, 51822, 65535)


def incoming(source: str, port: int, protocol: str = "tcp") -> Packet:
    own = CONTROL6 if ":" in source else CONTROL
    return Packet(chain="input", source=source, destination=own, protocol=protocol, port=port, into="enp1s0")


def mapped(source: str, asked: int, became: int, *, destination: str = "", into: str = "enp1s0") -> Packet:
    own = destination or (CONTROL6 if ":" in source else CONTROL)
    return Packet(
        chain="forward", source=source, destination="10.244.0.7", protocol="tcp", port=became, into=into,
        out="cni0", asked=(own, asked),
    )  # fmt: skip


@pytest.mark.requirement("P-16", "P-17", "P-41", "P-46")
@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("protocol", list(Protocol))
def test_what_comes_in_is_what_the_policy_lets_in(role: Role, protocol: Protocol) -> None:
    text = ruleset(POLICY, role, SITE)
    for source, port in itertools.product(ORIGINS, PORTS):
        forwarded = [rule for rule in POLICY.into(role) if rule.forwarded and port in rule.ports]
        expected = reaches(POLICY, ip_address(source), role, protocol, port)
        answered = verdict(text, incoming(source, port, protocol.value))
        passed = verdict(text, mapped(source, port, 8443)) if forwarded and protocol == "tcp" else False
        assert (answered or passed) == expected, (source, port)
        if forwarded:
            assert not (answered and ":" not in source), "a port mapped to a pod is not answered by the machine itself"
            assert not (passed and ":" in source), "pods have IPv4 only"


@pytest.mark.requirement("P-17")
@settings(max_examples=60, deadline=None)
@given(port=st.integers(1, 65535), source=st.ip_addresses(), protocol=st.sampled_from(list(Protocol)))
def test_nobody_unnamed_comes_in_anywhere(port: int, source: object, protocol: Protocol) -> None:
    text = ruleset(POLICY, Role.CONTROL, SITE)
    address = ip_address(str(source))
    expected = reaches(POLICY, address, Role.CONTROL, protocol, port)
    got = verdict(text, incoming(str(address), port, protocol.value))
    if protocol == Protocol.TCP:
        got = got or verdict(text, mapped(str(address), port, 8443))
    assert got == expected


@pytest.mark.parametrize(("asked", "became"), [(30080, 8443), (8443, 8443), (8080, 80), (22, 443)])
def test_ports_opened_inside_the_cluster_stay_closed_outside(asked: int, became: int) -> None:
    assert not verdict(ruleset(POLICY, Role.CONTROL, SITE), mapped("198.51.100.7", asked, became))


def test_a_service_s_own_address_is_closed_outside() -> None:
    text = ruleset(POLICY, Role.CONTROL, SITE)
    assert verdict(text, mapped("198.51.100.7", 443, 8443))
    assert not verdict(text, mapped("198.51.100.7", 443, 8443, destination="10.96.0.50"))


def test_a_pod_s_address_is_closed_outside() -> None:
    direct = Packet(
        chain="forward",
        source="198.51.100.7",
        destination="10.244.0.7",
        protocol="tcp",
        port=443,
        into="enp1s0",
        out="cni0",
    )
    assert not verdict(ruleset(POLICY, Role.CONTROL, SITE), direct)


@pytest.mark.requirement("C-16", "H-35")
@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("sender", [Sender.MACHINE, Sender.PACKAGES])
def test_what_goes_out_is_what_the_policy_lets_out(role: Role, sender: Sender) -> None:
    text = ruleset(POLICY, role, SITE)
    user = "_apt" if sender == Sender.PACKAGES else "root"
    targets = ("192.168.77.1", "192.0.2.123", "192.0.2.5", WORKER, "8.8.8.8", "2a00::1")
    for target, port, protocol in itertools.product(targets, PORTS, Protocol):
        packet = Packet(
            chain="output",
            source=CONTROL,
            destination=target,
            protocol=protocol.value,
            port=port,
            out="enp1s0",
            user=user,
        )
        # Whoever is on the machine may use what is open to the whole machine.
        senders = {Sender.MACHINE, sender}
        expected = any(leaves(POLICY, role, ip_address(target), protocol, port, sender=each) for each in senders)
        assert verdict(text, packet) == expected, (target, port, protocol)


def leaving(destination: str, port: int = 443) -> Packet:
    return Packet(
        chain="forward",
        source="10.244.0.7",
        destination=destination,
        protocol="tcp",
        port=port,
        into="cni0",
        out="enp1s0",
    )


@pytest.mark.requirement("O-01", "P-84")
def test_pods_reach_nothing_outside() -> None:
    text = ruleset(POLICY, Role.CONTROL, SITE)
    for target in ("8.8.8.8", "192.168.77.1", "192.0.2.5", WORKER, "192.0.2.123"):
        assert not verdict(text, leaving(target))
    neighbour = replace(leaving("10.244.1.9", 8888), out="flannel-wg")
    assert verdict(text, neighbour)


def test_pods_reach_what_is_opened_for_them_but_never_the_metadata_service() -> None:
    open_policy = decide(
        Doors(
            operators=DOORS.operators,
            edge=DOORS.edge,
            nodes=DOORS.nodes,
            pods=ANYWHERE,
            roles=frozenset({Role.CONTROL}),
        )
    )
    text = ruleset(open_policy, Role.CONTROL, SITE)
    assert verdict(text, leaving("8.8.8.8"))
    for address in METADATA:
        assert not verdict(text, leaving(str(address), 80))


def test_pods_reach_of_their_machine_the_api_alone() -> None:
    text = ruleset(POLICY, Role.CONTROL, SITE)
    allowed = {
        port
        for port in PORTS
        if verdict(text, Packet(
            chain="input", source="10.244.0.7", destination=CONTROL, protocol="tcp", port=port, into="cni0"
        ))
    }  # fmt: skip
    assert allowed == {6443}


POD = Packet(chain="forward", source="10.244.0.7", destination="10.244.1.8", protocol="tcp", port=8081, into="cni0")


@pytest.mark.parametrize(
    ("role", "packet"),
    [
        (Role.CONTROL, replace(POD, chain="input", destination=CONTROL, port=6443)),
        (Role.CONTROL, replace(POD, out="cni0", destination="10.244.0.8")),
        (Role.WORKER, replace(POD, out="flannel-wg")),
        (Role.WORKER, replace(POD, out="enp1s0", destination=CONTROL, port=6443)),
        (Role.CONTROL, replace(POD, out="enp1s0", destination="192.168.77.1", protocol="udp", port=53)),
    ],
)
def test_network_policies_are_asked_about_whatever_a_pod_begins(role: Role, packet: Packet) -> None:
    text = ruleset(overlapping(), role, SITE)
    assert verdict(text, packet)
    assert not verdict(text, packet, asked=False), "not before somebody answers"
    assert verdict(text, replace(packet, state="established"), asked=False)
    assert "bypass" not in text, "nobody to ask means no"


def test_pods_of_a_worker_reach_the_api_of_the_control_plane_and_nothing_else_of_it() -> None:
    text = ruleset(POLICY, Role.WORKER, Site(addresses=(WORKER,)))
    assert verdict(text, leaving(CONTROL, 6443))
    assert not verdict(text, leaving(CONTROL, 22))
    assert not verdict(text, leaving("8.8.8.8", 6443))


def test_a_pod_s_address_from_outside_is_no_pod() -> None:
    assert not verdict(ruleset(POLICY, Role.CONTROL, SITE), incoming("10.244.0.7", 6443))


@pytest.mark.parametrize("role", [Role.CONTROL, Role.WORKER, Role.STORAGE])
def test_answers_come_back_and_the_loopback_is_free(role: Role) -> None:
    text = ruleset(POLICY, role, SITE)
    answer = Packet(
        chain="input",
        source="8.8.8.8",
        destination=CONTROL,
        protocol="tcp",
        port=40000,
        into="enp1s0",
        state="established",
    )
    own = Packet(chain="input", source="127.0.0.1", destination="127.0.0.1", protocol="tcp", port=2379, into="lo")
    assert verdict(text, answer)
    assert verdict(text, own)


@pytest.mark.parametrize(("dhcp", "passes"), [(True, True), (False, False)])
def test_addresses_by_dhcp_pass_only_where_there_is_dhcp(dhcp: bool, passes: bool) -> None:
    text = ruleset(POLICY, Role.WORKER, replace(SITE, dhcp=dhcp))
    ask = Packet(
        chain="output", source=WORKER, destination="192.168.77.1", protocol="udp", port=67, from_port=68, out="eth0"
    )
    ask6 = replace(ask, source="fe80::20", destination="ff02::1:2", port=547, from_port=546)
    told6 = Packet(
        chain="input", source="fe80::1", destination="fe80::20", protocol="udp", port=546, from_port=547, into="eth0"
    )
    assert [verdict(text, packet) for packet in (ask, ask6, told6)] == [passes] * 3
    assert not verdict(text, replace(told6, source="2a00::1"))
    assert not verdict(text, replace(ask, from_port=40000))


def test_a_storage_machine_forwards_nothing() -> None:
    text = ruleset(POLICY, Role.STORAGE, SITE)
    assert not verdict(text, leaving("10.244.1.1"))
    assert not verdict(text, mapped("198.51.100.7", 443, 8443))


def overlapping() -> Policy:
    doors = Doors(
        operators=nets("10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/16", "2001:db8::/32", "2001:db8:1::/48"),
        edge=ANYWHERE, nodes=nets(CONTROL), pods=nets("192.0.2.0/24"), sftp=nets("203.0.113.0/24"),
        roles=frozenset(Role), time=nets("192.0.2.1"), resolver=nets("192.168.77.1", "fd76::1"),
    )  # fmt: skip
    policy = decide(doors)
    named = Outlet(
        role=Role.CONTROL,
        destination=Peer.RESOLVER,
        protocol=Protocol.UDP,
        ports=one(53),
        why='"quoted"',
        sender=Sender.PODS,
    )
    return Policy(inbound=policy.inbound, outbound=(*policy.outbound, named), networks=policy.networks)


needs_nft = pytest.mark.skipif(
    shutil.which("nft") is None or os.geteuid() != 0, reason="needs nft and root, in a network namespace of its own"
)


@needs_nft
@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("policy", [POLICY, overlapping()], ids=["usual", "overlapping"])
def test_nft_takes_the_rules_twice(policy: Policy, role: Role) -> None:
    # The package manager's user is Debian's own, and not every kernel has queues: elsewhere others will do.
    text = ruleset(policy, role, SITE).replace("skuid _apt", "skuid 42").replace(f"queue num {QUEUE}", "accept")
    done = run_nft(text)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("policy drop") == 3


def run_nft(text: str) -> "subprocess.CompletedProcess[str]":
    command: Sequence[str] = (
        *("unshare", "--net", "sh", "-c"),
        'printf %s "$1" | nft -f - && printf %s "$1" | nft -f - && nft list ruleset',
        *("sh", text),
    )
    return subprocess.run(command, capture_output=True, text=True, check=False)
