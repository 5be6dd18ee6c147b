"""One launched stack as the tests use it: the engine inside the lab, and the machines over plain OpenSSH."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.checkout import Checkout
from tests.machine.lab import Host
from tests.machine.ledger import end

Say = Callable[[str], None]
KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")
EVERY = 15.0  # seconds between two lines of progress


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended, and all it printed."""

    code: int
    text: str
    seconds: float


@dataclass(kw_only=True)
class Running:
    """A command on its way. `lines` grows while it runs."""

    process: "subprocess.Popen[str]"
    begun: float
    lines: list[str] = field(default_factory=list)

    def saw(self, *words: str) -> bool:
        """Say whether some line so far holds all the words."""
        return any(all(word in line for word in words) for line in list(self.lines))

    def ended(self) -> Ended:
        """Wait for the end."""
        code = self.process.wait()
        return Ended(code=code, text="".join(self.lines), seconds=time.monotonic() - self.begun)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine of the stack, reached with OpenSSH and its pinned host key."""

    host: Host
    address: str
    host_key: str
    identity: Path
    folder: Path

    def ssh(self, *options: str, key: Path | None = None) -> list[str]:
        """Return the beginning of an ssh command, run on the host this machine is reached from."""
        known = self.folder / f"known-{self.address}"
        known.write_text(f"{self.address} {self.host_key}\n")
        fixed = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(known),
            "GlobalKnownHostsFile": "/dev/null",
            "IdentitiesOnly": "yes",
            "IdentityFile": str(key or self.identity),
            "ConnectTimeout": "20",
            "ServerAliveInterval": "10",
        }
        flags = [f"-o{name}={value}" for name, value in fixed.items()]
        return self.host.words("ssh", "-F", "none", *options, *flags, f"vre@{self.address}")

    def result(self, *words: str, stdin: str = "", timeout: float = 300) -> "subprocess.CompletedProcess[str]":
        """Run a command as the login user."""
        shared = ("-oControlMaster=auto", f"-oControlPath={self.folder}/ssh-%C", "-oControlPersist=60")
        command = [*self.ssh(*shared), shlex.join(words)]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)

    def root(self, *words: str, stdin: str = "") -> str:
        """Run a command as root and return what it printed."""
        done = self.result("sudo", "-n", *words, stdin=stdin)
        if done.returncode:
            raise RuntimeError(f"{self.address}: {shlex.join(words)}: {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Run kubectl on the control machine."""
        return self.root(*KUBECTL, *words, stdin=stdin)

    def objects(self, *words: str) -> list[dict[str, Any]]:
        """Return what `kubectl get` finds."""
        found = json.loads(self.kubectl("get", *words, "--output", "json"))
        return list(found["items"]) if "items" in found else [found]

    def hang_up(self) -> None:
        """Forget the open connection: the machine went down."""
        shared = f"-oControlPath={self.folder}/ssh-%C"
        subprocess.run([*self.ssh(shared), "-O", "exit"], capture_output=True, check=False)

    def boot(self) -> str:
        """Return the identity of the present boot, empty while it cannot be had."""
        done = self.result("cat", "/proc/sys/kernel/random/boot_id", timeout=60)
        return done.stdout.strip()


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A stack of a clone, launched in the lab."""

    name: str
    checkout: Checkout
    host: Host
    uri: str
    say: Say

    @property
    def folder(self) -> Path:
        """Where this stack's tests keep things."""
        return self.checkout.path.parent

    @property
    def logs(self) -> Path:
        """Where everything is kept that a command of this stack printed."""
        return self.folder / "logs"

    @contextmanager
    def running(self, *words: str | Path) -> Iterator[Running]:
        """Start a command of the clone in the lab, as a process group of its own; show how it goes on."""
        command = self.host.words(*words)
        begun = time.monotonic()
        process = subprocess.Popen(
            command, cwd=self.checkout.path, env=dict(self.checkout.env), text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        now = Running(process=process, begun=begun)
        reader = threading.Thread(target=self._read, args=(now, words), daemon=True)
        reader.start()
        try:
            yield now
        finally:
            if process.poll() is None:
                end(family(process.pid))
            process.wait()
            reader.join(timeout=10)
            if process.stdout is not None:
                process.stdout.close()

    def _read(self, now: Running, words: Sequence[str | Path]) -> None:
        self.logs.mkdir(exist_ok=True)
        last = now.begun
        with (self.logs / "commands.log").open("a") as log:
            log.write(f"$ {shlex.join(map(str, words))}\n")
            assert now.process.stdout is not None
            for line in now.process.stdout:
                now.lines.append(line)
                log.write(line)
                log.flush()
                text = line.strip()
                if text and not text.startswith("@") and time.monotonic() - last > EVERY:
                    last = time.monotonic()
                    self.say(f"{Path(words[0]).name} {words[1]}, {last - now.begun:.0f} s: {text[:110]}")

    def command(self, *words: str | Path, timeout: float = 1800) -> Ended:
        """Run a command of the clone in the lab to its end."""
        with self.running(*words) as now:
            watch = threading.Timer(timeout, lambda: end(family(now.process.pid)))
            watch.start()
            try:
                now.process.wait()
            finally:
                watch.cancel()
        return Ended(code=now.process.returncode, text="".join(now.lines), seconds=time.monotonic() - now.begun)

    def engine(self, action: str, *flags: str) -> tuple[str | Path, ...]:
        """Return a command of the engine that changes something."""
        program = Path(sys.prefix, "bin", "pulumi")
        fixed = ("--yes", "--skip-preview", "--non-interactive", "--color", "never")
        return (program, action, "--stack", self.name, *fixed, *flags)

    def pulumi(self, *words: str) -> str:
        """Ask the engine something and return its answer. Its standard error is apart: warnings are no answer."""
        command = self.host.words(Path(sys.prefix, "bin", "pulumi"), *words, "--stack", self.name, "--non-interactive")
        done = subprocess.run(
            command, cwd=self.checkout.path, env=dict(self.checkout.env), text=True, capture_output=True,
            stdin=subprocess.DEVNULL, check=False, timeout=300,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"pulumi {words[0]}: {done.stderr}{done.stdout}")
        return done.stdout

    def do(self, action: str, *flags: str) -> Ended:
        """Run `up`, `refresh` or `destroy`, which must end well."""
        self.say(f"pulumi {action} {' '.join(flags)}".strip())
        ended = self.command(*self.engine(action, *flags))
        self.say(f"pulumi {action}: exit code {ended.code} after {ended.seconds:.0f} s")
        assert ended.code == 0, ended.text[-6000:]
        return ended

    def outputs(self) -> dict[str, Any]:
        """Return the outputs with secrets opened."""
        found: dict[str, Any] = json.loads(self.pulumi("stack", "output", "--json", "--show-secrets"))
        return found

    def export(self, *, opened: bool = False) -> dict[str, Any]:
        """Return the state as the engine exports it."""
        found: dict[str, Any] = json.loads(self.pulumi("stack", "export", *(["--show-secrets"] if opened else [])))
        return found

    def resources(self) -> list[dict[str, Any]]:
        """Return every resource in the state."""
        return list((self.export().get("deployment") or {}).get("resources") or [])

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the resources of one of our types, for example `libvirt:Domain`."""
        return [each for each in self.resources() if each["type"] == f"vre:{kind}"]

    def vre(self, *words: str) -> Ended:
        """Run our own command."""
        return self.command(Path(sys.prefix, "bin", "vre"), *words)

    def virsh(self, *words: str) -> str:
        """Ask the lab's hypervisor."""
        return self.host.run("virsh", "--connect", self.uri, *words)

    def link(self, machine: str) -> str:
        """Return the hypervisor's end of a machine's cable."""
        return self.virsh("domiflist", f"vre-{machine}").splitlines()[2].split()[0]

    def machines(self, outputs: Mapping[str, Any] | None = None) -> list[Machine]:
        """Return the machines, the control machine first."""
        listed = sorted((outputs or self.outputs())["machines"], key=lambda each: each["role"] != "control")
        return [
            Machine(
                host=self.host,
                address=each["addresses"][0],
                host_key=each["hostKey"],
                identity=self.checkout.state / "id_ed25519",
                folder=self.folder,
            )
            for each in listed
        ]


def family(pid: int) -> list[int]:
    """Return a process and all its descendants, the youngest first."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[::-1]


def kill(pid: int) -> None:
    """Kill a process and all its descendants at once, as a lack of memory or a lost terminal would."""
    for each in family(pid):
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            continue
