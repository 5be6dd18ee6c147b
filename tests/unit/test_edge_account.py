"""Cloudflare's account: one rule among others', the look before a launch, and what is said of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engine.simulated import cloudflare as simulated
from tests.engine.simulated.store import Cloud
from vre import accounts
from vre.accounts import cloudflare
from vre.accounts.cloudflare import Facts, Zone, judge, probe
from vre.cli import audit
from vre.cli.checks import State
from vre.config import Config
from vre.edge import api, rules
from vre.errors import Finding, VreError
from vre.provider.cloudflare import Rule
from vre.provider.handler import UNKNOWN, Context, Props

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL alice"
ZONE = f"{b'example.org'.hex():0<32}"[:32]
PHASE = "http_config_settings"
OTHERS = {"id": "0" * 32, "ref": "of-the-website", "action": "block", "expression": "true"}
RULE = {"action": "set_config", "expression": "(true)", "enabled": True, "action_parameters": {"ssl": "strict"}}


def config(**edge: Any) -> Config:
    return Config.model_validate(
        {
            "name": "phenome",
            "cloud": {"provider": "openstack", "region": "R", "public": True, "external-network": "public"},
            "access": {"keys": [KEY], "operators": ["198.51.100.0/24"]},
            "edge": {"provider": "cloudflare", "zone": "example.org", **edge},
            "services": {"jupyter": {}},
        }
    )


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[simulated.Server]:
    cloud = Cloud(tmp_path / "cloud.db")
    for thing in simulated.Account().given({}):
        cloud.put(replace(thing, given=True))
    monkeypatch.setattr(api, "PAUSE", 0.0)
    with simulated.answering(cloud) as made:
        for name, value in made.env.items():
            monkeypatch.setenv(name, value)
        yield made


def looked(asked: Config) -> list[Finding]:
    """Return what is found at Cloudflare; the cloud has tests of its own."""
    return cloudflare.judge(asked, cloudflare.probe(asked))


def inputs(ref: str = "vre-phenome-strict", **rule: Any) -> Props:
    return {"zone": ZONE, "phase": PHASE, "ref": ref, "rule": {**RULE, **rule}}


def put(**more: Any) -> tuple[str, Props]:
    return Rule().create(Context(), inputs(**more))


def test_a_rule_comes_and_goes_beside_those_of_others(server: simulated.Server) -> None:
    server.rules[ZONE, PHASE] = {"id": "f" * 32, "phase": PHASE, "rules": [OTHERS]}
    name, state = put()
    _, second = put(ref="vre-genome-strict")
    assert server.of(ZONE)[PHASE] == ["of-the-website", "vre-phenome-strict", "vre-genome-strict"]
    Rule().delete(Context(), name, state)
    Rule().delete(Context(), name, state)
    assert server.of(ZONE)[PHASE] == ["of-the-website", "vre-genome-strict"]
    found = Rule().read(Context(), name, second)
    assert found is not None
    assert found.inputs == inputs(ref="vre-genome-strict")
    assert Rule().read(Context(), name, state) is None


def test_a_rule_changes_in_place_and_drift_is_seen(server: simulated.Server) -> None:
    name, state = put()
    [kept] = server.rules[ZONE, PHASE]["rules"]
    wanted = inputs(expression="(false)")
    assert Rule().diff(state, wanted).update == {"rule"}
    assert Rule().diff(state, {**wanted, "ref": "another"}).replace == {"ref"}
    Rule().update(Context(), name, state, wanted)
    assert server.rules[ZONE, PHASE]["rules"][0]["id"] == kept["id"]
    server.rules[ZONE, PHASE]["rules"][0]["action_parameters"] = {"ssl": "off", "polish": "off"}
    found = Rule().read(Context(), name, wanted)
    assert found is not None
    assert found.inputs["rule"]["action_parameters"] == {"ssl": "off"}


def test_what_is_made_twice_or_without_an_answer_is_one(server: simulated.Server) -> None:
    server.lost["POST"] = 1  # of the list: it is looked for, and there
    put(ref="vre-genome-strict")
    server.lost["POST"] = 1  # of the rule: the next launch finds it
    with pytest.raises(VreError, match="does not answer"):
        put()
    put()
    put()
    assert server.of(ZONE) == {PHASE: ["vre-genome-strict", "vre-phenome-strict"]}


def test_a_look_without_an_answer_is_repeated(server: simulated.Server) -> None:
    name, state = put()
    server.lost["GET"] = 2
    assert Rule().read(Context(), name, state) is not None


def test_no_room_is_told_in_cloudflares_words(server: simulated.Server) -> None:
    for number in range(10):
        put(ref=f"vre-a{number}-strict")
    with pytest.raises(VreError, match="maximum number of rules") as caught:
        put()
    assert simulated.TOKEN not in str(caught.value)


def test_what_is_no_rule_is_refused() -> None:
    assert [finding.key for finding in Rule().check({"ref": "A b", "rule": {}})] == ["ref", "rule"]
    assert Rule().check({"ref": UNKNOWN, "rule": UNKNOWN}) == []
    assert Rule().check(inputs()) == []


def test_without_a_token_nothing_is_asked(server: simulated.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOUDFLARE_API_TOKEN")
    with pytest.raises(VreError, match="CLOUDFLARE_API_TOKEN is not set"):
        put()
    facts = probe(config())
    assert server.asked == []
    [finding] = judge(config(), facts)
    assert "is not set" in finding.reason
    assert "docs/clouds/cloudflare.md" in finding.example


def test_the_token_goes_to_no_other_address(server: simulated.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", "http://192.0.2.1")
    with pytest.raises(VreError, match="not https"):
        put()


def test_a_busy_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "t")
    told = iter([httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(429), httpx.Response(500)])
    good = httpx.Response(200, json={"success": True, "result": "yes"})
    monkeypatch.setattr(httpx.Client, "request", lambda *_, **__: next(told, good))
    waited: list[float] = []
    with api.Api(pause=waited.append) as one:
        assert one.ask("GET", "/x") == "yes"
    assert waited == [7.0, 2.0, 2.0]


def test_a_zone_that_is_ready_is_found_so(server: simulated.Server) -> None:
    facts = probe(config())
    assert facts.zone == Zone(id=ZONE, name="example.org", status="active", plan="free")
    assert judge(config(), facts) == []
    assert looked(config()) == []
    assert server.rules == {}
    assert server.cloud.resources() == []


def test_a_refused_token_is_said_once(server: simulated.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "another-token-99812")
    [finding] = looked(config())
    assert "Authentication error" in finding.reason
    assert "99812" not in str(finding)


@pytest.mark.parametrize(
    ("zone", "said", "example"),
    [
        ("vre.example.org", "deeper than one label below the zone", "zone: example.org"),
        ("exmaple.org", "did you mean example.org?", "zone: example.org"),
        ("somewhere.test", "it knows: example.org, example.net", "zone: example.org"),
    ],
)
@pytest.mark.requirement("P-19")
def test_what_is_no_zone_of_the_token_is_refused(server: simulated.Server, zone: str, said: str, example: str) -> None:
    [finding] = looked(config(zone=zone))
    assert finding.key == "vre:edge.zone"
    assert said in finding.reason
    assert finding.example == example


FREE = Zone(id=ZONE, name="example.org", status="active", plan="free")
READY = Facts(zone=FREE, covered=("example.org", "*.example.org"))
OWN = "VRE phenome: made by its launch"


@pytest.mark.parametrize(
    ("facts", "edge", "key", "said"),
    [
        ({"refused": ("DNS: Edit",)}, {}, "edge.provider", "lacks DNS: Edit"),
        ({"zone": replace(FREE, status="pending")}, {}, "edge.zone", "pending"),
        ({"zone": replace(FREE, paused=True)}, {}, "edge.zone", "paused"),
        ({"records": {"phenome.example.org": ("the website",)}}, {}, "name", "not this VRE's"),
        ({"records": {"phenome.example.org": (OWN, "")}}, {}, "name", "not this VRE's"),
        ({"rules": {rules.LOGINS: ("x",)}}, {}, "edge.rate-limit", "room for no more"),
        ({"rules": {rules.STRICT: tuple("0123456789")}}, {}, "edge.zone", "room for no more"),
        ({"certificates": 10}, {}, "edge.zone", "10 client certificates"),
        ({"covered": ("example.org",)}, {}, "edge.zone", "jupyter-phenome.example.org"),
        ({}, {"managed-rules": True}, "edge.managed-rules", "plan is free"),
    ],
)
def test_each_thing_in_the_way_is_said_with_its_key(
    facts: dict[str, Any], edge: dict[str, Any], key: str, said: str
) -> None:
    [finding] = judge(config(**edge), replace(READY, **facts))
    assert finding.key == f"vre:{key}"
    assert said in finding.reason
    assert finding.example


@pytest.mark.parametrize(
    "facts",
    [
        {"records": {"phenome.example.org": (OWN,)}, "certificates": 10},
        {"rules": {rules.LOGINS: ("vre-phenome-logins",), rules.STRICT: ("x",)}},
        {"certificates": 9},
    ],
)
def test_what_is_the_vres_own_or_fits_is_no_fault(facts: dict[str, Any]) -> None:
    assert judge(config(), replace(READY, **facts)) == []


def test_every_fault_is_said_at_once() -> None:
    facts = replace(READY, refused=("DNS: Edit", "Zone WAF: Edit"), covered=(), certificates=12)
    assert len(judge(config(), facts)) == 4


def test_the_accounts_that_are_looked_at_are_those_of_the_stack() -> None:
    assert accounts.modules(config())[-1] == cloudflare.__name__
    direct = {"cloud": {"provider": "libvirt"}, "access": {"keys": [KEY]}}
    assert accounts.modules(Config.model_validate(direct)) == ()


def test_an_old_tls_of_a_shared_zone_is_its_owners_and_a_fault_of_our_own_door() -> None:
    assert audit.versions([], proxied=True).state == State.GOOD
    assert audit.versions(["TLSv1"], proxied=True).state == State.WARNING
    assert audit.versions(["TLSv1"], proxied=False).state == State.BAD
