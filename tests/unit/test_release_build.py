"""What a release is built from, and that building it again changes nothing."""

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from spdx_tools.spdx.model.relationship import RelationshipType
from spdx_tools.spdx.parser.json.json_parser import parse_from_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from tests.unit.releases import ID, KEY, STRANGER, WANTED
from vre import image
from vre.artifacts.store import Store
from vre.image import formats
from vre.progress import silent
from vre.release import bill, build, contents, files, layers, manifest, verify
from vre.release.contents import Container, Contents
from vre.release.layers import Piece
from vre.release.manifest import Package, Program

STATUS = """Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2-1+b1
Source: bash (5.2-1)
Description: a shell
 with: a colon

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: tzdata
Status: hold ok installed
Architecture: all
Version: 2026a-0+deb13u1
"""
INSIDE = Contents(
    suite="trixie",
    architecture="amd64",
    inputs={"debian": "d" * 64},
    packages=(Package(name="bash", version="1:5.2-1", architecture="amd64", source="b", source_version="5"),),
    programs={"etcd": Program(module="go.etcd.io/etcd/server/v3", version="v3.6.14", sums={"etcd": "e" * 64})},
    own=("etcd",),
    modules={"etcd": (("go.etcd.io/etcd/server/v3", "v3.6.14"), ("golang.org/x/net", "v0.50.0"))},
    containers={
        "hub": Container(
            reference=f"localhost/vre/hub:6@sha256:{'a' * 64}",
            programs=("etcd",),
            pieces=(Piece(kind="npm", name="@jupyter/x", version="1.0.0"), Piece(kind="pypi", name="pip", version="1")),
        )
    },
)


def test_dpkg_says_what_is_installed_and_nothing_else() -> None:
    found = list(layers.installed(STATUS))
    assert [(each.name, each.version, each.source, each.source_version) for each in found] == [
        ("bash", "5.2-1+b1", "bash", "5.2-1"),
        ("tzdata", "2026a-0+deb13u1", "tzdata", "2026a-0+deb13u1"),
    ]


def test_go_says_which_modules_were_linked() -> None:
    told = (
        "/x/etcd: go1.26.8\n\tpath\tgo.etcd.io/etcd/server/v3\n\tmod\tvre/build/etcd\t(devel)\t\n"
        "\tdep\tgolang.org/x/net\tv0.50.0\th1:abc=\n\tdep\tk8s.io/api\tv0.0.0\n\t=>\tk8s.io/api\tv0.36.3\th1:def=\n"
        "\tdep\tgithub.com/local\tv1.0.0\n\t=>\t./changed/0\t(devel)\t\n\tbuild\t-compiler=gc\n"
    )
    assert contents.linked(told) == [
        ("stdlib", "v1.26.8"),
        ("golang.org/x/net", "v0.50.0"),
        ("k8s.io/api", "v0.36.3"),
        ("github.com/local", "v1.0.0"),
    ]


def layer(blobs: Path, name: str, members: dict[str, str]) -> None:
    with tarfile.open(blobs / name, "w:gz") as tar:
        for path, text in members.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))


