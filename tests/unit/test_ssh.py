"""SSH: pinned host keys and nothing else, secrets out of sight, files whole or not at all."""

import getpass
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from tests.unit.ssh_server import Machine, line, serving
from vre.errors import VreError
from vre.machine import ssh
from vre.machine.ssh import Connection, File, HostKeyRefused, LoginRefused, Shell, Unreachable, wait
from vre.provider.handler import Cancelled, Context


def make_key(path: Path, *, password: str = "") -> paramiko.PKey:
    private = Ed25519PrivateKey.generate()
    locked: KeySerializationEncryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, locked))
    path.chmod(0o600)
    return paramiko.Ed25519Key(filename=str(path), password=password or None)


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    return tmp_path / "id"


@pytest.fixture
def machine(tmp_path: Path, identity: Path) -> Iterator[Machine]:
    host, user = make_key(tmp_path / "host"), make_key(identity)
    with serving(Machine(host_key=host, allowed=[user])) as made:
        yield made


def test_a_command_gives_its_output_and_takes_input(machine: Machine, identity: Path) -> None:
    with Shell(machine.connection(str(identity))) as shell:
        assert shell.run(["cat"], stdin="hello\n") == "hello\n"
        assert shell.run(["printf", "%s", "a b;$(id)'\""]) == "a b;$(id)'\""


def test_lines_arrive_whole(machine: Machine, identity: Path) -> None:
    seen: list[str] = []
    with Shell(machine.connection(str(identity))) as shell:
        shell.run(["printf", "one\\ntwo\\nrest"], line=seen.append)
    assert seen == ["one", "two"]


def test_a_failure_tells_the_tail_and_stars_the_secret(machine: Machine, identity: Path) -> None:
    command = ["sh", "-c", "echo before; echo it was hunter22 >&2; exit 3"]
    with Shell(machine.connection(str(identity))) as shell, pytest.raises(VreError) as caught:
        shell.run(command, secrets=["hunter22"], hint="do this")
    assert "exit code 3" in caught.value.message
    assert "it was ****" in caught.value.message
    assert "hunter22" not in str(caught.value)
    assert caught.value.hint == "do this"


def test_a_command_may_not_take_for_ever(machine: Machine, identity: Path) -> None:
    with Shell(machine.connection(str(identity))) as shell, pytest.raises(VreError, match="took longer than 0 s"):
        shell.run(["sleep", "5"], timeout=0.3)


