"""Releases into a folder that others read from: publish, promote, roll back. Locked, and nothing is half-seen."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock
from securesystemslib.signer import CryptoSigner, SSlibKey

from vre import atomic
from vre.errors import VreError
from vre.image import formats
from vre.progress import Report
from vre.release import channel, envelope, files, reading
from vre.release.channel import Channel, Pointer
from vre.release.place import Folder
from vre.release.verify import Release, Wanted, digest, tested, verify

PARTIAL = ".partial-"
LAUNCH = "launch"
"""The test that a release must have passed to be promoted: a whole launch from it."""


def publish(release: Path, target: Path, keys: Sequence[SSlibKey], report: Report) -> Release:
    """Copy a release into a target and return it as it lies there; one that is there already gets its test's result.

    Raises Refused with everything that is wrong with it, VreError where another release has its id.
    """
    report("checking signatures and digests")
    found = verify(release, Wanted(keys=keys, known=tuple(formats.FORMATS), room=target))
    with _locked(target):
        _clear(target)
        there = target / channel.RELEASES / found.manifest.id
        if there.exists():
            return _again(found, there, keys)
        _copy(found, there, report)
    return replace(found, folder=there)


def promote(target: Path, release_id: str, key: CryptoSigner, keys: Sequence[SSlibKey], report: Report) -> Channel:
    """Make a published release the current one and return the channel.

    Raises Refused with what is wrong with it, VreError where no signed result says that it passed its test.
    """
    folder = target / channel.RELEASES / release_id
    if not folder.is_dir():
        raise VreError(f"{release_id} is not published", hint=f"there are: {', '.join(published(target)) or 'none'}")
    with _locked(target):
        report("checking signatures and digests")
        release = verify(folder, Wanted(keys=keys, known=tuple(formats.FORMATS)))
        passed = tested(release, keys)
        if LAUNCH not in passed:
            raise VreError(
                f"release {release_id} was tested without a launch", hint=f"vre image test {folder} --launch"
            )
        pointer = Pointer(id=release_id, manifest=hashlib.sha256(release.told).hexdigest())
        before = now(target, keys)
        return _write(target, before, channel.promoted(before, pointer, datetime.now(UTC)), key)


def roll_back(target: Path, key: CryptoSigner, keys: Sequence[SSlibKey], report: Report) -> Channel:
    """Make the release before the current one the current one again and return the channel."""
    with _locked(target):
        before = now(target, keys)
        after = channel.rolled_back(before, datetime.now(UTC))
        if after.current:
            report("checking signatures and digests")
            verify(target / channel.RELEASES / after.current.id, Wanted(keys=keys, known=tuple(formats.FORMATS)))
        return _write(target, before, after, key)


def prune(target: Path, keep: int, key: CryptoSigner, keys: Sequence[SSlibKey], report: Report) -> list[str]:
    """Remove published releases but for the channel's two and the `keep` others published last; return their ids.

    First the channel forgets them, so that nobody is told of a release that is going.
    """
    with _locked(target):
        _clear(target)
        before = now(target, keys)
        gone = superfluous(before, _by_age(target), keep)
        _write(target, before, channel.without(before, gone), key)
        for each in gone:
            report(f"removing {each}")
            partial = target / channel.RELEASES / f"{PARTIAL}{each}"
            (target / channel.RELEASES / each).rename(partial)
            shutil.rmtree(partial)
    return gone


def superfluous(now: Channel, newest_first: Sequence[str], keep: int) -> list[str]:
    """Return which releases are neither current nor previous nor among the newest `keep` of the others. Pure."""
    named = {each.id for each in (now.current, now.previous) if each}
    return [each for each in newest_first if each not in named][keep:]


def _by_age(target: Path) -> list[str]:
    """Return the ids of the releases in a target, the one that was written last first."""
    releases = target / channel.RELEASES
    return sorted(published(target), key=lambda each: (releases / each).stat().st_mtime_ns, reverse=True)


def now(target: Path, keys: Sequence[SSlibKey]) -> Channel:
    """Return a target's channel, an empty one where nothing was promoted yet."""
    place = Folder(address=str(target))
    return reading.channel_at(place, keys) if (target / channel.FILE).exists() else reading.unwritten(place)


def published(target: Path) -> list[str]:
    """Return the ids of the releases in a target."""
    found = (target / channel.RELEASES).glob("*")
    return sorted(path.name for path in found if path.is_dir() and not path.name.startswith("."))


def _write(target: Path, before: Channel, after: Channel, key: CryptoSigner) -> Channel:
    if after != before:
        atomic.write(target / channel.FILE, envelope.sealed(channel.text(after), channel.KIND, key))
        reading.remember(str(target), after)
    return after


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    try:
        target.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target / ".lock", mode=0o644)
        with lock:
            yield
    except PermissionError as error:
        raise VreError(f"{error.filename or target} cannot be written", hint="publish as its owner") from None


def _clear(target: Path) -> None:
    """Remove what interrupted runs left. Only called with the lock held."""
    for folder in (target / channel.RELEASES).glob(f"{PARTIAL}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _copy(release: Release, there: Path, report: Report) -> None:
    """Copy beside the final place and move there in one step, each file read back before."""
    partial = there.with_name(f"{PARTIAL}{there.name}")
    partial.mkdir(parents=True)
    try:
        for name in [*release.manifest.files, *files.SAID, *_results(release.folder)]:
            report(f"copying {name}")
            shutil.copyfile(release.folder / name, partial / name)
            _flush(partial / name)
        for name, file in release.manifest.files.items():
            report(f"reading back {name}")
            if digest(partial / name) != file.sha256:
                raise VreError(f"{partial / name} is not what was written", hint="is the disk sound?")
        atomic.settle(partial)
        partial.rename(there)
        atomic.settle(there.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _again(found: Release, there: Path, keys: Sequence[SSlibKey]) -> Release:
    """Bring what was said of a release since; what it is does not change any more.

    The same disks described in another way, by a newer project, are nothing new: what is there stays as it is.
    """
    before = verify(there, Wanted(keys=keys, known=tuple(formats.FORMATS)))
    if before.told == found.told:
        for name in (files.PROVENANCE, *_results(found.folder)):
            atomic.write(there / name, (found.folder / name).read_bytes())
    elif not _disks(found) <= _disks(before):
        raise VreError(
            f"another release {found.manifest.id} is published already, with other disks",
            hint=f"take it away first, if no channel names it: {there}",
        )
    return before


def _disks(release: Release) -> set[tuple[str, str]]:
    return {(file.format, file.sha256) for file in release.manifest.files.values() if file.format}


def _results(folder: Path) -> list[str]:
    return [files.TEST] if (folder / files.TEST).is_file() else []


def _flush(path: Path) -> None:
    path.chmod(0o644)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
