"""Whether a release is what was signed: every fault at once, and nothing is done with it before."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import SSlibKey

from vre.errors import Finding, Refused, VreError
from vre.release import envelope, files, manifest, provenance
from vre.release.manifest import Manifest

GIB = 1024**3
SPARE = GIB
"""Bytes that stay free on a disk that a release is copied to."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a release is checked against.

    Empty `architecture`: any. With a `format` only that file of the image need be there. `room` is the folder that the
    release will be copied to, if it will be. `known` are the formats that there are.
    """

    keys: Sequence[SSlibKey]
    known: Sequence[str]
    architecture: str = ""
    format: str = ""
    room: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release that was found to be what was signed. `told` is the text of its manifest."""

    folder: Path
    manifest: Manifest
    told: bytes

    def disk(self, kind: str) -> Path:
        """Return the file in a format. Raises VreError when the release has none."""
        name = self.manifest.disk(kind)
        if not name:
            raise VreError(f"release {self.manifest.id} has no {kind}", hint=f"vre image build --format {kind}")
        return self.folder / name


def verify(folder: Path, wanted: Wanted) -> Release:
    """Return a release. Raises Refused with everything that is wrong with it."""
    if not folder.is_dir():
        raise Refused([_finding(folder.name, f"{folder} is no folder with a release", "vre image build")])
    told, found = _signed(folder, wanted.keys)
    try:
        made = manifest.parse(told) if told else None
    except Refused as error:
        made, found = None, [*found, *error.findings]
    if made and told:
        found += [*_fits(made, wanted), *_files(folder, made, wanted), *_statements(folder, told, made, wanted)]
    if found or not made:
        raise Refused(found, hint="take it from where it was published again, or build it anew")
    return Release(folder=folder, manifest=made, told=told)


def _signed(folder: Path, keys: Sequence[SSlibKey]) -> tuple[bytes, list[Finding]]:
    """Return the manifest's text, which may be read further only when there is nothing wrong with it."""
    try:
        told = _payload(folder, files.MANIFEST, manifest.KIND, keys)
    except VreError as error:
        return b"", [_finding(files.MANIFEST, error.message, error.hint)]
    try:
        same = _read(folder / manifest.NAME) == told
    except VreError as error:
        return told, [_finding(manifest.NAME, error.message)]
    return told, [] if same else [_finding(manifest.NAME, "is not what was signed: it was altered")]


def _fits(made: Manifest, wanted: Wanted) -> Iterator[Finding]:
    if wanted.architecture and made.architecture != wanted.architecture:
        reason = f"is for {made.architecture}, this machine is {wanted.architecture}"
        yield _finding("architecture", reason)
    kinds = {file.format for file in made.files.values() if file.format}
    for kind in sorted(kinds - set(wanted.known)):
        yield _finding("format", f"{kind} is unknown; there are: {', '.join(wanted.known)}")
    if wanted.format and wanted.format not in kinds:
        yield _finding("format", f"there is no {wanted.format} in it", f"vre image build --format {wanted.format}")
    fault = space_fault(wanted.room, sum(file.size for file in made.files.values())) if wanted.room else None
    if fault:
        yield fault


def space_fault(folder: Path, size: int) -> Finding | None:
    """Return what is wrong where so many bytes do not fit below a folder."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    free, needed = shutil.disk_usage(there).free, size + SPARE
    if free >= needed:
        return None
    return _finding("disk", f"{free / GIB:.1f} GiB are free at {folder}, {needed / GIB:.1f} GiB are needed")


def _files(folder: Path, made: Manifest, wanted: Wanted) -> Iterator[Finding]:
    for name, file in sorted(made.files.items()):
        if wanted.format and file.format not in {"", wanted.format}:
            continue
        path = folder / name
        if not path.is_file() or path.is_symlink():
            yield _finding(name, "is missing")
        elif path.stat().st_size != file.size:
            yield _finding(name, f"has {path.stat().st_size} bytes instead of {file.size}: it was altered")
        elif digest(path) != file.sha256:
            yield _finding(name, "was altered")


def _statements(folder: Path, told: bytes, made: Manifest, wanted: Wanted) -> Iterator[Finding]:
    """Yield what is wrong with the bill of materials' signature, and with what was said of the release."""
    try:
        bill = _payload(folder, files.BILL, files.SPDX, wanted.keys)
        listed = made.files.get(manifest.BILL)
        if not listed or hashlib.sha256(bill).hexdigest() != listed.sha256:
            yield _finding(files.BILL, "is about another release")
    except VreError as error:
        yield _finding(files.BILL, error.message, error.hint)
    kinds = {files.PROVENANCE: provenance.PROVENANCE}
    if (folder / files.TEST).exists():
        kinds[files.TEST] = provenance.TEST
    for name, kind in kinds.items():
        try:
            provenance.about(json.loads(_payload(folder, name, provenance.KIND, wanted.keys)), told, kind)
        except VreError as error:
            yield _finding(name, error.message, error.hint)


def tested(release: Release, keys: Sequence[SSlibKey]) -> list[str]:
    """Return the tests that a release passed. Raises VreError when it has none, or one that failed."""
    where = f"release {release.manifest.id}"
    if not (release.folder / files.TEST).is_file():
        raise VreError(f"{where} was not tested", hint=f"vre image test {release.folder} --launch")
    said = json.loads(_payload(release.folder, files.TEST, provenance.KIND, keys))
    result = provenance.about(said, release.told, provenance.TEST)
    if result.get("result") != provenance.PASSED or result.get("failedTests") or not result.get("passedTests"):
        failed = ", ".join(map(str, result.get("failedTests", []))) or "no test was run"
        raise VreError(f"{where} did not pass its test: {failed}", hint="mend what failed and build it anew")
    return [str(each) for each in result["passedTests"]]


def digest(path: Path) -> str:
    """Return a file's SHA-256, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _payload(folder: Path, name: str, kind: str, keys: Sequence[SSlibKey]) -> bytes:
    if not (folder / name).is_file():
        raise VreError("is missing: the release is not signed")
    return envelope.opened(_read(folder / name), kind, keys)


def _read(path: Path) -> bytes:
    if not path.is_file() or path.is_symlink():
        raise VreError("is missing")
    if path.stat().st_size > envelope.LARGEST:
        raise VreError(f"has more than {envelope.LARGEST} bytes")
    return path.read_bytes()


def _finding(key: str, reason: str, example: str = "") -> Finding:
    return Finding(key=key, reason=reason, example=example)
