"""The daily upgrade of a machine: packages, services, and a reboot when what runs is no longer what is installed.

Run by vre-patch.service: every 24 hours, at the beginning of the maintenance window when a reboot waits, and after a
start that broke something off. It goes on where it was; what it does and found is in /var/lib/vre/patch.json. Python's
standard library only. Ends with 1 when something failed; the machine then stays as it was, and says so at login.
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import containers
import controlplane
import patching
import places
import rollout
import runtime
import turn
from alone import alone

APT = (
    *("apt-get", "--quiet", "--yes", "-oDPkg::Lock::Timeout=600", "-oAcquire::Retries=3", "-oAPT::Color=0"),
    *("-oDpkg::Options::=--force-confdef", "-oDpkg::Options::=--force-confold"),
)
UPGRADE = ("upgrade", "--with-new-pkgs")
"""New packages may come (each kernel is one), none goes: what would need that is kept back and shown as pending."""
CONFIGURE = ("dpkg", "--force-confdef", "--force-confold", "--configure", "--pending")
TESTED = str(Path(__file__).with_name("tested.py"))
"""Has apt look at the state of Debian's archive that was tested, where that is wanted."""
ROOM = 400 * 1024**2
"""Bytes that have to be free before packages are unpacked: a kernel with its initrd, or all of our programs."""
TAIL = 12  # lines of a failed command's output that are kept
NOTICE = timedelta(minutes=5)  # users are told so long before a reboot
DRAIN = timedelta(minutes=15)
BACK = timedelta(minutes=30)  # for a node to be ready after a reboot, on an emulated processor
TURN = timedelta(minutes=30)  # for others to end their turns, where only services start anew
RETRY = timedelta(hours=1)
SPREAD = timedelta(minutes=15)
ROLLOUT = timedelta(minutes=15)  # for pods from newer images to be ready
Change = Callable[[rollout.Cluster, datetime], list[str]]


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


