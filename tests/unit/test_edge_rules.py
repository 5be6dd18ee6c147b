"""What Cloudflare is asked to do: for the VRE's names alone, and as its rules are written."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vre.config import Config
from vre.conflicts import conflicts
from vre.edge import rules
from vre.edge.names import names
from vre.services.settings import Services

HOSTS = ("phenome.example.org", "jupyter-phenome.example.org")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL alice"
OPENSTACK = {"provider": "openstack", "region": "R", "public": False, "external-network": "public"}


def bodies(plan: str) -> dict[str, dict[str, object]]:
    wanted = rules.wanted(managed=True, limited=True)
    return {rule.name: rules.body(rule, HOSTS, "phenome", plan=plan) for rule in wanted}


@pytest.mark.parametrize("plan", ["free", "pro", "business", "enterprise", ""])
def test_every_rule_is_for_the_vres_names_alone(plan: str) -> None:
    own = 'http.host in {"jupyter-phenome.example.org" "phenome.example.org"}'
    for name, body in bodies(plan).items():
        exempt = plan == "free" and name == "logins"
        assert str(body["expression"]).startswith(f"({own}") is not exempt
        assert " or " not in str(body["expression"])
        assert body["enabled"] is True


@pytest.mark.requirement("P-19", "P-20")
def test_tls_is_strict_new_and_always() -> None:
    found = bodies("free")
    assert found["strict"]["action_parameters"] == {"ssl": "strict", "automatic_https_rewrites": True}
    assert "not ssl" in str(found["https"]["expression"])
    assert found["https"]["action"] == "redirect"
    assert 'cf.tls_version in {"TLSv1" "TLSv1.1"}' in str(found["tls"]["expression"])
    assert found["tls"]["action"] == "block"


@pytest.mark.requirement("P-69", "P-78")
def test_logins_are_limited_as_far_as_the_plan_knows_how() -> None:
    free, paid = bodies("free")["logins"], bodies("pro")["logins"]
    assert free["expression"] == '(http.request.uri.path contains "/login")'
    assert free["ratelimit"]["period"] == free["ratelimit"]["mitigation_timeout"] == 10  # type: ignore[index]
    assert "http.host" in str(paid["expression"])
    assert bodies("pro")["managed"]["action_parameters"] == {"id": rules.MANAGED_RULES}


def test_what_is_not_asked_for_is_not_made() -> None:
    assert {rule.name for rule in rules.wanted(managed=False, limited=False)} == {"strict", "https", "tls"}


def test_two_vres_never_share_a_rule() -> None:
    every = [rule.ref(stack) for stack in ("phenome", "genome") for rule in rules.wanted(managed=True, limited=True)]
    assert len(every) == len(set(every)) == 10
    assert all(re.fullmatch(r"[a-z0-9-]{1,60}", ref) for ref in every)


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)


@given(st.from_regex(r"[a-z]([a-z0-9]{0,18}[a-z0-9])?", fullmatch=True), st.lists(LABEL, min_size=2, max_size=15))
def test_no_name_is_longer_than_dns_has_room_for_or_deeper_than_the_certificate_reaches(
    name: str, labels: list[str]
) -> None:
    zone = ".".join(labels)[:200].strip(".-")
    stack = Config.model_validate(
        {
            "name": name,
            "cloud": OPENSTACK,
            "access": {"keys": [KEY], "operators": ["198.51.100.0/24"]},
            "edge": {"provider": "direct"},
        }
    )
    edge = type(stack.edge).model_construct(provider="direct", domain=zone)
    for host in names(stack.model_copy(update={"edge": edge}), tuple(Services.model_fields)):
        assert len(host) <= 253
        assert len(host.split(".")[0]) <= 63
        assert host.count(".") == zone.count(".") + 1


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({"cloud": {"provider": "libvirt"}}, "edge.provider", "cannot come to a machine"),
        ({"data": {"class": "sensitive"}}, "edge.provider", "reads along"),
        ({"data": {"class": "pseudonymised"}}, "edge.provider", "reads along"),
    ],
)
def test_what_does_not_go_with_cloudflare_is_refused(change: dict[str, object], key: str, reason: str) -> None:
    whole = {
        "name": "phenome",
        "cloud": OPENSTACK,
        "access": {"keys": [KEY], "operators": ["198.51.100.0/24"]},
        "edge": {"provider": "cloudflare", "zone": "example.org"},
        "outbound": {"resolvers": ["192.0.2.53/32"], "time": ["192.0.2.123/32"]},
    }
    assert conflicts(Config.model_validate(whole)) == []
    found = conflicts(Config.model_validate({**whole, **change}))
    assert [(finding.key, reason in finding.reason) for finding in found if "edge" in finding.key] == [(key, True)]
