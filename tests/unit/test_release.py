"""A release: what is written is the same every time, and nothing that was altered is taken."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import releases
from tests.unit.releases import ID, KEY, STRANGER, WANTED
from vre import atomic
from vre.errors import Refused, VreError
from vre.release import build, envelope, files, manifest, provenance, verify
from vre.setup.secrets import ensure_image_key


def faults(folder: Path, wanted: verify.Wanted = WANTED) -> dict[str, str]:
    """Return what is wrong with a release, by file or matter."""
    with pytest.raises(Refused) as refused:
        verify.verify(folder, wanted)
    return {finding.key: finding.reason for finding in refused.value.findings}


def test_a_release_is_taken_as_it_was_signed(tmp_path: Path) -> None:
    found = verify.verify(releases.release(tmp_path), WANTED)
    assert found.manifest.id == ID
    assert found.disk("qcow2").read_bytes() == b"a disk\n"
    assert found.manifest.packages[0].name == "bash"


def test_the_same_release_has_the_same_bytes(tmp_path: Path) -> None:
    one, other = (releases.release(tmp_path / name) for name in ("one", "other"))
    texts = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (one, other)]
    assert texts[0] == texts[1]
    assert set(texts[0]) == {*files.SAID, manifest.BILL, "disk.qcow2"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = releases.release(tmp_path_factory.mktemp("whole"))
    releases.test_result(folder)
    return folder


@pytest.mark.requirement("P-61")
@given(data=st.data())
def test_any_byte_of_any_file_that_is_flipped_is_refused(whole: Path, data: st.DataObject) -> None:
    names = sorted(path.name for path in whole.iterdir())
    file = whole / data.draw(st.sampled_from(names))
    before = file.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    flipped = bytes([before[place] ^ data.draw(st.integers(1, 255))])
    file.write_bytes(before[:place] + flipped + before[place + 1 :])
    try:
        assert faults(whole)
    finally:
        file.write_bytes(before)


@given(data=st.data())
def test_any_file_that_is_longer_or_cut_off_is_refused(whole: Path, data: st.DataObject) -> None:
    file = whole / data.draw(st.sampled_from(sorted(path.name for path in whole.iterdir())))
    before = file.read_bytes()
    changed = before[: data.draw(st.integers(0, len(before) - 1))] if data.draw(st.booleans()) else before + b"\n"
    file.write_bytes(changed)
    try:
        assert faults(whole)
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize(("old", "new"), [(b"\n", b" "), (b"{", b"{ "), (b"{", b'{"more": 1, '), (b"}\n", b"}")])
def test_an_envelope_that_says_the_same_in_another_way_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    file = releases.release(tmp_path) / files.MANIFEST
    text = file.read_bytes()
    assert json.loads(text.replace(old, new, 1))["payload"] == json.loads(text)["payload"]
    file.write_bytes(text.replace(old, new, 1))
    assert faults(file.parent) == {files.MANIFEST: "was altered after it was signed"}


@pytest.mark.parametrize("name", [*files.SAID, manifest.BILL, "disk.qcow2"])
def test_a_file_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    folder = releases.release(tmp_path)
    (folder / name).unlink()
    assert "is missing" in faults(folder)[name]


def test_a_link_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    folder = releases.release(tmp_path)
    (folder / "disk.qcow2").rename(tmp_path / "elsewhere")
    (folder / "disk.qcow2").symlink_to(tmp_path / "elsewhere")
    assert "disk.qcow2" in faults(folder)


@pytest.mark.requirement("P-70")
def test_a_release_signed_by_somebody_else_is_refused(tmp_path: Path) -> None:
    found = faults(releases.release(tmp_path, key=STRANGER))
    assert "a key that is not trusted" in found[files.MANIFEST]


@pytest.mark.requirement("P-61", "P-70")
def test_a_release_that_is_not_signed_is_refused(tmp_path: Path) -> None:
    folder = releases.release(tmp_path)
    envelope_text = json.loads((folder / files.MANIFEST).read_text())
    text = json.dumps({**envelope_text, "signatures": []}, indent=1, sort_keys=True) + "\n"
    (folder / files.MANIFEST).write_text(text)
    assert faults(folder) == {files.MANIFEST: "is not signed"}


def test_a_signature_under_a_trusted_name_is_refused_when_another_key_made_it(tmp_path: Path) -> None:
    folder = releases.release(tmp_path, key=STRANGER)
    text = (folder / files.MANIFEST).read_text()
    (folder / files.MANIFEST).write_text(text.replace(STRANGER.public_key.keyid, KEY.public_key.keyid))
    assert faults(folder) == {files.MANIFEST: "was altered after it was signed"}


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = releases.release(tmp_path, architecture="arm64", kind="floppy")
    (folder / "disk.qcow2").write_bytes(b"A disk\n")
    (folder / files.PROVENANCE).unlink()
    (folder / manifest.NAME).write_text("{}\n")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    found = faults(folder, replace(WANTED, architecture="amd64", room=tmp_path / "target"))
    assert found["architecture"] == "is for arm64, this machine is amd64"
    assert found["format"].startswith("floppy is unknown; there are: qcow2")
    assert found["disk"].startswith("0.0 GiB are free")
    assert found["disk.qcow2"] == "was altered"
    assert "is missing" in found[files.PROVENANCE]
    assert "altered" in found[manifest.NAME]


def test_a_statement_about_another_release_does_not_count(tmp_path: Path) -> None:
    one, other = releases.release(tmp_path), releases.release(tmp_path, releases.OTHER)
    for name in (files.PROVENANCE, files.BILL):
        shutil.copy(other / name, one / name)
    assert faults(one) == {files.PROVENANCE: "is about another release"}
    releases.test_result(other)
    releases.test_result(one)
    shutil.copy(other / files.TEST, one / files.TEST)
    assert "another release" in faults(one)[files.TEST]


def test_a_signed_text_of_another_kind_does_not_count(tmp_path: Path) -> None:
    folder = releases.release(tmp_path)
    told = (folder / manifest.NAME).read_bytes()
    (folder / files.MANIFEST).write_bytes(envelope.sealed(told, provenance.KIND, KEY))
    assert "not application/vnd.vre.image-manifest" in faults(folder)[files.MANIFEST]


@pytest.mark.parametrize("name", ["../disk", "a/b", ".hidden", "", "-x", "a" * 200])
def test_a_manifest_never_names_a_file_elsewhere(tmp_path: Path, name: str) -> None:
    told = json.loads(manifest.text(releases.described(files={"x": manifest.File(sha256="a" * 64, size=1)})))
    told["files"] = {name: told["files"]["x"]}
    with pytest.raises(Refused):
        manifest.parse(json.dumps(told).encode())


def test_a_signed_manifest_that_makes_no_sense_is_refused_without_a_traceback(tmp_path: Path) -> None:
    folder = releases.release(tmp_path)
    for told in (b"[]", b"\xff", b'{"id": 7}', b"9" * 5000, b"null"):
        atomic.write(folder / manifest.NAME, told)
        atomic.write(folder / files.MANIFEST, envelope.sealed(told, manifest.KIND, KEY))
        assert faults(folder)


@given(text=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_text_at_all_is_taken_for_an_envelope(text: bytes) -> None:
    with pytest.raises(VreError):
        envelope.opened(text, manifest.KIND, [KEY.public_key])


@pytest.mark.requirement("P-70")
def test_a_statement_is_in_the_form_that_others_read(tmp_path: Path) -> None:
    folder = releases.release(tmp_path)
    stated = json.loads(envelope.opened((folder / files.PROVENANCE).read_bytes(), provenance.KIND, [KEY.public_key]))
    subject = {each["name"]: each["digest"]["sha256"] for each in stated["subject"]}
    assert subject["disk.qcow2"] == hashlib.sha256(b"a disk\n").hexdigest()
    assert subject[manifest.NAME] == hashlib.sha256((folder / manifest.NAME).read_bytes()).hexdigest()
    assert (stated["_type"], stated["predicateType"]) == (provenance.STATEMENT, provenance.PROVENANCE)
    inputs = {each["name"]: each["digest"] for each in stated["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert inputs["debian"] == {"sha256": "d" * 64}
    assert len(inputs["build/versions.yaml"]["sha256"]) == 64
    assert stated["predicate"]["runDetails"]["builder"]["id"].startswith("urn:vre:key:")


@pytest.mark.requirement("P-70")
def test_a_build_names_the_commit_and_whether_it_was_changed() -> None:
    made = provenance.provenance(
        releases.described(), b"", provenance.Checkout(commit="c" * 40, clean=False), "builder", {}
    )
    first = made["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert first == {"name": "checkout", "digest": {"gitCommit": "c" * 40}, "annotations": {"clean": False}}


# keys


def test_the_checkouts_own_key_and_those_in_the_project_are_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "state"
    monkeypatch.setenv("VRE_STATE", str(own))
    monkeypatch.setattr("vre.paths.project", lambda: tmp_path)
    assert envelope.trusted() == []
    signer = envelope.signer()
    assert oct((own / "images.pem").stat().st_mode & 0o777) == "0o600"
    assert [key.keyid for key in envelope.trusted()] == [signer.public_key.keyid]
    other = ensure_image_key(tmp_path / "other")
    (tmp_path / "build" / "trusted").mkdir(parents=True)
    shutil.copy(other.with_name("images.pub"), tmp_path / "build" / "trusted" / "institute.pub")
    assert len({key.keyid for key in envelope.trusted()}) == 2
    assert envelope.signer(str(other)).public_key.keyid in {key.keyid for key in envelope.trusted()}


@pytest.mark.parametrize("half", ["images.pem", "images.pub"])
def test_a_key_that_the_environment_names_is_trusted_by_either_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: str
) -> None:
    monkeypatch.setenv("VRE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("vre.paths.project", lambda: tmp_path)
    key = ensure_image_key(tmp_path / "elsewhere")
    monkeypatch.setenv(envelope.KEY_VARIABLE, str(key.with_name(half)))
    assert [each.keyid for each in envelope.trusted(envelope.named())] == [envelope.signer(str(key)).public_key.keyid]
    key.chmod(0o644)
    if half == "images.pem":
        with pytest.raises(VreError, match="others"):
            envelope.trusted(envelope.named())
    monkeypatch.setenv(envelope.KEY_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(VreError, match="nowhere is not there"):
        envelope.trusted(envelope.named())


@pytest.mark.requirement("P-44")
def test_a_signing_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    key = ensure_image_key(tmp_path)
    key.chmod(0o640)
    with pytest.raises(VreError, match="can be read by others"):
        envelope.signer(str(key))


@pytest.mark.parametrize("text", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, text: str) -> None:
    for name, read in (("images.pem", lambda path: envelope.signer(str(path))), ("x.pub", envelope.public)):
        file = tmp_path / name
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(VreError, match="Ed25519"):
            read(file)


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(VreError, match="is not there"):
        envelope.signer(str(tmp_path / "nowhere.pem"))


# writing


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    atomic.write(file, b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write(file, b"after")
    assert file.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("wanted", [["floppy"], ["qcow2", "vmdk"]])
def test_a_format_that_there_is_not_is_refused_before_anything_is_built(wanted: list[str]) -> None:
    with pytest.raises(VreError) as refused:
        build.known(wanted)
    assert "qcow2" in refused.value.hint
