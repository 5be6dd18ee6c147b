"""Known vulnerabilities of what a bill of materials names: by ecosystem, by range, and what of it is urgent."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.unit.releases import ID
from tests.unit.test_release_build import INSIDE
from vre.errors import VreError
from vre.release import bill, vulnerabilities
from vre.release.vulnerabilities import Part

WORST = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
TWICE = [{"introduced": "0"}, {"fixed": "1.5.0"}, {"introduced": "2.0.0"}, {"fixed": "2.0.2"}]
NET = Part(ecosystem="Go", name="golang.org/x/net", version="0.50.0")


def record(ecosystem: str, name: str, *events: dict[str, str], **more: Any) -> dict[str, Any]:
    ranges = [{"type": "SEMVER" if ecosystem in {"Go", "npm"} else "ECOSYSTEM", "events": list(events)}]
    affected = {"package": {"ecosystem": ecosystem, "name": name}, "ranges": ranges}
    return {"id": "OSV-1", "aliases": ["GHSA-x", "CVE-2026-1"], "affected": [affected], **more}


def hit(part: Part, *events: dict[str, str]) -> tuple[bool, str]:
    found = vulnerabilities.look([part], [record(part.ecosystem, part.name, *events)])
    return bool(found), found[0].fixed if found else ""


def test_a_bill_names_parts_as_the_database_does() -> None:
    assert vulnerabilities.parts(bill.text(ID, INSIDE)) == {
        Part(ecosystem="Debian:13", name="b", version="5"),
        Part(ecosystem="Go", name="go.etcd.io/etcd/server/v3", version="3.6.14"),
        NET,
        Part(ecosystem="npm", name="@jupyter/x", version="1.0.0"),
        Part(ecosystem="PyPI", name="pip", version="1"),
    }


@pytest.mark.requirement("H-22")
@pytest.mark.parametrize(
    ("version", "events", "expected"),
    [
        ("1.2.3", [{"introduced": "0"}, {"fixed": "1.2.4"}], (True, "1.2.4")),
        ("1.2.4", [{"introduced": "0"}, {"fixed": "1.2.4"}], (False, "")),
        ("1.10.0", [{"introduced": "0"}, {"fixed": "1.9.0"}], (False, "")),
        ("1.2.4-rc.1", [{"introduced": "0"}, {"fixed": "1.2.4"}], (True, "1.2.4")),
        ("1.2.3", [{"introduced": "1.3.0"}, {"fixed": "1.3.2"}], (False, "")),
        (
            "2.0.1",
            [{"introduced": "0"}, {"fixed": "1.5.0"}, {"introduced": "2.0.0"}, {"fixed": "2.0.2"}],
            (True, "2.0.2"),
        ),
        ("1.7.0", TWICE, (False, "")),
        ("1.2.3", [{"introduced": "0"}, {"last_affected": "1.2.3"}], (True, "")),
        ("1.2.4", [{"introduced": "0"}, {"last_affected": "1.2.3"}], (False, "")),
        ("1.2.3", [{"introduced": "0"}], (True, "")),
        ("1.2.3", [{"introduced": "1.2.3"}], (True, "")),
    ],
)
def test_a_range_is_evaluated(version: str, events: list[dict[str, str]], expected: tuple[bool, str]) -> None:
    assert hit(Part(ecosystem="Go", name="x", version=version), *events) == expected


def test_versions_are_compared_as_their_ecosystem_does() -> None:
    debian = Part(ecosystem="Debian:13", name="openssl", version="3.5.1-1+deb13u1")
    assert hit(debian, {"introduced": "0"}, {"fixed": "3.5.1-1+deb13u2"}) == (True, "3.5.1-1+deb13u2")
    assert hit(debian, {"introduced": "0"}, {"fixed": "3.5.1-1+deb13u1"}) == (False, "")
    assert hit(debian, {"introduced": "0"}, {"fixed": "1:1.0-1"}) == (True, "1:1.0-1")
    python = Part(ecosystem="PyPI", name="x", version="1.0rc1")
    assert hit(python, {"introduced": "0"}, {"fixed": "1.0"}) == (True, "1.0")


def test_another_release_of_debian_another_name_and_a_withdrawn_record_do_not_count() -> None:
    part = Part(ecosystem="Debian:13", name="openssl", version="1")
    known = [
        record("Debian:12", "openssl", {"introduced": "0"}),
        record("Debian:13", "openssh", {"introduced": "0"}),
        record("Debian:13", "openssl", {"introduced": "0"}, withdrawn="2026-01-01T00:00:00Z"),
    ]
    assert vulnerabilities.look([part], known) == []


def test_a_version_that_is_named_is_affected_without_a_range() -> None:
    affected = [{"package": {"ecosystem": "PyPI", "name": "x"}, "versions": ["odd version", "1"]}]
    for version, expected in (("odd version", 1), ("1", 1), ("2", 0)):
        part = Part(ecosystem="PyPI", name="x", version=version)
        assert len(vulnerabilities.look([part], [{"id": "A", "affected": affected}])) == expected


@pytest.mark.parametrize(
    ("more", "fixed", "urgent"),
    [
        ({"severity": [{"type": "CVSS_V3", "score": WORST}]}, True, True),
        ({"severity": [{"type": "CVSS_V3", "score": WORST}]}, False, False),
        ({"severity": [{"type": "CVSS_V3", "score": WORST.replace("C:H/I:H/A:H", "C:L/I:N/A:N")}]}, True, False),
        ({"severity": [{"type": "CVSS_V3", "score": "no vector"}]}, True, False),
        ({"database_specific": {"severity": "CRITICAL"}}, True, True),
        ({"database_specific": {"severity": "HIGH"}}, True, False),
        ({}, True, False),
    ],
)
def test_only_what_is_critical_and_can_be_mended_is_urgent(more: dict[str, Any], fixed: bool, urgent: bool) -> None:
    events = [{"introduced": "0"}, *([{"fixed": "0.51.0"}] if fixed else [])]
    [found] = vulnerabilities.look([NET], [record("Go", NET.name, *events, **more)])
    assert (found.id, found.urgent) == ("CVE-2026-1", urgent)


@pytest.mark.requirement("H-22")
def test_the_worst_comes_first() -> None:
    events = [{"introduced": "0"}]
    mild, worst = (record("Go", NET.name, *events, id=name, aliases=[]) for name in ("MILD", "WORST"))
    worst["severity"] = [{"type": "CVSS_V3", "score": WORST}]
    assert [each.id for each in vulnerabilities.look([NET], [mild, worst])] == ["WORST", "MILD"]


def test_a_database_is_a_zip_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "A.json").write_text(json.dumps({"id": "A"}))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("A.json", json.dumps({"id": "A"}))
    for place in ("folder", "all.zip"):
        assert list(vulnerabilities.records(tmp_path / place)) == [{"id": "A"}]


def test_a_database_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_text("no archive")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "A.json").write_text("{")
    for name in ("empty", "broken.zip", "bad", "nowhere.zip"):
        with pytest.raises(VreError, match=name):
            list(vulnerabilities.records(tmp_path / name))


def test_a_bill_that_is_none_is_refused() -> None:
    for text in (b"", b"[]", b"{}"):
        with pytest.raises(VreError, match="bill of materials"):
            vulnerabilities.parts(text)
