"""The policy pack with the real engine: what breaks a rule is stopped, and VREs as they come are not."""

import json
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi
import pytest
from vre_rules import addresses, credentials, disks, first_boot, ingress, passwords
from vre_rules.resource import Part, Resource, look

from tests.checkout import Checkout, clone
from tests.engine.conftest import Engine, Told
from tests.engine.simulated.plugins import TABLES, simulated
from tests.engine.simulated.schema import Sdk
from tests.unit.policy_cases import CASES
from vre import clouds
from vre.clouds.site import Disk, Order, Site
from vre.load import load
from vre.paths import project
from vre.plan import plan
from vre.setup.policy_pack import ensure_policy_pack
from vre.stackfile import parse

PACK = "policy-pack"
LOGINS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GOOGLE_OAUTH_ACCESS_TOKEN", "ARM_CLIENT_ID", "ARM_CLIENT_SECRET",
    "ARM_TENANT_ID", "CLOUDFLARE_API_TOKEN",
)  # fmt: skip
LOGGED_IN = {**dict.fromkeys(LOGINS, "nobodys"), "CLOUDFLARE_BASE_URL": "http://127.0.0.1:9/"}
"""Credentials for the simulated clouds. Nobody answers for Cloudflare: its networks are those that are pinned."""
PASSWORD = "a-password-of-somebodys-4471"
BREAKS = """
import pulumi

aws = pulumi.ResourceOptions(provider=pulumi.ProviderResource("aws", "aws", {"region": "eu-west-1"}))


def make(kind, name, **inputs):
    return pulumi.CustomResource(kind, name, {**inputs, "tagsAll": None}, aws)


vpc = make("aws:ec2/vpc:Vpc", "net", cidrBlock="10.0.0.0/16")
make(
    "aws:ec2/securityGroup:SecurityGroup", "open", vpcId=vpc.id,
    ingress=[{"protocol": "tcp", "fromPort": 22, "toPort": 22, "cidrBlocks": ["0.0.0.0/0"]}],
)
subnet = make("aws:ec2/subnet:Subnet", "subnet", vpcId=vpc.id, cidrBlock="10.0.0.0/24", mapPublicIpOnLaunch=True)
card = make("aws:ec2/networkInterface:NetworkInterface", "card", subnetId=subnet.id, tags={"vre-role": "worker"})
address = make("aws:ec2/eip:Eip", "address", domain="vpc")
make("aws:ec2/eipAssociation:EipAssociation", "link", allocationId=address.id, networkInterfaceId=card.id)
make(
    "aws:ec2/instance:Instance", "machine", ami="ami-0123456789abcdef0", instanceType="t3.small",
    userData=pulumi.Output.secret("#cloud-config\\nssh_pwauth: true\\nchpasswd: {list: 'root:PASSWORD'}\\n"),
    iamInstanceProfile="admin",
)
""".replace("PASSWORD", PASSWORD)
RULES = (
    "no-open-ingress", "disks-encrypted", "disks-own-key", "no-passwords", "no-public-workers",
    "no-instance-credentials", "metadata-tokens",
)  # fmt: skip


@pytest.fixture(scope="module")
def pack() -> Path:
    """The pack's own environment, made as `vre setup policy-pack` makes it; quick when it is there."""
    return ensure_policy_pack(project() / PACK)


def held(place: Path, pack: Path, *clouds: str) -> Engine:
    """Return the engine in a clone with these clouds simulated, logged in, and the pack ready."""
    checkout, _ = simulated(clone(place), {name: TABLES[name] for name in clouds})
    (checkout.path / PACK / ".venv").symlink_to(pack)
    return Engine(checkout=replace(checkout, env={**checkout.env, **LOGGED_IN}))


@pytest.fixture(scope="module")
def breaking(tmp_path_factory: pytest.TempPathFactory, pack: Path, pulumi_program: Path) -> Engine:
    """A program that breaks every rule."""
    engine = held(tmp_path_factory.mktemp("breaking") / "clone", pack, "aws")
    (engine.checkout.path / "__main__.py").write_text(BREAKS)
    engine.stack("breaking", "  vre:name: breaking\n")
    return engine


def judged(engine: Engine, *flags: str) -> Told:
    """Preview with the pack."""
    return engine.preview("breaking", "--policy-pack", PACK, *flags)


def levels(told: Told) -> dict[str, str]:
    """Return the rules that were broken, and how that was taken."""
    return {rule: level for level, rule in re.findall(r"- \[(\w+)\] +([a-z-]+) ", told.text)}


@pytest.mark.requirement("P-16")
def test_what_breaks_a_rule_is_stopped_in_the_preview(breaking: Engine) -> None:
    told = judged(breaking)
    assert told.code != 0
    assert levels(told) == dict.fromkeys((*RULES, "no-public-links"), "mandatory"), told.text
    assert "ingress[0].cidrBlocks[0]: lets in everybody" in told.text
    assert PASSWORD not in told.text


def test_an_institution_can_choose_what_stops_and_what_only_warns(breaking: Engine) -> None:
    config = breaking.checkout.path / "institution.json"
    config.write_text(json.dumps({**dict.fromkeys(RULES, "advisory"), "no-public-links": "mandatory"}))
    told = judged(breaking, "--policy-pack-config", str(config))
    assert told.code != 0
    assert levels(told) == {**dict.fromkeys(RULES, "advisory"), "no-public-links": "mandatory"}, told.text
    assert PASSWORD not in told.text


