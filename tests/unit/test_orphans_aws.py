"""What stands on AWS with a stack's tags, listed and deleted: AWS is moto."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from vre import orphans
from vre.config import Config
from vre.errors import VreError
from vre.orphans.aws import KINDS, ORDER, Account
from vre.paths import project
from vre.progress import silent

REGION = "eu-west-1"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO7pYHNTKlbjhJcKVYz4oTCdoBH/V1KdbSFHwMcjSSo2"
CONFIG = Config.model_validate({
    "name": "lab", "cloud": {"provider": "aws", "region": REGION}, "access": {"keys": [KEY]},
    "edge": {"provider": "direct", "domain": "example.org"},
})  # fmt: skip


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield boto3.client("ec2", region_name=REGION)


def marked(stack: str) -> Callable[..., dict[str, Any]]:
    """Return what gives things of some kinds the stack's tags."""
    tags = {"Name": f"vre-{stack}", "vre": stack, "managed-by": "vre"}
    every = [{"Key": key, "Value": value} for key, value in tags.items()]
    return lambda *kinds: {"TagSpecifications": [{"ResourceType": kind, "Tags": every} for kind in kinds]}


def make(ec2: Any, stack: str) -> dict[str, str]:
    """Make one of each kind, as a launch does; return their ids by kind."""
    network = make_network(ec2, stack)
    guards = make_guards(ec2, stack, network["network"])
    machine = make_machine(ec2, stack, network["subnet"], guards["security group"])
    return {**network, **guards, **machine, **make_key(stack)}


def make_network(ec2: Any, stack: str) -> dict[str, str]:
    of = marked(stack)
    network = ec2.create_vpc(CidrBlock="10.77.0.0/16", **of("vpc"))["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=network, CidrBlock="10.77.0.0/24", **of("subnet"))["Subnet"]["SubnetId"]
    way = ec2.create_internet_gateway(**of("internet-gateway"))["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=way, VpcId=network)
    table = ec2.create_route_table(VpcId=network, **of("route-table"))["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=way)
    outward = ec2.create_egress_only_internet_gateway(VpcId=network, **of("egress-only-internet-gateway"))
    other = ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat = ec2.create_nat_gateway(SubnetId=subnet, AllocationId=other, **of("natgateway"))["NatGateway"]
    return {
        "network": network,
        "subnet": subnet,
        "internet gateway": way,
        "route table": table,
        "route": f"{table} 0.0.0.0/0",
        "routes of a subnet": ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)["AssociationId"],
        "egress-only gateway": outward["EgressOnlyInternetGateway"]["EgressOnlyInternetGatewayId"],
        "NAT gateway": nat["NatGatewayId"],
    }


def make_guards(ec2: Any, stack: str, network: str) -> dict[str, str]:
    of = marked(stack)
    group = ec2.create_security_group(VpcId=network, GroupName="g", Description="g", **of("security-group"))["GroupId"]
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "UserIdGroupPairs": [{"GroupId": group}]}
    rule = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh], **of("security-group-rule"))
    ec2.import_key_pair(KeyName=f"vre-{stack}", PublicKeyMaterial=KEY.encode(), **of("key-pair"))
    own = rule["SecurityGroupRules"][0]["SecurityGroupRuleId"]
    return {"security group": group, "firewall rule": own, "key pair": f"vre-{stack}"}


def make_machine(ec2: Any, stack: str, subnet: str, group: str) -> dict[str, str]:
    of = marked(stack)
    card = ec2.create_network_interface(SubnetId=subnet, Groups=[group], **of("network-interface"))["NetworkInterface"]
    address = ec2.allocate_address(Domain="vpc", **of("elastic-ip"))["AllocationId"]
    ec2.associate_address(AllocationId=address, NetworkInterfaceId=card["NetworkInterfaceId"])
    root = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8, "DeleteOnTermination": True}}
    image = ec2.describe_images()["Images"][0]["ImageId"]
    machine = ec2.run_instances(
        ImageId=image, MinCount=1, MaxCount=1, SubnetId=subnet, BlockDeviceMappings=[root], **of("instance", "volume")
    )
    return {
        "machine": machine["Instances"][0]["InstanceId"],
        "disk": ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=30, **of("volume"))["VolumeId"],
        "network interface": card["NetworkInterfaceId"],
        "public address": address,
    }


