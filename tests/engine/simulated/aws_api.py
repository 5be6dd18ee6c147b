"""AWS's API as the simulated plugin uses it: on moto, found by AWS_ENDPOINT_URL, as any program of AWS's finds it."""

import os
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import boto3
from botocore.exceptions import ClientError

from tests.engine.simulated.store import ENVIRONMENT
from tests.engine.simulated.table import Call, CloudError, Kind
from vre.provider.handler import Found, Props

VPC = "aws:ec2/vpc:Vpc"
SUBNET = "aws:ec2/subnet:Subnet"
GROUP = "aws:ec2/securityGroup:SecurityGroup"
DEFAULT_GROUP = "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"
TABLE = "aws:ec2/routeTable:RouteTable"
INTERNET = "aws:ec2/internetGateway:InternetGateway"
EGRESS_ONLY = "aws:ec2/egressOnlyInternetGateway:EgressOnlyInternetGateway"
NAT = "aws:ec2/natGateway:NatGateway"
EIP = "aws:ec2/eip:Eip"
CARD = "aws:ec2/networkInterface:NetworkInterface"
INSTANCE = "aws:ec2/instance:Instance"
VOLUME = "aws:ebs/volume:Volume"
ATTACHMENT = "aws:ec2/volumeAttachment:VolumeAttachment"
PAIR = "aws:ec2/keyPair:KeyPair"
KEY = "aws:kms/key:Key"


@cache
def client(service: str, region: str) -> Any:
    """Return the way to a service of AWS."""
    made = boto3.client(service, region_name=region)
    made.meta.events.register("before-call", note)
    return made


def note(model: Any, **_: Any) -> None:
    """Keep the name of each action that is called: the permissions that the docs name have to cover it."""
    with calls(Path(os.environ[ENVIRONMENT])).open("a") as file:
        file.write(f"{model.service_model.service_name}:{model.name}\n")


def calls(cloud: Path) -> Path:
    """Return where the names are kept, beside the simulated cloud's file."""
    return cloud.with_name("aws-calls.txt")


def ec2(call: Call) -> Any:
    """Return the way to EC2."""
    return client("ec2", call.config["region"])


def kms(call: Call) -> Any:
    """Return the way to the key service."""
    return client("kms", call.config["region"])


def tag_list(call: Call) -> list[dict[str, str]]:
    """Return the tags that are asked for as EC2 takes them."""
    return [{"Key": key, "Value": value} for key, value in (call.inputs.get("tags") or {}).items()]


def changed(call: Call, key: str) -> bool:
    """Say whether an input is to change."""
    return bool(call.inputs.get(key) != call.old_inputs.get(key))


class Api(Kind):
    """Something behind an API of AWS's. `listing`: the call that finds it by id, its argument, where the answer is."""

    listing: ClassVar[tuple[str, str, str]]
    taggable: ClassVar[bool] = True

    def make(self, call: Call) -> Props:
        """Make it; set its id; return what AWS computes."""
        raise NotImplementedError

    def remove(self, call: Call) -> None:
        """Remove it."""
        raise NotImplementedError

    def change(self, call: Call) -> Props:
        """Change it, but for its tags."""
        return {}

    def look(self, call: Call) -> Props | None:
        """Return what AWS says of it; None when it is gone."""
        method, argument, answer = self.listing
        try:
            found = getattr(ec2(call), method)(**{argument: [call.id]})[answer]
        except ClientError as error:
            if "NotFound" in error.response["Error"]["Code"]:
                return None
            raise
        return dict(found[0]) if found else None

    def seen(self, call: Call, real: Props) -> Props:
        """Return the properties as they really are, where somebody may have changed them by hand."""
        return {}

    def create(self, call: Call) -> Props:
        """Make it, with its tags."""
        with_tags = self.taggable and call.inputs.get("tags")
        outputs = told(lambda: self.make(call))
        if with_tags:
            told(lambda: ec2(call).create_tags(Resources=[call.id], Tags=tag_list(call)))
        return {**outputs, **({"tagsAll": call.inputs.get("tags") or {}} if self.taggable else {})}

    def read(self, call: Call) -> Found | None:
        """Return it as it is now."""
        real = self.look(call)
        kept = call.find(self.token, call.id)
        if real is None or kept is None:
            return None
        now = self.seen(call, real)
        tags = real.get("Tags", real.get("TagSet"))
        if self.taggable and tags is not None:
            now["tags"] = {each["Key"]: each["Value"] for each in tags}
        inputs = {**kept.inputs, **{key: value for key, value in now.items() if key in kept.inputs}}
        return Found(inputs=inputs, outputs={**kept.outputs, **now})

    def update(self, call: Call) -> Props:
        """Change it, and its tags."""
        if self.taggable and changed(call, "tags"):
            gone = (call.old_inputs.get("tags") or {}).keys() - (call.inputs.get("tags") or {}).keys()
            if gone:
                told(lambda: ec2(call).delete_tags(Resources=[call.id], Tags=[{"Key": key} for key in gone]))
            told(lambda: ec2(call).create_tags(Resources=[call.id], Tags=tag_list(call)))
        done: Props = told(lambda: self.change(call))
        return done

    def delete(self, call: Call) -> None:
        """Remove it; what is gone already is no fault."""
        if self.look(call) is not None:
            told(lambda: self.remove(call))


def told(do: Any) -> Any:
    """Do something, and say in AWS's words what it refuses."""
    try:
        return do()
    except ClientError as error:
        found = error.response["Error"]
        raise CloudError(
            f"operation error {error.operation_name}: api error {found['Code']}: {found['Message']}"
        ) from None
