"""OpenStack. The same sections in the same order as every module beside it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import pulumi_openstack as openstack
from pulumi import Input, InvokeOptions, Output, Resource, ResourceOptions

from vre import access
from vre.cloud import DEBIAN, OpenStack
from vre.clouds.rented import Flow, Type, flows, tags
from vre.clouds.site import Data, Made, Order
from vre.config import Config
from vre.errors import Finding, VreError
from vre.fields import servers
from vre.inventory import Machine, Plan
from vre.machine.cloudinit import Seed
from vre.plan import Surroundings
from vre.policy import ANY, Role

SIZES: tuple[Type, ...] = ()
"""None: every OpenStack has flavours of its own. The one with just the numbers that are asked for is looked up."""
DEBIAN_NAME = r"(?i)^debian([ _-]*gnu[ /_-]*linux)?[ _-]*(13|trixie)([^0-9].*)?$"
"""How operators of clouds name Debian's image: there is no owner to know it by, but it has to be public."""
NAMED_BY_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SERIAL = 20
"""How many characters of a volume's id a virtio disk shows as its serial number."""
SECURITY_KEYS = "sk-"
"""Keys on hardware tokens: Nova does not take them as key pairs."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """The stack's own network with a subnet of each family, and the router behind which it stands."""

    order: Order
    network: openstack.networking.Network
    subnets: tuple[openstack.networking.Subnet, ...]
    ways: tuple[Resource, ...]
    """What leads outside: before that, a machine's first boot would fail."""
    pair: openstack.compute.Keypair | None
    image: Input[str]
    flavors: Mapping[str, str]
    """The flavour of each machine, by the machine's name."""
    child: ResourceOptions
    gateways: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()

    @property
    def region(self) -> str:
        """Where all of it stands."""
        return _cloud(self.order.config).region

    def interfaces(self, machine: Machine) -> tuple[str, ...]:
        """Return nothing: a machine reads its addresses from the config drive that Nova makes."""
        return ()

    def tags(self, role: Role | None = None) -> list[str]:
        """Return the tags of something in Neutron."""
        return _tags(self.order.config, role)

    def metadata(self, role: Role | None = None) -> dict[str, str]:
        """Return the same as Nova and Cinder take it."""
        return tags(self.order.config.name, role)


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The security groups before a machine: its role's, and the one without rules that all machines are in."""

    groups: tuple[openstack.networking.SecGroup, ...]
    rules: tuple[Resource, ...]


def surroundings(config: Config) -> Surroundings:
    """Say that nobody answers the machines but whom the stack file names: OpenStack publishes no such addresses.

    The config drive takes the place of the metadata service, which stays closed.
    """
    return Surroundings(bastion=True)


def faults(config: Config, plan: Plan) -> Iterator[Finding]:
    """Yield nothing: every OpenStack has regions, flavours and networks of its own, and has to be asked."""
    yield from ()


def network(order: Order, opts: ResourceOptions) -> Network:
    """Make the network, the way out of it, and look up what machines share: image, flavours, key pair."""
    config = order.config
    cloud = _cloud(config)
    # Another region is another provider, so that the old one removes what stood there. It alone makes nothing anew
    # (https://github.com/pulumi/pulumi/pull/18509), so each thing says its region, too.
    provider = openstack.Provider(f"openstack-{cloud.region}", region=cloud.region, opts=opts)
    child = ResourceOptions.merge(opts, ResourceOptions(provider=provider))
    look = InvokeOptions(provider=provider, parent=opts.parent)
    flavors = {each.name: _flavor(each, look) for each in order.plan.machines}
    made = openstack.networking.Network(
        "network",
        name=f"vre-{config.name}",
        region=cloud.region,
        port_security_enabled=True,
        tags=_tags(config),
        opts=_merged(child, _with_its_place(config), ResourceOptions(delete_before_replace=True)),
    )
    subnets = tuple(_subnet(config, made, version, child) for version in (4, 6))
    outside = openstack.networking.get_network_output(name=cloud.external_network, external=True, opts=look)
    return Network(
        order=order,
        network=made,
        subnets=subnets,
        ways=tuple(_ways(config, made, subnets, outside.id, child)),
        pair=_pair(config, child),
        image=_image(config, look),
        flavors=flavors,
        child=child,
    )


