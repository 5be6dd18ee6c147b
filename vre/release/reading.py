"""Channels as their readers see them: signed by a known key, never older than last time, and taken in whole."""

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock
from securesystemslib.signer import SSlibKey

from vre import atomic, paths
from vre.errors import Refused, VreError
from vre.progress import Report
from vre.release import channel, envelope, files, manifest, place
from vre.release.channel import Channel, Pointer
from vre.release.place import Place
from vre.release.verify import Release, Wanted, space_fault, verify

LIMIT = 1024**2
"""Bytes that a channel file may have."""


def channel_at(where: Place, keys: Sequence[SSlibKey]) -> Channel:
    """Return the channel at a place. Raises VreError when it is not signed, or older than one that was seen there."""
    name = f"{where.address}/{channel.FILE}"
    try:
        told = envelope.opened(where.read(channel.FILE, LIMIT), channel.KIND, keys)
        found = channel.parse(told)
    except VreError as error:
        text = error.message if name in error.message else f"{name} {error.message}"
        raise VreError(text, hint=error.hint) from None
    _not_older(where.address, found)
    return found


def unwritten(where: Place) -> Channel:
    """Return the channel of a place that has none yet. Raises VreError where there was one: it was taken away."""
    _not_older(where.address, Channel())
    return Channel()


def _not_older(address: str, found: Channel) -> None:
    serial, text = _remembered(address)
    if found.serial < serial:
        raise VreError(
            f"the channel at {address} is number {found.serial}, and was number {serial} before: it was played back",
            hint=f"ask who publishes there; if it was begun anew on purpose: rm {_memory(address)}",
        )
    if found.serial == serial and text and text != _digest(found):
        raise VreError(f"there are two channels number {serial} at {address}", hint="ask who publishes there")
    remember(address, found)


def remember(address: str, found: Channel) -> None:
    """Keep the number of the newest channel that was seen at an address."""
    if found.serial:
        kept = {"address": address, "serial": found.serial, "sha256": _digest(found)}
        atomic.write(_memory(address), (json.dumps(kept) + "\n").encode())


def _remembered(address: str) -> tuple[int, str]:
    try:
        kept = json.loads(_memory(address).read_text())
        return int(kept["serial"]), str(kept["sha256"])
    except FileNotFoundError:
        return 0, ""
    except (ValueError, KeyError, TypeError):
        raise VreError(f"{_memory(address)} is damaged", hint="remove it") from None


def _memory(address: str) -> Path:
    return paths.state() / "channels" / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}.json"


def _digest(found: Channel) -> str:
    return hashlib.sha256(channel.text(found)).hexdigest()


def take(where: Place, pointer: Pointer, wanted: Wanted, report: Report) -> Release:
    """Return a release in the cache with its file in the wanted format, taken from a place first where it is not there.

    Its manifest must be the one that the channel names. Raises Refused with everything that is wrong with it.
    """
    kept = paths.cache() / "releases" / pointer.id
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.parent / ".lock"):
        if kept.is_dir():
            report("checking the image in the cache")
            with suppress(VreError):
                return _same(verify(kept, wanted), pointer)
            shutil.rmtree(kept)
        partial = kept.with_name(f".partial-{kept.name}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            _bring(where, pointer, wanted, partial, report)
            report("checking signatures and digests")
            found = _same(verify(partial, wanted), pointer)
            partial.rename(kept)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return replace(found, folder=kept)


def _bring(where: Place, pointer: Pointer, wanted: Wanted, target: Path, report: Report) -> None:
    """Copy what is small, believe it only when it is signed, then copy what it names."""
    home = f"{channel.RELEASES}/{pointer.id}"
    for name in (*files.SAID, manifest.BILL):
        (target / name).write_bytes(where.read(f"{home}/{name}", envelope.LARGEST))
    made = manifest.parse(_signed(target / files.MANIFEST, pointer, wanted))
    name = made.disk(wanted.format)
    if not name:
        return  # told by the check that follows
    fault = space_fault(target, made.files[name].size)
    if fault:
        raise Refused([fault])
    where.fetch(f"{home}/{name}", target / name, made.files[name].size, report)


def _signed(file: Path, pointer: Pointer, wanted: Wanted) -> bytes:
    """Return the manifest's text. Raises VreError that names the release where it is not signed by a known key."""
    try:
        return envelope.opened(file.read_bytes(), manifest.KIND, wanted.keys)
    except VreError as error:
        hint = error.hint or "take another: vre image list; ask who publishes there"
        raise VreError(f"release {pointer.id}: {file.name} {error.message}", hint=hint) from None


def _same(release: Release, pointer: Pointer) -> Release:
    if hashlib.sha256(release.told).hexdigest() != pointer.manifest or release.manifest.id != pointer.id:
        raise VreError(f"release {pointer.id} is not the one that the channel names", hint="ask who publishes there")
    return release


def is_id(word: str) -> bool:
    """Say whether a word is a release's id."""
    return bool(re.fullmatch(manifest.ID, word))


def at(given: str) -> Place:
    """Return the place of a channel: the given one, else this checkout's own."""
    return place.at(given or str(own()))


def own() -> Path:
    """Return the folder of this checkout's own channel."""
    return paths.state() / "images"