@pytest.mark.requirement("P-60")
def test_layers_say_which_packages_they_hold(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    python = "opt/hub/lib/python3.13/site-packages"
    layer(blobs, "one", {"./var/lib/dpkg/status": STATUS, "usr/lib/python3/dist-packages/x.dist-info/METADATA": "a"})
    metadata = "Metadata-Version: 2.4\nName: Jupyter_Hub\nVersion: 6.1.1\n\nName: not this\nVersion: 0\n"
    layer(
        blobs,
        "two",
        {
            f"{python}/jupyter_hub-6.1.1.dist-info/METADATA": metadata,
            "opt/proxy/node_modules/@jupyter/proxy/package.json": json.dumps(
                {"name": "@jupyter/proxy", "version": "5"}
            ),
            "opt/proxy/node_modules/x/lib/package.json": json.dumps({"type": "module"}),
        },
    )
    layer(blobs, "three", {"var/lib/dpkg/status": STATUS.replace("2026a", "2026b")})
    (blobs / "m").write_text(json.dumps({"layers": [{"digest": f"sha256:{each}"} for each in ("one", "two", "three")]}))
    found = layers.pieces(tmp_path, "sha256:m", {})
    assert [(each.kind, each.name, each.version) for each in found] == [
        ("deb", "bash", "5.2-1+b1"),
        ("deb", "tzdata", "2026b-0+deb13u1"),
        ("npm", "@jupyter/proxy", "5"),
        ("pypi", "jupyter-hub", "6.1.1"),
    ]


@pytest.mark.requirement("P-60", "P-59")
def test_the_bill_of_materials_is_valid_and_whole(tmp_path: Path) -> None:
    file = tmp_path / manifest.BILL
    file.write_bytes(bill.text(ID, INSIDE))
    document = parse_from_file(str(file))
    assert [str(fault.validation_message) for fault in validate_full_spdx_document(document)] == []
    names = {str(each.external_references[0].locator): each.spdx_id for each in document.packages}
    assert set(names) == {
        f"pkg:generic/vre-image@{ID}",
        "pkg:deb/debian/bash@1%3A5.2-1?arch=amd64&distro=trixie&upstream=b%405",
        "pkg:golang/go.etcd.io/etcd/server/v3@v3.6.14",
        "pkg:golang/golang.org/x/net@v0.50.0",
        f"pkg:oci/hub@sha256%3A{'a' * 64}",
        "pkg:npm/%40jupyter/x@1.0.0",
        "pkg:pypi/pip@1",
    }
    below = {(each.spdx_element_id, each.related_spdx_element_id) for each in document.relationships
             if each.relationship_type == RelationshipType.CONTAINS}  # fmt: skip
    assert (names[f"pkg:oci/hub@sha256%3A{'a' * 64}"], names["pkg:pypi/pip@1"]) in below
    assert file.read_bytes() == bill.text(ID, INSIDE)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with a built image, whose disk is small."""
    home = tmp_path / "store"
    home.mkdir()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", home / "disk.qcow2", "4M"], check=True)
    (home / "packages.json").write_text("[]")
    built = image.Image(path=home / "disk.qcow2", images={}, id=ID, packages=home / "packages.json", layout=home)
    monkeypatch.setattr(image, "build", lambda *_: built)
    monkeypatch.setattr(contents, "look", lambda *_: INSIDE)
    monkeypatch.setenv("VRE_STATE", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    monkeypatch.setattr("vre.release.envelope.trusted", lambda *_: [KEY.public_key])
    return Store(home / "artifacts")


def test_a_release_that_was_built_is_taken(tmp_path: Path, store: Store) -> None:
    folder = build.build(tmp_path / "dist", ["qcow2", "raw"], store, KEY, silent)
    found = verify.verify(folder, WANTED)
    assert folder.name == ID
    assert found.disk("raw").stat().st_size == 4 * 1024**2
    assert found.manifest.containers == {"hub": f"localhost/vre/hub:6@sha256:{'a' * 64}"}


def test_a_build_with_nothing_changed_writes_nothing_anew(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = build.build(tmp_path / "dist", ["qcow2"], store, KEY, silent)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    monkeypatch.setattr(formats, "write", None)
    assert build.build(tmp_path / "dist", ["qcow2"], store, KEY, silent) == folder
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before


def test_two_builds_in_different_places_have_the_same_bytes(tmp_path: Path, store: Store) -> None:
    one, other = (build.build(tmp_path / name, ["qcow2"], store, KEY, silent) for name in ("one", "other"))
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def test_a_disk_that_was_altered_is_written_again(tmp_path: Path, store: Store) -> None:
    folder = build.build(tmp_path / "dist", ["qcow2"], store, KEY, silent)
    right = (folder / "disk.qcow2").read_bytes()
    (folder / "disk.qcow2").write_bytes(right[:-1] + b"X")
    build.build(tmp_path / "dist", ["qcow2"], store, KEY, silent)
    assert (folder / "disk.qcow2").read_bytes() == right


def test_a_disk_that_only_a_strangers_manifest_vouches_for_is_written_again(tmp_path: Path, store: Store) -> None:
    folder = build.build(tmp_path / "dist", ["qcow2"], store, STRANGER, silent)
    (folder / "disk.qcow2").unlink()
    shutil.copy(folder / files.MANIFEST, folder / "disk.qcow2")
    build.build(tmp_path / "dist", ["qcow2"], store, KEY, silent)
    assert verify.verify(folder, WANTED)
