"""AWS apart from its rules: sizes, what machines are made of, what is looked at before a launch, what is refused."""

import base64
import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from moto import mock_aws
from moto.utilities.utils import load_resource

from tests.oracle import aws as oracle
from tests.oracle.configs import KEY, Case, case
from tests.oracle.declared import declared
from tests.oracle.told import Props, Resource
from tests.unit.test_oracle_aws import CALLS, CLOUD, WITH_WORKERS, answer, said
from vre import clouds
from vre.accounts import aws as account
from vre.accounts.aws import ADDRESSES, NETWORKS, RULES, Facts, Size, family, judge
from vre.clouds import site
from vre.clouds.aws import SIZES, described, device, faults, packed
from vre.clouds.rented import flows, native
from vre.config import SHAPES, Config
from vre.errors import Refused
from vre.load import load
from vre.machine import cloudinit
from vre.paths import project
from vre.plan import plan
from vre.policy import Role
from vre.stackfile import parse

TYPES = load_resource("ec2/resources/instance_types.json")
USER_DATA = 16384
CLOUDFLARE = {
    4: ["173.245.48.0/20", "103.21.244.0/22", "103.22.200.0/22", "103.31.4.0/22", "141.101.64.0/18", "108.162.192.0/18",
        "190.93.240.0/20", "188.114.96.0/20", "197.234.240.0/22", "198.41.128.0/17", "162.158.0.0/15", "104.16.0.0/13",
        "104.24.0.0/14", "172.64.0.0/13", "131.0.72.0/22"],
    6: ["2400:cb00::/32", "2606:4700::/32", "2803:f800::/32", "2405:b500::/32", "2405:8100::/32", "2a06:98c0::/29",
        "2c0f:f248::/32"],
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_every_size_is_on_nitro_and_for_our_processors(size: Any) -> None:
    real = TYPES[size.name]
    assert real["Hypervisor"] == "nitro"
    assert "x86_64" in real["ProcessorInfo"]["SupportedArchitectures"]


@pytest.mark.parametrize(
    ("word", "expected"), [("small", "t3.medium"), ("medium", "m6i.xlarge"), ("large", "m6i.4xlarge")]
)
def test_words_mean_what_the_page_says(word: str, expected: str) -> None:
    made = plan(config(machines={"control": {"size": word}})).control
    assert native(SIZES, made) == expected
    assert (made.cpus, made.memory) == (SHAPES[word].cpus, SHAPES[word].memory * 1024)
    assert f"| `{word}` | {expected} |" in page()


def test_every_size_that_a_stack_file_may_ask_for_is_held_by_one() -> None:
    biggest = plan(config(machines={"control": {"size": {"cpus": 128, "memory": 2048}}})).control
    assert native(SIZES, biggest) == "x2idn.32xlarge"


def page() -> str:
    return (project() / "docs" / "clouds" / "aws.md").read_text()


def config(**more: Any) -> Config:
    access = {"keys": [KEY], "operators": ["203.0.113.0/24"]}
    edge = {"provider": "direct", "domain": "example.org"}
    return Config.model_validate({"name": "unit", "cloud": CLOUD, "access": access, "edge": edge, **more})


@cache
def everything() -> tuple[Case, list[Resource]]:
    stack = case(WITH_WORKERS)
    return stack, said(stack)


def of(resources: list[Resource], kind: str) -> list[Resource]:
    found = [each for each in resources if each.type.endswith(f":{kind}")]
    assert found, kind
    return found


def test_machines_and_disks_are_as_closed_as_they_can_be() -> None:
    stack, resources = everything()
    for made in of(resources, "Instance"):
        options = made.inputs["metadataOptions"]
        assert (options["httpTokens"], options["httpPutResponseHopLimit"]) == ("required", 1)
        assert options["instanceMetadataTags"] == "disabled"
        root = made.inputs["rootBlockDevice"]
        assert (root["encrypted"], root["kmsKeyId"]) == (True, "arn:aws:x:eu-west-1:123456789012:disks-key")
        assert not {"iamInstanceProfile", "associatePublicIpAddress", "userData"} & made.inputs.keys()
    for disk in of(resources, "Volume"):
        assert (disk.inputs["encrypted"], disk.inputs["kmsKeyId"]) == (True, root["kmsKeyId"])
    [key] = of(resources, "Key")
    assert (key.inputs["enableKeyRotation"], key.inputs["deletionWindowInDays"]) == (True, 7)
    cards = {each.inputs["privateIps"][0]: each.inputs["subnetId"] for each in of(resources, "NetworkInterface")}
    assert cards == {
        machine.ipv4: "public-subnet-id" if machine.role == Role.CONTROL else "private-subnet-id"
        for machine in stack.plan.machines
    }


def test_machines_have_their_place_in_the_halves_and_worker_numbers_stay() -> None:
    stack, resources = everything()
    assert [machine.ipv4 for machine in stack.plan.machines] == [
        "10.77.0.10",
        "10.77.128.20",
        "10.77.128.22",
        "10.77.128.23",
    ]
    assert [each.inputs["cidrBlock"] for each in of(resources, "Subnet")] == ["10.77.0.0/17", "10.77.128.0/17"]
    six = [each.inputs["ipv6CidrBlock"] for each in of(resources, "Subnet")]
    assert six == ["2600:1f18:1234:5600::/64", "2600:1f18:1234:5601::/64"]


def test_all_stands_in_one_zone_and_disks_follow_the_subnet_of_their_machine() -> None:
    def moved(token: str, name: str, inputs: Props) -> tuple[str, Props]:
        own = {"availabilityZone": "eu-west-1c"} if name == "public-subnet" else {}
        identity, computed = answer(token, name, inputs)
        return identity, {**computed, **own}

    resources = declared(everything()[0], moved, CALLS)
    # What the cloud says of the first subnet, which is kept, counts; not what the list of zones says today.
    zones = {
        each.name: each.inputs["availabilityZone"] for each in [*of(resources, "Subnet"), *of(resources, "Volume")]
    }
    assert zones.pop("public-subnet") == "eu-west-1a"
    assert len(zones) == 5
    assert set(zones.values()) == {"eu-west-1c"}


def test_everything_that_can_have_tags_has_them() -> None:
    _, resources = everything()
    bare = {"aws", "Route", "RouteTableAssociation", "EipAssociation", "VolumeAttachment", "Alias"}
    tagged = [each for each in resources if each.type.split(":")[-1] not in bare]
    assert len(tagged) > 60
    for each in tagged:
        assert each.inputs["tags"].items() >= {"vre": "oracle", "managed-by": "vre"}.items(), each.name
        assert each.inputs["tags"]["Name"].startswith("vre-")


def test_without_workers_there_is_nothing_private() -> None:
    resources = said(case({**WITH_WORKERS, "machines": {}}))
    kinds = {each.type.split(":")[-1] for each in resources}
    assert not {"NatGateway", "EgressOnlyInternetGateway"} & kinds
    assert len(of(resources, "Subnet")) == len(of(resources, "Eip")) == 1


def test_debians_image_is_asked_for_by_its_owner_and_the_newest_one() -> None:
    asked: list[Props] = []

    def newest(args: Props) -> Props:
        asked.append(args)
        return {"id": "ami-0d"}

    declared(case(WITH_WORKERS), answer, {**CALLS, "aws:ec2/getAmi:getAmi": newest})
    assert (asked[0]["owners"], asked[0]["mostRecent"]) == (["136693071363"], True)
    assert {"name": "name", "values": ["debian-13-amd64-*"]} in asked[0]["filters"]
    own = {**CLOUD, "image": "ami-0123456789abcdef0"}
    resources = declared(case({**WITH_WORKERS, "cloud": own}), answer, {**CALLS, "aws:ec2/getAmi:getAmi": lambda _: {}})
    assert {each.inputs["ami"] for each in of(resources, "Instance")} == {"ami-0123456789abcdef0"}


def test_a_key_that_aws_does_not_take_is_no_key_pair() -> None:
    hardware = token_key()
    access = {"keys": [hardware, KEY], "operators": ["203.0.113.0/24"]}
    [pair] = of(said(case({**WITH_WORKERS, "access": access})), "KeyPair")
    assert pair.inputs["publicKey"] == KEY
    resources = said(case({**WITH_WORKERS, "access": {**access, "keys": [hardware]}}))
    assert [each for each in resources if each.type.endswith("KeyPair")] == []
    assert all("keyName" not in each.inputs for each in of(resources, "Instance"))


def token_key() -> str:
    """Return a key of a hardware token's kind."""
    parts = (b"sk-ssh-ed25519@openssh.com", bytes(range(32)), b"ssh:")
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return f"{parts[0].decode()} {base64.b64encode(blob).decode()} token"


def test_the_data_disk_is_found_by_its_volumes_id() -> None:
    assert device("vol-0123abcd") == "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123abcd"


def test_user_data_is_packed_the_same_each_time_and_opens_again() -> None:
    assert packed("#cloud-config\n") == packed("#cloud-config\n")
    assert gzip.decompress(base64.b64decode(packed("#cloud-config\n"))).decode() == "#cloud-config\n"


def largest() -> Case:
    every = [*CLOUDFLARE[4], *CLOUDFLARE[6]]
    return case(
        {
            **WITH_WORKERS,
            "machines": {"workers": {"count": 100}},
            "edge": {"provider": "direct", "domain": "example.org", "networks": every},
        }
    )


def test_user_data_of_the_largest_stack_is_what_aws_takes() -> None:
    stack = largest()
    chance = random.Random(7)
    keys = [f"ssh-ed25519 {base64.b64encode(chance.randbytes(51)).decode()} operator" for _ in range(20)]
    secret = base64.b64encode(chance.randbytes(400)).decode()
    control = stack.plan.control
    boot = cloudinit.Boot(
        name=control.name, mac=control.mac, addresses=(), keys=keys,
        host_key=cloudinit.HostKey(public=keys[0], private=secret),
        firewall=site.rules(stack.config, stack.policy, control), data_device=device("vol-0a1b2c3d4e5f60718"),
        nodes={each.name: [each.ipv4] for each in stack.plan.machines},
    )  # fmt: skip
    told = base64.b64decode(packed(cloudinit.render(boot).user_data))
    assert 3000 < len(told) <= USER_DATA


def test_the_rules_of_the_largest_stack_fit_into_a_group_and_grow_with_no_machine() -> None:
    stack = largest()
    for role in (Role.CONTROL, Role.WORKER):
        for inbound in (True, False):
            every = [flow for flow in flows(stack.policy, role) if flow.inbound == inbound]
            for version in (4, 6):
                same = [flow for flow in every if flow.network is None or flow.network.version == version]
                groups = [flow for flow in same if flow.network is None]
                assert len(same) + len(groups) <= account.MOST_RULES
    few = case({**largest().config.model_dump(by_alias=True), "machines": {"workers": {"count": 1}}})
    assert [flow.key for flow in flows(few.policy, Role.WORKER)] == [
        flow.key for flow in flows(stack.policy, Role.WORKER)
    ]


def test_a_reason_has_only_signs_that_aws_takes() -> None:
    assert described("operators' way: é, 22") == "operators way: , 22"
    assert len(described("x" * 300)) == 255
    _, resources = everything()
    for each in [*of(resources, "SecurityGroupIngressRule"), *of(resources, "SecurityGroupEgressRule")]:
        assert each.inputs["description"] == described(each.inputs["description"]) != ""


@pytest.mark.parametrize(
    ("more", "reason", "example"),
    [
        ({"cloud": {**CLOUD, "region": "eu-wset-1"}}, "no region eu-wset-1", "region: eu-west-1"),
        ({"cloud": {**CLOUD, "zone": "us-east-1a"}}, "us-east-1a is not in eu-west-1", "zone: eu-west-1a"),
        ({"cloud": {**CLOUD, "network": "10.64.0.0/12"}}, "no network wider than /16", "10.77.0.0/16"),
        ({"cloud": {**CLOUD, "image": "debian-13"}}, "debian-13 is no id of an image", "image: debian"),
    ],
)
def test_what_aws_would_refuse_is_refused_before(more: dict[str, Any], reason: str, example: str) -> None:
    stack = config(**more)
    [found] = faults(stack, plan(stack))
    assert reason in found.reason
    assert example in found.example
    assert judge(stack, Facts(fault="not looked at")) == [found]
    assert clouds.faults(stack) == [found]


def test_a_network_without_room_in_the_workers_half_is_refused() -> None:
    text = "config:\n" + "".join(
        f"  vre:{key}: {json.dumps(value)}\n"
        for key, value in {
            "cloud": {**CLOUD, "network": "10.77.0.0/26"},
            "access": {"keys": [KEY], "operators": ["203.0.113.0/24"]},
            "edge": {"provider": "direct", "domain": "example.org"},
            "machines": {"workers": {"count": 11}},
        }.items()
    )
    with pytest.raises(Refused, match="no room for worker 11"):
        load(parse(text, project()))
    assert load(parse(text.replace('"count": 11', '"count": 10'), project())).machines.workers.count == 10


ALL_WELL = Facts(
    zones=("eu-west-1a", "eu-west-1b"),
    offered=frozenset({"t3.medium", "m6i.xlarge", "g5.xlarge"}),
    sizes={
        "t3.medium": Size(cpus=2, intel=True, nitro=True),
        "g5.xlarge": Size(cpus=4, intel=True, nitro=True),
        "m7g.large": Size(cpus=2, intel=False, nitro=True),
        "m4.large": Size(cpus=2, intel=True, nitro=False),
        "c6i.xlarge": Size(cpus=4, intel=True, nitro=True),
    },
    quota={NETWORKS: (4, 5), ADDRESSES: (4, 5), "standard": (1, 5), "g": (0, 0)},
)


def test_a_good_account_has_no_findings() -> None:
    assert judge(config(), ALL_WELL) == []


def sized(name: str) -> dict[str, Any]:
    return {"machines": {"control": {"size": {"type": name}}}}


@pytest.mark.parametrize(
    ("more", "facts", "key", "reason"),
    [
        ({}, replace(ALL_WELL, fault="AWS refuses GetCallerIdentity"), "cloud.provider", "refuses GetCallerIdentity"),
        ({}, replace(ALL_WELL, enabled=False), "cloud.region", "not enabled"),
        ({"cloud": {**CLOUD, "zone": "eu-west-1x"}}, ALL_WELL, "cloud.zone", "no zone eu-west-1x"),
        ({}, replace(ALL_WELL, image=""), "cloud.image", "no such image"),
        ({}, replace(ALL_WELL, image="arm64"), "cloud.image", "for arm64"),
        ({}, replace(ALL_WELL, denied=("ec2:CreateVpc",)), "cloud.provider", "may not do ec2:CreateVpc"),
        (sized("m6i.xlarg"), ALL_WELL, "machines.control.size", "no size m6i.xlarg"),
        (sized("m7g.large"), ALL_WELL, "machines.control.size", "ARM"),
        (sized("m4.large"), ALL_WELL, "machines.control.size", "Nitro"),
        (sized("c6i.xlarge"), ALL_WELL, "machines.control.size", "not offered in eu-west-1a"),
        (sized("g5.xlarge"), ALL_WELL, "machines.workers.count", "4 processors of g sizes needed, 0 of 0 left"),
        ({"machines": {"workers": {"count": 2}}}, ALL_WELL, "machines.workers.count", "6 processors of standard"),
        ({}, replace(ALL_WELL, quota={NETWORKS: (5, 5)}), "cloud.region", "1 networks (VPCs) needed, 0 of 5"),
        ({}, replace(ALL_WELL, quota={ADDRESSES: (5, 5)}), "cloud.region", "1 public addresses"),
    ],
)
def test_each_fault_of_an_account_is_named_with_its_remedy(
    more: dict[str, Any], facts: Facts, key: str, reason: str
) -> None:
    found = [each for each in judge(config(**more), facts) if reason in each.reason]
    assert [each.key for each in found] == [f"vre:{key}"]
    assert found[0].example


def test_what_stands_already_needs_no_more_room() -> None:
    full = replace(ALL_WELL, quota={NETWORKS: (5, 5), ADDRESSES: (5, 5), "standard": (5, 5)})
    assert len(judge(config(), full)) == 3
    assert judge(config(), replace(full, network=True, standing=frozenset({"vre-unit-control"}))) == []


@pytest.mark.parametrize(("family", "networks"), [(4, "198.51.{}.0/24"), (6, "2001:db8:{}::/48")])
def test_more_rules_than_a_security_group_takes_are_found_before(family: int, networks: str) -> None:
    def asked(count: int) -> Config:
        own = {"keys": [KEY], "operators": [networks.format(number) for number in range(count)]}
        return config(access=own, edge={"provider": "direct", "domain": "example.org", "networks": ["192.0.2.0/24"]})

    assert judge(asked(20), ALL_WELL) == []
    [found] = judge(asked(61), ALL_WELL)
    assert found.key == "vre:access.operators"
    assert f"rules of IPv{family} lead into machines of the role control, a security group takes 60" in found.reason
    assert "L-0EA8095F" in found.example
    assert judge(asked(61), replace(ALL_WELL, quota={**ALL_WELL.quota, RULES: (0, 250)})) == []


def test_a_mistyped_size_has_its_nearest_named() -> None:
    [found] = [each for each in judge(config(**sized("m6i.xlarg")), ALL_WELL) if "no size" in each.reason]
    assert "m6i.xlarge" in found.example


@pytest.mark.parametrize(
    ("size", "expected"),
    [("t3.medium", "standard"), ("im4gn.large", "standard"), ("inf2.xlarge", "inf"), ("g5.xlarge", "g"),
     ("vt1.3xlarge", "vt"), ("x2idn.32xlarge", "x"), ("u-6tb1.112xlarge", "u"), ("dl1.24xlarge", "dl"),
     ("d3.xlarge", "standard"), ("trn1.2xlarge", "trn")],
)  # fmt: skip
def test_processors_count_against_the_quota_of_their_family(size: str, expected: str) -> None:
    assert family(size) == expected


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIACANARY0000027182")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-the-account-2718281828")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield


