"""Files that are written whole or not at all: a power cut leaves the old one, never half of the new."""

import contextlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; one that is the same already is left alone.

    A new one can be read by all; one that was there keeps its mode, and its owner where that may be given.
    """
    old = path.stat() if path.is_file() and not path.is_symlink() else None
    if old and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if old:
            with contextlib.suppress(PermissionError):
                os.chown(partial, old.st_uid, old.st_gid)
        Path(partial).chmod(stat.S_IMODE(old.st_mode) if old else 0o644)
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)
    settle(path.parent)


def settle(folder: Path) -> None:
    """Have a folder's names written to the disk: a rename survives a power cut only then."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remembered(path: Path) -> dict[str, Any]:
    """Return what a JSON file of ours holds; nothing where there is none, or none that can be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
