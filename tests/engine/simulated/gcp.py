"""A simulated Google Cloud: what its APIs, and the official plugin before them, do with what a stack asks for."""

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import ClassVar

from tests.engine.simulated.store import Thing
from tests.engine.simulated.table import Call, CloudError, Kind, Provider, at
from tests.oracle.gcp import FIREWALL, INSTANCE, NAT, SUBNET, rule
from vre.errors import Finding
from vre.provider.handler import Props

NETWORK = "gcp:compute/network:Network"
ADDRESS = "gcp:compute/address:Address"
ROUTER = "gcp:compute/router:Router"
DISK = "gcp:compute/disk:Disk"
RING = "gcp:kms/keyRing:KeyRing"
KEY = "gcp:kms/cryptoKey:CryptoKey"
GRANT = "gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember"
FOR_EVER = "gcp:for ever"
"""What is left of a key or its ring: the name, which nobody can have again."""
NUMBER = "123456789012"
AGENT = f"serviceAccount:service-{NUMBER}@compute-system.iam.gserviceaccount.com"
USES_KEYS = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
CREDENTIALS = ("GOOGLE_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_OAUTH_ACCESS_TOKEN")
NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL = re.compile(r"[a-z0-9_-]{0,63}")
FAMILY = "projects/debian-cloud/global/images/family/debian-13"
METADATA = 262144  # bytes of one value at most
DESCRIPTION = 2048  # characters of a rule's
PORTS = ("tcp", "udp", "sctp")
SECURE = ("debian-cloud",)
"""Projects whose images have a signed loader."""


POLICY = "compute.networks.updatePolicy"
CALLS: dict[str, dict[str, tuple[str, ...]]] = {
    NETWORK: {"create": ("compute.networks.create", "compute.globalOperations.get"), "read": ("compute.networks.get",),
              "delete": ("compute.networks.delete",)},
    SUBNET: {"create": ("compute.subnetworks.create", POLICY, "compute.regionOperations.get"),
             "read": ("compute.subnetworks.get",), "delete": ("compute.subnetworks.delete", POLICY)},
    FIREWALL: {"create": ("compute.firewalls.create", POLICY), "read": ("compute.firewalls.get",),
               "update": ("compute.firewalls.update", POLICY), "delete": ("compute.firewalls.delete", POLICY)},
    ROUTER: {"create": ("compute.routers.create", POLICY), "read": ("compute.routers.get",),
             "delete": ("compute.routers.delete", POLICY)},
    NAT: {"create": ("compute.routers.update",), "read": ("compute.routers.get",),
          "delete": ("compute.routers.update",)},
    ADDRESS: {"create": ("compute.addresses.create", "compute.addresses.setLabels"),
              "read": ("compute.addresses.get",), "delete": ("compute.addresses.delete",)},
    RING: {"create": ("cloudkms.keyRings.create",), "read": ("cloudkms.keyRings.get",), "delete": ()},
    KEY: {"create": ("cloudkms.cryptoKeys.create",), "read": ("cloudkms.cryptoKeys.get",),
          "delete": ("cloudkms.cryptoKeyVersions.list", "cloudkms.cryptoKeyVersions.destroy",
                     "cloudkms.cryptoKeys.update")},
    GRANT: dict.fromkeys(("create", "read", "delete"),
                         ("cloudkms.cryptoKeys.getIamPolicy", "cloudkms.cryptoKeys.setIamPolicy")),
    DISK: {"create": ("compute.disks.create", "compute.disks.setLabels", "compute.images.useReadOnly",
                      "compute.zoneOperations.get"),
           "read": ("compute.disks.get",), "update": ("compute.disks.resize", "compute.disks.setLabels"),
           "delete": ("compute.disks.delete", "compute.instances.detachDisk")},
    INSTANCE: {"create": ("compute.instances.create", "compute.instances.setLabels", "compute.instances.setMetadata",
                          "compute.instances.setTags", "compute.disks.use", "compute.subnetworks.use",
                          "compute.subnetworks.useExternalIp", "compute.addresses.use", "compute.zones.get",
                          "compute.machineTypes.get"),
               "read": ("compute.instances.get",),
               "update": ("compute.instances.setMachineType", "compute.instances.stop", "compute.instances.start",
                          "compute.instances.setMetadata", "compute.instances.setTags", "compute.instances.setLabels",
                          "compute.instances.updateShieldedInstanceConfig", "compute.instances.attachDisk"),
               "delete": ("compute.instances.delete",)},
    "gcp:organizations/getProject:getProject": {"invoke": ("resourcemanager.projects.get",)},
}  # fmt: skip
"""Which permissions the official plugin needs for each call, by Google's reference of each method."""


