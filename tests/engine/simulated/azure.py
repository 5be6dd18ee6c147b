"""A simulated Azure: what Azure Resource Manager does with what a stack of ours asks of it."""

import base64
import os
import re
import secrets
import uuid
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, ClassVar

from tests.engine.simulated.store import Thing
from tests.engine.simulated.table import Call, CloudError, Kind, Provider, at
from tests.oracle.azure import FIREWALL, INTERFACE, NETWORK, SUBNET, faults
from tests.oracle.azure import GROUP as MEMBERS
from vre.provider.handler import Props

GROUP = "azure-native:resources:ResourceGroup"
ADDRESS = "azure-native:network:PublicIPAddress"
NAT = "azure-native:network:NatGateway"
VAULT = "azure-native:keyvault:Vault"
KEY = "azure-native:keyvault:Key"
GRANT = "azure-native:keyvault:AccessPolicy"
ENCRYPTION = "azure-native:compute:DiskEncryptionSet"
DISK = "azure-native:compute:Disk"
MACHINE = "azure-native:compute:VirtualMachine"
DELETED = "deleted vault"
PUBLIC = ip_network("198.51.100.0/24")
TENANT = "11111111-1111-1111-1111-111111111111"
CREDENTIALS = ("ARM_CLIENT_ID", "ARM_CLIENT_SECRET", "ARM_TENANT_ID")
VAULT_NAME = re.compile(r"(?=.{3,24}$)[a-zA-Z](-?[a-zA-Z0-9])*")
CUSTOM_DATA = 65535  # bytes at most
IMAGE_DISK = 30  # GiB of a Debian image
ONCE = ("osProfile", "storageProfile.imageReference")
"""What Azure refuses to change in a machine."""


class Arm(Kind):
    """A resource below a resource group: its id is made of its names."""

    path: ClassVar[str]
    called: ClassVar[str]
    """The input that is its name."""
    computed: ClassVar[Props] = {"provisioningState": "Succeeded"}

    def __init_subclass__(cls) -> None:
        """Say what holds for all: names, group and region are for good, and names are used once."""
        cls.replace_on = cls.replace_on | {"resourceGroupName", "location", cls.called}
        cls.unique = ("resourceGroupName", cls.called)
        cls.refers = {"resourceGroupName": GROUP, **cls.refers}
        cls.known_by = ("name",)
        cls.named = cls.called if cls.defaults is Kind.defaults else ""

    def identify(self, call: Call) -> str:
        """Put the names together."""
        return f"{_group_id(call)}/providers/{self.path}/{call.inputs[self.called]}"

    def outputs(self, call: Call) -> Props:
        """Give what all have."""
        own = {"name": call.inputs[self.called], "type": self.path, "azureApiVersion": "2025-01-01"}
        return {**own, **self.computed}

    def create(self, call: Call) -> Props:
        """Refuse what Azure refuses, then make it."""
        self.refuse(call)
        return super().create(call)

    def update(self, call: Call) -> Props:
        """Refuse what Azure refuses."""
        self.refuse(call)
        return {}

    def refuse(self, call: Call) -> None:
        """Raise CloudError for what Azure does not do."""


class Group(Kind):
    """A resource group."""

    token = GROUP
    named = "resourceGroupName"
    known_by = ("name",)
    unique = ("resourceGroupName",)
    replace_on = frozenset({"resourceGroupName", "location"})

    def identify(self, call: Call) -> str:
        """Put the names together."""
        return _group_id(call)

    def outputs(self, call: Call) -> Props:
        """Give its name."""
        state = {"provisioningState": "Succeeded"}
        return {"name": call.inputs["resourceGroupName"], "type": "Microsoft.Resources", "properties": state}


