"""The oracle itself: port sets, its policy against the policy's own words, its peers, and that it notices."""

from ipaddress import ip_address
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import ports
from tests.oracle.compare import IN, OTHER, OUT, Flow, allowed, assert_agree, differences
from tests.oracle.configs import Case, case, cases
from tests.oracle.declared import declared
from tests.oracle.mutate import mutated, setting, swapped, widened, without_ipv6
from tests.oracle.peers import Peer, mentioned, peers
from tests.oracle.told import Resource
from vre.policy import Protocol, Sender, leaves, reaches

CLOUD = {"provider": "libvirt"}
LOCAL = case({"cloud": CLOUD, "machines": {"workers": {"count": 1}}}, sftp=("198.51.100.0/25",))
INTERESTING = st.one_of(
    st.sampled_from([1, 21, 22, 23, 44, 53, 80, 123, 443, 6443, 10250, 51819, 51820, 51821, 51822, 65535]),
    st.integers(1, 65535),
)
RANGES = st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(sorted)


@given(chosen=st.lists(RANGES, max_size=6))
def test_a_port_set_holds_exactly_its_ranges(chosen: list[list[int]]) -> None:
    made, plain = ports.NONE, set()
    for first, last in chosen:
        made |= ports.span(first, last)
        plain |= set(range(first, last + 1))
    assert {port for first, last in ports.ranges(made) for port in range(first, last + 1)} == plain
    shown = list(ports.ranges(made))
    assert all(one[1] + 1 < other[0] for one, other in pairwise(shown)), "ranges that touch"


def test_a_port_set_is_shown_as_a_person_writes_it() -> None:
    assert ports.shown(ports.one(22) | ports.span(80, 443) | ports.one(65535)) == "22, 80-443, 65535"
    assert ports.shown(ports.NONE) == "none"
    assert ports.shown(ports.ALL) == "0-65535"
    for wrong in ((-1, 5), (5, 4), (0, 65536)):
        with pytest.raises(ValueError, match="no such ports"):
            ports.span(*wrong)


@given(made=cases(CLOUD), protocol=st.sampled_from(Protocol), port=INTERESTING, data=st.data())
@settings(max_examples=100)
def test_the_oracle_and_the_policy_say_the_same(made: Case, protocol: Protocol, port: int, data: st.DataObject) -> None:
    peer = data.draw(st.sampled_from(peers(made.policy, made.plan)))
    machine = data.draw(st.sampled_from(made.plan.machines))
    into, out = (
        bool(allowed(made.policy, Flow(direction=way, peer=peer, machine=machine, protocol=protocol)) >> port & 1)
        for way in (IN, OUT)
    )
    assert into == reaches(made.policy, peer.address, machine.role, protocol, port)
    assert out == any(
        leaves(made.policy, machine.role, peer.address, protocol, port, sender=sender) for sender in Sender
    )


def test_nothing_but_tcp_and_udp_is_let_through() -> None:
    machine = LOCAL.plan.control
    for peer in peers(LOCAL.policy, LOCAL.plan):
        for way in (IN, OUT):
            assert allowed(LOCAL.policy, Flow(direction=way, peer=peer, machine=machine, protocol=OTHER)) == ports.NONE


def test_what_is_opened_for_pods_does_not_lead_to_the_metadata_service() -> None:
    opened = {"jupyter": {"admin": "researcher", "egress": ["169.254.169.0/24"]}}
    made = case({"cloud": CLOUD, "services": opened})
    said = {
        str(address): allowed(
            made.policy,
            Flow(
                direction=OUT,
                peer=Peer(address=ip_address(address), what="link-local"),
                machine=made.plan.control,
                protocol="udp",
            ),
        )
        for address in ("169.254.169.253", "169.254.169.254")
    }
    assert said == {"169.254.169.253": ports.span(1, 65535), "169.254.169.254": ports.NONE}


def test_peers_are_the_edges_of_every_network_and_what_lies_beside_them() -> None:
    found = {str(each.address): each.what for each in peers(LOCAL.policy, LOCAL.plan)}
    assert found["192.168.77.10"] == "oracle-control"
    assert found["fd76:7265:77::14"] == "oracle-worker-1"
    assert (found["203.0.113.0"], found["203.0.113.255"]) == ("of operators", "of operators")
    assert found["203.0.112.255"] == found["203.0.114.0"] == "just outside 203.0.113.0/24"
    assert (found["198.51.100.127"], found["198.51.100.128"]) == ("of sftp", "just outside 198.51.100.0/25")
    assert "outsider" in found.values()
    told = [Resource(type="a:b:C", name="c", id="1", inputs={"rules": [{"from": ["9.9.9.0/24", "no/24"]}]})]
    assert [str(each) for each in mentioned(told)] == ["9.9.9.0/24"]
    assert "9.9.9.0" in {str(each.address) for each in peers(LOCAL.policy, LOCAL.plan, told)}


