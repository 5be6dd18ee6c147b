"""The daily upgrade with the real apt and dpkg of the image, in its root as it is built: no machine, so in seconds."""

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.machine.archive import Archive
from tests.machine.repository import Repository, serving
from vre import packages
from vre.artifacts.containers import Containers
from vre.artifacts.sandbox import inside
from vre.artifacts.store import Store
from vre.errors import VreError
from vre.image import bake, check, importer, recipe
from vre.image import root as roots
from vre.machine import nftables, patches
from vre.packages import containers, deb, machine
from vre.packages import repository as repositories
from vre.progress import silent
from vre.provider import images

RUN = ["python3", "-B", "/usr/lib/vre/patch.py"]


class Root:
    """The image's root, with our files and our packages."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, *words: str) -> str:
        return inside(self.path, words)

    def write(self, path: str, text: str) -> None:
        file = self.path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def version(self, package: str) -> str:
        return self("dpkg-query", "--show", "--showformat", "${Version} ${db:Status-Status}", package)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "var/lib/vre/patch.json").read_text())
        return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    with serving(tmp_path_factory.mktemp("packages"), "127.0.0.1") as made:
        made.publish("1")
        yield made


@pytest.fixture(scope="module")
def root(repository: Repository) -> Iterator[Root]:
    store, wanted = Store(), recipe.load()
    ours = packages.build(store, silent, recipe=wanted)
    with check.unpacked(store) as path:
        roots.lay(path, wanted)
        roots.install(path, ours)
        for listed in ((path / "etc/apt/sources.list"), *(path / "etc/apt/sources.list.d").iterdir()):
            listed.unlink(missing_ok=True)
        made = Root(path)
        made.write(bake.NAMES, (path / containers.LIST).read_text())  # the images themselves are not in this root
        for name, text in repository.files().items():
            made.write(name, text)
        # The kernel that runs here is not the root's: a reboot is always wanted, and must not be tried.
        made.write(patches.SETTINGS, json.dumps({"reboot": "by-hand"}))
        made("apt-get", "-q", "update")
        made("apt-get", "-q", "-y", "install", "vre-probe")
        yield made


def test_our_programs_are_packages_that_dpkg_knows(root: Root) -> None:
    for file, package in {
        "/usr/bin/kubelet": "kubelet",
        "/usr/bin/crictl": "cri-tools",
        "/opt/cni/bin/portmap": "kubernetes-cni",
        "/usr/lib/vre/patch.py": "vre-machine",
        "/usr/lib/systemd/system/vre-patch.timer": "vre-machine",
    }.items():
        assert root("dpkg", "--search", file).startswith(f"{package}:")
    assert root("kubelet", "--version").split()[-1] == f"v{root.version('kubelet').partition('-')[0]}"
    assert root("dpkg", "--audit") == ""
    assert root("dpkg", "--verify", "kubelet", "kubernetes-cni", "vre-machine") == ""
    for unit in recipe.load().enable:
        assert not unit.startswith("vre-") or root("systemctl", "is-enabled", unit).strip() == "enabled"


@pytest.mark.requirement("P-38", "P-11")
def test_patch_levels_flow_and_another_minor_version_does_not(root: Root, repository: Repository) -> None:
    major, minor, _ = root.version("kubelet").split("-")[0].split(".")
    newer, other = f"{major}.{minor}.99-1", f"{major}.{int(minor) + 1}.0-1"
    repository.publish("2")
    repository.publish(newer, name="kubelet")
    repository.publish(other, name="kubelet")
    root(*RUN)
    assert root.version("vre-probe") == "2 installed"
    assert root.version("kubelet") == f"{newer} installed"
    found = root.state()
    assert sorted(each.split()[0] for each in found["changed"]["packages"]) == ["kubelet", "vre-probe"]
    assert found["pending"] == []
    assert found["components"]["kubelet"] == newer
    assert found["behind"] == {"kubelet": other}


@pytest.mark.requirement("P-38")
def test_what_upgrades_a_machine_is_upgraded_by_itself(root: Root, repository: Repository, tmp_path: Path) -> None:
    present = machine.package(recipe.load())
    assert present is not None
    name = "usr/lib/vre/patch.py"
    mended = tmp_path / "patch.py"
    mended.write_text(f"{present.files[name].read_text()}# mended\n")
    newer = replace(present, version=str(int(present.version) + 1), files={**present.files, name: mended})
    repositories.publish([deb.write(newer, tmp_path)], repository.folder / "served", repository.folder / "keys")
    settings = (root.path / patches.SETTINGS.lstrip("/")).read_text()
    root(*RUN)
    assert root.version("vre-machine") == f"{newer.version} installed"
    assert (root.path / name).read_text().endswith("# mended\n")
    assert (root.path / patches.SETTINGS.lstrip("/")).read_text() == settings
    assert root.state()["components"]["vre-machine"] == newer.version
    root(*RUN)
    assert "failure" not in root.state()


@pytest.mark.requirement("P-38", "H-21")
def test_settings_are_upgraded_but_those_that_somebody_changed(
    root: Root, repository: Repository, tmp_path: Path
) -> None:
    present = machine.package(recipe.load())
    assert present is not None
    theirs, ours = "etc/security/limits.d/vre.conf", "etc/sysctl.d/90-vre.conf"
    files = dict(present.files)
    for name in (theirs, ours):
        files[name] = tmp_path / name.replace("/", "-")
        files[name].write_text(f"{present.files[name].read_text()}# mended\n")
    (root.path / theirs).write_text("# by hand\n")
    newer = replace(present, version=str(int(root.version("vre-machine").split()[0]) + 1), files=files)
    repositories.publish([deb.write(newer, tmp_path)], repository.folder / "served", repository.folder / "keys")
    root(*RUN)
    assert root.version("vre-machine") == f"{newer.version} installed"
    assert (root.path / ours).read_text().endswith("# mended\n")
    assert (root.path / theirs).read_text() == "# by hand\n"
    assert "failure" not in root.state()


# container images; containerd does not run in this root, so what asks it is told what it would say

CTR = """#!/bin/sh
case "$*" in
    *"images ls") cat /usr/local/lib/there ;;
    *"images import"*) for last; do :; done; cp "$last" /var/imported.tar ;;
