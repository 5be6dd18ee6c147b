"""Microsoft Azure. The same sections in the same order as every module beside it."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import collapse_addresses, ip_network
from typing import Any

import pulumi_azure_native as azure
from pulumi import Input, InvokeOptions, Output, ResourceOptions

# One by one: a module of this SDK takes a second to load, so no other is.
from pulumi_azure_native import authorization, compute, keyvault, resources
from pulumi_azure_native import network as networks

from vre import access
from vre.cloud import DEBIAN, Azure
from vre.clouds.aliases import undated
from vre.clouds.rented import Flow, Type, flows, native, sizes, tags, unknown_region
from vre.clouds.site import USER, Data, Made, Order
from vre.config import Config
from vre.errors import Finding, VreError
from vre.fields import servers
from vre.inventory import Machine, Plan
from vre.machine.cloudinit import Seed
from vre.plan import Surroundings
from vre.policy import Peer, Policy, Role

SIZES = (
    Type(name="Standard_D2ls_v5", cpus=2, memory=4),
    Type(name="Standard_D2s_v5", cpus=2, memory=8),
    Type(name="Standard_E2s_v5", cpus=2, memory=16),
    Type(name="Standard_D4ls_v5", cpus=4, memory=8),
    Type(name="Standard_D4s_v5", cpus=4, memory=16),
    Type(name="Standard_E4s_v5", cpus=4, memory=32),
    Type(name="Standard_D8ls_v5", cpus=8, memory=16),
    Type(name="Standard_D8s_v5", cpus=8, memory=32),
    Type(name="Standard_E8s_v5", cpus=8, memory=64),
    Type(name="Standard_D16ls_v5", cpus=16, memory=32),
    Type(name="Standard_D16s_v5", cpus=16, memory=64),
    Type(name="Standard_E16s_v5", cpus=16, memory=128),
    Type(name="Standard_D32ls_v5", cpus=32, memory=64),
    Type(name="Standard_D32s_v5", cpus=32, memory=128),
    Type(name="Standard_E32s_v5", cpus=32, memory=256),
    Type(name="Standard_D48s_v5", cpus=48, memory=192),
    Type(name="Standard_E48s_v5", cpus=48, memory=384),
    Type(name="Standard_D64s_v5", cpus=64, memory=256),
    Type(name="Standard_E64s_v5", cpus=64, memory=512),
    Type(name="Standard_D96s_v5", cpus=96, memory=384),
    Type(name="Standard_E96s_v5", cpus=96, memory=672),
)
"""Cheapest first. All know trusted launch and encryption at host, and none has a local disk."""
REGIONS = (
    "australiacentral", "australiaeast", "australiasoutheast", "austriaeast", "belgiumcentral", "brazilsouth",
    "canadacentral", "canadaeast", "centralindia", "centralus", "chilecentral", "denmarkeast", "eastasia", "eastus",
    "eastus2", "francecentral", "germanywestcentral", "indonesiacentral", "israelcentral", "italynorth", "japaneast",
    "japanwest", "koreacentral", "koreasouth", "malaysiawest", "mexicocentral", "newzealandnorth", "northcentralus",
    "northeurope", "norwayeast", "polandcentral", "qatarcentral", "southafricanorth", "southcentralus",
    "southeastasia", "southindia", "spaincentral", "swedencentral", "switzerlandnorth", "uaenorth", "uksouth",
    "ukwest", "westcentralus", "westeurope", "westindia", "westus", "westus2", "westus3",
)  # fmt: skip
"""https://learn.microsoft.com/azure/reliability/regions-list: those that anybody may use."""
PLATFORM = "168.63.129.16/32"
"""Azure's resolver, DHCP server and provisioning service (https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16)."""
METADATA = "169.254.169.254/32"
IMAGE = {"publisher": "Debian", "offer": "debian-13", "sku": "13-gen2", "version": "latest"}
"""Debian's own image (https://wiki.debian.org/Cloud/MicrosoftAzure)."""
GALLERY = (
    "/subscriptions/ID/resourceGroups/GROUP/providers/Microsoft.Compute/galleries/GALLERY/images/NAME/versions/1.0.0"
)
"""How an image that trusted launch takes is named: managed images (.../Microsoft.Compute/images/NAME) are none
(https://learn.microsoft.com/azure/virtual-machines/trusted-launch#unsupported-features)."""
KEY_TYPES = ("ssh-ed25519", "ssh-rsa")
"""What Azure takes as a machine's SSH key; cloud-init writes all of them."""
SMALLEST_DISK = 30
"""GiB of Debian's image: a system disk cannot be smaller."""
DEVICE = "/dev/disk/azure/data/by-lun/0"
"""From the udev rules of azure-vm-utils, which Debian's image has: the same for SCSI and NVMe controllers."""
KEY_DAYS = 7
"""For how long a deleted key can be called back: the least that Azure allows."""
FIRST_PRIORITY = 100
LAST_PRIORITY = 4096
"""The range of a rule's priority. Its last one refuses what is left, before Azure's own rules let anything pass."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """The stack's own resource group, network and way out, and the key that its disks are encrypted with."""

    order: Order
    group: resources.ResourceGroup
    virtual: networks.VirtualNetwork
    nat: networks.NatGateway | None
    encryption: compute.DiskEncryptionSet
    granted: keyvault.AccessPolicy
    """What lets the encryption use the key: no disk can be made before it."""
    child: ResourceOptions
    gateways: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()

    def interfaces(self, machine: Machine) -> tuple[str, ...]:
        """Return nothing: DHCP gives a machine its addresses."""
        return ()

    def place(self, role: Role | None = None) -> dict[str, Any]:
        """Return where a resource stands, and its tags."""
        return _place(self.order.config, self.group, role)


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The group that a role's rules are for, and the subnet that all the rules stand in front of."""

    group: networks.ApplicationSecurityGroup
    subnet: networks.Subnet


