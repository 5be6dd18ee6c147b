"""This machine, for its daily upgrade: what it is told, what is kept of former runs, its commands.

What is kept is in /var/lib/vre/patch.json.
"""

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any, ClassVar

import patching
import places

TAIL = 12  # lines of a failed command's output that are kept
SPREAD = timedelta(minutes=15)


class Failed(Exception):
    """A command ended badly, or what was waited for did not come."""

    def __init__(self, command: str, said: str, code: int = 1) -> None:
        super().__init__(f"{command}: {said}")
        self.command, self.said, self.code = command, said, code


class Later(Exception):
    """Nothing is wrong, it is only not this machine's turn."""


class Places(places.Places):
    """Where things are."""

    WHERE: ClassVar[Mapping[str, str]] = {
        "state": "var/lib/vre/patch.json",
        "spare": "run/vre/patch.json",
        "resume": "var/lib/vre/patch-resume",
        "settings": "etc/vre/patch.json",
        "motd": "etc/motd.d/vre-patch",
        "console": "dev/console",
        "boot": "proc/sys/kernel/random/boot_id",
        "wanted": "run/reboot-required",
        "scratch": "run/vre",
        "kubeconfig": "etc/kubernetes/kubelet.conf",
        "rotated": "var/lib/kubelet/pki/kubelet-client-current.pem",
        "own_api": "etc/kubernetes/manifests/kube-apiserver.yaml",
        "admin": "etc/kubernetes/admin.conf",
    }


def say(text: str) -> None:
    """Tell the journal."""
    print(text, flush=True)


class Host:
    """One machine, for one run."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.boot = places.boot.read_text().strip()
        self.state: dict[str, Any] = load(places)
        self.settings: dict[str, Any] = {}
        self.window = patching.window("02:00-05:00")
        self.busy = False
        self.ending = False
        self.pause = time.sleep

    def read(self) -> None:
        """Read what this machine is told. Raises ValueError, and OSError."""
        if self.places.settings.exists():
            self.settings = json.loads(self.places.settings.read_text())
        self.window = patching.window(self.settings.get("window", "02:00-05:00"), self.settings.get("zone", "UTC"))
        self.note(tried=now(), window=str(self.window))

    def command(self, *words: str, accept: Sequence[int] = (0,)) -> str:
        """Run a command to its end, also when this program is asked to end meanwhile. Raises Failed."""
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        self.busy = True
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, errors="replace", check=False, env=env, start_new_session=True
            )
        except FileNotFoundError as error:
            raise Failed(shlex.join(words), "there is no such command", 127) from error
        finally:
            self.busy = False
        if done.returncode not in accept:
            said = (done.stdout + done.stderr).strip().splitlines()[-TAIL:]
            raise Failed(shlex.join(words), "\n".join(said), done.returncode)
        if self.ending:
            sys.exit(0)
        return done.stdout

    def end(self, number: int, frame: FrameType | None) -> None:
        """Asked to end, as at a shutdown: at once, but never in the middle of a command."""
        self.ending = True
        if not self.busy:
            sys.exit(0)

    def again(self, when: datetime) -> None:
        """Be called again at a moment; the one asked for before is forgotten."""
        units = ("vre-patch-again.timer", "vre-patch-again.service")
        self.command("systemctl", "stop", units[0], accept=(0, 1, 5))
        self.command("systemctl", "reset-failed", *units, accept=(0, 1, 5))  # a unit that failed keeps its name taken
        self.command(
            "systemd-run", "--quiet", "--collect", "--unit=vre-patch-again",
            f"--on-calendar={when:%Y-%m-%d %H:%M:%S UTC}",
            "--timer-property=AccuracySec=1s", f"--timer-property=RandomizedDelaySec={SPREAD.seconds}s",
            "systemctl", "start", "--no-block", "vre-patch.service",
        )  # fmt: skip

    def note(self, **values: Any) -> None:
        """Keep the state, whole or not at all; on a full disk in memory, until there is room again."""
        self.state = {key: value for key, value in {**self.state, **values}.items() if value is not None}
        text = json.dumps(self.state, indent=1, sort_keys=True) + "\n"
        for place in (self.places.state, self.places.spare):
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                beside = place.with_suffix(".new")
                with beside.open("w") as sink:
                    sink.write(text)
                    sink.flush()
                    os.fsync(sink.fileno())
                beside.replace(place)
            except OSError:
                continue
            if place == self.places.state:
                self.places.spare.unlink(missing_ok=True)
            return


def load(places: Places) -> dict[str, Any]:
    """Return the state as it was last kept; empty when there is none that can be read."""
    for place in (places.spare, places.state):
        with contextlib.suppress(OSError, ValueError):
            made: dict[str, Any] = json.loads(place.read_text())
            return made
    return {}


def clock() -> datetime:
    """Return the present."""
    return datetime.now(UTC)


def now() -> str:
    """Return the present as it is kept."""
    return clock().isoformat(timespec="seconds")
