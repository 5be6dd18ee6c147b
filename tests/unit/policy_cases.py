"""What the policy pack refuses and what it lets pass: for each rule and kind of resource, its inputs on the wire."""

import base64
import gzip
from typing import Any

from tests.unit.policy_ingress import INGRESS, OFFICE, Case, Inputs

__all__ = ["CASES", "LOGIN", "OFFICE", "Case", "packed"]

KEY = "arn:aws:kms:eu-west-1:000000000000:key/1"
LOCKED = {"encrypted": True, "kmsKeyId": KEY}
AWS_MACHINES = ("aws:ec2/instance:Instance", "aws:ec2/spotInstanceRequest:SpotInstanceRequest")
SET = {"diskEncryptionSet": {"id": "set"}}
SYSTEM = {"osDisk": {"createOption": "FromImage", "managedDisk": SET}}
ATTACHED = {"lun": 0, "createOption": "Attach", "managedDisk": {"id": "disk"}}
EMPTY = {"lun": 0, "createOption": "Empty"}
LINK = {"kmsKeySelfLink": "key"}

ENCRYPTED = (
    Case(
        rule="disks-encrypted",
        type="aws:ebs/volume:Volume",
        bad=({}, {"encrypted": False}, {"kmsKeyId": KEY}),
        good=(LOCKED,),
    ),
    *(
        Case(
            rule="disks-encrypted",
            type=each,
            bad=({}, {"rootBlockDevice": LOCKED, "ebsBlockDevices": [{"deviceName": "/dev/sdf", "encrypted": False}]}),
            good=({"rootBlockDevice": LOCKED}, {"rootBlockDevice": LOCKED, "ebsBlockDevices": [LOCKED]}),
        )
        for each in AWS_MACHINES
    ),
    Case(
        rule="disks-encrypted",
        type="aws:ec2/launchTemplate:LaunchTemplate",
        bad=({}, {"blockDeviceMappings": [{"ebs": {"encrypted": "false"}}]}, {"blockDeviceMappings": []}),
        good=({"blockDeviceMappings": [{"ebs": {"encrypted": "true", "kmsKeyId": KEY}}]},),
    ),
    Case(
        rule="disks-encrypted",
        type="azure-native:compute:VirtualMachine",
        bad=({}, {"securityProfile": {"encryptionAtHost": False}}),
        good=({"securityProfile": {"encryptionAtHost": True}},),
    ),
    Case(
        rule="disks-encrypted",
        type="azure-native:compute:VirtualMachineScaleSet",
        bad=({}, {"virtualMachineProfile": {"securityProfile": {"encryptionAtHost": False}}}),
        good=({"virtualMachineProfile": {"securityProfile": {"encryptionAtHost": True}}},),
    ),
    Case(
        rule="disks-encrypted",
        type="openstack:blockstorage/volume:Volume",
        bad=({"size": 10}, {"volumeType": ""}),
        good=({"volumeType": "luks"},),
    ),
    Case(
        rule="disks-encrypted",
        type="openstack:blockstorage/volume:Volume",
        config={"encryptedVolumeTypes": ["luks"]},
        bad=({"volumeType": "fast"},),
        good=({"volumeType": "luks"},),
    ),
    Case(
        rule="disks-encrypted",
        type="openstack:compute/instance:Instance",
        bad=({}, {"blockDevices": [{"sourceType": "image", "destinationType": "local"}]}),
        good=({"blockDevices": [{"sourceType": "volume", "destinationType": "volume"}]},),
    ),
    Case(
        rule="disks-encrypted",
        type="vre:libvirt:Volume",
        bad=({"capacity": 10},),
        good=({"encryption": {"secret": "1"}}, {"source": "/image"}, {"content": "AAAA"}),
    ),
)
OWN_KEY = (
    Case(
        rule="disks-own-key",
        type="aws:ebs/volume:Volume",
        bad=({"encrypted": True}, {"encrypted": True, "kmsKeyId": "arn:aws:kms:eu-west-1:0:alias/aws/ebs"}),
        good=(LOCKED,),
    ),
    *(
        Case(
            rule="disks-own-key",
            type=each,
            bad=({"rootBlockDevice": {"encrypted": True}}, {"rootBlockDevice": LOCKED, "ebsBlockDevices": [{}]}),
            good=({"rootBlockDevice": LOCKED},),
        )
        for each in AWS_MACHINES
    ),
    Case(
        rule="disks-own-key",
        type="aws:ec2/launchTemplate:LaunchTemplate",
        bad=({"blockDeviceMappings": [{"ebs": {"encrypted": "true"}}]},),
        good=({"blockDeviceMappings": [{"ebs": {"encrypted": "true", "kmsKeyId": KEY}}]},),
    ),
    Case(
        rule="disks-own-key",
        type="azure-native:compute:Disk",
        bad=({}, {"encryption": {"type": "EncryptionAtRestWithPlatformKey"}}),
        good=({"encryption": {"type": "EncryptionAtRestWithCustomerKey", "diskEncryptionSetId": "set"}},),
    ),
    Case(
        rule="disks-own-key",
        type="azure-native:compute:VirtualMachine",
        bad=(
            {"storageProfile": {"osDisk": {"createOption": "FromImage"}}},
            {"storageProfile": {**SYSTEM, "dataDisks": [ATTACHED, EMPTY]}},
        ),
        good=({"storageProfile": {**SYSTEM, "dataDisks": [ATTACHED]}},),
    ),
    Case(
        rule="disks-own-key",
        type="azure-native:compute:VirtualMachineScaleSet",
        bad=({"virtualMachineProfile": {"storageProfile": {"osDisk": {"createOption": "FromImage"}}}},),
        good=({"virtualMachineProfile": {"storageProfile": SYSTEM}},),
    ),
    *(
        Case(
            rule="disks-own-key",
            type=f"gcp:compute/{each}",
            bad=({}, {"diskEncryptionKey": {"rawKey": "a-key-in-the-state"}}),
            good=({"diskEncryptionKey": {key: "key"}},),
        )
        for each, key in (("disk:Disk", "kmsKeySelfLink"), ("regionDisk:RegionDisk", "kmsKeyName"))
    ),
    Case(
        rule="disks-own-key",
        type="gcp:compute/instance:Instance",
        bad=(
            {"bootDisk": {"initializeParams": {"image": "debian"}}},
            {"bootDisk": {"source": "disk"}, "scratchDisks": [{"interface": "NVME"}]},
        ),
        good=({"bootDisk": {"source": "disk"}}, {"bootDisk": LINK}),
    ),
    *(
        Case(
            rule="disks-own-key",
            type=f"gcp:compute/{each}",
            bad=({"disks": [{"sourceImage": "debian"}]},),
            good=({"disks": [{"sourceImage": "debian", "diskEncryptionKey": LINK}]}, {"disks": [{"source": "disk"}]}),
        )
        for each in ("instanceTemplate:InstanceTemplate", "regionInstanceTemplate:RegionInstanceTemplate")
    ),
)

