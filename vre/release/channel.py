"""Which release is current: a signed file whose number only grows, beside the releases themselves. Pure.

TARGET/channel.json.dsse, TARGET/releases/ID/...
"""

import json
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from vre.artifacts.versions import STRICT
from vre.errors import VreError
from vre.release.manifest import Id, Sha256

FILE = "channel.json.dsse"
RELEASES = "releases"
KIND = "application/vnd.vre.image-channel.v1+json"
REMEMBERED = 100
"""How many of the last moves, and of older releases, the file keeps."""
CURRENT = "current"
PREVIOUS = "previous"
WORDS = (CURRENT, PREVIOUS)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Pointer:
    """A release, and the digest of its manifest."""

    id: Id
    manifest: Sha256


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Move:
    """One change of the channel, when (UTC) and by which number it is known."""

    serial: int
    action: Literal["promote", "rollback"]
    id: Id
    at: str


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Channel:
    """All of the channel file. `older` are the releases that were current before `previous`, the newest first."""

    serial: Annotated[int, Field(ge=0)] = 0
    current: Pointer | None = None
    previous: Pointer | None = None
    older: tuple[Pointer, ...] = ()
    history: tuple[Move, ...] = ()

    def find(self, word: str) -> Pointer:
        """Return the release that `current`, `previous` or an id stands for. Raises VreError when there is none."""
        every = [each for each in (self.current, self.previous, *self.older) if each]
        found = {CURRENT: self.current, PREVIOUS: self.previous}.get(word) or next(
            (each for each in every if each.id == word), None
        )
        if found is None:
            known = ", ".join(each.id for each in every) or "none"
            raise VreError(f"the channel has no {word}", hint=f"it was given: {known}")
        return found


def promoted(before: Channel, release: Pointer, at: datetime) -> Channel:
    """Return the channel with a release as the current one; unchanged where it is that already."""
    if before.current == release:
        return before
    line = [each for each in (before.current, before.previous, *before.older) if each and each.id != release.id]
    return _moved(before, [release, *line], "promote", at)


def rolled_back(before: Channel, at: datetime) -> Channel:
    """Return the channel with the release before the current one. Raises VreError when there is none."""
    if before.previous is None:
        raise VreError("there is no release to go back to", hint="the channel has had no other: vre image list")
    return _moved(before, [before.previous, *before.older], "rollback", at)


def without(before: Channel, gone: Collection[str]) -> Channel:
    """Return the channel without older releases that are taken away, under a new number; its two stay."""
    older = tuple(each for each in before.older if each.id not in gone)
    return before if older == before.older else replace(before, serial=before.serial + 1, older=older)


def _moved(before: Channel, line: list[Pointer], action: Literal["promote", "rollback"], at: datetime) -> Channel:
    serial = before.serial + 1
    move = Move(serial=serial, action=action, id=line[0].id, at=at.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return replace(
        before,
        serial=serial,
        current=line[0],
        previous=line[1] if len(line) > 1 else None,
        older=tuple(line[2:REMEMBERED]),
        history=(*before.history, move)[-REMEMBERED:],
    )


@cache
def _adapter() -> TypeAdapter[Channel]:
    return TypeAdapter(Channel)


def text(channel: Channel) -> bytes:
    """Return the channel's text, to be signed."""
    return (json.dumps(_adapter().dump_python(channel, mode="json"), indent=1, sort_keys=True) + "\n").encode()


def parse(told: bytes) -> Channel:
    """Return a channel from what was signed. Raises VreError when it is none."""
    try:
        return _adapter().validate_json(told)
    except ValidationError as error:
        raise VreError(f"is no channel: {error.errors()[0]['msg']}") from None
