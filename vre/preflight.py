"""Whether a hypervisor's machine can hold a stack: looked at first (`probe`), judged apart from that (`judge`, pure).

That machine is this one, or the one that the stack file's uri leads to: then only what libvirt tells of it is judged.
"""

import json
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from math import ceil
from pathlib import Path, PurePosixPath

from vre import limits
from vre.cloud import Libvirt
from vre.config import Config
from vre.errors import Finding, VreError
from vre.inventory import Machine, Plan
from vre.policy import Network

GIB = 1024**3
OVERHEAD = 400
"""MiB that a machine costs beyond its own memory: the emulator and its caches."""
SPARE = 1
"""GiB of disk that stay free."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found where machines will stand. Memory in MiB, disk in bytes; None: not known, and not judged.

    `host` is the hypervisor's machine, empty where that is this one. `running` are the stack's machines that stand.
    """

    memory: int | None
    disk: int | None
    disk_at: str
    hypervisor: str
    fault: str
    kvm: bool | None
    routes: tuple[tuple[Network, str], ...]
    host: str = ""
    running: frozenset[str] = frozenset()
    taken: Mapping[str, int] = field(default_factory=dict)
    """Bytes that the disks of each machine occupy already."""
    passphrase: str = ""

    @property
    def place(self) -> str:
        """Whose memory and disk these are, for people."""
        return self.host or "this machine"


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a stack's machines that do not stand yet will take. Memory in MiB, disk in GiB."""

    memory: int
    disk: int


def need(stack: Plan, running: Iterable[str] = (), taken: Mapping[str, int] | None = None) -> Need:
    """Return what the machines of a stack still take: nothing for those that run, less where disks are filled."""
    standing = set(running)
    coming = [machine for machine in stack.machines if machine.name not in standing]
    if not coming:
        return Need(memory=0, disk=0)
    return Need(
        memory=sum(machine.memory + OVERHEAD for machine in coming),
        disk=ceil(sum(_unwritten(machine, taken or {}) for machine in coming) / GIB) + SPARE,
    )


def _unwritten(machine: Machine, taken: Mapping[str, int]) -> int:
    return max(0, (machine.disk + machine.data) * GIB - taken.get(machine.name, 0))


def judge(config: Config, stack: Plan, facts: Facts, *, bridge: str) -> list[Finding]:
    """Return everything that stands in the way of a launch there."""
    wanted = need(stack, facts.running, facts.taken)
    found = []
    if facts.fault:
        remedy = "uri: qemu+ssh://root@hypervisor/system" if facts.host else "vre hypervisor start"
        found.append(_finding("cloud.uri", facts.fault, remedy))
    if facts.memory is not None and facts.memory < wanted.memory:
        free = f"{facts.memory / 1024:.1f} GiB of memory are free on {facts.place}"
        reason = f"{free}, {wanted.memory / 1024:.1f} GiB are needed"
        found.append(_finding("machines.control.size", reason, "size: {cpus: 2, memory: 3}"))
    if facts.disk is not None and facts.disk < wanted.disk * GIB:
        free = f"{facts.disk / GIB:.1f} GiB are free at {facts.disk_at} on {facts.place}"
        reason = f"{free}, {wanted.disk} GiB are needed"
        found.append(_finding("machines.control.disk", reason, "cloud: {provider: libvirt, pool: /a/bigger/disk}"))
    found += overlaps(config, facts.routes, bridge=bridge)
    if facts.passphrase:
        found.append(Finding(key="passphrase", reason=facts.passphrase))
    return found


def overlaps(config: Config, routes: Iterable[tuple[Network, str]], *, bridge: str) -> list[Finding]:
    """Return the stack's ranges that this machine uses for something else already."""
    if config.cloud.provider != "libvirt":
        return []
    wanted = (("cloud.network", config.cloud.network), ("cloud.network6", config.cloud.network6))
    return [
        _finding(
            key,
            f"{text} overlaps {route} on {device} of this machine",
            f"{key.rsplit('.', maxsplit=1)[-1]}: another range",
        )
        for key, text in wanted
        for route, device in routes
        if device != bridge and route.prefixlen and _overlap(ip_network(text), route)
    ]


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _finding(key: str, reason: str, example: str) -> Finding:
    return Finding(key=f"vre:{key}", reason=reason, example=example)


