"""The bill of materials: SPDX 2.3 in JSON, of everything that is known to be in an image. Pure.

https://spdx.github.io/spdx-spec/v2.3/ and, for the names of packages, https://github.com/package-url/purl-spec
"""

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from spdx_tools.spdx.model.actor import Actor, ActorType
from spdx_tools.spdx.model.document import CreationInfo, Document
from spdx_tools.spdx.model.package import (
    ExternalPackageRef,
    ExternalPackageRefCategory,
    Package,
    PackagePurpose,
)
from spdx_tools.spdx.model.relationship import Relationship, RelationshipType
from spdx_tools.spdx.model.spdx_no_assertion import SpdxNoAssertion
from spdx_tools.spdx.writer.json import json_writer

from vre.artifacts.debian import EPOCH
from vre.release.contents import Contents
from vre.release.layers import Piece
from vre.release.manifest import Program

DOCUMENT = "SPDXRef-DOCUMENT"


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One line of the bill: `part_of` is the address of what contains it."""

    name: str
    version: str
    purl: str
    part_of: str
    purpose: PackagePurpose = PackagePurpose.LIBRARY


def text(image_id: str, contents: Contents) -> bytes:
    """Return the text of sbom.spdx.json: the same from the same."""
    image = Thing(
        name="vre-image", version=image_id, purl=f"pkg:generic/vre-image@{image_id}", part_of="",
        purpose=PackagePurpose.OPERATING_SYSTEM,
    )  # fmt: skip
    things = [image, *_things(image.purl, contents)]
    written = io.StringIO()
    json_writer.write_document_to_stream(_document(image_id, things), written, validate=False)
    return f"{written.getvalue()}\n".encode()


def _document(image_id: str, things: list[Thing]) -> Document:
    created = CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id=DOCUMENT,
        name=f"vre-image-{image_id}",
        document_namespace=f"https://spdx.org/spdxdocs/vre-image-{image_id}",
        creators=[Actor(ActorType.TOOL, "vre-image-build")],
        created=datetime.fromtimestamp(EPOCH, UTC).replace(tzinfo=None),  # the files' own time: the same every time
    )
    packages = {thing.purl: _package(thing) for thing in things}
    edges = sorted({(thing.part_of, thing.purl) for thing in things})
    relationships = [
        Relationship(_id(above), RelationshipType.CONTAINS, _id(below))
        if above
        else Relationship(DOCUMENT, RelationshipType.DESCRIBES, _id(below))
        for above, below in edges
    ]
    return Document(created, packages=[packages[purl] for purl in sorted(packages)], relationships=relationships)


def _package(thing: Thing) -> Package:
    return Package(
        spdx_id=_id(thing.purl),
        name=thing.name,
        version=thing.version,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        primary_package_purpose=thing.purpose,
        external_references=[ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", thing.purl)],
    )


def _id(purl: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", purl.removeprefix("pkg:"))[:80]
    return f"SPDXRef-{readable}-{hashlib.sha256(purl.encode()).hexdigest()[:12]}"


def _things(image: str, contents: Contents) -> Iterator[Thing]:
    for each in contents.packages:
        piece = Piece(
            kind="deb", name=each.name, version=each.version, source=each.source, source_version=each.source_version,
            architecture=each.architecture,
        )  # fmt: skip
        yield _thing(piece, image, contents.suite)
    for name in contents.own:
        yield from _programs(name, contents.programs[name], image, contents)
    for name, container in sorted(contents.containers.items()):
        digest = container.reference.rpartition("@")[2]
        purl = f"pkg:oci/{name}@{quote(digest, safe='')}"
        version = container.reference.partition("@")[0].rpartition(":")[2]
        yield Thing(name=name, version=version, purl=purl, part_of=image, purpose=PackagePurpose.CONTAINER)
        for source in container.programs:
            yield from _programs(source, contents.programs[source], purl, contents)
        for piece in container.pieces:
            yield _thing(piece, purl, contents.suite)


def _programs(name: str, program: Program, above: str, contents: Contents) -> Iterator[Thing]:
    purl = golang(program.module, program.version)
    yield Thing(name=name, version=program.version, purl=purl, part_of=above, purpose=PackagePurpose.APPLICATION)
    for module, version in contents.modules[name]:
        if (module, version) != (program.module, program.version):
            yield Thing(name=module, version=version, purl=golang(module, version), part_of=purl)


def golang(module: str, version: str) -> str:
    """Return the address of a Go module."""
    return f"pkg:golang/{quote(module, safe='/')}@{quote(version)}"


def _thing(piece: Piece, above: str, suite: str) -> Thing:
    name, version = quote(piece.name, safe="/"), quote(piece.version, safe="~+")
    if piece.kind != "deb":
        return Thing(name=piece.name, version=piece.version, purl=f"pkg:{piece.kind}/{name}@{version}", part_of=above)
    origin = f"{piece.source}@{piece.source_version}"
    upstream = "" if origin == f"{piece.name}@{piece.version}" else f"&upstream={quote(origin, safe='~+')}"
    purl = f"pkg:deb/debian/{name}@{version}?arch={piece.architecture}&distro={suite}{upstream}"
    return Thing(name=piece.name, version=piece.version, purl=purl, part_of=above)
