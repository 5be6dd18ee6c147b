"""Machines over SSH: pinned host keys only, keys only, argument lists only."""

import base64
import json
import logging
import select
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paramiko
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import IncompatiblePeer

from vre.errors import VreError
from vre.provider.handler import Cancelled, Context

log = logging.getLogger("vre.ssh")
TAIL = 30  # lines of a failed command's output that a person is shown
SHOWN = 160  # characters of a command that a person is shown
CHUNK = 65536
KNOCK = 8.0
"""Seconds after which a machine that is waited for is tried again: a booting one may swallow what it is sent."""
LOGIN_GRACE = 90.0
"""Seconds for which a refused login may still be a machine that has not finished booting."""
HOST_KEY_ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}


class HostKeyRefused(VreError):
    """Whatever answers at the address is not the machine that was pinned."""


class LoginRefused(VreError):
    """The machine accepts none of the keys that there are here."""


class Unreachable(VreError):
    """Nothing answers."""


@dataclass(frozen=True, kw_only=True)
class File:
    """One file on a machine. `mode` is octal text."""

    path: str
    content: bytes
    mode: str = "0644"
    owner: str = "root"


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How to reach a machine. `host_keys` are public key lines; `identity` is a private key's path, or empty for the
    agent's and the default keys; `through` is the machine that leads to one without a public address."""

    address: str
    host_keys: tuple[str, ...]
    port: int = 22
    user: str = "vre"
    identity: str = ""
    through: "Connection | None" = None

    @classmethod
    def read(cls, props: Mapping[str, Any]) -> Self:
        """Return the connection that a resource's `connection` input describes."""
        return cls(
            address=str(props["address"]),
            port=int(props.get("port") or 22),
            user=str(props.get("user") or "vre"),
            host_keys=tuple(props["hostKeys"]),
            identity=str(props.get("identity") or ""),
            through=cls.read(props["through"]) if props.get("through") else None,
        )

    def accepting(self, *host_keys: str) -> "Connection":
        """Return the same connection with other pinned host keys."""
        return replace(self, host_keys=tuple(key for key in host_keys if key))

    def __str__(self) -> str:
        return f"{self.user}@{self.address}" + (f":{self.port}" if self.port != 22 else "")


def fingerprint(key: str | paramiko.PKey) -> str:
    """Return the fingerprint of a public key as ssh-keygen shows it."""
    made = parse_key(key) if isinstance(key, str) else key
    return str(made.fingerprint)


def parse_key(line: str) -> paramiko.PKey:
    """Return the key of a public key line. Raises VreError when it is none."""
    try:
        kind, body = line.split()[:2]
        return paramiko.PKey.from_type_string(kind, base64.b64decode(body))
    except (ValueError, paramiko.SSHException, UnknownKeyType) as error:
        raise VreError(f"not a public key: {line[:60]}", hint="a line such as: ssh-ed25519 AAAA... name") from error


class Pinned(paramiko.MissingHostKeyPolicy):
    """Accept exactly the pinned keys, whatever the user's known_hosts says."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.keys = [parse_key(line) for line in connection.host_keys]

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Refuse every key that is not pinned."""
        if key in self.keys:
            return
        expected = ", ".join(fingerprint(pinned) for pinned in self.keys) or "none"
        raise HostKeyRefused(
            f"the host key of {self.connection} is not the pinned one: expected {expected}, got {fingerprint(key)}",
            hint="nothing was sent to it. If somebody else answers there, find out who; if the machine was made anew "
            "by hand, replace it: pulumi up --replace its Machine resource",
        )


