"""A stack on AWS from launch to end, with the real engine. AWS is moto, and is asked by its own API what it has."""

import base64
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from tests.engine.conftest import Told
from tests.engine.moto_server import NEWEST, serving
from tests.engine.simulated import aws_api
from tests.engine.simulated.aws import Aws
from tests.engine.simulated.aws_api import calls
from tests.engine.simulated.lifecycle import Life, begin
from tests.engine.simulated.store import Fault
from tests.oracle import aws
from tests.oracle.compare import assert_agree
from tests.oracle.configs import Case
from vre import clouds
from vre.config import Config
from vre.paths import project
from vre.plan import plan

REGION = "eu-west-1"
SECRET = "canary/of-the-cloud+31415926535897932384"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIACANARY0000031415", "AWS_SECRET_ACCESS_KEY": SECRET}
CONFIG: dict[str, Any] = {
    "vre:cloud": {"provider": "aws", "region": REGION},
    "vre:access": {"keys": [".vre/id_ed25519.pub"], "operators": ["203.0.113.0/24", "2001:db8::/48"]},
    "vre:edge": {"provider": "direct", "domain": "example.org", "networks": ["198.51.100.0/24"]},
    "vre:machines": {"control": {"size": "small"}, "workers": {"count": 2}},
    "vre:data": {"class": "anonymised"},
}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run moto on loopback."""
    with serving(tmp_path_factory.mktemp("moto")) as url:
        yield url


def settings(name: str, **more: Any) -> dict[str, Any]:
    """Return a stack file's settings; parts are put over the usual ones."""
    made = {"vre:name": name, **CONFIG}
    return {**made, **{f"vre:{key}": {**made.get(f"vre:{key}", {}), **value} for key, value in more.items()}}


def text(config: dict[str, Any]) -> str:
    return "".join(f"  {line}\n" for line in yaml.safe_dump(config).splitlines())


def start(endpoint: str, folder: Path, name: str, **more: Any) -> Life:
    env = {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}
    return begin(folder / "clone", name, text(settings(name, **more)), ["aws"], env=env)


def client(endpoint: str, service: str = "ec2") -> Any:
    return boto3.client(
        service, region_name=REGION, endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test"
    )


def meant(name: str, **more: Any) -> Case:
    """Return what a stack file means."""
    config = Config.model_validate({key.removeprefix("vre:"): each for key, each in settings(name, **more).items()})
    return Case(config=config, plan=plan(config), policy=clouds.policy(config))


def machines(ec2: Any, name: str) -> dict[str, dict[str, Any]]:
    """Return the stack's machines that stand, by their names."""
    wanted = [{"Name": "tag:vre", "Values": [name]}, {"Name": "instance-state-name", "Values": ["running"]}]
    found = [each for group in ec2.describe_instances(Filters=wanted)["Reservations"] for each in group["Instances"]]
    return {next(tag["Value"] for tag in each["Tags"] if tag["Key"] == "Name"): each for each in found}