class Place(Kind):
    """Something with a name, below a project and a global, regional or zonal collection."""

    collection: ClassVar[str]
    where: ClassVar[str] = "global"
    labelled: ClassVar[bool] = False
    named = "name"
    unique = ("name",)
    known_by: ClassVar[tuple[str, ...]] = ("selfLink",)

    def __init_subclass__(cls) -> None:
        """Say what holds for all: name and place are for good."""
        cls.replace_on = cls.replace_on | {"name", "project", "region", "zone", "network"}

    def check(self, inputs: Props) -> Iterable[Finding]:
        """Refuse names and labels that are none."""
        name = inputs.get("name")
        if isinstance(name, str) and not NAME.fullmatch(name):
            yield Finding(key="name", reason=f"{name!r} does not match {NAME.pattern}")
        for key, value in (inputs.get("labels") or {}).items():
            if not LABEL.fullmatch(key) or (isinstance(value, str) and not LABEL.fullmatch(value)):
                yield Finding(key=f"labels.{key}", reason="only small letters, digits, _ and -, 63 at most")

    def identify(self, call: Call) -> str:
        """Put the names together."""
        inputs, config = call.inputs, call.config
        where = {"global": "global", "regions": f"regions/{inputs.get('region') or config['region']}"}
        place = where.get(self.where) or f"zones/{inputs['zone']}"
        return f"projects/{config['project']}/{place}/{self.collection}/{inputs['name']}"

    def outputs(self, call: Call) -> Props:
        """Give what all have."""
        given = {"project": call.config["project"], "selfLink": f"https://www.googleapis.com/compute/v1/{call.id}"}
        labels = {"effectiveLabels": call.inputs.get("labels") or {}} if self.labelled else {}
        return {**given, **labels, **self.computed(call)}

    def computed(self, call: Call) -> Props:
        """Return what is computed for this type only."""
        return {}


class Network(Place):
    """A network; it is everywhere."""

    token = NETWORK
    collection = "networks"
    replace_on = frozenset({"autoCreateSubnetworks"})

    def computed(self, call: Call) -> Props:
        """Give the network's own number."""
        return {"numericId": _number()}


class Subnetwork(Place):
    """A range of addresses in a region."""

    token = SUBNET
    collection, where = "subnetworks", "regions"
    replace_on = frozenset({"ipv6AccessType", "purpose", "ipCidrRange"})
    refers: ClassVar = {"network": NETWORK}

    def create(self, call: Call) -> Props:
        """Refuse a range that overlaps another of the network."""
        own = ip_network(call.inputs["ipCidrRange"])
        for other in call.things(SUBNET):
            same = other.inputs["network"] == call.inputs["network"]
            if same and own.overlaps(ip_network(other.inputs["ipCidrRange"])):
                raise CloudError(f"Error 400: Invalid IPCidrRange: {own} conflicts with existing subnetwork {other.id}")
        return super().create(call)

    def computed(self, call: Call) -> Props:
        """Give the gateway, and a range of IPv6 addresses."""
        gateway = str(next(ip_network(call.inputs["ipCidrRange"]).hosts()))
        return {"gatewayAddress": gateway, "externalIpv6Prefix": "2600:1900:4010:7::/64"}


