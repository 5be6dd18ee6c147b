"""The table of container images, their layers and their layouts."""

import gzip
import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest
import yaml

from vre import paths
from vre.artifacts import containers, debian, oci, sandbox, table
from vre.errors import VreError
from vre.image import recipe

TABLE = table.load()
KUBEADM_WANTS = {"pause": "3.10.2", "etcd": "3.6.8-0", "kube-apiserver": "v1.36.3"}
AGENTS = {"kube-proxy", "flannel", "kube-network-policies"}
KEY_READERS = {"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"}


def image(name: str) -> table.ContainerImage:
    return next(each for each in TABLE.images if each.name == name)


def written(tmp_path: Path, **changes: object) -> Path:
    """Write a small table with one image, changed."""
    entry = {"tag": "1", "base": "static", "user": "65532", "source": "s", "licences": "MIT", **changes}
    whole = {
        "registry": "localhost/vre",
        "bases": {"static": {}, "debian": {"suite": "trixie", "packages": []}},
        "images": {"one": {name: value for name, value in entry.items() if value is not None}},
    }
    file = tmp_path / "images.yaml"
    file.write_text(yaml.safe_dump(whole))
    return file


@pytest.mark.requirement("H-41")
def test_only_what_must_runs_as_root_and_says_why() -> None:
    roots = {each.name for each in TABLE.images if each.user == "0"}
    assert roots == AGENTS | KEY_READERS
    assert all(image(name).root_because for name in roots)


@pytest.mark.requirement("H-41")
def test_an_image_that_runs_as_root_without_a_reason_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VreError, match="root_because: one"):
        table.load(written(tmp_path, user="0"))


@pytest.mark.requirement("P-62")
def test_every_image_starts_from_one_of_two_bases_that_are_built_with_it() -> None:
    assert {each.base for each in TABLE.images} == {"static", "debian"}
    entry = yaml.safe_load((paths.project() / "build" / "containers" / "images.yaml").read_text())
    assert set(entry["bases"]) == {"static", "debian"}
    assert entry["bases"]["debian"]["suite"] == recipe.load().suite, "patched from another archive than the machines"


@pytest.mark.parametrize("missing", ["base", "user", "source", "licences", "tag"])
def test_a_table_that_lacks_something_is_refused(tmp_path: Path, missing: str) -> None:
    with pytest.raises(VreError, match=r"images\.yaml"):
        table.load(written(tmp_path, **{missing: None}))


def test_a_word_that_the_table_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VreError, match="entrypiont"):
        table.load(written(tmp_path, entrypiont=["/one"]))


@pytest.mark.parametrize(("name", "tag"), KUBEADM_WANTS.items())
def test_the_control_plane_is_tagged_as_kubeadm_asks(name: str, tag: str) -> None:
    assert TABLE.full_name(image(name)) == f"localhost/vre/{name}:{tag}"


def test_programs_that_images_name_are_built_from_source() -> None:
    pinned = yaml.safe_load((paths.project() / "build" / "versions.yaml").read_text())["programs"]
    for each in TABLE.images:
        for source, names in each.programs.items():
            assert set(names) <= set(pinned[source]["packages"])
            assert each.version == pinned[source]["version"]


def test_the_machines_containerd_starts_pods_with_our_pause() -> None:
    settings = (paths.project() / "build/image/files/etc/containerd/config.toml").read_text()
    assert f'sandbox_image = "{TABLE.full_name(image("pause"))}"' in settings


@pytest.mark.requirement("P-59")
def test_every_image_says_where_it_is_from_and_under_which_licence() -> None:
    for each in TABLE.images:
        labels = containers._settings(each).labels
        assert labels["org.opencontainers.image.source"].startswith("https://")
        assert labels["org.opencontainers.image.licenses"]


def test_requirements_of_python_images_are_hashed() -> None:
    for each in TABLE.images:
        if each.python:
            lines = each.python.requirements.read_text().splitlines()
            pinned = [line for line in lines if line and not line.startswith((" ", "#"))]
            assert pinned
            assert all("==" in line and line.endswith("\\") for line in pinned)


