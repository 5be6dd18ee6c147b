"""Cloudflare's own networks: read as published, checked, kept; a copy lies here for when nothing can be read."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from ipaddress import IPv6Network, ip_network
from pathlib import Path
from typing import Any

import httpx

from vre.edge import api
from vre.errors import VreError
from vre.paths import state
from vre.policy import Network

COPY = Path(__file__).parent / "ranges.json"
TIMEOUT = 4.0
"""Seconds that each step of a look at the published lists may take: every preview waits for it."""
FEWEST = {4: 5, 6: 3}
MOST = 100
WIDEST = {4: 12, 6: 28}
"""How many networks each list may have, and how short a prefix: Cloudflare's widest are a /13 and a /29."""


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Both lists, and the day on which they were read."""

    on: date
    networks: tuple[Network, ...]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is used now; `fault` says why it is not what is published at this moment, `source` then what it is."""

    ranges: Ranges
    source: str = ""
    fault: str = ""

    @property
    def warning(self) -> str:
        """What somebody should know; empty where the published lists were read."""
        if not self.fault:
            return ""
        return f"Cloudflare's networks could not be read ({self.fault}): {self.source} of {self.ranges.on} is used"


def pinned() -> Ranges:
    """Return the copy in this release."""
    return parse(json.loads(COPY.read_text()))


def kept() -> Ranges | None:
    """Return what was last read here; nothing where nothing was, or where it is damaged."""
    try:
        return parse(json.loads(_place().read_text()))
    except (OSError, ValueError, VreError):
        return None


def known() -> tuple[Ranges, str]:
    """Return the newer of what was last read here and the copy in this release, and which it is. No network."""
    here, copy = kept(), pinned()
    return (here, "the list read here last,") if here and here.on >= copy.on else (copy, "the copy in this release,")


def refresh() -> Look:
    """Read the published lists and keep them; where that fails, say what is used instead."""
    try:
        found = published()
    except VreError as error:
        ranges, source = known()
        return Look(ranges=ranges, source=source, fault=error.message)
    keep(found, _place())
    return Look(ranges=found)


def published() -> Ranges:
    """Return both published lists. Raises VreError when they cannot be read, or cannot be right.

    https://developers.cloudflare.com/api/resources/ips
    """
    try:
        answer = httpx.get(f"{api.address()}/ips", timeout=TIMEOUT, follow_redirects=False)
        told = answer.raise_for_status().json()["result"]
        lists = {"ipv4": told["ipv4_cidrs"], "ipv6": told["ipv6_cidrs"]}
    except httpx.HTTPError as error:
        raise VreError(str(error).split("\n")[0] or type(error).__name__) from None
    except (ValueError, TypeError, KeyError):
        raise VreError("the answer holds no lists") from None
    return parse({"on": datetime.now(UTC).date().isoformat(), **lists})


def parse(told: Mapping[str, Any]) -> Ranges:
    """Return checked lists. Raises VreError for lists that would open the door to others, or close it to all."""
    try:
        found = {4: _sorted(told["ipv4"]), 6: _sorted(told["ipv6"])}
        on = date.fromisoformat(told["on"])
    except (KeyError, TypeError, ValueError) as error:
        raise VreError(f"not a list of networks: {error}") from None
    for version, networks in found.items():
        _check(version, networks)
    return Ranges(on=on, networks=(*found[4], *found[6]))


def _sorted(told: Sequence[str]) -> list[Network]:
    if not isinstance(told, list):
        raise TypeError("no list")
    return sorted({ip_network(each) for each in told}, key=lambda each: (int(each.network_address), each.prefixlen))


def _check(version: int, networks: Sequence[Network]) -> None:
    if not FEWEST[version] <= len(networks) <= MOST:
        raise VreError(f"{len(networks)} IPv{version} networks: that cannot be all of them, and no more")
    for network in networks:
        if network.version != version:
            raise VreError(f"{network} is no IPv{version} network")
        if network.prefixlen < WIDEST[version]:
            raise VreError(f"{network} is wider than any network of Cloudflare's")
        if not _public(network):
            raise VreError(f"{network} is no public network")


def _public(network: Network) -> bool:
    mapped = isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None
    return network.is_global and not network.is_multicast and not mapped


def keep(ranges: Ranges, place: Path) -> None:
    """Write lists to a file, whole or not at all."""
    texts = {f"ipv{version}": [str(each) for each in ranges.networks if each.version == version] for version in (4, 6)}
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=place.parent)
    with os.fdopen(handle, "w") as file:
        file.write(json.dumps({"on": ranges.on.isoformat(), **texts}, indent=2) + "\n")
    Path(name).replace(place)


def _place() -> Path:
    return state() / "cloudflare-ranges.json"