LOGIN = (
    "#cloud-config\nssh_pwauth: true\n",
    "#cloud-config\nssh_pwauth: 'yes'\n",
    '#cloud-config\n{"ssh_pwauth": true}\n',
    "#!/bin/sh\nsed -i 's/^#PasswordAuthentication no/PasswordAuthentication yes/' /etc/ssh/sshd_config\n",
    '#cloud-config\nwrite_files:\n  - content: "UsePAM yes\\nPasswordAuthentication yes\\n"\n',
    "#cloud-config\nchpasswd: {expire: false}\npassword: changeme\n",
    "#cloud-config\nusers:\n  - name: a\n    lock_passwd: false\n    plain_text_passwd: changeme\n",
)
KEYS_ONLY = (
    "#cloud-config\nssh_pwauth: false\nusers:\n  - name: a\n    lock_passwd: true\n",
    "#cloud-config\n# ssh_pwauth: true would let passwords in\n",
    "#cloud-config\n  # Never say ssh_pwauth: true here\n",
    '#cloud-config\nwrite_files:\n  - content: "PasswordAuthentication no\\nUsePAM yes\\n"\n',
)


def packed(text: str) -> str:
    """Return gzip in base64, as it is given to AWS."""
    return base64.b64encode(gzip.compress(text.encode())).decode()


