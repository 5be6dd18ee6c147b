"""What stands on AWS with a stack's tags. The same sections in the same order as every module beside it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from vre.accounts.aws import PATIENCE
from vre.cloud import Aws
from vre.clouds.aws import KEY_DAYS
from vre.clouds.rented import tags
from vre.config import Config
from vre.errors import VreError
from vre.orphans import Resource, Thing

OUT = {"0.0.0.0/0", "::/0"}
"""Where the routes of a stack lead; AWS tags no routes, so that others in its tables are nobody's to judge."""
PERMISSIONS = "docs/clouds/aws-permissions.json"
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
ROUTE = "aws:ec2/route:Route"


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """A kind of thing in EC2: the call that lists it, where the answer is, the key of its id, what deletes it."""

    listing: str
    answer: str
    id: str
    delete: str = ""


KINDS: dict[str, _Kind] = {
    "NAT gateway": _Kind(listing="nat_gateways", answer="NatGateways", id="NatGatewayId", delete="nat_gateway"),
    "public address": _Kind(listing="addresses", answer="Addresses", id="AllocationId"),
    "disk": _Kind(listing="volumes", answer="Volumes", id="VolumeId", delete="volume"),
    "network interface": _Kind(
        listing="network_interfaces", answer="NetworkInterfaces", id="NetworkInterfaceId", delete="network_interface"
    ),
    "firewall rule": _Kind(listing="security_group_rules", answer="SecurityGroupRules", id="SecurityGroupRuleId"),
    "security group": _Kind(
        listing="security_groups", answer="SecurityGroups", id="GroupId", delete="security_group"
    ),
    "route table": _Kind(listing="route_tables", answer="RouteTables", id="RouteTableId", delete="route_table"),
    "egress-only gateway": _Kind(
        listing="egress_only_internet_gateways", answer="EgressOnlyInternetGateways",
        id="EgressOnlyInternetGatewayId", delete="egress_only_internet_gateway",
    ),
    "internet gateway": _Kind(
        listing="internet_gateways", answer="InternetGateways", id="InternetGatewayId", delete="internet_gateway"
    ),
    "subnet": _Kind(listing="subnets", answer="Subnets", id="SubnetId", delete="subnet"),
    "network": _Kind(listing="vpcs", answer="Vpcs", id="VpcId", delete="vpc"),
    "key pair": _Kind(listing="key_pairs", answer="KeyPairs", id="KeyName", delete="key_pair"),
}  # fmt: skip
ORDER = (
    "machine", "NAT gateway", "public address", "disk", "network interface", "firewall rule", "security group",
    "route", "routes of a subnet", "route table", "egress-only gateway", "internet gateway", "subnet", "network",
    "key pair", "name of a key", "key",
)  # fmt: skip