esac
"""
CRICTL = """#!/bin/sh
echo '{"images": [], "containers": []}'
"""


@pytest.fixture
def containerd(root: Root) -> dict[str, str]:
    """Stand in for it; return what it has: short name -> reference."""
    there: dict[str, str] = json.loads((root.path / containers.LIST).read_text())
    lines = ["REF TYPE DIGEST SIZE PLATFORMS LABELS"]
    for each in there.values():
        name, _, digest = each.partition("@")
        for called in (name, f"{name.rpartition(':')[0]}@{digest}"):
            lines.append(f"{called} type {digest} 1 MiB linux/amd64 {importer.PINNED}")
    root.write("/usr/local/lib/there", "\n".join(lines))
    for name, text in (("ctr", CTR), ("crictl", CRICTL)):
        root.write(f"/usr/local/bin/{name}", text)
        (root.path / "usr/local/bin" / name).chmod(0o755)
    return there


def layout(folder: Path, there: dict[str, str], content: str) -> Containers:
    """Return what is there, with one image that is another: a layer of some bytes."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    made = {}
    for kind, text in (("config", "{}"), ("layer", content)):
        made[kind] = hashlib.sha256(text.encode()).hexdigest()
        (blobs / made[kind]).write_text(text)
    about = {kind: {"digest": f"sha256:{name}", "size": (blobs / name).stat().st_size} for kind, name in made.items()}
    manifest = json.dumps({"config": about["config"], "layers": [about["layer"]]})
    name = hashlib.sha256(manifest.encode()).hexdigest()
    (blobs / name).write_text(manifest)
    digests = {short: each.partition("@")[2] for short, each in there.items()} | {"traefik": f"sha256:{name}"}
    names = {short: each.partition("@")[0] for short, each in there.items()}
    return Containers(layout=folder, names=names, digests=digests, key=content)