class Patch:
    """One run."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.boot = places.boot.read_text().strip()
        self.state: dict[str, Any] = load(places)
        self.settings: dict[str, Any] = {}
        self.window = patching.window("02:00-05:00")
        self.busy = False
        self.ending = False
        self.pause = time.sleep

    # the whole

    def run(self) -> int:
        """Do what is due. Returns the exit code."""
        try:
            self.read()
            try:
                self.work()
            except Later as error:
                say(f"later: {error}")
                self.note(waits=str(error))
                self.again(clock() + RETRY)
            self.note(failure=None)
            self.places.motd.unlink(missing_ok=True)
        except Exception as error:  # a disk that takes nothing, settings cut short: told like what was foreseen
            return self.fail(error)
        return 0

    def read(self) -> None:
        """Read what this machine is told. Raises ValueError, and OSError."""
        if self.places.settings.exists():
            self.settings = json.loads(self.places.settings.read_text())
        self.window = patching.window(self.settings.get("window", "02:00-05:00"), self.settings.get("zone", "UTC"))
        self.note(tried=now(), window=str(self.window))

    def work(self) -> None:
        """Be a node again, upgrade, look, reboot."""
        # What keeps the node from being ready may be what the upgrade mends; if not, the run fails after it.
        with contextlib.suppress(turn.TooLong, turn.Unreachable):
            self.come_back()
        self.remember()
        if self.settings.get("upgrade", True):
            self.upgrade()
        self.look()
        self.come_back()
        fault = self.renew() if self.settings.get("upgrade", True) else None
        self.reboot_when_due()  # a kernel does not wait for a container image
        if fault:
            raise fault

    def fail(self, error: Exception) -> int:
        """Say what failed: in the state, at login, on the console, to the journal. Tried again in an hour."""
        fault = error if isinstance(error, Failed) else Failed(type(error).__name__, str(error))
        told = f"daily upgrade: exit code {fault.code}: {fault.command}\n{fault.said}"
        say(told)
        self.note(failure={"command": fault.command, "code": fault.code, "said": fault.said, "at": now()})
        with contextlib.suppress(OSError):
            self.places.motd.parent.mkdir(parents=True, exist_ok=True)
            self.places.motd.write_text(f"\nWARNING: this machine could not be patched.\n{told}\n")
        with contextlib.suppress(OSError), self.places.console.open("a") as console:
            console.write(f"{told}\n".replace("\n", "\r\n"))
        with contextlib.suppress(Failed, OSError):
            self.again(clock() + RETRY)
        return 1

    # packages

    def upgrade(self) -> None:
        """Bring every package up to date, services included."""
        self.places.resume.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.places.root).free
        if free < ROOM:
            raise Failed("df /", f"no room: {free // 1024**2} MiB are free, {ROOM // 1024**2} MiB are needed", 28)
        self.places.resume.touch()
        self.command(*CONFIGURE)
        if self.command("dpkg", "--audit").strip():
            self.command(*APT, "--fix-broken", "install")
        self.command("python3", "-B", TESTED)
        self.command(*APT, "--error-on=any", "update")
        planned = patching.changes(self.command(*APT, "--simulate", *UPGRADE))
        if planned:
            say(f"upgrading {', '.join(map(str, planned))}")
            if patching.needs_turn(planned):
                self.in_turn(lambda: self.install(planned))
            else:
                self.install(planned)
        self.finished(planned)

    def install(self, planned: Sequence[patching.Change]) -> None:
        """Unpack and set up; needrestart, called by apt, starts services anew that run what was replaced."""
        if names := [each.package for each in planned if each.package in runtime.PACKAGES]:
            self.command(*APT, "--download-only", *UPGRADE)
            lost = runtime.quietly(self.command, say, lambda: self.command(*APT, "--only-upgrade", "install", *names))
            self.note(lost={"at": now(), "pods": lost} if lost else None)
        self.command(*APT, *UPGRADE)
        os.sync()  # dpkg syncs what it unpacks, not what packages' scripts write: an initrd, the loaders' lists

    def finished(self, planned: Sequence[patching.Change]) -> None:
        """Tidy up, and note what was done and what is left."""
        self.command(*APT, "autoremove")
        self.command(*APT, "clean")
        left = self.command(*APT, "--simulate", *UPGRADE)
        pending = [each.package for each in patching.changes(left)]
        pending += [name for name in patching.kept_back(left) if name not in pending]
        done = [each for each in planned if each.package not in pending]
        self.note(
            patched=now(), pending=pending, waits=None,
            **({"changed": {"at": now(), "packages": [str(each) for each in done]}} if done else {}),
        )  # fmt: skip

    def in_turn(self, work: Any) -> None:
        """Do what no two machines of the cluster should at once, and see that the node is ready afterwards."""
        alone = bool(self.settings.get("alone"))
        node: turn.Node | None = None
        try:
            node = self.node()
            # It may be held since a run whose node did not become ready: what is to be installed may mend that.
            if node is not None and not alone and not self.state.get("turn"):
                node.take(clock() + TURN)
                self.note(turn=True)
        except turn.TooLong as error:
            raise Later(str(error)) from error
        except turn.Unreachable as error:
            say(f"without a turn: {error}")  # what is broken may be what the upgrade mends
            node = None
        work()
        if node is not None:
            node.until_ready(clock() + BACK)
            if self.state.get("turn"):
                self.release(node)

    def remember(self) -> None:
        """Note what everything has loaded, as installed at this boot's first run: later ones see what changed since."""
        if (self.state.get("loaded") or {}).get("boot") != self.boot:
            self.note(loaded={**self.versions(patching.BASE), "boot": self.boot})

    def versions(self, packages: Collection[str]) -> dict[str, str]:
        """Return the versions of those of the packages that are installed."""
        words = ("--show", "--showformat", "${Package} ${Version}\n", *sorted(packages))
        shown = self.command("dpkg-query", *words, accept=(0, 1))
        return dict(line.split(" ", 1) for line in shown.splitlines() if line.count(" ") == 1)

    def look(self) -> None:
        """Note which versions there are, and why a reboot is wanted."""
        behind = patching.behind(self.command("apt-cache", "policy", *patching.SHOWN))
        why = patching.base_changes(self.state.get("loaded") or {}, self.versions(patching.BASE))
        why += patching.needrestart(self.command("needrestart", "-b", "-k", "-w", "-r", "l", accept=(0, 1)))
        if self.places.wanted.exists() and not why:
            why = [f"asked for by {name}" for name in _lines(self.places.wanted.with_suffix(".pkgs"))] or ["asked for"]
        wanted = patching.reboot(self.state, boot=self.boot, why=why, now=clock())
        components = {"kernel": os.uname().release, **self.versions(patching.SHOWN)}
        self.note(components=components, behind=behind or None, reboot=wanted)

    # container images

    def renew(self) -> Exception | None:
        """Take newer container images; on the control machine have pods made from them. Returns what kept that."""
        places = containers.Places(root=self.places.root)
        works = (self.take, *((self.roll, self.follow) if self.places.own_api.exists() else ()))
        faults = [fault for work in works if (fault := self.fault(work, places))]
        return next((each for each in faults if not isinstance(each, Later)), next(iter(faults), None))

    def fault(self, work: Callable[[containers.Places], None], places: containers.Places) -> Exception | None:
        """Do it; return what kept it from being done."""
        try:
            work(places)
            return None
        except rollout.Waits as error:
            return Later(str(error))
        except (Later, Failed) as error:
            return error
        except (containers.Unfit, rollout.NotReady, turn.ApiError, turn.Unreachable, turn.TooLong) as error:
            return Failed("newer container images", str(error))

    def take(self, places: containers.Places) -> None:
        """Bring this machine the images of the newest list."""
        if containers.settle(places, say):
            self.note(renewed=now())

    def roll(self, places: containers.Places) -> None:
        """Have what names former images name those that stand for them now."""
        replaced = containers.standing(places)
        if changed := self.tried("put_back", sorted(replaced.values()), lambda one, end: one.roll(replaced, end)):
            self.note(rolled={"at": now(), "objects": changed})

    def follow(self, places: containers.Places) -> None:
        """Have the control plane follow to another patch level, in this machine's turn."""
        images, settings = containers.whole(places), controlplane.Places(root=self.places.root)
        if not settings.settings.exists() or not controlplane.behind(settings.settings.read_text(), images):
            return

        def bring(cluster: rollout.Cluster, deadline: datetime) -> list[str]:
            plane = controlplane.ControlPlane(places=settings, cluster=cluster, run=self.command)
            made: list[str] = []
            self.in_turn(lambda: made.extend(plane.bring(images, deadline)))
            return made

        if changed := self.tried("kept_back", sorted(images.values()), bring):
            self.note(followed={"at": now(), "versions": changed})

    def tried(self, name: str, images: Sequence[str], work: Change) -> list[str]:
        """Change the cluster for these images, but not where that was put back before; return what was changed."""
        before = self.state.get(name) or {}
        if before.get("images") == list(images):
            raise rollout.NotReady(before["said"])
        api = turn.api(self.places.scratch, self.places.admin, self.places.root / "nowhere") if images else None
        if api is None:
            return []
        try:
            changed = work(rollout.Cluster(api=api, say=say, pause=self.pause), clock() + ROLLOUT)
        except rollout.NotReady as error:
            self.note(**{name: {"images": list(images), "said": str(error)}})
            raise
        self.note(**{name: None})
        return changed

    # reboot

    def reboot_when_due(self) -> None:
        """Reboot inside the window; outside it, be called again when it opens."""
        wanted = self.state.get("reboot")
        if not wanted:
            return
        vain = patching.in_vain(self.state, boot=self.boot, why=wanted["why"])
        if vain:
            raise Failed("systemctl reboot", f"the machine was rebooted, and still: {vain}")
        if self.settings.get("reboot", "window") == "by-hand":
            say(f"a reboot is wanted, and left to people: {', '.join(wanted['why'])}")
        elif patching.is_open(self.window, clock()):
            self.go_down(wanted["why"])
        else:
            begin, _ = patching.opening(self.window, clock())
            say(f"a reboot waits for {begin.isoformat()}")
            self.again(begin)

    def go_down(self, why: Sequence[str]) -> None:
        """Reboot: drained and in its turn where there are other machines, announced where there are none."""
        node = self.node()
        text = f"This machine reboots for an upgrade ({', '.join(why)})"
        alone = node is None or bool(self.settings.get("alone"))
        try:
            if node is not None and not alone:
                self.drain(node, why)
        except turn.Unreachable:
            if not self.places.own_api.exists():
                raise  # elsewhere the cluster may be well, and would lose another machine
        if node is not None:
            with contextlib.suppress(turn.ApiError, turn.Unreachable):  # only for people to read
                node.event("Rebooting", text)
        if alone and node is not None:
            self.announce(node, why, others=False)
            self.command("wall", f"{text} in {NOTICE.seconds // 60} minutes.", accept=(0, 1))
            self.pause(NOTICE.total_seconds())
        self.note(doing="rebooting", rebooted={"boot": self.boot, "why": list(why), "at": now()})
        self.places.resume.touch()
        os.sync()
        say(text)
        self.command("systemctl", "reboot")

    def announce(self, node: turn.Node, why: Sequence[str], *, others: bool) -> bool:
        """Have users told in Jupyter. Returns whether it was noted; when not, what follows is done all the same."""
        try:
            node.announce(clock() + NOTICE, ", ".join(why), others=others)
        except (turn.ApiError, turn.Unreachable) as error:
            say(f"users are not told in Jupyter: {error}")  # the cluster may be what the reboot mends
            return False
        return True

    def drain(self, node: turn.Node, why: Sequence[str]) -> None:
        """Take the turn, take no more pods, have those there go. What does not go keeps the machine as it was."""
        _, end = patching.opening(self.window, clock())
        try:
            node.take(end)
        except turn.TooLong as error:
            raise Later(str(error)) from error
        # Noted before it is done: when the answer is lost, or power, the cordon is still known as ours. One that is
        # there already is somebody else's, and left to them.
        ours = bool(self.state.get("cordoned")) or not node.cordoned()
        self.note(turn=True, doing="draining", cordoned=ours)
        node.cordon()
        if node.has_users() and self.announce(node, why, others=True):
            self.pause(NOTICE.total_seconds())
        try:
            node.drain(clock() + DRAIN)
        except turn.TooLong as error:
            self.release(node)
            raise Failed("drain", str(error)) from error

    def come_back(self) -> None:
        """Be a node again after a reboot, or after a run that was broken off."""
        if self.state.get("turn") or self.state.get("cordoned"):
            node = self.node()
            if node is not None:
                node.until_ready(clock() + BACK)
                self.release(node)
        self.note(doing=None, turn=False, cordoned=False)
        self.places.resume.unlink(missing_ok=True)

    def release(self, node: turn.Node) -> None:
        """Take pods again, if it was us who stopped that; end the turn."""
        if self.state.get("cordoned"):
            node.uncordon()
        node.give_back()
        self.note(doing=None, turn=False, cordoned=False)

    # means

    def node(self) -> turn.Node | None:
        """Return this machine as a node; None when it is in no cluster."""
        api = turn.api(self.places.scratch, self.places.kubeconfig, self.places.rotated)
        if api is None:
            return None
        name = str(self.settings.get("name") or socket.gethostname())
        return turn.Node(name=name, api=api, boot=self.boot, say=say, pause=self.pause)

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


def _lines(path: Path) -> list[str]:
    return sorted(set(path.read_text().split())) if path.exists() else []


def main(root: Path = Path("/")) -> int:
    """Run once."""
    places = Places(root=root)
    with alone(places.scratch):
        patch = Patch(places)
        signal.signal(signal.SIGTERM, patch.end)
        return patch.run()


if __name__ == "__main__":
    sys.exit(main())