def surroundings(config: Config) -> Surroundings:
    """Say who answers the machines: Azure's resolver and metadata service. Time is the hypervisor's own clock."""
    return Surroundings(resolvers=(PLATFORM,), metadata=(METADATA, PLATFORM), bastion=True, dhcp=True)


def faults(config: Config, plan: Plan) -> Iterator[Finding]:
    """Yield what Azure would refuse, as far as that can be known without asking it."""
    cloud = _cloud(config)
    if cloud.region not in REGIONS:
        yield unknown_region("Azure", cloud.region, REGIONS)
    if not usable(cloud.image):
        reason = "trusted launch starts from an image of a gallery only, and this id names none"
        yield Finding(key="vre:cloud.image", reason=reason, example=f"image: {GALLERY}")
    yield from sizes(plan.machines, lambda machine: native(SIZES, machine))
    if not access.check(config) and not keys(config):
        reason = "Azure takes Ed25519 and RSA keys only, and there is none"
        yield Finding(key="vre:access.keys", reason=reason, example="one more, beside yours: ssh-keygen -t ed25519")


def usable(image: str) -> bool:
    """Say whether trusted launch can start from an image by what it is named: a managed one it does not take."""
    return image == DEBIAN or "/galleries/" in image


def network(order: Order, opts: ResourceOptions) -> Network:
    """Make the resource group, the network with its way out, and the key for disks."""
    config = order.config
    cloud = _cloud(config)
    provider = azure.Provider(
        "azure", subscription_id=cloud.subscription, location=cloud.region, disable_pulumi_partner_id=True, opts=opts
    )
    # Names are fixed: the old one has to be gone before the new one comes. Where only the provider's subscription
    # changes, the plugin would leave everything where it is.
    anew = ResourceOptions(delete_before_replace=True, replacement_trigger=[cloud.subscription])
    ours = ResourceOptions(provider=provider, transformations=[undated])
    child = ResourceOptions.merge(ResourceOptions.merge(opts, anew), ours)
    group = resources.ResourceGroup(
        "group",
        resource_group_name=f"vre-{config.name}",
        location=cloud.region,
        tags=tags(config.name),
        opts=child,
    )
    place = _place(config, group)
    virtual = networks.VirtualNetwork(
        "network",
        virtual_network_name=f"vre-{config.name}",
        address_space={"address_prefixes": _ranges(config)},
        dhcp_options={"dns_servers": list(servers(config.outbound.resolvers))},
        **place,
        opts=child,
    )
    nat = _way_out(config, place, child) if order.plan.workers else None
    encryption, granted = _encryption(config, place, child)
    return Network(
        order=order, group=group, virtual=virtual, nat=nat, encryption=encryption, granted=granted, child=child
    )


def _way_out(config: Config, place: Mapping[str, Any], child: ResourceOptions) -> networks.NatGateway:
    """Make the address that machines without one of their own leave from."""
    address = _address("nat-address", f"vre-{config.name}-nat", place, child)
    return networks.NatGateway(
        "nat",
        nat_gateway_name=f"vre-{config.name}",
        sku={"name": "Standard"},
        public_ip_addresses=[{"id": address.id}],
        **place,
        opts=child,
    )


