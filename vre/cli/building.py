"""The room that set-up fills on this machine: what it still has to build, beside what the stack's disks take there.

What building takes is an estimate from above: an engine that is fetched takes less than one that is built, and an
interrupted set-up has filled the compilers' caches, which cannot be told from another's. So it is counted in two ways:

- Programs that are built already are not counted; nor is what the stack's disks have filled.
- Where nothing was ever built here the whole estimate has to fit, else half of it: below that a launch is refused
  before anything is made, in between it is warned of. A refusal that is wrong cannot be argued with, a warning can.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vre import preflight
from vre.errors import Finding
from vre.paths import cache
from vre.preflight import GIB

ROOM = {"engine": 2.0, "programs": 5.0, "image": 3.0}
"""GiB that the long parts of set-up fill below the home folder: sources, compilers' caches, what is built."""


@dataclass(frozen=True, kw_only=True)
class Building:
    """What is still to be built and where. GiB, but for `free` in bytes; `stack` is 0 where its disks lie elsewhere.

    `begun`: something was built here before, so that some of it may be there already.
    """

    gib: float
    where: str
    free: int
    begun: bool
    stack: int = 0

    @property
    def wanted(self) -> float:
        """GiB that all of it may take where it is built, with the stack's disks."""
        return self.gib + self.stack


def look(todo: Iterable[str], unbuilt: float, *, pool: Path | None, disks: int) -> Building:
    """Look at what these parts of set-up will fill, `unbuilt` being the share of the programs that is to be built.

    `pool` is the folder for the stack's disks, None where that is not here; they still take `disks` GiB.
    """
    share = {"programs": unbuilt}
    beside = pool is not None and preflight.same_disk(cache(), pool)
    return Building(
        gib=sum(ROOM.get(part, 0) * share.get(part, 1) for part in todo),
        where=str(cache()),
        free=preflight.free(cache()),
        begun=any(place.exists() for place in (cache(), *_compilers())),
        stack=disks if beside else 0,
    )


def _compilers() -> tuple[Path, ...]:
    """Return where the compiler keeps sources and what it made of them, if it was not told otherwise."""
    return cache().parent / "go-build", Path.home() / ".cache" / "go-build", Path.home() / "go"


def told(building: Building) -> str:
    """Return what a person is told of it first; nothing where nothing is built. Pure."""
    if not building.gib:
        return ""
    line = f"Building fills up to {_sum(building)}, where {building.free / GIB:.0f} GiB are free.\n"
    return line if building.free >= building.wanted * GIB else f"WARNING: {line}"


def faults(building: Building) -> list[Finding]:
    """Return what stands in the way of building; nothing where nothing is built. Pure."""
    least = building.gib / 2 if building.begun else building.gib
    if not building.gib or building.free >= (least + building.stack) * GIB:
        return []
    reason = f"{building.free / GIB:.1f} GiB are free on this machine, building fills up to {_sum(building)}"
    return [Finding(key="set-up", reason=reason, example="VRE_CACHE=/a/bigger/disk/vre make up")]


def _sum(building: Building) -> str:
    beside = f", and the stack's disks up to {building.stack} GiB on the same disk" if building.stack else ""
    return f"{building.gib:.0f} GiB more at {building.where}{beside}"
