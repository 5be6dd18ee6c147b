"""What the layers of container images hold: Debian's, Python's and npm's packages, as they say themselves."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vre.artifacts import oci

PYTHON = re.compile(r"(?!usr/lib/python3/).*/([^/]+)\.dist-info/METADATA")
"""Not what Debian's own packages brought: that is Debian's, and known as such."""
NODE = re.compile(r"(?!usr/).*node_modules/(?:@[^/]+/)?[^/]+/package\.json")
DPKG = "var/lib/dpkg/status"


@dataclass(frozen=True, kw_only=True, order=True)
class Piece:
    """A package of some kind: deb, pypi or npm."""

    kind: str
    name: str
    version: str
    source: str = ""
    source_version: str = ""
    architecture: str = ""


def pieces(layout: Path, digest: str, seen: dict[str, list[Piece]]) -> list[Piece]:
    """Return the packages in an image of a layout; `seen` remembers layers, which images share."""
    found: dict[str, list[Piece]] = {"deb": [], "other": []}
    for layer in oci.read(layout, digest)["layers"]:
        name = str(layer["digest"])
        if name not in seen:
            seen[name] = sorted(set(_layer(layout, name)))
        debian = [piece for piece in seen[name] if piece.kind == "deb"]
        found["deb"] = debian or found["deb"]  # the list of a layer above says it all
        found["other"] += [piece for piece in seen[name] if piece.kind != "deb"]
    return sorted({*found["deb"], *found["other"]})


def _layer(layout: Path, digest: str) -> Iterator[Piece]:
    with oci.opened(layout, digest) as tar:
        for entry in tar:
            name = entry.name.removeprefix("./")
            wanted = name == DPKG or PYTHON.fullmatch(name) or NODE.fullmatch(name)
            stream = tar.extractfile(entry) if wanted and entry.isfile() else None
            if stream is not None:
                yield from _read(name, stream.read().decode(errors="replace"))


def _read(name: str, text: str) -> Iterator[Piece]:
    if name == DPKG:
        yield from installed(text)
    elif name.endswith("METADATA"):
        told = _fields(text.partition("\n\n")[0])
        yield Piece(kind="pypi", name=re.sub(r"[-_.]+", "-", told["Name"]).lower(), version=told["Version"])
    else:
        package: Mapping[str, Any] = json.loads(text)
        if package.get("name") and package.get("version"):
            yield Piece(kind="npm", name=str(package["name"]), version=str(package["version"]))


def installed(status: str) -> Iterator[Piece]:
    """Yield the installed packages that dpkg's status file names. Pure."""
    for block in status.split("\n\n"):
        told = _fields(block)
        if told.get("Status", "").endswith(" installed"):
            source, _, version = told.get("Source", told["Package"]).partition(" ")
            yield Piece(
                kind="deb",
                name=told["Package"],
                version=told["Version"],
                source=source,
                source_version=version.strip("()") or told["Version"],
                architecture=told["Architecture"],
            )


def _fields(block: str) -> dict[str, str]:
    lines: Iterable[str] = (line for line in block.splitlines() if line[:1].strip() and ": " in line)
    return {name: value for name, _, value in (line.partition(": ") for line in lines)}
