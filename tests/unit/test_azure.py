"""Azure apart from its rules: what is declared there, and what the simulated Azure refuses."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, cast

import pulumi
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import provider_pb2 as proto

from tests.engine.simulated import azure as simulated
from tests.engine.simulated.noted import CloudError
from tests.engine.simulated.store import Cloud
from tests.engine.simulated.work import Work
from tests.oracle import azure as oracle
from tests.oracle.configs import KEY, Case, case
from tests.oracle.told import Props, Resource
from tests.unit.test_oracle_azure import CLOUD, EVERYTHING, everything, told
from vre import access, clouds
from vre.clouds.aliases import undated
from vre.clouds.azure import DEVICE, IMAGE, SIZES, surroundings
from vre.clouds.rented import native
from vre.config import SHAPES
from vre.inventory import Machine
from vre.load import load
from vre.machine import cloudinit
from vre.paths import project
from vre.policy import Protocol, Role, Sender, leaves
from vre.provider.handler import Context
from vre.stackfile import parse

TOKEN = "a-token-nobody-may-see-7731"
SECRET = "a-secret-nobody-may-see-4512"


def machine(stack: Case, name: str = "control") -> Machine:
    return next(each for each in stack.plan.machines if each.name.endswith(name))


def of(resources: list[Resource], kind: str) -> list[Resource]:
    return [each for each in resources if each.type.endswith(f":{kind}")]


def one(resources: list[Resource], kind: str, name: str = "") -> Props:
    [found] = [each for each in of(resources, kind) if not name or each.name == name]
    return found.inputs


# What is declared


@pytest.mark.parametrize(("word", "size"), [("small", "D2ls"), ("medium", "D4s"), ("large", "D16s")])
def test_the_portable_words_have_their_sizes(word: str, size: str) -> None:
    plan = case({"cloud": CLOUD, "edge": EVERYTHING["edge"], "machines": {"control": {"size": word}}}).plan
    assert native(SIZES, plan.control) == f"Standard_{size}_v5"
    assert SHAPES[word].memory * 1024 == plan.control.memory


def test_numbers_become_the_smallest_size_that_holds_them() -> None:
    for each in SIZES:
        stack = {"control": {"size": {"cpus": each.cpus, "memory": each.memory}}}
        assert (
            native(SIZES, case({"cloud": CLOUD, "edge": EVERYTHING["edge"], "machines": stack}).plan.control)
            == each.name
        )


def test_a_machine_is_closed_in_every_way_that_azure_knows() -> None:
    stack, resources = everything()
    for name in ("oracle-control", "oracle-worker-1"):
        made = one(resources, "VirtualMachine", name)
        first = made["osProfile"]["linuxConfiguration"]
        assert made["securityProfile"] == {
            "securityType": "TrustedLaunch",
            "uefiSettings": {"secureBootEnabled": True, "vTpmEnabled": True},
            "encryptionAtHost": True,
        }
        assert first["disablePasswordAuthentication"] is True
        assert first["provisionVMAgent"] is made["osProfile"]["allowExtensionOperations"] is False
        assert [key["keyData"] for key in first["ssh"]["publicKeys"]] == list(access.keys(stack.config))
        assert "adminPassword" not in made["osProfile"]
        assert "identity" not in made
        assert made["storageProfile"]["imageReference"] == IMAGE
        [disk] = made["storageProfile"]["dataDisks"]
        assert disk["lun"] == 0
        assert DEVICE.endswith("/by-lun/0")


def test_only_the_control_plane_has_a_public_address_and_its_own_place() -> None:
    stack, resources = everything()
    for each in stack.plan.machines:
        first, second = one(resources, "NetworkInterface", f"{each.name}-interface")["ipConfigurations"]
        assert (first["privateIPAddress"], second["privateIPAddress"]) == (each.ipv4, each.ipv6)
        assert ("publicIPAddress" in first) == (each.role == "control")
        assert "publicIPAddress" not in second
    assert {each.name for each in of(resources, "PublicIPAddress")} == {"address", "nat-address"}
    assert one(resources, "Subnet")["defaultOutboundAccess"] is False


def test_without_workers_there_is_no_nat_gateway() -> None:
    from tests.unit.test_oracle_azure import told

    resources = told(case({**EVERYTHING, "machines": {}}))
    assert of(resources, "NatGateway") == []
    assert [each.name for each in of(resources, "PublicIPAddress")] == ["address"]
    assert not one(resources, "Subnet").get("natGateway")


def test_disks_are_encrypted_with_a_key_of_the_stacks_own() -> None:
    _, resources = everything()
    [encryption] = of(resources, "DiskEncryptionSet")
    for disk in of(resources, "Disk"):
        assert disk.inputs["encryption"]["diskEncryptionSetId"] == encryption.id
        assert (disk.inputs["networkAccessPolicy"], disk.inputs["publicNetworkAccess"]) == ("DenyAll", "Disabled")
    for made in of(resources, "VirtualMachine"):
        system = made.inputs["storageProfile"]["osDisk"]["managedDisk"]
        assert system["diskEncryptionSet"]["id"] == encryption.id
    vault = one(resources, "Vault")["properties"]
    assert vault["enablePurgeProtection"] is True
    assert vault["softDeleteRetentionInDays"] == 7
    assert vault["networkAcls"] == {"bypass": "AzureServices", "defaultAction": "Deny"}
    granted = one(resources, "AccessPolicy")["policy"]
    assert granted["objectId"] == "principal"
    assert granted["permissions"] == {"keys": ["get", "wrapKey", "unwrapKey"]}


def test_everything_is_tagged() -> None:
    _, resources = everything()
    without = {"Provider", "azure-native", "Subnet", "Key", "AccessPolicy"}
    tagged = [each for each in resources if each.type.split(":")[-1] not in without]
    assert len(tagged) > 15
    for each in tagged:
        assert each.inputs["tags"].items() >= {"vre": "oracle", "managed-by": "vre"}.items(), each.name
    for each in of(resources, "VirtualMachine"):
        assert each.inputs["tags"]["vre-role"] in {"control", "worker"}


def test_no_resource_has_aliases_of_another_days_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[pulumi.ResourceOptions] = []
    begin = pulumi.runtime.resource.register_resource

    def noted(*args: Any) -> None:
        given.extend(each for each in args if isinstance(each, pulumi.ResourceOptions))
        begin(*args)

    monkeypatch.setattr("pulumi.resource.register_resource", noted)
    made = told(case(EVERYTHING))
    assert len(given) >= len(made) > len(of(made, "VirtualMachine")) > 1
    assert [alias for each in given for alias in each.aliases or ()] == []


def test_an_alias_that_is_of_no_day_stays() -> None:
    new, dated = (pulumi.Alias(type_=f"azure-native:{kind}:Zone") for kind in ("dns", "network/v20180501"))
    asked = pulumi.ResourceOptions(aliases=[new, dated, "urn:pulumi:a::b::c::d"], protect=True)
    told = undated(pulumi.ResourceTransformationArgs(cast(Any, None), "type", "name", {}, asked))
    assert told.opts.aliases == [new, "urn:pulumi:a::b::c::d"]
    assert told.opts.protect
    assert asked.aliases == [new, dated, "urn:pulumi:a::b::c::d"]


def test_the_longest_name_fits_everywhere() -> None:
    from tests.unit.test_oracle_azure import told

    resources = told(case({**EVERYTHING, "name": "a234567890123456789z"}))
    [vault] = of(resources, "Vault")
    assert simulated.VAULT_NAME.fullmatch(f"{vault.name}0a1b2c3d")
    assert all(len(each.inputs["vmName"]) <= 64 for each in of(resources, "VirtualMachine"))
    assert simulated.VAULT_NAME.fullmatch("vre-phenome-0a1b2c3d")


def test_user_data_of_the_largest_stack_is_what_azure_takes() -> None:
    stack = case(
        {
            **EVERYTHING,
            "machines": {"workers": {"count": 100}},
            "edge": {"provider": "cloudflare", "zone": "example.org"},
        }
    )
    boot = cloudinit.Boot(
        name=stack.plan.control.name, mac=stack.plan.control.mac, addresses=(), keys=[KEY] * 20,
        host_key=cloudinit.HostKey(public=KEY, private="PRIVATE KEY" * 40),
        firewall=_rules(stack), data_device=DEVICE,
        nodes={each.name: [each.ipv4, each.ipv6] for each in stack.plan.machines},
    )  # fmt: skip
    assert len(cloudinit.render(boot).user_data.encode()) <= simulated.CUSTOM_DATA


def _rules(stack: Case) -> str:
    from vre.clouds.site import rules

    return rules(stack.config, clouds.policy(stack.config), stack.plan.control)


def test_pods_reach_none_of_azures_own_services() -> None:
    jupyter = {"jupyter": {"admin": "researcher", "egress": ["168.63.0.0/16"]}}
    stack = case({"cloud": CLOUD, "edge": EVERYTHING["edge"], "services": jupyter})
    for text in surroundings(stack.config).metadata:
        address = ip_network(text)[0]
        assert leaves(stack.policy, Role.CONTROL, address, Protocol.TCP, 80)
        assert not leaves(stack.policy, Role.CONTROL, address, Protocol.TCP, 80, sender=Sender.PODS)
        assert f"daddr {address} drop" in _rules(stack)
    other = ip_address("168.63.129.17")
    assert leaves(stack.policy, Role.CONTROL, other, Protocol.TCP, 80, sender=Sender.PODS)


@pytest.mark.parametrize(
    ("more", "key", "said"),
    [
        ({"cloud": {**CLOUD, "region": "westeurop"}}, "cloud.region", "westeurope"),
        (
            {"machines": {"control": {"size": {"cpus": 128, "memory": 2048}}}},
            "machines.control.size",
            "type: Standard_E96s_v5",
        ),
        (
            {"access": {"keys": ["ecdsa-sha2-nistp256 AAAA a"], "operators": ["203.0.113.0/24"]}},
            "access.keys",
            "ssh-keygen -t ed25519",
        ),
    ],
)
def test_what_azure_does_not_have_is_refused_by_its_key(
    more: Props, key: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vre.access.check", lambda config: [])
    monkeypatch.setattr("vre.fields._public_key", lambda value: value)
    base: Props = {**EVERYTHING, **{key: value for key, value in more.items() if key != "access"}}
    stack = case(base)
    if "access" in more:
        own = stack.config.access.model_copy(update={"keys": tuple(more["access"]["keys"])})
        stack = replace(stack, config=stack.config.model_copy(update={"access": own}))
    [found] = clouds.faults(stack.config)
    assert found.key == f"vre:{key}"
    assert said in str(found)


def test_an_ipv6_range_that_is_no_subnet_of_azures_is_refused() -> None:
    with pytest.raises(ValueError, match="/64"):
        case({**EVERYTHING, "cloud": {**CLOUD, "network6": "fd76:7265:77::/56"}})


def test_the_example_stack_loads() -> None:
    file = project() / "stacks" / "Pulumi.azure.yaml"
    assert load(parse(file.read_text(), file)).cloud.provider == "azure"


# What the simulated Azure refuses


@pytest.fixture
def arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """The simulated cloud with everything that a stack of one machine needs, as the module declares it."""
    from tests.unit.test_oracle_azure import told

    for name in simulated.CREDENTIALS:
        monkeypatch.setenv(name, "planted")
    work = Work(simulated.Azure(), Cloud(tmp_path / "cloud.db"))
    work.configure({"subscriptionId": CLOUD["subscription"]})
    monkeypatch.setattr(
        "tests.unit.test_oracle_azure.answer", lambda kind, name, inputs: made(work, kind, name, inputs)
    )
    told(case({"cloud": CLOUD, "edge": EVERYTHING["edge"]}))
    return work


def made(work: Work, kind: str, name: str, inputs: Props) -> tuple[str, Props]:
    """Let the simulated cloud answer the module."""
    if kind == "pulumi:providers:azure-native":
        return name, {}
    checked = work.check(Context(), proto.CheckRequest(urn=urn(kind, name), news=struct(inputs)))
    assert not checked.failures, checked.failures
    done = work.create(Context(), proto.CreateRequest(urn=urn(kind, name), properties=checked.inputs))
    return done.id, work.cloud.find(kind, done.id).outputs  # type: ignore[union-attr]


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:test::vre::{kind}::{name}"


def struct(value: Props) -> Struct:
    return ParseDict(json.loads(json.dumps(value)), Struct())


def again(work: Work, kind: str, change: Callable[[Props], None]) -> None:
    """Ask for a change of the only thing of a type."""
    [found] = work.cloud.resources(kind)
    wanted = json.loads(json.dumps(found.inputs))
    change(wanted)
    work.update(
        Context(),
        proto.UpdateRequest(
            urn=found.urn, id=found.id, olds=struct(found.outputs), news=struct(wanted), old_inputs=struct(found.inputs)
        ),
    )


def set_to(path: str, value: Any) -> Callable[[Props], None]:
    def change(inputs: Props) -> None:
        *before, last = path.split(".")
        for step in before:
            inputs = inputs[int(step) if step.isdigit() else step]  # type: ignore[index]
        inputs[last] = value

    return change


@pytest.mark.parametrize(
    ("kind", "path", "value", "refusal"),
    [
        (simulated.MACHINE, "osProfile.customData", base64.b64encode(b"other").decode(), "PropertyChangeNotAllowed"),
        (simulated.MACHINE, "osProfile.customData", base64.b64encode(b"x" * 65536).decode(), "CustomDataTooLarge"),
        (simulated.MACHINE, "storageProfile.imageReference", {"id": "/other"}, "PropertyChangeNotAllowed"),
        (simulated.MACHINE, "storageProfile.osDisk.diskSizeGB", 60, "deallocated"),
        (simulated.MACHINE, "storageProfile.osDisk.diskSizeGB", 12, "smaller than the image"),
        (simulated.DISK, "diskSizeGB", 1, "cannot become smaller"),
        (oracle.INTERFACE, "ipConfigurations.1.applicationSecurityGroups", [], "MustBelongToTheSame"),
        (oracle.INTERFACE, "ipConfigurations.0.privateIPAddress", "10.77.0.3", "NotInSubnet"),
        (oracle.NETWORK, "addressSpace.addressPrefixes", ["10.78.0.0/16"], "NetcfgSubnetRangeOutsideVnet"),
        (oracle.SUBNET, "addressPrefixes", ["10.78.0.0/16"], "NetcfgSubnetRangeOutsideVnet"),
        (oracle.SUBNET, "addressPrefixes", ["fd76:7265:77::/65"], "IPv6PrefixLength"),
        (simulated.ENCRYPTION, "activeKey.keyUrl", "https://elsewhere/keys/k/1", "KeyVaultKeyNotFound"),
        (oracle.FIREWALL, "securityRules.0.priority", 4097, "SecurityRuleInvalidPriority"),
    ],
)
def test_the_simulated_azure_refuses(arm: Work, kind: str, path: str, value: Any, refusal: str) -> None:
    with pytest.raises(CloudError, match=refusal):
        again(arm, kind, set_to(path, value))


def test_the_simulated_azure_changes_what_may_change(arm: Work) -> None:
    again(arm, simulated.DISK, set_to("diskSizeGB", 100))
    again(arm, simulated.MACHINE, set_to("hardwareProfile.vmSize", "Standard_D4s_v5"))
    assert arm.cloud.resources(simulated.DISK)[0].inputs["diskSizeGB"] == 100


def test_no_disk_is_encrypted_before_the_key_may_be_used(arm: Work) -> None:
    [grant] = arm.cloud.resources(simulated.GRANT)
    arm.cloud.remove(grant.type, grant.id)
    with pytest.raises(CloudError, match="KeyVaultAccessForbidden"):
        again(arm, simulated.DISK, set_to("diskSizeGB", 100))


def test_a_deleted_vault_keeps_its_name_and_takes_its_keys_along(arm: Work) -> None:
    [vault] = arm.cloud.resources(simulated.VAULT)
    for kind in (simulated.MACHINE, simulated.DISK, simulated.ENCRYPTION):
        [found] = arm.cloud.resources(kind)
        arm.delete(Context(), proto.DeleteRequest(urn=found.urn, id=found.id, properties=struct(found.outputs)))
    arm.delete(Context(), proto.DeleteRequest(urn=vault.urn, id=vault.id, properties=struct(vault.outputs)))
    assert arm.cloud.resources(simulated.KEY) == arm.cloud.resources(simulated.GRANT) == []
    with pytest.raises(CloudError, match="deleted state"):
        arm.create(Context(), proto.CreateRequest(urn=vault.urn, properties=struct(vault.inputs)))


def test_without_credentials_nothing_begins(arm: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARM_CLIENT_SECRET")
    with pytest.raises(CloudError, match="ARM_CLIENT_SECRET not set"):
        arm.configure({"subscriptionId": CLOUD["subscription"]})
