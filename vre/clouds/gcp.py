"""Google Cloud. The same sections in the same order as every module beside it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pulumi_gcp as gcp
from pulumi import Input, InvokeOptions, Output, Resource, ResourceOptions

from vre import resources
from vre.cloud import DEBIAN, Gcp
from vre.clouds.rented import Flow, Type, flows, native, nearest, sizes, tags, unknown_region
from vre.clouds.site import Data, Made, Order
from vre.config import Config
from vre.errors import Finding, VreError
from vre.inventory import Machine, Plan
from vre.machine.cloudinit import Seed
from vre.paths import project
from vre.plan import Surroundings
from vre.policy import Network as Cidr
from vre.policy import Peer, Role
from vre.template import render_template

SIZES = (
    Type(name="e2-standard-2", cpus=2, memory=8),
    Type(name="e2-highmem-2", cpus=2, memory=16),
    Type(name="e2-standard-4", cpus=4, memory=16),
    Type(name="e2-highmem-4", cpus=4, memory=32),
    Type(name="e2-highcpu-8", cpus=8, memory=8),
    Type(name="e2-standard-8", cpus=8, memory=32),
    Type(name="e2-highmem-8", cpus=8, memory=64),
    Type(name="e2-highcpu-16", cpus=16, memory=16),
    Type(name="e2-standard-16", cpus=16, memory=64),
    Type(name="e2-highmem-16", cpus=16, memory=128),
    Type(name="e2-highcpu-32", cpus=32, memory=32),
    Type(name="e2-standard-32", cpus=32, memory=128),
    Type(name="n2-highmem-32", cpus=32, memory=256),
    Type(name="n2-standard-48", cpus=48, memory=192),
    Type(name="n2-standard-64", cpus=64, memory=256),
    Type(name="n2-highmem-48", cpus=48, memory=384),
    Type(name="n2-standard-80", cpus=80, memory=320),
    Type(name="n2-highmem-64", cpus=64, memory=512),
    Type(name="n2-standard-96", cpus=96, memory=384),
    Type(name="n2-highmem-80", cpus=80, memory=640),
    Type(name="n2-standard-128", cpus=128, memory=512),
    Type(name="n2-highmem-96", cpus=96, memory=768),
    Type(name="n2-highmem-128", cpus=128, memory=864),
    Type(name="m1-ultramem-80", cpus=80, memory=1922),
    Type(name="m1-ultramem-160", cpus=160, memory=3844),
)
"""Cheapest first. Whole processors only: the shared ones (e2-small, e2-medium) are slow after minutes of work."""
SCSI_FAMILIES = ("c2", "c2d", "e2", "m1", "m2", "n1", "n2", "n2d", "t2d")
"""Families whose disks are SCSI: udev by itself then names a disk by its device name. With NVMe (c3, n4 and later) only
Google's own tools know which disk is which (https://cloud.google.com/compute/docs/disks/disk-symlinks)."""
REGIONS = (
    "africa-south1", "asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2", "asia-northeast3",
    "asia-south1", "asia-south2", "asia-southeast1", "asia-southeast2", "asia-southeast3", "australia-southeast1",
    "australia-southeast2", "europe-central2", "europe-north1", "europe-north2", "europe-southwest1", "europe-west1",
    "europe-west2", "europe-west3", "europe-west4", "europe-west6", "europe-west8", "europe-west9", "europe-west10",
    "europe-west12", "me-central1", "me-central2", "me-west1", "northamerica-northeast1", "northamerica-northeast2",
    "northamerica-south1", "southamerica-east1", "southamerica-west1", "us-central1", "us-east1", "us-east4",
    "us-east5", "us-south1", "us-west1", "us-west2", "us-west3", "us-west4",
)  # fmt: skip
"""https://cloud.google.com/compute/docs/regions-zones; every one of them has a zone b."""
DEBIAN_IMAGE = "projects/debian-cloud/global/images/family/debian-13"
"""The newest of Debian's own images (https://cloud.google.com/compute/docs/images/os-details#debian)."""
LINK_LOCAL = "169.254.169.254/32"
"""Where Google answers with names, time and metadata. Its firewalls let this through whatever they are told."""
ALLOW, DENY = 1000, 65000
"""The rules' priorities: lower wins; the implied rules, which let everything out, are at 65535."""
FAMILIES = {4: "0.0.0.0/0", 6: "::/0"}
SMALLEST_DISK = 10  # GiB
KEY_SECONDS = 24 * 60 * 60
"""How long a destroyed key can be called back: the least that Google allows."""
DATA_NAME = "vre-data"
ONCE = ('metadata["user-data"]', 'metadata["startup-script"]', "shieldedInstanceConfig.enableSecureBoot")
"""What is said to a new machine only, of its image and first boot."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """The stack's own network, and what machines share: where they stand, and the key of their disks."""

    order: Order
    cloud: Gcp
    zone: str
    network: gcp.compute.Network
    subnet: gcp.compute.Subnetwork
    ways: tuple[Resource, ...]
    """What leads outside: before that, a worker's first boot would fail."""
    key: gcp.kms.CryptoKey
    grant: gcp.kms.CryptoKeyIAMMember
    child: ResourceOptions
    gateways: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()

    def interfaces(self, machine: Machine) -> tuple[str, ...]:
        """Return nothing: DHCP gives a machine its addresses."""
        return ()

    def after(self, *others: Resource, ignore: Iterable[str] = ()) -> ResourceOptions:
        """Return options for what is made after others. What a standing machine does not follow is ignored."""
        return ResourceOptions.merge(
            self.child, ResourceOptions(depends_on=list(others), ignore_changes=list(ignore) or None)
        )


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The tag by which a role's rules find its machines, and all rules that concern these."""

    tag: str
    rules: tuple[Resource, ...]


