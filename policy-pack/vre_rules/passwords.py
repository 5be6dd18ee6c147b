"""Nobody logs in with a password: keys only."""

from collections.abc import Iterator, Mapping, Sequence

from vre_rules import first_boot
from vre_rules.resource import Part, Report, Resource, Rule

GCP_WORDS = ("user-data", "startup-script")
AZURE_MACHINES = {
    "azure-native:compute:VirtualMachine": (),
    "azure-native:compute:VirtualMachineScaleSet": ("virtualMachineProfile",),
}
"""Where the profile of a machine stands."""
TOLD: Mapping[str, Sequence[str]] = {
    "aws:ec2/instance:Instance": ("userData", "userDataBase64"),
    "aws:ec2/spotInstanceRequest:SpotInstanceRequest": ("userData", "userDataBase64"),
    "aws:ec2/launchTemplate:LaunchTemplate": ("userData",),
    "gcp:compute/instance:Instance": ("metadataStartupScript",),
    "gcp:compute/instanceTemplate:InstanceTemplate": ("metadataStartupScript",),
    "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate": ("metadataStartupScript",),
    "openstack:compute/instance:Instance": ("userData",),
    "vre:libvirt:Volume": ("content",),
}
"""Where a machine is told what to do at its first boot."""


def check(resource: Resource, report: Report) -> None:
    """Refuse an account's password, and instructions that let people log in with one."""
    for part in _azure(resource):
        report(f"{part.path}: passwords are let in; give SSH keys, and disablePasswordAuthentication: true")
    if resource.kind == "openstack:compute/instance:Instance" and resource["adminPass"].given:
        report("adminPass: the machine gets a password; leave it out")
    for part in told(resource):
        if not isinstance(part.value, str):
            continue
        if first_boot.password_login(part.value):
            report(f"{part.path}: lets people log in over SSH with passwords; ssh_pwauth: false")
        if first_boot.password(part.value):
            report(f"{part.path}: gives an account a password; lock_passwd: true, and SSH keys")


def told(resource: Resource) -> Iterator[Part]:
    """Yield what a machine is told at its first boot."""
    for key in TOLD.get(resource.kind, ()):
        yield resource[key]
    if resource.kind.startswith("gcp:compute/") and resource.kind in TOLD:
        yield from (resource["metadata"][word] for word in GCP_WORDS)
    if resource.kind in AZURE_MACHINES:
        yield _profile(resource)["osProfile"]["customData"]
        yield _profile(resource)["userData"]


def _profile(resource: Resource) -> Part:
    part = resource.inputs
    for key in AZURE_MACHINES[resource.kind]:
        part = part[key]
    return part


def _azure(resource: Resource) -> Iterator[Part]:
    if resource.kind not in AZURE_MACHINES:
        return
    system = _profile(resource)["osProfile"]
    if system["adminPassword"].given:
        yield system["adminPassword"]
    keys_only = system["linuxConfiguration"]["disablePasswordAuthentication"]
    if system.given and not keys_only.may_be(True):
        yield keys_only


RULES = (
    Rule(
        name="no-passwords",
        description="Nobody logs in with a password: SSH keys only",
        check=check,
    ),
)
