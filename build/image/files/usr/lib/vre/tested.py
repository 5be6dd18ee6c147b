"""Which state of Debian's archive this machine takes: the newest that was tested, by the signed word of the repository.

Run at the first boot, and by patch.py before every `apt-get update`. /etc/vre/archive.json says what is wanted:
`{"from": "tested", "repository": ADDRESS, "archive": PATTERN}`; without it, or with `newest`, Debian's own sources
stand as they were. Python's standard library only. Ends with 1, and nothing is changed, when the word cannot be had or
trusted.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import places

STATEMENT = "tested"
"""The file's name in the repository, beside InRelease."""
FORM = re.compile(r"Moment: ([0-9]{8}T[0-9]{6}Z)\nAnnounced: ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)")
LARGEST = 16 * 1024
"""Bytes: a statement is two lines and a signature."""
FETCH = ("/usr/lib/apt/apt-helper", "-oAcquire::Retries=3", "download-file")
"""apt's own way out, as apt's own account: the firewall lets nobody else reach repositories."""
SOURCES = """Types: deb
URIs: {}
Suites: {}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
Check-Valid-Until: no
"""
"""An old state of the archive has expired by Debian's word; how old it may be is what the statement says."""


class Untrusted(Exception):
    """The statement cannot be had, is not signed by the repository's key, or takes the machine back."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """That the archive as it was at `moment` was tested; both are UTC, in the forms that FORM has."""

    moment: str
    announced: str


class Places(places.Places):
    """Where things are."""

    WHERE: ClassVar[Mapping[str, str]] = {
        "settings": "etc/vre/archive.json",
        "key": "etc/apt/keyrings/vre.asc",
        "release": "etc/os-release",
        "newest": "etc/apt/sources.list.d/debian.sources",
        "aside": "etc/apt/sources.list.d/debian.sources.disabled",
        "sources": "etc/apt/sources.list.d/debian-tested.sources",
        "taken": "var/lib/vre/archive.json",
        "fetched": "run/vre/fetched",
        "verified": "run/vre/tested",
    }


def parse(text: str) -> Statement:
    """Return the statement that a text is. Raises ValueError for any other text."""
    found = FORM.fullmatch(text.removesuffix("\n"))
    if found is None:
        raise ValueError("it does not say a moment and when that was announced")
    datetime.strptime(found[1], "%Y%m%dT%H%M%SZ")
    datetime.strptime(found[2], "%Y-%m-%dT%H:%M:%SZ")
    return Statement(moment=found[1], announced=found[2])


def sources(pattern: str, moment: str, suite: str) -> str:
    """Return where Debian's packages come from at a moment, in apt's deb822 form."""
    suites = {"debian": f"{suite} {suite}-updates", "debian-security": f"{suite}-security"}
    return "\n".join(
        SOURCES.format(pattern.replace("{archive}", archive).replace("{moment}", moment).rstrip("/") + "/", named)
        for archive, named in suites.items()
    )


def settle(places: Places) -> str:
    """Bring the sources to what is wanted; return what was done. Raises Untrusted, with nothing changed."""
    wanted = json.loads(places.settings.read_text()) if places.settings.exists() else {}
    if wanted.get("from") != "tested":
        return give_back(places)
    statement = ask(places, wanted["repository"])
    before = last(places)
    if statement.moment < before:
        raise Untrusted(f"it takes the machine back: from {before} to {statement.moment}")
    take(places, statement, wanted["archive"])
    return f"Debian's archive as it was tested: {statement.moment}, announced {statement.announced}"


def ask(places: Places, repository: str) -> Statement:
    """Return the repository's statement. Raises Untrusted when it cannot be had or was not signed with its key."""
    folder = places.fetched
    for_apt(folder)
    file = folder / STATEMENT
    # A rest of an earlier one would be gone on with.
    file.unlink(missing_ok=True)
    places.verified.unlink(missing_ok=True)
    run(*FETCH, f"{repository.rstrip('/')}/{STATEMENT}", str(file))
    if file.stat().st_size > LARGEST:
        raise Untrusted(f"it has more than {LARGEST} bytes")
    run("sqv", "--keyring", str(places.key), "--output", str(places.verified), "--cleartext", str(file))
    try:
        return parse(places.verified.read_text())
    except ValueError as error:
        raise Untrusted(f"what is signed is no statement: {error}") from error


def for_apt(folder: Path) -> None:
    """Make a folder that what is fetched may be written into."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError, LookupError):  # apt's own account exists wherever this is root's to give
        shutil.chown(folder, "_apt")


def run(*words: str) -> None:
    """Run a command. Raises Untrusted with what it said."""
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, env=env)
    if done.returncode:
        raise Untrusted(f"{shlex.join(words)}: exit code {done.returncode}\n{(done.stdout + done.stderr).strip()}")


def last(places: Places) -> str:
    """Return the moment that was taken last; empty when none was."""
    try:
        return str(json.loads(places.taken.read_text())["moment"])
    except (OSError, ValueError, KeyError):
        return ""


def take(places: Places, statement: Statement, pattern: str) -> None:
    """Have apt look at a moment. It is noted first: whatever breaks off here, there is no way back behind it."""
    names = dict(line.split("=", 1) for line in places.release.read_text().splitlines() if "=" in line)
    made = sources(pattern, statement.moment, names["VERSION_CODENAME"].strip('"'))
    if statement.moment != last(places):
        write(places.taken, _noted(statement))
    # Without Debian's sources apt finds nothing new; with both it would find what nobody tested.
    if places.newest.exists():
        places.newest.replace(places.aside)
    if not places.sources.exists() or places.sources.read_text() != made:
        write(places.sources, made)


def _noted(statement: Statement) -> str:
    told: Mapping[str, str] = {
        "moment": statement.moment,
        "announced": statement.announced,
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(told, indent=1, sort_keys=True) + "\n"


def give_back(places: Places) -> str:
    """Have apt look at Debian's own sources again, where they were put aside."""
    if places.aside.exists():
        places.aside.replace(places.newest)
    places.sources.unlink(missing_ok=True)
    places.taken.unlink(missing_ok=True)
    return "Debian's archive as it is"


def write(place: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name}.new")
    with beside.open("w") as sink:
        sink.write(text)
        sink.flush()
        os.fsync(sink.fileno())
    beside.replace(place)


def main(root: Path = Path("/")) -> int:
    """Settle, and say what was done or what is wrong."""
    try:
        print(settle(Places(root=root)))
    except Untrusted as error:
        print(f"which state of Debian's archive was tested is not known: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