class VirtualNetwork(Arm):
    """A network."""

    token = NETWORK
    path = "Microsoft.Network/virtualNetworks"
    called = "virtualNetworkName"

    def refuse(self, call: Call) -> None:
        """Refuse to lose a range that a subnet lies in."""
        space = [ip_network(text) for text in call.inputs["addressSpace"]["addressPrefixes"]]
        for subnet in call.things(SUBNET):
            for text in subnet.inputs["addressPrefixes"]:
                own = subnet.inputs["virtualNetworkName"] == call.inputs["virtualNetworkName"]
                if own and not any(_inside(ip_network(text), each) for each in space):
                    raise CloudError(f"NetcfgSubnetRangeOutsideVnet: {text} of {subnet.id}")


class Members(Arm):
    """An application security group."""

    token = MEMBERS
    path = "Microsoft.Network/applicationSecurityGroups"
    called = "applicationSecurityGroupName"


class Firewall(Arm):
    """A network security group with its rules."""

    token = FIREWALL
    path = "Microsoft.Network/networkSecurityGroups"
    called = "networkSecurityGroupName"
    refers: ClassVar = {
        "securityRules[*].sourceApplicationSecurityGroups[*].id": MEMBERS,
        "securityRules[*].destinationApplicationSecurityGroups[*].id": MEMBERS,
    }

    def refuse(self, call: Call) -> None:
        """Refuse rules that Azure refuses, the first of them."""
        for fault in faults(call.inputs.get("securityRules") or []):
            raise CloudError(fault)


class Address(Arm):
    """A public address."""

    token = ADDRESS
    path = "Microsoft.Network/publicIPAddresses"
    called = "publicIpAddressName"
    replace_on = frozenset({"sku", "publicIPAddressVersion"})

    def outputs(self, call: Call) -> Props:
        """Give one, for good, and never one that was given before."""
        given = len(call.cloud.journal("create", kind=ADDRESS))
        return {**super().outputs(call), "ipAddress": str(PUBLIC[given])}


class Nat(Arm):
    """A NAT gateway."""

    token = NAT
    path = "Microsoft.Network/natGateways"
    called = "natGatewayName"
    refers: ClassVar = {"publicIpAddresses[*].id": ADDRESS}


class Subnet(Arm):
    """A range in a network."""

    token = SUBNET
    path = "Microsoft.Network/virtualNetworks/subnets"
    called = "subnetName"
    replace_on = frozenset({"virtualNetworkName"})
    refers: ClassVar = {
        "virtualNetworkName": NETWORK,
        "networkSecurityGroup.id": FIREWALL,
        "natGateway.id": NAT,
    }

    def identify(self, call: Call) -> str:
        """Put it below its network."""
        return f"{_there(call, NETWORK, call.inputs['virtualNetworkName']).id}/subnets/{call.inputs['subnetName']}"

    def refuse(self, call: Call) -> None:
        """Refuse ranges outside the network's, and IPv6 of another size than 64 bits."""
        space = _there(call, NETWORK, call.inputs["virtualNetworkName"]).inputs["addressSpace"]["addressPrefixes"]
        for text in call.inputs["addressPrefixes"]:
            own = ip_network(text)
            if not any(_inside(own, ip_network(each)) for each in space):
                raise CloudError(f"NetcfgSubnetRangeOutsideVnet: {text} is not within {', '.join(space)}")
            if own.version == 6 and own.prefixlen != 64:
                raise CloudError(f"NetcfgSubnetIPv6PrefixLength: {text} has to be a /64")


