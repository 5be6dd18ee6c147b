"""OCI images as files: layers and layouts with umoci, no daemon, the same bytes from the same inputs."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vre.artifacts.debian import EPOCH
from vre.errors import VreError
from vre.run import run

CREATED = "2026-01-01T00:00:00Z"  # EPOCH, as OCI writes it
CONTAINERD_NAME = "io.containerd.image.name"  # the annotation containerd's import takes an image's name from
TAG = "image"  # the one tag inside a layout that holds one image
GZIP, ZSTD = "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd"
LEVEL = "-9"
"""Of zstd: higher ones cost twice the time for one part in a hundred."""
HISTORY = ("--history.created", CREATED, "--history.author", "vre")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a container runtime is told about an image."""

    user: str
    entrypoint: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = "/"
    labels: Mapping[str, str] = field(default_factory=dict)


def start(layout: Path, base: Path | None = None) -> None:
    """Begin a layout with one image: empty, or sharing every layer of the layout `base`."""
    if base is None:
        run(["umoci", "init", "--layout", layout])
        run(["umoci", "new", "--image", f"{layout}:{TAG}"])
    else:
        shutil.copytree(base, layout, copy_function=os.link)
        index = layout / "index.json"
        text = index.read_text()
        index.unlink()  # a link to the base's own
        index.write_text(text)


def add_layer(layout: Path, archive: Path, why: str) -> None:
    """Add a tar file as the top layer."""
    run(["umoci", "raw", "add-layer", "--image", f"{layout}:{TAG}", *HISTORY, "--history.created_by", why, archive])


def configure(layout: Path, settings: Settings) -> None:
    """Set user, entrypoint, environment, folder and labels, and drop what no manifest names any more."""
    command: list[str | Path] = ["umoci", "config", "--image", f"{layout}:{TAG}", "--created", CREATED]
    command += ["--no-history", "--config.user", settings.user, "--config.workingdir", settings.folder]
    command += ["--architecture", "amd64", "--os", "linux", "--clear", "config.cmd"]
    for word in settings.entrypoint:
        command += ["--config.entrypoint", word]
    for name, value in settings.environment.items():
        command += ["--config.env", f"{name}={value}"]
    for name, value in sorted(settings.labels.items()):
        command += ["--config.label", f"{name}={value}"]
    run(command)
    run(["umoci", "gc", "--layout", layout])


def unpack(layout: Path, bundle: Path) -> Path:
    """Unpack the image into `bundle` and return its root, to be changed and then `repack`ed."""
    run(["umoci", "unpack", "--image", f"{layout}:{TAG}", bundle])
    return bundle / "rootfs"


def repack(layout: Path, bundle: Path, why: str) -> None:
    """Add what changed in an unpacked image as one layer, with every new file at the same old time."""
    new = ("-newermt", f"@{EPOCH}", "-exec", "touch", "--no-dereference", "--date", f"@{EPOCH}", "{}", "+")
    run(["find", bundle / "rootfs", "-depth", *new])
    image = f"{layout}:{TAG}"
    run(["umoci", "repack", "--image", image, *HISTORY, "--history.created_by", why, bundle])


def pack(archive: Path, files: Mapping[str, Path | bytes], *, folders: Mapping[str, int] | None = None) -> None:
    """Write a layer: path in the image -> a file of ours or its bytes. Root owns all, no times, no setuid bits."""
    wanted = {**dict.fromkeys(_parents([*files, *(folders or {})]), 0o755), **(folders or {})}
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as out:
        for name in sorted(wanted):
            out.addfile(_entry(name, mode=wanted[name], kind=tarfile.DIRTYPE))
        for name in sorted(files):
            _add(out, name, files[name])


def _add(out: tarfile.TarFile, name: str, source: Path | bytes) -> None:
    if isinstance(source, bytes):
        entry = _entry(name, mode=0o644)
        entry.size = len(source)
        out.addfile(entry, io.BytesIO(source))
        return
    entry = _entry(name, mode=0o755 if os.access(source, os.X_OK) else 0o644)
    entry.size = source.stat().st_size
    with source.open("rb") as data:
        out.addfile(entry, data)


