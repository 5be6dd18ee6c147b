"""`outbound.resolvers`: on every cloud the name servers that the firewalls let through are those that machines ask."""

from typing import Any

import pytest

from tests.oracle.configs import KEY, Case, case
from tests.unit.test_oracle_openstack import CLOUD as OPENSTACK
from vre.clouds import site
from vre.clouds.site import Disk, Order
from vre.machine.cloudinit import RESOLVED, Boot, HostKey, first_boot
from vre.policy import Peer

EDGE = {"provider": "direct", "domain": "example.org"}
NAMED = ["192.0.2.53/32", "2001:db8:1::7/128"]
CLOUDS: dict[str, dict[str, Any]] = {
    "aws": {"region": "eu-west-1"},
    "azure": {"region": "westeurope", "subscription": "00000000-0000-0000-0000-000000000000"},
    "gcp": {"region": "europe-west1", "project": "phenome-1234"},
    "libvirt": {},
    "openstack": OPENSTACK,
}


def stack(cloud: str, *resolvers: str) -> Case:
    access = {"keys": [KEY], "operators": ["203.0.113.0/24"]}
    made = {"cloud": {"provider": cloud, **CLOUDS[cloud]}, "access": access, "edge": EDGE}
    return case({**made, "outbound": {"resolvers": resolvers}})


def told(stack: Case) -> dict[str, str]:
    order = Order(config=stack.config, plan=stack.plan, policy=stack.policy, image=Disk(path="", id=""))
    return site.told(order, stack.plan.control)


@pytest.mark.requirement("C-16")
@pytest.mark.parametrize("cloud", CLOUDS)
def test_machines_ask_the_name_servers_that_the_policy_lets_through(cloud: str) -> None:
    made = stack(cloud, *NAMED)
    servers = " ".join(str(each.network_address) for each in made.policy.of(Peer.RESOLVER))
    assert servers == "192.0.2.53 2001:db8:1::7"
    # Without the domain, the servers that DHCP names would be asked too, which the firewall does not let through.
    assert told(made)[RESOLVED].splitlines() == ["[Resolve]", f"DNS={servers}", "Domains=~."]


@pytest.mark.parametrize("cloud", sorted(set(CLOUDS) - {"openstack"}))
def test_where_none_are_named_machines_ask_those_of_the_network(cloud: str) -> None:
    assert RESOLVED not in told(stack(cloud))


def test_the_first_boot_has_them_asked_before_anything_is_fetched() -> None:
    def script(files: dict[str, str]) -> str:
        key = HostKey(public="", private="")
        boot = Boot(name="a", mac="", addresses=(), keys=(), host_key=key, firewall="", nodes={}, files=files)
        return first_boot(boot)

    again = "systemctl restart systemd-resolved.service"
    named = script(told(stack("aws", *NAMED)))
    assert named.index(again) < named.index("apt-get")
    assert again not in script({})
