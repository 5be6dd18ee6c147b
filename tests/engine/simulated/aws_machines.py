"""AWS's machines, disks, keys and places in a network."""

import base64
from collections.abc import Iterable
from typing import Any, ClassVar

from tests.engine.simulated.aws_api import (
    ATTACHMENT,
    CARD,
    GROUP,
    INSTANCE,
    KEY,
    PAIR,
    SUBNET,
    VOLUME,
    Api,
    changed,
    ec2,
    kms,
)  # fmt: skip
from tests.engine.simulated.aws_network import free
from tests.engine.simulated.table import Call, CloudError, Kind
from vre.errors import Finding
from vre.provider.handler import Props

USER_DATA = 16384
"""Bytes that a machine may be told, before they are encoded."""
ENDED = {"PendingDeletion", "Disabled"}


class Card(Api):
    """A machine's place in a network."""

    token = CARD
    listing = ("describe_network_interfaces", "NetworkInterfaceIds", "NetworkInterfaces")
    replace_on = frozenset({"subnetId"})
    refers: ClassVar = {"subnetId": SUBNET, "securityGroups[*]": GROUP}
    unique = ("subnetId", "privateIps")

    def make(self, call: Call) -> Props:
        """Make it."""
        address = call.inputs["privateIps"][0]
        free(call, call.inputs["subnetId"], address)
        made = ec2(call).create_network_interface(
            SubnetId=call.inputs["subnetId"],
            PrivateIpAddresses=[{"PrivateIpAddress": address, "Primary": True}],
            Groups=call.inputs.get("securityGroups") or [],
            Ipv6AddressCount=call.inputs.get("ipv6AddressCount", 0),
            Description=call.inputs.get("description", ""),
        )["NetworkInterface"]
        call.id = made["NetworkInterfaceId"]
        six = [each["Ipv6Address"] for each in made["Ipv6Addresses"]]
        return {"macAddress": made["MacAddress"], "privateIp": address, "ipv6Addresses": six}

    def seen(self, call: Call, real: Props) -> Props:
        """Return the groups that guard it."""
        return {"securityGroups": [each["GroupId"] for each in real["Groups"]]}

    def change(self, call: Call) -> Props:
        """Change its groups."""
        if changed(call, "securityGroups"):
            ec2(call).modify_network_interface_attribute(
                NetworkInterfaceId=call.id, Groups=call.inputs["securityGroups"]
            )
        return {}

    def remove(self, call: Call) -> None:
        """Remove it."""
        ec2(call).delete_network_interface(NetworkInterfaceId=call.id)


class Instance(Api):
    """A machine."""

    token = INSTANCE
    replace_on = frozenset(
        {"ami", "keyName", "primaryNetworkInterface", "rootBlockDevice.encrypted", "rootBlockDevice.kmsKeyId"}
    )
    refers: ClassVar = {
        "primaryNetworkInterface.networkInterfaceId": CARD,
        "keyName": PAIR,
        "rootBlockDevice.kmsKeyId": KEY,
    }
    frees = frozenset({"keyName", "rootBlockDevice.kmsKeyId"})

    def look(self, call: Call) -> Props | None:
        """Return it, unless it was ended."""
        wanted = [{"Name": "instance-id", "Values": [call.id]}]
        every = ec2(call).describe_instances(Filters=wanted)["Reservations"]
        found = [each for group in every for each in group["Instances"] if each["State"]["Name"] != "terminated"]
        return dict(found[0]) if found else None

    def make(self, call: Call) -> Props:
        """Make it."""
        told = base64.b64decode(call.inputs.get("userDataBase64", ""), validate=True)
        if len(told) > USER_DATA:
            raise CloudError("api error InvalidParameterValue: User data is limited to 16384 bytes")
        card, pair = call.inputs["primaryNetworkInterface"]["networkInterfaceId"], call.inputs.get("keyName")
        made = ec2(call).run_instances(
            ImageId=call.inputs["ami"],
            InstanceType=call.inputs["instanceType"],
            MinCount=1,
            MaxCount=1,
            NetworkInterfaces=[{"NetworkInterfaceId": card, "DeviceIndex": 0}],
            UserData=told,
            MetadataOptions=_metadata(call.inputs),
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": _root(call.inputs["rootBlockDevice"])}],
            EbsOptimized=bool(call.inputs.get("ebsOptimized")),
            **({"KeyName": pair} if pair else {}),
        )["Instances"][0]
        call.id = made["InstanceId"]
        where = made["Placement"]["AvailabilityZone"]
        return {"instanceState": "running", "availabilityZone": where, "primaryNetworkInterfaceId": card}

    def seen(self, call: Call, real: Props) -> Props:
        """Return its size, and how its metadata service answers."""
        options, kept = real["MetadataOptions"], call.inputs.get("metadataOptions") or {}
        seen = {key: options.get(_wire(key)) for key in kept}
        return {"instanceType": real["InstanceType"], **({"metadataOptions": seen} if kept else {})}

    def change(self, call: Call) -> Props:
        """Change its size while it is off, its system disk, or its metadata service."""
        if changed(call, "instanceType"):
            ec2(call).stop_instances(InstanceIds=[call.id])
            ec2(call).modify_instance_attribute(InstanceId=call.id, InstanceType={"Value": call.inputs["instanceType"]})
            ec2(call).start_instances(InstanceIds=[call.id])
        if changed(call, "rootBlockDevice"):
            root = self.look(call) or {}
            _grow(call, root["BlockDeviceMappings"][0]["Ebs"]["VolumeId"], call.inputs["rootBlockDevice"]["volumeSize"])
        if changed(call, "metadataOptions"):
            ec2(call).modify_instance_metadata_options(InstanceId=call.id, **_metadata(call.inputs))
        return {}

    def remove(self, call: Call) -> None:
        """End it; disks that it did not bring along stay."""
        for each in call.things(ATTACHMENT):
            if each.inputs["instanceId"] == call.id:
                ec2(call).detach_volume(VolumeId=each.inputs["volumeId"], InstanceId=call.id)
                call.cloud.remove(ATTACHMENT, each.id)
        ec2(call).terminate_instances(InstanceIds=[call.id])


