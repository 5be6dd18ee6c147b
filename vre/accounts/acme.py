"""A public authority and the zone in which it looks: looked at (`probe`) apart from judging (`judge`)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import dns.exception
import dns.rdatatype
import dns.resolver

from vre.acme import order, records
from vre.config import Acme, Config, public_authority
from vre.edge.names import certified
from vre.errors import Finding, VreError

PAGE = "docs/clouds/acme.md"
PATIENCE = 6.0
Allowed = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found. `fault` is the authority's, `zone_fault` the zone's; `allowed` are the CAA records by name.

    `identities` are the names by which CAA records know the authority, `external` that it opens no accounts itself.
    """

    fault: str = ""
    zone_fault: str = ""
    external: bool = False
    identities: tuple[str, ...] = ()
    allowed: Mapping[str, Allowed] = field(default_factory=dict)


def probe(config: Config, resolver: dns.resolver.Resolver | None = None) -> Facts:
    """Look at the directory, at the zone by the credential of the environment, and at DNS. Nothing is made."""
    asked, names = _asked(config), certified(config)
    fault, external = "", False
    identities: tuple[str, ...] = ()
    try:
        meta = order.about(asked.directory)
        external, identities = bool(meta.external_account_required), tuple(meta.caa_identities or ())
    except VreError as error:
        fault = error.message
    return Facts(
        fault=fault,
        zone_fault=_zone_fault(asked, names),
        external=external,
        identities=identities,
        allowed={name: caa(name, resolver) for name in names},
    )


def _zone_fault(asked: Acme, names: Sequence[str]) -> str:
    try:
        writer = records.of(asked.server or "")
        for host in order.hosts(names):
            writer.check(host)
    except VreError as error:
        return error.message
    return ""


def caa(name: str, resolver: dns.resolver.Resolver | None = None) -> Allowed:
    """Return the CAA records that hold for a name: its own, else those of the nearest name above (RFC 8659)."""
    try:
        asking = resolver or dns.resolver.Resolver()
        for host in _upwards(name):
            try:
                found = asking.resolve(f"{host}.", dns.rdatatype.CAA, lifetime=PATIENCE)
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                continue
            return tuple((each.tag.decode(), each.value.decode()) for each in found)
    except dns.exception.DNSException:
        return ()  # the authority asks elsewhere, and says so if it is refused
    return ()


def _upwards(name: str) -> Iterator[str]:
    labels = name.split(".")
    return (".".join(labels[at:]) for at in range(len(labels)))


def judge(config: Config, facts: Facts) -> list[Finding]:
    """Return everything that stands in the way of a certificate. Pure."""
    asked = _asked(config)
    found = []
    if facts.fault:
        found.append(_finding("edge.acme.directory", facts.fault, "the address that the authority names"))
    if facts.external:
        reason = f"{asked.directory} wants an account that was made elsewhere, which is not in place"
        found.append(_finding("edge.acme.directory", reason, "another directory"))
    if facts.zone_fault:
        key = "edge.acme.server" if asked.server else "edge.domain"
        found.append(_finding(key, facts.zone_fault, f"{PAGE} says what is needed"))
    return [*found, *_closed(facts)]


def _closed(facts: Facts) -> Iterator[Finding]:
    for name, allowed in facts.allowed.items():
        issuers = [value for tag, value in allowed if tag == "issue"]
        if facts.identities and issuers and not any(_lets(value, facts.identities) for value in issuers):
            reason = f"CAA records let only others issue for {name}: {'; '.join(issuers)}"
            yield _finding("edge.domain", reason, f'CAA 0 issue "{facts.identities[0]}"')


def _lets(value: str, identities: Sequence[str]) -> bool:
    """Say whether a CAA record lets the authority issue after a proof by DNS (RFC 8659, RFC 8657)."""
    issuer, *parameters = (part.strip() for part in value.split(";"))
    methods = [part.partition("=")[2] for part in parameters if part.startswith("validationmethods=")]
    return issuer in identities and all("dns-01" in each.split(",") for each in methods)


def _finding(key: str, reason: str, example: str) -> Finding:
    return Finding(key=f"vre:{key}", reason=reason, example=example)


def _asked(config: Config) -> Acme:
    asked = public_authority(config)
    if asked is None:
        raise TypeError("nothing is asked of a public authority")
    return asked
