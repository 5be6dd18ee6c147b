"""OpenStack's machines, disks, keys and images, which are not real."""

import re
from collections.abc import Iterable
from typing import ClassVar

from tests.engine.simulated.table import Call, CloudError, Kind
from vre.errors import Finding
from vre.provider.handler import Props, Unknown

PORT = "openstack:networking/port:Port"
KEYPAIR = "openstack:compute/keypair:Keypair"
VOLUME = "openstack:blockstorage/volume:Volume"
INSTANCE = "openstack:compute/instance:Instance"
IMAGE = "openstack:images/image:Image"
FLAVORS = (("m1.small", 2, 4096), ("m1.medium", 4, 16384), ("a1.large", 8, 16384), ("b1.large", 8, 16384))
"""Name, processors, MiB. Two have the same numbers."""
IMAGES = (
    ("Debian 12 (bookworm)", "2025"),
    ("Debian 13 (trixie)", "2026"),
    ("debian-13-old", "2025"),
    ("Ubuntu", "2026"),
)
"""Name and date."""
TYPES = ("LUKS", "standard")
USER_DATA = 65535
"""Bytes of user-data, encoded, that nova takes (https://docs.openstack.org/api-ref/compute/#create-server)."""
NOTHING = "Your query returned no results. Please change your search criteria and try again."


class Keypair(Kind):
    """A public key, whose name is its id."""

    token = KEYPAIR
    named = "name"
    unique = ("name",)
    replace_on = frozenset({"region", "name", "publicKey", "userId", "valueSpecs"})
    secret_outputs = frozenset({"privateKey"})

    def identify(self, call: Call) -> str:
        """Take the name."""
        return str(call.inputs["name"])

    def outputs(self, call: Call) -> Props:
        """Give a fingerprint."""
        return {"region": call.config["region"], "fingerprint": "aa:bb", "privateKey": ""}


class Volume(Kind):
    """A volume of cinder's."""

    token = VOLUME
    named = "name"
    replace_on = frozenset(
        {"region", "availabilityZone", "snapshotId", "sourceVolId", "imageId", "consistencyGroupId", "backupId"}
    )
    refers: ClassVar = {"imageId": IMAGE}
    frees = frozenset({"imageId"})

    def check(self, inputs: Props) -> Iterable[Finding]:
        """Refuse what is no size."""
        if not isinstance(inputs.get("size"), Unknown) and int(inputs.get("size", 0)) < 1:
            yield Finding(key="size", reason="must be at least 1")

    def outputs(self, call: Call) -> Props:
        """Refuse a type that the cloud does not have."""
        kind = call.inputs.get("volumeType")
        if kind is not None and kind not in TYPES:
            raise CloudError(f"Volume type with name {kind} could not be found., status 404")
        return {"region": call.config["region"], "volumeType": kind or "standard", "attachments": []}

    def update(self, call: Call) -> Props:
        """Grow, while in use only where that was asked for; never shrink."""
        old, new = call.old_inputs["size"], call.inputs["size"]
        if new < old:
            raise CloudError(
                f"New size for extend must be greater than current size. (current: {old}, extended: {new})."
            )
        if new != old and not call.inputs.get("enableOnlineResize"):
            raise CloudError("the volume is in-use, and enable_online_resize is not true")
        return {}


class Instance(Kind):
    """A machine of nova's."""

    token = INSTANCE
    named = "name"
    replace_on = frozenset(
        {"region", "imageId", "imageName", "userData", "availabilityZone", "networks", "configDrive", "keyPair",
         "blockDevices", "schedulerHints", "personalities"}
    )  # fmt: skip
    refers: ClassVar = {"networks[*].port": PORT, "blockDevices[*].uuid": VOLUME, "keyPair": KEYPAIR}
    frees = frozenset({"keyPair"})

    def outputs(self, call: Call) -> Props:
        """Refuse what nova refuses: too much user-data, a volume that is in use elsewhere."""
        encoded = -(-len(str(call.inputs.get("userData", "")).encode()) // 3) * 4
        if encoded > USER_DATA:
            raise CloudError(f"Invalid input for field/attribute user_data: is too long ({encoded} bytes), status 400")
        for other in call.things(INSTANCE):
            both = {each["uuid"] for each in other.inputs["blockDevices"]} & {
                each["uuid"] for each in call.inputs["blockDevices"]
            }
            if both:
                raise CloudError(f"volume {both.pop()} is in use by {other.id}, status 409")
        address = call.find(PORT, call.inputs["networks"][0]["port"])
        first = address.outputs["allFixedIps"][0] if address else ""
        return {"region": call.config["region"], "accessIpV4": first, "allMetadata": call.inputs.get("metadata") or {}}

    def delete(self, call: Call) -> None:
        """What is on a machine goes with it."""
        for thing in call.cloud.resources():
            if thing.plugin == "vre" and thing.inputs.get("machine") == call.id:
                call.cloud.remove(thing.type, thing.id)


def find_image(call: Call) -> Props:
    """Find the newest image that is named so."""
    wanted = call.inputs.get("nameRegex") or re.escape(call.inputs["name"]) + "$"
    # In Go's regular expressions, as here, (?i) stands first.
    found = sorted((date, name) for name, date in IMAGES if re.match(wanted, name))
    if not found:
        raise CloudError(NOTHING)
    return {**call.inputs, "id": image_id(found[-1][1]), "name": found[-1][1]}


def image_id(name: str) -> str:
    """Return an image's id."""
    return f"image-{name}"


def find_flavor(call: Call) -> Props:
    """Find the one flavour with these properties."""
    asked = {key: call.inputs[key] for key in ("name", "vcpus", "ram") if call.inputs.get(key) is not None}
    every = [dict(zip(("name", "vcpus", "ram"), each, strict=True)) for each in FLAVORS]
    found = [each for each in every if asked.items() <= each.items()]
    if len(found) > 1:
        raise CloudError("Your query returned more than one result. Please try a more specific search criteria")
    if not found:
        raise CloudError(NOTHING)
    return {**call.inputs, **found[0], "id": f"flavor-{found[0]['name']}", "flavorId": f"flavor-{found[0]['name']}"}