class Firewall(Place):
    """A rule."""

    token = FIREWALL
    collection = "firewalls"
    replace_on = frozenset({"direction"})
    refers: ClassVar = {"network": NETWORK}

    def create(self, call: Call) -> Props:
        """Refuse what Google refuses."""
        self.refuse(call.inputs)
        return super().create(call)

    def update(self, call: Call) -> Props:
        """Refuse what Google refuses."""
        self.refuse(call.inputs)
        return {}

    def refuse(self, inputs: Props) -> None:
        """Raise CloudError for a rule that cannot be."""
        try:
            opens = rule(inputs).opens
            assert len(inputs.get("description", "")) <= DESCRIPTION, "the description is too long"
            wrong = {"EGRESS": ("sourceRanges", "sourceTags"), "INGRESS": ("destinationRanges",)}[inputs["direction"]]
            assert not any(key in inputs for key in wrong), f"{wrong} in a rule of the other direction"
            for path in ("allows[*]", "denies[*]"):
                for _, each in at(inputs, path):
                    assert each["protocol"] in PORTS or not each.get("ports"), f"{each['protocol']} has no ports"
            assert opens, "no protocol"
        except (AssertionError, ValueError) as error:
            raise CloudError(f"Error 400: Invalid value for field 'resource': {error}") from error


class Router(Place):
    """What a NAT gateway hangs on."""

    token = ROUTER
    collection, where = "routers", "regions"
    refers: ClassVar = {"network": NETWORK}


class Nat(Place):
    """The way out for machines without a public address."""

    token = NAT
    collection, where = "nats", "regions"
    replace_on = frozenset({"router"})
    refers: ClassVar = {"subnetworks[*].name": SUBNET}

    def create(self, call: Call) -> Props:
        """Refuse a router that is not there."""
        if not any(each.inputs["name"] == call.inputs["router"] for each in call.things(ROUTER)):
            raise CloudError(f"Error 404: The resource 'routers/{call.inputs['router']}' was not found, notFound")
        call.id = f"{call.config['project']}/{call.config['region']}/{call.inputs['router']}/{call.inputs['name']}"
        return {"project": call.config["project"]}


class Address(Place):
    """A static address."""

    token = ADDRESS
    collection, where = "addresses", "regions"
    replace_on = frozenset({"addressType", "networkTier", "ipVersion"})
    known_by = ("selfLink", "address")
    labelled = True

    def computed(self, call: Call) -> Props:
        """Give one, for good."""
        return {"address": f"198.51.100.{100 + len(call.things(ADDRESS))}", "creationTimestamp": "now"}


class Ring(Kind):
    """A ring of keys. It cannot be deleted: only the state forgets it."""

    token = RING
    named = "name"
    unique = ("name", "location")
    replace_on = frozenset({"name", "location", "project"})

    def identify(self, call: Call) -> str:
        """Put the names together."""
        where = f"projects/{call.config['project']}/locations/{call.inputs['location']}"
        return f"{where}/keyRings/{call.inputs['name']}"

    def create(self, call: Call) -> Props:
        """Refuse a name that ever was."""
        call.id = self.identify(call)
        if call.find(FOR_EVER, call.id):
            raise CloudError(f"Error 409: {call.id} already exists.")
        return {"project": call.config["project"]}

    def delete(self, call: Call) -> None:
        """Keep the name for ever."""
        call.cloud.put(Thing(type=FOR_EVER, id=call.id, inputs={}, outputs={}, given=True))


class Key(Ring):
    """A key. Its versions are destroyed with it, and what they sealed is noise."""

    token = KEY
    unique = ("name", "keyRing")
    replace_on = frozenset({"name", "keyRing", "purpose", "destroyScheduledDuration"})
    refers: ClassVar = {"keyRing": RING}

    def identify(self, call: Call) -> str:
        """Put the names together."""
        return f"{call.inputs['keyRing']}/cryptoKeys/{call.inputs['name']}"

    def create(self, call: Call) -> Props:
        """Give the first version."""
        super().create(call)
        primary = {"name": f"{call.id}/cryptoKeyVersions/1", "state": "ENABLED"}
        return {"primaries": [primary], "effectiveLabels": call.inputs.get("labels") or {}}