def test_a_setting_that_no_rule_has_is_refused(breaking: Engine) -> None:
    config = breaking.checkout.path / "wrong.json"
    config.write_text(json.dumps({"no-open-ingress": {"allowedNetworks": "everybody"}}))
    told = judged(breaking, "--policy-pack-config", str(config))
    assert told.code != 0
    assert "allowedNetworks" in told.text


def test_a_pack_that_is_not_set_up_says_what_to_do(breaking: Engine) -> None:
    link = breaking.checkout.path / PACK / ".venv"
    target = link.readlink()
    link.unlink()
    try:
        told = judged(breaking)
    finally:
        link.symlink_to(target)
    assert told.code != 0
    assert "run: vre setup policy-pack" in told.text


PLUGINS = {"azure": "azure-native"}
STACKS = sorted(file.suffixes[0][1:] for file in (project() / "stacks").glob("Pulumi.*.yaml"))


# The simulated AWS and OpenStack need servers of their own behind them; below, their machines are judged without.
@pytest.mark.parametrize("name", [name for name in STACKS if name not in ("aws", "openstack")])
def test_the_example_stacks_keep_the_rules(tmp_path: Path, pack: Path, pulumi_program: Path, name: str) -> None:
    plugin = PLUGINS.get(name, name)
    engine = held(tmp_path / "clone", pack, *([plugin, "cloudflare"] if plugin in TABLES else []))
    told = engine.pulumi("stack", "init", name, "--secrets-provider", "passphrase")
    assert told.code == 0, told.text
    told = engine.preview(name, "--policy-pack", PACK)
    assert told.code == 0, told.text
    assert "✅ vre@v0.1.0" in told.text
    assert "can't run policy" not in told.text


PACKAGES = {"aws": "pulumi_aws", "gcp": "pulumi_gcp", "azure-native": "pulumi_azure_native"}
KINDS = sorted({case.type for case in CASES if not case.type.startswith("vre:")})


@pytest.mark.parametrize("kind", KINDS)
def test_the_rules_know_inputs_by_the_names_that_the_sdks_give_them(kind: str) -> None:
    package = kind.split(":")[0]
    known = Sdk(PACKAGES.get(package, f"pulumi_{package}")).resource(kind)
    inputs = [inputs for case in CASES if case.type == kind for inputs in (*case.bad, *case.good)]
    faults = {str(fault) for each in inputs for fault in known.faults(each) if "missing required" not in str(fault)}
    assert faults == set()


OUTPUTS = {
    "vre:crypto:HostKey": {"publicKey": "ssh-ed25519 AAAA", "privateKey": "a key"},
    "vre:libvirt:Secret": {"uuid": "00000000-0000-4000-8000-000000000000"},
    "aws:ec2/vpc:Vpc": {"ipv6CidrBlock": "2001:db8::/56"},
    "aws:kms/key:Key": {"arn": "arn:aws:kms:eu-west-1:000000000000:key/1"},
}


class Known(pulumi.runtime.Mocks):
    """A cloud in which everything is known at once; keeps what was asked of it."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        """Keep what is asked for, and give out what machines are told of."""
        self.made.append((args.typ, args.inputs))
        return f"{args.name}-id", {**args.inputs, **OUTPUTS.get(args.typ, {})}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Find whatever is looked for."""
        found = {"id": "found", "names": ["eu-west-1a"], "number": "1", "tenantId": "tenant", "flavorId": "flavour"}
        return found, []


def opened(value: Any) -> Any:
    """Return inputs as they are told to a rule: secrets are open to it."""
    if isinstance(value, dict):
        return opened(value["value"]) if SECRET in value else {key: opened(each) for key, each in value.items()}
    return [opened(each) for each in value] if isinstance(value, list) else value


SECRET = "4dabf18193072939515e22adb298388d"
ALL = [rule for module in (ingress, disks, passwords, addresses, credentials) for rule in module.RULES]


@pytest.mark.parametrize("name", STACKS)
def test_machines_of_every_cloud_keep_the_rules_with_all_values_known(checkout: Checkout, name: str) -> None:
    known, file = Known(), checkout.path / "stacks" / f"Pulumi.{name}.yaml"
    config = load(parse(file.read_text().replace(".vre/", f"{checkout.path}/.vre/"), file))
    pulumi.runtime.set_mocks(known, preview=False)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def built() -> None:
        order = Order(
            config=config, plan=plan(config), policy=clouds.policy(config), image=Disk(path="/image", id="image")
        )
        Site(order)

    built()
    said: list[str] = []
    made = [Resource(type=type, inputs=Part(opened(inputs))) for type, inputs in known.made]
    for each in made:
        for rule in ALL:
            look(rule, each, said.append)
    assert said == []
    told = [
        part.value
        for type, inputs in known.made
        for part in passwords.told(Resource(type=type, inputs=Part(opened(inputs))))
    ]
    texts = [layer for text in told if text for layer in first_boot.layers(text.encode())]
    assert sum(b"ssh_pwauth: false" in text for text in texts) >= len(plan(config).machines)


def test_the_pack_ends_when_the_engine_was_killed(pack: Path) -> None:
    script = 'echo $$; "$0" 127.0.0.1:1 . & echo $!; exec sleep 600'
    program = project() / PACK / "pulumi-analyzer-policy-vre"
    with subprocess.Popen(["sh", "-c", script, program], stdout=subprocess.PIPE, text=True) as engine:
        assert engine.stdout is not None
        _, child, port = (int(engine.stdout.readline()) for _ in range(3))
        assert port
        engine.kill()
        engine.wait()
        for _ in range(600):
            if not Path(f"/proc/{child}").exists():
                return
            time.sleep(0.1)
    pytest.fail("the pack is still there")