def test_a_cancel_ends_a_running_command(machine: Machine, identity: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with Shell(machine.connection(str(identity))) as shell, pytest.raises(Cancelled):
        shell.run(["sleep", "5"], context=Context(cancelled=cancelled))


@pytest.mark.requirement("P-36")
def test_another_host_key_is_refused_before_anything_is_sent(tmp_path: Path, machine: Machine, identity: Path) -> None:
    expected = make_key(tmp_path / "other")
    with pytest.raises(HostKeyRefused) as caught, Shell(machine.connection(str(identity), expected)):
        raise AssertionError
    assert ssh.fingerprint(expected) in caught.value.message
    assert ssh.fingerprint(machine.host_key) in caught.value.message
    assert caught.value.hint
    assert machine.ran == []


def test_waiting_does_not_go_on_after_a_wrong_host_key(tmp_path: Path, machine: Machine, identity: Path) -> None:
    with pytest.raises(HostKeyRefused):
        wait(machine.connection(str(identity), make_key(tmp_path / "other")), Context(), timeout=60)


def test_at_a_first_boot_the_machine_s_own_key_is_waited_for_and_nobody_logs_in_before(
    tmp_path: Path, machine: Machine, identity: Path
) -> None:
    own, another = machine.host_key, make_key(tmp_path / "other")
    machine.host_key = another
    told: list[str] = []

    def report(text: str) -> None:
        told.append(text)
        machine.host_key = own

    with wait(machine.connection(str(identity), own), Context(report=report), timeout=60, settling=60) as shell:
        assert machine.ran == []
        assert shell.run(["echo", "mine"]) == "mine\n"
    assert told


def test_any_of_several_pinned_keys_is_accepted(tmp_path: Path, machine: Machine, identity: Path) -> None:
    connection = machine.connection(str(identity)).accepting(line(make_key(tmp_path / "new")), line(machine.host_key))
    with Shell(connection) as shell:
        assert shell.run(["echo", "in"]) == "in\n"


def test_no_pinned_key_accepts_nobody(machine: Machine, identity: Path) -> None:
    connection = machine.connection(str(identity)).accepting()
    with pytest.raises(VreError), Shell(connection):
        raise AssertionError


@pytest.mark.requirement("P-47")
def test_a_key_that_the_machine_does_not_know_is_refused(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key(tmp_path / "stranger")
    monkeypatch.setattr(ssh, "LOGIN_GRACE", 0.0)
    with pytest.raises(LoginRefused) as caught:
        wait(machine.connection(str(tmp_path / "stranger")), Context())
    assert "stranger" in caught.value.message
    assert "access: keys:" in caught.value.hint


def test_an_encrypted_key_says_what_to_do(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    make_key(tmp_path / "locked", password="correct horse")
    with pytest.raises(VreError, match="is encrypted") as caught, Shell(machine.connection(str(tmp_path / "locked"))):
        raise AssertionError
    assert "ssh-add" in caught.value.hint


@pytest.mark.parametrize("content", ["", "not a key"])
def test_a_file_that_is_no_key_is_named(tmp_path: Path, machine: Machine, content: str) -> None:
    (tmp_path / "bad").write_text(content)
    with pytest.raises(VreError, match="no private key"), Shell(machine.connection(str(tmp_path / "bad"))):
        raise AssertionError


def test_a_missing_key_is_named(machine: Machine) -> None:
    with pytest.raises(VreError, match="no private key at /nowhere/id"), Shell(machine.connection("/nowhere/id")):
        raise AssertionError


def test_nobody_there_is_waited_for_and_then_told(machine: Machine, identity: Path) -> None:
    told: list[str] = []
    connection = Connection(address="127.0.0.1", port=1, host_keys=(line(machine.host_key),), identity=str(identity))
    with pytest.raises(Unreachable, match="tried for 1 s") as caught:
        wait(connection, Context(report=told.append), timeout=1)
    assert told
    assert "vre logs" in caught.value.hint


def test_a_public_key_line_that_is_none_is_refused() -> None:
    with pytest.raises(VreError, match="not a public key"):
        ssh.parse_key("ssh-ed25519 %%%")


def test_files_arrive_with_their_mode_and_only_when_they_differ(
    tmp_path: Path, machine: Machine, identity: Path
) -> None:
    path = tmp_path / "deep" / "settings"
    file = File(path=str(path), content=b"secret\x00text", mode="0640", owner=getpass.getuser())
    with Shell(machine.connection(str(identity))) as shell:
        assert shell.put(file) == {str(path)}
        assert shell.put(file) == frozenset()
        found = shell.digests([str(path), str(tmp_path / "none")])
    assert path.read_bytes() == b"secret\x00text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert found[str(path)][1:] == ["0640", getpass.getuser()]
    assert found[str(tmp_path / "none")] == []
    assert [each.name for each in path.parent.iterdir()] == ["settings"]


def test_a_file_s_content_is_in_no_argument_list(tmp_path: Path, machine: Machine, identity: Path) -> None:
    file = File(path=str(tmp_path / "x"), content=b"hunter22", owner=getpass.getuser())
    with Shell(machine.connection(str(identity))) as shell:
        shell.put(file)
    assert not any("hunter22" in each or "aHVudGVyMjI" in each for each in machine.ran)


def test_files_can_be_removed_twice(tmp_path: Path, machine: Machine, identity: Path) -> None:
    (tmp_path / "x").write_text("x")
    with Shell(machine.connection(str(identity))) as shell:
        for _ in range(2):
            shell.remote({"do": "remove", "paths": [str(tmp_path / "x")]})
    assert not (tmp_path / "x").exists()


def test_a_closed_port_behind_a_machine_is_unreachable(machine: Machine, identity: Path) -> None:
    with Shell(machine.connection(str(identity))) as shell, pytest.raises(Unreachable, match="port 6443"):
        shell.tunnel(6443)


def test_a_machine_is_reached_through_another_and_both_are_pinned(
    tmp_path: Path, machine: Machine, identity: Path
) -> None:
    other, user = make_key(tmp_path / "other"), machine.allowed[0]
    with serving(Machine(host_key=other, allowed=[user], leads=True)) as bastion:
        through = replace(machine.connection(str(identity)), through=bastion.connection(str(identity)))
        with Shell(through) as shell:
            assert shell.run(["echo", "inside"]) == "inside\n"
        assert bastion.ran == [f"leads to {machine.port}"]
        foreign = replace(through, through=bastion.connection(str(identity), machine.host_key))
        with pytest.raises(HostKeyRefused):
            Shell(foreign).open()


def test_a_machine_that_leads_nowhere_is_no_way(tmp_path: Path, machine: Machine, identity: Path) -> None:
    closed = replace(machine.connection(str(identity)), through=machine.connection(str(identity)))
    with pytest.raises(Unreachable), Shell(closed):
        pass


def test_the_connection_through_another_machine_is_read() -> None:
    way = {"address": "192.0.2.1", "hostKeys": ["ssh-ed25519 AAAA"]}
    made = Connection.read({"address": "10.77.0.20", "hostKeys": ["ssh-ed25519 BBBB"], "through": way})
    assert made.through == Connection(address="192.0.2.1", host_keys=("ssh-ed25519 AAAA",))


def test_a_resource_s_connection_is_read() -> None:
    made = Connection.read({"address": "192.0.2.1", "hostKeys": ["ssh-ed25519 AAAA"], "identity": None})
    assert made == Connection(address="192.0.2.1", host_keys=("ssh-ed25519 AAAA",))
    assert str(made) == "vre@192.0.2.1"


def test_a_long_command_is_shown_by_its_beginning() -> None:
    assert ssh.brief("kubeadm init") == "kubeadm init"
    assert ssh.brief("sh -c 'set -e\nmore'") == "sh -c 'set -e …"
    assert len(ssh.brief("x" * 500)) < 200
