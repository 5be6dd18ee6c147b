"""What a hypervisor tells of the machine that it runs on, for those who are on another one. Changes nothing."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from vre.provider.libvirt.connection import found, is_local, module
from vre.provider.libvirt.xml import parse

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")
GONE_WHEN_WANTED = ("free", "buffers", "cached")
"""What libvirt counts of a host's memory that machines may have; it does not tell Linux' own MemAvailable."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """Memory in MiB, disk in bytes, and bytes that each machine's disks take; None: cannot be told."""

    memory: int | None = None
    disk: int | None = None
    kvm: bool | None = None
    taken: Mapping[str, int] = field(default_factory=dict)


def named(uri: str) -> str:
    """Return the name of the machine that a uri leads to, nothing where that is this one. Pure."""
    return "" if is_local(uri) else urlsplit(uri).hostname or uri


def look(connection: Any, folder: PurePosixPath, disks: Mapping[str, Iterable[str]]) -> Host:
    """Ask all of it. `folder` is where disks will lie, `disks` the names of each machine's."""
    pool = _asked(_pool, connection, folder)
    return Host(
        memory=_asked(memory, connection),
        disk=_asked(_free, pool) if pool else None,
        kvm=kvm(connection),
        taken={name: _asked(_written, pool, names) or 0 for name, names in disks.items()} if pool else {},
    )


def memory(connection: Any) -> int:
    """Return the MiB that machines may take: what is free, and caches that go when they are wanted."""
    libvirt = module()
    try:
        told = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS, 0)
    except libvirt.libvirtError:
        return int(connection.getFreeMemory()) // 1024**2
    return sum(int(told.get(name, 0)) for name in GONE_WHEN_WANTED) // 1024  # of KiB


def kvm(connection: Any) -> bool:
    """Return whether libvirt would run a machine of ours with KVM there; whether that works only a machine shows."""
    try:
        connection.getDomainCapabilities(None, "x86_64", "q35", "kvm", 0)
    except module().libvirtError:
        return False
    return True


def _pool(connection: Any, folder: PurePosixPath) -> Any | None:
    """Return the pool in a folder, else the one right above it: only pools tell of a file system."""
    active = connection.listAllStoragePools(module().VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
    pools = {parse(pool.XMLDesc()).findtext("target/path"): pool for pool in active}
    return pools.get(str(folder)) or pools.get(str(folder.parent))


def _free(pool: Any) -> int:
    # What a pool tells is from when it was looked at last. While a job runs in it, that has to do.
    with suppress(module().libvirtError):
        pool.refresh()
    return int(pool.info()[3])


def _written(pool: Any, names: Iterable[str]) -> int:
    volumes = (found(pool.storageVolLookupByName, name) for name in names)
    return sum(int(volume.info()[2]) for volume in volumes if volume is not None)


def _asked(question: Callable[Asked, Answer], *words: Asked.args, **more: Asked.kwargs) -> Answer | None:
    """Return an answer, or None where this hypervisor gives none."""
    try:
        return question(*words, **more)
    except module().libvirtError:
        return None
