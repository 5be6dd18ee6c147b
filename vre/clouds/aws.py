"""Amazon Web Services. The same sections in the same order as every module beside it."""

import base64
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import pulumi_aws as aws
from pulumi import Input, InvokeOptions, Output, Resource, ResourceOptions

from vre import access
from vre.cloud import DEBIAN, Aws
from vre.clouds.rented import Flow, Type, flows, native, sizes, tags, unknown_region
from vre.clouds.site import Data, Made, Order
from vre.config import Config
from vre.errors import Finding
from vre.inventory import Machine, Plan
from vre.machine.cloudinit import Seed
from vre.plan import Surroundings, host_address
from vre.policy import Role

SIZES = (
    Type(name="t3.small", cpus=2, memory=2),
    Type(name="t3.medium", cpus=2, memory=4),
    Type(name="t3.large", cpus=2, memory=8),
    Type(name="r6i.large", cpus=2, memory=16),
    Type(name="c6i.xlarge", cpus=4, memory=8),
    Type(name="m6i.xlarge", cpus=4, memory=16),
    Type(name="r6i.xlarge", cpus=4, memory=32),
    Type(name="c6i.2xlarge", cpus=8, memory=16),
    Type(name="m6i.2xlarge", cpus=8, memory=32),
    Type(name="r6i.2xlarge", cpus=8, memory=64),
    Type(name="c6i.4xlarge", cpus=16, memory=32),
    Type(name="m6i.4xlarge", cpus=16, memory=64),
    Type(name="r6i.4xlarge", cpus=16, memory=128),
    Type(name="c6i.8xlarge", cpus=32, memory=64),
    Type(name="m6i.8xlarge", cpus=32, memory=128),
    Type(name="r6i.8xlarge", cpus=32, memory=256),
    Type(name="m6i.12xlarge", cpus=48, memory=192),
    Type(name="c6i.16xlarge", cpus=64, memory=128),
    Type(name="m6i.16xlarge", cpus=64, memory=256),
    Type(name="r6i.16xlarge", cpus=64, memory=512),
    Type(name="c6i.24xlarge", cpus=96, memory=192),
    Type(name="m6i.24xlarge", cpus=96, memory=384),
    Type(name="c6i.32xlarge", cpus=128, memory=256),
    Type(name="r6i.24xlarge", cpus=96, memory=768),
    Type(name="m6i.32xlarge", cpus=128, memory=512),
    Type(name="r6i.32xlarge", cpus=128, memory=1024),
    Type(name="x2idn.32xlarge", cpus=128, memory=2048),
)
"""Cheapest first. All on the Nitro hypervisor, which is what the data disk's path on the machine relies on."""
REGIONS = (
    "af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1",
    "ap-south-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5",
    "ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1", "eu-central-1", "eu-central-2", "eu-north-1",
    "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3", "il-central-1", "me-central-1", "me-south-1",
    "mx-central-1", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2",
)  # fmt: skip
"""https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html"""
DEBIAN_OWNER = "136693071363"
DEBIAN_NAME = "debian-13-amd64-*"
"""Debian's own images (https://wiki.debian.org/Cloud/AmazonEC2Image)."""
KEY_TYPES = ("ssh-ed25519", "ssh-rsa")
"""What EC2 takes as a key pair."""
NAT_HOST = 11
"""The NAT gateway's place beside the control plane's machine."""
WIDEST = 16
KEY_DAYS = 7
"""For how long a key that was deleted can be called back: the least that AWS allows."""
ALLOWED = frozenset(" ._-:/()#,@[]+=&;{}!$*")
"""What a rule's description may hold beside letters and digits."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """The stack's own network: a public subnet for the control plane's machine, a private one for workers."""

    order: Order
    vpc: aws.ec2.Vpc
    subnets: tuple[aws.ec2.Subnet, ...]
    ways: tuple[Resource, ...]
    """What leads outside: before that, a machine's first boot would fail."""
    key: aws.kms.Key
    pair: aws.ec2.KeyPair | None
    image: Input[str]
    child: ResourceOptions
    gateways: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()

    def interfaces(self, machine: Machine) -> tuple[str, ...]:
        """Return nothing: DHCP gives a machine its addresses."""
        return ()

    def subnet(self, machine: Machine) -> aws.ec2.Subnet:
        """Return the subnet that a machine stands in."""
        return self.subnets[0 if machine.role == Role.CONTROL else 1]

    def tags(self, name: str, role: Role | None = None) -> dict[str, str]:
        """Return the tags of something, its name among them."""
        return {"Name": f"vre-{name}", **tags(self.order.config.name, role)}


