"""Certificates by ACME: a real authority on loopback, the real engine, and a simulated account for DNS."""

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dns.resolver
import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from tests.engine.conftest import Engine, small
from tests.engine.pebble import Pebble, running
from tests.engine.simulated import cloudflare
from tests.engine.simulated.store import Cloud
from vre.accounts import acme as account
from vre.config import Config
from vre.edge import api
from vre.errors import VreError
from vre.provider.acme import AcmeCertificate
from vre.provider.handler import UNKNOWN, Context, Partial, Props

NAMES = ["phenome.example.org", "jupyter-phenome.example.org"]
PROOFS = {f"_acme-challenge.{name}" for name in NAMES}
HANDLER = AcmeCertificate()
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL alice"
TERMS = {"accepted-by": "Alice Example", "on": "2026-11-21"}


def stack(directory: str) -> dict[str, Any]:
    """Return a stack file with a certificate from there, or of the stack's own authority."""
    acme = {"acme": {"terms": TERMS, "directory": directory}} if directory else {}
    return {
        "name": "phenome",
        "cloud": {"provider": "libvirt"},
        "access": {"keys": [KEY]},
        "edge": {"provider": "direct", "domain": "example.org", **acme},
        "services": {"jupyter": {}},
    }


def config(directory: str) -> Config:
    """Return the configuration in such a file."""
    return Config.model_validate(stack(directory))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The authority, and the account that its name server follows."""

    pebble: Pebble
    server: cloudflare.Server

    def inputs(self, **more: Any) -> Props:
        """Return what is asked for."""
        return HANDLER.normalise({"names": NAMES, "directory": self.pebble.directory, **more})

    def create(self, **more: Any) -> Props:
        """Have a certificate made."""
        return HANDLER.create(Context(), self.inputs(**more))[1]

    def verify(self, state: Props) -> None:
        """Hold a chain against the authority's root, for every name, and the key against the chain."""
        chain = x509.load_pem_x509_certificates(state["certificate"].encode())
        verifier = PolicyBuilder().store(Store([x509.load_pem_x509_certificate(self.pebble.root().encode())]))
        for name in NAMES:
            verifier.build_server_verifier(x509.DNSName(name)).verify(chain[0], chain[1:])
        folder = self.pebble.trust.parent
        (folder / "chain.pem").write_text(state["certificate"])
        (folder / "key.pem").write_text(state["privateKey"])
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "chain.pem", folder / "key.pem")

    def added(self) -> int:
        """Return how many records were made so far."""
        return sum(each.startswith("POST /zones/") for each in self.server.asked)


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    with running(tmp_path_factory.mktemp("pebble")) as made:
        yield made


