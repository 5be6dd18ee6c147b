"""AWS, on moto's EC2 and KMS: what the plugin does here can be read back through AWS's own API.

What moto lets pass and AWS does not, and what changes in place, stands with each resource.
"""

import os
from collections.abc import Sequence
from typing import Any, ClassVar

from tests.engine.simulated import aws_groups, aws_machines, aws_network
from tests.engine.simulated.aws_api import ec2
from tests.engine.simulated.store import Thing
from tests.engine.simulated.table import Call, CloudError, Kind, Provider
from vre.provider.handler import Props


def zones(call: Call) -> Props:
    """Name the zones of a region."""
    wanted = [*filters(call), {"Name": "state", "Values": [call.inputs.get("state") or "available"]}]
    found = ec2(call).describe_availability_zones(Filters=wanted)["AvailabilityZones"]
    names = [each["ZoneName"] for each in found]
    return {**call.inputs, "id": call.config["region"], "names": names, "zoneIds": [each["ZoneId"] for each in found]}


def image(call: Call) -> Props:
    """Find the newest image that fits."""
    found = ec2(call).describe_images(Owners=call.inputs["owners"], Filters=filters(call))["Images"]
    if not found:
        raise CloudError("Your query returned no results. Please change your search criteria and try again.")
    if len(found) > 1 and not call.inputs.get("mostRecent"):
        raise CloudError("Your query returned more than one result. Please try a more specific search criteria.")
    newest = max(found, key=lambda each: str(each["CreationDate"]))
    names = {"name": "Name", "architecture": "Architecture", "ownerId": "OwnerId", "creationDate": "CreationDate"}
    outputs = {key: str(newest[name]) for key, name in names.items()}
    return {**call.inputs, **outputs, "id": newest["ImageId"], "imageId": newest["ImageId"]}


def filters(call: Call) -> list[dict[str, Any]]:
    """Return the filters of a data source as EC2 takes them."""
    return [{"Name": each["name"], "Values": each["values"]} for each in call.inputs.get("filters") or []]


class Aws(Provider):
    """The cloud."""

    name = "aws"
    sdk = "pulumi_aws"
    kinds: ClassVar[Sequence[type[Kind]]] = (*aws_network.KINDS, *aws_groups.KINDS, *aws_machines.KINDS)
    functions: ClassVar = {
        "aws:index/getAvailabilityZones:getAvailabilityZones": zones,
        "aws:ec2/getAmi:getAmi": image,
    }
    replace_on = frozenset({"region"})

    def configure(self, config: Props) -> None:
        """Refuse to work without credentials, or in no region."""
        if not os.environ.get("AWS_ACCESS_KEY_ID"):
            raise CloudError("No valid credential sources found. Please see the documentation of the AWS provider.")
        if not config.get("region"):
            raise CloudError("invalid AWS Region: ")

    def missing(self, path: str, token: str, value: str) -> CloudError:
        """Say it as EC2 does."""
        return CloudError(f"api error {token.split(':')[-1]}.NotFound: {path}: {value} does not exist")

    def in_use(self, thing: Thing, users: Sequence[Thing]) -> CloudError:
        """Say it as EC2 does."""
        who = ", ".join(each.id for each in users)
        return CloudError(f"api error DependencyViolation: {thing.id} has dependencies ({who}) and cannot be deleted")

    def exists(self, kind: Kind, other: Thing) -> CloudError:
        """Say it as EC2 does."""
        return CloudError(f"api error {kind.token.split(':')[-1]}.Duplicate: {other.id} already exists")

    def failed(self, method: str, token: str) -> CloudError:
        """Say it as EC2 does."""
        return CloudError(f"operation error: {token}: {method}: StatusCode: 500, api error InternalError")

    def throttled(self, method: str, token: str) -> CloudError:
        """Say it as EC2 does."""
        return CloudError(f"{token}: {method}: api error RequestLimitExceeded: Request limit exceeded.")


PROVIDER = Aws
