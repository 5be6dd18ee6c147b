"""The policy pack: every rule refuses what breaks it and lets pass what does not, and says nothing it should not."""

import base64
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from vre_rules import addresses, credentials, disks, first_boot, ingress, passwords
from vre_rules.resource import UNKNOWN, Odd, Part, Resource, Rule, look, plain

from tests.unit.policy_cases import CASES, LOGIN, OFFICE, Case, packed
from vre import clouds
from vre.clouds.libvirt import filter_rules
from vre.load import load
from vre.machine import cloudinit
from vre.paths import project
from vre.plan import plan
from vre.stackfile import parse

PACK = project() / "policy-pack"
MODULES = (ingress, disks, passwords, addresses, credentials)
RULES: dict[str, Rule] = {rule.name: rule for module in MODULES for rule in module.RULES}


def told(rule: str, type: str, inputs: Any, config: Mapping[str, Any] | None = None) -> list[str]:
    """Return what a rule says of a resource."""
    said: list[str] = []
    look(RULES[rule], Resource(type=type, inputs=Part(inputs), config=config or {}), said.append)
    return said


def name(case: Case) -> str:
    return f"{case.rule}-{case.type}-{case.config or ''}"


def every(kind: str) -> Iterator[Any]:
    for case in CASES:
        for number, inputs in enumerate(getattr(case, kind)):
            yield pytest.param(case, inputs, id=f"{name(case)}-{number}")


@pytest.mark.parametrize(("case", "inputs"), every("bad"))
def test_what_breaks_a_rule_is_refused(case: Case, inputs: Any) -> None:
    said = told(case.rule, case.type, inputs, case.config)
    assert said
    assert ("another form" in said[0]) == (case.config == {"allowedNetworks": ["the institute's"]})


@pytest.mark.parametrize(("case", "inputs"), every("good"))
def test_what_keeps_a_rule_passes(case: Case, inputs: Any) -> None:
    assert told(case.rule, case.type, inputs, case.config) == []


def test_every_kind_that_a_rule_looks_at_has_cases() -> None:
    looked = {
        "no-open-ingress": set(ingress.OPENINGS),
        "disks-encrypted": set(disks.PLAIN),
        "disks-own-key": set(disks.FOREIGN),
        "no-passwords": {*passwords.TOLD, *passwords.AZURE_MACHINES},
        "no-public-workers": set(addresses.FOUND),
        "no-instance-credentials": set(credentials.IDENTITIES),
        "metadata-tokens": set(credentials.AWS_MACHINES),
    }
    cases = {rule: {case.type for case in CASES if case.rule == rule and case.bad and case.good} for rule in RULES}
    assert cases == looked


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for each in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from texts(each)


@pytest.mark.parametrize(("case", "inputs"), every("bad"))
def test_no_value_of_a_resource_is_told(case: Case, inputs: Any) -> None:
    values = {text for text in texts(inputs) if len(text) > 8}
    said = " ".join(told(case.rule, case.type, inputs, case.config))
    assert [value for value in values if value in said] == []


@pytest.mark.parametrize("rule", RULES)
def test_what_a_rule_cannot_read_is_refused_without_its_text(rule: str) -> None:
    case = next(each for each in CASES if each.rule == rule)
    secret = "a-secret-5519"
    keys = {key for each in CASES if each.rule == rule and each.type == case.type for one in each.bad for key in one}
    said = told(rule, case.type, dict.fromkeys(keys, secret) or secret) or told(rule, case.type, secret)
    assert said
    assert secret not in " ".join(said)


@pytest.mark.parametrize(
    ("rule", "type", "inputs"),
    [
        ("no-open-ingress", "aws:ec2/securityGroup:SecurityGroup", {"ingress": UNKNOWN}),
        ("no-open-ingress", "aws:ec2/securityGroup:SecurityGroup", {"ingress": [{"cidrBlocks": [OFFICE, UNKNOWN]}]}),
        ("no-open-ingress", "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", {"cidrIpv4": UNKNOWN}),
        ("no-open-ingress", "openstack:networking/secGroupRule:SecGroupRule",
         {"direction": "ingress", "remoteGroupId": UNKNOWN}),
        ("no-open-ingress", "vre:libvirt:Domain", {"interfaces": [{"filter": UNKNOWN}]}),
        ("disks-encrypted", "aws:ebs/volume:Volume", {"encrypted": UNKNOWN}),
        ("disks-own-key", "aws:ebs/volume:Volume", {"encrypted": True, "kmsKeyId": UNKNOWN}),
        ("disks-own-key", "azure-native:compute:VirtualMachine", {"storageProfile": UNKNOWN}),
        ("no-passwords", "aws:ec2/instance:Instance", {"userDataBase64": UNKNOWN}),
        ("no-passwords", "gcp:compute/instance:Instance", {"metadata": UNKNOWN}),
        ("no-public-workers", "aws:ec2/eip:Eip", {"instance": "i-1", "tags": {"vre-role": UNKNOWN}}),
        ("no-public-workers", "aws:ec2/eip:Eip", {"instance": "i-1", "tags": UNKNOWN}),
        ("metadata-tokens", "aws:ec2/instance:Instance", {"metadataOptions": UNKNOWN}),
    ],
)  # fmt: skip
def test_what_is_not_known_yet_passes_where_it_may_be_right(rule: str, type: str, inputs: Any) -> None:
    assert told(rule, type, inputs) == []


