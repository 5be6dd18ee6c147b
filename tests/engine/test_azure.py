"""A life on Azure with the real engine: each step fails once, changes are what the docs say, nothing is left."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.simulated import azure, search
from tests.engine.simulated.lifecycle import Life, begin
from tests.engine.simulated.store import Fault
from tests.engine.simulated.table import at
from tests.oracle.azure import FIREWALL, GROUP, INTERFACE, NETWORK, SUBNET, evaluator, faults
from tests.oracle.compare import assert_agree
from tests.oracle.configs import Case
from tests.oracle.told import recorded
from vre import clouds
from vre.load import load
from vre.paths import project
from vre.plan import plan
from vre.stackfile import parse

CANARIES = {name: f"planted-{name.lower()}-70131" for name in azure.CREDENTIALS}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL bob"
CLOUD = "provider: azure, subscription: 00000000-0000-0000-0000-000000000000"
STACK = f"""\
  vre:name: phenome
  vre:cloud: {{{CLOUD}, region: westeurope}}
  vre:edge: {{provider: direct, domain: example.org}}
  vre:access: {{operators: [203.0.113.0/24, "2001:db8::/32"], keys: [.vre/id_ed25519.pub]}}
  vre:machines: {{control: {{data: 10}}, workers: {{count: 2}}}}
  vre:services:
    jupyter: {{admin: researcher}}
"""
GALLERY = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/i/providers/Microsoft.Compute/galleries/g"
IMAGE = f"{GALLERY}/images/own/versions/1.0.0"
CHANGED = (
    STACK.replace("westeurope}", f"westeurope, image: {IMAGE}}}")
    .replace("203.0.113.0/24", "198.51.100.0/25")
    .replace("id_ed25519.pub]", f"id_ed25519.pub, {KEY}]")
    .replace("{data: 10}, workers: {count: 2}", "{size: medium, data: 20}, workers: {count: 1, without: [1]}")
)
USED = {
    SUBNET: "Microsoft.Network/virtualNetworks/subnets/join/action",
    FIREWALL: "Microsoft.Network/networkSecurityGroups/join/action",
    INTERFACE: "Microsoft.Network/networkInterfaces/join/action",
    azure.ADDRESS: "Microsoft.Network/publicIPAddresses/join/action",
    azure.NAT: "Microsoft.Network/natGateways/join/action",
    azure.DISK: "Microsoft.Compute/disks/write",
    azure.ENCRYPTION: "Microsoft.Compute/diskEncryptionSets/read",
    azure.VAULT: "Microsoft.KeyVault/vaults/read",
    azure.GROUP: "Microsoft.Resources/subscriptions/resourceGroups/read",
    NETWORK: "Microsoft.Network/virtualNetworks/read",
}
"""Which action it takes to have something refer to a thing."""
MEMBER = {
    INTERFACE: "Microsoft.Network/applicationSecurityGroups/joinIpConfiguration/action",
    FIREWALL: "Microsoft.Network/applicationSecurityGroups/joinNetworkSecurityRule/action",
}
VERBS = {"create": "write", "update": "write", "read": "read", "delete": "delete"}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory, pulumi_program: Path) -> Life:
    """A stack that came up although the first call of each type failed."""
    made = begin(tmp_path_factory.mktemp("azure") / "clone", "phenome", STACK, ["azure-native"], env=CANARIES)
    failed = made.fail_in_turn(Fault(what="fail", plugin="azure-native", method="create", once_per="type"))
    assert {each.type for each in failed} == {kind.token for kind in azure.Azure.kinds}
    return made


def test_after_a_failure_of_every_step_nothing_is_twice_and_nothing_is_left_to_do(life: Life) -> None:
    life.whole()
    assert len(life.cloud.resources(azure.MACHINE)) == 3
    assert len(life.cloud.resources(azure.DISK)) == 3
    assert len(life.cloud.resources(azure.ADDRESS)) == 2


@pytest.mark.requirement("P-18", "C-16", "P-02")
def test_the_engine_told_azure_what_the_policy_says(life: Life) -> None:
    file = life.engine.checkout.path / "stacks" / "Pulumi.phenome.yaml"
    config = load(parse(file.read_text(), file))
    stack = Case(config=config, plan=plan(config), policy=clouds.policy(config))
    told = recorded(life.cloud.resources())
    assert_agree(stack, evaluator(told), told)
    [firewall] = life.cloud.resources(FIREWALL)
    assert list(faults(firewall.inputs["securityRules"])) == []


@pytest.mark.requirement("P-43")
def test_no_credential_and_no_password_lies_open_anywhere(life: Life) -> None:
    for canary in CANARIES.values():
        assert search.places(life, canary) == []
    told = life.engine.pulumi("stack", "output", "password", "--show-secrets", "--stack", life.stack)
    password = told.text.strip()
    assert len(password) > 12
    assert [place for place in search.places(life, password) if not place.startswith("vre:")] == []
    custom = {place for place in search.sent(life, "BEGIN OPENSSH PRIVATE KEY") if place.startswith("azure-native:")}
    assert {place.split(" ", 2)[2] for place in custom} == {"osProfile.customData"}


def test_the_role_in_the_docs_covers_every_call_and_nothing_else_is_written(life: Life) -> None:
    role = json.loads((project() / "docs" / "clouds" / "azure-permissions.json").read_text())
    needed = set(actions(life))
    assert needed - set(role["Actions"]) == set()
    written = {each for each in role["Actions"] if each.endswith("/write")}
    assert written - needed == set()
    assert role["DataActions"] == []


def actions(life: Life) -> Iterator[str]:
    """Yield the actions that the calls so far needed."""
    kinds = {kind.token: kind for kind in azure.Azure.kinds}
    for entry in life.cloud.journal():
        kind = kinds.get(entry.type)
        if kind is None:
            continue
        yield f"{path(kind)}/{'write' if kind is azure.Grant else VERBS[entry.method]}"
        for pattern, token in kind.refers.items():
            if list(at(entry.told, pattern)):
                yield MEMBER[entry.type] if token == GROUP else USED[str(token)]


def path(kind: type) -> str:
    """Return a type's path in the names of actions."""
    own = {
        azure.Group: "Microsoft.Resources/subscriptions/resourceGroups",
        azure.Grant: "Microsoft.KeyVault/vaults/accessPolicies",
    }
    return own[kind] if kind in own else str(vars(kind)["path"])


