"""Bad input to the image's commands and to a launch: refused before anything is touched, with a word that says why."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit import releases
from tests.unit.releases import ID, KEY, STRANGER
from vre import engine, image, paths
from vre.artifacts import debian
from vre.artifacts.store import Store
from vre.cli import image_checks
from vre.cli.checks import Check
from vre.cli.main import app
from vre.cloud import Libvirt
from vre.errors import Refused, VreError
from vre.image import boot
from vre.progress import silent
from vre.release import build, channel, envelope, files, publish, taken

KEYS = [KEY.public_key]
APT = "E: Unable to locate package nosuch"
Spoil = Callable[[pytest.MonkeyPatch, Path], None]


def altered(_: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "disk.qcow2").write_bytes(b"A disk\n")


def unsigned(_: pytest.MonkeyPatch, folder: Path) -> None:
    told = json.loads((folder / files.MANIFEST).read_text())
    text = json.dumps({**told, "signatures": []}, indent=1, sort_keys=True) + "\n"
    (folder / files.MANIFEST).write_text(text)


def without_signature(_: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / files.MANIFEST).unlink()


def by_a_stranger(_: pytest.MonkeyPatch, folder: Path) -> None:
    shutil.rmtree(folder)
    releases.release(folder.parent, key=STRANGER)
    releases.test_result(folder, key=STRANGER)


def for_another_machine(_: pytest.MonkeyPatch, folder: Path) -> None:
    shutil.rmtree(folder)
    releases.release(folder.parent, architecture="arm64")
    releases.test_result(folder)


def full_disk(patched: pytest.MonkeyPatch, _: Path) -> None:
    patched.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))


def sound(_: pytest.MonkeyPatch, __: Path) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class World:
    """A release that is published and current, a state and a cache of the test's own, and what was touched."""

    home: Path
    patched: pytest.MonkeyPatch
    booted: list[Path] = field(default_factory=list)

    @property
    def built(self) -> Path:
        return self.home / "dist" / ID

    @property
    def target(self) -> Path:
        return self.home / "target"

    @property
    def published(self) -> Path:
        return self.target / channel.RELEASES / ID

    def boot(self, disk: Path, *_: object) -> list[Check]:
        """Note that it would be booted."""
        self.booted.append(disk)
        return []

    def launch(self, word: str = "current") -> None:
        taken.take(Libvirt(provider="libvirt", image=word, channel=str(self.target)), "local", silent)

    def command(self, *words: str) -> None:
        done = CliRunner().invoke(app, ["image", *words])
        if done.exception is not None:
            raise done.exception

    def there(self) -> dict[str, bytes]:
        """Return all files that a refusal must leave as they are."""
        return {str(path): path.read_bytes() for path in self.home.rglob("*") if path.is_file() and _counts(path)}


