"""What is written is encrypted, with a key that goes when the stack goes."""

from collections.abc import Callable, Iterator, Mapping

from vre_rules.resource import Part, Report, Resource, Rule

AWS_OWN_KEY = "alias/aws/"
"""How Amazon's own keys are named: all stacks of an account share them, and nobody can destroy them."""
AZURE_OWN_KEY = ("EncryptionAtRestWithCustomerKey", "EncryptionAtRestWithPlatformAndCustomerKeys")
GCP_TEMPLATES = ("instanceTemplate:InstanceTemplate", "regionInstanceTemplate:RegionInstanceTemplate")

Faults = Callable[[Resource], Iterator[Part]]


def encrypted(resource: Resource, report: Report) -> None:
    """Refuse a disk that is not encrypted, or that nobody can say it of."""
    faults = PLAIN.get(resource.kind)
    for part in faults(resource) if faults else ():
        report(f"{part.path}: this disk is not encrypted")


def own_key(resource: Resource, report: Report) -> None:
    """Refuse a disk that is encrypted with a key of the cloud's: destroying the stack's key would not nullify it."""
    faults = FOREIGN.get(resource.kind)
    for part in faults(resource) if faults else ():
        report(f"{part.path}: this disk has no key of the stack's own; name one in the cloud's key service")


def _aws_disks(resource: Resource) -> Iterator[Part]:
    """Yield all disks of a machine; the first is there even where nothing is said of it."""
    yield resource["rootBlockDevice"]
    yield from resource["ebsBlockDevices"].each()


def _aws_template_disks(resource: Resource) -> Iterator[Part]:
    """Yield all disks of a template; without any, the image decides, which nobody can see here."""
    mappings = resource["blockDeviceMappings"]
    yield from (disk["ebs"] for disk in mappings.each() if disk["ebs"].given)
    if not mappings.given:
        yield mappings.instead(None)


def _aws_volume(resource: Resource) -> Iterator[Part]:
    yield resource.inputs


def _aws_plain(disks: Faults) -> Faults:
    def faults(resource: Resource) -> Iterator[Part]:
        yield from (disk["encrypted"] for disk in disks(resource) if not disk["encrypted"].may_be(True, "true"))

    return faults


def _aws_foreign(disks: Faults) -> Faults:
    def faults(resource: Resource) -> Iterator[Part]:
        for disk in disks(resource):
            key = disk["kmsKeyId"]
            if not key.given or AWS_OWN_KEY in str(key.value):
                yield key

    return faults


def _azure_machine_plain(resource: Resource) -> Iterator[Part]:
    at_host = resource["securityProfile"]["encryptionAtHost"]
    if not at_host.may_be(True):
        yield at_host


def _azure_set_plain(resource: Resource) -> Iterator[Part]:
    at_host = resource["virtualMachineProfile"]["securityProfile"]["encryptionAtHost"]
    if not at_host.may_be(True):
        yield at_host


def _azure_disk(resource: Resource) -> Iterator[Part]:
    encryption = resource["encryption"]
    if not (encryption["type"].may_be(*AZURE_OWN_KEY) and encryption["diskEncryptionSetId"].given):
        yield encryption


def _azure_machine(resource: Resource) -> Iterator[Part]:
    yield from _azure_storage(resource["storageProfile"])


def _azure_set(resource: Resource) -> Iterator[Part]:
    yield from _azure_storage(resource["virtualMachineProfile"]["storageProfile"])


def _azure_storage(storage: Part) -> Iterator[Part]:
    """Yield the disks without a key. One that is attached is a resource of its own, with its own encryption."""
    for disk in (storage["osDisk"], *storage["dataDisks"].each()):
        key = disk["managedDisk"]["diskEncryptionSet"]["id"]
        attached = disk["createOption"].value == "Attach"
        if not attached and not key.given:
            yield key