def _tags(config: Config, role: Role | None = None) -> list[str]:
    """Return the tags of something in Neutron."""
    return [f"{key}={value}" for key, value in tags(config.name, role).items()]


def _with_its_place(config: Config) -> ResourceOptions:
    """Return options for what is made anew when the network moves: addresses are told at the first boot only."""
    cloud = _cloud(config)
    return ResourceOptions(replacement_trigger=[cloud.network, cloud.network6, cloud.external_network])


def _flavor(machine: Machine, look: InvokeOptions) -> str:
    """Return the id of a machine's flavour: the one that is named, else the only one with just these numbers."""
    wanted: dict[str, Any] = (
        {"name": machine.native} if machine.native else {"vcpus": machine.cpus, "ram": machine.memory}
    )
    try:
        return str(openstack.compute.get_flavor(**wanted, opts=look).flavor_id)
    except Exception as error:
        said = " ".join(str(error).split())
        named = machine.native or f"{machine.cpus} processors and {machine.memory / 1024:g} GiB"
        raise VreError(
            f"{machine.name}: this cloud has no one flavour with {named}: {said}",
            hint="vre check names one; write it as size: {type: NAME}",
        ) from error


def _subnet(
    config: Config, net: openstack.networking.Network, version: int, opts: ResourceOptions
) -> openstack.networking.Subnet:
    return openstack.networking.Subnet(
        f"subnet-ipv{version}",
        name=f"vre-{config.name}-ipv{version}",
        region=_cloud(config).region,
        network_id=net.id,
        ip_version=version,
        cidr=config.cloud.network if version == 4 else _cloud(config).network6,
        no_gateway=version == 6 and not routed(config),
        enable_dhcp=False,
        dns_nameservers=_resolvers(config, version),
        tags=_tags(config),
        opts=opts,
    )


def routed(config: Config) -> bool:
    """Say whether the IPv6 range leads outside: Neutron translates no IPv6 addresses, so a private one does not."""
    return ip_network(_cloud(config).network6).is_global


def _resolvers(config: Config, version: int) -> list[str]:
    """Return the addresses of the name servers of one family."""
    return [each for each in servers(config.outbound.resolvers) if ip_address(each).version == version]


def _ways(
    config: Config,
    net: openstack.networking.Network,
    subnets: Sequence[openstack.networking.Subnet],
    outside: Output[str],
    opts: ResourceOptions,
) -> list[Resource]:
    """Lead the network outside: the router translates workers' addresses, and the control machine's own to its own."""
    region = _cloud(config).region
    router = openstack.networking.Router(
        "router",
        name=f"vre-{config.name}",
        region=region,
        external_network_id=outside,
        tags=_tags(config),
        # Its way out can be changed only while no floating address is in use: after the old network is gone.
        opts=ResourceOptions.merge(opts, ResourceOptions(depends_on=[net])),
    )
    inside = {"ipv4": subnets[0]} | ({"ipv6": subnets[1]} if routed(config) else {})
    return [
        openstack.networking.RouterInterface(
            f"router-{family}", region=region, router_id=router.id, subnet_id=each.id, opts=opts
        )
        for family, each in inside.items()
    ]


def _pair(config: Config, opts: ResourceOptions) -> openstack.compute.Keypair | None:
    """Register the operators' first key that Nova takes, so that nobody else's is put on machines."""
    found = next((key for key in access.keys(config) if not key.startswith(SECURITY_KEYS)), "")
    if not found:
        return None
    once = ResourceOptions(delete_before_replace=True)
    return openstack.compute.Keypair(
        "operators-key",
        name=f"vre-{config.name}",
        region=_cloud(config).region,
        public_key=found,
        opts=ResourceOptions.merge(opts, once),
    )


