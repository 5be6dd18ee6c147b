"""Which moment of Debian's archive was tested: one statement beside the repository's list, signed with its key.

Machines read it with build/image/files/usr/lib/vre/tested.py. Only a release with a signed result of a test that passed
and ended with a launch is announced, so nobody can announce a moment that was not tested by saying so.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from securesystemslib.signer import SSlibKey

from vre.errors import VreError
from vre.image import formats
from vre.packages import repository
from vre.release.publish import LAUNCH
from vre.release.verify import Wanted, tested, verify

NAME = "tested"


def announce(release: Path, target: Path, home: Path, keys: Sequence[SSlibKey]) -> str:
    """Announce the moment that a tested release was made from to the repository's machines; return the moment.

    `home` is where the repository's key lies. Raises Refused with what is wrong with the release, VreError where it was
    not tested or has no moment, the repository is another's, or a newer moment is announced already.
    """
    moment = tested_moment(release, keys)
    _ours(target, home)
    file = target / NAME
    before = announced(file.read_text()) if file.exists() else ""
    if moment < before:
        raise VreError(f"{before} is announced already, which is newer than {moment}", hint="no machine goes back")
    part = file.with_suffix(".part")
    part.write_text(repository.sign(statement(moment, datetime.now(UTC)), home))
    part.chmod(0o644)
    part.rename(file)
    return moment


def tested_moment(release: Path, keys: Sequence[SSlibKey]) -> str:
    """Return the moment of Debian's archive that a release was made from and passed its test with, launch included."""
    found = verify(release, Wanted(keys=keys, known=tuple(formats.FORMATS)))
    name, moment = found.manifest.id, found.manifest.moment
    if LAUNCH not in tested(found, keys):
        raise VreError(f"release {name} was tested without a launch", hint=f"vre image test {release} --launch")
    if not moment:
        raise VreError(
            f"release {name} was not made from one moment of Debian's archive",
            hint="build it with VRE_DEBIAN_MIRROR=https://mirror.example.org/{archive}/20261121T000000Z",
        )
    return moment


def statement(moment: str, at: datetime) -> str:
    """Return what is signed. Pure."""
    return f"Moment: {moment}\nAnnounced: {at:%Y-%m-%dT%H:%M:%SZ}\n"


def announced(text: str) -> str:
    """Return the moment in a statement of ours, empty where there is none. Pure."""
    found = re.search(r"^Moment: (\S+)$", text, re.MULTILINE)
    return found[1] if found else ""


def _ours(target: Path, home: Path) -> None:
    """Raise VreError unless machines that trust the repository trust the key that signs here."""
    key = target / repository.KEY
    if not key.is_file():
        raise VreError(f"{target} is no repository", hint=f"vre packages --to {target}")
    if key.read_bytes() != repository.ensure_key(home).read_bytes():
        raise VreError(
            f"the repository {target} is signed with another key than {home / repository.KEY}",
            hint="announce where the repository is published from, or bring its .vre/packages here",
        )
