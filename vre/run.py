"""The one door for local processes: argument lists, no shell, secrets as stars, a log line that can be replayed."""

import contextlib
import logging
import os
import shlex
import signal
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

from vre.errors import VreError

Process = subprocess.Popen[bytes]
log = logging.getLogger("vre.run")
INTERRUPTED = 130
TAIL = 30  # lines of a failed command's output that a person is shown


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    output: Path | None = None,
    secrets: Sequence[str] = (),
    hint: str = "",
    accept: Collection[int] = (0,),
) -> str:
    """Run a command to its end and return its standard output.

    `env` is added to this process's environment. `timeout` is in seconds. With `output` both streams go to that file
    (appended) and the returned text is empty. Each of `secrets` is shown as stars. `accept` are the exit codes that
    mean success. Raises VreError with the tail of what the command said when it cannot start, ends with another code
    or takes too long.
    """
    words = [str(word) for word in command]
    shown = _starred(shlex.join(words), secrets)
    log.debug("%s", shown)
    settings: dict[str, Any] = {
        "input": (stdin.encode() if isinstance(stdin, str) else stdin) or b"",
        "env": {**os.environ, **env} if env else None,
        "cwd": cwd,
        "timeout": timeout,
    }
    try:
        if output is None:
            done = subprocess.run(words, check=False, capture_output=True, **settings)
        else:
            with _appended(output) as sink:
                sink.write(f"$ {shown}\n".encode())
                sink.flush()
                done = subprocess.run(words, check=False, stdout=sink, stderr=subprocess.STDOUT, **settings)
    except FileNotFoundError as error:
        raise _not_there(words[0], hint) from error
    except subprocess.TimeoutExpired as error:
        raise VreError(f"took longer than {timeout:.0f} s: {shown}", hint=hint) from error
    if done.returncode not in accept:
        said = output.read_text(errors="replace") if output else (done.stderr + done.stdout).decode(errors="replace")
        tail = _starred("\n    ".join(said.strip().splitlines()[-TAIL:]), secrets)
        raise VreError(f"failed with exit code {done.returncode}: {shown}\n    {tail}", hint=hint)
    return str((done.stdout or b"").decode(errors="replace"))


def _appended(output: Path) -> IO[bytes]:
    output.parent.mkdir(parents=True, exist_ok=True)
    return output.open("ab")


def _not_there(name: str, hint: str = "") -> VreError:
    return VreError(f"the command {name} is not there", hint=hint or "run: make setup")


def _starred(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        if secret:
            text = text.replace(secret, "****")
    return text


def begin(
    command: Sequence[str | Path], *, output: Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Process:
    """Start a command in a session of its own and return the process. Both streams go to `output` (appended)."""
    words = [str(word) for word in command]
    log.debug("%s", shlex.join(words))
    with _appended(output) as sink:
        try:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **env} if env else None,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise _not_there(words[0]) from error


def attend(command: Sequence[str | Path], *, cwd: Path, output: Path, env: Mapping[str, str] | None = None) -> int:
    """Run a command that ends gracefully when it is interrupted; return its exit code, or INTERRUPTED.

    Both streams go to `output` (appended). It runs in a session of its own; an interrupt, a hang-up or a request to end
    reaches it as an interrupt, once each, and so does this process's own death, however sudden.
    """
    process = begin(["setpriv", "--pdeathsig", "INT", *command], output=output, cwd=cwd, env=env)
    with _forwarding(process) as told:
        code = process.wait()
    return INTERRUPTED if code and told else code


@contextlib.contextmanager
def _forwarding(process: Process) -> Iterator[list[int]]:
    told: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        told.append(number)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def become(command: Sequence[str | Path]) -> NoReturn:
    """Become another program: its terminal and exit code are this process's own."""
    words = [str(word) for word in command]
    log.debug("%s", shlex.join(words))
    try:
        os.execvp(words[0], words)  # noqa: S606 - the one place where this process gives itself up
    except FileNotFoundError as error:
        raise _not_there(words[0]) from error
