"""A release on disk: the image in every wanted format, manifest, bill of materials, provenance, signatures."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from vre import atomic, image
from vre.artifacts import debian
from vre.artifacts.store import Store
from vre.errors import Refused, VreError
from vre.image import formats
from vre.progress import Report
from vre.release import contents as inside
from vre.release import envelope, files, manifest, provenance
from vre.release.contents import Contents
from vre.release.manifest import File, Manifest
from vre.release.verify import digest, space_fault

CONTENTS = "contents.json"
BILL_RECIPE = "1"  # raised when the same contents are written down in another way


def known(wanted: Sequence[str]) -> list[str]:
    """Return the formats that are wanted, each once. Raises VreError for one that there is not."""
    unknown = sorted(set(wanted) - set(formats.FORMATS))
    if unknown:
        raise VreError(f"no format is called {', '.join(unknown)}", hint=f"there are: {', '.join(formats.FORMATS)}")
    return sorted(set(wanted))


def build(output: Path, wanted: Sequence[str], store: Store, key: CryptoSigner, report: Report) -> Path:
    """Return the folder of the release of this checkout's image, written into `output`.

    What is there already and is right stays as it is. Raises VreError with what failed, Refused where there is no room.
    """
    kinds = known(wanted)
    built = image.build(store, report)
    described = store.get(
        "image-bill",
        {"recipe": BILL_RECIPE, "contents": inside.RECIPE, "image": built.id},
        lambda folder: _describe(folder, built, store, report),
        report,
    )
    folder = output / built.id
    folder.mkdir(parents=True, exist_ok=True)
    bill = (described / manifest.BILL).read_bytes()
    atomic.write(folder / manifest.BILL, bill)
    _fits(folder, [kind for kind in kinds if not _before(folder, kind)], built.path)
    disks = dict(_disk(kind, built.path, folder, report) for kind in kinds)
    lines = {manifest.BILL: File(sha256=hashlib.sha256(bill).hexdigest(), size=len(bill)), **disks}
    sign(folder, _manifest(built, inside.parse((described / CONTENTS).read_bytes()), lines), bill, key)
    return folder


def _describe(folder: Path, built: image.Image, store: Store, report: Report) -> None:
    from vre.release import bill  # the library behind it takes seconds to be read

    found = inside.look(built, store, report)
    report("bill of materials")
    (folder / CONTENTS).write_bytes(inside.text(found))
    (folder / manifest.BILL).write_bytes(bill.text(built.id, found))


def _manifest(built: image.Image, found: Contents, lines: dict[str, File]) -> Manifest:
    return Manifest(
        id=built.id,
        architecture=found.architecture,
        suite=found.suite,
        inputs=found.inputs,
        packages=found.packages,
        programs=found.programs,
        containers={name: each.reference for name, each in found.containers.items()},
        moment=debian.moment(),
        files=lines,
    )


def _disk(kind: str, disk: Path, folder: Path, report: Report) -> tuple[str, File]:
    """Write the image in one format; not again where it lies there as this checkout's own manifest says."""
    there = _before(folder, kind)
    if there:
        report(f"{there[0]}: checking what is there")
        if digest(folder / there[0]) == there[1].sha256:
            return there
    report(f"{kind}: writing")
    path = formats.write(kind, disk, folder, report)
    path.chmod(0o644)
    return path.name, File(sha256=digest(path), size=path.stat().st_size, format=kind)


def _fits(folder: Path, kinds: Sequence[str], disk: Path) -> None:
    """Raise Refused where what is still to be written does not fit."""
    fault = space_fault(folder, sum(formats.room(kind, disk) for kind in kinds)) if kinds else None
    if fault:
        raise Refused([fault])


def _before(folder: Path, kind: str) -> tuple[str, File] | None:
    """Return the file in a format that an earlier run wrote here to its end, as that run's manifest says."""
    try:
        told = (folder / manifest.NAME).read_bytes()
        signed = (folder / f"{manifest.NAME}{files.SIGNED}").read_bytes()
        if envelope.opened(signed, manifest.KIND, envelope.trusted()) != told:
            return None
        made = manifest.parse(told)
    except (OSError, VreError, Refused):
        return None
    name = made.disk(kind)
    return (name, made.files[name]) if name and made.id == folder.name and (folder / name).is_file() else None


def sign(folder: Path, made: Manifest, bill: bytes, key: CryptoSigner) -> None:
    """Write and sign what describes the release; the manifest's signature comes last and makes it whole."""
    told = manifest.text(made)
    stated = provenance.provenance(made, told, provenance.checkout(), str(key.public_key.keyid), provenance.pins())
    atomic.write(folder / manifest.NAME, told)
    atomic.write(folder / files.BILL, envelope.sealed(bill, files.SPDX, key))
    atomic.write(folder / files.PROVENANCE, envelope.sealed(provenance.text(stated), provenance.KIND, key))
    atomic.write(folder / files.MANIFEST, envelope.sealed(told, manifest.KIND, key))
