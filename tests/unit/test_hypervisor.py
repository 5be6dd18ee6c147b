"""The own hypervisor, as far as it can be judged without starting one, and the packages it needs."""

import json
import os
from pathlib import Path

import pytest

from vre.errors import VreError
from vre.provider.libvirt import connection
from vre.setup import enclosed, firewall, hypervisor, packages
from vre.setup.packages import Installed, System

SAVED = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:LIBVIRT_FWI - [0:0]
:LIBVIRT_INP - [0:0]
:mine - [0:0]
-A INPUT -j LIBVIRT_INP
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A FORWARD -j LIBVIRT_FWI
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
:LIBVIRT_PRT - [0:0]
-A POSTROUTING -j LIBVIRT_PRT
COMMIT
"""


def test_nothing_there_is_not_running(tmp_path: Path) -> None:
    seen = hypervisor.status(tmp_path)
    assert not seen.running
    assert not seen.defined
    assert list(tmp_path.iterdir()) == []
    hypervisor.stop(tmp_path)


def test_a_number_that_is_now_another_process_is_not_our_libvirtd(tmp_path: Path) -> None:
    folder = tmp_path / "hypervisor"
    folder.mkdir()
    (folder / "libvirtd.pid").write_text(str(os.getpid()))
    assert not hypervisor.status(tmp_path).running


def test_a_note_of_its_place_that_was_cut_off_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "hypervisor"
    folder.mkdir()
    (folder / "place.json").touch()
    monkeypatch.setattr(hypervisor, "run", lambda words: "")
    monkeypatch.setattr(firewall, "clean", lambda inside: None)
    hypervisor.stop(tmp_path)
    assert not folder.exists()


def test_defined_networks_count(tmp_path: Path) -> None:
    networks = tmp_path / "hypervisor" / "etc" / "qemu" / "networks"
    networks.mkdir(parents=True)
    assert not hypervisor.status(tmp_path).defined
    (networks / "vre.xml").write_text("<network/>")
    assert hypervisor.status(tmp_path).defined


def test_sockets_lie_in_the_folder_or_where_the_path_is_short_enough(tmp_path: Path) -> None:
    short, long = Path("/tmp/s"), tmp_path / ("x" * 100)
    assert hypervisor.status(short).uri == "qemu+unix:///system?socket=/tmp/s/hypervisor/run/libvirt-sock"
    path = hypervisor.status(long).uri.partition("socket=")[2]
    assert path.startswith("/run/vre-")
    assert len(path) <= hypervisor.LONGEST_SOCKET


def test_sockets_are_for_the_owner_only_and_nothing_listens_on_the_network(tmp_path: Path) -> None:
    text = hypervisor.configuration(tmp_path)["libvirtd.conf"]
    assert text.count('_perms = "0700"') == 3
    assert f'unix_sock_dir = "{tmp_path}"' in text
    assert "listen_tcp" not in text


@pytest.mark.parametrize(
    ("named", "real"),
    [
        ("/var/lib/libvirt/images/vre-local", "s/hypervisor/lib/images/vre-local"),
        ("/var/log/libvirt/qemu/a.log", "s/hypervisor/log/qemu/a.log"),
        ("/var/lib/libvirt-images/a", "/var/lib/libvirt-images/a"),
        ("/srv/vre/vre-local", "/srv/vre/vre-local"),
    ],
)
def test_what_the_own_libvirtd_names_lies_in_its_folder(named: str, real: str, tmp_path: Path) -> None:
    assert hypervisor.real(tmp_path / "s", Path(named)) == tmp_path / real


@pytest.mark.parametrize(
    ("uri", "defined", "system", "own"),
    [
        ("auto", True, True, True),
        ("auto", False, True, False),
        ("auto", False, False, True),
        ("qemu:///system", True, False, False),
        ("qemu+ssh://root@elsewhere/system", True, False, False),
        ("own", False, True, True),
    ],
)
def test_paths_are_another_folders_only_where_the_own_libvirtd_is_meant(
    uri: str, defined: bool, system: bool, own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    monkeypatch.setattr(connection, "system_answers", lambda: system)
    if defined:
        (tmp_path / "hypervisor" / "etc" / "qemu").mkdir(parents=True)
        (tmp_path / "hypervisor" / "etc" / "qemu" / "vre.xml").touch()
    images = Path("/var/lib/libvirt/images")
    seen = connection.here(hypervisor.status(tmp_path).uri if uri == "own" else uri, images)
    assert seen == (tmp_path / "hypervisor" / "lib" / "images" if own else images)


@pytest.mark.parametrize(("socket", "own"), [("libvirt-sock", False), ("virtqemud-sock", False), ("x.pid", True)])
def test_before_set_up_a_socket_tells_of_a_system_libvirt(
    socket: str, own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise VreError("the Python module libvirt is not installed")

    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    monkeypatch.setattr(connection, "module", absent)
    monkeypatch.setattr(connection, "SOCKETS", tmp_path)
    (tmp_path / socket).touch()
    assert (connection.here("auto", Path("/var/lib/libvirt/x")) != Path("/var/lib/libvirt/x")) is own


def test_only_root_starts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(VreError, match="only be started by root"):
        hypervisor.ensure(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_an_earlier_boot_left_is_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "hypervisor"
    (folder / "run" / "qemu").mkdir(parents=True)
    (folder / "run" / "qemu" / "vre.pid").write_text("1")
    (folder / "place.json").write_text(json.dumps({"boot": "an earlier one", "netns": "lab", "made": []}))
    hypervisor._prepare(folder, "")
    place = json.loads((folder / "place.json").read_text())
    assert not (folder / "run" / "qemu").exists()
    assert place["netns"] == "lab"
    assert {path.name for path in folder.iterdir()} == {*enclosed.PLACES, "place.json"}


def test_empty_chains_of_libvirt_are_removed_and_nothing_else() -> None:
    commands = [" ".join(command) for command in firewall.leftovers(SAVED, "iptables")]
    assert commands == [
        "iptables -w -t filter -D INPUT -j LIBVIRT_INP",
        "iptables -w -t filter -D FORWARD -j LIBVIRT_FWI",
        "iptables -w -t nat -D POSTROUTING -j LIBVIRT_PRT",
        "iptables -w -t filter -X LIBVIRT_FWI",
        "iptables -w -t filter -X LIBVIRT_INP",
        "iptables -w -t nat -X LIBVIRT_PRT",
    ]


def test_chains_that_somebody_uses_stay() -> None:
    busy = SAVED.replace("COMMIT\n*nat", "-A LIBVIRT_FWI -o virbr0 -j REJECT\nCOMMIT\n*nat")
    assert firewall.leftovers(busy, "iptables") == []


def test_every_purpose_names_packages_and_an_unknown_one_is_refused() -> None:
    assert "libvirt-daemon" in packages.packages(["hypervisor"])
    with pytest.raises(VreError, match="has no nonsense"):
        packages.packages(["nonsense"])


@pytest.mark.parametrize(
    ("package", "there"),
    [
        (None, False),
        (Installed(state="rc", version="1:10.0"), False),
        (Installed(state="ii", version="1:7.2+dfsg-7"), False),
        (Installed(state="ii", version="1:10.0.2+ds-2"), True),
        (Installed(state="iF", version="1:8.2.2+ds"), True),
    ],
)
def test_a_package_is_missing_when_it_is_not_there_or_too_old(package: Installed | None, there: bool) -> None:
    known = {"qemu-system-x86": package} if package else {}
    assert packages.missing(["qemu-system-x86"], known) == ([] if there else ["qemu-system-x86"])


@pytest.mark.parametrize(
    ("text", "backports"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "bookworm-backports"),
        ('ID=debian\nVERSION_ID="13"\n', ""),
        ('NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="24.04"\n', ""),
    ],
)
def test_systems_that_are_known(text: str, backports: str) -> None:
    assert packages._system(text).backports == backports


@pytest.mark.parametrize("text", ["ID=fedora\nVERSION_ID=44\n", 'ID=debian\nVERSION_ID="11"\n', "ID=arch\n", ""])
def test_other_systems_are_refused_with_what_would_do(text: str) -> None:
    with pytest.raises(VreError, match="cannot install packages on") as caught:
        packages._system(text)
    assert "debian 12" in caught.value.hint


def test_who_is_not_root_is_told_the_command() -> None:
    command = packages._by_hand(System(name="debian", release="12"), ["ovmf", "qemu-utils"])
    assert "sudo apt-get install -y --no-install-recommends -t bookworm-backports ovmf qemu-utils" in command
    assert "-t" not in packages._by_hand(System(name="debian", release="13"), ["ovmf"]).split()


def test_backports_come_from_the_mirror_already_in_use() -> None:
    text = packages._source("bookworm-backports", "http://mirror.example/debian/", "/usr/share/keyrings/k.gpg")
    assert "URIs: http://mirror.example/debian/\n" in text
    assert "Suites: bookworm-backports\n" in text
    assert "Signed-By: /usr/share/keyrings/k.gpg\n" in text


@pytest.mark.parametrize("told", ["", "$(SIGNED_BY)"])
def test_backports_are_checked_with_debians_keys_where_apt_tells_none(told: str) -> None:
    assert "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n" in packages._source("x", "http://m/", told)
