"""What will stand: names and addresses that stay, doors that follow from the stack file."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle.configs import data
from vre.config import Config
from vre.conflicts import conflicts
from vre.plan import Surroundings, doors, plan
from vre.policy import ANYWHERE, Protocol, Role, decide, leaves, reaches

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL alice"
GATEWAYS = ("192.168.77.1/32", "fd76:7265:77::1/128")


def config(**more: object) -> Config:
    return Config.model_validate({"cloud": {"provider": "libvirt"}, "access": {"keys": [KEY]}, **more})


@given(count=st.integers(0, 100), fewer=st.integers(0, 100))
def test_adding_or_removing_workers_changes_no_other_machine(count: int, fewer: int) -> None:
    many = plan(config(machines={"workers": {"count": max(count, fewer)}})).machines
    few = plan(config(machines={"workers": {"count": min(count, fewer)}})).machines
    assert many[: len(few)] == few


@given(count=st.integers(0, 100))
def test_no_two_machines_share_a_name_or_an_address(count: int) -> None:
    machines = plan(config(machines={"workers": {"count": count}})).machines
    for field in ("name", "ipv4", "ipv6", "mac"):
        assert len({getattr(machine, field) for machine in machines}) == count + 1
    assert all(ip_address(machine.ipv4) in ip_network("192.168.77.0/24") for machine in machines)


def test_two_stacks_have_different_hardware_addresses() -> None:
    one, other = plan(config(name="one")).control, plan(config(name="other")).control
    assert one.mac != other.mac
    assert one.mac.startswith("52:54:00:")


def test_the_hypervisor_operates_and_resolves_names_by_default() -> None:
    stack = config()
    found = doors(stack, plan(stack), Surroundings(operators=GATEWAYS, resolvers=GATEWAYS))
    assert [str(network) for network in found.operators] == list(GATEWAYS)
    assert found.edge == found.operators
    assert found.resolver == found.operators


def test_networks_of_the_stack_file_replace_the_defaults() -> None:
    stack = config(
        access={"keys": [KEY], "operators": ["203.0.113.0/24"]},
        edge={"provider": "direct", "networks": ["198.51.100.0/24"]},
        outbound={"resolvers": ["203.0.113.53/32"]},
    )
    found = doors(stack, plan(stack), Surroundings(operators=GATEWAYS, resolvers=GATEWAYS))
    assert ip_network("203.0.113.0/24") in found.operators
    assert ip_network("203.0.113.0/24") not in found.edge
    assert ip_network("198.51.100.0/24") in found.edge
    assert found.resolver == (ip_network("203.0.113.53/32"),)


def test_an_operators_network_that_holds_the_hypervisor_is_not_named_twice() -> None:
    stack = config(access={"keys": [KEY], "operators": ["192.168.77.0/24"]})
    found = doors(stack, plan(stack), Surroundings(operators=GATEWAYS, resolvers=GATEWAYS))
    assert [str(network) for network in found.operators] == ["192.168.77.0/24", "fd76:7265:77::1/128"]


@pytest.mark.requirement("P-84", "C-16", "P-97")
@pytest.mark.parametrize(
    ("more", "mirrors"),
    [
        ({}, ANYWHERE),
        ({"data": data("sensitive")}, ()),
        ({"cloud": {"provider": "libvirt", "mode": "isolated"}}, ()),
        (
            {"data": data("sensitive"), "outbound": {"mirrors": ["203.0.113.80/32"]}},
            (ip_network("203.0.113.80/32"),),
        ),
    ],
)
def test_mirrors_are_as_open_as_the_data_allows(more: dict[str, object], mirrors: object) -> None:
    stack = config(**more)
    assert doors(stack, plan(stack), Surroundings(operators=GATEWAYS, resolvers=GATEWAYS)).mirrors == mirrors


def test_the_control_plane_comes_first_and_workers_have_their_role() -> None:
    stack = plan(config(machines={"workers": {"count": 2}}))
    assert stack.machines[0] == stack.control
    assert [machine.role for machine in stack.workers] == [Role.WORKER, Role.WORKER]


def test_more_workers_than_the_network_has_room_for_are_refused() -> None:
    small = config(cloud={"provider": "libvirt", "network": "192.168.77.0/26"}, machines={"workers": {"count": 50}})
    assert [finding.key for finding in conflicts(small)] == ["cloud.network"]
    assert conflicts(config(machines={"workers": {"count": 100}})) == []


@given(count=st.integers(1, 20), gone=st.integers(1, 20))
def test_any_worker_can_go_and_the_others_stay_as_they_are(count: int, gone: int) -> None:
    before = plan(config(machines={"workers": {"count": count}})).workers
    fewer = count - 1 if gone <= count else count
    after = plan(config(machines={"workers": {"count": fewer, "without": [gone]}})).workers
    assert after == tuple(worker for worker in before if not worker.name.endswith(f"-{gone}"))


def test_a_clouds_own_type_stands_for_the_numbers() -> None:
    stack = config(machines={"control": {"size": {"type": "m7i.large"}}})
    assert (plan(stack).control.native, plan(stack).control.cpus) == ("m7i.large", 0)
    assert [finding.key for finding in conflicts(stack)] == ["machines.control.size"]


@pytest.mark.parametrize("network", ["10.244.0.0/16", "10.96.128.0/17", "10.0.0.0/8"])
def test_a_network_that_the_cluster_needs_itself_is_refused(network: str) -> None:
    found = conflicts(config(cloud={"provider": "libvirt", "network": network}))
    assert {finding.key for finding in found} == {"cloud.network"}


AWS = {"provider": "aws", "region": "eu-west-1"}


def test_a_cloud_needs_a_name_for_the_vre_and_networks_of_operators() -> None:
    bare = Config.model_validate({"cloud": AWS, "access": {"keys": [KEY]}})
    assert [finding.key for finding in conflicts(bare)] == ["access.operators", "edge.domain"]
    named = {"provider": "cloudflare", "zone": "example.org"}
    whole = config(cloud=AWS, edge=named, access={"keys": [KEY], "operators": ["203.0.113.0/24"]})
    assert conflicts(whole) == []


@pytest.mark.requirement("P-16")
def test_where_only_the_control_planes_machine_is_public_operators_come_through_it() -> None:
    stack = config(machines={"workers": {"count": 1}})
    here = Surroundings(operators=GATEWAYS, bastion=True)
    policy = decide(doors(stack, plan(stack), here))
    worker, control = Role.WORKER, plan(stack).control
    operator, nodes = ip_address("192.168.77.1"), plan(stack).workers[0]
    assert not reaches(policy, operator, worker, Protocol.TCP, 22)
    assert reaches(policy, operator, Role.CONTROL, Protocol.TCP, 22)
    assert reaches(policy, ip_address(control.ipv4), worker, Protocol.TCP, 22)
    assert not reaches(policy, ip_address(nodes.ipv4), worker, Protocol.TCP, 22)
    assert leaves(policy, Role.CONTROL, ip_address(nodes.ipv4), Protocol.TCP, 22)
    assert not leaves(policy, worker, ip_address(control.ipv4), Protocol.TCP, 22)
