"""Whether a launched stack's edge is what it should be today: what a daily job asks, with no more than the state."""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from vre.cli.checks import Check, bad, good, looked, warning
from vre.cli.outputs import Outputs, up
from vre.config import Config, public_authority
from vre.policy import Network

AREA = "edge"
DUE = timedelta(days=60)
"""How long before its end the certificate at the origin should have been renewed: `up` does it from 90 days on."""

PUBLIC_DUE = timedelta(days=14)
"""The same where a public authority signs: `up` does it from 30 days on where that is for 90, from 15 where for 45."""


def look(there: Outputs, config: Config) -> list[Check]:
    """Return how what a stack lets in compares with what is published now, and when its certificate is renewed.

    Nothing where the stack's own authority signs.
    """
    today = datetime.now(UTC).date()
    if public_authority(config):
        return looked(AREA, "certificate", lambda: [public(there.certificate_until, today, hint=up(there.stack))])
    if config.edge.provider != "cloudflare":
        return []
    found = looked(AREA, "networks", lambda: _networks(there))
    return [*found, *looked(AREA, "origin", lambda: [renewal(there.certificate_until, today, hint=up(there.stack))])]


def _networks(there: Outputs) -> Iterator[Check]:
    from vre.edge import ranges

    published = ranges.published().networks
    yield compared(published, [ip_network(each) for each in there.visitors], hint=f"{up(there.stack)} opens and closes")


def compared(published: Iterable[Network], admitted: Iterable[Network], *, hint: str) -> Check:
    """Judge two lists of networks, however they are divided. Pure."""
    now, then = _whole(published), _whole(admitted)
    if now == then:
        return good(AREA, "networks", f"the {len(now)} that Cloudflare publishes are let in, and no others")
    told = [f"not let in: {', '.join(sorted(now - then))}"] if now - then else []
    told += [f"let in, but not Cloudflare's: {', '.join(sorted(then - now))}"] if then - now else []
    return bad(AREA, "networks", "; ".join(told), hint)


def renewal(until: str, today: date, *, hint: str) -> Check:
    """Judge when the certificates between Cloudflare and the origin end. Pure. Raises ValueError for what is no day."""
    end = date.fromisoformat(until[:10])
    told = f"the certificate that Cloudflare verifies lasts until {end}"
    if end <= today:
        return bad(AREA, "origin", told, hint)
    return warning(AREA, "origin", told, hint) if end - today < DUE else good(AREA, "origin", told)


def public(until: str, today: date, *, hint: str) -> Check:
    """Judge when a public authority's certificate ends. Pure. Raises ValueError for what is no day."""
    end = date.fromisoformat(until[:10])
    told = f"the certificate that browsers see lasts until {end} ({(end - today).days} days)"
    if end <= today:
        return bad(AREA, "certificate", told, hint)
    return warning(AREA, "certificate", told, hint) if end - today < PUBLIC_DUE else good(AREA, "certificate", told)


def _whole(networks: Iterable[Network]) -> set[str]:
    every = list(networks)
    four = collapse_addresses(each for each in every if isinstance(each, IPv4Network))
    six = collapse_addresses(each for each in every if isinstance(each, IPv6Network))
    return {str(each) for each in (*four, *six)}