# layers and layouts


def test_a_layer_is_the_same_bytes_whenever_it_is_made(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"one")
    program.chmod(0o4755)
    digests = []
    for number in range(2):
        os.utime(program, (number, number))
        oci.pack(tmp_path / "layer.tar", {"usr/local/bin/program": program, "etc/passwd": b"root"})
        digests.append(hashlib.sha256((tmp_path / "layer.tar").read_bytes()).hexdigest())
    assert digests[0] == digests[1]


@pytest.mark.requirement("H-41")
def test_a_layer_holds_no_setuid_file_and_belongs_to_root(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"one")
    program.chmod(0o6755)
    oci.pack(tmp_path / "layer.tar", {"usr/local/bin/program": program}, folders={"tmp": 0o1777})
    with tarfile.open(tmp_path / "layer.tar") as layer:
        modes = {entry.name: entry.mode for entry in layer}
        assert {(entry.uid, entry.gid) for entry in layer} == {(0, 0)}
    assert modes == {"tmp": 0o1777, "usr": 0o755, "usr/local": 0o755, "usr/local/bin": 0o755} | {
        "usr/local/bin/program": 0o755
    }


def layout(folder: Path, *blobs: str) -> Path:
    """Make a layout whose one manifest is the first blob."""
    place = folder / "blobs" / "sha256"
    place.mkdir(parents=True)
    for blob in blobs:
        (place / blob).write_text(blob)
    entry = {"mediaType": "m", "digest": f"sha256:{blobs[0]}", "size": 1, "annotations": {"x": "y"}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return folder


def image_of(folder: Path, name: str, *layers: bytes) -> Path:
    """Make a layout with one image of these layers, by gzip as umoci writes them."""
    place = folder / "blobs" / "sha256"
    place.mkdir(parents=True)

    def put(content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        (place / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    manifest = {
        "mediaType": "m",
        "config": put(name.encode(), "c"),
        "layers": [put(gzip.compress(layer, mtime=0), oci.GZIP) for layer in layers],
    }
    entry = put(json.dumps(manifest).encode(), "m")
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [{**entry, "annotations": {}}]}))
    return folder


def layer_of(path: Path, name: str) -> bytes:
    oci.pack(path / name, {name: name.encode() * 5000})
    return (path / name).read_bytes()


def test_gathered_images_share_layers_and_carry_their_names(tmp_path: Path) -> None:
    shared, own = (layer_of(tmp_path, name) for name in ("shared", "own"))
    one, two = image_of(tmp_path / "1", "one", shared), image_of(tmp_path / "2", "two", shared, own)
    target = tmp_path / "all"
    found = oci.gather({"localhost/vre/two:1": two, "localhost/vre/one:1": one}, target)
    index = json.loads((target / "index.json").read_text())
    named = {entry["annotations"][oci.CONTAINERD_NAME]: entry["digest"] for entry in index["manifests"]}
    assert named == found
    manifests = {name: oci.read(target, digest) for name, digest in found.items()}
    first, second = (manifests[f"localhost/vre/{name}:1"]["layers"] for name in ("one", "two"))
    assert first == second[:1]
    for layer, name in zip(second, ("shared", "own"), strict=True):
        assert layer["mediaType"] == oci.ZSTD
        with oci.opened(target, layer["digest"]) as tar:
            assert tar.getnames() == [name]
    # Every file is named by its own digest, and there is none that nobody names.
    blobs = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (target / "blobs/sha256").iterdir()}
    assert all(name == digest for name, digest in blobs.items())
    assert set(blobs) == {each.partition(":")[2] for digest in found.values() for each in oci.blobs(target, digest)}
    assert sorted(path.name for path in target.iterdir()) == ["blobs", "index.json", "oci-layout"]


