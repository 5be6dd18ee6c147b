"""Commands inside a root that is being built: chroot, own mounts, and an end with us (bubblewrap)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vre.run import run

# What a package client needs of this machine. Lent for the time of a command, never copied into a layer.
NETWORK = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/ssl/certs",
    "/etc/pip.conf",
    "/usr/local/share/ca-certificates",
    "/usr/share/ca-certificates",
)
# What is the sandbox's own: devices, processes, and what is written there is gone with it.
FRESH = (
    *("--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run", "--perms", "1777", "--tmpfs", "/tmp"),  # noqa: S108
    *("--unshare-pid", "--die-with-parent", "--cap-add", "ALL"),
)
HOME = "/run/home"  # on the sandbox's own file system: nothing stays
PLAIN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": HOME, "LC_ALL": "C.UTF-8"}


def inside(
    root: Path,
    command: Sequence[str | Path],
    *,
    lend: Mapping[str, Path] | None = None,
    share: Mapping[str, Path] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | bytes | None = None,
    hint: str = "",
) -> str:
    """Run a command with `root` as its root and return its output.

    `lend` maps paths inside to ones of ours, read-only; `share` is the same, but may be written. Mount points that this
    makes in the root are taken away again. Raises VreError when the command fails.
    """
    lent = dict(lend or {})
    made = [place for name in lent for place in _missing(root / name.lstrip("/"), root)]
    words: list[str | Path] = ["bwrap", "--bind", root, "/", *FRESH]
    for place, ours in lent.items():
        words += ["--ro-bind", ours, place]
    for place, ours in (share or {}).items():
        words += ["--bind", ours, place]
    try:
        # The environment goes along by itself, never as words: an index's address may hold a password.
        return run([*words, "--chdir", "/", *command], env={**PLAIN, **(env or {})}, stdin=stdin, hint=hint)
    finally:
        for point in made:
            _forget(point)


def network(environment: Mapping[str, str], home: Path) -> dict[str, Path]:
    """Return what to lend so that apt and pip inside reach what they reach outside, by the same settings."""
    lent = {place: Path(place).resolve() for place in NETWORK if Path(place).exists()}
    for name in (".config/pip/pip.conf", ".pip/pip.conf"):
        if (home / name).exists():
            lent[f"{HOME}/{name}"] = home / name
    for name in ("PIP_FIND_LINKS", "PIP_CERT", "PIP_CONFIG_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        place = environment.get(name, "")
        if place.startswith("/") and Path(place).exists() and not place.startswith("/etc/ssl/certs/"):
            lent[place] = Path(place)
    return lent


def _missing(place: Path, root: Path) -> list[Path]:
    """Return the place and those folders above it that are not there, the deepest first."""
    chain = [place, *(parent for parent in place.parents if parent.is_relative_to(root))]
    return [path for path in chain if not os.path.lexists(path)]


def _forget(place: Path) -> None:
    """Remove an empty mount point; what is on a file system of the sandbox's own is gone already."""
    if place.is_dir() and not place.is_symlink():
        place.rmdir()
    else:
        place.unlink(missing_ok=True)
