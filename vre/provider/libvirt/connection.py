"""Connections to libvirt, and its errors in words."""

import atexit
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vre import paths
from vre.errors import VreError
from vre.progress import Report, silent

AUTO = "auto"
SYSTEM = "qemu:///system"
SOCKETS = Path("/run/libvirt")
_lock = threading.Lock()
_open: dict[str, Any] = {}


def connect(uri: str, report: Report = silent) -> Any:
    """Return a connection, one for each uri and process; made again when the daemon was restarted.

    `auto` is this project's own libvirtd where it is in use, else the system's, else the own one, started now. Raises
    VreError that says what to do when nothing answers.
    """
    libvirt = module()
    with _lock:
        actual = _resolve(uri, report)
        if _alive(_open.get(actual)):
            return _open[actual]
        if not _open:
            atexit.register(_open.clear)  # closed while libvirt's module is still whole, or it complains
        try:
            _open[actual] = libvirt.open(actual)
        except libvirt.libvirtError as error:
            raise VreError(f"libvirt does not answer at {actual}: {_said(error)}", hint=_reach(actual)) from error
        return _open[actual]


def module() -> Any:
    """Return the libvirt module, kept from writing to standard error. Raises VreError when it is not installed."""
    try:
        import libvirt
    except ImportError as error:
        raise VreError("the Python module libvirt is not installed", hint="run: make setup") from error
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    return libvirt


def system_answers() -> bool:
    """Return whether the system's own libvirt answers; before set-up, with no module to ask it, whether it is there."""
    try:
        libvirt = module()
    except VreError:
        return any(SOCKETS.glob("*-sock"))
    try:
        libvirt.open(SYSTEM).close()
    except libvirt.libvirtError:
        return False
    return True


def here(uri: str, path: Path) -> Path:
    """Return where a path of a hypervisor of this machine lies for those who are not it. Starts none."""
    from vre.setup.hypervisor import real

    return real(paths.state(), path) if _is_own(uri) else path


def is_local(uri: str) -> bool:
    """Return whether a uri is of this machine."""
    return uri == AUTO or uri.startswith(("qemu:///", "qemu+unix://", "test://"))


@contextmanager
def told(doing: str, *, hint: str = "") -> Iterator[None]:
    """Turn libvirt's errors into VreError: what was being done, what libvirt said, what to do."""
    libvirt = module()
    try:
        yield
    except libvirt.libvirtError as error:
        raise VreError(f"{doing}: {_said(error)}", hint=hint or _remedy(error)) from error


def missing(error: Any) -> bool:
    """Return whether an error says that the thing asked for is not there."""
    libvirt = module()
    codes = ("NO_DOMAIN", "NO_NETWORK", "NO_NWFILTER", "NO_STORAGE_POOL", "NO_STORAGE_VOL", "NO_SECRET")
    return error.get_error_code() in {getattr(libvirt, f"VIR_ERR_{code}") for code in codes}


def found(lookup: Any, *words: str) -> Any | None:
    """Return what a lookup finds, or None. Other errors come out as they are."""
    try:
        return lookup(*words)
    except module().libvirtError as error:
        if missing(error):
            return None
        raise


def _resolve(uri: str, report: Report) -> str:
    if uri != AUTO:
        return uri
    from vre.setup.hypervisor import ensure, status

    if not _is_own(uri):
        return SYSTEM
    own = status(paths.state())
    return own.uri if own.running else ensure(paths.state(), report)


def _is_own(uri: str) -> bool:
    """Return whether a uri leads to the project's own libvirtd, or will once that is started."""
    from vre.setup.hypervisor import status

    own = status(paths.state())
    if uri != AUTO:
        return uri == own.uri
    return own.running or own.defined or not system_answers()


def _alive(connection: Any | None) -> bool:
    if connection is None:
        return False
    try:
        connection.getLibVersion()
    except module().libvirtError:
        return False
    return True


def _said(error: Any) -> str:
    return str(error.get_error_message() or error).strip()


def _reach(uri: str) -> str:
    if "+ssh" in uri:
        return f"try: virsh --connect '{uri}' version; the user there must be in the group libvirt"
    if "socket=" in uri:
        return "run: make setup"
    return "start libvirtd, or run `make setup` and use `uri: auto`"


def _remedy(error: Any) -> str:
    libvirt, words = module(), _said(error)
    if error.get_error_code() == libvirt.VIR_ERR_AUTH_FAILED:
        return "be root, or join the group libvirt and log in again"
    if "already in use by interface" in words:
        return "another network has these addresses: choose another range in the stack file, under cloud:"
    if "accept_ra" in words:
        return "this host takes its IPv6 routes from router advertisements: sysctl net.ipv6.conf.all.accept_ra=2"
    if "is in use" in words or "in use by" in words:
        return "something of the hypervisor still uses it: virsh list --all"
    return ""
