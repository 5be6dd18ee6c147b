"""Cloudflare's networks: what is taken for them, what is refused, and what is used when nothing can be read."""

import json
from collections.abc import Iterator
from datetime import date
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vre import clouds
from vre.cli import edge
from vre.cli.checks import State
from vre.config import Config
from vre.edge import cloudflare, ranges
from vre.errors import VreError
from vre.policy import Peer

FOUR = ["173.245.48.0/20", "103.21.244.0/22", "104.16.0.0/13", "131.0.72.0/22", "162.158.0.0/15"]
SIX = ["2400:cb00::/32", "2606:4700::/32", "2a06:98c0::/29"]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL alice"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    yield tmp_path


def told(four: Any = FOUR, six: Any = SIX, on: str = "2026-11-21") -> dict[str, Any]:
    return {"on": on, "ipv4": four, "ipv6": six}


def answers(monkeypatch: pytest.MonkeyPatch, *, status: int = 200, four: Any = FOUR, six: Any = SIX) -> list[str]:
    asked: list[str] = []

    def get(url: str, **_: Any) -> httpx.Response:
        asked.append(url)
        body = {"success": True, "result": {"ipv4_cidrs": four, "ipv6_cidrs": six}}
        return httpx.Response(status, json=body, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)
    return asked


def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(url: str, **_: Any) -> httpx.Response:
        raise httpx.ConnectError("Name or service not known")

    monkeypatch.setattr(httpx, "get", get)


def test_the_copy_in_the_release_is_right() -> None:
    copy = ranges.pinned()
    assert {4, 6} == {network.version for network in copy.networks}
    assert ip_network("104.16.0.0/13") in copy.networks
    assert ip_network("2606:4700::/32") in copy.networks
    assert len(copy.networks) == 22


@pytest.mark.parametrize(
    ("lists", "reason"),
    [
        (told(four=[]), "0 IPv4 networks"),
        (told(six=[]), "0 IPv6 networks"),
        (told(four=FOUR[:4]), "4 IPv4 networks"),
        (told(four=["0.0.0.0/0", *FOUR]), "wider"),
        (told(six=["::/0", *SIX]), "wider"),
        (told(four=["104.0.0.0/11", *FOUR]), "wider"),
        (told(four=["10.0.0.0/12", *FOUR]), "no public"),
        (told(four=["192.168.0.0/16", *FOUR]), "no public"),
        (told(four=["127.0.0.0/16", *FOUR]), "no public"),
        (told(four=["169.254.169.254/32", *FOUR]), "no public"),
        (told(four=["224.0.0.0/16", *FOUR]), "no public"),
        (told(six=["fd00::/32", *SIX]), "no public"),
        (told(six=["fe80::/64", *SIX]), "no public"),
        (told(six=["::ffff:104.16.0.0/109", *SIX]), "no public"),
        (told(four=[*FOUR, "2400:cb00::/32"]), "not a list|no IPv4"),
        (told(four=[*FOUR, "104.16.0.1/13"]), "not a list"),
        (told(four=[*FOUR, "a text"]), "not a list"),
        (told(four="173.245.48.0/20"), "not a list"),
        (told(four=[f"104.{n // 250}.{n % 250}.0/24" for n in range(300)]), "300 IPv4"),
        ({"on": "2026-11-21", "ipv4": FOUR}, "not a list"),
        (told(on="yesterday"), "not a list"),
    ],
)
def test_lists_that_cannot_be_right_are_refused(lists: dict[str, Any], reason: str) -> None:
    with pytest.raises(VreError, match=reason):
        ranges.parse(lists)


@given(st.lists(st.ip_addresses().map(str), max_size=12))
def test_no_list_of_others_networks_is_ever_empty_or_wide(addresses: list[str]) -> None:
    four = [f"{address}/32" for address in addresses if "." in address]
    six = [f"{address}/128" for address in addresses if ":" in address]
    try:
        found = ranges.parse(told(four=four, six=six))
    except VreError:
        return
    assert len(found.networks) >= sum(ranges.FEWEST.values())
    assert all(network.is_global for network in found.networks)


