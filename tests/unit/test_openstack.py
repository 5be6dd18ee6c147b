"""OpenStack: what is declared there beyond rules, and what is said before a launch about the account."""

import base64
import re
from dataclasses import replace
from typing import Any

import pytest

from tests.oracle import openstack as neutron
from tests.oracle.configs import KEY, case, data
from tests.oracle.declared import declared
from tests.oracle.told import Resource
from tests.unit.test_oracle_openstack import CALLS, WITH_WORKERS
from vre.accounts.openstack import Facts, Image, judge, needed
from vre.clouds.openstack import DEBIAN_NAME, device
from vre.clouds.rented import Type
from vre.config import Config
from vre.conflicts import conflicts

VOLUME = "openstack:blockstorage/volume:Volume"
INSTANCE = "openstack:compute/instance:Instance"
ASSOCIATION = "openstack:networking/floatingIpAssociate:FloatingIpAssociate"
FLOATING = "openstack:networking/floatingIp:FloatingIp"
SUBNET = "openstack:networking/subnet:Subnet"
INTERFACE = "openstack:networking/routerInterface:RouterInterface"
KEYPAIR = "openstack:compute/keypair:Keypair"
DIRECT = {"edge": {"provider": "direct", "domain": "example.org"}}
GOOD = Facts(
    regions=("RegionOne", "RegionTwo"),
    outside=("public",),
    images=(Image(id="1", name="Debian 13 (trixie)", public=True, disk=3), Image(id="2", name="ours", public=False)),
    flavors=(Type(name="m1.small", cpus=2, memory=4), Type(name="m1.large", cpus=4, memory=8),
             Type(name="m1.xlarge", cpus=8, memory=16)),
    types={"LUKS": True, "standard": False},
    left={"instances": 10, "cores": 20, "ram": 65536, "volumes": 10, "gigabytes": 1000, "port": -1, "floatingip": 1,
          "network": 1, "subnet": 2, "router": 1, "security_group": 3, "security_group_rule": 200},
)  # fmt: skip


def stack(**changes: Any) -> list[Resource]:
    return declared(case({**WITH_WORKERS, **changes}), calls=CALLS)


def of(told: list[Resource], kind: str) -> list[Resource]:
    found = [each for each in told if each.type == kind]
    assert found
    return found


def cloud(**changes: Any) -> dict[str, Any]:
    return {"cloud": {**WITH_WORKERS["cloud"], **changes}}


def config(**changes: Any) -> Config:
    return Config.model_validate({"name": "oracle", **WITH_WORKERS, **changes})


def test_only_the_control_machine_has_an_address_outside() -> None:
    told = stack()
    assert len(of(told, FLOATING)) == 1
    assert [each.inputs["portId"] for each in of(told, ASSOCIATION)] == ["oracle-control-port-id"]


@pytest.mark.requirement("H-33")
def test_every_disk_is_of_the_type_that_encrypts() -> None:
    volumes = of(stack(), VOLUME)
    assert {each.inputs["volumeType"] for each in volumes} == {"LUKS"}
    assert {each.name for each in volumes} >= {"oracle-control-data", "oracle-control-system", "oracle-worker-3-data"}


def test_machines_need_no_metadata_service_and_boot_from_their_disks() -> None:
    for each in of(stack(), INSTANCE):
        assert each.inputs["configDrive"] is True
        assert [disk["uuid"] for disk in each.inputs["blockDevices"]] == [
            f"{each.name}-system-id",
            f"{each.name}-data-id",
        ]
        assert [disk["bootIndex"] for disk in each.inputs["blockDevices"]] == [0, -1]
        assert {disk["diskBus"] for disk in each.inputs["blockDevices"]} == {"virtio"}
        assert "adminPass" not in each.inputs


def test_the_data_disk_is_known_by_what_virtio_shows_of_its_id() -> None:
    assert device("0d3a5b1e-6a3f-4b7e-9f06-1a2b3c4d5e6f") == "/dev/disk/by-id/virtio-0d3a5b1e-6a3f-4b7e-9"


def test_ports_have_both_addresses_that_were_planned_and_no_others() -> None:
    for each in of(stack(), neutron.PORT):
        assert len(each.inputs["fixedIps"]) == 2
        assert each.inputs["portSecurityEnabled"] is True
        assert "allowedAddressPairs" not in each.inputs
    control = next(each for each in of(stack(), neutron.PORT) if each.name == "oracle-control-port")
    addresses = {each["ipAddress"] for each in control.inputs["fixedIps"]}
    assert addresses == {"10.77.0.10", "fd76:7265:77::a"}


@pytest.mark.parametrize(("network6", "ways"), [("fd76:7265:77::/64", 1), ("2600:1f18:1234::/64", 2)])
def test_ipv6_leads_outside_only_where_it_is_a_public_range(network6: str, ways: int) -> None:
    told = stack(**cloud(network6=network6))
    assert len(of(told, INTERFACE)) == ways
    own = next(each for each in of(told, SUBNET) if each.inputs["ipVersion"] == 6)
    assert own.inputs["noGateway"] is (ways == 1)


