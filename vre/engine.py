"""The Pulumi engine, driven for a person: one stack's state, and what an interrupted run left behind."""

import contextlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vre import atomic, stackfile
from vre.errors import VreError
from vre.paths import project, state
from vre.progress import Report, silent
from vre.run import attend, run

OLDEST = (3, 259, 0)
WITH_EVENTS = {"PULUMI_DEBUG_COMMANDS": "true"}
"""Without it the engine hides its flag for the event log; its own automation sets it, too."""
Event = Mapping[str, Any]


def command() -> Path:
    """Return the engine's executable in this environment; it sets backend and passphrase where the user has not."""
    return Path(sys.prefix, "bin", "pulumi")


def backend() -> str:
    """Return the address of the backend that holds the stacks' state."""
    return os.environ.get("PULUMI_BACKEND_URL") or f"file://{state() / 'state'}"


def pulumi(*words: str, stdin: str | None = None, timeout: float = 300.0) -> str:
    """Run the engine to its end and return what it said. Raises VreError, in our own words where there are some."""
    try:
        return run(
            [command(), *words, "--non-interactive", "--color", "never"],
            stdin=stdin, cwd=project(), timeout=timeout,
        )  # fmt: skip
    except VreError as error:
        raise explain(error) from error


NO_STACK = "there is no such stack"
KNOWN_FAULTS = (
    (
        r"incorrect passphrase",
        "the passphrase does not open this stack's secrets",
        (
            "give the one it was made with: PULUMI_CONFIG_PASSPHRASE_FILE=FILE, or put it back as .vre/passphrase; if "
            "the stack holds nothing any more, take the line encryptionsalt: out of its stack file"
        ),
    ),
    (
        r"passphrase must be set",
        "no passphrase was given",
        "make setup makes one; or set PULUMI_CONFIG_PASSPHRASE_FILE",
    ),
    (
        r"the stack is currently locked",
        "another run is at work on this stack",
        "wait for it to end; if it ran on another machine that is gone: pulumi cancel",
    ),
    (
        r"requires a Pulumi CLI version|does not satisfy the version requirement",
        "the Pulumi engine is too old",
        "make setup puts one that fits into .venv",
    ),
    (r"no stack named", NO_STACK, "vre up -s NAME makes it from stacks/Pulumi.NAME.yaml"),
)


def explain(error: VreError) -> VreError:
    """Return an engine's fault in the project's own words, where it is a known one."""
    for pattern, message, hint in KNOWN_FAULTS:
        if re.search(pattern, error.message):
            return VreError(message, hint=hint)
    return error


def version() -> str:
    """Return the engine's version. Raises VreError when it is older than the project needs."""
    said = pulumi("version").strip().removeprefix("v")
    numbers = tuple(int(number) for number in re.findall(r"\d+", said)[:3])
    if numbers < OLDEST:
        oldest = ".".join(str(number) for number in OLDEST)
        raise VreError(
            f"the Pulumi engine is {said}; {oldest} or newer is needed", hint="make setup puts one into .venv"
        )
    return said


def exists(stack: str) -> bool:
    """Say whether the backend knows the stack."""
    known = json.loads(pulumi("stack", "ls", "--json") or "[]")
    return any(str(each["name"]).rsplit("/", 1)[-1] == stack for each in known)


def ensure_stack(stack: str) -> None:
    """Make the stack in the backend when it is not there yet."""
    if not exists(stack):
        forget_salt(stack)
        pulumi("stack", "init", stack, "--secrets-provider", "passphrase")


def forget_salt(stack: str) -> None:
    """Take the salt of a passphrase out of the file of a stack that holds nothing, unless the file needs it."""
    file = stackfile.path(stack)
    text = file.read_text()
    if stackfile.without_salt(text) != text:
        atomic.write(file.resolve(), stackfile.without_salt(text).encode())


def outputs(stack: str) -> dict[str, Any]:
    """Return a stack's outputs with secrets opened; none when it was not launched."""
    return dict(json.loads(_told_of(stack, "output", "--json", "--show-secrets") or "{}"))


def resources(stack: str) -> list[dict[str, Any]]:
    """Return the resources in a stack's state, secrets still sealed; none when it was not launched."""
    deployment = json.loads(_told_of(stack, "export") or "{}").get("deployment") or {}
    return list(deployment.get("resources") or [])