class Grant(Kind):
    """Who may use a key."""

    token = GRANT
    replace_on = frozenset({"cryptoKeyId", "role", "member", "condition"})
    refers: ClassVar = {"cryptoKeyId": KEY}

    def identify(self, call: Call) -> str:
        """Put key, role and member together."""
        return f"{call.inputs['cryptoKeyId']}/{call.inputs['role']}/{call.inputs['member']}"

    def outputs(self, call: Call) -> Props:
        """Give a mark of this version."""
        return {"etag": secrets.token_urlsafe(8)}


class Disk(Place):
    """A disk."""

    token = DISK
    collection, where = "disks", "zones"
    replace_on = frozenset({"type", "image", "diskEncryptionKey", "snapshot"})
    refers: ClassVar = {"diskEncryptionKey.kmsKeySelfLink": KEY}
    labelled = True

    def create(self, call: Call) -> Props:
        """Refuse a key that Google's disks may not use, an image that is not there, and what is too small."""
        _in_region(call)
        key = (call.inputs.get("diskEncryptionKey") or {}).get("kmsKeySelfLink")
        if key and not call.find(GRANT, f"{key}/{USES_KEYS}/{AGENT}"):
            raise CloudError(f"Error 400: Cloud KMS error when using key {key}: Permission denied")
        image = call.inputs.get("image", FAMILY)
        if image != FAMILY and not image.startswith(f"projects/{call.config['project']}/"):
            raise CloudError(f"Error 404: The resource '{image}' was not found, notFound")
        if call.inputs["size"] < 10:
            raise CloudError("Error 400: Disk size cannot be smaller than 10 GB")
        return super().create(call)

    def update(self, call: Call) -> Props:
        """Let it grow."""
        if call.inputs["size"] < call.state["size"]:
            raise CloudError("Error 400: New disk size must be larger than the existing size")
        return {"effectiveLabels": call.inputs.get("labels") or {}}

    def computed(self, call: Call) -> Props:
        """Give its number."""
        return {"diskId": _number(), "creationTimestamp": "now"}


class Instance(Place):
    """A machine."""

    token = INSTANCE
    collection, where = "instances", "zones"
    replace_on = frozenset(
        {"bootDisk", "hostname", "keyRevocationActionType", "networkInterfaces[*].networkIp",
         "networkInterfaces[*].subnetwork", "metadataStartupScript"}
    )  # fmt: skip
    refers: ClassVar = {
        "bootDisk.source": DISK,
        "attachedDisks[*].source": DISK,
        "networkInterfaces[*].subnetwork": SUBNET,
        "networkInterfaces[*].accessConfigs[*].natIp": ADDRESS,
    }
    labelled = True

    def check(self, inputs: Props) -> Iterable[Finding]:
        """Refuse metadata that is too long."""
        yield from super().check(inputs)
        for key, value in (inputs.get("metadata") or {}).items():
            if isinstance(value, str) and len(value.encode()) > METADATA:
                yield Finding(key=f"metadata.{key}", reason=f"longer than {METADATA} bytes")

    def create(self, call: Call) -> Props:
        """Refuse an address that is none, or not free, and a loader that is not signed."""
        _in_region(call)
        [card] = call.inputs["networkInterfaces"]
        _free(call, card)
        disk = call.find(DISK, call.inputs["bootDisk"]["source"])
        image = (disk.inputs.get("image") or "") if disk else ""
        secure = (call.inputs.get("shieldedInstanceConfig") or {}).get("enableSecureBoot")
        if secure and not any(each in image for each in SECURE):
            raise CloudError(f"the machine does not start: {image} has no signed loader")
        return super().create(call)

    def update(self, call: Call) -> Props:
        """Stop it where it must be."""
        stops = ("machineType", "shieldedInstanceConfig")
        changed = [key for key in stops if call.inputs.get(key) != call.state.get(key)]
        if changed and not call.inputs.get("allowStoppingForUpdate"):
            raise CloudError(f"Changing {changed} requires stopping it: set allow_stopping_for_update")
        return {"effectiveLabels": call.inputs.get("labels") or {}}

    def delete(self, call: Call) -> None:
        """Take along what lived inside: it knows the machine by the number that is new with each."""
        call.cloud.remove(INSTANCE, str(call.state["instanceId"]))

    def computed(self, call: Call) -> Props:
        """Give its number, by which it is known from another of its name."""
        return {"instanceId": _number(), "currentStatus": "RUNNING", "cpuPlatform": "Intel Broadwell"}


