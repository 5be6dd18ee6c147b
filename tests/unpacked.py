"""What is packed by gzip, such as the engine's own logs, opened for tests that look for a text in it."""

import zlib

GZIP = b"\x1f\x8b"


def unpacked(data: bytes) -> bytes:
    """Return what some data holds packed: of what was cut short that which is there, of anything else nothing."""
    try:
        return zlib.decompressobj(wbits=31).decompress(data) if data.startswith(GZIP) else b""
    except zlib.error:
        return b""