class Interface(Arm):
    """A network interface."""

    token = INTERFACE
    path = "Microsoft.Network/networkInterfaces"
    called = "networkInterfaceName"
    refers: ClassVar = {
        "ipConfigurations[*].subnet.id": SUBNET,
        "ipConfigurations[*].publicIPAddress.id": ADDRESS,
        "ipConfigurations[*].applicationSecurityGroups[*].id": MEMBERS,
        "networkSecurityGroup.id": FIREWALL,
    }

    def outputs(self, call: Call) -> Props:
        """Give a hardware address."""
        return {**super().outputs(call), "macAddress": "00-22-48-" + secrets.token_hex(3).upper()}

    def refuse(self, call: Call) -> None:
        """Refuse addresses outside the subnet or in use, and groups that differ between addresses."""
        configs = call.inputs["ipConfigurations"]
        groups = [sorted(each["id"] for each in one.get("applicationSecurityGroups") or []) for one in configs]
        if any(each != groups[0] for each in groups):
            raise CloudError("AllIpConfigurationsOnANicMustBelongToTheSameApplicationSecurityGroups")
        others = [each for each in call.things(INTERFACE) if each.id != call.id]
        taken = {text for each in others for _, text in at(each.inputs, "ipConfigurations[*].privateIPAddress")}
        for one in configs:
            text = one["privateIPAddress"]
            ranges = _there(call, SUBNET, one["subnet"]["id"]).inputs["addressPrefixes"]
            if not any(_hosts(text, each) for each in ranges):
                raise CloudError(f"PrivateIPAddressNotInSubnet: {text} is not within {', '.join(ranges)}")
            if text in taken:
                raise CloudError(f"PrivateIPAddressIsAllocated: {text} is in use")


class Vault(Arm):
    """A key vault. What is deleted keeps its name."""

    token = VAULT
    path = "Microsoft.KeyVault/vaults"
    called = "vaultName"
    computed: ClassVar = {}

    def defaults(self, call: Call) -> Props:
        """Make a name up, as the plugin does."""
        return {"vaultName": call.old_inputs.get("vaultName") or f"{call.name}{secrets.token_hex(4)}"}

    def refuse(self, call: Call) -> None:
        """Refuse names that are none, or those of vaults that were deleted lately."""
        name = call.inputs["vaultName"]
        if not VAULT_NAME.fullmatch(name):
            raise CloudError(f"VaultNameNotValid: {name}")
        if call.find(DELETED, name):
            raise CloudError(f"ConflictError: a vault {name} exists already in deleted state")

    def delete(self, call: Call) -> None:
        """Keep its name; its keys and policies go with it."""
        name = str(call.state["vaultName"])
        for each in [*call.things(KEY), *call.things(GRANT)]:
            if each.inputs["vaultName"] == name:
                call.cloud.remove(each.type, each.id)
        call.cloud.put(Thing(type=DELETED, id=name, inputs={}, outputs={}, given=True))


class Key(Arm):
    """A key in a vault."""

    token = KEY
    path = "Microsoft.KeyVault/vaults/keys"
    called = "keyName"
    replace_on = frozenset({"vaultName", "properties"})
    refers: ClassVar = {"vaultName": VAULT}
    frees = frozenset({"vaultName"})
    computed: ClassVar = {}

    def identify(self, call: Call) -> str:
        """Put it below its vault."""
        return f"{_there(call, VAULT, call.inputs['vaultName']).id}/keys/{call.inputs['keyName']}"

    def outputs(self, call: Call) -> Props:
        """Give where it is."""
        place = f"https://{call.inputs['vaultName']}.vault.azure.net/keys/{call.inputs['keyName']}"
        return {**super().outputs(call), "keyUri": place, "keyUriWithVersion": f"{place}/{secrets.token_hex(16)}"}


class Grant(Kind):
    """Who may use a vault's keys."""

    token = GRANT
    replace_on = frozenset({"vaultName", "resourceGroupName", "policy.objectId"})
    refers: ClassVar = {"vaultName": VAULT, "resourceGroupName": GROUP}
    frees = frozenset({"vaultName"})

    def identify(self, call: Call) -> str:
        """Put it below its vault."""
        return f"{_there(call, VAULT, call.inputs['vaultName']).id}/accessPolicy/{call.inputs['policy']['objectId']}"


