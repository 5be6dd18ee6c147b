"""What will stand: names and addresses that stay, doors that follow from the stack file."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vre.config import Config, conflicts
from vre.plan import doors, plan
from vre.policy import ANYWHERE, Role

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
    found = doors(stack, plan(stack), gateways=GATEWAYS)
    assert [str(network) for network in found.operators] == list(GATEWAYS)
    assert found.edge == found.operators
    assert found.resolver == found.operators


def test_networks_of_the_stack_file_replace_the_defaults() -> None:
    stack = config(
        access={"keys": [KEY], "operators": ["203.0.113.0/24"]},
        edge={"provider": "direct", "networks": ["198.51.100.0/24"]},
        outbound={"resolvers": ["203.0.113.53/32"]},
    )
    found = doors(stack, plan(stack), gateways=GATEWAYS)
    assert ip_network("203.0.113.0/24") in found.operators
    assert ip_network("203.0.113.0/24") not in found.edge
    assert ip_network("198.51.100.0/24") in found.edge
    assert found.resolver == (ip_network("203.0.113.53/32"),)


def test_an_operators_network_that_holds_the_hypervisor_is_not_named_twice() -> None:
    stack = config(access={"keys": [KEY], "operators": ["192.168.77.0/24"]})
    found = doors(stack, plan(stack), gateways=GATEWAYS)
    assert [str(network) for network in found.operators] == ["192.168.77.0/24", "fd76:7265:77::1/128"]


@pytest.mark.requirement("P-84", "C-16")
@pytest.mark.parametrize(
    ("more", "mirrors"),
    [
        ({}, ANYWHERE),
        ({"data": {"class": "sensitive"}}, ()),
        ({"cloud": {"provider": "libvirt", "mode": "isolated"}}, ()),
        (
            {"data": {"class": "sensitive"}, "outbound": {"mirrors": ["203.0.113.80/32"]}},
            (ip_network("203.0.113.80/32"),),
        ),
    ],
)
def test_mirrors_are_as_open_as_the_data_allows(more: dict[str, object], mirrors: object) -> None:
    stack = config(**more)
    assert doors(stack, plan(stack), gateways=GATEWAYS).mirrors == mirrors


def test_the_control_plane_comes_first_and_workers_have_their_role() -> None:
    stack = plan(config(machines={"workers": {"count": 2}}))
    assert stack.machines[0] == stack.control
    assert [machine.role for machine in stack.workers] == [Role.WORKER, Role.WORKER]


def test_more_workers_than_the_network_has_room_for_are_refused() -> None:
    small = config(cloud={"provider": "libvirt", "network": "192.168.77.0/26"}, machines={"workers": {"count": 50}})
    assert [finding.key for finding in conflicts(small)] == ["cloud.network"]
    assert conflicts(config(machines={"workers": {"count": 100}})) == []
