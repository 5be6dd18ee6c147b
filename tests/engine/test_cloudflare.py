"""Cloudflare in front, with the real engine and a simulated account that others use, too."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import Engine, Told, small
from tests.engine.simulated import cloudflare
from tests.engine.simulated.plugins import simulated
from tests.engine.simulated.store import Cloud, Fault

PROGRAM = """
import json
from pathlib import Path
import pulumi
from vre import clouds, resources
from vre.cluster import objects
from vre.config import Config
from vre.edge import front, names, refresh
from vre.launch import own_plugin
from vre.policy import Peer

asked = json.loads(Path("asked.json").read_text())
config = Config.model_validate(asked["config"])
own_plugin()
warned = refresh(config)
if warned:
    pulumi.log.warn(warned)
edge = front(config).Edge(config, "10.77.0.10", ("jupyter",))
edge.publish(pulumi.Output.from_input(asked["address"]))
shown = objects.Certificate(
    chain=edge.certificate.chain, private_key=edge.certificate.key, until=edge.certificate.not_after,
    clients=edge.certificate.clients,
)
resources.Objects(
    "ingress", machine="m", connection={"address": "192.0.2.1"}, name="ingress",
    objects=objects.ingress({"traefik": "localhost/vre/traefik"}, shown, []),
)
pulumi.export("visitors", [str(each) for each in clouds.policy(config).of(Peer.EDGE)])
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL alice"
FREE = f"{b'example.org'.hex():0<32}"[:32]
PAID = f"{b'example.net'.hex():0<32}"[:32]
HOSTS = {"phenome.example.org", "jupyter-phenome.example.org"}
OTHERS = {"ref": "of-the-website", "action": "block", "expression": "true", "id": "0" * 32}
CONFIG = "http_config_settings"


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The engine with a program that is nothing but the edge."""

    engine: Engine
    cloud: Cloud
    server: cloudflare.Server

    def ask(self, address: str = "203.0.113.7", **edge: Any) -> None:
        """Say what there should be."""
        config = {
            "name": "phenome",
            "cloud": {"provider": "openstack", "region": "R", "public": True, "external-network": "public"},
            "access": {"keys": [KEY], "operators": ["198.51.100.0/24"]},
            "edge": {"provider": "cloudflare", "zone": "example.org", **edge},
            "services": {"jupyter": {}},
        }
        asked = {"config": config, "address": address}
        (self.engine.checkout.path / "asked.json").write_text(json.dumps(asked))

    def run(self, *words: str) -> str:
        """Run the engine to its good end."""
        told = self.try_(*words)
        assert told.code == 0, told.text
        return told.text

    def try_(self, *words: str) -> Told:
        """Run the engine."""
        flags = () if words[0] == "preview" or words[0] == "stack" else ("--yes", "--skip-preview")
        return self.engine.pulumi(*words, *flags, "--stack", "test", env=self.server.env)

    def visitors(self) -> list[str]:
        """Return whom the policy lets in."""
        return list(json.loads(self.run("stack", "output", "--json"))["visitors"])

    def records(self) -> dict[str, dict[str, Any]]:
        """Return the zone's records of the VRE."""
        return {thing.inputs["name"]: thing.inputs for thing in self.cloud.resources(cloudflare.Record.token)}


@pytest.fixture
def edge(tmp_path: Path, pulumi_program: Path) -> Iterator[Edge]:
    checkout, cloud = simulated(small(tmp_path, "edge", PROGRAM), {"cloudflare": "tests.engine.simulated.cloudflare"})
    with cloudflare.answering(cloud) as server:
        server.rules[FREE, CONFIG] = {"id": "f" * 32, "phase": CONFIG, "rules": [OTHERS]}
        made = Edge(engine=Engine(checkout=checkout), cloud=cloud, server=server)
        made.ask()
        told = made.engine.pulumi("stack", "init", "test", "--secrets-provider", "passphrase")
        assert told.code == 0, told.text
        yield made