@pytest.fixture
def scene(pebble: Pebble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    cloud = Cloud(tmp_path / "cloud.db")
    for thing in cloudflare.Account().given({}):
        cloud.put(replace(thing, given=True))
    monkeypatch.setattr(api, "PAUSE", 0.0)
    monkeypatch.setenv("SSL_CERT_FILE", str(pebble.trust))
    with cloudflare.answering(cloud) as server:
        server.tell = pebble.tell
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        yield Scene(pebble=pebble, server=server)
        assert server.texts == [], "no record is left"


def test_every_name_is_proven_and_the_chain_verifies(scene: Scene) -> None:
    state = scene.create()
    scene.verify(state)
    assert scene.added() == len(NAMES)
    for host in PROOFS:
        assert scene.pebble.asked(host), "the authority looked"
    assert HANDLER.diff(state, scene.inputs()).update == frozenset()
    assert state["pending"] == {}


@pytest.mark.parametrize(("left", "due"), [(29, True), (31, False)])
def test_it_is_renewed_in_the_last_third_of_its_life_with_another_key_and_the_same_account(
    scene: Scene, left: int, due: bool
) -> None:
    state = scene.create()
    end = datetime.now(UTC) + timedelta(days=left)
    old = {**state, "notBefore": (end - timedelta(days=90)).isoformat(), "notAfter": end.isoformat()}
    assert HANDLER.diff(old, scene.inputs()).update == (frozenset({"notAfter"}) if due else frozenset())
    if not due:
        return
    shown = HANDLER.preview(scene.inputs(), old)
    assert (shown["certificate"], shown["privateKey"], shown["notAfter"]) == (UNKNOWN, UNKNOWN, UNKNOWN)
    renewed = HANDLER.update(Context(), "id", old, scene.inputs(contact="operators@example.org"))
    scene.verify(renewed)
    assert renewed["privateKey"] != state["privateKey"]
    assert renewed["accountKey"] == state["accountKey"]


def test_a_name_that_cannot_be_proven_is_said_and_leaves_no_record(scene: Scene) -> None:
    scene.server.tell = lambda what, host, text: None
    with pytest.raises(Partial, match=r"phenome.example.org: .*TXT record") as caught:
        scene.create()
    assert scene.server.texts == []
    kept = caught.value.outputs
    scene.server.tell = scene.pebble.tell
    state = HANDLER.update(Context(), "id", kept, scene.inputs())
    scene.verify(state)
    assert state["accountKey"] == kept["accountKey"]


def test_a_cancel_leaves_no_record(scene: Scene) -> None:
    context = Context()

    def tell(what: str, host: str, text: str) -> None:
        context.cancelled.set()

    scene.server.tell = tell
    with pytest.raises(Partial, match="cancelled"):
        HANDLER.create(context, scene.inputs())
    assert scene.server.texts == []


def test_a_lost_answer_to_a_record_leaves_none(scene: Scene) -> None:
    scene.server.lost["POST"] = 1
    with pytest.raises(Partial, match="does not answer") as caught:
        scene.create()
    assert scene.server.texts == []
    scene.verify(HANDLER.update(Context(), "id", caught.value.outputs, scene.inputs()))


def test_records_that_could_not_be_removed_are_by_the_next_run_which_orders_no_second_certificate(
    scene: Scene,
) -> None:
    scene.server.down.add("DELETE")
    with pytest.raises(Partial, match="stays in DNS") as caught:
        scene.create()
    assert len(scene.server.texts) == len(NAMES)
    kept, made = caught.value.outputs, scene.added()
    scene.server.down.clear()
    state = HANDLER.update(Context(), "id", kept, scene.inputs())
    scene.verify(state)
    assert state["privateKey"] == kept["pending"]["privateKey"], "it is the one that was ordered"
    assert scene.added() == made, "nothing was proven again"


def test_what_others_have_at_the_name_stays(scene: Scene) -> None:
    theirs = {"id": "1" * 32, "name": min(PROOFS), "type": "TXT", "content": '"theirs"', "comment": "by hand"}
    scene.server.texts.append(theirs)
    scene.create()
    assert scene.server.texts == [theirs]
    scene.server.texts.clear()


def test_another_directory_has_another_account(scene: Scene, tmp_path: Path) -> None:
    state = scene.create()
    with running(tmp_path) as other:
        moved = replace(scene, pebble=other)
        scene.server.tell = other.tell
        bundle = tmp_path / "both.pem"
        bundle.write_text(scene.pebble.trust.read_text() + other.trust.read_text())
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("SSL_CERT_FILE", str(bundle))
            assert HANDLER.diff(state, moved.inputs()).update == {"directory"}
            renewed = HANDLER.update(Context(), "id", state, moved.inputs())
            moved.verify(renewed)
    assert renewed["accountKey"] != state["accountKey"]


def test_no_token_no_account(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOUDFLARE_API_TOKEN")
    with pytest.raises(VreError, match="CLOUDFLARE_API_TOKEN is not set"):
        scene.create()


def test_a_directory_that_cannot_be_verified_is_not_spoken_to(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(VreError, match="certificate verify failed"):
        scene.create()
    assert scene.server.asked == []


def test_what_cannot_be_is_refused() -> None:
    found = HANDLER.check({"names": ["not a name"], "directory": "http://192.0.2.1/dir"})
    assert [finding.key for finding in found] == ["names", "directory"]
    assert HANDLER.check({"names": UNKNOWN, "directory": UNKNOWN}) == []


def looked(scene: Scene, directory: str = "") -> list[str]:
    """Return what is said before a launch, by its keys."""
    asking = dns.resolver.Resolver(configure=False)
    asking.nameservers, asking.port = ["127.0.0.1"], scene.pebble.port
    asked = config(directory or scene.pebble.directory)
    return [finding.key for finding in account.judge(asked, account.probe(asked, asking))]


def test_the_look_before_a_launch_finds_what_would_stop_it_and_makes_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looked(scene) == []
    with scene.pebble.allowing("example.org", "other.example"):
        assert looked(scene) == ["vre:edge.domain"] * len(NAMES)
    with scene.pebble.allowing(NAMES[0], "other.example"):
        assert looked(scene) == ["vre:edge.domain"]
    with scene.pebble.allowing("example.org", "other.example", "pebble.letsencrypt.org"):
        assert looked(scene) == []
    assert looked(scene, "https://127.0.0.1:1/dir") == ["vre:edge.acme.directory"]
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "another-token-99812")
    assert looked(scene) == ["vre:edge.domain"]
    assert scene.server.texts == []


PROGRAM = """
import json
from pathlib import Path
import pulumi
from vre.config import Config
from vre.edge import front
from vre.launch import own_plugin

config = Config.model_validate(json.loads(Path("asked.json").read_text()))
own_plugin()
edge = front(config).Edge(config, "192.168.77.10", ("jupyter",))
edge.publish("192.168.77.10")
pulumi.export("certificate", edge.certificate.chain)
pulumi.export("until", edge.certificate.not_after)
pulumi.export("authority", edge.reach("192.168.77.10").authority)
"""


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The engine with a program that is nothing but the edge."""

    engine: Engine
    scene: Scene

    def ask(self, *, public: bool = True) -> None:
        """Say what there should be."""
        asked = stack(self.scene.pebble.directory if public else "")
        (self.engine.checkout.path / "asked.json").write_text(json.dumps(asked))

    def run(self, *words: str, stdin: str = "") -> str:
        """Run the engine to its good end."""
        flags = ("--yes", "--skip-preview") if words[0] in {"up", "destroy"} else ()
        env = {**self.scene.server.env, "SSL_CERT_FILE": str(self.scene.pebble.trust)}
        told = self.engine.pulumi(*words, *flags, "--stack", "test", env=env, stdin=stdin)
        assert told.code == 0, told.text
        return told.text

    def outputs(self) -> dict[str, str]:
        """Return the stack's outputs."""
        return dict(json.loads(self.run("stack", "output", "--json")))

    def age(self, **left: int) -> None:
        """Have the state say that so much is left of the certificate."""
        state = json.loads(self.run("stack", "export"))
        end = datetime.now(UTC) + timedelta(**left)
        for each in state["deployment"]["resources"]:
            if each["type"] == HANDLER.token:
                each["outputs"]["notAfter"] = end.isoformat()
                each["outputs"]["notBefore"] = (end - timedelta(days=90)).isoformat()
        self.run("stack", "import", stdin=json.dumps(state))


@pytest.fixture
def edge(scene: Scene, tmp_path: Path, pulumi_program: Path) -> Edge:
    made = Edge(engine=Engine(checkout=small(tmp_path, "edge", PROGRAM)), scene=scene)
    made.ask()
    made.run("stack", "init", "--secrets-provider", "passphrase")
    return made


@pytest.mark.requirement("P-13", "P-44")
def test_a_life_from_the_first_order_to_the_end(edge: Edge) -> None:
    texts = [edge.run("preview", "--diff")]
    assert edge.scene.server.asked == [], "a preview orders nothing"
    texts.append(edge.run("up", "--diff", "--logtostderr", "-v=3"))
    first = edge.outputs()
    assert first["authority"] == "", "browsers trust what they trust anyway"
    chain = x509.load_pem_x509_certificates(first["certificate"].encode())
    root = x509.load_pem_x509_certificate(edge.scene.pebble.root().encode())
    for name in NAMES:
        PolicyBuilder().store(Store([root])).build_server_verifier(x509.DNSName(name)).verify(chain[0], chain[1:])
    edge.run("up", "--refresh", "--expect-no-changes")

    edge.age(days=29)
    texts.append(edge.run("preview", "--diff"))
    assert "notAfter" in texts[-1]
    texts.append(edge.run("up", "--diff"))
    renewed = edge.outputs()
    assert renewed["certificate"] != first["certificate"]
    assert datetime.fromisoformat(renewed["until"]) > datetime.now(UTC) + timedelta(days=80)
    texts += [edge.run("stack", "export"), *(file.read_text() for file in edge.engine.checkout.backend.rglob("*.json"))]

    edge.ask(public=False)
    edge.run("up")
    assert "BEGIN CERTIFICATE" in edge.outputs()["authority"]
    edge.run("destroy")
    assert len(texts) > 5
    # An account's key is JSON, in JSON.
    secret = (cloudflare.TOKEN, "PRIVATE KEY", '"crv"', '\\"crv')
    assert [text for text in texts if any(each in text for each in secret)] == []


def test_a_failed_launch_goes_on_where_it_stopped(edge: Edge) -> None:
    env = {**edge.scene.server.env, "SSL_CERT_FILE": str(edge.scene.pebble.trust)}
    edge.scene.server.down.add("DELETE")
    told = edge.engine.pulumi("up", "--yes", "--skip-preview", "--stack", "test", env=env)
    assert told.code != 0
    assert "stays in DNS" in told.text
    assert "PRIVATE KEY" not in told.text + edge.run("stack", "export")
    edge.scene.server.down.clear()
    before = edge.scene.added()
    edge.run("up")
    assert edge.scene.added() == before, "what was ordered is fetched, and nothing is proven again"
    assert "BEGIN CERTIFICATE" in edge.outputs()["certificate"]