class Account:
    """What is in the region of a stack file, with the credentials of the environment."""

    order = ORDER
    plugin = "aws"

    def __init__(self, config: Config) -> None:
        if not isinstance(config.cloud, Aws):
            raise TypeError(f"not an AWS stack: {config.cloud.provider}")
        self.stack = config.name
        session = boto3.session.Session(region_name=config.cloud.region)
        with _told():
            self.ec2 = session.client("ec2", config=PATIENCE)
            self.kms = session.client("kms", config=PATIENCE)

    def standing(self) -> list[Thing]:
        """Return everything with the stack's tags."""
        with _told():
            machines = list(self._machines())
            every = [*map(_machine, machines), *self._of_the_network(), *self._keys()]
        going = {disk for each in machines for disk in _own_disks(each)}
        return [each for each in every if each.id not in going]

    def identity(self, resource: Resource) -> str:
        """Return a resource's id; a route's is made of what AWS knows of it."""
        made = resource.get("outputs") or {}
        if resource["type"] != ROUTE:
            return str(resource.get("id", ""))
        target = made.get("destinationCidrBlock") or made.get("destinationIpv6CidrBlock")
        return f"{made.get('routeTableId')} {target}"

    def delete(self, thing: Thing) -> None:
        """Delete a thing, and wait until it is gone."""
        special: dict[str, Callable[[Thing], None]] = {
            "machine": self._end, "public address": self._release, "disk": self._free, "firewall rule": self._revoke,
            "route": self._lead_nowhere, "routes of a subnet": self._part, "internet gateway": self._detach,
            "name of a key": self._forget, "key": self._end_key,
        }  # fmt: skip
        with _told(gone=True):
            special.get(thing.kind, self._gone)(thing)
            if thing.kind == "NAT gateway":
                self.ec2.get_waiter("nat_gateway_deleted").wait(NatGatewayIds=[thing.id])

    def _machines(self) -> Iterator[Mapping[str, Any]]:
        there = {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}
        for page in self.ec2.get_paginator("describe_instances").paginate(Filters=[*self._tagged(), there]):
            for each in (one for group in page["Reservations"] for one in group["Instances"]):
                if self._ours(each):
                    yield each

    def _of_the_network(self) -> Iterator[Thing]:
        for kind, how in KINDS.items():
            for each in self._listed(how):
                if not self._ours(each) or _goes_by_itself(each):
                    continue
                made = _thing(kind, each[how.id], each, within=str(each.get("GroupId", "")), loss=_loss(each))
                # A key pair's id is its name, which machines mention whosever it is.
                yield made if kind != "key pair" else Thing(kind=kind, id=made.id)
                if kind == "route table":
                    yield from _routes(each)

    def _listed(self, how: _Kind) -> Iterator[Mapping[str, Any]]:
        method = f"describe_{how.listing}"
        if not self.ec2.can_paginate(method):
            yield from getattr(self.ec2, method)(Filters=self._tagged())[how.answer]
            return
        for page in self.ec2.get_paginator(method).paginate(**{_filters(how): self._tagged()}):
            yield from page[how.answer]

    def _keys(self) -> Iterator[Thing]:
        name = f"alias/vre-{self.stack}"
        for page in self.kms.get_paginator("list_aliases").paginate():
            if any(each["AliasName"] == name for each in page["Aliases"]):
                yield Thing(kind="name of a key", id=name)
        for page in self.kms.get_paginator("list_keys").paginate():
            for each in page["Keys"]:
                if self._is_our_key(each["KeyId"]):
                    loss = f"what it encrypted cannot be read any more; for {KEY_DAYS} days it can be called back"
                    yield Thing(kind="key", id=each["KeyId"], words=(each["KeyId"], each["KeyArn"]), loss=loss)

    def _is_our_key(self, key: str) -> bool:
        try:
            found = self.kms.list_resource_tags(KeyId=key)["Tags"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "AccessDeniedException":
                return False
            raise
        ours = self._ours({"Tags": [{"Key": each["TagKey"], "Value": each["TagValue"]} for each in found]})
        return ours and self.kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] != "PendingDeletion"

    def _tagged(self) -> list[dict[str, Any]]:
        return [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags(self.stack).items()]

    def _ours(self, each: Mapping[str, Any]) -> bool:
        """Say whether a thing has the stack's tags: whatever the filter lets through, nothing else is touched."""
        found = {tag["Key"]: tag["Value"] for tag in each.get("Tags", each.get("TagSet", ()))}
        return tags(self.stack).items() <= found.items()

    def _gone(self, thing: Thing) -> None:
        how = KINDS[thing.kind]
        getattr(self.ec2, f"delete_{how.delete}")(**{how.id: thing.id})

    def _end(self, thing: Thing) -> None:
        self.ec2.terminate_instances(InstanceIds=[thing.id])
        self.ec2.get_waiter("instance_terminated").wait(InstanceIds=[thing.id])

    def _release(self, thing: Thing) -> None:
        for each in self.ec2.describe_addresses(AllocationIds=[thing.id])["Addresses"]:
            if each.get("AssociationId"):
                self.ec2.disassociate_address(AssociationId=each["AssociationId"])
        self.ec2.release_address(AllocationId=thing.id)

    def _free(self, thing: Thing) -> None:
        self.ec2.get_waiter("volume_available").wait(VolumeIds=[thing.id])
        self.ec2.delete_volume(VolumeId=thing.id)

    def _revoke(self, thing: Thing) -> None:
        [rule] = self.ec2.describe_security_group_rules(SecurityGroupRuleIds=[thing.id])["SecurityGroupRules"]
        way = "egress" if rule["IsEgress"] else "ingress"
        revoke = getattr(self.ec2, f"revoke_security_group_{way}")
        revoke(GroupId=rule["GroupId"], SecurityGroupRuleIds=[thing.id])

    def _lead_nowhere(self, thing: Thing) -> None:
        table, target = thing.id.split()
        key = "DestinationIpv6CidrBlock" if ":" in target else "DestinationCidrBlock"
        self.ec2.delete_route(RouteTableId=table, **{key: target})

    def _part(self, thing: Thing) -> None:
        self.ec2.disassociate_route_table(AssociationId=thing.id)

    def _detach(self, thing: Thing) -> None:
        for each in self.ec2.describe_internet_gateways(InternetGatewayIds=[thing.id])["InternetGateways"]:
            for place in each["Attachments"]:
                self.ec2.detach_internet_gateway(InternetGatewayId=thing.id, VpcId=place["VpcId"])
        self._gone(thing)

    def _forget(self, thing: Thing) -> None:
        self.kms.delete_alias(AliasName=thing.id)

    def _end_key(self, thing: Thing) -> None:
        self.kms.schedule_key_deletion(KeyId=thing.id, PendingWindowInDays=KEY_DAYS)


