"""What Cloudflare does with requests for a VRE's names, and for no other of the zone. Pure.

A rule is a phase, a reference and a body in the words of Cloudflare's rules
(https://developers.cloudflare.com/ruleset-engine/rules-language/).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STRICT = "http_config_settings"
HTTPS = "http_request_dynamic_redirect"
OLD_TLS = "http_request_firewall_custom"
MANAGED = "http_request_firewall_managed"
LOGINS = "http_ratelimit"

LIMITS: Mapping[str, Mapping[str, int]] = {
    "free": {STRICT: 10, HTTPS: 10, OLD_TLS: 5, LOGINS: 1},
    "pro": {STRICT: 25, HTTPS: 25, OLD_TLS: 20, LOGINS: 2},
    "business": {STRICT: 50, HTTPS: 50, OLD_TLS: 100, LOGINS: 5},
}
"""How many rules of a phase a zone may have, by its plan; where nothing stands, Cloudflare's answer decides.

https://developers.cloudflare.com/waf/rate-limiting-rules/#availability and the pages beside it
"""
MANAGED_RULES = "efb7b8c949ac4650a09736fc376e9aee"
"""Cloudflare's managed rules, the same id for everybody."""
LOGIN = "/login"
PERIOD = 10
REQUESTS = 60
"""Requests to a login page that one address may make in so many seconds: a class behind one address gets in."""
FREE = "free"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One rule: where it goes, what it is called in the zone, what it is for."""

    phase: str
    name: str
    why: str

    def ref(self, stack: str) -> str:
        """Return its reference in the zone: another VRE's is another."""
        return f"{prefix(stack)}{self.name}"


ALWAYS = (
    Wanted(phase=STRICT, name="strict", why="TLS to the origin, its certificate verified"),
    Wanted(phase=HTTPS, name="https", why="https always"),
    Wanted(phase=OLD_TLS, name="tls", why="TLS 1.2 at least"),
)
MANAGED_RULE = Wanted(phase=MANAGED, name="managed", why="Cloudflare's managed rules")
LOGIN_RULE = Wanted(phase=LOGINS, name="logins", why="no guessing of passwords")


def prefix(stack: str) -> str:
    """Return what the references of a VRE's rules begin with."""
    return f"vre-{stack}-"


def wanted(*, managed: bool, limited: bool) -> tuple[Wanted, ...]:
    """Return the rules that a VRE needs in its zone."""
    return (*ALWAYS, *([MANAGED_RULE] if managed else []), *([LOGIN_RULE] if limited else []))


def body(rule: Wanted, hosts: Sequence[str], stack: str, *, plan: str) -> dict[str, Any]:
    """Return a rule for these names in a zone of this plan."""
    return {
        "description": f"VRE {stack}: {rule.why}",
        "enabled": True,
        "expression": f"({_matches(rule, hosts, plan)})",
        **_does(rule, plan),
    }


def _matches(rule: Wanted, hosts: Sequence[str], plan: str) -> str:
    names = " ".join(f'"{host}"' for host in sorted(hosts))
    own = f"http.host in {{{names}}}"
    login = f'http.request.uri.path contains "{LOGIN}"'
    return {
        HTTPS: f"{own} and not ssl",
        # A request without TLS has no version of it: the redirect answers that.
        OLD_TLS: f'{own} and cf.tls_version in {{"TLSv1" "TLSv1.1"}}',
        # The free plan's one rule of this kind knows paths only.
        LOGINS: login if plan == FREE else f"{own} and {login}",
    }.get(rule.phase, own)


def _does(rule: Wanted, plan: str) -> dict[str, Any]:
    target = {"expression": 'concat("https://", http.host, http.request.uri.path)'}
    redirect = {"from_value": {"status_code": 301, "preserve_query_string": True, "target_url": target}}
    limit = {
        "characteristics": ["cf.colo.id", "ip.src"],
        "period": PERIOD,
        "requests_per_period": REQUESTS,
        "mitigation_timeout": PERIOD if plan == FREE else 6 * PERIOD,
    }
    does: dict[str, dict[str, Any]] = {
        STRICT: {"action": "set_config", "action_parameters": {"ssl": "strict", "automatic_https_rewrites": True}},
        HTTPS: {"action": "redirect", "action_parameters": redirect},
        OLD_TLS: {"action": "block"},
        MANAGED: {"action": "execute", "action_parameters": {"id": MANAGED_RULES}},
        LOGINS: {"action": "block", "ratelimit": limit},
    }
    return does[rule.phase]