def publish(repository: Repository, made: Containers, folder: Path, version: str) -> list[str]:
    """Publish the list, and what its other image is made of; return the blobs' names."""
    folder.mkdir()
    package = containers.write(made, folder, version)
    served = repository.folder / "served"
    (served / containers.BLOBS).mkdir(exist_ok=True)
    blobs = sorted((made.layout / "blobs" / "sha256").iterdir())
    for blob in blobs:
        shutil.copyfile(blob, served / containers.BLOBS / blob.name)
    repositories.publish([package], served, repository.folder / "keys")
    return [blob.name for blob in blobs]


@pytest.mark.requirement("P-40", "P-70")
def test_newer_container_images_are_fetched_as_apts_own_account_and_each_is_what_its_name_says(
    root: Root, repository: Repository, containerd: dict[str, str], tmp_path: Path
) -> None:
    version = containers.version()
    first = layout(tmp_path / "first", containerd, "first")
    names = publish(repository, first, tmp_path / "1", f"{version}+1")
    root(*RUN)
    assert root.version(containers.NAME) == f"{version}+1 installed"
    assert root.state()["renewed"]
    account = int(root("id", "-u", nftables.PACKAGE_USER))
    assert {repository.askers[f"/{containers.BLOBS}/{name}"] for name in names} == {account}
    with tarfile.open(root.path / "var/imported.tar") as tar:
        assert {name for name in tar.getnames() if name.startswith("blobs/")} == {
            f"blobs/sha256/{each}" for each in names
        }
    # The server alone cannot give a machine anything else.
    (root.path / "var/imported.tar").unlink()
    second = layout(tmp_path / "second", containerd, "second")
    publish(repository, second, tmp_path / "2", f"{version}+2")
    [layer] = [
        each for each in (repository.folder / "served" / containers.BLOBS).iterdir() if each.read_bytes() == b"second"
    ]
    layer.write_text("spoilt")
    with pytest.raises(VreError):
        root(*RUN)
    assert "another file than its name says" in root.state()["failure"]["said"]
    assert not (root.path / "var/imported.tar").exists()
    layer.write_text("second")
    root(*RUN)
    assert "failure" not in root.state()
    assert (root.path / "var/imported.tar").exists()
    # A machine that joins a cluster does not wait for its next day.
    (root.path / "var/imported.tar").unlink()
    publish(repository, layout(tmp_path / "third", containerd, "third"), tmp_path / "3", f"{version}+3")
    assert "fetching localhost/vre/traefik" in root("sh", "-c", images.NEWEST)
    assert root.version(containers.NAME) == f"{version}+3 installed"
    assert (root.path / "var/imported.tar").exists()


# what can go wrong, and when a machine reboots


@pytest.mark.requirement("P-39")
def test_another_kernel_than_the_installed_one_wants_a_reboot(root: Root) -> None:
    root(*RUN)
    [why] = root.state()["reboot"]["why"]
    assert why.startswith("kernel ")


def test_what_nobody_signed_is_not_installed_and_the_command_is_named(root: Root, repository: Repository) -> None:
    repository.publish("3")
    with repository.broken(), pytest.raises(VreError):
        root(*RUN)
    fault = root.state()["failure"]
    assert "update" in fault["command"]
    assert "hash" in fault["said"].lower() or "size" in fault["said"].lower()
    assert root.version("vre-probe") == "2 installed"
    assert fault["command"] in (root.path / "etc/motd.d/vre-patch").read_text()
    root(*RUN)
    assert root.version("vre-probe") == "3 installed"
    assert "failure" not in root.state()


def test_a_package_that_cannot_be_set_up_is_named_and_mended_by_the_next(root: Root, repository: Repository) -> None:
    in_root = "[ ! -d /run/systemd/system ] || exit 0"
    repository.publish("4", after="exit 7")
    # Outside of a running system a package of ours does nothing after its installation: here one breaks off earlier.
    broken = root.path / "var/lib/dpkg/info/vre-probe.postrm"
    broken.write_text(f"#!/bin/sh\n{in_root}\nexit 7\n")
    broken.chmod(0o755)
    with pytest.raises(VreError):
        root(*RUN)
    assert "upgrade" in root.state()["failure"]["command"]
    assert (root.path / "var/lib/vre/patch-resume").exists()
    broken.unlink(missing_ok=True)
    repository.publish("5")
    root(*RUN)
    assert root.version("vre-probe") == "5 installed"
    assert not (root.path / "var/lib/vre/patch-resume").exists()


