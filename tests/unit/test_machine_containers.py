"""What a machine does with the list of the package vre-images: what it takes, what it leaves, what it refuses."""

import hashlib
import itertools
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import containers
import pytest
import renew
import tested
from containers import Noted, Places, Unfit
from hypothesis import given
from hypothesis import strategies as st

REPOSITORY = "https://packages.example.org/vre"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class World:
    """A machine in a folder, and a repository; what containerd has is in `there`."""

    def __init__(self, root: Path) -> None:
        self.places = Places(root=root / "machine")
        self.blobs = root / "served"
        self.blobs.mkdir()
        self.there: dict[str, str] = {}
        self.fetched: list[str] = []
        self.imported: list[tuple[dict[str, str], set[str]]] = []
        self.said: list[str] = []
        self.write("sources", f"Types: deb\nURIs: {REPOSITORY}/\nSuites: ./\n")

    def write(self, place: str, text: str) -> None:
        path = getattr(self.places, place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def publish(self, name: str, content: str) -> str:
        """Put an image into the repository; all share a layer. Return its reference."""
        parts = [b"shared", f"{name} {content}".encode()]
        config = f'{{"of": "{name} {content}"}}'.encode()
        about = [{"digest": digest_of(each), "size": len(each)} for each in (config, *parts)]
        manifest = json.dumps({"config": about[0], "layers": about[1:]}).encode()
        for each in (*parts, config, manifest):
            (self.blobs / digest_of(each)[7:]).write_bytes(each)
        return f"localhost/vre/{name}@{digest_of(manifest)}"

    def made_with(self, **images: str) -> None:
        self.write("made", json.dumps(images))
        self.have(*images.values())

    def lists(self, **images: str) -> None:
        self.write("listed", json.dumps(images))

    def have(self, *images: str) -> None:
        for each in images:
            self.there |= dict.fromkeys(renew.both(each), each.partition("@")[2])

    def settle(self) -> bool:
        return containers.settle(self.places, self.said.append)

    # what stands in for apt and containerd

    def run(self, *words: str) -> None:
        assert words[: len(tested.FETCH)] == tested.FETCH
        address, target = words[len(tested.FETCH) :]
        assert address.startswith(f"{REPOSITORY}/blobs/")
        name = address.rpartition("/")[2]
        self.fetched.append(name)
        if not (self.blobs / name).exists():
            raise tested.Untrusted(f"download-file {address}: exit code 100\n404  Not Found")
        shutil.copyfile(self.blobs / name, target)

    def ctr(self, *words: str) -> str:
        assert words == ("images", "ls")
        lines = [f"{name} type {found} 1 MiB linux/amd64 {renew.PINNED}" for name, found in self.there.items()]
        return "\n".join(["REF TYPE DIGEST SIZE PLATFORMS LABELS", *lines])

    def take(self, names: Mapping[str, str], keep: object, sent: str) -> None:
        with tarfile.open(sent) as tar:
            self.imported.append((dict(names), set(tar.getnames())))
            told = tar.extractfile("index.json")
            assert told is not None
            for each in json.load(told)["manifests"]:
                self.have(f"{each['annotations'][containers.CALLED]}@{each['digest']}")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setattr(tested, "run", made.run)
    monkeypatch.setattr(renew, "ctr", made.ctr)
    monkeypatch.setattr(renew, "main", made.take)
    return made


@pytest.mark.requirement("P-40", "P-38")
def test_what_is_newer_on_the_list_is_fetched_and_brought_in(world: World) -> None:
    old, hub = world.publish("traefik:v3.6.6", "old"), world.publish("hub:6.1.1", "same")
    new = world.publish("traefik:v3.6.7", "new")
    world.made_with(traefik=old, hub=hub)
    world.lists(traefik=new, hub=hub)
    assert world.settle() is True
    [(names, files)] = world.imported
    assert names == dict([renew.both(new)])
    assert {each for each in files if each.startswith("blobs/")} == {f"blobs/sha256/{each}" for each in world.fetched}
    assert len(world.fetched) == 4  # manifest, configuration, two layers
    assert containers.standing(world.places) == {old: new}
    assert not list(world.places.scratch.iterdir())
    world.fetched.clear()
    assert world.settle() is False
    assert world.fetched == []


def test_a_machine_that_was_made_with_what_is_listed_asks_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = world.publish("hub:6.1.1", "same")
    world.made_with(hub=hub)
    world.lists(hub=hub)
    monkeypatch.setattr(renew, "ctr", None)
    assert world.settle() is False
    assert containers.standing(world.places) == {}


def test_a_machine_without_such_a_package_does_nothing(world: World) -> None:
    assert world.settle() is False
    assert containers.standing(world.places) == {}


@pytest.mark.requirement("P-11")
def test_another_minor_version_and_an_older_one_are_left_to_a_launch(world: World) -> None:
    hub, traefik = world.publish("hub:6.1.1", "a"), world.publish("traefik:v3.6.6", "a")
    world.made_with(hub=hub, traefik=traefik)
    world.lists(hub=world.publish("hub:6.2.0", "b"), traefik=world.publish("traefik:v3.6.5", "b"))
    assert world.settle() is False
    assert world.imported == []
    assert containers.standing(world.places) == {}


def test_what_a_launch_brought_stays_until_there_is_another_list(world: World) -> None:
    old, brought, newest = (world.publish("hub:6.1.1", each) for each in ("old", "brought", "newest"))
    world.made_with(hub=old)
    world.lists(hub=old)
    world.settle()
    world.have(brought)
    assert world.settle() is False
    assert world.there["localhost/vre/hub:6.1.1"] == brought.partition("@")[2]
    world.lists(hub=newest)
    assert world.settle() is True
    assert containers.standing(world.places) == {old: newest, brought: newest}


def test_what_was_broken_off_goes_on_with_the_next_run(world: World) -> None:
    old, new = world.publish("hub:6.1.1", "old"), world.publish("hub:6.1.2", "new")
    world.made_with(hub=old)
    world.lists(hub=new)
    layer = world.blobs / digest_of(b"hub:6.1.2 new")[7:]
    kept = layer.read_bytes()
    layer.unlink()
    with pytest.raises(Unfit, match="404"):
        world.settle()
    assert containers.standing(world.places) == {}  # nothing is changed to what is not there
    assert not list(world.places.scratch.iterdir())
    layer.write_bytes(kept)
    assert world.settle() is True
    assert containers.standing(world.places) == {old: new}


@pytest.mark.requirement("P-70")
@pytest.mark.parametrize("which", ["manifest", "layer", "configuration"])
def test_what_is_another_than_its_digest_says_is_refused(world: World, which: str) -> None:
    old, new = world.publish("hub:6.1.1", "old"), world.publish("hub:6.1.2", "new")
    manifest = json.loads((world.blobs / new.rpartition(":")[2]).read_text())
    layers = manifest["layers"]
    wrong = {"manifest": new, "layer": layers[1]["digest"], "configuration": manifest["config"]["digest"]}[which]
    with (world.blobs / wrong.rpartition(":")[2]).open("ab") as file:
        file.write(b" ")
    world.made_with(hub=old)
    world.lists(hub=new)
    with pytest.raises(Unfit, match="another file than its name says"):
        world.settle()
    assert world.imported == []


@pytest.mark.parametrize("wrong", ["sha256:../../etc/passwd", "sha512:aa", "sha256:", f"sha256:{'A' * 64}"])
def test_a_name_that_is_no_digest_is_no_address(world: World, wrong: str) -> None:
    old = world.publish("hub:6.1.1", "old")
    world.made_with(hub=old)
    world.lists(hub=f"localhost/vre/hub:6.1.2@{wrong}")
    with pytest.raises(Unfit, match="no digest"):
        world.settle()
    assert world.fetched == []


def test_without_a_repository_it_says_so(world: World) -> None:
    world.places.sources.unlink()
    world.made_with(hub=world.publish("hub:6.1.1", "old"))
    world.lists(hub=world.publish("hub:6.1.2", "new"))
    with pytest.raises(Unfit, match="no repository"):
        world.settle()


def test_a_disk_without_room_is_told_before_anything_is_fetched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.made_with(hub=world.publish("hub:6.1.1", "old"))
    world.lists(hub=world.publish("hub:6.1.2", "new"))
    monkeypatch.setattr(containers, "SPARE", 1 << 60)
    with pytest.raises(Unfit, match="MiB are free"):
        world.settle()
    assert len(world.fetched) == 1  # what says how much it is


def test_an_import_that_fails_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SystemExit("ctr images import: no space left")

    world.made_with(hub=world.publish("hub:6.1.1", "old"))
    world.lists(hub=world.publish("hub:6.1.2", "new"))
    monkeypatch.setattr(renew, "main", fail)
    with pytest.raises(Unfit, match="no space left"):
        world.settle()


def test_what_is_remembered_cut_short_is_what_the_machine_was_made_with(world: World) -> None:
    world.made_with(hub=world.publish("hub:6.1.1", "old"))
    world.write("noted", '{"lists": [')
    assert [dict(each) for each in containers.load(world.places).lists] == [json.loads(world.places.made.read_text())]


def test_as_a_program_it_takes_the_newest_list_first(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def run(*words: str) -> None:
        ran.append(" ".join(words))
        if "install" in words:
            world.lists(hub=world.publish("hub:6.1.2", "new"))
        if words[: len(tested.FETCH)] == tested.FETCH:
            world.run(*words)

    world.made_with(hub=world.publish("hub:6.1.1", "old"))
    monkeypatch.setattr(tested, "run", run)
    assert containers.main(world.places.root) == 0
    assert [each.split()[-1] for each in ran[:2]] == ["update", "vre-images"]
    assert len(world.imported) == 1
    assert "hub" in capsys.readouterr().out
    world.lists(hub="localhost/vre/hub:6.1.3@sha256:x")
    monkeypatch.setattr(tested, "run", lambda *_: None)
    assert containers.main(world.places.root) == 1
    assert "no digest" in capsys.readouterr().err


TAGS = st.tuples(st.just(6), st.integers(0, 1), st.integers(0, 2)).map(lambda each: "v" + ".".join(map(str, each)))
LISTS = st.lists(st.tuples(TAGS, st.sampled_from("abc")), min_size=1, max_size=6)


def level(reference: str) -> list[int]:
    return [int(part) for part in reference.partition("@")[0].partition(":v")[2].split(".")]


@given(LISTS)
def test_whatever_is_listed_pods_are_never_taken_to_an_older_patch_level_or_another_minor_one(
    listed: list[tuple[str, str]],
) -> None:
    lists: list[Mapping[str, str]] = [{"hub": f"localhost/vre/hub:{listed[0][0]}@sha256:{listed[0][1]}"}]
    for tag, content in listed[1:]:
        lists.append(containers.held({"hub": f"localhost/vre/hub:{tag}@sha256:{content}"}, lists[-1]))
    for before, after in itertools.pairwise(lists):
        assert level(before["hub"])[:2] == level(after["hub"])[:2]
        assert level(before["hub"]) <= level(after["hub"])
    found = containers.replaced(Noted(lists=tuple(lists)))
    assert set(found.values()) <= {lists[-1]["hub"]}
    assert set(found) == {each["hub"] for each in lists} - {lists[-1]["hub"]}