def _gcp_disk(resource: Resource) -> Iterator[Part]:
    key = resource["diskEncryptionKey"]["kmsKeySelfLink"]
    if not key.given:
        yield key


def _gcp_region_disk(resource: Resource) -> Iterator[Part]:
    key = resource["diskEncryptionKey"]["kmsKeyName"]
    if not key.given:
        yield key


def _gcp_machine(resource: Resource) -> Iterator[Part]:
    """Yield the disks without a key. One with a source is a resource of its own; scratch disks have Google's key."""
    first = resource["bootDisk"]
    if not first["source"].given and not first["kmsKeySelfLink"].given:
        yield first["kmsKeySelfLink"]
    yield from resource["scratchDisks"].each()


def _gcp_template(resource: Resource) -> Iterator[Part]:
    for disk in resource["disks"].each():
        key = disk["diskEncryptionKey"]["kmsKeySelfLink"]
        if not disk["source"].given and not key.given:
            yield key


def _openstack_volume(resource: Resource) -> Iterator[Part]:
    kind, known = resource["volumeType"], resource.config.get("encryptedVolumeTypes", [])
    if not kind.given or (known and not kind.may_be(*known)):
        yield kind


def _openstack_machine(resource: Resource) -> Iterator[Part]:
    """Yield disks that are files of the hypervisor, which OpenStack does not encrypt."""
    devices = resource["blockDevices"]
    if not devices.given:
        yield devices
    yield from (each for each in devices.each() if not each["destinationType"].may_be("volume"))


def _libvirt_volume(resource: Resource) -> Iterator[Part]:
    """Yield a data disk: one that begins empty. Those with the system or a machine's first words begin with that."""
    begins_empty = not any(resource[key].given for key in ("source", "content", "backing"))
    if begins_empty and not resource["encryption"].given:
        yield resource["encryption"]


_AWS: Mapping[str, Faults] = {
    "aws:ebs/volume:Volume": _aws_volume,
    "aws:ec2/instance:Instance": _aws_disks,
    "aws:ec2/spotInstanceRequest:SpotInstanceRequest": _aws_disks,
    "aws:ec2/launchTemplate:LaunchTemplate": _aws_template_disks,
}
PLAIN: Mapping[str, Faults] = {
    **{kind: _aws_plain(disks) for kind, disks in _AWS.items()},
    "azure-native:compute:VirtualMachine": _azure_machine_plain,
    "azure-native:compute:VirtualMachineScaleSet": _azure_set_plain,
    "openstack:blockstorage/volume:Volume": _openstack_volume,
    "openstack:compute/instance:Instance": _openstack_machine,
    "vre:libvirt:Volume": _libvirt_volume,
}
"""Google encrypts whatever it writes."""
FOREIGN: Mapping[str, Faults] = {
    **{kind: _aws_foreign(disks) for kind, disks in _AWS.items()},
    "azure-native:compute:Disk": _azure_disk,
    "azure-native:compute:VirtualMachine": _azure_machine,
    "azure-native:compute:VirtualMachineScaleSet": _azure_set,
    "gcp:compute/disk:Disk": _gcp_disk,
    "gcp:compute/regionDisk:RegionDisk": _gcp_region_disk,
    "gcp:compute/instance:Instance": _gcp_machine,
    **{f"gcp:compute/{each}": _gcp_template for each in GCP_TEMPLATES},
}
"""OpenStack has Barbican make a key for each volume of a type that encrypts, and libvirt takes the stack's secret."""

RULES = (
    Rule(
        name="disks-encrypted",
        description="Every disk is encrypted",
        check=encrypted,
        settings={
            "encryptedVolumeTypes": {
                "type": "array",
                "items": {"type": "string"},
                "description": "OpenStack's volume types that encrypt; empty: any type that is named",
                "default": [],
            }
        },
    ),
    Rule(
        name="disks-own-key",
        description="Every disk has a key of the stack's own, so that destroying the key nullifies the data",
        check=own_key,
    ),
)
