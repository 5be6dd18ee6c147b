"""What a release says of itself: its image, what is in it, and the digest of every file. Pure."""

import json
from collections.abc import Mapping
from dataclasses import field
from functools import cache
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from vre.artifacts.versions import STRICT
from vre.errors import Finding, Refused

NAME = "manifest.json"
BILL = "sbom.spdx.json"
KIND = "application/vnd.vre.image-manifest.v1+json"
ID = r"[0-9a-f]{32}"

Id = Annotated[str, Field(pattern=rf"^{ID}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,100}$")]
"""No folder, nothing hidden: a name from somebody else never leads out of the release."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Package:
    """One of Debian's packages, and the source package it was built from."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Program:
    """Programs built from one Go module: the digest of each."""

    module: str
    version: str
    sums: Mapping[str, Sha256]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class File:
    """A file of the release; `format` says which of the image's formats it is, empty for what only describes it."""

    sha256: Sha256
    size: Annotated[int, Field(ge=0)]
    format: str = ""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Manifest:
    """All of manifest.json. `inputs` are the digests of what the image was made from.

    `moment` is that of Debian's archive, empty where it was made from a mirror that moves on.
    """

    id: Id
    architecture: str
    suite: str
    inputs: Mapping[str, str]
    packages: tuple[Package, ...]
    programs: Mapping[str, Program]
    containers: Mapping[str, str]
    moment: Annotated[str, Field(pattern=r"^([0-9]{8}T[0-9]{6}Z)?$")] = ""
    files: Annotated[Mapping[FileName, File], Field(min_length=1)] = field(default_factory=dict)

    def disk(self, kind: str) -> str:
        """Return the name of the file in a format, empty where there is none."""
        return next((name for name, file in self.files.items() if file.format == kind), "")


@cache
def _adapter() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def text(manifest: Manifest) -> bytes:
    """Return the text of manifest.json: the same from the same."""
    plain = _adapter().dump_python(manifest, mode="json")
    return (json.dumps(plain, indent=1, sort_keys=True) + "\n").encode()


def parse(told: bytes, *, where: str = NAME) -> Manifest:
    """Return a manifest. Raises Refused with every fault of the text."""
    try:
        return _adapter().validate_json(told)
    except ValidationError as error:
        raise Refused([_finding(fault["loc"], fault["msg"], where) for fault in error.errors()[:20]]) from None


def _finding(place: tuple[int | str, ...], reason: str, where: str) -> Finding:
    return Finding(key=".".join(str(part) for part in place) or "file", reason=reason, where=where)