def test_what_changed_by_hand_is_put_right(life: Life) -> None:
    [firewall] = life.cloud.resources(FIREWALL)
    first, *others = firewall.inputs["securityRules"]
    opened = {**first, "sourceAddressPrefix": "0.0.0.0/0", "name": "by-hand", "priority": 4000}
    life.cloud.change(firewall.type, firewall.id, securityRules=[first, *others, opened])
    [gone] = [each for each in life.cloud.resources(azure.MACHINE) if each.name == "phenome-worker-2"]
    life.cloud.remove(gone.type, gone.id)
    life.up("--refresh")
    [mended] = life.cloud.resources(FIREWALL)
    assert mended.inputs["securityRules"] == firewall.inputs["securityRules"]
    assert len(life.cloud.resources(azure.MACHINE)) == 3


def planned(life: Life) -> dict[str, str]:
    """Return what the next `up` would do in the cloud, by the resource's name; what is inside machines is left out."""
    text = life.preview("--json")
    steps = json.loads(text[text.index("{") :])["steps"]
    done = {
        step["urn"].split("::")[-1]: "replace" if "replace" in step["op"] else step["op"]
        for step in steps
        if "azure-native:" in step["urn"].split("::")[2]
    }
    return {name: action for name, action in done.items() if action != "same"}


def test_each_field_changes_what_the_page_says(life: Life) -> None:
    life.configure(CHANGED)
    gone = ("phenome-worker-1", "phenome-worker-1-data", "phenome-worker-1-interface")
    changed = ("firewall", "phenome-control-data", "phenome-control")
    assert planned(life) == {**dict.fromkeys(changed, "update"), **dict.fromkeys(gone, "delete")}
    told = life.kill(Fault(what="hang", method="update", type=azure.DISK))
    assert told.name == "phenome-control-data"
    life.up()
    life.whole()
    [disk] = [each for each in life.cloud.resources(azure.DISK) if each.name == "phenome-control-data"]
    assert disk.inputs["diskSizeGB"] == 20
    assert {each.name for each in life.cloud.resources(azure.MACHINE)} == {"phenome-control", "phenome-worker-2"}
    for each in life.cloud.resources(azure.MACHINE):
        assert each.inputs["storageProfile"]["imageReference"]["publisher"] == "Debian"


def test_another_region_makes_everything_anew(life: Life) -> None:
    life.configure(CHANGED.replace("westeurope", "northeurope"))
    anew = planned(life)
    assert {anew[name] for name in ("group", "network", "firewall", "subnet", "phenome-control-data")} == {"replace"}
    life.configure(CHANGED)


@pytest.mark.requirement("P-99")
def test_destroying_leaves_nothing_but_a_vault_that_nobody_can_use(life: Life) -> None:
    life.destroy()
    assert len(life.cloud.resources(azure.DELETED, given=True)) == 1
    assert life.cloud.journal("delete", kind=azure.KEY) == []
