"""The project's own libvirtd, for a machine where none runs.

It lives in a mount namespace where folders of ours lie over libvirt's, so nothing of a system libvirt is touched and
all that it writes is in one folder; `qemu+unix` reaches its socket from outside. It runs QEMU as root, without
cgroups or a security driver: for a trial on one's own machine. A production hypervisor is the system's libvirtd.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from vre import atomic
from vre.errors import VreError
from vre.progress import Report, silent
from vre.run import run
from vre.setup import enclosed, firewall

LONGEST_SOCKET = 107  # bytes of a path in the kernel's sockaddr_un, without the closing zero
SOCKETS = ("libvirt-sock", "libvirt-sock-ro", "libvirt-admin-sock")
ENVIRONMENT = ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PATIENCE = 60.0  # seconds for the daemon to answer: the first time it looks at every QEMU
GRACE = 30.0  # seconds that machines have for shutting down
STEP = 0.2
MARKERS = ("qemu", "network", "storage")  # what libvirtd starts by itself, once for each of these marks


@dataclass(frozen=True, kw_only=True)
class Status:
    """Whether the own libvirtd runs, how to reach it, and whether anything is defined in it."""

    running: bool
    uri: str
    defined: bool


def status(state: Path) -> Status:
    """Return how the own libvirtd of a state folder is."""
    folder = _folder(state)
    machines, networks = folder / "etc" / "qemu", folder / "etc" / "qemu" / "networks"
    defined = any(path.suffix == ".xml" for place in (machines, networks) if place.is_dir() for path in place.iterdir())
    return Status(running=_pid(folder) is not None, uri=_uri(folder), defined=defined)


def ensure(state: Path, report: Report = silent, *, netns: str = "") -> str:
    """Start the own libvirtd if it does not run, with the machines and networks it had; return its uri.

    `netns` names a network namespace to run it in (`ip netns`); it is kept for later starts. Raises VreError when not
    root, when libvirtd is not installed, or when it does not answer.
    """
    folder = _folder(state)
    if _pid(folder) is None:
        if os.geteuid() != 0:
            raise VreError("libvirtd can only be started by root", hint="run: sudo make setup")
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        with FileLock(folder / "lock"):  # two stacks may come up at the same time
            if _pid(folder) is None:
                report("starting the project's own libvirtd")
                _prepare(folder, netns)
                _start(folder)
    _wait(folder, report)
    return _uri(folder)


def stop(state: Path, report: Report = silent, *, grace: float = GRACE) -> None:
    """Stop the own libvirtd with its machines and networks, and leave nothing in the kernel.

    What is defined stays defined, and starts with the next `ensure`; where nothing is, the folder goes too.
    """
    folder = _folder(state)
    if not (folder / "place.json").exists():
        return
    if _pid(folder) is None and _orphans(folder):
        ensure(state, report)  # only libvirtd knows how to take its networks and machines down
    if _pid(folder) is not None:
        report("stopping the project's own libvirtd")
        _take_down(_uri(folder), report, grace)
        _end(folder)
    _clean(folder)
    if not status(state).defined:
        shutil.rmtree(folder)


def real(state: Path, path: Path) -> Path:
    """Return where a path that the own libvirtd names lies for all others: its folders lie over the system's. Pure."""
    for name, place in enclosed.PLACES.items():
        if path.is_relative_to(place):
            return _folder(state) / name / path.relative_to(place)
    return path


def _folder(state: Path) -> Path:
    return state.resolve() / "hypervisor"


def _sockets(folder: Path) -> Path:
    """Return where the sockets lie: in the folder, or in a short path of their own where that would be too long."""
    place = folder / "run"
    if max(len(os.fsencode(place / name)) for name in SOCKETS) <= LONGEST_SOCKET:
        return place
    return Path("/run") / f"vre-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"


def _uri(folder: Path) -> str:
    return f"qemu+unix:///system?socket={_sockets(folder) / SOCKETS[0]}"


def _place(folder: Path) -> dict[str, Any]:
    return atomic.remembered(folder / "place.json")


def _inside(folder: Path) -> list[str]:
    netns = _place(folder).get("netns", "")
    return ["ip", "netns", "exec", netns] if netns else []


def _prepare(folder: Path, netns: str) -> None:
    old, boot = _place(folder), BOOT_ID.read_text().strip()
    if old.get("boot") != boot:
        shutil.rmtree(folder / "run", ignore_errors=True)  # the machines it tells of ended with that boot
    folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    for name in enclosed.PLACES:
        (folder / name).mkdir(exist_ok=True, mode=0o711)
    sockets = _sockets(folder)
    sockets.mkdir(exist_ok=True, mode=0o700)
    made = [place for place in enclosed.PLACES.values() if not Path(place).exists()]
    for place in made:
        Path(place).mkdir(parents=True)
    for name, text in configuration(sockets).items():
        (folder / "etc" / name).write_text(text)
    for name in MARKERS:
        (folder / "run" / name / "autostarted").unlink(missing_ok=True)
    kept = {"boot": boot, "netns": netns or old.get("netns", ""), "made": sorted({*old.get("made", []), *made})}
    atomic.write(folder / "place.json", json.dumps(kept).encode())