@dataclass(frozen=True, kw_only=True)
class Guard:
    """A role's security group, and its rules."""

    group: aws.ec2.SecurityGroup
    rules: tuple[Resource, ...]


def surroundings(config: Config) -> Surroundings:
    """Say who answers the machines: Amazon's resolver, clock and metadata service, at addresses it publishes.

    https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html,
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configure-ec2-ntp.html
    """
    return Surroundings(
        resolvers=("169.254.169.253/32", f"{host_address(config.cloud.network, 2)}/32"),
        time=("169.254.169.123/32",),
        metadata=("169.254.169.254/32",),
        bastion=True,
        dhcp=True,
    )


def faults(config: Config, plan: Plan) -> Iterator[Finding]:
    """Yield what AWS would refuse, as far as that can be known without asking it."""
    cloud = _cloud(config)
    if cloud.region not in REGIONS:
        yield unknown_region("AWS", cloud.region, REGIONS)
    elif cloud.zone and not cloud.zone.startswith(cloud.region):
        reason = f"{cloud.zone} is not in {cloud.region}"
        yield Finding(key="vre:cloud.zone", reason=reason, example=f"zone: {cloud.region}a")
    if ip_network(cloud.network).prefixlen < WIDEST:
        reason = f"AWS has no network wider than /{WIDEST}"
        yield Finding(key="vre:cloud.network", reason=reason, example="network: 10.77.0.0/16")
    if cloud.image != DEBIAN and not cloud.image.startswith("ami-"):
        yield Finding(key="vre:cloud.image", reason=f"{cloud.image} is no id of an image", example="image: debian")
    yield from sizes(plan.machines, lambda machine: native(SIZES, machine))


def network(order: Order, opts: ResourceOptions) -> Network:
    """Make the network, the ways out of it, and what machines share: a key for disks, a key pair, the image."""
    name = order.config.name
    provider = aws.Provider("aws", region=_cloud(order.config).region, opts=opts)
    child = ResourceOptions.merge(opts, ResourceOptions(provider=provider))
    look = InvokeOptions(provider=provider, parent=opts.parent)
    every = {"Name": f"vre-{name}", **tags(name)}
    vpc = aws.ec2.Vpc(
        "network",
        cidr_block=order.config.cloud.network,
        assign_generated_ipv6_cidr_block=True,
        enable_dns_support=True,
        tags=every,
        opts=child,
    )
    # AWS makes this group and lets all its members talk to each other: without rules, nobody.
    aws.ec2.DefaultSecurityGroup("default-group", vpc_id=vpc.id, tags=every, opts=child)
    public = _subnet(order, vpc, _zone(order.config, look), 0, child)
    workers = (_subnet(order, vpc, public.availability_zone, 1, child),) if order.plan.workers else ()
    subnets = (public, *workers)
    ways = _door(name, vpc, subnets[0], child)
    if order.plan.workers:
        # AWS makes a NAT gateway only where there is an internet gateway.
        ways += _back_door(order, vpc, subnets, ResourceOptions.merge(child, ResourceOptions(depends_on=ways[:1])))
    return Network(
        order=order,
        vpc=vpc,
        subnets=subnets,
        ways=tuple(ways),
        key=_key(name, child),
        pair=_pair(order.config, child),
        image=_image(order.config, look),
        child=child,
    )


def _zone(config: Config, look: InvokeOptions) -> Input[str]:
    """Return the zone that was asked for, else the region's first."""
    cloud = _cloud(config)
    if cloud.zone:
        return cloud.zone
    found = aws.get_availability_zones_output(
        state="available", filters=[{"name": "zone-type", "values": ["availability-zone"]}], opts=look
    )
    first: Output[str] = found.names.apply(min)
    return first