def _told_of(stack: str, *words: str) -> str:
    """Return what the engine says of a stack; nothing when there is none."""
    try:
        return pulumi("stack", *words, "--stack", stack)
    except VreError as error:
        if error.message == NO_STACK:
            return ""
        raise


def recover(stack: str, report: Report = silent) -> bool:
    """Mend what a killed run left behind: its lock, and the operations that it had begun. Say whether there were any.

    The handlers adopt what such an operation made, so that beginning it again is safe. A lock whose holder is alive is
    waited for, and is not broken.
    """
    for lock in locks(stack):
        _await(stack, lock, report)
    _clear(stack)
    if locks(stack):
        report("a killed run left its lock: removing it")
        pulumi("cancel", "--yes", stack)
    deployment = json.loads(pulumi("stack", "export", "--stack", stack))
    mended = without_pending(deployment)
    if mended is not None:
        pulumi("stack", "import", "--stack", stack, stdin=json.dumps(mended))
    return mended is not None


def _clear(stack: str) -> None:
    """Remove what was cut off while it was written: nobody is at work on the stack. The state itself is moved whole."""
    for cut in _folder("stacks", f"**/{stack}.json.attrs"):
        # Written beside the state; cut off before its first byte, it keeps the engine from reading the state.
        if cut.stat().st_size == 0:
            cut.unlink()
    for unfinished in _folder("stacks", f"**/{stack}.json.*.tmp"):
        unfinished.unlink()


def without_pending(exported: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an exported state without its pending operations, or None when it has none. Pure."""
    deployment = exported.get("deployment") or {}
    if not deployment.get("pending_operations"):
        return None
    kept = {key: value for key, value in deployment.items() if key != "pending_operations"}
    return {**exported, "deployment": kept}


def locks(stack: str) -> list[Path]:
    """Return the lock files of a stack; none where the backend is no folder of this machine."""
    return _folder("locks", f"**/{stack}/*.json")


def _folder(name: str, pattern: str) -> list[Path]:
    """Return files of the state; none where the backend is no folder of this machine."""
    url = backend()
    if not url.startswith("file://"):
        return []
    return sorted((Path(url.removeprefix("file://").split("?")[0]).expanduser() / ".pulumi" / name).glob(pattern))


def holder(lock: Path) -> int | None:
    """Return the process that holds a lock while it lives here, 0 when it lived elsewhere, else None."""
    try:
        told = json.loads(lock.read_text())
    except (OSError, ValueError):
        return None
    if told.get("hostname") != socket.gethostname():
        return 0
    pid = int(told.get("pid") or -1)
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/comm").read_text().startswith("pulumi") and _state(pid) != "Z":
            return pid
    return None


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _await(stack: str, lock: Path, report: Report, *, patience: float = 90.0) -> None:
    """Wait until nobody holds a lock any more. Raises VreError when somebody still does, here or on another machine."""
    begun = time.monotonic()
    while (pid := holder(lock)) and time.monotonic() - begun < patience:
        report(f"another run (process {pid}) is still at work on stack {stack}: waiting for its end")
        time.sleep(1)
    if pid == 0:
        raise VreError(
            f"stack {stack} is locked from another machine",
            hint=f"wait for it to end; if that machine is gone: pulumi cancel -s {stack}",
        )
    if pid:
        raise VreError(f"another run is at work on stack {stack}: process {pid}", hint="wait for it, or interrupt it")


def change(action: str, stack: str, on_event: Callable[[Event], None], output: Path, *flags: str) -> int:
    """Run `up`, `destroy`, `refresh` or `preview` of a stack; each event goes to `on_event`. Returns the exit code.

    What the engine prints goes to `output`, for a person to read later.
    """
    from vre.events import follow

    log = output.with_suffix(".events")
    quiet = ["--suppress-outputs", "--non-interactive", "--color", "never"]
    if action != "preview":  # which changes nothing, and knows neither
        quiet += ["--yes", "--skip-preview"]
    with follow(log, on_event):
        words: list[str | Path] = [command(), action, "--stack", stack, *quiet, "--event-log", log, *flags]
        return attend(words, cwd=project(), output=output, env=WITH_EVENTS)
