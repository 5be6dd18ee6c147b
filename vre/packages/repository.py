"""A signed apt repository of every package in a folder, for a web server to show as it is."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from vre.errors import VreError
from vre.run import run
from vre.setup.secrets import OTHERS

KEY = "vre.asc"
OWNER = "vre packages"
DESCRIBED = {"Origin": "vre", "Label": "vre", "Suite": "stable", "Codename": "vre", "Architectures": "amd64 arm64 all"}


def publish(packages: Iterable[Path], target: Path, home: Path) -> Path:
    """Add packages to the repository `target`, list all that are in it, sign the list; return the public key's file.

    A package of the same name and version is never exchanged for another: machines would not notice.
    """
    target.mkdir(parents=True, exist_ok=True)
    for package in packages:
        _add(package, target / package.name)
    key = ensure_key(home)
    listed = run(["apt-ftparchive", "packages", "."], cwd=target)
    (target / "Packages").write_text(listed)
    run(["xz", "--keep", "--force", "--threads=1", target / "Packages"])
    words = [word for name, value in DESCRIBED.items() for word in ("-o", f"APT::FTPArchive::Release::{name}={value}")]
    for old in ("Release", "InRelease"):
        (target / old).unlink(missing_ok=True)
    release = run(["apt-ftparchive", *words, "release", "."], cwd=target)
    signed = sign(release, home)
    # The list that is signed comes last: whoever reads in between has the old one whole, or is told to try again.
    part = target / "InRelease.part"
    part.write_text(signed)
    part.rename(target / "InRelease")
    shutil.copyfile(key, target / KEY)
    return key


def sign(text: str, home: Path) -> str:
    """Return a text with its signature, in one (RFC 9580, section 7)."""
    return _gpg(home, "--clearsign", "--output", "-", stdin=text)


def ensure_key(home: Path) -> Path:
    """Return the file with the public key; both halves are made when there are none, the private one never shown.

    Raises VreError when others could read the folder that it lies in.
    """
    keys, public = home / "gnupg", home / KEY
    if not keys.exists():
        keys.mkdir(parents=True, mode=0o700)
    if keys.stat().st_mode & OTHERS:
        raise VreError(f"{keys} can be read by others", hint=f"chmod -R go= {keys}")
    if not public.exists():
        if not _gpg(home, "--list-secret-keys", "--with-colons").strip():
            _gpg(home, "--quick-generate-key", OWNER, "ed25519", "sign", "never")
        public.write_text(_gpg(home, "--export", "--armor", OWNER))
    return public


def _add(package: Path, there: Path) -> None:
    if not there.exists():
        shutil.copyfile(package, there)
    elif there.read_bytes() != package.read_bytes():
        raise VreError(
            f"{there.name} is published already, with other contents",
            hint="raise its `revision` in build/versions.yaml: machines know a package by its version",
        )


def _gpg(home: Path, *words: str, stdin: str = "") -> str:
    """Run GnuPG in a home of its own; the agent that it starts ends with it."""
    quiet = ("--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "")
    # The agent's socket lies in its home, and a socket's path has at most 107 bytes (unix(7)): a short way there.
    with tempfile.TemporaryDirectory(prefix="vre-") as folder:
        keys = Path(folder, "keys")
        keys.symlink_to((home / "gnupg").resolve())
        try:
            return run(["gpg", "--homedir", keys, *quiet, *words], stdin=stdin, hint="vre setup packages image")
        finally:
            run(["gpgconf", "--homedir", keys, "--kill", "all"])
