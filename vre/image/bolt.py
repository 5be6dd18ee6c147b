"""containerd's databases, written anew so that the same content gives the same bytes.

They are bbolt files, whose pages lie in the order in which they happened to be written, among others that are no longer
used. There is no library for that outside of Go. The format is that of go.etcd.io/bbolt 1.3: page.go, bucket.go, db.go.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vre.errors import VreError

MAGIC, VERSION = 0xED0CDAED, 2
PAGE = 4096
BRANCH, LEAF, META, FREE = 1, 2, 4, 16
NESTED = 1
"""Marks an element of a leaf whose value is a bucket."""
TIMES = (b"createdat", b"updatedat")
YEAR_ONE = 62135596800  # seconds from Go's first second to Unix's
HEADER = struct.Struct("<QHHI")  # number, kind, elements, further pages
LEAF_ELEMENT = struct.Struct("<IIII")  # kind, place from here, length of key, length of value
BRANCH_ELEMENT = struct.Struct("<IIQ")  # place from here, length of key, page
ROOT = struct.Struct("<QQ")  # page, sequence
TOP = struct.Struct("<IIIIQQQQQ")  # magic, version, page size, flags, root, sequence, free list, pages, transaction


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A table: key -> value or a further table; `sequence` is the last number that it gave away."""

    items: Mapping[bytes, "bytes | Bucket"]
    sequence: int = 0


def load(file: Path) -> Bucket:
    """Return what a database holds. Raises VreError when it cannot be read."""
    try:
        return read(file.read_bytes())
    except (struct.error, IndexError, KeyError) as error:
        raise VreError(
            f"{file} cannot be read: {error!r}", hint="has containerd's database another form now?"
        ) from error


def varint(number: int) -> bytes:
    """Return a number as Go's binary.PutUvarint writes it. Pure."""
    found = bytearray()
    while number >= 128:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def unvarint(data: bytes) -> int:
    """Return the number that Go's binary.PutUvarint wrote. Pure."""
    return sum((byte & 127) << 7 * place for place, byte in enumerate(data))


def timed(bucket: Bucket, when: int) -> Bucket:
    """Return a table with every time in it set. Pure."""
    stamp = struct.pack(">BqIh", 1, when + YEAR_ONE, 0, -1)  # time.Time.MarshalBinary, UTC

    def settled(key: bytes, value: "bytes | Bucket") -> "bytes | Bucket":
        if isinstance(value, Bucket):
            return timed(value, when)
        return stamp if key in TIMES else value

    return Bucket(items={key: settled(key, value) for key, value in bucket.items.items()}, sequence=bucket.sequence)


def read(data: bytes) -> Bucket:
    """Return what a database holds. Raises VreError when it is none. Pure."""
    tops = [TOP.unpack_from(data, HEADER.size), TOP.unpack_from(data, PAGE + HEADER.size)]
    sound = [
        top
        for number, top in enumerate(tops)
        if top[:3] == (MAGIC, VERSION, PAGE) and _sum(data, number * PAGE + HEADER.size)
    ]
    if not sound:
        raise VreError("no bbolt database with pages of 4096 bytes")
    newest = max(sound, key=lambda top: top[8])
    return _table(data, newest[4], newest[5])


def _sum(data: bytes, place: int) -> bool:
    (told,) = struct.unpack_from("<Q", data, place + TOP.size)
    return bool(told == checksum(data[place : place + TOP.size]))


def checksum(data: bytes) -> int:
    """Return the 64 bits of FNV-1a. Pure."""
    found = 0xCBF29CE484222325
    for byte in data:
        found = (found ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return found


def _table(data: bytes, page: int, sequence: int) -> Bucket:
    items: dict[bytes, bytes | Bucket] = {}
    waiting = [page]
    while waiting:
        place = waiting.pop() * PAGE
        _, kind, count, _ = HEADER.unpack_from(data, place)
        if kind == LEAF:
            items |= _leaf(data, data, place, count)
            continue
        if kind != BRANCH:
            raise KeyError(f"a page of kind {kind} in a table")
        starts = range(place + HEADER.size, place + HEADER.size + count * BRANCH_ELEMENT.size, BRANCH_ELEMENT.size)
        waiting += [BRANCH_ELEMENT.unpack_from(data, start)[2] for start in starts]
    return Bucket(items=items, sequence=sequence)


def _leaf(data: bytes, page: bytes, place: int, count: int) -> dict[bytes, "bytes | Bucket"]:
    """Return a leaf's items. `data` is the whole database, `page` what holds the leaf: that, or a value in it."""
    items: dict[bytes, bytes | Bucket] = {}
    for start in range(place + HEADER.size, place + HEADER.size + count * LEAF_ELEMENT.size, LEAF_ELEMENT.size):
        kind, to, key_length, length = LEAF_ELEMENT.unpack_from(page, start)
        key = page[start + to : start + to + key_length]
        value = page[start + to + key_length : start + to + key_length + length]
        items[key] = _nested(data, value) if kind & NESTED else value
    return items


def _nested(data: bytes, value: bytes) -> Bucket:
    page, sequence = ROOT.unpack_from(value)
    if page:
        return _table(data, page, sequence)
    _, _, count, _ = HEADER.unpack_from(value, ROOT.size)
    return Bucket(items=_leaf(data, value, ROOT.size, count), sequence=sequence)


def write(bucket: Bucket) -> bytes:
    """Return a database that holds a table: keys in order, no page unused. Pure."""
    pages: list[bytes] = [b"", b"", _page(2, FREE, 0, b"")]
    root = _place(bucket, pages)
    count = sum(len(page) // PAGE for page in pages) + 2
    for number in (0, 1):
        top = TOP.pack(MAGIC, VERSION, PAGE, 0, root, bucket.sequence, 2, count, number)
        pages[number] = _page(number, META, 0, top + struct.pack("<Q", checksum(top)))
    return b"".join(pages)


def _place(bucket: Bucket, pages: list[bytes]) -> int:
    """Add a table's page, those below it first, and return its number."""
    count, body = _elements(bucket, pages)
    number = sum(len(page) // PAGE for page in pages) + 2  # the two on top are not there yet
    pages.append(_page(number, LEAF, count, body))
    return number


def _elements(bucket: Bucket, pages: list[bytes]) -> tuple[int, bytes]:
    items = sorted(bucket.items.items())
    heads, rest = b"", b""
    for position, (key, value) in enumerate(items):
        content = _value(value, pages) if isinstance(value, Bucket) else value
        to = (len(items) - position) * LEAF_ELEMENT.size + len(rest)
        heads += LEAF_ELEMENT.pack(NESTED if isinstance(value, Bucket) else 0, to, len(key), len(content))
        rest += key + content
    return len(items), heads + rest


def _value(bucket: Bucket, pages: list[bytes]) -> bytes:
    """Return what stands for a table within another: itself where it is small, else the number of its page."""
    if not any(isinstance(value, Bucket) for value in bucket.items.values()):
        count, body = _elements(bucket, pages)
        if len(body) + HEADER.size <= PAGE // 4:
            return ROOT.pack(0, bucket.sequence) + HEADER.pack(0, LEAF, count, 0) + body
    return ROOT.pack(_place(bucket, pages), bucket.sequence)


def _page(number: int, kind: int, count: int, body: bytes) -> bytes:
    length = -(-(HEADER.size + len(body)) // PAGE) * PAGE
    return (HEADER.pack(number, kind, count, length // PAGE - 1) + body).ljust(length, b"\0")