def test_the_look_finds_zones_sizes_and_what_stands(amazon: None) -> None:
    facts = account.probe(config())
    assert facts.fault == ""
    assert facts.zones == ("eu-west-1a", "eu-west-1b", "eu-west-1c")
    assert facts.sizes == {"t3.medium": Size(cpus=2, intel=True, nitro=True)}
    assert "t3.medium" in facts.offered
    assert (facts.denied, facts.network, facts.standing) == ((), False, frozenset())
    assert "canary" not in repr(facts)


def test_the_look_sees_that_there_are_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    facts = account.probe(config())
    assert "Unable to locate credentials" in facts.fault
    [found] = judge(config(), facts)
    assert "aws sts get-caller-identity" in found.example


def test_the_permissions_let_remove_only_what_carries_our_tag() -> None:
    policy = json.loads((project() / "docs" / "clouds" / "aws-permissions.json").read_text())
    everything = [action for each in policy["Statement"] for action in each["Action"]]
    assert len(everything) == len(set(everything))
    assert not [action for action in everything if "*" in action or action.startswith("iam:")]
    tag = {"aws:ResourceTag/managed-by": "vre"}
    for each in policy["Statement"]:
        ends = [
            action for action in each["Action"] if action.split(":")[1].startswith(("Delete", "Terminate", "Schedule"))
        ]
        assert set(ends) <= {"kms:DeleteAlias"} or each["Condition"]["StringEquals"] == tag


def test_what_the_evaluator_does_not_know_is_no_part_of_the_stack() -> None:
    _, resources = everything()
    assert {each.type for each in resources} >= oracle.UNDERSTOOD - {oracle.GROUP}