def _image(config: Config, look: InvokeOptions) -> Input[str]:
    """Return the image that was asked for, else Debian's newest: found by owner, since a name anybody may give."""
    cloud = _cloud(config)
    if cloud.image != DEBIAN:
        return cloud.image
    wanted = {"name": DEBIAN_NAME, "architecture": "x86_64", "virtualization-type": "hvm", "state": "available"}
    found = aws.ec2.get_ami_output(
        owners=[DEBIAN_OWNER],
        filters=[{"name": name, "values": [value]} for name, value in wanted.items()],
        most_recent=True,
        opts=look,
    )
    newest: Output[str] = found.id
    return newest


def _subnet(order: Order, vpc: aws.ec2.Vpc, zone: Input[str], half: int, opts: ResourceOptions) -> aws.ec2.Subnet:
    """Make the subnet of one half of the network: each has routes of its own."""
    word = ("public", "private")[half]
    own = list(ip_network(order.config.cloud.network).subnets())[half]
    name = order.config.name
    return aws.ec2.Subnet(
        f"{word}-subnet",
        vpc_id=vpc.id,
        availability_zone=zone,
        cidr_block=str(own),
        ipv6_cidr_block=vpc.ipv6_cidr_block.apply(lambda block: _part(block, half)),
        map_public_ip_on_launch=False,
        assign_ipv6_address_on_creation=False,
        tags={"Name": f"vre-{name}-{word}", **tags(name)},
        opts=_anew(opts) if _cloud(order.config).zone else _kept(opts),
    )


def _kept(opts: ResourceOptions) -> ResourceOptions:
    # What was the first zone at the launch may be missing from the list later, or another one come before it.
    return ResourceOptions.merge(_anew(opts), ResourceOptions(ignore_changes=["availabilityZone"]))


def _part(block: str, number: int) -> str:
    """Return one of the /64 ranges of the IPv6 range that Amazon gave."""
    whole = ip_network(block)
    return str(ip_network((int(whole.network_address) + (number << 64), 64)))


def _door(name: str, vpc: aws.ec2.Vpc, subnet: aws.ec2.Subnet, opts: ResourceOptions) -> list[Resource]:
    """Lead the public subnet to the internet."""
    every = {"Name": f"vre-{name}-public", **tags(name)}
    gateway = aws.ec2.InternetGateway("internet-gateway", vpc_id=vpc.id, tags=every, opts=opts)
    table = aws.ec2.RouteTable("public-routes", vpc_id=vpc.id, tags=every, opts=opts)
    to: dict[str, Any] = {"route_table_id": table.id, "gateway_id": gateway.id, "opts": opts}
    return [
        gateway,
        aws.ec2.Route("public-ipv4", destination_cidr_block="0.0.0.0/0", **to),
        aws.ec2.Route("public-ipv6", destination_ipv6_cidr_block="::/0", **to),
        aws.ec2.RouteTableAssociation("public-routes", route_table_id=table.id, subnet_id=subnet.id, opts=opts),
    ]


def _back_door(
    order: Order, vpc: aws.ec2.Vpc, subnets: Sequence[aws.ec2.Subnet], opts: ResourceOptions
) -> list[Resource]:
    """Lead the private subnet out, and nobody in: to the mirrors, where the policy has any."""
    name = order.config.name
    every = {"Name": f"vre-{name}-private", **tags(name)}
    public, private = subnets
    nat = _nat(order, public, every, opts)
    outward = aws.ec2.EgressOnlyInternetGateway("egress-only-gateway", vpc_id=vpc.id, tags=every, opts=opts)
    table = aws.ec2.RouteTable("private-routes", vpc_id=vpc.id, tags=every, opts=opts)
    to: dict[str, Any] = {"route_table_id": table.id, "opts": opts}
    return [
        aws.ec2.Route("private-ipv4", destination_cidr_block="0.0.0.0/0", nat_gateway_id=nat.id, **to),
        aws.ec2.Route("private-ipv6", destination_ipv6_cidr_block="::/0", egress_only_gateway_id=outward.id, **to),
        aws.ec2.RouteTableAssociation("private-routes", subnet_id=private.id, **to),
    ]


def _nat(order: Order, subnet: aws.ec2.Subnet, every: dict[str, str], opts: ResourceOptions) -> aws.ec2.NatGateway:
    address = aws.ec2.Eip("nat-address", domain="vpc", tags=every, opts=opts)
    return aws.ec2.NatGateway(
        "nat-gateway",
        allocation_id=address.id,
        subnet_id=subnet.id,
        # Its own choice could be a machine's address.
        private_ip=host_address(order.config.cloud.network, NAT_HOST),
        tags=every,
        opts=_anew(opts),
    )


