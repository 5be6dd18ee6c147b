"""The stack file's `patches`: what machines are told of it, and which address it opens."""

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import tested
import yaml

from vre import access, clouds
from vre.clouds import site
from vre.clouds.site import Disk, Order
from vre.config import Config
from vre.errors import Refused
from vre.load import load
from vre.machine import patches
from vre.plan import plan
from vre.policy import Peer
from vre.stackfile import parse

URL = "https://packages.example.org/vre"
OLD = "https://m.example.org/{archive}/{moment}"
KEY = f"{access.PUBLIC}\n\nmDME\n-----END PGP PUBLIC KEY BLOCK-----\n"


def config(wanted: dict[str, Any], **more: Any) -> Config:
    whole = {"vre:cloud": {"provider": "libvirt"}, "vre:access": {"keys": [".vre/id_ed25519.pub"]}, **more}
    return load(parse(yaml.safe_dump({"config": {**whole, "vre:patches": wanted}}), Path("x")))


def told(asked: Config) -> dict[str, str]:
    stack, policy = plan(asked), clouds.policy(asked)
    order = Order(config=asked, plan=stack, policy=policy, image=Disk(path="", id=""))
    return site.told(order, stack.control)


def test_a_machine_is_told_its_window_and_whether_there_are_others() -> None:
    wanted = {"window": "22:00-04:00", "zone": "Europe/Berlin", "reboot": "by-hand"}
    one = json.loads(told(config(wanted))[patches.SETTINGS])
    assert one == {**wanted, "name": "local-control", "alone": True, "upgrade": True}
    two = json.loads(told(config({}, **{"vre:machines": {"workers": {"count": 1}}}))[patches.SETTINGS])
    assert (two["alone"], two["window"], two["zone"], two["reboot"]) == (False, "02:00-05:00", "UTC", "window")
    closed = config({}, **{"vre:cloud": {"provider": "libvirt", "mode": "isolated"}})
    assert json.loads(told(closed)[patches.SETTINGS])["upgrade"] is False


def test_a_repository_comes_with_its_key_and_nothing_else_may_sign_it(tmp_path: Path) -> None:
    (tmp_path / "vre.asc").write_text(KEY)
    files = told(config({"repository": URL, "key": str(tmp_path / "vre.asc")}))
    assert files[patches.KEY] == KEY
    assert files[patches.SOURCES].splitlines() == [
        "Types: deb", f"URIs: {URL}/", "Suites: ./", f"Signed-By: {patches.KEY}",
    ]  # fmt: skip
    assert set(told(config({}))) == {patches.SETTINGS, patches.ARCHIVE}


@pytest.mark.requirement("P-35")
@pytest.mark.parametrize(
    ("wanted", "archive"),
    [
        ({}, {"from": "newest"}),
        ({"repository": URL}, {"from": "newest"}),
        ({"repository": URL, "archive": OLD}, {"from": "tested", "repository": URL, "archive": OLD}),
        ({"repository": URL, "from": "newest"}, {"from": "newest"}),
        (
            {"repository": URL, "from": "tested", "archive": OLD},
            {"from": "tested", "repository": URL, "archive": OLD},
        ),
    ],
)
def test_machines_take_what_was_tested_wherever_somebody_says_what(
    wanted: dict[str, str], archive: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "vre.asc").write_text(KEY)
    files = told(config({**wanted, "key": str(tmp_path / "vre.asc")}))
    assert json.loads(files[patches.ARCHIVE]) == archive
    assert str(tested.Places().settings) == patches.ARCHIVE


def test_an_archive_with_an_address_is_admitted_too() -> None:
    wanted = {"repository": URL, "archive": "https://198.51.100.8/{archive}/{moment}"}
    mirrors = {"vre:outbound": {"mirrors": ["192.0.2.80/32"]}}
    found = clouds.policy(config(wanted, **mirrors)).of(Peer.MIRRORS)
    assert set(found) == {ip_network("192.0.2.80/32"), ip_network("198.51.100.8/32")}


def test_a_repositorys_key_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vre.asc"
    asked = config({"repository": URL, "key": str(file)})

    def faults() -> list[str]:
        return [found.reason for found in access.check(asked) if found.key == "vre:patches.key"]

    assert "cannot be read" in faults()[0]
    for text in ("x", "-----BEGIN PGP PRIVATE KEY BLOCK-----"):
        file.write_text(text)
        assert "no public key" in faults()[0]
    file.write_text(KEY)
    assert faults() == []


def test_a_repository_with_an_address_is_admitted_like_a_mirror_and_only_where_there_are_mirrors() -> None:
    mirrors = {"vre:outbound": {"mirrors": ["192.0.2.80/32"]}}
    found = clouds.policy(config({"repository": "https://198.51.100.7/vre"}, **mirrors)).of(Peer.MIRRORS)
    assert set(found) == {ip_network("192.0.2.80/32"), ip_network("198.51.100.7/32")}
    assert clouds.policy(config({"repository": URL}, **mirrors)).of(Peer.MIRRORS) == (ip_network("192.0.2.80/32"),)
    isolated = {"vre:cloud": {"provider": "libvirt", "mode": "isolated"}}
    assert clouds.policy(config({"repository": "https://198.51.100.7/vre"}, **isolated)).of(Peer.MIRRORS) == ()


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"window": "2 to 5"}, "is no window"),
        ({"window": "02:00-02:00"}, "begins when it ends"),
        ({"zone": "Mars/Base"}, "no time zone"),
        ({"zone": "US/Eastern"}, "no time zone that machines know"),
        ({"reboot": "never"}, "by-hand"),
        ({"repository": "http://packages.example.org"}, "no address of a repository"),
        ({"repository": "https://me:secret@packages.example.org"}, "no address of a repository"),
        ({"repository": "https://packages.example.org:8443/"}, "port 443"),
        ({"from": "tested"}, "nobody says what was tested"),
        ({"archive": OLD}, "nobody says what was tested"),
        ({"repository": URL, "from": "tested"}, "name where those are"),
        ({"from": "yesterday"}, "newest"),
        ({"repository": URL, "archive": "https://m.example.org/{archive}"}, "no {moment}"),
        ({"repository": URL, "archive": "https://m.example.org/"}, "no {archive} and no {moment}"),
        ({"repository": URL, "archive": "http://m.example.org/{archive}/{moment}"}, "no address"),
        ({"from": "newest", "archive": OLD}, "as long as machines take the newest"),
    ],
)
def test_what_cannot_be_meant_is_refused(wanted: dict[str, str], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        config(wanted)
