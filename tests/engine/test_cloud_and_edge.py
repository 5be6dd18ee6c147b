"""A cloud and Cloudflare together, through the real program: what the one makes the other one uses."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.engine.logins import logged_in, secrets
from tests.engine.simulated import aws_api, azure, cloudflare, gcp, openstack, openstack_compute
from tests.engine.simulated.lifecycle import Life, begin
from tests.engine.simulated.search import places
from tests.oracle import aws as amazon
from tests.oracle import azure as arm
from tests.oracle import gcp as google
from tests.oracle import openstack as neutron
from tests.oracle.compare import Evaluator, assert_agree
from tests.oracle.configs import Case
from tests.oracle.told import Resource, recorded
from vre import clouds
from vre.load import load
from vre.plan import plan
from vre.policy import Network, Peer, Role
from vre.stackfile import parse

STACK = """\
  vre:name: phenome
  vre:cloud: {CLOUD}
  vre:access: {operators: [203.0.113.0/24], keys: [.vre/id_ed25519.pub]}
  vre:edge: {provider: cloudflare, zone: example.org}
  vre:outbound: {resolvers: [192.0.2.53/32]}
  vre:services:
    jupyter: {admin: researcher}
"""
HOSTS = {"phenome.example.org", "jupyter-phenome.example.org"}
EDGE = {"strict", "https", "tls", "logins", "client-certificate"}
"""What stands at Cloudflare and does not depend on the address."""
NEW = ip_network("8.6.112.0/24")
"""A network that Cloudflare did not have before."""


def amazons(case: Case, told: list[Resource]) -> tuple[Case, Evaluator]:
    """Return the case with the addresses that AWS gave, and what AWS would do."""
    world = amazon.told(told)
    return world.placed(case), world.evaluator()


@dataclass(frozen=True, kw_only=True)
class Side:
    """A cloud. `moved`: where its machine has to be anew, `keeps`: and is the address the same there?"""

    plugin: str
    cloud: str
    moved: str
    keeps: bool = True
    address: tuple[str, str]
    """The public address's type, and the output that tells it."""
    user_data: str
    """The type of machines, and the property that tells them what to do first."""
    comes: Mapping[str, str]
    """What is done when Cloudflare has a new network."""
    judged: Callable[[Case, list[Resource]], tuple[Case, Evaluator]]


GOOGLE = Side(
    plugin="gcp",
    cloud="provider: gcp, project: phenome-1234, region: europe-west1, zone: europe-west1-b",
    moved="provider: gcp, project: phenome-1234, region: europe-west1, zone: europe-west1-c",
    address=(gcp.ADDRESS, "address"),
    user_data=f"{google.INSTANCE} phenome-control metadata.user-data",
    comes={"control-in-tcp-80-v4": "update", "control-in-tcp-443-v4": "update"},
    judged=lambda case, told: (case, google.evaluator(told)),
)
AWS = Side(
    plugin="aws",
    cloud="provider: aws, region: eu-west-1",
    moved="provider: aws, region: eu-west-1, zone: eu-west-1b",
    address=(aws_api.EIP, "publicIp"),
    user_data=f"{aws_api.INSTANCE} phenome-control userDataBase64",
    comes={"control-in-tcp-80-8.6.112.0_24": "create", "control-in-tcp-443-8.6.112.0_24": "create"},
    judged=amazons,
)
AZURE = Side(
    plugin="azure-native",
    cloud="provider: azure, subscription: 00000000-0000-0000-0000-000000000000, region: westeurope",
    moved="provider: azure, subscription: 00000000-0000-0000-0000-000000000000, region: northeurope",
    keeps=False,
    address=(azure.ADDRESS, "ipAddress"),
    user_data=f"{azure.MACHINE} phenome-control osProfile.customData",
    comes={"firewall": "update"},
    judged=lambda case, told: (case, arm.evaluator(told)),
)
OPENSTACK = Side(
    plugin="openstack",
    cloud="provider: openstack, region: RegionOne, public: true, external-network: public, volume-type: LUKS",
    moved="provider: openstack, region: RegionOne, public: true, external-network: another, volume-type: LUKS",
    keeps=False,
    address=(openstack.FLOATING, "address"),
    user_data=f"{openstack_compute.INSTANCE} phenome-control userData",
    comes={"control-in-tcp-80-8.6.112.0_24": "create", "control-in-tcp-443-8.6.112.0_24": "create"},
    judged=lambda case, told: (case, neutron.told(told).evaluator()),
)


