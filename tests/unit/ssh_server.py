"""An SSH server in this process that runs commands here, without sudo: enough to try the client for real."""

import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import paramiko
from paramiko import common

from vre.machine.ssh import Connection


def line(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


@dataclass
class Machine:
    """A stand-in for a machine: its host key, who may log in, what was run."""

    host_key: paramiko.PKey
    allowed: list[paramiko.PKey]
    port: int = 0
    ran: list[str] = field(default_factory=list)
    leads: bool = False
    """Whether it leads on to other machines."""
    ways: str = "publickey"
    """The ways to log in that it names."""
    accounts: tuple[str, ...] = ("vre",)
    """Who is let in with an allowed key."""
    careless: bool = False
    """Whether any password will do."""
    open: bool = False
    """Whether none is needed."""

    def connection(self, identity: str = "", *host_keys: paramiko.PKey) -> Connection:
        keys = tuple(line(key) for key in host_keys or (self.host_key,))
        return Connection(address="127.0.0.1", port=self.port, host_keys=keys, identity=identity)


class _Server(paramiko.ServerInterface):
    def __init__(self, machine: Machine, transport: paramiko.Transport) -> None:
        self.machine = machine
        self.transport = transport

    def get_allowed_auths(self, username: str) -> str:
        return self.machine.ways

    def check_auth_none(self, username: str) -> int:
        return common.AUTH_SUCCESSFUL if self.machine.open else common.AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> int:
        return common.AUTH_SUCCESSFUL if self.machine.careless else common.AUTH_FAILED

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = username in self.machine.accounts and key in self.machine.allowed
        return common.AUTH_SUCCESSFUL if known else common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return common.OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(self, chanid: int, origin: object, destination: tuple[str, int]) -> int:
        if not self.machine.leads:
            return common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        beyond = socket.create_connection(destination)
        threading.Thread(target=self._lead, args=(beyond,), daemon=True).start()
        return common.OPEN_SUCCEEDED

    def _lead(self, beyond: socket.socket) -> None:
        channel = self.transport.accept(10)
        if channel is None:
            return
        self.machine.ran.append(f"leads to {beyond.getpeername()[1]}")
        there = threading.Thread(target=_pass_on, args=(channel, beyond), daemon=True)
        there.start()
        _pass_on(beyond, channel)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command.decode()), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, command: str) -> None:
        self.machine.ran.append(command)
        words = shlex.split(command)
        if words[:3] == ["sudo", "-n", "--"]:
            words = words[3:]
        if words[0] == "python3":
            words[0] = sys.executable
        given = b""
        while data := channel.recv(65536):
            given += data
        done = subprocess.run(words, input=given, capture_output=True, check=False)
        channel.sendall(done.stdout)
        channel.sendall_stderr(done.stderr)
        channel.send_exit_status(done.returncode)
        channel.close()


def _pass_on(source: socket.socket | paramiko.Channel, target: socket.socket | paramiko.Channel) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        target.close()


@contextmanager
def serving(machine: Machine) -> Iterator[Machine]:
    """Serve until the block ends, on a free port of the loopback address."""
    listener = socket.create_server(("127.0.0.1", 0))
    machine.port = listener.getsockname()[1]
    opened: list[paramiko.Transport] = []

    def serve() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(accepted)
            transport.add_server_key(machine.host_key)
            opened.append(transport)
            try:
                transport.start_server(server=_Server(machine, transport))
            except (paramiko.SSHException, EOFError, OSError):
                transport.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield machine
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for transport in opened:
            transport.close()
        thread.join(5)