def _wire(key: str) -> str:
    return key[0].upper() + key[1:]


def _metadata(inputs: Props) -> dict[str, Any]:
    return {_wire(key): value for key, value in (inputs.get("metadataOptions") or {}).items()}


def _root(inputs: Props) -> dict[str, Any]:
    names = {
        "volumeSize": "VolumeSize", "encrypted": "Encrypted", "kmsKeyId": "KmsKeyId", "volumeType": "VolumeType",
        "deleteOnTermination": "DeleteOnTermination",
    }  # fmt: skip
    return {names[key]: value for key, value in inputs.items() if key in names}


def _grow(call: Call, volume: str, size: int) -> None:
    now = ec2(call).describe_volumes(VolumeIds=[volume])["Volumes"][0]["Size"]
    if size < now:
        raise CloudError("api error InvalidParameterValue: New size cannot be smaller than existing size")
    if size > now:
        ec2(call).modify_volume(VolumeId=volume, Size=size)


class Volume(Api):
    """A disk."""

    token = VOLUME
    listing = ("describe_volumes", "VolumeIds", "Volumes")
    replace_on = frozenset({"availabilityZone", "encrypted", "kmsKeyId", "snapshotId"})
    refers: ClassVar = {"kmsKeyId": KEY}
    frees = frozenset({"kmsKeyId"})

    def make(self, call: Call) -> Props:
        """Make it."""
        made = ec2(call).create_volume(
            AvailabilityZone=call.inputs["availabilityZone"],
            Size=call.inputs["size"],
            VolumeType=call.inputs["type"],
            Encrypted=bool(call.inputs.get("encrypted")),
            **({"KmsKeyId": call.inputs["kmsKeyId"]} if call.inputs.get("kmsKeyId") else {}),
        )
        call.id = made["VolumeId"]
        return {"arn": f"arn:aws:ec2:{call.config['region']}:123456789012:volume/{call.id}"}

    def seen(self, call: Call, real: Props) -> Props:
        """Return its size."""
        return {"size": real["Size"]}

    def change(self, call: Call) -> Props:
        """Let it grow."""
        _grow(call, call.id, call.inputs["size"])
        return {}

    def remove(self, call: Call) -> None:
        """Remove it."""
        ec2(call).delete_volume(VolumeId=call.id)


class Attachment(Api):
    """A disk in a machine."""

    token = ATTACHMENT
    taggable = False
    replace_on = frozenset({"deviceName", "instanceId", "volumeId"})
    refers: ClassVar = {"instanceId": INSTANCE, "volumeId": VOLUME}
    frees = frozenset({"instanceId"})

    def make(self, call: Call) -> Props:
        """Put it in. The plugin looks first whether it is there already."""
        device, instance, volume = (call.inputs[key] for key in ("deviceName", "instanceId", "volumeId"))
        [found] = ec2(call).describe_volumes(VolumeIds=[volume])["Volumes"]
        if not any(each["InstanceId"] == instance and each["Device"] == device for each in found["Attachments"]):
            ec2(call).attach_volume(Device=device, InstanceId=instance, VolumeId=volume)
        call.id = f"vai-{volume.removeprefix('vol-')}{instance.removeprefix('i-')}"
        return {}

    def look(self, call: Call) -> Props | None:
        """Return it."""
        wanted = [{"Name": "volume-id", "Values": [call.state["volumeId"]]}]
        every = [
            each for volume in ec2(call).describe_volumes(Filters=wanted)["Volumes"] for each in volume["Attachments"]
        ]
        return next((each for each in every if each["InstanceId"] == call.state["instanceId"]), None)

    def remove(self, call: Call) -> None:
        """Take it out: of a machine that runs, AWS would wait for ever."""
        if not call.state.get("stopInstanceBeforeDetaching"):
            raise CloudError(f"timeout while waiting for volume {call.state['volumeId']} to detach: it is busy")
        ec2(call).detach_volume(VolumeId=call.state["volumeId"], InstanceId=call.state["instanceId"])


