"""What a machine is told at its first boot, however it is wrapped, and whether that lets passwords in."""

import base64
import binascii
import re
import zlib
from collections.abc import Iterator

DEEPEST = 4
LONGEST = 8 * 1024 * 1024  # bytes of one layer: more is no user-data
GZIP = b"\x1f\x8b"
SHORTEST = 64
"""Letters. Base64 that is shorter holds no setting."""

_WRAPPED = re.compile(rb"(?:[A-Za-z0-9+/]{4}[ \t\r\n]*){%d,}(?:[A-Za-z0-9+/]{2,3}={0,2})?" % (SHORTEST // 4))
_LINE = rb"^(?![ \t]*#)[^\n]*?(?<!#)(?<!# )"
_YES = rb"['\"]?[ \t]*[:= \t][ \t]*['\"]?(?:true|yes|on|1)\b"
_NO = rb"['\"]?[ \t]*:[ \t]*['\"]?(?:false|no|off|0)\b"
_LOGIN = re.compile(
    _LINE
    + rb"(?:ssh_pwauth|PasswordAuthentication|KbdInteractiveAuthentication|ChallengeResponseAuthentication)"
    + _YES,
    re.IGNORECASE | re.MULTILINE,
)
_PASSWORD = re.compile(
    _LINE
    + rb"(?:(?:plain_text_passwd|hashed_passwd|chpasswd)\b|lock[_-]passwd"
    + _NO
    + rb")|^['\"]?password['\"]?[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)


def password_login(told: str) -> bool:
    """Say whether these instructions (plain, gzip, base64, or one in the other) let people log in with passwords."""
    return any(_LOGIN.search(layer) for layer in layers(told.encode(errors="surrogateescape")))


def password(told: str) -> bool:
    """Say whether these instructions give an account a password."""
    return any(_PASSWORD.search(layer) for layer in layers(told.encode(errors="surrogateescape")))


def layers(raw: bytes, depth: int = DEEPEST) -> Iterator[bytes]:
    """Yield what was told, and all that is packed in it."""
    yield raw
    if depth == 0:
        return
    if raw.startswith(GZIP):
        yield from layers(_opened(raw), depth - 1)
        return
    for run in _WRAPPED.finditer(raw):
        yield from layers(_decoded(run.group()), depth - 1)


def _opened(raw: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(raw, LONGEST)
    except zlib.error:
        return b""


def _decoded(run: bytes) -> bytes:
    letters = b"".join(run.split()).rstrip(b"=")
    try:
        return base64.b64decode(letters + b"=" * (-len(letters) % 4))
    except binascii.Error:
        return b""