def _address(name: str, called: str, place: Mapping[str, Any], child: ResourceOptions) -> networks.PublicIPAddress:
    return networks.PublicIPAddress(
        name,
        public_ip_address_name=called,
        sku={"name": "Standard", "tier": "Regional"},
        public_ip_allocation_method="Static",
        public_ip_address_version="IPv4",
        **place,
        opts=child,
    )


def _encryption(
    config: Config, place: Mapping[str, Any], child: ResourceOptions
) -> tuple[compute.DiskEncryptionSet, keyvault.AccessPolicy]:
    """Make a key in a vault of the stack's own, and what encrypts disks with it: it alone may use the key."""
    look = InvokeOptions(provider=child.provider, parent=child.parent)
    tenant = authorization.get_client_config_output(opts=look).tenant_id
    vault = _vault(config, tenant, place, child)
    group = place["resource_group_name"]
    inside = ResourceOptions.merge(child, ResourceOptions(deleted_with=vault))
    key = keyvault.Key(
        "disk-key",
        key_name="disks",
        vault_name=vault.name,
        resource_group_name=group,
        properties={"kty": "RSA", "key_size": 4096, "key_ops": ["wrapKey", "unwrapKey"]},
        opts=inside,
    )
    encryption = compute.DiskEncryptionSet(
        "disk-encryption",
        disk_encryption_set_name=f"vre-{config.name}",
        encryption_type="EncryptionAtRestWithCustomerKey",
        active_key={"key_url": key.key_uri_with_version, "source_vault": {"id": vault.id}},
        identity={"type": "SystemAssigned"},
        **place,
        opts=child,
    )
    granted = keyvault.AccessPolicy(
        "disk-encryption-access",
        vault_name=vault.name,
        resource_group_name=group,
        policy={
            # Not before the set is there: until then it has no identity, though it was asked for.
            "object_id": encryption.id.apply(lambda _: encryption.identity.apply(lambda own: own.principal_id)),
            "tenant_id": tenant,
            "permissions": {"keys": ["get", "wrapKey", "unwrapKey"]},
        },
        opts=inside,
    )
    return encryption, granted


def _vault(config: Config, tenant: Input[str], place: Mapping[str, Any], child: ResourceOptions) -> keyvault.Vault:
    """Make a vault that only Azure's own services reach.

    A deleted one keeps its name for days, so the provider ends the name (24 characters at most) with random ones.
    """
    return keyvault.Vault(
        f"vre-{config.name[:11].rstrip('-')}-",
        properties={
            "tenant_id": tenant,
            "sku": {"family": "A", "name": "standard"},
            "enable_soft_delete": True,
            "soft_delete_retention_in_days": KEY_DAYS,
            # Azure encrypts no disk with a key that could be purged at once.
            "enable_purge_protection": True,
            "enable_rbac_authorization": False,
            "network_acls": {"bypass": "AzureServices", "default_action": "Deny"},
        },
        **place,
        opts=child,
    )


def firewalls(net: Network) -> dict[str, Guard]:
    """Make a group for each role, and the subnet with the rules for all of them: none stands there without a guard."""
    name, policy = net.order.config.name, net.order.policy
    groups = {
        role: networks.ApplicationSecurityGroup(
            f"{role}-group", application_security_group_name=f"vre-{name}-{role}", **net.place(role), opts=net.child
        )
        for role in sorted(net.order.plan.roles)
    }
    firewall = networks.NetworkSecurityGroup(
        "firewall",
        network_security_group_name=f"vre-{name}",
        # Inside the group, so that a change of several is one change: priorities would meet otherwise.
        security_rules=security_rules(policy, {role: group.id for role, group in groups.items()}),
        **net.place(),
        opts=net.child,
    )
    subnet = networks.Subnet(
        "subnet",
        subnet_name="machines",
        resource_group_name=net.group.name,
        virtual_network_name=net.virtual.name,
        address_prefixes=_ranges(net.order.config),
        network_security_group={"id": firewall.id},
        default_outbound_access=False,
        nat_gateway={"id": net.nat.id} if net.nat else None,
        opts=net.child,
    )
    return {each.name: Guard(group=groups[each.role], subnet=subnet) for each in net.order.plan.machines}


