"""A VRE on OpenStack: the real engine, real keystone and neutron, simulated nova, cinder and glance."""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engine import openstack_services
from tests.engine.openstack_services import Services
from tests.engine.simulated.lifecycle import Life, begin
from tests.engine.simulated.openstack import ASSOCIATION, FLOATING, RULE, OpenStack
from tests.engine.simulated.openstack_compute import IMAGES, INSTANCE, VOLUME
from tests.engine.simulated.search import places
from tests.engine.simulated.store import Fault
from tests.oracle import openstack as neutron
from tests.oracle.compare import assert_agree
from tests.oracle.configs import Case
from tests.oracle.told import recorded
from vre import clouds
from vre.accounts import openstack as account
from vre.clouds.openstack import DEBIAN_NAME
from vre.load import load
from vre.paths import project
from vre.plan import plan
from vre.stackfile import parse

# The library says so of parts of its own that it uses itself.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
STACK: dict[str, Any] = {
    "name": "research",
    "cloud": {
        "provider": "openstack",
        "region": "RegionOne",
        "public": True,
        "external-network": "public",
        "volume-type": "LUKS",
    },
    "access": {"keys": [".vre/id_ed25519.pub"], "operators": ["203.0.113.0/24"]},
    "edge": {"provider": "direct", "domain": "example.org"},
    "machines": {"workers": {"count": 1}},
    "outbound": {"resolvers": ["192.0.2.53/32"]},
}
OURS = next(name for name, _ in IMAGES if not re.match(DEBIAN_NAME, name))
NEUTRON = {kind.token for kind in OpenStack.kinds if ":networking/" in kind.token} - {ASSOCIATION}
"""What leaves something behind when its reply is lost: an address that is led somewhere twice is led there once."""
ALLOWED = project() / "docs" / "clouds" / "openstack-permissions.yaml"


@dataclass(frozen=True, kw_only=True)
class Account:
    """A stack in a project of its own."""

    life: Life
    env: Mapping[str, str]

    @property
    def api(self) -> Any:
        """What the cloud itself says."""
        return openstack_services.connection(self.env)

    def configure(self, **changes: Any) -> None:
        """Change the stack file."""
        self.life.configure(text(**changes))

    def holds(self, **changes: Any) -> None:
        """Hold that neutron itself has just the rules of the policy, and was told no others."""
        config = load(parse(f"config:\n{text(**changes)}", Path("stacks/Pulumi.test.yaml")))
        case = Case(config=config, plan=plan(config), policy=clouds.policy(config))
        told = recorded(self.life.cloud.resources())
        assert_agree(case, neutron.read_back(self.api).evaluator(), told)
        assert_agree(case, neutron.told(told).evaluator(), told)

    def left(self) -> list[str]:
        """Return what neutron has of the project, but for what it makes by itself."""
        api, own = self.api.network, self.api.current_project_id
        found = [*api.networks(project_id=own), *api.routers(), *api.ports(project_id=own), *api.ips(), *api.subnets()]
        groups = [each for each in api.security_groups(project_id=own) if each.name != "default"]
        return [str(each.id) for each in (*found, *groups) if each.project_id == own]


def text(**changes: Any) -> str:
    """Return what stands below `config:`."""
    values = {f"vre:{key}": value for key, value in {**STACK, **changes}.items()}
    return "".join(f"  {line}\n" for line in yaml.safe_dump(values, sort_keys=False).splitlines())


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with openstack_services.services(tmp_path_factory.mktemp("openstack") / "state") as started:
        yield started


@pytest.fixture
def stack(services: Services, tmp_path: Path, pulumi_program: Path, request: pytest.FixtureRequest) -> Account:
    env = services.project(request.node.name, yaml.safe_load(ALLOWED.read_text())["access_rules"])
    return Account(life=begin(tmp_path / "clone", "test", text(), ["openstack"], env=env), env=env)


LATER: dict[str, Any] = {
    "access": {"keys": STACK["access"]["keys"], "operators": ["203.0.113.0/24", "2001:db8::/32"]},
    "machines": {"control": {"size": "medium", "disk": 20, "data": 30}, "workers": {"count": 1, "without": [1]}},
    "outbound": {"resolvers": ["192.0.2.54/32"], "time": ["192.0.2.123/32"]},
}
IN_PLACE = ("research-control", "research-control-system", "research-control-data", "subnet-ipv4")
MOVED = {"cloud": {**STACK["cloud"], "network": "10.78.0.0/16"}}