def padded(text: str) -> str:
    """Return base64 of a text long enough to be a disk's content."""
    return base64.b64encode(b"\0" * 600 + text.encode() + b"\0" * 600).decode()


def _vm(**system: Any) -> Inputs:
    return {
        "osProfile": {"adminUsername": "vre", "linuxConfiguration": {"disablePasswordAuthentication": True}, **system}
    }


PASSWORDS = (
    *(
        Case(
            rule="no-passwords",
            type=each,
            bad=(*({"userData": text} for text in LOGIN), *({"userDataBase64": packed(text)} for text in LOGIN)),
            good=(*({"userData": text} for text in KEYS_ONLY), {"userDataBase64": packed(KEYS_ONLY[0])}, {}),
        )
        for each in AWS_MACHINES
    ),
    Case(
        rule="no-passwords",
        type="aws:ec2/launchTemplate:LaunchTemplate",
        bad=({"userData": packed(LOGIN[0])},),
        good=({"userData": packed(KEYS_ONLY[0])},),
    ),
    *(
        Case(
            rule="no-passwords",
            type=f"gcp:compute/{each}",
            bad=(
                {"metadata": {"user-data": LOGIN[0]}},
                {"metadata": {"startup-script": LOGIN[3]}},
                {"metadataStartupScript": LOGIN[3]},
            ),
            good=({"metadata": {"user-data": KEYS_ONLY[0]}}, {}),
        )
        for each in (
            "instance:Instance",
            "instanceTemplate:InstanceTemplate",
            "regionInstanceTemplate:RegionInstanceTemplate",
        )
    ),
    Case(
        rule="no-passwords",
        type="azure-native:compute:VirtualMachine",
        bad=(
            _vm(adminPassword="a-password"),
            _vm(linuxConfiguration={"disablePasswordAuthentication": False}),
            _vm(linuxConfiguration={}),
            _vm(customData=padded(LOGIN[0])),
            {**_vm(), "userData": padded(LOGIN[0])},
        ),
        good=(_vm(), _vm(customData=padded(KEYS_ONLY[0])), {}),
    ),
    Case(
        rule="no-passwords",
        type="azure-native:compute:VirtualMachineScaleSet",
        bad=({"virtualMachineProfile": _vm(adminPassword="a-password")},),
        good=({"virtualMachineProfile": _vm()},),
    ),
    Case(
        rule="no-passwords",
        type="openstack:compute/instance:Instance",
        bad=({"adminPass": "a-password"}, {"userData": LOGIN[0]}, {"userData": packed(LOGIN[0])}),
        good=({"userData": KEYS_ONLY[0]}, {}),
    ),
    Case(
        rule="no-passwords",
        type="vre:libvirt:Volume",
        bad=({"content": padded(LOGIN[0])},),
        good=({"content": padded(KEYS_ONLY[0])}, {"source": "/image"}),
    ),
)

PREMIUM = [{"networkTier": "PREMIUM"}]
CONTROL, WORKER = {"vre-role": "control"}, {"vre-role": "worker"}


def _card(key: str, **more: Any) -> Inputs:
    return {
        "ipConfigurations": [
            {"name": "a"},
            {"name": "b", key: {"id" if key == "publicIPAddress" else "name": "address"}},
        ],
        **more,
    }


def _public(type: str, inputs: Inputs, tag: str = "tags") -> Case:
    """Return a case in which the same is right for the control plane's machine only."""
    bad = (inputs, {**inputs, tag: WORKER})
    return Case(rule="no-public-workers", type=type, bad=bad, good=({**inputs, tag: CONTROL}, {tag: WORKER}))