def make_key(stack: str) -> dict[str, str]:
    kms = boto3.client("kms", region_name=REGION)
    tags = [{"TagKey": key, "TagValue": value} for key, value in (("vre", stack), ("managed-by", "vre"))]
    key = kms.create_key(Tags=tags)["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName=f"alias/vre-{stack}", TargetKeyId=key)
    return {"name of a key": f"alias/vre-{stack}", "key": key}


def stands(stack: str = "lab") -> dict[str, str]:
    config = CONFIG.model_copy(update={"name": stack})
    return {each.kind: each.id for each in Account(config).standing()}


def test_each_kind_is_found_and_deleted_and_another_stack_is_let_be(ec2: Any) -> None:
    mine, others = make(ec2, "lab"), make(ec2, "lab-2")
    assert set(mine) == set(ORDER)
    assert stands() == mine
    found = orphans.find(CONFIG, list)
    assert [each.kind for each in found] == list(ORDER)
    lost = {each.kind: each.loss for each in found if each.loss}
    assert set(lost) == {"machine", "disk", "key"}
    assert "30 GiB" in lost["disk"]
    assert "cannot be read any more" in lost["key"]
    assert orphans.remove(CONFIG, found, silent) == ()
    assert stands() == {}
    assert stands("lab-2") == others


def test_what_carries_half_of_the_mark_is_not_ours(ec2: Any) -> None:
    for key, value in (("vre", "lab"), ("managed-by", "vre")):
        made = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
        ec2.create_tags(Resources=[made], Tags=[{"Key": key, "Value": value}])
    assert stands() == {}


def test_what_the_state_has_is_known_by_its_id(ec2: Any) -> None:
    mine = make(ec2, "lab")
    account = Account(CONFIG)
    standing = account.standing()
    for kind in set(ORDER) - {"route"}:
        state = [{"type": "aws:x:X", "id": mine[kind], "outputs": {}}]
        assert {each.kind for each in orphans.unknown(account, standing, state)} == set(ORDER) - {kind}
    made = {"routeTableId": mine["route table"], "destinationCidrBlock": "0.0.0.0/0"}
    state = [{"type": "aws:ec2/route:Route", "id": "r-1", "outputs": made}]
    # The table is mentioned, so that it is known, too.
    known = {"route", "route table"}
    assert {each.kind for each in orphans.unknown(account, standing, state)} == set(ORDER) - known


def test_a_key_that_disks_mention_is_let_be(ec2: Any) -> None:
    key = make_key("lab")["key"]
    arn = boto3.client("kms", region_name=REGION).describe_key(KeyId=key)["KeyMetadata"]["Arn"]
    state = [{"type": "aws:ebs/volume:Volume", "id": "vol-1", "outputs": {"kmsKeyId": arn}}]
    assert [each.kind for each in orphans.find(CONFIG, lambda: state)] == ["name of a key"]


def test_what_is_gone_already_is_no_fault_and_what_is_refused_is_told(ec2: Any) -> None:
    mine = make(ec2, "lab")
    found = {each.kind: each for each in orphans.find(CONFIG, list)}
    ec2.delete_volume(VolumeId=mine["disk"])
    assert orphans.remove(CONFIG, [found["disk"]], silent) == ()
    [(thing, why)] = orphans.remove(CONFIG, [found["network"]], silent)
    assert thing.kind == "network"
    assert why.startswith("AWS refuses DeleteVpc: DependencyViolation")


def test_that_there_are_no_credentials_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(VreError, match="no way to AWS: Unable to locate credentials"):
        orphans.find(CONFIG, list)


def test_everything_that_is_called_is_in_the_permissions(ec2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make(ec2, "lab")
    called: set[str] = set()
    kept: Callable[..., Any] = boto3.session.Session.client

    def noted(self: Any, name: str, **more: Any) -> Any:
        made = kept(self, name, **more)
        made.meta.events.register("before-call", lambda model, **_: called.add(f"{name}:{model.name}"))
        return made

    monkeypatch.setattr(boto3.session.Session, "client", noted)
    orphans.remove(CONFIG, orphans.find(CONFIG, list), silent)
    policy = json.loads((project() / "docs" / "clouds" / "aws-permissions.json").read_text())
    allowed = {action for each in policy["Statement"] for action in each["Action"]}
    assert len(called) > len(KINDS)
    assert called - allowed == set()
