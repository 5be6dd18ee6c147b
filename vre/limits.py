"""How much memory a container leaves to what is started in it: the kernel's own figure is the whole machine's."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
FILES = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Folder, limit, use, and what of the use is cache that goes when it is wanted: version 2 and version 1 of cgroups.

Kernel documentation, admin-guide/cgroup-v2 and cgroup-v1/memory.
"""
UNLIMITED = 1 << 60
"""Bytes; version 1 writes a number of about this size where there is no limit."""


def left(cgroups: str, root: Path = ROOT) -> int | None:
    """Return the bytes that the tightest limit around this process leaves, None where there is no limit.

    `cgroups` is the text of /proc/self/cgroup. The groups above count, too, as far as they can be seen from here.
    """
    return min(_found(cgroups, root), default=None)


def _found(cgroups: str, root: Path) -> Iterator[int]:
    for line in cgroups.splitlines():
        number, controllers, own = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        for folder, limit, use, cache in FILES:
            top = root / folder
            below = top / own.strip("/")
            # Without a namespace of its own a container is told a path that only the host has.
            for group in (below, *below.parents) if below.is_dir() else (top,):
                if group.is_relative_to(top) and (group / limit).is_file():
                    yield from _left(group, limit, use, cache)


def _left(group: Path, limit: str, use: str, cache: str) -> Iterator[int]:
    text = (group / limit).read_text().strip()
    if not text.isdigit() or int(text) >= UNLIMITED:
        return
    figures = dict(line.split() for line in (group / "memory.stat").read_text().splitlines() if line.count(" ") == 1)
    yield max(0, int(text) - int((group / use).read_text()) + int(figures.get(cache, 0)))