class Pair(Api):
    """An operator's public key."""

    token = PAIR
    named = "keyName"
    unique = ("keyName",)
    replace_on = frozenset({"keyName", "publicKey"})

    def check(self, inputs: Props) -> Iterable[Finding]:
        """Refuse other kinds of keys."""
        key = inputs.get("publicKey")
        if isinstance(key, str) and not key.startswith(("ssh-ed25519 ", "ssh-rsa ")):
            yield Finding(key="publicKey", reason="InvalidKey.Format: Key is not in valid OpenSSH public key format")

    def look(self, call: Call) -> Props | None:
        """Return it."""
        wanted = [{"Name": "key-name", "Values": [call.id]}]
        return next(iter(ec2(call).describe_key_pairs(Filters=wanted)["KeyPairs"]), None)

    def create(self, call: Call) -> Props:
        """Make it: its tags go by another id than its own."""
        outputs = super().create(call)
        return {**outputs, "tagsAll": call.inputs.get("tags") or {}}

    taggable = False

    def make(self, call: Call) -> Props:
        """Make it."""
        call.id = call.inputs["keyName"]
        material = call.inputs["publicKey"].encode()
        tags = [{"Key": key, "Value": value} for key, value in (call.inputs.get("tags") or {}).items()]
        made = ec2(call).import_key_pair(
            KeyName=call.id, PublicKeyMaterial=material, TagSpecifications=[{"ResourceType": "key-pair", "Tags": tags}]
        )
        return {"keyPairId": made["KeyPairId"], "fingerprint": made["KeyFingerprint"], "keyType": "ed25519"}

    def remove(self, call: Call) -> None:
        """Remove it."""
        ec2(call).delete_key_pair(KeyName=call.id)


class Key(Api):
    """A key in the key service."""

    token = KEY
    taggable = False
    replace_on = frozenset({"keyUsage", "customerMasterKeySpec", "multiRegion"})
    known_by = ("arn",)

    def look(self, call: Call) -> Props | None:
        """Return it, unless its end is settled."""
        found = kms(call).describe_key(KeyId=call.id)["KeyMetadata"]
        return None if found["KeyState"] in ENDED else dict(found)

    def make(self, call: Call) -> Props:
        """Make it."""
        tags = [{"TagKey": key, "TagValue": value} for key, value in (call.inputs.get("tags") or {}).items()]
        made = kms(call).create_key(Description=call.inputs.get("description", ""), Tags=tags)["KeyMetadata"]
        call.id = made["KeyId"]
        if call.inputs.get("enableKeyRotation"):
            kms(call).enable_key_rotation(KeyId=call.id)
        return {"arn": made["Arn"], "keyId": call.id}

    def seen(self, call: Call, real: Props) -> Props:
        """Return whether it changes by itself."""
        return {"enableKeyRotation": kms(call).get_key_rotation_status(KeyId=call.id)["KeyRotationEnabled"]}

    def change(self, call: Call) -> Props:
        """Change whether it changes by itself."""
        word = "enable" if call.inputs.get("enableKeyRotation") else "disable"
        getattr(kms(call), f"{word}_key_rotation")(KeyId=call.id)
        return {}

    def remove(self, call: Call) -> None:
        """Settle its end."""
        kms(call).schedule_key_deletion(KeyId=call.id, PendingWindowInDays=int(call.state["deletionWindowInDays"]))


class Alias(Api):
    """A key's name."""

    token = "aws:kms/alias:Alias"
    taggable = False
    named = "name"
    unique = ("name",)
    replace_on = frozenset({"name"})
    refers: ClassVar = {"targetKeyId": KEY}

    def look(self, call: Call) -> Props | None:
        """Return it."""
        return next((each for each in kms(call).list_aliases()["Aliases"] if each["AliasName"] == call.id), None)

    def make(self, call: Call) -> Props:
        """Make it."""
        call.id = call.inputs["name"]
        kms(call).create_alias(AliasName=call.id, TargetKeyId=call.inputs["targetKeyId"])
        return {}

    def change(self, call: Call) -> Props:
        """Give it to another key."""
        kms(call).update_alias(AliasName=call.id, TargetKeyId=call.inputs["targetKeyId"])
        return {}

    def remove(self, call: Call) -> None:
        """Remove it."""
        kms(call).delete_alias(AliasName=call.id)


KINDS: tuple[type[Kind], ...] = (Card, Instance, Volume, Attachment, Pair, Key, Alias)