def configuration(sockets: Path) -> dict[str, str]:
    """Return libvirt's settings: file name to text."""
    private = "".join(f'unix_sock_{kind}_perms = "0700"\n' for kind in ("ro", "rw", "admin"))
    return {
        "libvirtd.conf": f'unix_sock_dir = "{sockets}"\n{private}auth_unix_ro = "none"\nauth_unix_rw = "none"\n'
        'log_outputs = "3:file:/var/log/libvirt/libvirtd.log"\n',
        "qemu.conf": 'user = "root"\ngroup = "root"\ndynamic_ownership = 0\ncgroup_controllers = []\n'
        'security_driver = "none"\nnamespaces = []\nstdio_handler = "file"\n',
        # filters need iptables anyway, and libvirt's nftables rules need a kernel module that small kernels lack
        "network.conf": 'firewall_backend = "iptables"\n',
    }


def _start(folder: Path) -> None:
    helper = [sys.executable, "-I", str(Path(enclosed.__file__)), "start", str(folder)]
    unshare = ["unshare", "--mount", "--propagation", "slave"]
    (folder / "libvirtd.pid").unlink(missing_ok=True)
    run([*_inside(folder), *ENVIRONMENT, *unshare, *helper], timeout=PATIENCE, hint="run: make setup")


def _wait(folder: Path, report: Report) -> None:
    libvirt = _libvirt()
    until = time.monotonic() + PATIENCE
    while True:
        try:
            libvirt.open(_uri(folder)).close()
        except libvirt.libvirtError as error:
            if time.monotonic() > until or _pid(folder) is None:
                log = folder / "log" / "libvirtd.log"
                raise VreError(f"the project's own libvirtd does not answer: {error}", hint=f"see {log}") from error
            report("waiting for the project's own libvirtd")
            time.sleep(STEP)
        else:
            return


def _pid(folder: Path) -> int | None:
    """Return the process of this folder's libvirtd, or None. A number that now is another's is not taken for it."""
    file = folder / "libvirtd.pid"
    try:
        pid = int(file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(file) in command else None


def _gone(pid: int) -> bool:
    """Tell whether a process has ended; who should ask for its exit code may take a while."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state in ("Z", "X")


def _orphans(folder: Path) -> list[int]:
    """Return the processes that a libvirtd which is gone has left: machines and name servers."""
    files = [*(folder / "run" / "qemu").glob("*.pid"), *(folder / "run" / "network").glob("*.pid")]
    pids = [int(text) for file in files if (text := file.read_text().strip()).isdigit()]
    return [pid for pid in pids if _is_orphan(pid)]


def _is_orphan(pid: int) -> bool:
    try:
        name = Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return False
    return name.startswith(("qemu-system", "dnsmasq"))


def _libvirt() -> Any:
    from vre.provider.libvirt.connection import module

    return module()


def _take_down(uri: str, report: Report, grace: float) -> None:
    libvirt = _libvirt()
    connection = libvirt.open(uri)
    try:
        machines = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        _shut_down(machines, report, grace)
        for network in connection.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE):
            network.destroy()
        for pool in connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
            pool.destroy()
    finally:
        connection.close()


def _shut_down(machines: Sequence[Any], report: Report, grace: float) -> None:
    from vre.provider.libvirt.power import power_off, shut_down

    until = time.monotonic() + grace
    for machine in machines:
        report(f"shutting down {machine.name()}")
        if grace:
            shut_down(machine)
    while any(machine.isActive() for machine in machines) and time.monotonic() < until:
        time.sleep(STEP)
    for machine in machines:
        power_off(machine)


def _end(folder: Path) -> None:
    pid = _pid(folder)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + PATIENCE
    while not _gone(pid):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            until = time.monotonic() + PATIENCE
        time.sleep(STEP)


def _clean(folder: Path) -> None:
    inside = _inside(folder)
    if not inside or Path("/run/netns", inside[-1]).exists():
        firewall.clean(inside)
        run([*inside, *ENVIRONMENT, sys.executable, "-I", str(Path(enclosed.__file__)), "restore", str(folder)])
    for place in reversed(_place(folder).get("made", [])):
        if Path(place).is_dir() and not any(Path(place).iterdir()):
            Path(place).rmdir()
    sockets = _sockets(folder)
    if sockets.is_dir() and sockets.parent != folder:
        shutil.rmtree(sockets)
    (folder / "libvirtd.pid").unlink(missing_ok=True)