def _key(name: str, opts: ResourceOptions) -> aws.kms.Key:
    """Make the key of all the stack's disks: without it, what is on them is noise."""
    key = aws.kms.Key(
        "disks-key",
        description=f"disks of VRE {name}",
        enable_key_rotation=True,
        deletion_window_in_days=KEY_DAYS,
        tags={"Name": f"vre-{name}", **tags(name)},
        opts=opts,
    )
    aws.kms.Alias("disks-key", name=f"alias/vre-{name}", target_key_id=key.id, opts=opts)
    return key


def _pair(config: Config, opts: ResourceOptions) -> aws.ec2.KeyPair | None:
    """Register the operators' first key that AWS takes, so that nobody else's comes onto machines."""
    found = next((key for key in access.keys(config) if key.startswith(KEY_TYPES)), "")
    if not found:
        return None
    every = {"Name": f"vre-{config.name}", **tags(config.name)}
    return aws.ec2.KeyPair(
        "operators-key", key_name=f"vre-{config.name}", public_key=found, tags=every, opts=_anew(opts)
    )


def firewalls(net: Network) -> dict[str, Guard]:
    """Make one security group a role, from the policy."""
    stack = net.order.config.name
    groups = {
        role: aws.ec2.SecurityGroup(
            f"{role}-group",
            name=f"vre-{stack}-{role}",
            description=f"VRE {stack}: {role}",
            vpc_id=net.vpc.id,
            revoke_rules_on_delete=True,
            tags=net.tags(f"{stack}-{role}", role),
            opts=net.child,
        )
        for role in sorted(net.order.plan.roles)
    }
    guards = {role: Guard(group=group, rules=tuple(_rules(net, role, groups))) for role, group in groups.items()}
    return {machine.name: guards[machine.role] for machine in net.order.plan.machines}


def _rules(net: Network, role: Role, groups: dict[Role, aws.ec2.SecurityGroup]) -> list[Resource]:
    return [
        kind(
            f"{role}-{flow.key}{suffix}",
            security_group_id=groups[role].id,
            ip_protocol=str(flow.protocol),
            from_port=flow.ports.first,
            to_port=flow.ports.last,
            description=described(flow.why),
            tags=net.tags(f"{role}-{flow.key}{suffix}", role),
            **other,
            opts=net.child,
        )
        for flow in flows(net.order.policy, role)
        for suffix, other in _others(flow, groups)
        for kind in [aws.vpc.SecurityGroupIngressRule if flow.inbound else aws.vpc.SecurityGroupEgressRule]
    ]


def _others(flow: Flow, groups: dict[Role, aws.ec2.SecurityGroup]) -> list[tuple[str, dict[str, Any]]]:
    """Return the other ends of a flow as rules name them: a range, or the group of each role."""
    if flow.network is None:
        return [(f"-{role}", {"referenced_security_group_id": group.id}) for role, group in groups.items()]
    return [("", {f"cidr_ipv{flow.network.version}": str(flow.network)})]


def described(why: str) -> str:
    """Return a reason with only those signs that AWS takes in a description."""
    return "".join(sign for sign in why if (sign.isascii() and sign.isalnum()) or sign in ALLOWED)[:255]


def data(net: Network, machine: Machine) -> Data:
    """Make a machine's data disk, encrypted with the stack's own key."""
    volume = aws.ebs.Volume(
        f"{machine.name}-data",
        availability_zone=net.subnet(machine).availability_zone,
        size=machine.data,
        type="gp3",
        encrypted=True,
        kms_key_id=net.key.arn,
        tags=net.tags(f"{machine.name}-data", machine.role),
        opts=net.child,
    )
    return Data(device=volume.id.apply(device), volume=volume)


def device(volume: str) -> str:
    """Return a volume's path on a machine: Nitro hands its id on as the disk's serial number.

    https://docs.aws.amazon.com/ebs/latest/userguide/identify-nvme-ebs-device.html
    """
    return f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"