def _counts(path: Path) -> bool:
    """Locks, the memory of which channel was seen last, and what stands for a stack's tools are no such files."""
    return path.name != ".lock" and "channels" not in path.parts and "bin" not in path.parts


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(home=tmp_path, patched=monkeypatch)
    monkeypatch.setenv("VRE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("VRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(envelope, "signer", lambda *_: KEY)
    monkeypatch.setattr(envelope, "trusted", lambda *_: KEYS)
    monkeypatch.setattr(engine, "resources", lambda _: [])
    for module in (image_checks, taken):
        monkeypatch.setattr(module, "architecture", lambda: "amd64")
    monkeypatch.setattr(image_checks, "look", made.boot)
    monkeypatch.chdir(tmp_path)
    releases.release(tmp_path / "dist")
    releases.test_result(made.built)
    publish.publish(made.built, made.target, KEYS, silent)
    publish.promote(made.target, ID, KEY, KEYS, silent)
    return made


Act = Callable[[World], None]


def at_test(world: World) -> None:
    world.command("test", ID)


def at_publish(world: World) -> None:
    world.command("publish", ID, "--to", "elsewhere")


def at_promote(world: World) -> None:
    world.command("promote", ID, "--to", "target")


def at_verify(world: World) -> None:
    world.command("verify", ID)


def at_launch(world: World) -> None:
    world.launch()


UNTRUSTED: list[tuple[Spoil, str]] = [
    (altered, "was altered"),
    (unsigned, "is not signed"),
    (without_signature, "is missing|cannot be read"),
    (by_a_stranger, "a key that is not trusted"),
]
CASES: list[tuple[Act, Spoil, str]] = [
    *((act, spoil, why) for act in (at_test, at_publish, at_promote, at_verify, at_launch) for spoil, why in UNTRUSTED),
    (at_test, for_another_machine, "is for arm64, this machine is amd64"),
    (at_launch, for_another_machine, "is for arm64, this machine is amd64"),
    (at_publish, full_disk, r"GiB are free at .*elsewhere, 1\.0 GiB are needed"),
    (at_launch, full_disk, r"GiB are free at .*cache.*, 1\.0 GiB are needed"),
    (lambda world: world.command("publish", ID, "--to", "s3://bucket"), sound, "not published to s3://bucket"),
    (lambda world: world.command("publish", ID, "--to", "http://a.example.org"), sound, "not published to http"),
    (lambda world: world.command("promote", ID, "--to", "openstack://"), sound, "not published to openstack"),
    (lambda world: world.command("list", "--channel", "ftp://a.example.org"), sound, "not read from ftp"),
    (lambda world: world.command("publish", "a" * 32, "--to", "target"), sound, "no release a{32}"),
    (lambda world: world.command("test", "a" * 32), sound, "no release a{32}"),
    (lambda world: world.command("promote", "a" * 32, "--to", "target"), sound, "a{32} is not published"),
    (lambda world: world.command("build", "--format", "floppy"), sound, "no format is called floppy"),
    (lambda world: world.launch("a" * 32), sound, "has no a{32}"),
    (at_launch, unsigned, f"release {ID}: manifest.json.dsse is not signed"),
    (at_launch, by_a_stranger, f"release {ID}: manifest.json.dsse is signed by a key that is not trusted"),
]


def name(value: object) -> str:
    return getattr(value, "__name__", str(value))[:60]


@pytest.mark.parametrize(("act", "spoil", "why"), CASES, ids=name)
def test_bad_input_is_refused_and_nothing_is_touched(world: World, act: Act, spoil: Spoil, why: str) -> None:
    for folder in (world.built, world.published):
        spoil(world.patched, folder)
    before = world.there()
    with pytest.raises(VreError, match=why) as refused:
        act(world)
    assert refused.value.hint or isinstance(refused.value, Refused)
    assert (world.there(), world.booted) == (before, [])


def test_good_input_passes_all_of_the_same(world: World) -> None:
    for act in (at_test, at_publish, at_promote, at_verify, at_launch):
        act(world)
    assert len(world.booted) == len(boot.FIRMWARE)
    assert (world.home / "elsewhere" / channel.RELEASES / ID).is_dir()
    assert (paths.cache() / "releases" / ID / "disk.qcow2").is_file()


# the build


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have mmdebstrap fail with a word of apt's."""
    monkeypatch.setenv("VRE_DEBIAN_MIRROR", "https://mirror.example.org/debian")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    def fails(said: str) -> None:
        program = tmp_path / "bin" / "mmdebstrap"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\nexit 1\n")
        program.chmod(0o755)

    return fails


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (f"{APT}\nE: setup failed\n", "Debian trixie has no package nosuch$"),
        (f"{APT}\n{APT}-two\n", "Debian trixie has no package nosuch, nosuch-two$"),
        ("E: Package 'gone' has no installation candidate\n", "Debian trixie has no package gone$"),
        ("E: Package gone has no installation candidate\n", "Debian trixie has no package gone$"),
        ("E: Unable to fetch some archives\n", "mmdebstrap .*\n.*Unable to fetch"),
    ],
)
def test_a_package_that_debian_does_not_have_is_named(
    tools: Callable[[str], None], tmp_path: Path, said: str, why: str
) -> None:
    tools(said)
    with pytest.raises(VreError) as refused:
        debian.bootstrap(tmp_path / "root.tar", suite="trixie", packages=["bash", "nosuch"], report=silent)
    assert re.search(why, refused.value.message)
    assert ("mirror reachable" in refused.value.hint) == ("fetch" in said)
    assert not (tmp_path / "root.tar").exists()


@pytest.mark.parametrize("kind", ["qcow2", "raw", "gcp"])
def test_a_release_that_does_not_fit_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    disk = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "4M"], check=True)
    (tmp_path / "packages.json").write_text("[]")
    built = image.Image(path=disk, images={}, id=ID, packages=tmp_path / "packages.json", layout=tmp_path)
    monkeypatch.setattr(image, "build", lambda *_: built)
    monkeypatch.setattr(build, "_describe", lambda folder, *_: [
        (folder / each).write_bytes(b"{}") for each in (build.CONTENTS, "sbom.spdx.json")
    ])  # fmt: skip
    full_disk(monkeypatch, tmp_path)
    with pytest.raises(Refused, match=r"0\.0 GiB are free at .*, 1\.0 GiB are needed"):
        build.build(tmp_path / "dist", [kind], Store(tmp_path / "artifacts"), KEY, silent)
    assert not list((tmp_path / "dist" / ID).glob("disk*"))