OURS = (
    ("describe_vpcs", "Vpcs", "VpcId"),
    ("describe_subnets", "Subnets", "SubnetId"),
    ("describe_route_tables", "RouteTables", "RouteTableId"),
    ("describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
    ("describe_addresses", "Addresses", "AllocationId"),
    ("describe_security_groups", "SecurityGroups", "GroupId"),
    ("describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId"),
    ("describe_volumes", "Volumes", "VolumeId"),
)


def left(ec2: Any, name: str) -> list[str]:
    """Return everything that still stands with the stack's tag."""
    wanted = [{"Name": "tag:vre", "Values": [name]}]
    found = [each[key] for method, answer, key in OURS for each in getattr(ec2, method)(Filters=wanted)[answer]]
    gateways = ec2.describe_nat_gateways(Filter=[*wanted, {"Name": "state", "Values": ["available"]}])["NatGateways"]
    pairs = ec2.describe_key_pairs(Filters=[{"Name": "key-name", "Values": [f"vre-{name}"]}])["KeyPairs"]
    return [
        *found,
        *machines(ec2, name),
        *(each["NatGatewayId"] for each in gateways),
        *(each["KeyName"] for each in pairs),
    ]


@pytest.mark.drill
@pytest.mark.requirement("P-02", "P-18", "P-43", "P-44")
def test_a_stack_lives_on_aws_although_every_kind_of_call_fails_once(endpoint: str, tmp_path: Path) -> None:
    ec2, life = client(endpoint), start(endpoint, tmp_path, "phenome")
    failed = life.fail_in_turn(Fault(what="fail", method="create", type="aws:*", once_per="type"))
    assert {entry.type for entry in failed} == {kind.token for kind in Aws.kinds}
    life.whole()
    stack = meant("phenome")
    world = aws.read_back(ec2, "phenome")
    assert_agree(world.placed(stack), world.evaluator())
    assert len(left(ec2, "phenome")) == 22
    hardened(ec2, client(endpoint, "kms"))
    covered(life)
    nothing_leaked(life, ec2)
    changes(life, ec2)
    life.destroy()
    assert left(ec2, "phenome") == []
    kms = client(endpoint, "kms")
    states = {kms.describe_key(KeyId=each["KeyId"])["KeyMetadata"]["KeyState"] for each in kms.list_keys()["Keys"]}
    assert states == {"PendingDeletion"}


def hardened(ec2: Any, kms: Any) -> None:
    """Hold what AWS says of the machines and disks against what the pages promise."""
    found = machines(ec2, "phenome")
    assert set(found) == {"vre-phenome-control", "vre-phenome-worker-1", "vre-phenome-worker-2"}
    wanted = {
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
        "HttpEndpoint": "enabled",
        "HttpProtocolIpv6": "disabled",
        "InstanceMetadataTags": "disabled",
    }
    for name, each in found.items():
        assert wanted.items() <= each["MetadataOptions"].items()
        assert "IamInstanceProfile" not in each
        assert each["ImageId"] == NEWEST
        assert each["KeyName"] == "vre-phenome"
        assert ("PublicIpAddress" in each) == (name == "vre-phenome-control")
    key = next(iter(kms.list_keys()["Keys"]))["KeyArn"]
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    disks = ec2.describe_volumes()["Volumes"]
    assert len(disks) == 6
    assert {(disk["Encrypted"], disk["KmsKeyId"], disk["State"]) for disk in disks} == {(True, key, "in-use")}


def covered(life: Life) -> None:
    """Hold every call that was made against the permissions that the docs name."""
    policy = json.loads((project() / "docs" / "clouds" / "aws-permissions.json").read_text())
    allowed = {action for each in policy["Statement"] for action in each["Action"]}
    made = {
        line.replace("EC2", "ec2").replace("KMS", "kms") for line in calls(life.cloud.path).read_text().splitlines()
    }
    assert len(made) > 40
    assert made - allowed == set()


def nothing_leaked(life: Life, ec2: Any) -> None:
    """Look for the cloud's credentials, and for private keys, wherever something is kept or said."""
    state = b"".join(file.read_bytes() for file in life.engine.checkout.backend.rglob("*") if file.is_file())
    said = "".join(life.said)
    told = []
    for each in machines(ec2, "phenome").values():
        answer = ec2.describe_instance_attribute(InstanceId=each["InstanceId"], Attribute="userData")
        told.append(gzip.decompress(base64.b64decode(answer["UserData"]["Value"])).decode())
    assert len(told) == 3
    assert all("ssh_keys:" in each for each in told)
    for secret in CREDENTIALS.values():
        assert secret.encode() not in state
        assert secret not in said
        assert [each for each in told if secret in each] == []
    assert b"PRIVATE KEY" not in state
    assert "PRIVATE KEY" not in said
    # One private key each: of the host key for the first contact.
    assert {each.count("PRIVATE KEY") for each in told} == {2}


def changes(life: Life, ec2: Any) -> None:
    """Change the stack file: what the page says happens, happens."""
    more: dict[str, Any] = {
        "access": {"operators": ["203.0.113.0/24", "192.0.2.0/24"]},
        "cloud": {"image": "ami-0123456789abcdef0"},
        "machines": {
            "control": {"size": "medium", "disk": 20, "data": 30},
            "workers": {"count": 1, "without": [1]},
        },
    }
    life.configure(text(settings("phenome", **more)))
    planned = steps(life)
    assert planned["SecurityGroupIngressRule control-in-tcp-22-192.0.2.0_24"] == "create"
    assert planned["SecurityGroupIngressRule control-in-tcp-22-2001-db8--_48"] == "delete"
    assert planned["Instance phenome-control"] == planned["Volume phenome-control-data"] == "update"
    assert planned["Instance phenome-worker-1"] == planned["Volume phenome-worker-1-data"] == "delete"
    assert not {
        "Instance phenome-worker-2",
        "Volume phenome-worker-2-data",
        "NetworkInterface phenome-worker-2-card",
    } & (planned.keys())
    assert set(planned.values()) == {"create", "update", "delete"}
    before = machines(ec2, "phenome")
    life.up()
    after = machines(ec2, "phenome")
    assert set(after) == {"vre-phenome-control", "vre-phenome-worker-2"}
    assert {name: each["InstanceId"] for name, each in after.items()}.items() <= {
        name: each["InstanceId"] for name, each in before.items()
    }.items()
    assert after["vre-phenome-control"]["InstanceType"] == "m6i.xlarge"
    assert sorted(disk["Size"] for disk in ec2.describe_volumes()["Volumes"]) == [10, 12, 20, 30]
    world = aws.read_back(ec2, "phenome")
    assert_agree(world.placed(meant("phenome", **more)), world.evaluator())
    drifts(life, ec2)
    life.configure(text(settings("phenome", **{**more, "cloud": {"zone": f"{REGION}b"}})))
    moved = steps(life)
    assert {moved[name] for name in ("Subnet public-subnet", "Instance phenome-control")} == {"replace"}
    assert {moved[name] for name in ("Volume phenome-control-data", "Instance phenome-worker-2")} == {"replace"}
    assert "Vpc network" not in moved


def steps(life: Life) -> dict[str, str]:
    """Return what the next launch would do to everything of AWS's, by type and name."""
    told = life.run("preview", "--json")
    assert told.code == 0, told.text
    every = json.loads(told.text[told.text.index("{") :])["steps"]
    done = {f"{kind.rsplit(':', 1)[-1]} {name}": op for op, kind, name in map(_step, every) if kind.startswith("aws:")}
    return {name: "replace" if "replace" in op else op for name, op in done.items() if op != "same"}


def _step(step: dict[str, Any]) -> tuple[str, str, str]:
    kind, name = step["urn"].split("::")[2:4]
    return step["op"], kind.split("$")[-1], name


def drifts(life: Life, ec2: Any) -> None:
    """Change things by hand: the next launch sees it, and sets it right."""
    control = machines(ec2, "phenome")["vre-phenome-control"]
    ec2.modify_instance_metadata_options(InstanceId=control["InstanceId"], HttpTokens="optional")
    rules = ec2.describe_security_group_rules(Filters=[{"Name": "tag:vre", "Values": ["phenome"]}])
    mine = [each for each in rules["SecurityGroupRules"] if each.get("CidrIpv4") == "192.0.2.0/24"]
    wide = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIpv4": "0.0.0.0/0"}
    changed = [{"SecurityGroupRuleId": mine[0]["SecurityGroupRuleId"], "SecurityGroupRule": wide}]
    ec2.modify_security_group_rules(GroupId=mine[0]["GroupId"], SecurityGroupRules=changed)
    life.up("--refresh")
    assert machines(ec2, "phenome")["vre-phenome-control"]["MetadataOptions"]["HttpTokens"] == "required"
    again = ec2.describe_security_group_rules(SecurityGroupRuleIds=[mine[0]["SecurityGroupRuleId"]])
    assert again["SecurityGroupRules"][0]["CidrIpv4"] == "192.0.2.0/24"


@pytest.mark.parametrize("kind", ["aws:ec2/instance:Instance"])
def test_a_launch_that_is_killed_goes_on_where_it_was(endpoint: str, tmp_path: Path, kind: str) -> None:
    life = start(endpoint, tmp_path, "killed", machines={"workers": {"count": 0}})
    life.preview()
    assert left(client(endpoint), "killed") == []
    life.kill(Fault(what="hang", method="create", type=kind))
    life.up()
    life.whole()
    assert set(machines(client(endpoint), "killed")) == {"vre-killed-control"}
    life.destroy()
    assert left(client(endpoint), "killed") == []


@pytest.mark.drill
def test_a_stack_stays_in_its_zone_when_another_one_is_the_regions_first(endpoint: str, tmp_path: Path) -> None:
    life = start(endpoint, tmp_path, "stays", cloud={"zone": "eu-west-1b"})
    life.up()
    life.configure(text(settings("stays")))
    assert steps(life) == {}
    life.destroy()


def test_bad_input_is_refused_before_aws_is_told_anything(endpoint: str, tmp_path: Path) -> None:
    life = start(endpoint, tmp_path, "refused", cloud={"region": "eu-wset-1", "network": "10.64.0.0/12"})
    said = life.fails("up", "--yes", "--skip-preview")
    assert "AWS has no region eu-wset-1" in said
    assert "region: eu-west-1" in said
    assert "no network wider than /16" in said
    assert "Traceback" not in said
    assert "stacks/Pulumi.refused.yaml:" in said
    assert life.cloud.resources() == []
    # Not even what is made here alone, such as passwords and the edge's authority.
    assert {each["type"] for each in life.engine.resources("refused")} <= {"pulumi:pulumi:Stack"}


LOST = (aws_api.PAIR, aws_api.SUBNET)
ALONE: dict[str, Any] = {"cloud": {"image": NEWEST}, "machines": {"workers": {"count": 0}}}
ADOPTED = (aws_api.ATTACHMENT, aws_api.DEFAULT_GROUP, "aws:ec2/eipAssociation:EipAssociation")
"""What a second create only finds, by AWS's own answer or the plugin's."""


def vre(life: Life, *words: str) -> Told:
    """Run our command in the stack's clone."""
    told = life.engine.run(sys.executable, "-m", "vre.cli.main", *words, "--stack", life.stack)
    assert "Traceback" not in told.text
    return told


def delete_lost(life: Life, ec2: Any) -> None:
    """Delete what was lost. The simulation follows AWS, and frees a NAT gateway's address, which moto forgets."""
    told = vre(life, "orphans", "--delete", "--yes")
    assert told.code == 0, told.text
    for thing in life.orphans():
        if thing.plugin == "aws" and thing.type not in ADOPTED:
            life.cloud.remove(thing.type, thing.id)
        if thing.type == aws_api.NAT:
            [address] = ec2.describe_addresses(AllocationIds=[thing.inputs["allocationId"]])["Addresses"]
            ec2.disassociate_address(AssociationId=address["AssociationId"])
    said = vre(life, "orphans").text
    assert "nothing stands on the cloud that its state does not know" in said, said


def ends_empty(life: Life, endpoint: str) -> None:
    """Hold that the launch is whole, and that its end leaves nothing."""
    life.whole()
    life.destroy()
    assert left(client(endpoint), life.stack) == []


def test_what_lost_replies_leave_is_named_and_deleted(endpoint: str, tmp_path: Path) -> None:
    life = start(endpoint, tmp_path, "lost", **ALONE)
    life.cloud.plan(*(Fault(what="lose", method="create", type=kind) for kind in LOST))
    failed = life.fails("up", "--yes", "--skip-preview", "--continue-on-error")
    assert all(f"{kind}: connection reset before the answer came" in failed for kind in LOST), failed
    life.cloud.plan()
    told = vre(life, "orphans").text
    assert "2 things on the cloud" in told
    assert (told.count("\n  key pair vre-lost\n"), told.count("\n  subnet vre-lost-public subnet-")) == (1, 1)
    delete_lost(life, client(endpoint))
    life.up()
    assert set(machines(client(endpoint), "lost")) == {"vre-lost-control"}
    ends_empty(life, endpoint)


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_the_reply_to_each_kind_of_create_is_lost_once(endpoint: str, tmp_path: Path) -> None:
    life = start(endpoint, tmp_path, "losing", cloud={"image": NEWEST})
    life.cloud.plan(Fault(what="lose", method="create", type="aws:*", once_per="type"))
    for _ in Aws.kinds:
        if life.run("up", "--yes", "--skip-preview", "--continue-on-error").code == 0:
            break
        delete_lost(life, client(endpoint))
    assert {entry.type for entry in life.cloud.journal() if entry.fault} == {kind.token for kind in Aws.kinds}
    ends_empty(life, endpoint)


@pytest.mark.drill
def test_what_an_end_leaves_is_told_and_deleted(endpoint: str, tmp_path: Path) -> None:
    life = start(endpoint, tmp_path, "ended", **ALONE)
    life.cloud.plan(Fault(what="lose", method="create", type=aws_api.VOLUME))
    life.fails("up", "--yes", "--skip-preview")
    life.cloud.plan()
    ended = vre(life, "down", "--yes")
    assert ended.code == 1, ended.text
    assert "stack ended is gone" in ended.text
    assert "left of stack ended on the cloud, where it may cost: 1 thing\n" in ended.text
    assert "disk vre-ended-control-data vol-" in ended.text
    deleted = vre(life, "orphans", "--delete", "--yes")
    assert deleted.code == 0, deleted.text
    assert left(client(endpoint), "ended") == []