def machine(net: Network, plan: Machine, guard: Guard, data: Data, boot: Output[Seed]) -> Made:
    """Make one machine: its place in the network, system disk from the image, data disk; an address if it is a door."""
    card = _card(net, plan, guard)
    address, before = _address(net, plan, card)
    made = aws.ec2.Instance(
        plan.name,
        ami=net.image,
        instance_type=native(SIZES, plan),
        primary_network_interface={"network_interface_id": card.id},
        key_name=f"vre-{net.order.config.name}" if net.pair else None,
        user_data_base64=boot.apply(lambda seed: packed(seed.user_data)),
        metadata_options=METADATA,
        root_block_device=_root(net, plan),
        ebs_optimized=True,
        instance_initiated_shutdown_behavior="stop",
        tags=net.tags(plan.name, plan.role),
        opts=_once(net, *before, *guard.rules, *([net.pair] if net.pair else [])),
    )
    aws.ec2.VolumeAttachment(
        f"{plan.name}-data",
        device_name="/dev/sdf",
        instance_id=made.id,
        volume_id=data.volume.id,
        # A disk in use cannot be taken away; with the machine it goes by itself.
        stop_instance_before_detaching=True,
        opts=ResourceOptions.merge(_anew(net.child), ResourceOptions(deleted_with=made)),
    )
    return Made(resource=made, id=made.id, address=address, accelerator=Output.from_input("native"))


METADATA: dict[str, Any] = {
    "http_endpoint": "enabled",
    "http_tokens": "required",
    "http_put_response_hop_limit": 1,
    "http_protocol_ipv6": "disabled",
    "instance_metadata_tags": "disabled",
}
"""The metadata service answers the machine itself and no pod, one hop further, and only who asks for a token first."""


def packed(user_data: str) -> str:
    """Return user-data as AWS takes it: cloud-init opens it by itself. Without a date: the same in is the same out."""
    return base64.b64encode(gzip.compress(user_data.encode(), mtime=0)).decode()


def _card(net: Network, plan: Machine, guard: Guard) -> aws.ec2.NetworkInterface:
    """Make a machine's place in the network, which outlives the machine: addresses, and the guard before it."""
    return aws.ec2.NetworkInterface(
        f"{plan.name}-card",
        subnet_id=net.subnet(plan).id,
        private_ips=[plan.ipv4],
        ipv6_address_count=1,
        security_groups=[guard.group.id],
        source_dest_check=True,
        description=f"VRE machine {plan.name}",
        tags=net.tags(plan.name, plan.role),
        opts=_anew(net.child),
    )


def _address(net: Network, plan: Machine, card: aws.ec2.NetworkInterface) -> tuple[Input[str], Sequence[Resource]]:
    """Return where operators reach a machine, and what has to be there before it boots."""
    if plan.role != Role.CONTROL:
        return plan.ipv4, net.ways
    public = aws.ec2.Eip(f"{plan.name}-address", domain="vpc", tags=net.tags(plan.name, plan.role), opts=net.child)
    led = aws.ec2.EipAssociation(
        f"{plan.name}-address",
        allocation_id=public.id,
        network_interface_id=card.id,
        opts=ResourceOptions.merge(net.child, ResourceOptions(depends_on=list(net.ways))),
    )
    return public.public_ip, (*net.ways, led)


def _root(net: Network, plan: Machine) -> dict[str, Any]:
    return {
        "volume_type": "gp3",
        "volume_size": plan.disk,
        "encrypted": True,
        "kms_key_id": net.key.arn,
        "delete_on_termination": True,
        "tags": net.tags(f"{plan.name}-system", plan.role),
    }


def _once(net: Network, *before: Resource) -> ResourceOptions:
    # A newer image, other first-boot instructions or another key are for new machines: a standing one keeps its disks.
    kept = ["ami", "userDataBase64", "keyName"]
    return ResourceOptions.merge(net.child, ResourceOptions(depends_on=list(before), ignore_changes=kept))


def _anew(opts: ResourceOptions) -> ResourceOptions:
    """Return options for what cannot stand twice, not even for the time of a change: a range, an address, a name."""
    return ResourceOptions.merge(opts, ResourceOptions(delete_before_replace=True))


def _cloud(config: Config) -> Aws:
    if not isinstance(config.cloud, Aws):
        raise TypeError(f"not an AWS stack: {config.cloud.provider}")
    return config.cloud