def surroundings(config: Config) -> Surroundings:
    """Say who answers the machines: one address of Google's, for names, time and metadata.

    https://cloud.google.com/vpc/docs/firewalls#gcp-metadata-server
    """
    return Surroundings(
        resolvers=(LINK_LOCAL,), time=(LINK_LOCAL,), metadata=(LINK_LOCAL,), bastion=True, dhcp=True
    )  # fmt: skip


def faults(config: Config, plan: Plan) -> Iterator[Finding]:
    """Yield what Google would refuse, as far as that can be known without asking it."""
    cloud = _cloud(config)
    if cloud.region not in REGIONS:
        yield unknown_region("Google", cloud.region, REGIONS)
    elif not zone(cloud).startswith(f"{cloud.region}-"):
        reason = f"{cloud.zone} is not in {cloud.region}"
        yield Finding(key="vre:cloud.zone", reason=reason, example=f"zone: {cloud.region}-b")
    yield from sizes(plan.machines, size)


def network(order: Order, opts: ResourceOptions) -> Network:
    """Make the network, the ways out of it, and the key."""
    cloud = _cloud(order.config)
    name = f"vre-{order.config.name}"
    provider = gcp.Provider(
        "gcp", project=cloud.project, region=cloud.region, add_pulumi_attribution_label=False, opts=opts
    )
    # Names are fixed: the old one has to be gone before the new one comes. A change of the provider's project or
    # region alone leaves where it is what does not name them itself.
    place = [cloud.project, cloud.region]
    anew = ResourceOptions(provider=provider, delete_before_replace=True, replacement_trigger=place)
    child = ResourceOptions.merge(opts, anew)
    made = gcp.compute.Network("network", name=name, auto_create_subnetworks=False, opts=child)
    subnet = gcp.compute.Subnetwork(
        "subnet",
        name=name,
        network=made.id,
        region=cloud.region,
        ip_cidr_range=cloud.network,
        stack_type="IPV4_IPV6",
        ipv6_access_type="EXTERNAL",
        private_ip_google_access=False,
        opts=child,
    )
    # In another region the network's end takes the machines away: only then may their address, key and disks go.
    after = ResourceOptions.merge(child, ResourceOptions(depends_on=[made]))
    key, grant = _key(order.config, cloud, after, InvokeOptions(provider=provider, parent=opts.parent))
    return Network(
        order=order,
        cloud=cloud,
        zone=zone(cloud),
        network=made,
        subnet=subnet,
        ways=(_nat(name, made, subnet, child),) if order.plan.workers else (),
        key=key,
        grant=grant,
        child=child,
    )


def size(machine: Machine) -> str:
    """Return Google's name for a machine's size. Raises VreError when there is none, or its disks are not SCSI."""
    name = native(SIZES, machine)
    if name.split("-")[0] not in SCSI_FAMILIES:
        raise VreError(
            f"{machine.name}: {name} is of no family whose disks have a stable name",
            hint=f"one of {', '.join(SCSI_FAMILIES)}, such as size: {{type: {nearest(name, [t.name for t in SIZES])}}}",
        )
    return name


def zone(cloud: Gcp) -> str:
    """Return the zone that was asked for, else the region's b."""
    return cloud.zone or f"{cloud.region}-b"