def memory(text: str) -> int:
    """Return the available memory in MiB from the text of /proc/meminfo."""
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def _memory(config: Config) -> int:
    """Return the MiB that machines may take: what is available here, or what a container leaves to our own libvirtd."""
    from vre.provider.libvirt.connection import AUTO, system_answers

    available = memory(Path("/proc/meminfo").read_text())
    own = isinstance(config.cloud, Libvirt) and config.cloud.uri == AUTO and not system_answers()
    left = limits.left(Path("/proc/self/cgroup").read_text()) if own else None
    return available if left is None else min(available, left // 1024**2)


def parse_routes(text: str) -> tuple[tuple[Network, str], ...]:
    """Return (network, device) from what `ip -json route` says."""
    found = []
    for entry in json.loads(text or "[]"):
        target = str(entry.get("dst", "default"))
        if target != "default" and entry.get("dev") and not target.startswith(("unreachable", "fe80")):
            found.append((ip_network(target, strict=False), str(entry["dev"])))
    return tuple(found)


def passphrase_fault(path: Path) -> str:
    """Return what is wrong with the passphrase's file; nothing where it was given otherwise."""
    if any(name in os.environ for name in ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")):
        return ""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return f"there is no {path.name}; make setup makes one"
    return f"{path.name} can be read by others (mode {mode:04o}): chmod 600 it" if mode & 0o077 else ""


def free(path: Path) -> int:
    """Return the free bytes of the disk that a path lies on, or will lie on."""
    return shutil.disk_usage(_there(path)).free


def same_disk(one: Path, other: Path) -> bool:
    """Say whether two paths lie, or will lie, on the same file system."""
    return _there(one).stat().st_dev == _there(other).stat().st_dev


def _there(path: Path) -> Path:
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def occupied(folder: Path, names: Iterable[str]) -> int:
    """Return the bytes that files of a folder take on its disk, which are less than their length where they have holes.

    In blocks of 512 bytes, whatever the file system's own are (inode(7)). What is not there takes nothing.
    """
    return sum((folder / name).stat().st_blocks * 512 for name in names if (folder / name).is_file())


def probe(config: Config, stack: Plan, *, pool: Path) -> Facts:
    """Look at the machine that a stack is to stand on. Raises VreError where this one lacks what looking takes."""
    return _elsewhere(config, stack, pool) if host(config) else _here(config, stack, pool)


def host(config: Config) -> str:
    """Return the name of the machine that a stack's hypervisor runs on, nothing where that is this one."""
    from vre.provider.libvirt.host import named

    return named(_uri(config))


def _uri(config: Config) -> str:
    from vre.provider.libvirt.connection import AUTO

    return config.cloud.uri if isinstance(config.cloud, Libvirt) else AUTO


def _elsewhere(config: Config, stack: Plan, pool: Path) -> Facts:
    from vre import paths
    from vre.clouds import libvirt
    from vre.provider.libvirt.connection import connect, told
    from vre.provider.libvirt.host import Host, look

    version, fault, running = _hypervisor(config, stack)
    seen = Host()
    if not fault:
        with told(f"looking at {host(config)}"):
            disks = {machine.name: libvirt.volumes(machine) for machine in stack.machines}
            seen = look(connect(_uri(config)), PurePosixPath(pool), disks)
    return Facts(
        memory=seen.memory,
        disk=seen.disk,
        disk_at=str(pool),
        hypervisor=version,
        fault=fault,
        kvm=seen.kvm,
        routes=(),  # this machine's are no matter, and libvirt does not tell another's
        host=host(config),
        running=running,
        taken=seen.taken,
        passphrase=passphrase_fault(paths.state() / "passphrase"),
    )


def _here(config: Config, stack: Plan, pool: Path) -> Facts:
    from vre import paths
    from vre.clouds import libvirt
    from vre.run import run

    told, fault, running = _hypervisor(config, stack)
    routes = [
        parse_routes(run(["ip", "-json", family, "route"], hint="ip is in the package iproute2"))
        for family in ("-4", "-6")
    ]
    return Facts(
        memory=_memory(config),
        disk=free(pool),
        disk_at=str(pool),
        hypervisor=told,
        fault=fault,
        kvm=kvm(),
        routes=(*routes[0], *routes[1]),
        running=running,
        taken={machine.name: occupied(pool, libvirt.volumes(machine)) for machine in stack.machines},
        passphrase=passphrase_fault(paths.state() / "passphrase"),
    )


def kvm() -> bool | None:
    """Say whether machines here can run without emulation; None as long as no emulator is there to try it with.

    The device being there says nothing: it is there on hosts that have no processor behind it. That it is not, does.
    """
    from vre.provider.libvirt import accelerator

    if shutil.which(accelerator.EMULATOR):
        return accelerator.kvm_works()
    return None if os.access(accelerator.DEVICE, os.R_OK | os.W_OK) else False


def accelerated(config: Config) -> bool | None:
    """Say whether a stack's machines will run without emulation, wherever they stand; None where nobody can say yet."""
    from vre.provider.libvirt.connection import connect
    from vre.provider.libvirt.host import kvm as told

    if not host(config):
        return kvm()
    try:
        return told(connect(_uri(config)))
    except VreError:
        return None


def _hypervisor(config: Config, stack: Plan) -> tuple[str, str, frozenset[str]]:
    """Return the hypervisor's version, what is wrong with it, and which of the stack's machines run. Starts none."""
    from vre.provider.libvirt.connection import connect, module, told

    uri = _uri(config)
    try:
        module()
        if not _answers(uri):
            return "none runs yet: the project's own is started by a launch", "", frozenset()
        connection = connect(uri)
        try:
            with told("looking for the stack's machines"):
                names = {domain.name() for domain in connection.listAllDomains() if domain.isActive()}
                version, where = connection.getLibVersion(), connection.getURI()
        finally:
            connection.close()
    except VreError as error:
        return "", f"{error.message}; {error.hint}", frozenset()
    running = frozenset(machine.name for machine in stack.machines if f"vre-{machine.name}" in names)
    return f"libvirt {version // 1000000}.{version // 1000 % 1000} at {where}", "", running


def _answers(uri: str) -> bool:
    """Say whether a hypervisor is there to be asked; `auto` would start one."""
    from vre.paths import state
    from vre.provider.libvirt.connection import AUTO, system_answers
    from vre.setup import hypervisor

    return uri != AUTO or hypervisor.status(state()).running or system_answers()
