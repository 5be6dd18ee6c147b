"""The image that a stack asks for by a channel's word or an id: checked to the last byte before a launch begins."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vre import engine
from vre.artifacts.golang import architecture
from vre.cloud import Libvirt
from vre.errors import VreError
from vre.image.formats import FORMATS
from vre.release import envelope, reading
from vre.release.channel import WORDS, Channel, Pointer
from vre.release.verify import Wanted

FORMAT = "qcow2"
"""What libvirt takes."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A release as a launch uses it: a file, each container image's short name -> reference with digest, its id.

    There is no `layout`: its container images are on its disk and nowhere else.
    """

    path: Path
    images: Mapping[str, str]
    id: str
    layout: None = None


def take(cloud: Libvirt, stack: str, report: Callable[[str], None], *, key: str = "") -> Taken:
    """Return the image that a stack starts from, taken into the cache first where it is not there.

    A stack that stands goes on with the image it was launched from when the channel's word moves: its machines hold
    that one's container images and no other's. Raises Refused or VreError with what is wrong with channel or release.
    """
    keys = envelope.trusted(key)
    where = reading.at(cloud.channel)
    now = reading.channel_at(where, keys)
    wanted = Wanted(keys=keys, known=tuple(FORMATS), architecture=architecture(), format=FORMAT)
    found = reading.take(where, _pointer(now, cloud.image, stack), wanted, report)
    return Taken(path=found.disk(FORMAT), images=found.manifest.containers, id=found.manifest.id)


def _pointer(now: Channel, word: str, stack: str) -> Pointer:
    standing = made_from(engine.resources(stack)) if word in WORDS else ""
    if not standing:
        return now.find(word)
    try:
        return now.find(standing)
    except VreError as error:
        raise VreError(
            f"stack {stack} stands on image {standing}, which the channel does not have",
            hint="name no image where it was built here; else destroy the stack and launch it anew",
        ) from error


def made_from(resources: Iterable[Mapping[str, Any]]) -> str:
    """Return the id of the image that the state names as the control machine's. Pure."""
    for each in resources:
        if each.get("type") == "vre:libvirt:Volume" and str(each.get("urn", "")).endswith("-control-system"):
            return str(each.get("outputs", {}).get("sourceId", ""))
    return ""