@dataclass(frozen=True, kw_only=True)
class Both:
    """A stack that stands on both."""

    life: Life
    server: cloudflare.Server
    side: Side
    env: Mapping[str, str]

    def configure(self, cloud: str, zone: str = "example.org") -> None:
        """Change where it stands, and its domain."""
        self.life.configure(text(cloud).replace("example.org", zone))

    def published(self) -> set[Network]:
        """Return the networks that Cloudflare publishes as its own."""
        return {ip_network(text) for texts in self.server.networks.values() for text in texts}

    def holds(self) -> None:
        """Hold that the cloud lets through what the policy says, where Cloudflare's networks are those it publishes."""
        file = self.life.engine.checkout.path / "stacks" / f"Pulumi.{self.life.stack}.yaml"
        config = load(parse(file.read_text(), file))
        policy = clouds.policy(config)
        into = [rule for rule in policy.into(Role.CONTROL) if rule.ports.first <= 443 and rule.ports.last >= 80]
        assert {rule.origin for rule in into} == {Peer.EDGE}, "pages are for Cloudflare's networks alone"
        now = replace(policy, networks={**policy.networks, Peer.EDGE: tuple(self.published())})
        told = recorded(self.life.cloud.resources())
        case, evaluator = self.side.judged(Case(config=config, plan=plan(config), policy=now), told)
        assert_agree(case, evaluator, told)

    def records(self) -> dict[str, tuple[str, str, bool]]:
        """Return type, content and whether it is proxied of each record."""
        told = [each.inputs for each in self.life.cloud.resources(cloudflare.Record.token)]
        return {each["name"]: (each["type"], each["content"], each["proxied"]) for each in told}

    def address(self) -> str:
        """Return the one public address."""
        kind, output = self.side.address
        [address] = self.life.cloud.resources(kind)
        return str(address.outputs[output])


def text(cloud: str) -> str:
    """Return what stands below `config:`."""
    return STACK.replace("CLOUD", cloud)


@pytest.fixture(
    params=[
        pytest.param(GOOGLE, id="gcp"),
        pytest.param(AWS, id="aws"),
        pytest.param(AZURE, id="azure"),
        pytest.param(OPENSTACK, id="openstack", marks=pytest.mark.drill),
    ]
)
def side(request: pytest.FixtureRequest) -> Side:
    found: Side = request.param
    return found


@pytest.fixture
def both(side: Side, tmp_path: Path, pulumi_program: Path) -> Iterator[Both]:
    with logged_in(side.plugin, tmp_path) as env:
        life = begin(tmp_path / "clone", "test", text(side.cloud), [side.plugin, "cloudflare"], env=env)
        with cloudflare.answering(life.cloud) as server:
            checkout = replace(life.engine.checkout, env={**life.engine.checkout.env, **server.env})
            life = replace(life, engine=replace(life.engine, checkout=checkout))
            yield Both(life=life, server=server, side=side, env=env)


# The library of OpenStack says so of parts of its own that it uses itself.
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.requirement("P-13", "P-18", "P-43", "P-100")
@pytest.mark.timeout(1800)
def test_a_whole_life(both: Both) -> None:
    life = both.life
    assert set(life.planned().values()) == {"create"}
    assert life.cloud.resources() == []
    life.up()
    life.whole()
    reached_through_cloudflare_alone(both, HOSTS)
    kept_secret(both)
    moved(both)
    if both.side == GOOGLE:  # no cloud has a part in that
        renamed(both)
    life.destroy()
    assert [kept["rules"] for kept in both.server.rules.values() if kept["rules"]] == []


def reached_through_cloudflare_alone(both: Both, hosts: set[str]) -> None:
    """Hold that the names lead to Cloudflare, Cloudflare to the address, and nobody else's packets to the ingress."""
    assert both.records() == dict.fromkeys(hosts, ("A", both.address(), True))
    assert len(both.published()) > 20
    both.holds()
    assert {each.id for each in both.life.cloud.resources(cloudflare.ASSOCIATION)} == hosts


def kept_secret(both: Both) -> None:
    """Hold that logins reach nothing, and private keys and the password only what has to have them."""
    life = both.life
    logins = secrets(both.env)
    assert logins
    assert [place for login in (*logins, cloudflare.TOKEN) for place in places(life, login)] == []
    outside = [place for place in places(life, "PRIVATE KEY") if not place.startswith("vre:")]
    assert sorted(outside) == sorted([f"{cloudflare.CERTIFICATE} client-certificate privateKey", both.side.user_data])
    password = life.engine.pulumi("stack", "output", "password", "--show-secrets", "--stack", life.stack).text.strip()
    assert len(password) > 12
    assert [place for place in places(life, password) if not place.startswith("vre:")] == []


def moved(both: Both) -> None:
    """Hold that what changes at the one is followed by the other, and what did not change is left alone."""
    life, side, before = both.life, both.side, both.address()
    assert len(both.server.rules) == 4
    both.server.networks["ipv4_cidrs"] = [*both.server.networks["ipv4_cidrs"], str(NEW)]
    planned = life.planned()
    assert side.comes.items() <= planned.items()
    assert set(planned.values()) <= {"update", *side.comes.values()}

    both.configure(side.moved)
    planned = life.planned()
    assert planned["phenome-control"] == "replace"
    assert {planned.get(host) for host in HOSTS} == {None if side.keeps else "update"}
    assert not EDGE & planned.keys()
    assert not side.keeps or side.comes.items() <= planned.items()
    life.up()
    life.whole()
    reached_through_cloudflare_alone(both, HOSTS)
    assert (both.address() == before) == side.keeps


def renamed(both: Both) -> None:
    """Hold that the VRE is found in another zone, and no more in the old one."""
    before = both.address()
    both.configure(both.side.moved, "example.net")
    both.life.up()
    both.life.whole()
    assert both.address() == before
    reached_through_cloudflare_alone(both, {host.replace(".org", ".net") for host in HOSTS})