def test_images_that_were_gathered_are_gathered_again_as_they_are(tmp_path: Path) -> None:
    first = oci.gather(
        {"localhost/vre/one:1": image_of(tmp_path / "1", "one", layer_of(tmp_path, "x"))}, tmp_path / "a"
    )
    again = oci.gather({"localhost/vre/one:1": tmp_path / "a"}, tmp_path / "b")
    assert again == first


def test_an_image_that_starts_from_a_base_leaves_the_base_alone(tmp_path: Path) -> None:
    base = layout(tmp_path / "base", "aa")
    before = (base / "index.json").read_text()
    oci.start(tmp_path / "new", base)
    (tmp_path / "new" / "index.json").write_text("changed")
    assert (base / "index.json").read_text() == before
    assert (tmp_path / "new/blobs/sha256/aa").samefile(base / "blobs/sha256/aa")


def test_a_layout_with_two_images_is_refused(tmp_path: Path) -> None:
    folder = layout(tmp_path / "1", "aa")
    entry = {"mediaType": "m", "digest": "sha256:aa", "size": 1}
    (folder / "index.json").write_text(json.dumps({"manifests": [entry, entry]}))
    with pytest.raises(VreError, match="2 images"):
        oci.descriptor(folder)


# Debian


LISTED = """Debian Backports\tbookworm-backports\thttp://one.example/debian/
Debian\tbookworm\thttp://one.example/debian/
Debian\tbookworm-updates\thttp://two.example/debian/
Debian-Security\tbookworm-security\thttp://one.example/debian-security/
"""


def test_the_mirrors_of_this_machine_are_found() -> None:
    assert debian.configured_mirrors(LISTED) == ("http://one.example/debian", "http://one.example/debian-security")


@pytest.mark.parametrize("label", ["Debian\t", "Debian-Security\t"])
def test_half_a_mirror_is_none(label: str) -> None:
    kept = "\n".join(line for line in LISTED.splitlines() if not line.startswith(label))
    assert debian.configured_mirrors(kept) is None


def test_a_named_mirror_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRE_DEBIAN_MIRROR", "http://mirror.example/debian/")
    assert debian.sources("trixie") == [
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/debian-security trixie-security main",
    ]


def test_sources_in_the_image_name_the_keys_they_are_checked_with() -> None:
    lines = "\n\n".join(debian.source_lines("trixie", "http://m.example/debian", "http://m.example/debian-security"))
    entries = debian.deb822(lines).split("\n\n")
    assert [entry.splitlines()[2] for entry in entries] == [
        "Suites: trixie",
        "Suites: trixie-updates",
        "Suites: trixie-security",
    ]
    assert all("Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" in entry for entry in entries)


# the sandbox


def test_mount_points_made_for_a_command_are_taken_away_again(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    made = sandbox._missing(tmp_path / "etc" / "pip" / "pip.conf", tmp_path)
    (tmp_path / "etc" / "pip").mkdir()
    (tmp_path / "etc" / "pip" / "pip.conf").touch()
    for place in made:
        sandbox._forget(place)
    assert [path.name for path in tmp_path.rglob("*")] == ["etc"]


def test_what_an_image_has_already_is_no_mount_point_of_ours(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "hosts").touch()
    (tmp_path / "etc" / "resolv.conf").symlink_to("../run/resolv.conf")
    assert sandbox._missing(tmp_path / "etc" / "hosts", tmp_path) == []
    assert sandbox._missing(tmp_path / "etc" / "resolv.conf", tmp_path) == []


def test_package_clients_inside_are_lent_the_settings_they_are_told_of(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    (tmp_path / ".config" / "pip" / "pip.conf").touch()
    lent = sandbox.network({"PIP_FIND_LINKS": str(wheels), "PIP_CERT": "/no/such/file"}, tmp_path)
    assert lent[str(wheels)] == wheels
    assert lent[f"{sandbox.HOME}/.config/pip/pip.conf"] == tmp_path / ".config/pip/pip.conf"
    assert "/no/such/file" not in lent