def security_rules(policy: Policy, groups: Mapping[Role, Input[str]]) -> list[dict[str, Any]]:
    """Return the rules of a stack's security group; `groups` are the ids of the roles' application security groups.

    Priorities count up from 100, inbound and outbound apart. The last rule of each refuses what is left.
    """
    made = [*_platform(policy), *(rule for role in groups for rule in _rules(policy, role, groups))]
    counted = []
    for direction in ("Inbound", "Outbound"):
        ours = [rule for rule in made if rule["direction"] == direction]
        if FIRST_PRIORITY + len(ours) > LAST_PRIORITY:
            raise VreError(f"{len(ours)} rules are more than Azure takes", hint="name fewer networks")
        counted += [{**rule, "priority": FIRST_PRIORITY + number} for number, rule in enumerate(ours)]
        counted.append({**_deny(direction, "nothing-else", "whatever no rule names"), "priority": LAST_PRIORITY})
    return counted


def _rules(policy: Policy, role: Role, groups: Mapping[Role, Input[str]]) -> Iterator[dict[str, Any]]:
    """Yield what is let into and out of a role's machines: a rule takes many networks, but of one family."""
    gathered: dict[tuple[Any, ...], list[Flow]] = {}
    for flow in flows(policy, role):
        version = flow.network.version if flow.network else 0
        gathered.setdefault((flow.inbound, flow.protocol, flow.ports, version), []).append(flow)
    every = [{"id": each} for each in groups.values()]
    for (inbound, protocol, ports, version), found in gathered.items():
        near, far = ("destination", "source") if inbound else ("source", "destination")
        way = "in" if inbound else "out"
        yield {
            "name": f"{way}-{role}-{protocol}-{ports}-{f'ipv{version}' if version else 'nodes'}",
            "description": found[0].why[:140],
            "direction": "Inbound" if inbound else "Outbound",
            "access": "Allow",
            "protocol": protocol.capitalize(),
            "source_port_range": "*",
            "destination_port_range": str(ports),
            f"{near}_application_security_groups": [{"id": groups[role]}],
            **(_prefixes(far, found) if version else {f"{far}_application_security_groups": every}),
        }


def _prefixes(side: str, found: Sequence[Flow]) -> dict[str, Any]:
    """Return the networks at one side of a rule. Azure refuses a list with networks that overlap."""
    merged = [str(each) for each in collapse_addresses(flow.network for flow in found if flow.network)]  # type: ignore[type-var]
    return {f"{side}_address_prefix": merged[0]} if len(merged) == 1 else {f"{side}_address_prefixes": merged}


def _platform(policy: Policy) -> Iterator[dict[str, Any]]:
    """Yield what closes Azure's own services: no other rule does, and none is in the way of those that are let be.

    https://learn.microsoft.com/azure/virtual-network/network-security-groups-overview#azure-platform-considerations
    """
    yield _deny("Outbound", "licensing", "Windows licences are of no use here", to="AzurePlatformLKM")
    if ip_network(PLATFORM) not in policy.of(Peer.RESOLVER):
        yield _deny("Outbound", "platform-names", "other name servers are named", to="AzurePlatformDNS")


def _deny(direction: str, name: str, why: str, *, to: str = "*") -> dict[str, Any]:
    return {
        "name": f"{direction.removesuffix('bound').lower()}-{name}",
        "description": why,
        "direction": direction,
        "access": "Deny",
        "protocol": "*",
        "source_address_prefix": "*",
        "source_port_range": "*",
        "destination_address_prefix": to,
        "destination_port_range": "*",
    }


def data(net: Network, machine: Machine) -> Data:
    """Make a machine's data disk, encrypted with the stack's key. Nobody can fetch it over the network."""
    disk = compute.Disk(
        f"{machine.name}-data",
        disk_name=f"vre-{machine.name}-data",
        disk_size_gb=machine.data,
        sku={"name": "StandardSSD_LRS"},
        creation_data={"create_option": "Empty"},
        encryption={"type": "EncryptionAtRestWithCustomerKey", "disk_encryption_set_id": net.encryption.id},
        network_access_policy="DenyAll",
        public_network_access="Disabled",
        **net.place(machine.role),
        opts=ResourceOptions.merge(net.child, ResourceOptions(depends_on=[net.granted])),
    )
    return Data(device=DEVICE, volume=disk.id)