class Shell:
    """An open connection, to run commands and place files. A context manager."""

    def __init__(self, connection: Connection, *, timeout: float = 30.0, knock: float = 20.0) -> None:
        """Prepare. `knock` seconds are given to each step of getting in, `timeout` to opening anything after that."""
        self.connection = connection
        self.client = paramiko.SSHClient()
        self.way: Shell | None = None
        quiet = logging.getLogger("paramiko")  # it prints every refused try otherwise
        if not quiet.handlers:
            quiet.addHandler(logging.NullHandler())
        self.timeout = timeout
        self.knock = knock

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the machine, and of the one that leads to it."""
        self.client.close()
        if self.way:
            self.way.close()

    def open(self) -> None:
        """Connect. Raises HostKeyRefused, LoginRefused or Unreachable."""
        pinned = Pinned(self.connection)
        self.client.set_missing_host_key_policy(pinned)
        kinds = {key.get_name() for key in pinned.keys}
        others = [name for kind, names in HOST_KEY_ALGORITHMS.items() if kind not in kinds for name in names]
        try:
            self.client.connect(
                self.connection.address,
                port=self.connection.port,
                username=self.connection.user,
                sock=self._way(),
                timeout=self.knock,
                banner_timeout=self.knock,
                auth_timeout=max(self.knock, self.timeout),
                disabled_algorithms={"keys": others},
                **_credentials(self.connection.identity),
            )
        except VreError:
            raise
        except paramiko.AuthenticationException as error:
            raise _login_refused(self.connection, error) from error
        except IncompatiblePeer as error:
            raise HostKeyRefused(f"{self.connection} has no host key of a pinned kind: {error}") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise Unreachable(f"no SSH at {self.connection}: {error or type(error).__name__}") from error

    def _way(self) -> paramiko.Channel | None:
        """Return a channel to the machine where another one leads to it."""
        if self.connection.through is None:
            return None
        self.way = Shell(self.connection.through, timeout=self.timeout, knock=self.knock)
        self.way.open()
        transport = self.way.client.get_transport()
        if transport is None:
            raise Unreachable(f"the connection to {self.connection.through} broke")
        here = ("127.0.0.1", 0)
        return transport.open_channel(
            "direct-tcpip", (self.connection.address, self.connection.port), here, int(self.knock)
        )

    def run(
        self,
        command: Sequence[str],
        *,
        stdin: str | bytes = b"",
        sudo: bool = False,
        timeout: float = 120.0,
        secrets: Sequence[str] = (),
        context: Context | None = None,
        line: Callable[[str], None] | None = None,
        hint: str = "",
    ) -> str:
        """Run a command to its end and return its standard output.

        `timeout` is in seconds. Each whole line of output goes to `line` as it comes; each of `secrets` is shown as
        stars. Raises VreError with the tail of what was said when it fails, takes too long, or the connection breaks.
        """
        words = ["sudo", "-n", "--", *command] if sudo else list(command)
        whole = starred(shlex.join(command), secrets)
        log.debug("%s: %s", self.connection, whole)
        shown = brief(whole)
        data = stdin.encode() if isinstance(stdin, str) else stdin
        try:
            status, out, err = self._exchange(shlex.join(words), data, timeout, context, line)
        except TimeoutError as error:
            raise VreError(f"{self.connection}: took longer than {timeout:.0f} s: {shown}", hint=hint) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise Unreachable(f"the connection to {self.connection} broke during: {shown}", hint=hint) from error
        if status == -1:
            raise Unreachable(f"the connection to {self.connection} broke during: {shown}", hint=hint)
        if status:
            tail = starred("\n    ".join((err + out).strip().splitlines()[-TAIL:]), secrets)
            raise VreError(f"{self.connection}: exit code {status}: {shown}\n    {tail}", hint=hint)
        return out

    def _exchange(
        self,
        command: str,
        data: bytes,
        timeout: float,
        context: Context | None,
        line: Callable[[str], None] | None,
    ) -> tuple[int, str, str]:
        transport = self.client.get_transport()
        if transport is None or not transport.is_active():
            raise EOFError
        deadline = time.monotonic() + timeout
        with transport.open_session(timeout=self.timeout) as channel:
            channel.settimeout(timeout)
            channel.exec_command(command)
            if data:
                channel.sendall(data)
            channel.shutdown_write()
            out, err = bytearray(), bytearray()
            shown = 0
            while not _drain(channel, out, err):
                if line is not None:
                    shown = _lines(out, shown, line)
                if context is not None and context.cancelled.is_set():
                    raise Cancelled("cancelled", hint="the next `pulumi up` goes on where this one stopped")
                if time.monotonic() > deadline:
                    raise TimeoutError
                select.select([channel], [], [], 0.2)
            if line is not None:
                _lines(out, shown, line)
            return channel.recv_exit_status(), out.decode(errors="replace"), err.decode(errors="replace")

    def remote(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Have the machine answer a request of `vre.machine.remote`."""
        program = Path(__file__).with_name("remote.py").read_text()
        answer = self.run(["python3", "-c", program], stdin=json.dumps(request), sudo=True)
        made: dict[str, Any] = json.loads(answer)
        return made

    def put(self, *files: File) -> frozenset[str]:
        """Write files, each whole or not at all; return the paths that changed."""
        entries = [
            {
                "path": file.path,
                "mode": file.mode,
                "owner": file.owner,
                "content": base64.b64encode(file.content).decode(),
            }
            for file in files
        ]
        answer = self.remote({"do": "put", "files": entries}) if entries else {}
        return frozenset(path for path, changed in answer.items() if changed)

    def digests(self, paths: Sequence[str]) -> dict[str, list[str]]:
        """Return content digest, mode and owner of each path, an empty list for a missing one."""
        return self.remote({"do": "digests", "paths": list(paths)}) if paths else {}

    def read(self, path: str) -> str:
        """Return a file's text, read as root. Raises VreError when it is not there."""
        return self.run(["cat", "--", path], sudo=True)

    def exists(self, path: str) -> bool:
        """Say whether a path exists, looked at as root."""
        return self.run(["sh", "-c", 'test -e "$1" && echo yes || echo no', "sh", path], sudo=True).strip() == "yes"

    def send(self, source: Path, target: str, progress: Callable[[int, int], None]) -> None:
        """Copy a large file to the machine, as the user who logs in; `progress` is told bytes sent, and all of them."""
        try:
            with self.client.open_sftp() as session:
                session.put(str(source), target, callback=progress)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise Unreachable(f"{source.name} did not arrive at {self.connection}: {error}") from error

    def tunnel(self, port: int) -> paramiko.Channel:
        """Open a stream to a port of the machine's own loopback address."""
        transport = self.client.get_transport()
        if transport is None:
            raise Unreachable(f"no connection to {self.connection}")
        try:
            return transport.open_channel("direct-tcpip", ("127.0.0.1", port), ("127.0.0.1", 0), timeout=self.timeout)
        except (paramiko.SSHException, EOFError) as error:
            raise Unreachable(f"port {port} of {self.connection} does not answer: {error}") from error


