"""The list of container images as a package, and what they are made of beside it in the repository."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vre.artifacts.containers import Containers
from vre.packages import containers, repository
from vre.packages.number import Stated
from vre.run import run

NUMBER = containers.stated().number


def layout(folder: Path, **contents: str) -> Containers:
    """Write a layout with images that share a layer."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes) -> dict[str, object]:
        name = hashlib.sha256(content).hexdigest()
        (blobs / name).write_bytes(content)
        return {"digest": f"sha256:{name}", "size": len(content)}

    digests = {}
    for name, content in contents.items():
        layers = [put(b"shared"), put(f"{name} {content}".encode())]
        manifest = json.dumps({"config": put(f"of {name} {content}".encode()), "layers": layers})
        digests[name] = str(put(manifest.encode())["digest"])
    names = {name: f"localhost/vre/{name}:6.1.1" for name in contents}
    return Containers(layout=folder, names=names, digests=digests, key=folder.name)


def publish(made: Containers, target: Path, work: Path) -> list[Path]:
    """Publish as the command does."""
    work.mkdir(parents=True)
    found = containers.publish(made, target, work)
    repository.publish(found, target, target.parent / "keys")
    containers.clear(target)
    return found


def blobs(target: Path) -> set[str]:
    return {file.name for file in (target / "blobs").iterdir()}


@pytest.mark.requirement("P-40")
def test_a_list_is_published_with_all_that_its_images_are_made_of(tmp_path: Path) -> None:
    made, target = layout(tmp_path / "one", hub="a", proxy="a"), tmp_path / "target"
    [package] = publish(made, target, tmp_path / "work")
    assert package.name == f"vre-images_{containers.version()}_all.deb"
    assert containers.published(target) == [(containers.version(), made.references)]
    assert blobs(target) == {file.name for file in (made.layout / "blobs" / "sha256").iterdir()}
    assert all(hashlib.sha256((target / "blobs" / each).read_bytes()).hexdigest() == each for each in blobs(target))
    listed = run(["apt-ftparchive", "packages", "."], cwd=target)
    assert "Package: vre-images" in listed
    assert publish(made, target, tmp_path / "again") == []


def test_the_same_number_of_another_day_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "target"
    publish(layout(tmp_path / "one", hub="a"), target, tmp_path / "work")
    [package] = publish(layout(tmp_path / "two", hub="b"), target, tmp_path / "more")
    today = f"{datetime.now(UTC):%Y%m%d}"
    assert package.name.startswith(f"vre-images_{containers.stated().number}+{today}T")
    # What was there before comes again: no machine takes an older version, so this is a newer one.
    monkeypatch.setattr(containers, "stated", lambda: Stated(number=NUMBER + 1, digest=""))
    [third] = publish(layout(tmp_path / "three", hub="a"), target, tmp_path / "most")
    assert third.name == f"vre-images_{NUMBER + 1}_all.deb"
    assert [version for version, _ in containers.published(target)][-1] == str(NUMBER + 1)


def test_what_two_lists_no_longer_name_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, made = tmp_path / "target", []
    for number, content in enumerate("abc", start=1):
        monkeypatch.setattr(containers, "stated", lambda number=number: Stated(number=number, digest=""))
        made.append(layout(tmp_path / content, hub=content))
        publish(made[-1], target, tmp_path / f"work-{content}")
    kept = {file.name for each in made[1:] for file in (each.layout / "blobs" / "sha256").iterdir()}
    assert blobs(target) == kept
    assert len(containers.published(target)) == 3


def test_a_moment_of_the_archive_is_in_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRE_DEBIAN_MIRROR", "https://mirror.example.org/{archive}/20261121T000000Z")
    assert containers.version() == f"{NUMBER}+20261121T000000Z"
    assert containers._higher(containers.version(), str(NUMBER))
    assert containers._higher(str(NUMBER + 1), containers.version())


def test_the_number_grows_with_what_images_are_made_of() -> None:
    assert containers.digest() == containers.stated().digest, "make generate"


def test_the_same_list_is_the_same_package(tmp_path: Path) -> None:
    made = layout(tmp_path / "one", hub="a")
    files = []
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        files.append(containers.write(made, tmp_path / name).read_bytes())
        assert [file.suffix for file in (tmp_path / name).iterdir()] == [".deb"]
    assert files[0] == files[1]
