"""Known vulnerabilities of what a bill of materials names, by a database that lies here: nothing is asked of anybody.

The database is OSV's: records as JSON, in a folder or in a zip file such as it publishes for each ecosystem.
https://ossf.github.io/osv-schema/
"""

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from cvss import CVSS3, CVSS4
from cvss.exceptions import CVSSError
from univers.versions import DebianVersion, InvalidVersion, PypiVersion, SemverVersion, Version

from vre.errors import VreError

SUITES = {"bookworm": "12", "trixie": "13", "forky": "14"}
"""Debian's releases by number, as OSV names them."""
CRITICAL = 9.0
"""The least score that CVSS calls critical: https://www.first.org/cvss/v3.1/specification-document"""
KINDS: Mapping[str, type[Version]] = {
    "Debian": DebianVersion,
    "Go": SemverVersion,
    "PyPI": PypiVersion,
    "npm": SemverVersion,
}


@dataclass(frozen=True, kw_only=True, order=True)
class Part:
    """What may be vulnerable, as OSV names it; of Debian's packages the source."""

    ecosystem: str
    name: str
    version: str


@dataclass(frozen=True, kw_only=True, order=True)
class Found:
    """A known vulnerability of a part; `score` by CVSS, 0 where nobody gave one, `fixed` empty where nothing is."""

    part: Part
    id: str
    score: float
    fixed: str
    about: str = ""

    @property
    def urgent(self) -> bool:
        """Whether it is critical, and a version is there that mends it."""
        return self.score >= CRITICAL and bool(self.fixed)


def parts(bill: bytes) -> set[Part]:
    """Return what a bill of materials names and OSV knows. Raises VreError when it is no SPDX in JSON."""
    try:
        packages = json.loads(bill)["packages"]
        purls = [str(each["referenceLocator"]) for package in packages for each in package.get("externalRefs", [])]
    except (ValueError, KeyError, TypeError) as error:
        raise VreError(f"the bill of materials cannot be read: {error}") from None
    return {part for purl in purls if (part := _part(purl))}


def _part(purl: str) -> Part | None:
    path, _, query = purl.removeprefix("pkg:").partition("?")
    kind, _, rest = path.partition("/")
    name, _, version = rest.rpartition("@")
    name, version = unquote(name), unquote(version)
    if kind == "deb":
        told = {key: values[0] for key, values in parse_qs(query.replace("+", "%2B")).items()}
        source, _, of_source = told.get("upstream", "").partition("@")
        ecosystem = f"Debian:{SUITES.get(told.get('distro', ''), '')}"
        return Part(ecosystem=ecosystem, name=source or name.partition("/")[2], version=of_source or version)
    known = {"golang": "Go", "pypi": "PyPI", "npm": "npm"}
    return Part(ecosystem=known[kind], name=name, version=version.removeprefix("v")) if kind in known else None


def records(database: Path) -> Iterator[Mapping[str, Any]]:
    """Yield every record of a database. Raises VreError when there is none, or one cannot be read."""
    count = 0
    try:
        for text in _texts(database):
            count += 1
            yield json.loads(text)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise VreError(f"{database} cannot be read: {error}", hint="a zip file or folder of OSV's records") from None
    if not count:
        raise VreError(f"{database} holds no records", hint="a zip file or folder of OSV's records")


def _texts(database: Path) -> Iterator[bytes]:
    if database.is_dir():
        yield from (path.read_bytes() for path in sorted(database.rglob("*.json")))
        return
    with zipfile.ZipFile(database) as archive:
        yield from (archive.read(name) for name in archive.namelist() if name.endswith(".json"))


def look(there: Iterable[Part], known: Iterable[Mapping[str, Any]]) -> list[Found]:
    """Return which parts have which known vulnerabilities, the worst first. Pure."""
    by_name: dict[tuple[str, str], list[Part]] = {}
    for part in there:
        by_name.setdefault((part.ecosystem, part.name), []).append(part)
    found = {each for record in known if not record.get("withdrawn") for each in _matches(record, by_name)}
    return sorted(found, key=lambda each: (-each.score, each.part, each.id))


def _matches(record: Mapping[str, Any], there: Mapping[tuple[str, str], Sequence[Part]]) -> Iterator[Found]:
    for affected in record.get("affected", []):
        package = affected.get("package", {})
        for part in there.get((package.get("ecosystem", ""), package.get("name", "")), []):
            hit, fixed = _affected(part, affected)
            if hit:
                names = [name for name in record.get("aliases", []) if name.startswith("CVE-")]
                score = max(_score(record.get("severity", [])), _score(affected.get("severity", [])), _word(record))
                about = str(record.get("summary") or "")
                yield Found(part=part, id=(names or [str(record["id"])])[0], score=score, fixed=fixed, about=about)


def _affected(part: Part, affected: Mapping[str, Any]) -> tuple[bool, str]:
    """Say whether a part is among the affected versions, and which version mends it."""
    kind = KINDS[part.ecosystem.partition(":")[0]]
    try:
        own = kind(part.version)
        for each in affected.get("ranges", []):
            if each.get("type") in {"SEMVER", "ECOSYSTEM"}:
                hit, fixed = _within(own, kind, each.get("events", []))
                if hit:
                    return True, fixed
    except InvalidVersion:
        pass  # a version that cannot be compared can still be named
    return part.version in affected.get("versions", []), ""


def _within(own: Version, kind: type[Version], events: Iterable[Mapping[str, str]]) -> tuple[bool, str]:
    """Evaluate a range's events in their order: https://ossf.github.io/osv-schema/#evaluation"""
    points = [(name, text) for event in events for name, text in event.items() if name != "limit"]
    begun = [text for name, text in points if name == "introduced" and (text == "0" or kind(text) <= own)]
    ends = [text for name, text in points if name == "fixed"]
    lasts = [text for name, text in points if name == "last_affected"]
    since = max((kind(text) for text in begun if text != "0"), default=None)
    over = [text for text in ends if kind(text) <= own and (since is None or kind(text) > since)]
    over += [text for text in lasts if kind(text) < own and (since is None or kind(text) >= since)]
    later = sorted((text for text in ends if kind(text) > own), key=kind)
    return bool(begun) and not over, later[0] if later else ""


def _score(severity: Iterable[Mapping[str, str]]) -> float:
    scores = [0.0]
    for each in severity:
        try:
            kinds = {"CVSS_V3": CVSS3, "CVSS_V4": CVSS4}
            if each.get("type") in kinds:
                scores.append(float(kinds[each["type"]](each.get("score", "")).base_score))
        except CVSSError:
            continue  # a vector that is none says nothing
    return max(scores)


def _word(record: Mapping[str, Any]) -> float:
    """Return the score that a word of the database stands for, where it gives no vector."""
    words = {"CRITICAL": CRITICAL, "HIGH": 7.0, "MODERATE": 4.0, "MEDIUM": 4.0, "LOW": 0.1}
    return words.get(str(record.get("database_specific", {}).get("severity", "")).upper(), 0.0)