class Encryption(Arm):
    """What encrypts disks, with an identity of its own."""

    token = ENCRYPTION
    path = "Microsoft.Compute/diskEncryptionSets"
    called = "diskEncryptionSetName"
    refers: ClassVar = {"activeKey.sourceVault.id": VAULT}

    def outputs(self, call: Call) -> Props:
        """Give it its identity."""
        identity = {**call.inputs["identity"], "principalId": str(uuid.uuid4()), "tenantId": TENANT}
        return {**super().outputs(call), "identity": identity}

    def update(self, call: Call) -> Props:
        """Keep its identity."""
        self.refuse(call)
        return {"identity": call.state["identity"]}

    def refuse(self, call: Call) -> None:
        """Refuse keys that could be purged, and keys that are not there."""
        vault = _there(call, VAULT, call.inputs["activeKey"]["sourceVault"]["id"])
        kept = vault.inputs["properties"]
        if not (kept.get("enableSoftDelete") and kept.get("enablePurgeProtection")):
            raise CloudError("KeyVaultNotPurgeProtected: the vault needs soft delete and purge protection")
        address = call.inputs["activeKey"]["keyUrl"]
        if not any(each.outputs["keyUriWithVersion"] == address for each in call.things(KEY)):
            raise CloudError(f"KeyVaultKeyNotFound: {address}")


class Disk(Arm):
    """A managed disk."""

    token = DISK
    path = "Microsoft.Compute/disks"
    called = "diskName"
    replace_on = frozenset({"creationData"})
    refers: ClassVar = {"encryption.diskEncryptionSetId": ENCRYPTION}

    def refuse(self, call: Call) -> None:
        """Refuse to encrypt with a key that may not be used, and to shrink."""
        _usable(call, call.inputs["encryption"]["diskEncryptionSetId"])
        if call.old_inputs and call.inputs["diskSizeGB"] < call.old_inputs["diskSizeGB"]:
            raise CloudError("OperationNotAllowed: a disk cannot become smaller")


class Machine(Arm):
    """A virtual machine."""

    token = MACHINE
    path = "Microsoft.Compute/virtualMachines"
    called = "vmName"
    refers: ClassVar = {
        "networkProfile.networkInterfaces[*].id": INTERFACE,
        "storageProfile.dataDisks[*].managedDisk.id": DISK,
        "storageProfile.osDisk.managedDisk.diskEncryptionSet.id": ENCRYPTION,
    }

    def outputs(self, call: Call) -> Props:
        """Give its own id, new with each machine."""
        return {**super().outputs(call), "vmId": str(uuid.uuid4()), "timeCreated": "2026-01-01T00:00:00Z"}

    def refuse(self, call: Call) -> None:
        """Refuse what does not fit the image, what another machine has, and keys and user-data of a wrong kind."""
        self._attached(call)
        _usable(call, call.inputs["storageProfile"]["osDisk"]["managedDisk"]["diskEncryptionSet"]["id"])
        if call.inputs["storageProfile"]["osDisk"]["diskSizeGB"] < IMAGE_DISK:
            raise CloudError("OperationNotAllowed: the disk is smaller than the image's")
        told = call.inputs["osProfile"]
        if len(base64.b64decode(told["customData"], validate=True)) > CUSTOM_DATA:
            raise CloudError("CustomDataTooLarge: osProfile.customData has more than 65535 bytes")
        for key in told["linuxConfiguration"]["ssh"]["publicKeys"]:
            if not key["keyData"].startswith(("ssh-rsa ", "ssh-ed25519 ")):
                raise CloudError("InvalidParameter: linuxConfiguration.ssh.publicKeys.keyData is of no known kind")
        if not told["linuxConfiguration"]["provisionVMAgent"] and told["allowExtensionOperations"]:
            raise CloudError("InvalidParameter: allowExtensionOperations needs provisionVMAgent")

    def update(self, call: Call) -> Props:
        """Refuse what is only for the beginning, and what a running machine cannot do."""
        self.refuse(call)
        for path in ONCE:
            if list(at(call.old_inputs, path)) != list(at(call.inputs, path)):
                raise CloudError(f"PropertyChangeNotAllowed: changing property '{path}' is not allowed")
        size = "storageProfile.osDisk.diskSizeGB"
        if list(at(call.old_inputs, size)) != list(at(call.inputs, size)):
            raise CloudError("OperationNotAllowed: the system disk can grow when the machine is deallocated")
        return {}

    def delete(self, call: Call) -> None:
        """Take along what lived inside: it knows the machine by the id that is new with each."""
        call.cloud.remove(MACHINE, str(call.state["vmId"]))

    def _attached(self, call: Call) -> None:
        mine = {value for path in self.refers for _, value in at(call.inputs, path) if "Compute/disks" in str(value)}
        mine |= {each["id"] for each in call.inputs["networkProfile"]["networkInterfaces"]}
        for other in call.things(MACHINE):
            theirs = {value for path in self.refers for _, value in at(other.inputs, path)}
            if other.id != call.id and mine & theirs:
                raise CloudError(f"AttachDiskWhileBeingAttached: {', '.join(mine & theirs)} belongs to {other.id}")