def _entry(name: str, *, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.mtime = mode, kind, EPOCH
    return entry


def _parents(names: Sequence[str]) -> list[str]:
    found = {str(parent) for name in names for parent in Path(name).parents}
    return sorted(found - {".", "/"})


def descriptor(layout: Path) -> dict[str, Any]:
    """Return the descriptor (media type, digest, size) of the one image in a layout."""
    manifests = json.loads((layout / "index.json").read_text())["manifests"]
    if len(manifests) != 1:
        raise VreError(f"{layout} holds {len(manifests)} images instead of one", hint="remove it and build again")
    return {name: manifests[0][name] for name in ("mediaType", "digest", "size")}


def gather(layouts: Mapping[str, Path], into: Path) -> dict[str, str]:
    """Put many one-image layouts, by their full names, into one that shares their layers; return full name -> digest.

    umoci's gzip becomes zstd: machines have a fifth less to fetch.
    """
    place = into / "blobs" / "sha256"
    place.mkdir(parents=True)
    packed: dict[str, dict[str, Any]] = {}
    entries = []
    for name, layout in sorted(layouts.items()):
        manifest = read(layout, descriptor(layout)["digest"])
        for layer in manifest["layers"]:
            if layer["digest"] not in packed:
                packed[layer["digest"]] = _packed(layout, layer, into)
        manifest["layers"] = [packed[layer["digest"]] for layer in manifest["layers"]]
        _share(layout, manifest["config"]["digest"], into)
        text = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        (into / _blob(digest)).write_bytes(text)
        entry = {"mediaType": descriptor(layout)["mediaType"], "digest": digest, "size": len(text)}
        entries.append({**entry, "annotations": {CONTAINERD_NAME: name}})
    (into / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (into / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}, indent=1))
    return digests(into)


def digests(layout: Path) -> dict[str, str]:
    """Return full name -> digest of every image of a gathered layout."""
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    return {str(each["annotations"][CONTAINERD_NAME]): str(each["digest"]) for each in entries}


def _packed(layout: Path, layer: dict[str, Any], into: Path) -> dict[str, Any]:
    """Put a layer into another layout, by zstd; return what its manifest says of it."""
    if layer["mediaType"] != GZIP:
        _share(layout, layer["digest"], into)
        return layer
    tar, made = into / "layer.tar", into / "layer.tar.zst"
    run(["zstd", "-q", "-d", layout / _blob(layer["digest"]), "-o", tar])
    run(["zstd", "-q", "-T0", LEVEL, tar, "-o", made])  # the same bytes by however many processors
    tar.unlink()
    with made.open("rb") as stream:
        digest = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    size = made.stat().st_size
    made.rename(into / _blob(digest))
    return {**layer, "mediaType": ZSTD, "digest": digest, "size": size}


def _share(layout: Path, digest: str, into: Path) -> None:
    target = into / _blob(digest)
    if not target.exists():
        target.hardlink_to(layout / _blob(digest))


@contextmanager
def opened(layout: Path, digest: str) -> Iterator[tarfile.TarFile]:
    """Yield a layer of a layout, to be read."""
    blob = layout / _blob(digest)
    with tempfile.TemporaryDirectory(prefix="vre-") as folder:
        tar = Path(folder, "layer.tar")
        run(["zstd", "-q", "-d", blob, "-o", tar])
        with tarfile.open(tar) as found:
            yield found


def blobs(layout: Path, digest: str) -> list[str]:
    """Return the digests of all that an image is: its manifest, its configuration, its layers."""
    manifest = read(layout, digest)
    return [digest, manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]


def extract(layout: Path, images: Collection[str], archive: Path) -> None:
    """Write some images of a layout, by their digests, as a layout in a tar file."""
    index = json.loads((layout / "index.json").read_text())
    index["manifests"] = [each for each in index["manifests"] if each["digest"] in images]
    wanted = {blob for each in index["manifests"] for blob in blobs(layout, each["digest"])}
    files: dict[str, Path | bytes] = {name: layout / name for name in map(_blob, sorted(wanted))}
    pack(archive, {**files, "oci-layout": layout / "oci-layout", "index.json": json.dumps(index).encode()})


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def read(layout: Path, digest: str) -> dict[str, Any]:
    """Return a manifest or configuration of a layout."""
    found: dict[str, Any] = json.loads((layout / _blob(digest)).read_text())
    return found