def _image(config: Config, look: InvokeOptions) -> Input[str]:
    """Return the image that was asked for, else the newest public one that is named as Debian's."""
    wanted = _cloud(config).image
    if NAMED_BY_ID.fullmatch(wanted):
        return wanted
    named = {"name_regex": DEBIAN_NAME, "visibility": "public"} if wanted == DEBIAN else {"name": wanted}
    found: Output[str] = openstack.images.get_image_output(**named, most_recent=True, opts=look).id
    return found


def firewalls(net: Network) -> dict[str, Guard]:
    """Make one security group a role, from the policy, and one that says which machines are the stack's."""
    nodes = _group(net, "nodes", "every machine; without rules, for other groups to name")
    groups = {role: _group(net, str(role), str(role), role) for role in sorted(net.order.plan.roles)}
    guards = {
        role: Guard(groups=(group, nodes), rules=tuple(_rules(net, role, group, nodes)))
        for role, group in groups.items()
    }
    return {machine.name: guards[machine.role] for machine in net.order.plan.machines}


def _group(net: Network, word: str, about: str, role: Role | None = None) -> openstack.networking.SecGroup:
    stack = net.order.config.name
    return openstack.networking.SecGroup(
        f"{word}-group",
        name=f"vre-{stack}-{word}",
        region=net.region,
        description=f"VRE {stack}: {about}",
        # Neutron lets a new group's members send anything anywhere.
        delete_default_rules=True,
        tags=net.tags(role),
        opts=net.child,
    )


def _rules(
    net: Network, role: Role, group: openstack.networking.SecGroup, nodes: openstack.networking.SecGroup
) -> list[Resource]:
    return [
        openstack.networking.SecGroupRule(
            f"{role}-{flow.key}{suffix}",
            region=net.region,
            security_group_id=group.id,
            direction="ingress" if flow.inbound else "egress",
            protocol=str(flow.protocol),
            description=flow.why,
            **_ports(flow),
            **other,
            # A rule stands once: it cannot be made anew, with other words, beside itself.
            opts=ResourceOptions.merge(net.child, ResourceOptions(ignore_changes=["description"])),
        )
        for flow in flows(net.order.policy, role)
        for suffix, other in _others(flow, nodes)
    ]


def _ports(flow: Flow) -> dict[str, int]:
    """Return the range of ports: none for all of them, which is what Neutron makes of it."""
    return {} if flow.ports == ANY else {"port_range_min": flow.ports.first, "port_range_max": flow.ports.last}


def _others(flow: Flow, nodes: openstack.networking.SecGroup) -> list[tuple[str, dict[str, Any]]]:
    """Return the other ends of a flow as rules name them: a range, or the group that all machines are in."""
    if flow.network is None:
        return [(f"-ipv{each}", {"ethertype": f"IPv{each}", "remote_group_id": nodes.id}) for each in (4, 6)]
    return [("", {"ethertype": f"IPv{flow.network.version}", "remote_ip_prefix": str(flow.network)})]


def data(net: Network, machine: Machine) -> Data:
    """Make a machine's data disk, of the type that encrypts: Cinder has Barbican make a key for each such volume."""
    volume = openstack.blockstorage.Volume(
        f"{machine.name}-data",
        name=f"vre-{machine.name}-data",
        region=net.region,
        size=machine.data,
        volume_type=_cloud(net.order.config).volume_type or None,
        enable_online_resize=True,
        metadata=net.metadata(machine.role),
        opts=net.child,
    )
    return Data(device=volume.id.apply(device), volume=volume)


def device(volume: str) -> str:
    """Return a volume's path on a machine: its id, cut to what virtio shows of it, is the disk's serial number."""
    return f"/dev/disk/by-id/virtio-{volume[:SERIAL]}"