def _filters(how: _Kind) -> str:
    return "Filter" if how.listing == "nat_gateways" else "Filters"


def _thing(kind: str, identity: str, each: Mapping[str, Any], **more: str) -> Thing:
    named = (str(tag["Value"]) for tag in each.get("Tags", each.get("TagSet", ())) if tag["Key"] == "Name")
    within = more.pop("within", "")
    part = within if within != identity else ""
    return Thing(kind=kind, id=identity, name=next(named, ""), words=(identity,), within=part, **more)


def _loss(each: Mapping[str, Any]) -> str:
    return f"{each['Size']} GiB, and whatever data is on it" if "VolumeId" in each else ""


def _machine(each: Mapping[str, Any]) -> Thing:
    return _thing("machine", each["InstanceId"], each, loss="its system disk goes with it")


def _own_disks(machine: Mapping[str, Any]) -> Iterator[str]:
    """Yield the disks that go with a machine."""
    disks = (each["Ebs"] for each in machine.get("BlockDeviceMappings", ()) if "Ebs" in each)
    return (str(each["VolumeId"]) for each in disks if each.get("DeleteOnTermination"))


def _goes_by_itself(each: Mapping[str, Any]) -> bool:
    """Say whether a thing is gone already, which AWS keeps the names of, or goes with its network."""
    return each.get("State") in ("deleted", "deleting") or each.get("GroupName") == "default"


def _routes(table: Mapping[str, Any]) -> Iterator[Thing]:
    """Yield what a table of the stack's own holds."""
    own = table["RouteTableId"]
    for each in table["Routes"]:
        target = each.get("DestinationCidrBlock") or each.get("DestinationIpv6CidrBlock") or ""
        if target in OUT:
            yield Thing(kind="route", id=f"{own} {target}", within=own)
    for each in table["Associations"]:
        if not each.get("Main"):
            found = each["RouteTableAssociationId"]
            yield Thing(kind="routes of a subnet", id=found, words=(found,), within=own)


@contextmanager
def _told(*, gone: bool = False) -> Iterator[None]:
    """Say in our words what AWS refuses. With `gone`, that a thing is not there any more is no fault."""
    try:
        yield
    except ClientError as error:
        said = error.response["Error"]
        if not (gone and "NotFound" in said["Code"]):
            hint = f"{PERMISSIONS} has the least that is needed" if said["Code"] in DENIED else ""
            refused = f"AWS refuses {error.operation_name}: {said['Code']}: {said['Message']}"
            raise VreError(refused, hint=hint) from error
    except WaiterError as error:
        if not (gone and "NotFound" in error.last_response.get("Error", {}).get("Code", "")):
            raise VreError(f"AWS did not come to an end: {error}") from error
    except BotoCoreError as error:
        raise VreError(f"no way to AWS: {error}") from error