def test_an_evaluator_that_says_what_the_policy_says_agrees() -> None:
    assert_agree(LOCAL, lambda flow: allowed(LOCAL.policy, flow))


@pytest.mark.parametrize("protocol", ["tcp", "udp", OTHER])
@pytest.mark.parametrize("way", [IN, OUT])
def test_one_port_too_many_or_too_few_is_noticed_in_words(way: str, protocol: str) -> None:
    port = 0 if protocol == OTHER else 8080

    def wrong(flow: Flow) -> int:
        here = flow.direction == way and flow.protocol == protocol and flow.peer.what == "outsider"
        changed = ports.one(port) if here and flow.machine == LOCAL.plan.control else ports.NONE
        return allowed(LOCAL.policy, flow) ^ changed

    found = list(map(str, differences(LOCAL, wrong)))
    assert len(found) == 2, found
    for each, version in zip(found, (4, 6), strict=True):
        assert each.startswith(f"{way} {'from' if way == IN else 'to'} ")
        assert f"IPv{version}, oracle-control (control), {protocol}: the cloud lets through {port}" in each
        assert "(outsider)" in each
    with pytest.raises(AssertionError, match="lets through"):
        assert_agree(LOCAL, wrong)


def test_a_port_that_the_cloud_refuses_is_named() -> None:
    def wrong(flow: Flow) -> int:
        return allowed(LOCAL.policy, flow) & ~ports.one(443)

    said = "\n".join(map(str, differences(LOCAL, wrong)))
    assert "in from 203.0.113.0 (of operators)" in said
    assert "tcp: the cloud refuses 443; the policy lets through 22, 80, 443" in said


def test_declared_is_what_a_module_tells_its_cloud() -> None:
    told = declared(LOCAL, lambda kind, name, inputs: (f"{name}-1", {"path": "/p"} if "Volume" in kind else {}))
    kinds = [each.type for each in told]
    assert kinds.count("vre:libvirt:Filter") == kinds.count("vre:libvirt:Domain") == 2
    domain = next(each for each in told if each.type == "vre:libvirt:Domain")
    assert domain.inputs["disks"][0]["volume"] == "/p"
    assert isinstance(domain.inputs["cpus"], int)


def test_mutations_change_what_they_say_and_nothing_else() -> None:
    rule = {"from": "10.0.0.0/8", "to": "2001:db8::/32", "priority": 7, "why": "a/b"}
    told = [Resource(type="a:b:Rule", name="one", id="1", inputs=rule), Resource(type="x", name="x", id="2", inputs={})]
    assert mutated(told, "a:b:Rule", swapped("from", "to"))[0].inputs["from"] == "2001:db8::/32"
    assert widened(rule) == {**rule, "from": "0.0.0.0/0", "to": "::/0"}
    assert mutated(told, "a:b:Rule", setting(priority=1))[0].inputs == {**rule, "priority": 1}
    assert without_ipv6({"ranges": ["10.0.0.0/8", "::/0"]}) == {"ranges": ["10.0.0.0/8"]}
    assert [each.name for each in mutated(told, "a:b:Rule", without_ipv6)] == ["x"]
    with pytest.raises(AssertionError, match="was changed"):
        mutated(told, "a:b:Other", widened)


def test_doors_that_are_no_fields_yet_are_switched_on_in_a_case() -> None:
    rented = case(
        {
            "cloud": {"provider": "libvirt"},
            "edge": {"provider": "direct", "domain": "example.org", "networks": ["2001:db8::/32"]},
            "outbound": {"time": ["192.0.2.53/32"]},
        },
        vpn=("192.0.2.0/24",),
    )
    peer = Peer(address=ip_address("192.0.2.9"), what="a client of the VPN")
    flow = Flow(direction=IN, peer=peer, machine=rented.plan.control, protocol="udp")
    assert ports.shown(allowed(rented.policy, flow)) == "51822"