def _nat(
    name: str, network: gcp.compute.Network, subnet: gcp.compute.Subnetwork, opts: ResourceOptions
) -> gcp.compute.RouterNat:
    """Lead workers out, and nobody in."""
    router = gcp.compute.Router("router", name=name, network=network.id, opts=opts)
    return gcp.compute.RouterNat(
        "nat",
        name=name,
        router=router.name,
        nat_ip_allocate_option="AUTO_ONLY",
        source_subnetwork_ip_ranges_to_nat="LIST_OF_SUBNETWORKS",
        subnetworks=[{"name": subnet.id, "source_ip_ranges_to_nats": ["PRIMARY_IP_RANGE"]}],
        log_config={"enable": True, "filter": "ERRORS_ONLY"},
        opts=opts,
    )


def _key(
    config: Config, cloud: Gcp, opts: ResourceOptions, look: InvokeOptions
) -> tuple[gcp.kms.CryptoKey, gcp.kms.CryptoKeyIAMMember]:
    """Make the key of all the stack's disks, and let Google's disks use it: without it, what is on them is noise."""
    # Rings and keys are for ever, and so are their names: each launch makes up new ones.
    ring = gcp.kms.KeyRing(f"vre-{config.name}", location=cloud.region, opts=opts)
    key = gcp.kms.CryptoKey(
        f"vre-{config.name}-disks",
        key_ring=ring.id,
        purpose="ENCRYPT_DECRYPT",
        destroy_scheduled_duration=f"{KEY_SECONDS}s",
        labels=tags(config.name),
        opts=opts,
    )
    paying = gcp.organizations.get_project_output(project_id=cloud.project, opts=look)
    grant = gcp.kms.CryptoKeyIAMMember(
        "disks-use-the-key",
        crypto_key_id=key.id,
        role="roles/cloudkms.cryptoKeyEncrypterDecrypter",
        member=paying.number.apply(
            lambda number: f"serviceAccount:service-{number}@compute-system.iam.gserviceaccount.com"
        ),
        opts=opts,
    )
    return key, grant


def firewalls(net: Network) -> dict[str, Guard]:
    """Make the rules of each role, found by its tag, from the policy; then one that refuses and logs all else."""
    last = [_rule(net, each["name"], each) for each in refusals(net.order.config.name)]
    guards = {
        role: Guard(
            tag=tag(net.order.config.name, role),
            rules=(*last, *(_rule(net, each["name"], each) for each in rules(net.order, role))),
        )
        for role in sorted(net.order.plan.roles)
    }
    return {machine.name: guards[machine.role] for machine in net.order.plan.machines}


def _rule(net: Network, name: str, settings: dict[str, Any]) -> gcp.compute.Firewall:
    logical = name.removeprefix(f"vre-{net.order.config.name}-")
    return gcp.compute.Firewall(logical, network=net.network.id, **settings, opts=net.child)


def tag(stack: str, role: Role) -> str:
    """Return the tag of a role's machines."""
    return f"vre-{stack}-{role}"


def rules(order: Order, role: Role) -> list[dict[str, Any]]:
    """Return what is let into and out of a role's machines.

    One rule for each direction, protocol, ports and family: a rule's ranges are of one family.
    """
    grouped: dict[str, list[Flow]] = {}
    for flow in flows(order.policy, role):
        family = f"v{flow.network.version}" if flow.network else "nodes"
        key = f"{'in' if flow.inbound else 'out'}-{flow.protocol}-{flow.ports}-{family}"
        grouped.setdefault(key, []).append(flow)
    return [_allow(order, role, key, same) for key, same in grouped.items()]


def _allow(order: Order, role: Role, key: str, same: list[Flow]) -> dict[str, Any]:
    first = same[0]
    own = tag(order.config.name, role)
    return {
        "name": f"{own}-{key}",
        "description": "; ".join(dict.fromkeys(flow.why for flow in same)),
        "direction": "INGRESS" if first.inbound else "EGRESS",
        "priority": ALLOW,
        "target_tags": [own],
        "allows": [{"protocol": str(first.protocol), "ports": [str(first.ports)]}],
        **_others(order, same),
    }


def _others(order: Order, same: list[Flow]) -> dict[str, Any]:
    """Return the other ends: outbound rules know no tags, so there the machines stand by their addresses."""
    if same[0].network is None and same[0].inbound:
        return {"source_tags": [tag(order.config.name, each) for each in sorted(order.plan.roles)]}
    side = "source_ranges" if same[0].inbound else "destination_ranges"
    ranges: Iterator[Cidr] = (
        each for flow in same for each in ([flow.network] if flow.network else order.policy.of(Peer.NODES))
    )
    return {side: list(dict.fromkeys(map(str, ranges)))}


def refusals(stack: str) -> list[dict[str, Any]]:
    """Return what refuses and logs, for every machine of the network, whatever no other rule lets through."""
    return [
        {
            "name": f"vre-{stack}-{word}-refused-v{family}",
            "description": "whatever no other rule lets through",
            "direction": direction,
            "priority": DENY,
            "denies": [{"protocol": "all"}],
            side: [everybody],
            "log_config": {"metadata": "INCLUDE_ALL_METADATA"},
        }
        for word, direction, side in (("in", "INGRESS", "source_ranges"), ("out", "EGRESS", "destination_ranges"))
        for family, everybody in FAMILIES.items()
    ]


