"""Runs on a machine, as root, with the standard library only: one JSON request on standard input, one answer out.

Its text is handed to `python3 -c` over SSH; what is secret is in the request, never in an argument list.
"""

import base64
import contextlib
import hashlib
import json
import os
import pwd
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    answer = {"put": put, "digests": digests, "remove": remove}[request["do"]](request)
    json.dump(answer, sys.stdout)


def put(request: dict[str, Any]) -> dict[str, bool]:
    """Write every file whole or not at all; return which ones changed."""
    return {entry["path"]: write(entry) for entry in request["files"]}


def write(entry: dict[str, str]) -> bool:
    """Write one file beside its place, then move it there; return whether anything differed."""
    path, content = Path(entry["path"]), base64.b64decode(entry["content"])
    mode, owner = int(entry["mode"], 8), pwd.getpwnam(entry["owner"])
    if look(str(path)) == [hashlib.sha256(content).hexdigest(), f"{mode:04o}", entry["owner"]]:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as sink:
            sink.write(content)
            os.fchmod(sink.fileno(), mode)
            os.fchown(sink.fileno(), owner.pw_uid, owner.pw_gid)
            sink.flush()
            os.fsync(sink.fileno())
        Path(beside).replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(beside).unlink()
    return True


def digests(request: dict[str, Any]) -> dict[str, list[str]]:
    """Return content digest, mode and owner of each path; an empty list where there is no file."""
    return {path: look(path) for path in request["paths"]}


def look(path: str) -> list[str]:
    """Return the content digest, mode and owner of one file."""
    try:
        found = Path(path).stat()
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return []
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    return [hashlib.sha256(content).hexdigest(), f"{found.st_mode & 0o7777:04o}", owner]


def remove(request: dict[str, Any]) -> dict[str, bool]:
    """Remove files; one that is not there is no fault."""
    for path in request["paths"]:
        Path(path).unlink(missing_ok=True)
    return dict.fromkeys(request["paths"], True)


if __name__ == "__main__":
    main()