TEMPLATE_CARDS = {"networkInterfaceConfigurations": [_card("publicIPAddressConfiguration", name="card")]}
PUBLIC = (
    *(_public(each, {"associatePublicIpAddress": True}) for each in AWS_MACHINES),
    _public("aws:ec2/launchTemplate:LaunchTemplate", {"networkInterfaces": [{"associatePublicIpAddress": "true"}]}),
    _public("aws:ec2/subnet:Subnet", {"mapPublicIpOnLaunch": True}),
    _public("aws:ec2/eip:Eip", {"instance": "i-1"}),
    _public("aws:ec2/eip:Eip", {"networkInterface": "eni-1"}),
    *(
        _public(f"gcp:compute/{each}", {"networkInterfaces": [{"network": "a", key: PREMIUM}]}, "labels")
        for key in ("accessConfigs", "ipv6AccessConfigs")
        for each in (
            "instance:Instance", "instanceTemplate:InstanceTemplate", "regionInstanceTemplate:RegionInstanceTemplate",
        )
    ),
    _public("azure-native:network:NetworkInterface", _card("publicIPAddress")),
    _public("azure-native:compute:VirtualMachine", {"networkProfile": TEMPLATE_CARDS}),
    _public(
        "azure-native:compute:VirtualMachineScaleSet", {"virtualMachineProfile": {"networkProfile": TEMPLATE_CARDS}}
    ),
    Case(
        rule="no-public-workers",
        type="openstack:networking/floatingIp:FloatingIp",
        bad=({"portId": "port"}, {"portId": "port", "tags": ["vre-role=worker"]}),
        good=({"portId": "port", "tags": ["managed-by=vre", "vre-role=control"]}, {"pool": "public"}),
    ),
    Case(
        rule="no-public-workers",
        type="aws:ec2/eip:Eip",
        config={"publicRoles": ["gateway"]},
        bad=({"instance": "i-1", "tags": CONTROL},),
        good=({"instance": "i-1", "tags": {"vre-role": "gateway"}},),
    ),
)  # fmt: skip

V2 = {"httpTokens": "required", "httpPutResponseHopLimit": 1}
CREDENTIALS = (
    *(
        Case(rule="no-instance-credentials", type=each, bad=({"iamInstanceProfile": "admin"},), good=({},))
        for each in AWS_MACHINES
    ),
    Case(
        rule="no-instance-credentials",
        type="aws:ec2/launchTemplate:LaunchTemplate",
        bad=({"iamInstanceProfile": {"name": "admin"}},),
        good=({},),
    ),
    *(
        Case(
            rule="no-instance-credentials",
            type=f"gcp:compute/{each}",
            bad=({"serviceAccount": {"email": "a@example.org", "scopes": ["cloud-platform"]}},),
            good=({},),
        )
        for each in (
            "instance:Instance", "instanceTemplate:InstanceTemplate", "regionInstanceTemplate:RegionInstanceTemplate",
        )
    ),
    *(
        Case(
            rule="no-instance-credentials",
            type=f"azure-native:compute:{each}",
            bad=({"identity": {"type": "SystemAssigned"}},),
            good=({}, {"identity": {"type": "None"}}),
        )
        for each in ("VirtualMachine", "VirtualMachineScaleSet")
    ),
)  # fmt: skip
METADATA = tuple(
    Case(
        rule="metadata-tokens",
        type=each,
        bad=(
            {},
            {"metadataOptions": {"httpTokens": "optional", "httpPutResponseHopLimit": 1}},
            {"metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 2}},
        ),
        good=({"metadataOptions": V2}, {"metadataOptions": {"httpEndpoint": "disabled"}}),
    )
    for each in (*AWS_MACHINES, "aws:ec2/launchTemplate:LaunchTemplate")
)

CASES = (*INGRESS, *ENCRYPTED, *OWN_KEY, *PASSWORDS, *PUBLIC, *CREDENTIALS, *METADATA)
