"""Where a text stands: in everything that a stack wrote, said, and sent, also where it is wrapped up."""

import base64
import binascii
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.engine.simulated.lifecycle import Life
from tests.unpacked import GZIP, unpacked

SHORTEST = 16  # characters of base64 that are worth a look
DEEPEST = 4  # wrappings
ENCRYPTED = b"PLOG"  # how a log of the engine's begins that was encrypted


def places(life: Life, text: str) -> list[str]:
    """Return where a text stands in the clear: `state`, `file`, `said`, or a property of what the cloud was told.

    `log` is a log of the engine's own: it keeps one of every run, encrypted as soon as it has the stack's key.
    """
    kept = life.engine.checkout
    folders = {"state": kept.backend, "file": kept.path / "stacks", "log": kept.logs}
    assert _files(kept.logs), "the engine keeps its logs elsewhere"
    files = [(what, file) for what, folder in folders.items() for file in _files(folder)]
    found = [f"{what}: {file.name}" for what, file in files if inside(text, file.read_bytes())]
    found += [f"said: run {number}" for number, said in enumerate(life.said) if text in said]
    return [*found, *sent(life, text)]


def sent(life: Life, text: str) -> list[str]:
    """Return what was sent to the cloud, or to a machine, with this text in it: `TYPE NAME PATH`, each once."""
    found = []
    for entry in life.cloud.journal():
        found += [f"{entry.type} {entry.name} {path}" for path, value in leaves(entry.told) if inside(text, value)]
    for thing in life.cloud.resources():
        found += [f"{thing.type} {thing.name} {path}" for path, value in leaves(thing.inputs) if inside(text, value)]
    return sorted(set(found))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield every text and number of a JSON value, with its path."""
    match value:
        case dict():
            for key, each in value.items():
                yield from leaves(each, f"{path}.{key}" if path else key)
        case list():
            for index, each in enumerate(value):
                yield from leaves(each, f"{path}[{index}]")
        case None:
            return
        case _:
            yield path, str(value).encode()


def unwrapped(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """Yield the data, and what it holds in base64, gzip and JSON."""
    yield data
    if depth == DEEPEST or data.startswith(ENCRYPTED):
        return
    if data.startswith(GZIP):
        yield from unwrapped(unpacked(data), depth + 1)
    elif len(data) >= SHORTEST:
        try:
            yield from unwrapped(base64.b64decode(data.strip(), validate=True), depth + 1)
        except (binascii.Error, ValueError):
            yield from _inner(data, depth)


def inside(text: str, data: bytes) -> bool:
    """Say whether a text is in some data, also where it is wrapped up."""
    return any(text.encode() in each for each in unwrapped(data))


def _inner(data: bytes, depth: int) -> Iterator[bytes]:
    """Yield what is wrapped up inside a text: words in base64, strings in JSON."""
    try:
        for _, each in leaves(json.loads(data)):
            if each != data:
                yield from unwrapped(each, depth + 1)
    except ValueError:
        for word in data.split():
            if len(word) >= SHORTEST and word != data:
                yield from unwrapped(word, depth + 1)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())