@pytest.mark.parametrize(
    ("rule", "type", "inputs"),
    [
        ("no-passwords", "openstack:compute/instance:Instance", {"adminPass": UNKNOWN}),
        (
            "no-passwords",
            "azure-native:compute:VirtualMachine",
            {"osProfile": {"adminPassword": UNKNOWN, "linuxConfiguration": UNKNOWN}},
        ),
        ("no-instance-credentials", "aws:ec2/instance:Instance", {"iamInstanceProfile": UNKNOWN}),
        ("no-public-workers", "aws:ec2/eip:Eip", {"instance": UNKNOWN}),
        ("no-open-ingress", "vre:libvirt:Filter", {"rules": [{"direction": "in", "action": "accept"}, UNKNOWN]}),
    ],
)
def test_what_must_not_be_there_is_refused_before_its_value_is_known(rule: str, type: str, inputs: Any) -> None:
    assert told(rule, type, inputs)


def test_azures_types_are_known_with_the_apis_version_too() -> None:
    for type in ("azure-native:network/v20240101:SecurityRule", "azure-native_network_v20240101:network:SecurityRule"):
        assert told("no-open-ingress", type, {"direction": "Inbound", "access": "Allow", "sourceAddressPrefix": "*"})


def test_a_fault_is_told_with_its_place() -> None:
    inputs = {"ingress": [{"cidrBlocks": [OFFICE]}, {"cidrBlocks": [OFFICE, "0.0.0.0/0"]}]}
    [said] = told("no-open-ingress", "aws:ec2/securityGroup:SecurityGroup", inputs)
    assert said.startswith("ingress[1].cidrBlocks[1]: lets in everybody; ")


@pytest.mark.parametrize("wrap", [str, packed, lambda text: base64.encodebytes(text.encode() * 9).decode()])
def test_first_instructions_are_read_however_they_are_wrapped(wrap: Any) -> None:
    assert first_boot.password_login(wrap(LOGIN[0]))
    assert first_boot.password_login(packed(wrap(LOGIN[0])))
    assert first_boot.password(wrap(LOGIN[5]))


def test_a_bomb_of_zeros_is_opened_only_so_far() -> None:
    assert all(len(layer) <= first_boot.LONGEST for layer in first_boot.layers(base64.b64decode(packed("0" * 10**8))))


class NotKnown(Exception):
    """As pulumi-policy raises it."""


class View(dict[str, Any]):
    """A mapping that, as pulumi-policy's, raises where a value is not known."""

    def __getitem__(self, key: str) -> Any:
        if super().__getitem__(key) == "?":
            raise NotKnown(key)
        return super().__getitem__(key)


def test_a_view_of_inputs_becomes_plain_data() -> None:
    view = View(a="?", b=View(c="?", d=[1.0, View(e="?")]), f="text", g=None)
    assert plain(view, NotKnown) == {
        "a": UNKNOWN, "b": {"c": UNKNOWN, "d": [1.0, {"e": UNKNOWN}]}, "f": "text", "g": None,
    }  # fmt: skip


def test_a_value_never_shows_when_a_part_is_printed() -> None:
    assert "hidden" not in repr(Part({"a": "hidden"})["a"])
    with pytest.raises(Odd, match=r"^a$"):
        Part({"a": "hidden"})["a"]["b"]


def test_a_rule_that_fails_refuses_and_keeps_to_itself_what_it_saw() -> None:
    def fail(resource: Resource, report: Any) -> None:
        raise ValueError(resource["a"].value)

    said: list[str] = []
    look(
        Rule(name="fails", description="", check=fail), Resource(type="any", inputs=Part({"a": "hidden"})), said.append
    )
    assert said == ["the resource has another form than this rule can read (ValueError)"]


