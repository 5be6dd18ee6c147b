"""Sending a file's bytes into a volume, holes left out, with progress and with a way to stop."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from vre.errors import VreError
from vre.progress import Report
from vre.provider.handler import Context
from vre.provider.libvirt.connection import module

CHUNK = 256 * 1024  # bytes: the most that one message of libvirt's protocol takes
PERCENT = 5  # progress in steps, so that a log of it stays readable
QCOW2_MAGIC = b"QFI\xfb"
QCOW2_SIZE = slice(24, 32)  # big-endian bytes of the virtual size in a qcow2 header (its specification)


def virtual_size(origin: Path | bytes, kind: str) -> int:
    """Return how large a disk an image makes, in bytes. Raises VreError when a qcow2 image is none."""
    if kind != "qcow2":
        return len(origin) if isinstance(origin, bytes) else origin.stat().st_size
    with _opened(origin) as file:
        header = file.read(QCOW2_SIZE.stop)
    if not header.startswith(QCOW2_MAGIC):
        raise VreError(f"{origin if isinstance(origin, Path) else 'the content'} is no qcow2 image")
    return int.from_bytes(header[QCOW2_SIZE], "big")


def upload(context: Context, volume: Any, origin: Path | bytes, name: str) -> None:
    """Send an image into a volume. Raises Cancelled when it is stopped; what was sent is then of no use."""
    libvirt = module()
    size = len(origin) if isinstance(origin, bytes) else origin.stat().st_size
    stream = volume.connect().newStream()
    volume.upload(stream, 0, size, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)
    sent = 0
    try:
        with _opened(origin) as file:
            for hole, length in pieces(file, size):
                context.pause(0)
                _send(stream, file, hole=hole, length=length)
                sent += length
                _percent(context.report, name, sent, size)
        stream.finish()
    except BaseException:
        stream.abort()
        raise


def pieces(file: BinaryIO, size: int) -> Iterator[tuple[bool, int]]:
    """Yield (is a hole, length) for a whole file, data in chunks. A file without holes, as of memory, is all data."""
    position = 0
    while position < size:
        data = _seek(file, position, size, os.SEEK_DATA if hasattr(os, "SEEK_DATA") else 3)
        if data > position:
            yield True, data - position
            position = data
            continue
        end = _seek(file, position, size, os.SEEK_HOLE if hasattr(os, "SEEK_HOLE") else 4)
        while position < end:
            length = min(CHUNK, end - position)
            file.seek(position)
            yield False, length
            position += length


def _seek(file: BinaryIO, position: int, size: int, whence: int) -> int:
    is_data = whence == os.SEEK_DATA
    if isinstance(file, io.BytesIO):
        return position if is_data else size
    try:
        return os.lseek(file.fileno(), position, whence)
    except OSError:
        return size  # no data after here


def _send(stream: Any, file: BinaryIO, *, hole: bool, length: int) -> None:
    if hole:
        stream.sendHole(length)
        return
    data = file.read(length)
    while data:
        data = data[stream.send(data) :]


def _percent(report: Report, name: str, sent: int, size: int) -> None:
    report(f"uploading {name}: {PERCENT * (100 * sent // max(size, 1) // PERCENT)} %")


def _opened(origin: Path | bytes) -> BinaryIO:
    return io.BytesIO(origin) if isinstance(origin, bytes) else origin.open("rb", buffering=0)