def wait(connection: Connection, context: Context, *, timeout: float = 600.0, settling: float = 0.0) -> Shell:
    """Return an open connection as soon as the machine lets us in, or raise what stands in the way.

    A refused login is final after a grace time in which the machine may still be booting. A wrong host key is final at
    once, but for `settling` seconds of a first boot in which the machine may not have been given its own yet: while it
    shows another, nobody logs in and nothing is sent.
    """
    begun = time.monotonic()
    refused = None
    while True:
        shell = Shell(connection, knock=KNOCK)
        try:
            shell.open()
            return shell
        except LoginRefused as error:
            shell.close()
            refused = refused or time.monotonic()
            if time.monotonic() - refused > LOGIN_GRACE:
                raise
            told = str(error.message)
        except Unreachable as error:
            shell.close()
            told = error.message
        except HostKeyRefused as error:
            shell.close()
            if time.monotonic() - begun > settling:
                raise
            told = error.message
        except BaseException:
            shell.close()
            raise
        if time.monotonic() - begun > timeout:
            raise Unreachable(
                f"{told} (tried for {timeout:.0f} s)",
                hint="see whether it boots: vre logs; and whether this address is among the operators: vre policy",
            )
        context.report(f"waiting for SSH at {connection}")
        context.pause(1.0)


def brief(command: str) -> str:
    """Return a command as a person is shown it: its beginning, on one line."""
    first, *rest = command.splitlines() or [""]
    return first if not rest and len(first) <= SHOWN else f"{first[:SHOWN]} …"


def starred(text: str, secrets: Sequence[str]) -> str:
    """Return the text with every secret as stars."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "****")
    return text


def _drain(channel: paramiko.Channel, out: bytearray, err: bytearray) -> bool:
    """Take what has come; return True once there will be no more."""
    over = channel.closed or channel.exit_status_ready()
    while channel.recv_ready():
        out += channel.recv(CHUNK)
    while channel.recv_stderr_ready():
        err += channel.recv_stderr(CHUNK)
    return bool(over and (channel.eof_received or channel.closed) and not channel.recv_ready())


def _lines(out: bytearray, shown: int, line: Callable[[str], None]) -> int:
    while (end := out.find(b"\n", shown)) >= 0:
        line(out[shown:end].decode(errors="replace"))
        shown = end + 1
    return shown


def _credentials(identity: str) -> dict[str, Any]:
    """Return what paramiko is to log in with. Raises VreError for a key that cannot be used."""
    if not identity:
        return {"allow_agent": True, "look_for_keys": True}
    path = Path(identity).expanduser()
    try:
        return {"pkey": paramiko.PKey.from_path(path), "allow_agent": False, "look_for_keys": False}
    except FileNotFoundError as error:
        raise VreError(
            f"no private key at {identity}", hint="access: identity: names it; make setup makes one"
        ) from error
    except (paramiko.PasswordRequiredException, TypeError) as error:
        if paramiko.Agent().get_keys():
            return {"allow_agent": True, "look_for_keys": False}
        raise VreError(f"the private key {identity} is encrypted", hint=f"ssh-add {identity}") from error
    except (paramiko.SSHException, UnknownKeyType, ValueError, OSError) as error:
        raise VreError(f"{identity} is no private key that can be used: {error}") from error


def _login_refused(connection: Connection, error: Exception) -> VreError:
    if isinstance(error, paramiko.PasswordRequiredException):
        return VreError("the private key is encrypted and no agent holds it", hint="ssh-add your key, then try again")
    tried = connection.identity or "the agent's and the default keys"
    return LoginRefused(
        f"{connection} accepts none of these keys: {tried}",
        hint="access: keys: in the stack file must hold the public half of one of them",
    )
