"""A VRE on Google Cloud: the real engine, a simulated cloud; its life, what changes, what fails, what is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engine.simulated import gcp as simulated
from tests.engine.simulated.lifecycle import Life, begin
from tests.engine.simulated.search import places
from tests.engine.simulated.store import Fault
from tests.oracle import gcp
from tests.oracle.compare import assert_agree
from tests.oracle.configs import Case
from tests.oracle.told import recorded
from vre import clouds
from vre.accounts.gcp import permissions
from vre.load import load
from vre.plan import plan
from vre.stackfile import parse

CLOUD = {"provider": "gcp", "project": "phenome-1234", "region": "europe-west1"}
STACK: dict[str, Any] = {
    "name": "phenome",
    "cloud": CLOUD,
    "access": {"keys": [".vre/id_ed25519.pub"], "operators": ["203.0.113.0/24"]},
    "edge": {"provider": "direct", "domain": "example.org"},
    "machines": {"workers": {"count": 1}},
}
TOKEN = "ya29.canary-of-a-token"
LATER: dict[str, Any] = {
    "access": {"keys": [".vre/id_ed25519.pub"], "operators": ["203.0.113.0/24", "2001:db8::/32"]},
    "machines": {"control": {"size": "medium", "disk": 20, "data": 30}, "workers": {"count": 1, "without": [1]}},
}
QUIET = 10.0  # seconds in which a call that need not wait would have come
GROWN = ("phenome-control", "phenome-control-system", "phenome-control-data")


def text(**changes: Any) -> str:
    """Return what stands below `config:`."""
    values = {f"vre:{key}": value for key, value in {**STACK, **changes}.items()}
    return "".join(f"  {line}\n" for line in yaml.safe_dump(values, sort_keys=False).splitlines())


def holds(life: Life, **changes: Any) -> None:
    """Hold that the cloud was told just the policy."""
    config = load(parse(f"config:\n{text(**changes)}", Path("stacks/Pulumi.test.yaml")))
    case = Case(config=config, plan=plan(config), policy=clouds.policy(config))
    told = recorded(life.cloud.resources())
    assert_agree(case, gcp.evaluator(told), told)


@pytest.fixture
def life(tmp_path: Path, pulumi_program: Path) -> Life:
    return begin(tmp_path / "clone", "test", text(), ["gcp"], env={"GOOGLE_OAUTH_ACCESS_TOKEN": TOKEN})


@pytest.mark.requirement("P-05", "P-18", "P-43", "C-16", "P-02")
@pytest.mark.timeout(1800)
def test_a_whole_life(life: Life) -> None:
    life.configure(text(machines={}))
    assert set(life.planned().values()) == {"create"}
    assert life.cloud.resources() == []
    life.kill(Fault(what="hang", type=gcp.INSTANCE, method="create"))
    life.configure(text())
    failed = life.fail_in_turn(Fault(what="fail", once_per="type", plugin="gcp", method="create"))
    assert {gcp.INSTANCE, gcp.NAT, simulated.DISK} <= {each.type for each in failed}
    life.whole()
    holds(life)

    changed(life)
    drifted(life)
    kept_secret(life)
    allowed(life)
    life.destroy()
    # A ring of keys and a key's name are for ever.
    assert len(life.cloud.resources(simulated.FOR_EVER, given=True)) == 2


def changed(life: Life) -> None:
    """Hold that every field does what the page says."""
    [address] = life.cloud.resources(simulated.ADDRESS)
    life.configure(text(**LATER))
    planned = life.planned()
    assert {name: planned.get(name) for name in GROWN} == dict.fromkeys(GROWN, "update")
    assert (planned["control-in-tcp-22-v6"], planned["phenome-worker-1"]) == ("create", "delete")
    assert planned["phenome-worker-2"] == "create"
    life.up()
    holds(life, **LATER)
    told = life.cloud.resources(gcp.INSTANCE)
    assert sorted(each.inputs["name"] for each in told) == ["vre-phenome-control", "vre-phenome-worker-2"]

    life.configure(text())
    assert "a disk cannot shrink from" in life.fails("preview")
    life.configure(text(**LATER, cloud={**CLOUD, "image": "projects/phenome-1234/global/images/vre-13"}))
    planned = life.planned()
    assert "replace" not in planned.values()
    assert "phenome-control-system" not in planned
    life.configure(text(**LATER, cloud={**CLOUD, "zone": "europe-west1-c"}))
    planned = life.planned()
    assert {planned.get(name) for name in (*GROWN, "phenome-worker-2")} == {"replace"}
    assert address.name not in planned
    life.configure(text(**LATER, cloud={**CLOUD, "network": "10.78.0.0/16"}))
    planned = life.planned()
    assert {planned.get(name) for name in ("subnet", "phenome-control")} == {"replace"}
    assert not {"phenome-control-data", "phenome-control-system", address.name} & planned.keys()
    life.configure(text(**LATER))


def drifted(life: Life) -> None:
    """Hold that what somebody changed by hand is put right."""
    [rule] = [each for each in life.cloud.resources(gcp.FIREWALL) if each.name == "control-in-tcp-22-v4"]
    life.cloud.change(rule.type, rule.id, sourceRanges=["0.0.0.0/0"])
    [last] = [each for each in life.cloud.resources(gcp.FIREWALL) if each.name == "out-refused-v4"]
    life.cloud.remove(last.type, last.id)
    [machine] = [each for each in life.cloud.resources(gcp.INSTANCE) if each.name == "phenome-control"]
    opened = {**machine.inputs["metadata"], "serial-port-enable": "TRUE", "ssh-keys": "mallory:ssh-ed25519 AAAA"}
    life.cloud.change(machine.type, machine.id, metadata=opened)
    life.up("--refresh")
    life.whole()
    holds(life, **LATER)
    after = life.cloud.find(machine.type, machine.id)
    assert after is not None
    assert after.inputs["metadata"] == machine.inputs["metadata"]


def kept_secret(life: Life) -> None:
    """Hold that no credential reaches anything, and the first host key its own machine only."""
    assert places(life, TOKEN) == []
    for each in life.cloud.resources(gcp.INSTANCE):
        # The first lines of such keys are alike.
        lines = each.inputs["metadata"]["user-data"].partition("-----BEGIN OPENSSH PRIVATE KEY-----")[2].split("\\n")
        key = lines[4]
        assert len(key) > 60
        # The project's own plugin is given its keys back by a refresh; that is no cloud.
        found = [place for place in places(life, key) if not place.startswith("vre:crypto:")]
        assert found == [f"{gcp.INSTANCE} {each.name} metadata.user-data"]


def allowed(life: Life) -> None:
    """Hold that the role on the page allows every call."""
    calls = {(each.type, each.method) for each in life.cloud.journal() if each.plugin == "gcp"}
    methods = ("create", "read", "update", "delete", "invoke")
    wanted = {name for kind, method in calls if method in methods for name in simulated.CALLS[kind][method]}
    assert wanted <= set(permissions())


def test_without_credentials_nothing_is_made(tmp_path: Path, pulumi_program: Path) -> None:
    life = begin(tmp_path / "clone", "test", text(), ["gcp"])
    assert "could not find default credentials" in life.fails("preview")
    assert life.cloud.resources() == []


def test_no_disk_goes_before_the_machine_that_uses_it(life: Life) -> None:
    life.configure(text(machines={}))
    life.up()
    life.configure(text(machines={}, cloud={**CLOUD, "zone": "europe-west1-c"}))
    life.kill(Fault(what="hang", type=gcp.INSTANCE, method="delete"), quiet=QUIET)
    assert life.cloud.journal("delete", kind=simulated.DISK) == []
    life.up()
    life.whole()
    assert {each.inputs["zone"] for each in life.cloud.resources(simulated.DISK)} == {"europe-west1-c"}


@pytest.mark.timeout(900)
def test_another_region_takes_the_place_of_the_first(life: Life) -> None:
    life.up()
    before = {each.id for each in life.cloud.resources() if each.plugin == "gcp"}
    life.configure(text(cloud={**CLOUD, "region": "europe-west4"}))
    life.up()
    life.whole()
    regional = {each.id for each in life.cloud.resources() if "europe-west" in each.id}
    assert regional
    assert [each for each in regional if "europe-west1" in each] == []
    assert not regional & before
