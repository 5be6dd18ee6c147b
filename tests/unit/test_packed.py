"""The software for plain Debian machines: what is in the archive, and how it gets onto a machine once."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vre.artifacts.containers import Containers
from vre.image import packed
from vre.image.recipe import Folder, Programs, Recipe, load
from vre.machine.software import HOME
from vre.progress import silent
from vre.provider import software
from vre.provider.handler import Context
from vre.provider.software import DONE, Software

CONTAINERS = {"pause": "localhost/vre/pause:1"}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    files, layout, programs = tmp_path / "files", tmp_path / "layout", tmp_path / "programs"
    for name in ("etc/sysctl.d/90-vre.conf", "etc/fstab", "etc/cloud/cloud.cfg.d/90-vre.cfg"):
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_text(name)
    layout.mkdir()
    (layout / "index.json").write_text("{}")
    programs.mkdir()
    (programs / "kubelet_1-1_amd64.deb").write_text("package")
    recipe = Recipe(
        suite="trixie", packages=("containerd",), files=files, boot_files=("etc/fstab", "etc/cloud/"),
        once=("etc/sysctl.d/",), programs={"kubernetes": Programs(folder="usr/bin")},
        accounts=("etcd",), enable=("kubelet.service",),
        folders={"var/lib/etcd": Folder(mode=0o700, owner="etcd")},
    )  # fmt: skip
    containers = Containers(layout=layout, names=CONTAINERS, digests={"pause": "sha256:00"}, key="k")
    folder = tmp_path / "made"
    folder.mkdir()
    packed.pack(folder, recipe, programs, containers, silent)
    return folder


def listed(folder: Path) -> set[str]:
    told = subprocess.run(["tar", "--list", "--file", folder / packed.TAR], capture_output=True, text=True, check=True)
    return {name.removeprefix("./") for name in told.stdout.split() if not name.endswith("/")}


def test_the_archive_holds_everything_but_what_a_disk_of_ours_starts_with(archive: Path) -> None:
    assert listed(archive) == {
        "etc/sysctl.d/90-vre.conf",
        "usr/share/vre/images.json",
        f"{HOME}/adopt.py",
        f"{HOME}/importer.py",
        f"{HOME}/layout/index.json",
        f"{HOME}/packages/kubelet_1-1_amd64.deb",
        f"{HOME}/task.json",
    }
    assert json.loads((archive / "images.json").read_text()) == {"pause": "localhost/vre/pause:1@sha256:00"}


def test_the_same_inputs_give_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    first = (archive / packed.TAR).read_bytes()
    again = tmp_path / "again"
    again.mkdir()
    files, programs = tmp_path / "files", tmp_path / "programs"
    recipe = replace(load(), files=files, boot_files=("etc/fstab", "etc/cloud/"), once=("etc/sysctl.d/",),
                     modes={}, overrides={}, accounts=("etcd",), enable=("kubelet.service",),
                     folders={"var/lib/etcd": Folder(mode=0o700, owner="etcd")},
                     programs={"kubernetes": Programs(folder="usr/bin")})  # fmt: skip
    containers = Containers(layout=tmp_path / "layout", names=CONTAINERS, digests={"pause": "sha256:00"}, key="k")
    packed.pack(again, recipe, programs, containers, silent)
    assert (again / packed.TAR).read_bytes() == first


def test_our_own_recipe_leaves_no_way_to_start_to_somebody_elses_disk() -> None:
    recipe = load()
    assert "linux-image-cloud-amd64" in recipe.boot
    assert {"containerd", "nftables", "needrestart"} <= set(recipe.packages)
    assert not set(recipe.boot) & set(recipe.packages)
    start = ("etc/fstab", "etc/kernel/cmdline", "etc/cloud/cloud.cfg.d/90-vre.cfg", "etc/hosts")
    assert all(name.startswith(recipe.boot_files) for name in start)


class Machine:
    """A machine that remembers what was sent to it and run on it."""

    def __init__(self) -> None:
        self.done = ""
        self.ran: list[list[str]] = []
        self.sent: list[Path] = []

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, command: list[str], **_: Any) -> str:
        self.ran.append(command)
        if command[:1] == ["python3"]:
            self.done = command[-1]
        return self.done if command[-1] == DONE else ""

    def send(self, source: Path, target: str, progress: Callable[[int, int], None]) -> None:
        progress(1024**2, 2 * 1024**2)
        self.sent.append(source)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(software, "wait", lambda *_, **__: made)
    monkeypatch.setattr(software, "Shell", lambda *_, **__: made)
    return made


def asked(archive: Path, identity: str = "one") -> dict[str, Any]:
    connection = {"address": "192.0.2.1", "hostKeys": ["ssh-ed25519 AAAA"]}
    return {"machine": "m", "connection": connection, "identity": identity, "archive": str(archive)}


def test_it_is_sent_once_and_found_again(machine: Machine, archive: Path) -> None:
    said: list[str] = []
    inputs = asked(archive / packed.TAR)
    _, state = Software().create(Context(report=said.append), inputs)
    assert [each.name for each in machine.sent] == [packed.TAR]
    assert any("of 0 MiB" in line for line in said)
    assert Software().create(Context(), inputs)[1] == state
    assert len(machine.sent) == 1
    assert Software().read(Context(), "m", state) is not None
    machine.done = ""
    assert Software().read(Context(), "m", state) is None


def test_another_archive_is_for_other_machines(machine: Machine, archive: Path) -> None:
    old, new = asked(archive / packed.TAR), asked(archive / packed.TAR, "two")
    assert not Software().diff(old, new).update | Software().diff(old, new).replace
    assert Software().diff(old, {**new, "machine": "other"}).replace == {"machine"}


def test_an_archive_that_is_not_there_is_refused_first(tmp_path: Path) -> None:
    [finding] = Software().check(asked(tmp_path / "none"))
    assert finding.key == "archive"
    assert "vre setup software" in finding.example