@pytest.mark.requirement("P-13", "P-20", "P-69", "P-78", "P-100", "P-44")
def test_a_life_in_a_zone_that_others_use(edge: Edge) -> None:
    texts = [edge.run("preview", "--diff")]
    assert "203.0.113.7" in texts[0]
    assert edge.records() == {}
    assert edge.server.of(FREE) == {CONFIG: ["of-the-website"]}

    texts.append(edge.run("up", "--diff", "--logtostderr", "-v=3"))
    records = edge.records()
    assert set(records) == HOSTS
    shown = {(each["type"], each["content"], each["proxied"]) for each in records.values()}
    assert shown == {("A", "203.0.113.7", True)}
    assert edge.server.of(FREE) == {
        CONFIG: ["of-the-website", "vre-phenome-strict"],
        "http_request_dynamic_redirect": ["vre-phenome-https"],
        "http_request_firewall_custom": ["vre-phenome-tls"],
        "http_ratelimit": ["vre-phenome-logins"],
    }
    assert {thing.id for thing in edge.cloud.resources(cloudflare.ASSOCIATION)} == HOSTS
    assert "173.245.48.0/20" in edge.visitors()
    edge.run("up", "--refresh", "--expect-no-changes")
    texts += [edge.run("stack", "export"), *(file.read_text() for file in edge.engine.checkout.backend.rglob("*.json"))]

    # Another address, and another of Cloudflare's networks; then lists that cannot be right.
    before = {thing.id for thing in edge.cloud.resources(cloudflare.Record.token)}
    edge.ask("203.0.113.8")
    edge.server.networks["ipv4_cidrs"] = [*edge.server.networks["ipv4_cidrs"], "8.6.112.0/24"]
    assert "8.6.112.0/24" in edge.run("preview", "--diff")
    edge.server.networks = {"ipv4_cidrs": ["0.0.0.0/0"], "ipv6_cidrs": []}
    texts.append(edge.run("up", "--diff"))
    assert "could not be read" in texts[-1]
    assert "8.6.112.0/24" in edge.visitors(), "what was read last is used, not what is older"
    assert "0.0.0.0/0" not in edge.visitors()
    assert {each["content"] for each in edge.records().values()} == {"203.0.113.8"}
    assert {thing.id for thing in edge.cloud.resources(cloudflare.Record.token)} == before

    edge.run("destroy")
    assert edge.cloud.resources() == []
    assert {phase: refs for phase, refs in edge.server.of(FREE).items() if refs} == {CONFIG: ["of-the-website"]}
    assert edge.server.rules[FREE, CONFIG]["rules"] == [OTHERS]

    assert len(texts) > 4
    assert [text for text in texts if cloudflare.TOKEN in text or "PRIVATE KEY" in text] == []
    assert not any(cloudflare.TOKEN in json.dumps(entry.told) for entry in edge.cloud.journal())


def test_what_others_change_by_hand_is_mended_and_another_zone_moves_every_name(edge: Edge) -> None:
    edge.run("up")
    [first, second] = edge.cloud.resources(cloudflare.Record.token)
    edge.cloud.change(first.type, first.id, proxied=False)
    edge.cloud.remove(second.type, second.id)
    edge.server.rules[FREE, CONFIG]["rules"][1]["enabled"] = False
    edge.server.rules[FREE, "http_ratelimit"]["rules"].clear()
    theirs = {**OTHERS, "ref": "added-later", "id": "1" * 32}
    edge.server.rules[FREE, CONFIG]["rules"].insert(0, theirs)

    edge.run("up", "--refresh")
    assert {each["proxied"] for each in edge.records().values()} == {True}
    assert set(edge.records()) == HOSTS
    rules = edge.server.rules[FREE, CONFIG]["rules"]
    assert [rule["ref"] for rule in rules] == ["added-later", "of-the-website", "vre-phenome-strict"]
    assert rules[2]["enabled"] is True
    assert edge.server.of(FREE)["http_ratelimit"] == ["vre-phenome-logins"]

    edge.ask(zone="example.net", managed_rules=True)
    edge.run("up")
    moved = {host.replace(".org", ".net") for host in HOSTS}
    assert set(edge.records()) == moved
    assert {thing.id for thing in edge.cloud.resources(cloudflare.ASSOCIATION)} == moved
    assert {ref for refs in edge.server.of(FREE).values() for ref in refs} == {"added-later", "of-the-website"}
    there = edge.server.of(PAID)
    assert there["http_request_firewall_managed"] == ["vre-phenome-managed"]
    [limit] = edge.server.rules[PAID, "http_ratelimit"]["rules"]
    assert "http.host" in limit["expression"]


def test_an_answer_that_is_lost_leaves_no_second_rule(edge: Edge) -> None:
    edge.server.lost["POST"] = 6
    edge.cloud.plan(Fault(what="lose", method="create", type=cloudflare.Pull.token))
    assert edge.try_("up").code != 0
    edge.cloud.plan()
    edge.server.lost.clear()
    edge.run("up", "--refresh")
    every = [ref for refs in edge.server.of(FREE).values() for ref in refs]
    assert sorted(every) == sorted({*every})
    assert len(every) == 5
    edge.run("destroy")
    assert edge.cloud.resources() == []