def test_what_is_read_is_kept_and_used_without_a_network_later(
    monkeypatch: pytest.MonkeyPatch, own_state: Path
) -> None:
    asked = answers(monkeypatch, four=[*FOUR, "8.6.112.0/24"])
    assert cloudflare.refresh() == ""
    assert asked == ["https://api.cloudflare.com/client/v4/ips"]
    silent(monkeypatch)
    assert ip_network("8.6.112.0/24") in cloudflare.visitors()
    assert "last" in cloudflare.refresh()
    assert ip_network("8.6.112.0/24") in cloudflare.visitors()
    assert [path.name for path in own_state.iterdir()] == ["cloudflare-ranges.json"]


def test_where_nothing_was_ever_read_the_copy_is_used_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    silent(monkeypatch)
    assert cloudflare.refresh() == (
        "Cloudflare's networks could not be read (Name or service not known): "
        "the copy in this release, of 2023-09-28 is used"
    )
    assert cloudflare.visitors() == ranges.pinned().networks


@pytest.mark.parametrize("bad", [{"status": 500}, {"four": ["0.0.0.0/0", *FOUR]}, {"six": []}, {"four": None}])
def test_a_bad_answer_changes_nothing(monkeypatch: pytest.MonkeyPatch, bad: dict[str, Any]) -> None:
    answers(monkeypatch, four=[*FOUR, "8.6.112.0/24"])
    cloudflare.refresh()
    before = cloudflare.visitors()
    answers(monkeypatch, **bad)
    assert "could not be read" in cloudflare.refresh()
    assert cloudflare.visitors() == before


def test_the_order_of_a_list_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch)
    cloudflare.refresh()
    before = cloudflare.visitors()
    answers(monkeypatch, four=[*reversed(FOUR), FOUR[0]], six=list(reversed(SIX)))
    cloudflare.refresh()
    assert cloudflare.visitors() == before


def test_a_damaged_or_older_file_is_passed_over(own_state: Path) -> None:
    place = own_state / "cloudflare-ranges.json"
    place.write_text("{")
    assert ranges.known()[0] == ranges.pinned()
    place.write_text(json.dumps(told(on="2020-01-01")))
    assert ranges.known()[0] == ranges.pinned()
    place.write_text(json.dumps(told(on="2030-01-01")))
    assert ranges.known()[0].on == date(2030, 1, 1)


def test_only_https_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch)
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", "http://api.example.org")
    assert "not https" in cloudflare.refresh()
    assert asked == []


@pytest.mark.requirement("P-100")
def test_the_policy_lets_in_cloudflare_alone_on_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = {
        "name": "phenome",
        "cloud": {"provider": "openstack", "region": "R", "public": True, "external-network": "public"},
        "access": {"keys": [KEY], "operators": ["198.51.100.0/24"]},
        "edge": {"provider": "cloudflare", "zone": "example.org"},
    }
    monkeypatch.setattr(httpx, "get", None)  # to know them asks nobody
    policy = clouds.policy(Config.model_validate(stack))
    assert policy.of(Peer.EDGE) == ranges.pinned().networks
    assert {network.version for network in policy.of(Peer.EDGE)} == {4, 6}


@pytest.mark.parametrize(
    ("published", "admitted", "state", "said"),
    [
        (FOUR, list(reversed(FOUR)), State.GOOD, "5 that Cloudflare publishes"),
        (["104.16.0.0/13"], ["104.16.0.0/14", "104.20.0.0/14"], State.GOOD, "1 that"),
        ([*FOUR, "8.6.112.0/24"], FOUR, State.BAD, "not let in: 8.6.112.0/24"),
        (FOUR[:4], FOUR, State.BAD, "not Cloudflare's: 162.158.0.0/15"),
        ([*FOUR, *SIX], FOUR, State.BAD, "2a06:98c0::/29"),
    ],
)
def test_a_running_vre_is_compared_with_what_is_published(
    published: list[str], admitted: list[str], state: State, said: str
) -> None:
    check = edge.compared(map(ip_network, published), map(ip_network, admitted), hint="vre up")
    assert (check.state, said in check.found) == (state, True)


@pytest.mark.parametrize(
    ("until", "state"),
    [
        ("2027-11-21 15:00:00 +0000 UTC", State.GOOD),
        ("2027-01-20T00:00:00+00:00", State.GOOD),
        ("2027-01-19T00:00:00+00:00", State.WARNING),
        ("2026-11-21 00:00:00 +0000 UTC", State.BAD),
    ],
)
def test_a_certificate_at_the_origin_that_is_due_is_told(until: str, state: State) -> None:
    assert edge.renewal(until, date(2026, 11, 21), hint="vre up").state == state
