"""Our programs as Debian packages, and the repository that they are published in."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vre import packages
from vre.artifacts import versions
from vre.artifacts.containers import Containers
from vre.artifacts.store import Store
from vre.clouds import site
from vre.config import Patches
from vre.errors import VreError
from vre.image import recipe
from vre.machine import cloudinit, patches
from vre.packages import deb, machine, number, repository
from vre.packages.deb import Package

PINS = versions.load()
IMAGES = Containers(
    layout=Path("none"), names={"hub": "localhost/vre/hub:6.1.1"}, digests={"hub": f"sha256:{'1' * 64}"}, key="one"
)


def said(*words: str | Path) -> str:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True).stdout


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, Path]:
    made = {}
    for source in recipe.load().programs:
        made[source] = tmp_path / "programs" / source
        made[source].mkdir(parents=True)
        for name in PINS.program(source).packages:
            (made[source] / name).write_text(f"#!/bin/sh\necho {name}\n")
    return made


@pytest.fixture
def kubelet(programs: dict[str, Path]) -> Package:
    return next(each for each in packages.packages(recipe.load(), programs, PINS) if each.name == "kubelet")


def test_each_set_of_programs_is_a_package_or_several(programs: dict[str, Path]) -> None:
    found = {each.name: each for each in packages.packages(recipe.load(), programs, PINS)}
    assert set(found) == {"kubeadm", "kubectl", "kubelet", "cri-tools", "kubernetes-cni", "vre-machine"}
    assert found["kubelet"].version == f"{PINS.program('kubernetes').version.removeprefix('v')}-1"
    assert set(found["kubelet"].files) == {"usr/bin/kubelet"}
    assert set(found["kubernetes-cni"].files) == {
        f"opt/cni/bin/{name}" for name in PINS.program("cni-plugins").packages
    }
    assert [name for name, each in found.items() if each.after] == ["kubelet", "vre-machine"]


def test_a_package_is_what_dpkg_understands_and_belongs_to_root(kubelet: Package, tmp_path: Path) -> None:
    made = deb.write(kubelet, tmp_path)
    assert made.name == kubelet.file
    assert said("dpkg-deb", "--field", made, "Package", "Version").splitlines() == [
        "Package: kubelet", f"Version: {kubelet.version}",
    ]  # fmt: skip
    lines = [line.split() for line in said("dpkg-deb", "--contents", made).splitlines()]
    assert {words[1] for words in lines} == {"root/root"}
    assert {words[-1]: words[0] for words in lines if words[0][0] == "-"} == {
        "./usr/bin/kubelet": "-rwxr-xr-x",
        "./usr/share/doc/kubelet/copyright": "-rw-r--r--",
    }
    listed = [line.split() for line in said("dpkg-deb", "--info", made, "md5sums").splitlines()]
    sums = {path: digest for digest, path in listed}
    content = Path(kubelet.files["usr/bin/kubelet"]).read_bytes()
    assert sums["usr/bin/kubelet"] == hashlib.md5(content).hexdigest()
    assert set(sums) == {"usr/bin/kubelet", "usr/share/doc/kubelet/copyright"}
    assert "try-restart kubelet.service" in said("dpkg-deb", "--info", made, "postinst")
    assert sorted(path.name for path in tmp_path.glob("kubelet*")) == [made.name]


def test_the_same_programs_give_the_same_bytes_at_any_time(kubelet: Package, tmp_path: Path) -> None:
    made = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        made.append(deb.write(kubelet, tmp_path / place).read_bytes())
        Path(kubelet.files["usr/bin/kubelet"]).touch()
    assert made[0] == made[1]


def test_packages_are_made_once(programs: dict[str, Path], tmp_path: Path) -> None:
    told: list[str] = []
    store = Store(tmp_path / "store")
    first = packages.pack(store, recipe.load(), programs, IMAGES, told.append)
    assert len(list(first.glob("*.deb"))) == 7
    count = len(told)
    assert packages.pack(store, recipe.load(), programs, IMAGES, told.append) == first
    assert len(told) == count


def test_a_package_without_files_is_refused(kubelet: Package, tmp_path: Path) -> None:
    with pytest.raises(VreError, match="no files"):
        deb.write(replace(kubelet, files={}), tmp_path)


# what of ours is no program that is built


OWN = recipe.load()


@pytest.fixture
def own(tmp_path: Path) -> recipe.Recipe:
    """The recipe with a copy of its files, to be changed."""
    shutil.copytree(OWN.files, tmp_path / "files", ignore=shutil.ignore_patterns("__pycache__"))
    return replace(OWN, files=tmp_path / "files")


def made(wanted: recipe.Recipe) -> Package:
    found = machine.package(wanted)
    assert found is not None
    return found


@pytest.mark.requirement("P-40")
def test_what_keeps_machines_patched_is_a_package_that_a_newer_one_replaces(tmp_path: Path) -> None:
    file = deb.write(made(OWN), tmp_path)
    lines = [line.split() for line in said("dpkg-deb", "--contents", file).splitlines()]
    modes = {words[-1].removeprefix("./"): words[0] for words in lines if words[0][0] == "-"}
    programs = {"alone", "containers", "controlplane", "integrity", "patch", "patching", "places", "renew", "rollout"}
    programs |= {"runtime", "tested", "turn"}
    assert {f"usr/lib/vre/{name}.py" for name in programs} <= set(modes)
    assert {"usr/lib/systemd/system/vre-patch.timer", "usr/lib/tmpfiles.d/vre.conf"} <= set(modes)
    assert {name for name, mode in modes.items() if "x" in mode} == {"usr/lib/vre/integrity.py", "usr/lib/vre/shim"}
    assert {modes[f"etc/{name}"] for name in ("ssh/sshd_config.d/10-vre.conf", "systemd/system/kubelet.service")} == {
        "-rw-------"
    }
    settings = said("dpkg-deb", "--info", file, "conffiles").splitlines()
    assert set(settings) == {f"/{name}" for name in modes if name.startswith("etc/")}
    assert "etc/" not in said("dpkg-deb", "--info", file, "md5sums")
    assert said("dpkg-deb", "--field", file, "Architecture").strip() == "all"


def test_it_brings_no_settings_that_a_launch_writes_or_another_package_has() -> None:
    assert {Path(name).parts[0] for name in made(OWN).files} == {"usr", "etc"}
    launched = {*patches.files(Patches(repository="https://a.example"), "", name="a", alone=True, upgrade=True)}
    launched |= {cloudinit.RESOLVED, site.FIREWALL, "/etc/hosts", "/etc/fstab"}
    assert not launched & {f"/{name}" for name in made(OWN).files}


def test_its_units_are_enabled_once_and_what_runs_is_left_alone(tmp_path: Path) -> None:
    """The upgrade runs inside of vre-patch.service: the script that ends it would leave the package half set up."""
    package = made(OWN)
    assert set(package.units) == {unit for unit in OWN.enable if unit.startswith("vre-")}
    script = deb.postinst(package)
    assert {line.split()[-3] for line in script.splitlines() if "restart" in line and "sshd" not in line} == {
        "systemd-sysctl.service"
    }
    assert "then systemctl try-reload-or-restart ssh.service ||" in script
    assert "deb-systemd-invoke start vre-integrity.timer vre-ingress6.path vre-patch.timer >" in script
    for name in ("deb-systemd-helper", "deb-systemd-invoke", "sshd", "systemctl", "systemd-tmpfiles"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\necho "$(basename "$0") $*" >> {tmp_path}/log\n[ "$2$3" != was-enabledoff.timer ]\n'
        )
        program.chmod(0o755)
    (tmp_path / "postinst").write_text(deb.postinst(replace(package, units=("on.timer", "off.timer"))))
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["sh", tmp_path / "postinst", "configure", "1"], check=True, env=env)
    ran = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[1:] for line in ran if line.startswith("deb-systemd-helper") and "--quiet" not in line] == [
        ["enable", "on.timer"], ["update-state", "off.timer"],
    ]  # fmt: skip


def add(files: Path) -> None:
    (files / "usr/lib/vre/new.py").touch()


def change(files: Path) -> None:
    with (files / "usr/lib/vre/patch.py").open("a") as file:
        file.write("# mended\n")


def open_(files: Path) -> None:
    (files / "usr/lib/vre/turn.py").chmod(0o755)


@pytest.mark.parametrize("alter", [add, change, open_], ids=lambda each: each.__name__)
def test_another_package_is_another_version(own: recipe.Recipe, alter: Callable[[Path], None]) -> None:
    before = machine.digest(made(own))
    assert before == machine.digest(made(OWN)) == machine.stated().digest, "make generate"
    alter(own.files)
    assert machine.digest(made(own)) != before


def test_the_number_grows_with_the_package_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine.stated()
    assert f"number: {before.number}\n" in machine.text()
    monkeypatch.setattr(machine, "stated", lambda: replace(before, digest="another"))
    assert f"number: {before.number + 1}\ndigest: {before.digest}\n" in machine.text()


@pytest.mark.parametrize("text", [None, "", "number: x\ndigest: y\n", "number: 1\n", "{"])
def test_a_version_that_cannot_be_read_is_told(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "machine.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(VreError, match=r"machine\.yaml"):
        number.stated(file)


def test_files_that_are_another_are_packed_anew(own: recipe.Recipe, programs: dict[str, Path], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = packages.pack(store, own, programs, IMAGES, lambda _: None)
    change(own.files)
    assert packages.pack(store, own, programs, IMAGES, lambda _: None) != first


# the repository


@pytest.mark.requirement("P-40")
def test_what_is_published_is_signed_and_listed_with_its_checksum(kubelet: Package, tmp_path: Path) -> None:
    made = deb.write(kubelet, tmp_path)
    there = tmp_path / "repository"
    key = repository.publish([made], there, tmp_path / "keys")
    assert "BEGIN PGP PUBLIC KEY BLOCK" in key.read_text()
    assert (there / repository.KEY).read_text() == key.read_text()
    ring = tmp_path / "ring.gpg"
    said("gpg", "--homedir", tmp_path, "--dearmor", "--output", ring, key)
    verified = tmp_path / "Release"
    said("gpgv", "--keyring", ring, "--output", verified, there / "InRelease")
    assert "Origin: vre" in verified.read_text()
    assert hashlib.sha256((there / "Packages").read_bytes()).hexdigest() in verified.read_text()
    assert hashlib.sha256(made.read_bytes()).hexdigest() in (there / "Packages").read_text()
    altered = tmp_path / "InRelease"
    altered.write_text((there / "InRelease").read_text().replace("Origin: vre", "Origin: you"))
    with pytest.raises(subprocess.CalledProcessError):
        said("gpgv", "--keyring", ring, altered)


def test_a_newer_package_comes_beside_the_older_with_the_same_key(kubelet: Package, tmp_path: Path) -> None:
    there, keys = tmp_path / "repository", tmp_path / "keys"
    first = repository.publish([deb.write(kubelet, tmp_path)], there, keys).read_text()
    newer = replace(kubelet, version="1.36.99-1")
    assert repository.publish([deb.write(newer, tmp_path)], there, keys).read_text() == first
    listed = (there / "Packages").read_text()
    assert f"Version: {kubelet.version}" in listed
    assert "Version: 1.36.99-1" in listed
    assert not [path for path in there.iterdir() if path.name.endswith((".part", ".tree"))]


def test_one_version_is_never_two_things(kubelet: Package, tmp_path: Path) -> None:
    there, keys = tmp_path / "repository", tmp_path / "keys"
    repository.publish([deb.write(kubelet, tmp_path)], there, keys)
    Path(kubelet.files["usr/bin/kubelet"]).write_text("other")
    with pytest.raises(VreError, match="other contents"):
        repository.publish([deb.write(kubelet, tmp_path)], there, keys)


def test_the_key_may_lie_deeper_than_a_socket(tmp_path: Path) -> None:
    key = repository.ensure_key(tmp_path / ("deep" * 30))
    assert key.read_text().startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----")


def test_the_private_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    repository.ensure_key(tmp_path)
    inside = [path for path in (tmp_path / "gnupg").rglob("*") if path.is_file()]
    assert (tmp_path / "gnupg").stat().st_mode & 0o077 == 0
    assert inside
    (tmp_path / "gnupg").chmod(0o755)
    with pytest.raises(VreError, match="read by others"):
        repository.ensure_key(tmp_path)