def test_subnets_name_the_resolvers_of_their_family_and_have_no_dhcp() -> None:
    told = stack(outbound={"resolvers": ["192.0.2.53/32", "2001:db8:1::7/128"]})
    named = {each.inputs["ipVersion"]: each.inputs["dnsNameservers"] for each in of(told, SUBNET)}
    assert named == {4: ["192.0.2.53"], 6: ["2001:db8:1::7"]}
    assert {each.inputs["enableDhcp"] for each in of(told, SUBNET)} == {False}


def test_the_key_pair_is_the_first_key_that_nova_takes() -> None:
    parts = (b"sk-ssh-ed25519@openssh.com", bytes(32), b"ssh:")
    blob = base64.b64encode(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).decode()
    token = f"sk-ssh-ed25519@openssh.com {blob} token"
    [pair] = of(stack(access={**WITH_WORKERS["access"], "keys": [token, KEY]}), KEYPAIR)
    assert pair.inputs["publicKey"] == KEY
    alone = stack(access={**WITH_WORKERS["access"], "keys": [token]})
    assert not [each for each in alone if each.type == KEYPAIR]
    assert not [each for each in of(alone, INSTANCE) if each.inputs.get("keyPair")]


def test_everything_can_be_told_by_its_tags() -> None:
    untagged = {neutron.RULE, KEYPAIR, INTERFACE, ASSOCIATION, "pulumi:providers:openstack"}
    for each in stack():
        if each.type not in untagged:
            marks = each.inputs.get("tags") or [f"{key}={value}" for key, value in each.inputs["metadata"].items()]
            assert {"managed-by=vre", "vre=oracle"} <= set(marks), each.name


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("Debian 13", True), ("debian-13", True), ("Debian 13 (trixie)", True), ("debian-13-generic-amd64", True),
        ("Debian GNU/Linux 13", True), ("Debian Trixie", True), ("debian_13", True), ("debian13", True),
        ("Debian 12", False), ("Debian 131", False), ("Debian 1", False), ("not-debian-13", False), ("Ubuntu", False),
    ],
)  # fmt: skip
def test_debians_image_is_known_by_the_names_that_operators_give_it(name: str, ours: bool) -> None:
    assert (re.match(DEBIAN_NAME, name) is not None) is ours


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"outbound": {}}, "outbound.resolvers"),
        ({"outbound": {"resolvers": ["192.0.2.0/24"]}}, "outbound.resolvers"),
        ({**cloud(**{"volume-type": ""}), "data": {"class": "anonymised"}}, "cloud.volume-type"),
        ({**cloud(public=True), "data": {"class": "pseudonymised"}}, "data.class"),
        ({**cloud(public=False), "data": data("sensitive"), "outbound": {"mirrors": ["192.0.2.80/32"]}},
         "outbound.resolvers"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], key: str) -> None:
    assert [each.key for each in conflicts(config(**DIRECT, **changes))] == [key]


@pytest.mark.parametrize(
    "changes",
    [
        cloud(**{"volume-type": ""}),
        {**cloud(public=False), "data": {"class": "pseudonymised"}},
        {**cloud(public=False), "data": data("sensitive"), "outbound": {}},
    ],
)
def test_what_goes_together_is_not(changes: dict[str, Any]) -> None:
    assert conflicts(config(**DIRECT, **changes)) == []


def judged(facts: Facts = GOOD, **changes: Any) -> list[tuple[str, str, str]]:
    found = judge(config(**changes), facts)
    return [(each.key.removeprefix("vre:"), each.reason, each.example) for each in found]


def test_nothing_is_said_about_an_account_that_will_do() -> None:
    assert judged() == []