def machine(net: Network, plan: Machine, guard: Guard, data: Data, boot: Output[Seed]) -> Made:
    """Make one machine: its place in the network, system disk from the image, data disk; an address if it is a door."""
    place = _place(net, plan, guard)
    address, before = _address(net, plan, place)
    made = openstack.compute.Instance(
        plan.name,
        name=f"vre-{plan.name}",
        region=net.region,
        flavor_id=net.flavors[plan.name],
        key_pair=net.pair.name if net.pair else None,
        networks=[{"port": place.id}],
        block_devices=[_disk(_system(net, plan), 0), _disk(data.volume, -1)],
        config_drive=True,
        user_data=boot.apply(lambda seed: seed.user_data),
        metadata=net.metadata(plan.role),
        stop_before_destroy=True,
        opts=_once(net, *before, *guard.rules),
    )
    return Made(resource=made, id=made.id, address=address, accelerator=Output.from_input("native"))


def _place(net: Network, plan: Machine, guard: Guard) -> openstack.networking.Port:
    """Make a machine's place in the network: its addresses, and nothing sent from any other."""
    addresses = zip(net.subnets, (plan.ipv4, plan.ipv6), strict=True)
    return openstack.networking.Port(
        f"{plan.name}-port",
        name=f"vre-{plan.name}",
        region=net.region,
        network_id=net.network.id,
        fixed_ips=[{"subnet_id": subnet.id, "ip_address": address} for subnet, address in addresses],
        port_security_enabled=True,
        security_group_ids=[group.id for group in guard.groups],
        tags=net.tags(plan.role),
        opts=ResourceOptions.merge(net.child, ResourceOptions(depends_on=list(net.ways), delete_before_replace=True)),
    )


def _address(net: Network, plan: Machine, place: openstack.networking.Port) -> tuple[Input[str], Sequence[Resource]]:
    """Return where operators reach a machine, and what has to be there before it boots."""
    if plan.role != Role.CONTROL:
        return plan.ipv4, net.ways
    public = openstack.networking.FloatingIp(
        f"{plan.name}-address",
        region=net.region,
        pool=_cloud(net.order.config).external_network,
        description=f"VRE machine {plan.name}",
        tags=net.tags(plan.role),
        opts=net.child,
    )
    # Apart from the address: were it lost with a broken run, it would keep the next one from leading here.
    led = openstack.networking.FloatingIpAssociate(
        f"{plan.name}-address",
        region=net.region,
        floating_ip=public.address,
        port_id=place.id,
        opts=ResourceOptions.merge(net.child, ResourceOptions(depends_on=list(net.ways), delete_before_replace=True)),
    )
    return public.address, (*net.ways, led)


def _system(net: Network, plan: Machine) -> openstack.blockstorage.Volume:
    """Make the system disk: a volume of its own, so that it can grow."""
    config = net.order.config
    return openstack.blockstorage.Volume(
        f"{plan.name}-system",
        name=f"vre-{plan.name}-system",
        region=net.region,
        size=plan.disk,
        image_id=net.image,
        volume_type=_cloud(config).volume_type or None,
        enable_online_resize=True,
        metadata=net.metadata(plan.role),
        # The old one goes last, when no machine has it any more.
        opts=_merged(net.child, _with_its_place(config), ResourceOptions(ignore_changes=["imageId"])),
    )


def _disk(volume: openstack.blockstorage.Volume, order: int) -> dict[str, Any]:
    return {
        "uuid": volume.id,
        "source_type": "volume",
        "destination_type": "volume",
        "boot_index": order,
        "delete_on_termination": False,
        # Whatever the image asks for: the data disk's path on the machine relies on it.
        "device_type": "disk",
        "disk_bus": "virtio",
    }


def _once(net: Network, *before: Resource) -> ResourceOptions:
    # Other first-boot instructions or another key are for new machines. Two cannot have the same disks.
    kept = ["userData", "keyPair"]
    own = ResourceOptions(depends_on=list(before), ignore_changes=kept, delete_before_replace=True)
    return ResourceOptions.merge(net.child, own)


def _merged(opts: ResourceOptions, *others: ResourceOptions) -> ResourceOptions:
    for each in others:
        opts = ResourceOptions.merge(opts, each)
    return opts


def _cloud(config: Config) -> OpenStack:
    if not isinstance(config.cloud, OpenStack):
        raise TypeError(f"not an OpenStack stack: {config.cloud.provider}")
    return config.cloud