def project(call: Call) -> Props:
    """Look at a project."""
    if call.inputs.get("projectId") != call.config["project"]:
        raise CloudError(f"Error 403: The caller does not have permission: {call.inputs.get('projectId')}")
    return {"id": f"projects/{call.inputs['projectId']}", "number": NUMBER, "name": "Phenome"}


class Google(Provider):
    """The cloud."""

    name = "gcp"
    sdk = "pulumi_gcp"
    kinds = (Network, Subnetwork, Firewall, Router, Nat, Address, Ring, Key, Grant, Disk, Instance)
    functions: ClassVar = {"gcp:organizations/getProject:getProject": project}
    # The plugin says of no setting that it changes anything: whoever moves has to say so himself.

    def configure(self, config: Props) -> None:
        """Refuse to work without credentials in the environment."""
        if not any(os.environ.get(name) for name in CREDENTIALS):
            raise CloudError("google: could not find default credentials")

    def missing(self, path: str, token: str, value: str) -> CloudError:
        """Say that something is not there."""
        return CloudError(f"Error 404: The resource '{value}' was not found, notFound")

    def in_use(self, thing: Thing, users: Sequence[Thing]) -> CloudError:
        """Say that something is needed."""
        return CloudError(f"Error 400: The resource '{thing.id}' is already being used by '{users[0].id}'")

    def exists(self, kind: Kind, other: Thing) -> CloudError:
        """Say that a name is taken."""
        return CloudError(f"Error 409: The resource '{other.id}' already exists, alreadyExists")


def _free(call: Call, card: Props) -> None:
    subnet = call.find(SUBNET, card["subnetwork"])
    inside, own = ip_network(subnet.inputs["ipCidrRange"] if subnet else ""), ip_address(card["networkIp"])
    # The first two and the last two of a range are Google's.
    if own not in inside or own in (inside[0], inside[1], inside[-2], inside[-1]):
        raise CloudError(f"Error 400: Invalid value for field 'networkIP': {own} is not in {inside}")
    if any(each == str(own) for each in _addresses(call, card["subnetwork"])):
        raise CloudError(f"Error 400: IP '{own}' is already being used by another resource")
    for each in card.get("accessConfigs") or []:
        if not any(one.outputs["address"] == each["natIp"] for one in call.things(ADDRESS)):
            raise CloudError(f"Error 400: {each['natIp']} is no address of this project")


def _addresses(call: Call, subnet: str) -> Iterator[str]:
    for each in call.things(INSTANCE):
        for card in each.inputs["networkInterfaces"]:
            if card["subnetwork"] == subnet:
                yield card["networkIp"]


def _in_region(call: Call) -> None:
    zone, region = call.inputs["zone"], call.config["region"]
    if not re.fullmatch(rf"{region}-[a-f]", zone):
        raise CloudError(f"Error 400: zone {zone} is not in {region}")


def _number() -> str:
    return str(secrets.randbelow(10**19))


PROVIDER = Google