@pytest.mark.parametrize(
    ("facts", "changes", "key", "reason", "example"),
    [
        ({"fault": "Expired"}, {}, "cloud.provider", "Expired", "OS_CLOUD"),
        ({}, cloud(region="RegionOen"), "cloud.region", "did you mean RegionOne?", "region: RegionOne"),
        ({"services": ("compute", "image", "block-storage")}, {}, "cloud.region", "no network service", "another"),
        ({}, cloud(**{"external-network": "pubic"}), "cloud.external-network", "pubic; did you mean", "public"),
        ({"outside": ()}, {}, "cloud.external-network", "no network that leads outside", "ask the operator"),
        ({}, cloud(image="uors"), "cloud.image", "no image uors; did you mean ours?", "image: ours"),
        ({"images": GOOD.images[1:]}, {}, "cloud.image", "no public image", "image: the name or id"),
        ({"images": (replace(GOOD.images[0], public=False),)}, {}, "cloud.image", "Debian 13 (trixie)", "image:"),
        ({"images": (replace(GOOD.images[0], architecture="aarch64"),)}, {}, "cloud.image", "aarch64", "x86_64"),
        ({}, {"machines": {"control": {"size": "large"}}}, "machines.control.size", "64 GiB or more", ""),
        ({}, {"machines": {"control": {"size": "medium"}}}, "machines.control.size", "8 and 16", "type: m1.xlarge"),
        ({"flavors": (*GOOD.flavors, Type(name="a", cpus=2, memory=4))}, {"machines": {"control": {}}},
         "machines.control.size", "several flavours", "size: {type: a}"),
        ({}, {"machines": {"control": {"size": {"type": "m1.smal"}}}}, "machines.control.size", "m1.smal", "m1.small"),
        ({}, {"machines": {"control": {"disk": 8}}, **cloud(image="big")}, "machines.control.disk", "20 G", "disk: 20"),
        ({}, cloud(**{"volume-type": "luks"}), "cloud.volume-type", "no volume type luks", "LUKS"),
        ({}, cloud(**{"volume-type": "standard"}), "cloud.volume-type", "not encrypted", "volume-type: LUKS"),
        ({"types": {"LUKS": False}}, {}, "cloud.volume-type", "not encrypted", "ask the cloud's operator"),
        ({"bare": ("vre-oracle-control-data",)}, {}, "cloud.volume-type", "oracle-control-data is not", "anew"),
        ({"left": {**GOOD.left, "security_group_rule": 70}}, {}, "cloud.provider", "leaves 70 security group r", ""),
        ({"left": {**GOOD.left, "floatingip": 0}}, {}, "cloud.provider", "leaves 0 floatingip, 1", "ask"),
        ({"left": {**GOOD.left, "cores": 5}}, {}, "cloud.provider", "leaves 5 cores, 8", "ask"),
        ({"left": {**GOOD.left, "gigabytes": 87}}, {}, "cloud.provider", "leaves 87 gigabytes, 88", "ask"),
    ],
)  # fmt: skip
def test_what_stands_in_the_way_is_said_with_its_remedy(
    facts: dict[str, Any], changes: dict[str, Any], key: str, reason: str, example: str
) -> None:
    images = (*GOOD.images, Image(id="3", name="big", public=False, disk=20))
    found = judged(
        replace(GOOD, images=images, **facts) if "images" not in facts else replace(GOOD, **facts), **changes
    )
    assert [each[0] for each in found] == [key]
    assert reason in found[0][1]
    assert example in found[0][2]


def test_what_stands_already_needs_no_room() -> None:
    standing = frozenset({"oracle-control", "oracle-worker-1"})
    left = dict.fromkeys(GOOD.left, 0) | {
        "instances": 1,
        "cores": 2,
        "ram": 4096,
        "volumes": 2,
        "gigabytes": 22,
        "port": 1,
    }
    facts = replace(GOOD, machines=standing, network=True, left=left)
    assert judge(config(machines={"workers": {"count": 2}}), facts) == []
    assert needed(config(), replace(facts, machines=frozenset()))["instances"] == 4


def test_whether_a_type_encrypts_is_often_told_to_administrators_only() -> None:
    assert judged(replace(GOOD, types={"LUKS": None})) == []


def test_rules_are_counted_as_they_are_declared() -> None:
    rules = of(stack(), neutron.RULE)
    expected = len(rules)
    counted = needed(config(), GOOD)["security_group_rule"]
    # Cloudflare's ranges are pinned to four in the oracle's cases.
    from vre.edge import visitors

    assert counted == expected + 2 * (len(visitors(config())) - 4)


def test_user_data_of_the_largest_stack_is_what_nova_takes() -> None:
    assert len(base64.b64encode(largest().encode())) <= 65535


def largest() -> str:
    """Return the user-data of a machine among 101, for as many operators and visitors as anybody has."""
    from vre import clouds
    from vre.clouds.site import rules
    from vre.machine import cloudinit
    from vre.plan import plan

    operators = [f"2001:db8:{number:x}::/48" for number in range(20)]
    big = config(
        name="a" * 20,
        access={"keys": [KEY], "operators": operators},
        machines={"workers": {"count": 100}},
    )
    stack_plan = plan(big)
    boot = cloudinit.Boot(
        name=stack_plan.control.name,
        mac=stack_plan.control.mac,
        addresses=(),
        keys=[KEY] * 20,
        host_key=cloudinit.HostKey(public=KEY, private="x" * 420),
        firewall=rules(big, clouds.policy(big), stack_plan.control),
        nodes={each.name: [each.ipv4, each.ipv6] for each in stack_plan.machines},
        data_device=device("0d3a5b1e-6a3f-4b7e-9f06-1a2b3c4d5e6f"),
    )
    return cloudinit.render(boot).user_data
