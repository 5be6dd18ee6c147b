"""Newer container images for standing machines: what is sent, what goes, which containers start anew."""

import json
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import renew

from vre.artifacts import oci
from vre.paths import project
from vre.provider import images
from vre.provider.handler import Context
from vre.provider.images import Images

FILES = project() / "build/image/files"
CONNECTION = {"address": "192.0.2.1", "hostKeys": ["ssh-ed25519 AAAA"]}
PROXY, HUB = "localhost/vre/kube-proxy:v1", "localhost/vre/hub:6"


def layout(folder: Path, **contents: str) -> dict[str, str]:
    """Write an OCI layout with images that share a layer; return short name -> reference."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    entries, references = [], {}
    for name, content in contents.items():
        (blobs / "shared").write_text("the layer that all share")
        (blobs / f"{name}-{content}").write_text(content)
        (blobs / f"{name}-{content}-config").write_text("{}")
        layers = [{"digest": "sha256:shared"}, {"digest": f"sha256:{name}-{content}"}]
        manifest = {"config": {"digest": f"sha256:{name}-{content}-config"}, "layers": layers}
        (blobs / f"{name}-{content}-manifest").write_text(json.dumps(manifest))
        entries.append({"digest": f"sha256:{name}-{content}-manifest"})
        references[name] = f"localhost/vre/{name}:1@sha256:{name}-{content}-manifest"
    (folder / "oci-layout").write_text("{}")
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return references


class Machine:
    """A machine that has images, takes what is sent, and remembers what it was asked to do with that."""

    def __init__(self, has: Mapping[str, str]) -> None:
        self.has = dict(has)
        self.unfinished: set[str] = set()
        self.sent: list[set[str]] = []
        self.tasks: list[dict[str, Any]] = []
        self.noted = ""
        self.asked: list[str] = []

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, command: list[str], **_: Any) -> str:
        if command[:2] == ["python3", "-"]:
            self.tasks.append(json.loads(command[2]))
            return ""
        if command[0] == "sh":
            self.asked.append(command[2])
            return self.noted if command[2] == images.FORMER else ""
        lines = [
            f"{name} type {digest} 1 MiB linux/amd64 {'-' if name in self.unfinished else renew.PINNED}"
            for name, digest in self.has.items()
        ]
        return "\n".join(["REF TYPE DIGEST SIZE PLATFORMS LABELS", *lines])

    def send(self, source: Path, target: str, progress: Callable[[int, int], None]) -> None:
        progress(1, 2)
        assert target == images.SENT
        with tarfile.open(source) as tar:
            self.sent.append({Path(each.name).name for each in tar if each.isfile()})


def machine_with(monkeypatch: pytest.MonkeyPatch, references: Mapping[str, str]) -> Machine:
    wanted = images.digests(references)
    has = {**wanted, **{other: wanted[name] for name, other in images.others(wanted).items()}}
    made = Machine(has)
    monkeypatch.setattr(images, "wait", lambda *_, **__: made)
    monkeypatch.setattr(images, "Shell", lambda *_, **__: made)
    return made


def asked(folder: Path, references: Mapping[str, str]) -> dict[str, Any]:
    return {"machine": "m", "connection": CONNECTION, "images": dict(references), "layout": str(folder)}


def test_a_machine_that_has_them_is_sent_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    references = layout(tmp_path, hub="old", proxy="old")
    machine = machine_with(monkeypatch, references)
    inputs = asked(tmp_path, references)
    assert Images().create(Context(), inputs) == ("m", inputs)
    assert (machine.sent, machine.tasks) == ([], [])


@pytest.mark.requirement("P-40", "H-05")
def test_only_what_changed_is_sent_and_the_former_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = layout(tmp_path / "old", hub="old", proxy="old")
    new = layout(tmp_path / "new", hub="new", proxy="old")
    machine = machine_with(monkeypatch, old)
    said: list[str] = []
    state, inputs = asked(tmp_path / "old", old), asked(tmp_path / "new", new)
    assert Images().diff(state, inputs).update == {"images"}
    assert Images().update(Context(report=said.append), "m", state, inputs) == inputs
    assert machine.sent == [{"oci-layout", "index.json", "hub-new", "hub-new-config", "hub-new-manifest", "shared"}]
    [task] = machine.tasks
    assert task["names"]["localhost/vre/hub:1"] == "localhost/vre/hub@sha256:hub-new-manifest"
    assert "localhost/vre/hub@sha256:hub-old-manifest" in task["keep"]
    assert "1 container images are new" in said


def test_an_import_that_was_broken_off_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    references = layout(tmp_path, hub="old", proxy="old")
    machine = machine_with(monkeypatch, references)
    machine.unfinished = {"localhost/vre/hub@sha256:hub-old-manifest"}
    found = Images().read(Context(), "m", asked(tmp_path, references))
    assert found is not None
    assert set(found.inputs["images"]) == {"proxy"}
    Images().create(Context(), asked(tmp_path, references))
    assert len(machine.tasks) == 1


def noted(*lists: Mapping[str, str]) -> str:
    return json.dumps({"lists": [dict(each) for each in lists], "settled": ""})


@pytest.mark.requirement("P-40")
def test_what_a_machine_has_something_newer_for_is_not_brought_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = layout(tmp_path / "old", hub="old", proxy="old")
    newer = layout(tmp_path / "newer", hub="newer", proxy="old")
    machine = machine_with(monkeypatch, newer)
    machine.noted = noted(old, newer)
    found = Images().read(Context(), "m", asked(tmp_path / "old", old))
    assert found is not None
    assert found.inputs["images"] == old  # there is nothing to put right
    other = layout(tmp_path / "other", hub="old", proxy="other")
    Images().update(Context(), "m", asked(tmp_path / "old", old), asked(tmp_path / "other", other))
    [task] = machine.tasks
    assert set(task["names"]) == {"localhost/vre/proxy:1"}
    assert not {each for each in machine.sent[0] if each.startswith("hub")}


def test_a_new_machine_takes_what_the_repository_has_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    references = layout(tmp_path, hub="old")
    machine = machine_with(monkeypatch, references)
    Images().create(Context(), asked(tmp_path, references))
    assert machine.asked[-1] == images.NEWEST
    machine.asked.clear()
    Images().update(Context(), "m", asked(tmp_path, references), asked(tmp_path, references))
    assert images.NEWEST not in machine.asked


def test_where_they_lie_here_is_no_change(tmp_path: Path) -> None:
    state = asked(tmp_path, layout(tmp_path, hub="old"))
    changed = Images().diff(state, {**state, "layout": "/elsewhere", "connection": {}})
    assert not changed.update | changed.replace
    assert Images().diff(state, {**state, "machine": "n"}).replace == {"machine"}


def test_what_could_not_be_sent_is_refused_first(tmp_path: Path) -> None:
    found = Images().check(asked(tmp_path / "none", {"hub": HUB}))
    assert [each.key for each in found] == ["layout", "images"]


def test_the_archive_is_the_same_each_time(tmp_path: Path) -> None:
    layout(tmp_path, hub="old")
    for name in ("one", "two"):
        oci.extract(tmp_path, {"sha256:hub-old-manifest"}, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


# on the machine


def image(identity: str, *names: str) -> dict[str, Any]:
    digests = [name for name in names if "@" in name]
    return {"id": identity, "repoTags": [name for name in names if name not in digests], "repoDigests": digests}


def container(identity: str, made_from: str, asked_for: str = "") -> dict[str, Any]:
    return {"id": identity, "imageRef": made_from, "image": {"image": made_from, "userSpecifiedImage": asked_for}}


def test_an_image_goes_when_nobody_wants_it_and_nothing_runs_from_it() -> None:
    there = [
        image("now", HUB, "localhost/vre/hub@sha256:now"),
        image("before", "localhost/vre/hub@sha256:before"),
        image("used", "localhost/vre/hub@sha256:used"),
        image("old", "localhost/vre/hub:5", "localhost/vre/hub@sha256:old"),
        image("theirs", "example.org/hub:1"),
    ]
    keep = {HUB, "localhost/vre/hub@sha256:now", "localhost/vre/hub@sha256:before"}
    gone = renew.unused(there, [container("c", "used")], keep)
    assert gone == ["localhost/vre/hub:5", "localhost/vre/hub@sha256:old"]


def test_the_image_that_every_pod_begins_with_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    [pause] = renew.sandboxes((FILES / "etc/containerd/config.toml").read_text())
    assert pause.startswith("localhost/vre/pause:")
    assert renew.sandboxes("    sandbox = 'localhost/vre/pause:4'\n") == {"localhost/vre/pause:4"}
    there = [image("old", pause, "localhost/vre/pause@sha256:old"), image("older", "localhost/vre/hub:5")]
    removed: list[str] = []

    def ran(*words: str) -> str:
        removed.extend(words[-1:] if "remove" in words else [])
        return json.dumps({"images": there, "containers": []})

    monkeypatch.setattr(renew, "run", ran)
    monkeypatch.setattr(os, "sync", lambda: None)
    monkeypatch.setattr(renew, "CONFIG", FILES / "etc/containerd/config.toml")
    names = {"localhost/vre/pause:9": "localhost/vre/pause@sha256:new", HUB: "localhost/vre/hub@sha256:new"}
    renew.main(names, [], images.SENT)
    assert removed == ["localhost/vre/hub:5"]


def test_what_is_on_the_last_lists_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one, two, three = ({"hub": f"localhost/vre/hub:{each}@sha256:{each}"} for each in ("1", "2", "3"))
    (tmp_path / "noted").write_text(noted(one, two, three))
    monkeypatch.setattr(renew, "NOTED", tmp_path / "noted")
    assert renew.of_lists() == {each for one in (two, three) for each in renew.both(one["hub"])}
    monkeypatch.setattr(renew, "NOTED", tmp_path / "none")
    assert renew.of_lists() == set()


def test_what_was_imported_is_on_the_disk_before_anything_is_made_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []

    def ran(*words: str) -> str:
        did.append(" ".join(words))
        return '{"images": [], "containers": [], "items": []}'

    monkeypatch.setattr(renew, "run", ran)
    monkeypatch.setattr(renew, "CONFIG", FILES / "etc/containerd/config.toml")
    monkeypatch.setattr(os, "sync", lambda: did.append("sync"))
    renew.main({PROXY: "localhost/vre/kube-proxy@sha256:new"}, [], images.SENT)
    steps = [next((step for step in (" import ", " tag ", "sync") if step in each), "") for each in did]
    assert [step for step in steps if step] == [" import ", "sync", " tag "]


@pytest.mark.requirement("H-05")
def test_a_container_whose_tag_is_another_image_now_starts_anew() -> None:
    there = [image("new", PROXY, "localhost/vre/kube-proxy@sha256:new"), image("same", HUB)]
    running = [
        container("1", "old", PROXY),
        container("2", "new", PROXY),
        container("3", "old", "localhost/vre/kube-proxy:v1@sha256:old"),
        container("4", "same", HUB),
        container("5", "their", "example.org/their:1"),
    ]
    assert renew.behind(there, running, {PROXY: "", HUB: ""}) == ["1"]