@dataclass(frozen=True, kw_only=True)
class Linked:
    """A resource of a stack, as the engine shows it to a rule of the whole."""

    resource_type: str
    props: Mapping[str, Any] = field(default_factory=dict)
    property_dependencies: Mapping[str, Sequence["Linked"]] = field(default_factory=dict)


def seen(link: Any) -> Resource:
    return Resource(type=link.resource_type, inputs=Part(link.props))


@pytest.mark.parametrize(
    ("type", "key"),
    [
        ("aws:ec2/eipAssociation:EipAssociation", "networkInterfaceId"),
        ("aws:ec2/eipAssociation:EipAssociation", "instanceId"),
        ("openstack:networking/floatingIpAssociate:FloatingIpAssociate", "portId"),
    ],
)
def test_an_address_is_joined_to_the_control_planes_machine_only(type: str, key: str) -> None:
    control = Linked(resource_type="machine", props={"tags": {"vre-role": "control"}})
    worker = Linked(resource_type="machine", props={"tags": {"vre-role": "worker"}})

    def astray(*machines: Linked) -> bool:
        link = Linked(resource_type=type, property_dependencies={key: machines, "other": [worker]})
        return addresses.astray(link, seen)

    assert not astray(control)
    assert astray(worker)
    assert astray(control, worker)
    assert astray()
    assert not addresses.astray(Linked(resource_type="other"), seen)


@pytest.mark.requirement("P-16")
def test_the_projects_own_machines_keep_the_rules() -> None:
    file = project() / "stacks" / "Pulumi.local.yaml"
    config = load(parse(file.read_text(), file))
    policy, ranges = clouds.policy(config), ("192.168.77.0/24", "fd76:7265:77::/64")
    for machine in plan(config).machines:
        assert told("no-open-ingress", "vre:libvirt:Filter", {"rules": filter_rules(policy, machine, ranges)}) == []
    boot = cloudinit.Boot(
        name="a", mac="52:54:00:00:00:01", addresses=["192.0.2.1/24"], keys=["ssh-ed25519 AAAA a"],
        host_key=cloudinit.HostKey(public="ssh-ed25519 AAAA", private="key"), firewall="", gateways=["192.0.2.254"],
        resolvers=["192.0.2.254"], nodes={"a": ["192.0.2.1"]}, time_servers=[], data_device="/dev/vdb", upgrade=True,
    )  # fmt: skip
    for text in cloudinit.render(boot).files().values():
        assert told("no-passwords", "aws:ec2/instance:Instance", {"userDataBase64": packed(text)}) == []


def test_the_pack_pins_the_projects_own_version_of_pulumi() -> None:
    wanted = tomllib.loads((project() / "pyproject.toml").read_text())["project"]["dependencies"]
    pinned = (PACK / "requirements.in").read_text().split()
    assert [each for each in pinned if each.startswith("pulumi==")] == [e for e in wanted if e.startswith("pulumi==")]
    lock = (PACK / "requirements.txt").read_text()
    assert set(pinned) <= set(re.findall(r"^(\S+==\S+)", lock, re.MULTILINE))
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", lock.strip()))
    assert "://" not in lock


def test_the_engine_is_told_where_the_pack_starts() -> None:
    runtime = yaml.safe_load((PACK / "PulumiPolicy.yaml").read_text())["runtime"]
    [analyzer] = yaml.safe_load((project() / "Pulumi.yaml").read_text())["plugins"]["analyzers"]
    assert analyzer == {"name": f"policy-{runtime}", "path": PACK.name}
    program = PACK / f"pulumi-analyzer-{analyzer['name']}"
    assert program.stat().st_mode & 0o111 == 0o111


def test_every_rule_stands_in_the_page_with_its_settings() -> None:
    page = (project() / "docs" / "policy-pack.md").read_text()
    rules = [*RULES.values(), addresses.LINK]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)) == {rule.name for rule in rules}
    assert [key for rule in rules for key in rule.settings if f"`{key}`" not in page] == []


def test_no_rule_changes_a_resource() -> None:
    code = "".join(path.read_text() for path in Path(PACK).rglob("*.py") if ".venv" not in path.parts)
    assert "remediat" not in code


def test_private_addresses_are_nobodys_on_the_internet() -> None:
    from vre_rules.sources import PRIVATE

    assert not any(ip_address(outside) in each for outside in ("203.0.113.1", "2001:db8::1") for each in PRIVATE)
