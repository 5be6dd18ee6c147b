"""The secrets of a checkout: the passphrase of the Pulumi state, the key of the machines, the key that signs images.

All lie in the state folder, made once, readable by their owner alone, and refused when they are not.
"""

import os
import secrets
import stat
import tempfile
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from vre.errors import VreError

PASSPHRASE_BYTES = 32
COMMENT = b"vre"
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def ensure_passphrase(state: Path) -> Path:
    """Return the file with the passphrase, made from 32 random bytes when there is none.

    Raises VreError when the file can be read by others, is empty or is no ordinary file.
    """
    file = state / "passphrase"
    if not file.exists() and not file.is_symlink():
        _create(file, f"{secrets.token_urlsafe(PASSPHRASE_BYTES)}\n".encode())
    check_private(file)
    if not file.read_text().strip():
        raise VreError(f"{file} is empty", hint=f"put the passphrase back, or start anew without state: rm {file}")
    return file


def ensure_key(state: Path) -> Path:
    """Return the file with the Ed25519 key in OpenSSH's format, made when there is none; its `.pub` lies beside it.

    Raises VreError when the key can be read by others or is no unencrypted OpenSSH key.
    """
    file = state / "id_ed25519"
    if not file.exists() and not file.is_symlink():
        _create(file, Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    check_private(file)
    public, beside = _public(file), file.with_name("id_ed25519.pub")
    if not beside.is_file() or beside.read_bytes() != public:
        beside.write_bytes(public)
        beside.chmod(0o644)
    return file


def ensure_image_key(state: Path) -> Path:
    """Return the file with the Ed25519 key (PKCS #8, PEM) that signs images, made when there is none.

    Its public half lies beside it: images.pub. Raises VreError when the key can be read by others or is none.
    """
    file = state / "images.pem"
    if not file.exists() and not file.is_symlink():
        _create(file, Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public, beside = image_key(file).public_key(), file.with_name("images.pub")
    text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if not beside.is_file() or beside.read_bytes() != text:
        beside.write_bytes(text)
        beside.chmod(0o644)
    return file


def image_key(file: Path) -> Ed25519PrivateKey:
    """Return the key in a file that signs images. Raises VreError when others can read it or it is no such key."""
    if not file.is_file():
        raise VreError(f"{file} is not there", hint="it holds the key that signs images")
    check_private(file)
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise VreError(
            f"{file} is no Ed25519 key in PEM without a passphrase", hint="openssl genpkey -algorithm ed25519"
        )
    return key


def check_private(file: Path) -> None:
    """Raise VreError unless a file is an ordinary one that only its owner, this user, can read or write."""
    found = file.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise VreError(f"{file} is no ordinary file", hint="it holds a secret: put the file itself there")
    if found.st_uid != os.getuid():
        raise VreError(
            f"{file} belongs to another user", hint=f"if you trust what is in it: chown {os.getuid()} {file}"
        )
    if found.st_mode & OTHERS:
        raise VreError(
            f"{file} can be read by others (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"others may have read it: make a new one, or if nobody else is here: chmod 600 {file}",
        )


def _create(file: Path, content: bytes) -> None:
    """Write a new private file whole or not at all; when another process was first, its file stays."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, partial = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")  # mkstemp: O_EXCL, mode 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(file).hardlink_to(partial)  # fails where the name is taken, unlike a rename
    except FileExistsError:
        return
    finally:
        Path(partial).unlink()


def _public(file: Path) -> bytes:
    try:
        key = load_ssh_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise VreError(
            f"{file} is no OpenSSH key without a passphrase", hint=f"move it away, then run: make setup ({file})"
        ) from error
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" " + COMMENT + b"\n"
