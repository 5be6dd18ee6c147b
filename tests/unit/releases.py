"""A small release, made as a real one is: a file for a disk, everything that describes it, signatures."""

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner

from vre import atomic
from vre.image.formats import FORMATS
from vre.release import build, envelope, files, manifest, provenance, publish
from vre.release.manifest import File, Manifest, Package, Program
from vre.release.verify import Wanted

KEY = CryptoSigner(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
STRANGER = CryptoSigner(Ed25519PrivateKey.from_private_bytes(b"s" * 32))
ID = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"
WANTED = Wanted(keys=[KEY.public_key], known=tuple(FORMATS))


def described(
    name: str = ID, *, architecture: str = "amd64", files: dict[str, File] | None = None, moment: str = ""
) -> Manifest:
    return Manifest(
        id=name,
        architecture=architecture,
        suite="trixie",
        inputs={"debian": "d" * 64},
        packages=(Package(name="bash", version="5.2-1", architecture="amd64", source="bash", source_version="5.2-1"),),
        programs={"etcd": Program(module="go.etcd.io/etcd/server/v3", version="v3.6.14", sums={"etcd": "e" * 64})},
        containers={"pause": f"localhost/vre/pause:3@sha256:{'a' * 64}"},
        moment=moment,
        files=files or {"disk.qcow2": File(sha256="f" * 64, size=1, format="qcow2")},
    )


def release(
    folder: Path,
    name: str = ID,
    *,
    key: CryptoSigner = KEY,
    content: bytes = b"a disk\n",
    architecture: str = "amd64",
    kind: str = "qcow2",
    moment: str = "",
) -> Path:
    """Write a release into `folder` and return its own folder."""
    home = folder / name
    home.mkdir(parents=True)
    bill = b'{"spdxVersion": "SPDX-2.3"}\n'
    lines = {}
    for file, text, form in (("disk.qcow2", content, kind), (manifest.BILL, bill, "")):
        (home / file).write_bytes(text)
        lines[file] = File(sha256=hashlib.sha256(text).hexdigest(), size=len(text), format=form)
    build.sign(home, described(name, architecture=architecture, files=lines, moment=moment), bill, key)
    return home


def test_result(folder: Path, *, passed: tuple[str, ...] = (publish.LAUNCH,), failed: tuple[str, ...] = (),
                key: CryptoSigner = KEY) -> None:  # fmt: skip
    """Write the signed result of a release's test."""
    stated = provenance.test_result((folder / manifest.NAME).read_bytes(), passed, failed)
    atomic.write(folder / files.TEST, envelope.sealed(provenance.text(stated), provenance.KIND, key))
