"""Cloudflare: the token, the zone, and the room in it; looked at (`probe`) apart from judging (`judge`)."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vre.config import Cloudflare, Config
from vre.edge import cloudflare, rules
from vre.edge.api import TOKEN, Api, CloudflareError
from vre.edge.names import certified
from vre.errors import Finding, VreError

CERTIFICATES = 10
"""How many client certificates for names a zone may have: each VRE needs one."""
PAGE = "docs/clouds/cloudflare.md"
DNS = "DNS: Edit"
TLS = "SSL and Certificates: Edit"
RULES = {
    rules.STRICT: "Config Rules: Edit",
    rules.HTTPS: "Single Redirect: Edit",
    rules.OLD_TLS: "Zone WAF: Edit",
    rules.MANAGED: "Zone WAF: Edit",
    rules.LOGINS: "Zone WAF: Edit",
}
"""Which permission of the token each phase's rules need."""


@dataclass(frozen=True, kw_only=True)
class Zone:
    """A zone as Cloudflare knows it: `status` is active when its name servers are Cloudflare's."""

    id: str
    name: str
    status: str
    plan: str
    paused: bool = False


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found. `records` are the comments of all records of each name, `rules` the references of each phase.

    `refused` are permissions that the token lacks. Whether it may write rules shows only when it does.
    """

    fault: str = ""
    zone: Zone | None = None
    others: tuple[str, ...] = ()
    records: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    certificates: int = 0
    covered: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def probe(config: Config) -> Facts:
    """Look, with the token of the environment. Nothing is made: what is asked to be written is empty, and refused."""
    try:
        with Api() as api:
            return _look(api, _edge(config), certified(config))
    except VreError as error:
        return Facts(fault=error.message)


def _look(api: Api, edge: Cloudflare, hosts: Iterable[str]) -> Facts:
    found = api.ask("GET", "/zones", query={"name": edge.zone})
    if not found:
        every = api.ask("GET", "/zones", query={"per_page": "50"})
        return Facts(others=tuple(str(each["name"]) for each in every))
    zone = _zone(found[0])
    refused: list[str] = []

    def ask(permission: str, method: str, path: str, **more: Any) -> Any:
        """Return the answer; nothing where there is none, and note the permission where that is why."""
        try:
            return api.ask(method, f"/zones/{zone.id}{path}", **more)
        except CloudflareError as error:
            if error.status in {401, 403} and permission not in refused:
                refused.append(permission)
            if error.status not in {400, 401, 403, 404}:
                raise
            return None

    # An empty record and an empty certificate are none; without the permission they are refused before that is seen.
    ask(DNS, "POST", "/dns_records", body={})
    ask(TLS, "POST", "/origin_tls_client_auth/hostnames/certificates", body={})
    records = {host: _comments(ask(DNS, "GET", "/dns_records", query={"name": host})) for host in hosts}
    wanted = [rule.phase for rule in rules.wanted(managed=edge.managed_rules, limited=edge.rate_limit)]
    entries = {phase: ask(RULES[phase], "GET", f"/rulesets/phases/{phase}/entrypoint") for phase in wanted}
    return Facts(
        zone=zone,
        records=records,
        rules={phase: _refs(entry) for phase, entry in entries.items()},
        certificates=_active(ask(TLS, "GET", "/origin_tls_client_auth/hostnames/certificates")),
        covered=_covered(ask(TLS, "GET", "/ssl/certificate_packs")),
        refused=tuple(refused),
    )


def _zone(told: Mapping[str, Any]) -> Zone:
    plan = str((told.get("plan") or {}).get("legacy_id") or "")
    return Zone(
        id=str(told["id"]),
        name=str(told["name"]),
        status=str(told.get("status")),
        plan=plan,
        paused=bool(told.get("paused")),
    )


def _refs(entry: Any) -> tuple[str, ...]:
    return tuple(str(rule.get("ref")) for rule in (entry or {}).get("rules") or ())


def _comments(told: Any) -> tuple[str, ...]:
    return tuple(str(each.get("comment") or "") for each in told or ())


def _active(told: Any) -> int:
    return sum(str(each.get("status")) not in {"deleted", "pending_deletion"} for each in told or ())


def _covered(told: Any) -> tuple[str, ...]:
    return tuple(str(host) for pack in told or () if pack.get("status") == "active" for host in pack.get("hosts") or ())


def judge(config: Config, facts: Facts) -> list[Finding]:
    """Return everything that stands in the way of a launch. Pure."""
    edge = _edge(config)
    if facts.fault:
        return [_finding("edge.provider", facts.fault, f"export {TOKEN}=... ({PAGE})")]
    if facts.zone is None:
        return [_unknown(edge.zone, facts.others)]
    lacking = [
        _finding("edge.provider", f"the token lacks {each}", f"add it to the token ({PAGE})") for each in facts.refused
    ]
    return [
        *_standing(facts.zone),
        *lacking,
        *_taken(config, facts),
        *_room(config, edge, facts.zone, facts),
        *_uncovered(config, facts),
    ]


def _unknown(zone: str, others: tuple[str, ...]) -> Finding:
    above = [other for other in others if zone.endswith(f".{other}")]
    if above:
        reason = (
            f"{zone} is no zone of its own but a name in {above[0]}: what lies below it is deeper than one label below "
            "the zone, where Cloudflare's certificate for visitors does not reach"
        )
        return _finding("edge.zone", reason, f"zone: {above[0]}")
    near = difflib.get_close_matches(zone, others, n=1)
    there = f"; did you mean {near[0]}?" if near else f"; it knows: {', '.join(others) or 'none'}"
    example = (*near, *others, "example.org")[0]
    return _finding("edge.zone", f"{zone} is no zone that the token knows{there}", f"zone: {example}")


def _standing(zone: Zone) -> Iterator[Finding]:
    if zone.status != "active":
        reason = f"{zone.name} is {zone.status}: its name servers are not Cloudflare's yet"
        yield _finding("edge.zone", reason, "set the name servers that Cloudflare names at the registrar")
    if zone.paused:
        yield _finding("edge.zone", f"{zone.name} is paused: Cloudflare would show the origin's address", "resume it")


def _taken(config: Config, facts: Facts) -> Iterator[Finding]:
    own = cloudflare.comment(config.name)
    for host, comments in facts.records.items():
        if any(comment != own for comment in comments):
            yield _finding("name", f"{host} has a record in the zone that is not this VRE's", "name: another")


def _room(config: Config, edge: Cloudflare, zone: Zone, facts: Facts) -> Iterator[Finding]:
    own, limits = rules.prefix(config.name), rules.LIMITS.get(zone.plan, {})
    if zone.plan == rules.FREE and edge.managed_rules:
        reason = "the zone's plan is free: it has Cloudflare's free ones anyway, and no others"
        yield _finding("edge.managed-rules", reason, "managed-rules: false")
    for phase, refs in facts.rules.items():
        others = [ref for ref in refs if not ref.startswith(own)]
        if phase in limits and len(others) >= limits[phase]:
            reason = f"{len(others)} rules of {phase} are in the zone: its plan has room for no more"
            yield (
                _finding("edge.rate-limit", reason, "rate-limit: false")
                if phase == rules.LOGINS
                else _finding("edge.zone", reason, "another zone, or remove rules there")
            )
    # A VRE whose records stand has its certificate there already.
    if facts.certificates >= CERTIFICATES and not any(facts.records.values()):
        reason = f"{facts.certificates} client certificates are in the zone: it has room for no more"
        yield _finding("edge.zone", reason, "another zone")


def _uncovered(config: Config, facts: Facts) -> Iterator[Finding]:
    bare = [host for host in certified(config) if not _covers(facts.covered, host)]
    if bare and TLS not in facts.refused:
        remedy = "switch on Universal SSL in the zone; a new zone's takes up to a day"
        yield _finding("edge.zone", f"no certificate for visitors covers {', '.join(bare)}", remedy)


def _covers(patterns: Iterable[str], host: str) -> bool:
    return any(host == each or (each.startswith("*.") and host.partition(".")[2] == each[2:]) for each in patterns)


def _finding(key: str, reason: str, example: str) -> Finding:
    return Finding(key=f"vre:{key}", reason=reason, example=example)


def _edge(config: Config) -> Cloudflare:
    if not isinstance(config.edge, Cloudflare):
        raise TypeError("the edge is not Cloudflare")
    return config.edge