def data(net: Network, machine: Machine) -> Data:
    """Make a machine's data disk, encrypted with the stack's own key."""
    disk = _disk(net, machine, "data", machine.data)
    return Data(device=f"/dev/disk/by-id/scsi-0Google_PersistentDisk_{DATA_NAME}", volume=disk)


def _disk(net: Network, machine: Machine, word: str, gib: int, *before: Resource, **source: Any) -> gcp.compute.Disk:
    # Google's plugin would make a smaller disk anew, and empty.
    held = resources.Capacity(f"{machine.name}-{word}", gib=max(gib, SMALLEST_DISK), opts=net.child)
    # A newer image is for new machines. The subnet takes a minute, in which the grant of the key spreads.
    return gcp.compute.Disk(
        f"{machine.name}-{word}",
        name=f"vre-{machine.name}-{word}",
        zone=net.zone,
        type="pd-balanced",
        size=max(gib, SMALLEST_DISK),
        disk_encryption_key={"kms_key_self_link": net.key.id},
        labels=tags(net.order.config.name, machine.role),
        **source,
        opts=net.after(held, net.grant, net.subnet, *before, ignore=["image"]),
    )


def machine(net: Network, plan: Machine, guard: Guard, data: Data, boot: Output[Seed]) -> Made:
    """Make one machine: system disk from the image, data disk, its place in the network; an address if it is a door."""
    stock = net.cloud.image == DEBIAN
    # Whichever disk is made anew first takes the machine away; the other has to wait for that, else it is in use.
    system = _disk(net, plan, "system", plan.disk, data.volume, image=DEBIAN_IMAGE if stock else net.cloud.image)
    address, card = _card(net, plan)
    made = gcp.compute.Instance(
        plan.name,
        name=f"vre-{plan.name}",
        zone=net.zone,
        machine_type=size(plan),
        boot_disk={"source": system.id, "auto_delete": False},
        attached_disks=[{"source": data.volume.id, "device_name": DATA_NAME}],
        network_interfaces=[card],
        tags=[guard.tag],
        labels=tags(net.order.config.name, plan.role),
        metadata=_metadata(boot, stock=stock),
        shielded_instance_config={
            "enable_secure_boot": True, "enable_vtpm": True, "enable_integrity_monitoring": True
        },
        # A destroyed key ends the machine, which would read its disks on otherwise.
        key_revocation_action_type="STOP",
        allow_stopping_for_update=True,
        opts=ResourceOptions.merge(
            net.after(*guard.rules, *net.ways, ignore=ONCE),
            # Google's plugin would not notice another disk of the same name.
            ResourceOptions(additional_secret_outputs=["metadata"], replace_with=[data.volume, system]),
        ),
    )  # fmt: skip
    return Made(resource=made, id=made.instance_id, address=address, accelerator=Output.from_input("native"))


def _card(net: Network, plan: Machine) -> tuple[Input[str], dict[str, Any]]:
    """Return where operators reach a machine, and its place in the network."""
    inside = {"subnetwork": net.subnet.id, "network_ip": plan.ipv4}
    if plan.role != Role.CONTROL:
        return plan.ipv4, {**inside, "stack_type": "IPV4_ONLY"}
    public = gcp.compute.Address(
        f"{plan.name}-address",
        name=f"vre-{plan.name}",
        region=net.cloud.region,
        labels=tags(net.order.config.name, plan.role),
        opts=net.after(net.network),
    )
    return public.address, {
        **inside,
        "stack_type": "IPV4_IPV6",
        "access_configs": [{"nat_ip": public.address, "network_tier": "PREMIUM"}],
        "ipv6_access_configs": [{"network_tier": "PREMIUM"}],
    }


def _metadata(boot: Output[Seed], *, stock: bool) -> dict[str, Input[str]]:
    """Return what the machine is told, and that nobody else's keys, and no serial console, lead into it."""
    start = {"startup-script": render_template(project() / "cloud-init" / "gcp-startup.sh")} if stock else {}
    return {
        "user-data": boot.apply(lambda seed: seed.user_data),
        "block-project-ssh-keys": "TRUE",
        "enable-oslogin": "FALSE",
        "serial-port-enable": "FALSE",
        **start,
    }


def _cloud(config: Config) -> Gcp:
    if not isinstance(config.cloud, Gcp):
        raise TypeError(f"not a Google Cloud stack: {config.cloud.provider}")
    return config.cloud
