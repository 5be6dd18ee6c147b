"""A cloud and Cloudflare together, through the real program: what the one makes the other one uses."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.engine.simulated import cloudflare, gcp
from tests.engine.simulated.lifecycle import Life, begin
from tests.engine.simulated.search import places
from tests.oracle import ports
from tests.oracle.gcp import FIREWALL, INSTANCE, rule
from vre.policy import Network

STACK = """\
  vre:name: phenome
  vre:cloud: {provider: gcp, project: phenome-1234, region: europe-west1, zone: europe-west1-b}
  vre:access: {operators: [203.0.113.0/24], keys: [.vre/id_ed25519.pub]}
  vre:edge: {provider: cloudflare, zone: example.org}
  vre:services:
    jupyter: {admin: researcher}
"""
OTHER_ZONE = STACK.replace("europe-west1-b", "europe-west1-c")
OTHER_DOMAIN = OTHER_ZONE.replace("example.org", "example.net")
LOGIN = "ya29.canary-of-a-login-33518"
HOSTS = {"phenome.example.org", "jupyter-phenome.example.org"}
NEW = ip_network("8.6.112.0/24")
"""A network that Cloudflare did not have before."""
WEB = ("control-in-tcp-80-v4", "control-in-tcp-443-v4")


@dataclass(frozen=True, kw_only=True)
class Both:
    """A stack that stands on both."""

    life: Life
    server: cloudflare.Server

    def visitors(self, port: int) -> set[Network]:
        """Return whose packets the cloud lets in to a port, by what it was told."""
        told = [rule(each.inputs) for each in self.life.cloud.resources(FIREWALL)]
        into = [each for each in told if each.direction == "INGRESS" and each.action == "allows"]
        opens = [each for each in into if any(bits & ports.one(port) for bits in each.opens.values())]
        assert not any(each.tags for each in opens), "a port of pages is open to machines"
        return {network for each in opens for network in each.ranges}

    def published(self) -> set[Network]:
        """Return the networks that Cloudflare publishes as its own."""
        return {ip_network(text) for texts in self.server.networks.values() for text in texts}

    def records(self) -> dict[str, tuple[str, str, bool]]:
        """Return type, content and whether it is proxied of each record."""
        told = [each.inputs for each in self.life.cloud.resources(cloudflare.Record.token)]
        return {each["name"]: (each["type"], each["content"], each["proxied"]) for each in told}

    def address(self) -> str:
        """Return the one public address."""
        [address] = self.life.cloud.resources(gcp.ADDRESS)
        return str(address.outputs["address"])


@pytest.fixture
def both(tmp_path: Path, pulumi_program: Path) -> Iterator[Both]:
    life = begin(tmp_path / "clone", "test", STACK, ["gcp", "cloudflare"], env={"GOOGLE_OAUTH_ACCESS_TOKEN": LOGIN})
    with cloudflare.answering(life.cloud) as server:
        checkout = replace(life.engine.checkout, env={**life.engine.checkout.env, **server.env})
        yield Both(life=replace(life, engine=replace(life.engine, checkout=checkout)), server=server)


@pytest.mark.requirement("P-13", "P-18", "P-43", "P-100")
@pytest.mark.timeout(900)
def test_a_whole_life(both: Both) -> None:
    life = both.life
    assert set(life.planned().values()) == {"create"}
    assert life.cloud.resources() == []
    life.up()
    life.whole()
    reached_through_cloudflare_alone(both, HOSTS)
    kept_secret(life)
    moved(both)
    life.destroy()
    assert [kept["rules"] for kept in both.server.rules.values() if kept["rules"]] == []


def reached_through_cloudflare_alone(both: Both, hosts: set[str]) -> None:
    """Hold that the names lead to Cloudflare, Cloudflare to the address, and nobody else's packets to the ingress."""
    assert both.records() == dict.fromkeys(hosts, ("A", both.address(), True))
    assert len(both.published()) > 20
    assert both.visitors(80) == both.visitors(443) == both.published()
    assert both.visitors(22) == {ip_network("203.0.113.0/24")}
    assert {each.id for each in both.life.cloud.resources(cloudflare.ASSOCIATION)} == hosts


def kept_secret(life: Life) -> None:
    """Hold that logins reach nothing, and private keys and the password only what has to have them."""
    assert places(life, LOGIN) == places(life, cloudflare.TOKEN) == []
    outside = [place for place in places(life, "PRIVATE KEY") if not place.startswith("vre:")]
    assert sorted(outside) == [
        f"{cloudflare.CERTIFICATE} client-certificate privateKey",
        f"{INSTANCE} phenome-control metadata.user-data",
    ]
    password = life.engine.pulumi("stack", "output", "password", "--show-secrets", "--stack", life.stack).text.strip()
    assert len(password) > 12
    assert [place for place in places(life, password) if not place.startswith("vre:")] == []


def moved(both: Both) -> None:
    """Hold that what changes at the one is followed by the other, and what did not change is left alone."""
    life, before = both.life, both.address()
    assert len(both.server.rules) == 4
    both.server.networks["ipv4_cidrs"] = [*both.server.networks["ipv4_cidrs"], str(NEW)]
    planned = life.planned()
    assert {name: planned.get(name) for name in WEB} == dict.fromkeys(WEB, "update")
    assert set(planned.values()) == {"update"}
    life.up()
    assert NEW in both.visitors(443)

    life.configure(OTHER_ZONE)
    planned = life.planned()
    assert planned["phenome-control"] == "replace"
    assert not (HOSTS | {"strict", "https", "tls", "logins", "client-certificate", *WEB}) & planned.keys()
    life.up()
    reached_through_cloudflare_alone(both, HOSTS)

    life.configure(OTHER_DOMAIN)
    life.up()
    life.whole()
    assert both.address() == before
    reached_through_cloudflare_alone(both, {host.replace(".org", ".net") for host in HOSTS})