def test_what_a_lost_power_left_half_installed_is_set_up(root: Root, repository: Repository) -> None:
    repository.publish("6")
    newer = repository.folder / "served" / "vre-probe_6_all.deb"
    inside(root.path, ["dpkg", "--unpack", "/run/newer.deb"], lend={"/run/newer.deb": newer})
    # dpkg's own journal, as it lies there when nobody could tidy it up: apt refuses to do anything until then.
    root.write("var/lib/dpkg/updates/0001", root("dpkg-query", "--status", "vre-probe"))
    assert root.version("vre-probe") == "6 unpacked"
    with pytest.raises(VreError, match="interrupted"):
        root("apt-get", "-q", "-y", "install", "vre-probe")
    root(*RUN)
    assert root.version("vre-probe") == "6 installed"
    assert root("dpkg", "--audit") == ""


# only what was tested; the archive that stands for Debian's has its states below the moments' names

FIRST, SECOND = "20261119T000000Z", "20261120T000000Z"
OWN = "etc/apt/sources.list.d/debian.sources"


@pytest.fixture(scope="module")
def archive(root: Root, repository: Repository) -> Iterator[Archive]:
    made = Archive(beside=repository)
    made.publish(FIRST, "1")
    made.publish(SECOND, "2")
    made.announce(FIRST)
    made.trusted_by(root.path)
    root.write(OWN, "")
    root.write(patches.ARCHIVE, json.dumps(made.settings))
    root(*RUN)
    root("apt-get", "-q", "-y", "install", "debian-probe")
    yield made
    (root.path / "etc/apt/sources.list.d/debian-tested.sources").unlink()
    (root.path / patches.ARCHIVE.lstrip("/")).unlink()


@pytest.mark.requirement("P-35")
def test_what_nobody_tested_is_not_taken_and_is_once_it_was(root: Root, archive: Archive) -> None:
    for _ in range(2):
        root(*RUN)
        assert root.version("debian-probe") == "1 installed"
    assert root.state()["pending"] == []
    archive.announce(SECOND)
    root(*RUN)
    assert root.version("debian-probe") == "2 installed"
    assert not (root.path / OWN).exists()


def altered(archive: Archive) -> None:
    archive.announce(SECOND)
    archive.served.write_text(archive.served.read_text().replace(SECOND, "20261121T000000Z"))


def by_another(archive: Archive) -> None:
    archive.announce("20261121T000000Z", keys=archive.beside.folder / "stranger")


def older(archive: Archive) -> None:
    archive.announce(FIRST)


def of_another_kind(archive: Archive) -> None:
    archive.served.write_text((archive.beside.folder / "served" / "InRelease").read_text())


def missing(archive: Archive) -> None:
    archive.served.unlink()


def test_the_word_is_fetched_as_apts_own_account_the_only_one_that_the_firewall_lets_out(
    root: Root, repository: Repository, archive: Archive
) -> None:
    root(*RUN)
    assert archive.served.exists()
    assert repository.askers[f"/{archive.served.name}"] == int(root("id", "-u", nftables.PACKAGE_USER))


@pytest.mark.requirement("P-35")
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (altered, "manipulated"),
        (by_another, "sqv"),
        (older, f"takes the machine back: from {SECOND} to {FIRST}"),
        (of_another_kind, "is no statement"),
        (missing, "404"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_word_that_cannot_be_trusted_leaves_the_machine_as_it_was(
    root: Root, repository: Repository, archive: Archive, spoil: Callable[[Archive], None], said: str
) -> None:
    archive.announce(SECOND)
    root(*RUN)
    before = {path: path.read_text() for path in (root.path / "etc/apt/sources.list.d").iterdir()}
    probe = root.version("vre-probe")
    repository.publish(f"{int(probe.split()[0]) + 1}")
    spoil(archive)
    with pytest.raises(VreError):
        root(*RUN)
    fault = root.state()["failure"]
    assert said in fault["said"]
    assert "tested.py" in fault["command"]
    assert root.version("vre-probe") == probe
    assert {path: path.read_text() for path in (root.path / "etc/apt/sources.list.d").iterdir()} == before