def client(call: Call) -> Props:
    """Say who asks."""
    return {
        "clientId": os.environ["ARM_CLIENT_ID"],
        "objectId": "22222222-2222-2222-2222-222222222222",
        "subscriptionId": call.config["subscriptionId"],
        "tenantId": TENANT,
    }


class Azure(Provider):
    """The cloud."""

    name = "azure-native"
    sdk = "pulumi_azure_native"
    kinds = (
        Group, VirtualNetwork, Members, Firewall, Address, Nat, Subnet, Interface,
        Vault, Key, Grant, Encryption, Disk, Machine,
    )  # fmt: skip
    functions: ClassVar = {"azure-native:authorization:getClientConfig": client}
    # The plugin says of no setting that it changes anything: whoever moves has to say so himself.

    def configure(self, config: Props) -> None:
        """Refuse to work without credentials in the environment."""
        lacking = [name for name in CREDENTIALS if not os.environ.get(name)]
        if lacking:
            raise CloudError(f"no credentials: {', '.join(lacking)} not set; or log in with `az login`")

    def missing(self, path: str, token: str, value: str) -> CloudError:
        """Say that something is not there."""
        return CloudError(f"InvalidResourceReference: {path}: resource {value} was not found")

    def in_use(self, thing: Thing, users: Sequence[Thing]) -> CloudError:
        """Say that something is needed."""
        return CloudError(f"InUseCannotBeDeleted: {thing.id} is in use by {', '.join(each.id for each in users)}")


def _group_id(call: Call) -> str:
    return f"/subscriptions/{call.config['subscriptionId']}/resourceGroups/{call.inputs['resourceGroupName']}"


def _there(call: Call, token: str, name: str) -> Thing:
    found = call.find(token, name)
    if found is None:
        raise call.provider.missing("id", token, name)
    return found


def _usable(call: Call, encryption: str) -> None:
    """Raise CloudError unless the encryption's own identity may use its key."""
    identity = _there(call, ENCRYPTION, encryption).outputs["identity"]["principalId"]
    granted: Iterator[Props] = (each.inputs["policy"] for each in call.things(GRANT))
    for policy in granted:
        if policy["objectId"] == identity and {"get", "wrapKey", "unwrapKey"} <= set(policy["permissions"]["keys"]):
            return
    raise CloudError("KeyVaultAccessForbidden: the disk encryption set may not get, wrapKey and unwrapKey")


def _inside(one: Any, other: Any) -> bool:
    return one.version == other.version and bool(one.subnet_of(other))


def _hosts(text: str, network: str) -> bool:
    """Say whether an address is a machine's: Azure keeps the first four of a subnet."""
    inside, own = ip_network(network), ip_address(text)
    return own.version == inside.version and own in inside and int(own) - int(inside[0]) >= 4


PROVIDER = Azure