def machine(net: Network, plan: Machine, guard: Guard, data: Data, boot: Output[Seed]) -> Made:
    """Make one machine with its interface: the control plane's with a public address, no other."""
    called = f"vre-{net.order.config.name}"
    door = _address("address", called, net.place(plan.role), net.child) if plan.role == Role.CONTROL else None
    interface = _interface(net, plan, guard, door)
    # All of it is only for the first boot, and Azure refuses to change it: a standing machine keeps its disks.
    once = ResourceOptions(ignore_changes=["osProfile", "storageProfile.imageReference"], depends_on=[net.granted])
    made = compute.VirtualMachine(
        plan.name,
        vm_name=f"vre-{plan.name}",
        hardware_profile={"vm_size": native(SIZES, plan)},
        network_profile={"network_interfaces": [{"id": interface.id, "primary": True, "delete_option": "Detach"}]},
        storage_profile=_disks(net, plan, data),
        os_profile=_first_boot(net, plan, boot),
        security_profile={
            "security_type": "TrustedLaunch",
            "uefi_settings": {"secure_boot_enabled": True, "v_tpm_enabled": True},
            "encryption_at_host": True,
        },
        diagnostics_profile={"boot_diagnostics": {"enabled": True}},
        **net.place(plan.role),
        opts=ResourceOptions.merge(net.child, once),
    )
    address: Input[str] = door.ip_address.apply(lambda known: known or "") if door else plan.ipv4
    return Made(resource=made, id=made.vm_id, address=address, accelerator=Output.from_input("native"))


def _interface(
    net: Network, plan: Machine, guard: Guard, door: networks.PublicIPAddress | None
) -> networks.NetworkInterface:
    """Make a machine's place in the network. Azure wants the same groups on both of its addresses."""

    def address(version: int, text: str, **more: Any) -> dict[str, Any]:
        return {
            "name": f"ipv{version}",
            "private_ip_address_version": f"IPv{version}",
            "private_ip_allocation_method": "Static",
            "private_ip_address": text,
            "subnet": {"id": guard.subnet.id},
            "application_security_groups": [{"id": guard.group.id}],
            **more,
        }

    public = {"public_ip_address": {"id": door.id}} if door else {}
    return networks.NetworkInterface(
        f"{plan.name}-interface",
        network_interface_name=f"vre-{plan.name}",
        ip_configurations=[address(4, plan.ipv4, primary=True, **public), address(6, plan.ipv6, primary=False)],
        enable_ip_forwarding=False,
        **net.place(plan.role),
        opts=net.child,
    )


def _disks(net: Network, plan: Machine, data: Data) -> dict[str, Any]:
    image = _cloud(net.order.config).image
    return {
        "image_reference": IMAGE if image == DEBIAN else {"id": image},
        "os_disk": {
            "name": f"vre-{plan.name}-system",
            "create_option": "FromImage",
            "delete_option": "Delete",
            "disk_size_gb": max(plan.disk, SMALLEST_DISK),
            "caching": "ReadWrite",
            "managed_disk": {
                "storage_account_type": "StandardSSD_LRS",
                "disk_encryption_set": {"id": net.encryption.id},
            },
        },
        "data_disks": [
            {
                "lun": 0,
                "create_option": "Attach",
                "delete_option": "Detach",
                "caching": "None",
                "managed_disk": {"id": data.volume},
            }
        ],
    }


def _first_boot(net: Network, plan: Machine, boot: Output[Seed]) -> dict[str, Any]:
    """Return what a machine is told once. Azure's agent cannot change it later: extensions could set passwords."""
    path = f"/home/{USER}/.ssh/authorized_keys"
    return {
        "computer_name": plan.name,
        "admin_username": USER,
        "custom_data": Output.secret(boot.apply(lambda seed: base64.b64encode(seed.user_data.encode()).decode())),
        "allow_extension_operations": False,
        "linux_configuration": {
            "disable_password_authentication": True,
            "provision_vm_agent": False,
            "ssh": {"public_keys": [{"path": path, "key_data": key} for key in keys(net.order.config)]},
        },
    }


def keys(config: Config) -> list[str]:
    """Return the operators' keys of the kinds that Azure knows."""
    return [key for key in access.keys(config) if key.startswith(KEY_TYPES)]


def _place(config: Config, group: resources.ResourceGroup, role: Role | None = None) -> dict[str, Any]:
    return {
        "resource_group_name": group.name,
        "location": _cloud(config).region,
        "tags": tags(config.name, role),
    }


def _ranges(config: Config) -> list[str]:
    cloud = _cloud(config)
    return [cloud.network, cloud.network6]


def _cloud(config: Config) -> Azure:
    if not isinstance(config.cloud, Azure):
        raise TypeError(f"not an Azure stack: {config.cloud.provider}")
    return config.cloud
