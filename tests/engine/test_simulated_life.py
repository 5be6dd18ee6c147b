"""The driver of life cycles, on the real engine and the smallest of clouds: what goes wrong is seen, and mended."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import clone
from tests.engine.conftest import Engine
from tests.engine.simulated.lifecycle import Life
from tests.engine.simulated.plugins import simulated
from tests.engine.simulated.search import places, sent, unwrapped
from tests.engine.simulated.store import Fault

PROGRAM = """
import base64
import gzip
import json
from pathlib import Path
import pulumi
import pulumi_openstack as openstack
from vre import resources

cloud = openstack.Provider("cloud", region="RegionOne", password=pulumi.Output.secret("{password}"))
opts = pulumi.ResourceOptions(provider=cloud)
asked = json.loads(Path("asked.json").read_text())
network = openstack.networking.Network("network", description=asked["description"], opts=opts)
for name in asked["subnets"]:
    openstack.networking.Subnet(name, network_id=network.id, cidr="10.1.0.0/24", opts=opts)
wrapped = base64.b64encode(gzip.compress(asked["canary"].encode(), mtime=0)).decode()
openstack.compute.Keypair("key", name="key", public_key=pulumi.Output.secret(wrapped), opts=opts)
files = [dict(path="/etc/canary", content=pulumi.Output.secret(asked["canary"]))]
resources.Files("files", machine=network.id, connection=dict(address="192.0.2.1"), files=files)
pulumi.export("found", openstack.networking.get_network_output(
    name="public", opts=pulumi.InvokeOutputOptions(provider=cloud)).id)
"""
PASSWORD = "a-password-of-the-cloud-7719"
CANARY = "a-canary-of-the-tests-2207"
NETWORK = "openstack:networking/network:Network"
FILES = "vre:machine:Files"
ALL = {NETWORK, "openstack:networking/subnet:Subnet", "openstack:compute/keypair:Keypair", FILES}


def ask(life: Life, **asked: Any) -> None:
    whole = {"description": "ours", "subnets": ["subnet"], "canary": CANARY, **asked}
    (life.engine.checkout.path / "asked.json").write_text(json.dumps(whole))


@pytest.fixture
def life(tmp_path: Path, pulumi_program: Path) -> Life:
    checkout, cloud = simulated(clone(tmp_path / "clone"), {"openstack": "tests.engine.simulated.toy"})
    (checkout.path / "__main__.py").write_text(PROGRAM.format(password=PASSWORD))
    made = Life(engine=Engine(checkout=checkout), cloud=cloud, stack="test")
    made.engine.stack("test", "")
    ask(made)
    return made


@pytest.mark.timeout(600)
def test_a_whole_life(life: Life) -> None:
    assert set(life.planned().values()) == {"create"}
    assert life.cloud.resources() == []
    life.up()
    assert {thing.type for thing in life.cloud.resources()} == ALL
    assert [entry.told for entry in life.cloud.journal("invoke")][-1] == {"name": "public"}

    ask(life, description="changed", subnets=["other"])
    assert life.planned() == {"network": "update", "subnet": "delete", "other": "create"}
    life.up()
    network = life.cloud.resources(NETWORK)[0]
    assert network.inputs["description"] == "changed"

    life.cloud.change(NETWORK, network.id, description="by hand")
    life.cloud.remove(FILES, life.cloud.resources(FILES)[0].id)
    assert life.phantoms() == [f"urn:pulumi:test::vre::{FILES}::files"]
    life.refresh()
    assert life.planned() == {"network": "update", "files": "create"}
    life.up()
    life.whole()

    assert places(life, PASSWORD) == []
    assert places(life, CANARY) == sent(life, CANARY) == [
        "openstack:compute/keypair:Keypair key publicKey",
        "vre:machine:Files files files[0].content",
    ]  # fmt: skip
    life.destroy()


@pytest.mark.timeout(600)
def test_every_type_fails_once_and_the_next_run_goes_on(life: Life) -> None:
    met = life.fail_in_turn(Fault(method="create", once_per="type"))
    assert {entry.type for entry in met} == ALL
    life.whole()
    assert len(life.cloud.resources()) == len(ALL)


@pytest.mark.timeout(600)
def test_what_a_lost_reply_leaves_behind_is_seen(life: Life) -> None:
    life.cloud.plan(Fault(what="lose", type=NETWORK, method="create"))
    assert "connection reset" in life.fails("up", "--yes", "--skip-preview")
    lost = life.cloud.resources(NETWORK)
    life.up()
    assert life.orphans() == lost
    with pytest.raises(AssertionError):
        life.destroy()
    assert life.cloud.resources() == lost


@pytest.mark.timeout(600)
def test_a_killed_run_leaves_what_was_made_and_no_process(life: Life) -> None:
    # What is made beside it has to be noted before: this is about what was not.
    killed = life.kill(Fault(what="stall", type=NETWORK, method="create"), quiet=2)
    assert (killed.type, killed.outcome) == (NETWORK, "")
    assert not Path(f"/proc/{killed.pid}").exists()
    made = life.cloud.resources(NETWORK)
    life.up()
    assert life.orphans() == made
    assert len(life.cloud.resources(NETWORK)) == 2


@pytest.mark.timeout(600)
def test_what_the_cloud_refuses_is_told_before_anything_is_made(life: Life) -> None:
    file = life.engine.checkout.path / "__main__.py"
    program = file.read_text()
    file.write_text(program.replace(PASSWORD, "wrong"))
    assert "Authentication failed" in life.fails("up", "--yes", "--skip-preview")
    file.write_text(program.replace('description=asked["description"]', "description=7"))
    said = life.fails("preview")
    assert f"{NETWORK}: description: must be a text, not a number" in said, said
    assert life.cloud.resources() == []


def test_what_is_wrapped_up_is_found() -> None:
    import base64
    import gzip

    inner = base64.b64encode(gzip.compress(f"key: {CANARY}\n".encode()))
    outer = json.dumps({"user-data": [inner.decode()], "n": 7}).encode()
    assert any(CANARY.encode() in each for each in unwrapped(outer))
    assert any(CANARY.encode() in each for each in unwrapped(b"#cloud-config\ncontent: " + inner + b"\n"))
    assert not any(CANARY.encode() in each for each in unwrapped(inner[8:]))
