"""What must not be seen, and where it was looked for: every secret of a launch is a canary."""

import base64
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.unpacked import unpacked

SEALED = "1b47061264138c4ac30d75fd1eb44270"
MARK = "4dabf18193072939515e22adb298388d"
SHORTEST = 10  # characters: less occurs by accident


def opened(value: Any) -> Iterator[str]:
    """Yield every text that an exported state (secrets opened) marks as a secret."""
    if isinstance(value, Mapping):
        if value.get(MARK) == SEALED:
            yield from texts(json.loads(value["plaintext"]))
        else:
            for each in value.values():
                yield from opened(each)
    elif isinstance(value, list):
        for each in value:
            yield from opened(each)


def texts(value: Any) -> Iterator[str]:
    """Yield every text inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


def canary(secret: str) -> str:
    """Return what to look for. Of a key the last whole line: its first lines are alike in all keys of a kind."""
    lines = [line for line in secret.splitlines() if line and "-----" not in line] or [secret]
    return lines[-2] if len(lines) > 1 else lines[0]


def canaries(secrets: Iterable[str]) -> set[str]:
    """Return what to look for: each secret as it is, and in base64 as Kubernetes and user-data write it."""
    found = {secret for secret in secrets if len(secret) >= SHORTEST}
    lines = {canary(each) for each in found}
    coded = {base64.b64encode(each.encode()).decode() for each in found}
    return {each for each in lines | coded if len(each) >= SHORTEST}


def holding(files: Iterable[Path], wanted: Iterable[str]) -> dict[str, list[str]]:
    """Return the files that hold a canary: path to the first characters of each. Logs of the engine's are packed."""
    marks = [each.encode() for each in wanted]
    found = {}
    for file in files:
        try:
            content = file.read_bytes()
        except OSError:
            continue
        content += unpacked(content)
        seen = [mark[:6].decode() + "…" for mark in marks if mark in content]
        if seen:
            found[str(file)] = seen
    return found


class Arguments(threading.Thread):
    """Collects the command lines of every process of this machine, many times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self.over = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        known: dict[str, int] = {}
        while not self.over.is_set():
            for folder in Path("/proc").glob("[0-9]*"):
                # A process changes its command line soon after its start, when it becomes another program.
                if known.get(folder.name, 0) < 5:
                    known[folder.name] = known.get(folder.name, 0) + 1
                    try:
                        self.seen.add((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                    except OSError:
                        continue
            time.sleep(0.05)


@contextmanager
def watching() -> Iterator[Arguments]:
    """Collect command lines while something runs."""
    watch = Arguments()
    watch.start()
    try:
        yield watch
    finally:
        watch.over.set()
        watch.join()