@pytest.mark.requirement("P-05", "P-18", "P-43", "C-16", "P-02")
@pytest.mark.timeout(900)
def test_a_whole_life(stack: Account) -> None:
    life = stack.life
    assert set(life.planned().values()) == {"create"}
    assert stack.left() == []
    life.up()
    life.whole()
    stack.holds()
    [address] = life.cloud.resources(FLOATING)

    stack.configure(**LATER)
    planned = life.planned()
    assert {name: planned[name] for name in IN_PLACE} == dict.fromkeys(IN_PLACE, "update")
    assert (planned["research-worker-1"], planned["research-worker-2"]) == ("delete", "create")
    assert "replace" not in {planned[name] for name in planned if "access" not in name}
    assert planned["control-in-tcp-22-2001-db8--_32"] == "create"
    life.up()
    life.whole()
    stack.holds(**LATER)

    stack.configure(**LATER, **MOVED)
    planned = life.planned()
    anew = (
        "network",
        "subnet-ipv4",
        "router-ipv4",
        "research-control-port",
        "research-control-system",
        "research-control",
    )
    assert {name: planned.get(name) for name in anew} == dict.fromkeys(anew, "replace")
    assert planned["research-control-system"] == "replace"
    assert "research-control-data" not in planned
    assert planned["research-control-address"] == "update"
    life.up()
    life.whole()
    stack.holds(**LATER, **MOVED)
    assert [each.id for each in life.cloud.resources(FLOATING)] == [address.id]

    secret = stack.env["OS_APPLICATION_CREDENTIAL_SECRET"]
    assert places(life, secret) == []
    life.destroy()
    assert stack.left() == []


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_a_killed_run_is_gone_on_with(stack: Account) -> None:
    # Everything else stands by then: what was on its way at that moment would be made twice, as on any cloud.
    killed = stack.life.kill(Fault(what="hang", type=INSTANCE, name="research-control", method="create"))
    assert killed.type == INSTANCE
    stack.life.up()
    stack.life.whole()
    stack.holds()
    stack.life.destroy()
    assert stack.left() == []


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_what_is_changed_by_hand_is_seen_and_mended(stack: Account) -> None:
    life = stack.life
    life.up()
    rule = next(each for each in life.cloud.resources(RULE) if each.name == "control-in-tcp-22-203.0.113.0_24")
    stack.api.network.delete_security_group_rule(rule.id)
    port = next(each for each in stack.api.network.ports(name="vre-research-control"))
    stack.api.network.update_port(port, is_port_security_enabled=False, security_group_ids=[])
    with pytest.raises(AssertionError, match="the cloud"):
        stack.holds()
    life.refresh()
    planned = life.planned()
    assert planned[rule.name] == "create"
    assert planned["research-control-port"] == "update"
    life.up()
    life.whole()
    stack.holds()
    life.destroy()


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_each_kind_fails_once_and_the_next_run_goes_on(stack: Account) -> None:
    met = stack.life.fail_in_turn(Fault(method="create", once_per="type", plugin="openstack"))
    assert {entry.type for entry in met} == {
        thing.type for thing in stack.life.cloud.resources() if thing.plugin == "openstack"
    }
    stack.life.whole()
    stack.holds()


def vre(life: Life, *words: str) -> str:
    """Run our command in the stack's clone; it has to end well."""
    told = life.engine.run(sys.executable, "-m", "vre.cli.main", *words, "--stack", life.stack)
    assert told.code == 0, told.text
    return told.text


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_the_reply_to_each_kind_of_create_in_neutron_is_lost_once(stack: Account) -> None:
    stack.configure(cloud={**STACK["cloud"], "image": OURS})
    life, lost = stack.life, set(NEUTRON)
    life.cloud.plan(*(Fault(what="lose", method="create", type=kind) for kind in NEUTRON))
    for _ in NEUTRON:
        if life.run("up", "--yes", "--skip-preview", "--continue-on-error").code == 0:
            break
        assert "delete it: " in vre(life, "orphans")
        vre(life, "orphans", "--delete", "--yes")
        for thing in life.orphans():
            if thing.type in NEUTRON:
                life.cloud.remove(thing.type, thing.id)
        assert "nothing stands on the cloud" in vre(life, "orphans")
    assert {entry.type for entry in life.cloud.journal() if entry.fault} == lost
    life.whole()
    stack.holds(cloud={**STACK["cloud"], "image": OURS})
    life.destroy()
    assert stack.left() == []


@pytest.mark.drill
@pytest.mark.timeout(300)
def test_what_the_cloud_does_not_have_is_told_before_anything_is_made(stack: Account) -> None:
    stack.configure(machines={"control": {"size": {"cpus": 8, "memory": 16}}})
    told = stack.life.fails("up", "--yes", "--skip-preview")
    assert "research-control: this cloud has no one flavour with 8 processors and 16 GiB" in told
    assert "vre check" in told
    assert stack.life.cloud.resources(VOLUME) == []
    assert stack.left() == []


@pytest.mark.drill
@pytest.mark.timeout(300)
def test_the_account_is_looked_at_with_the_same_credential(stack: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack.env.items():
        monkeypatch.setenv(name, value)
    config = load(parse(f"config:\n{text()}", Path("stacks/Pulumi.test.yaml")))
    facts = account.probe(config)
    assert (facts.fault, facts.regions, facts.services) == ("", openstack_services.REGIONS, ("network",))
    [finding] = account.judge(config, facts)
    assert "no compute, no image, no block-storage service" in finding.reason
    monkeypatch.setenv("OS_APPLICATION_CREDENTIAL_SECRET", "wrong-canary-7719")
    facts = account.probe(config)
    assert facts.fault
    assert "wrong-canary-7719" not in facts.fault
