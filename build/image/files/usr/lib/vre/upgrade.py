"""What is installed on this machine: upgraded by apt, and looked at."""

import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import host
import member
import patching
import runtime

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


class Packages:
    """The packages of one machine, Debian's and ours."""

    def __init__(self, host: host.Host, member: member.Member) -> None:
        self.host, self.member = host, member

    def upgrade(self) -> None:
        """Bring every package up to date, services included."""
        self.host.places.resume.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.host.places.root).free
        if free < ROOM:
            raise host.Failed("df /", f"no room: {free // 1024**2} MiB are free, {ROOM // 1024**2} MiB are needed", 28)
        self.host.places.resume.touch()
        self.host.command(*CONFIGURE)
        if self.host.command("dpkg", "--audit").strip():
            self.host.command(*APT, "--fix-broken", "install")
        self.host.command("python3", "-B", TESTED)
        self.host.command(*APT, "--error-on=any", "update")
        planned = patching.changes(self.host.command(*APT, "--simulate", *UPGRADE))
        if planned:
            host.say(f"upgrading {', '.join(map(str, planned))}")
            if patching.needs_turn(planned):
                self.member.in_turn(lambda: self.install(planned))
            else:
                self.install(planned)
        self.finished(planned)

    def install(self, planned: Sequence[patching.Change]) -> None:
        """Unpack and set up; needrestart, called by apt, starts services anew that run what was replaced."""
        if names := [each.package for each in planned if each.package in runtime.PACKAGES]:
            self.host.command(*APT, "--download-only", *UPGRADE)
            words = (*APT, "--only-upgrade", "install", *names)
            lost = runtime.quietly(self.host.command, host.say, lambda: self.host.command(*words))
            self.host.note(lost={"at": host.now(), "pods": lost} if lost else None)
        self.host.command(*APT, *UPGRADE)
        os.sync()  # dpkg syncs what it unpacks, not what packages' scripts write: an initrd, the loaders' lists

    def finished(self, planned: Sequence[patching.Change]) -> None:
        """Tidy up, and note what was done and what is left."""
        self.host.command(*APT, "autoremove")
        self.host.command(*APT, "clean")
        left = self.host.command(*APT, "--simulate", *UPGRADE)
        pending = [each.package for each in patching.changes(left)]
        pending += [name for name in patching.kept_back(left) if name not in pending]
        done = [each for each in planned if each.package not in pending]
        self.host.note(
            patched=host.now(), pending=pending, waits=None,
            **({"changed": {"at": host.now(), "packages": [str(each) for each in done]}} if done else {}),
        )  # fmt: skip

    def remember(self) -> None:
        """Note what everything has loaded, as installed at this boot's first run: later ones see what changed since."""
        if (self.host.state.get("loaded") or {}).get("boot") != self.host.boot:
            self.host.note(loaded={**self.versions(patching.BASE), "boot": self.host.boot})

    def versions(self, packages: Collection[str]) -> dict[str, str]:
        """Return the versions of those of the packages that are installed."""
        words = ("--show", "--showformat", "${Package} ${Version}\n", *sorted(packages))
        shown = self.host.command("dpkg-query", *words, accept=(0, 1))
        return dict(line.split(" ", 1) for line in shown.splitlines() if line.count(" ") == 1)

    def look(self) -> None:
        """Note which versions there are, and why a reboot is wanted."""
        behind = patching.behind(self.host.command("apt-cache", "policy", *patching.SHOWN))
        why = patching.base_changes(self.host.state.get("loaded") or {}, self.versions(patching.BASE))
        why += patching.needrestart(self.host.command("needrestart", "-b", "-k", "-w", "-r", "l", accept=(0, 1)))
        if self.host.places.wanted.exists() and not why:
            named = _lines(self.host.places.wanted.with_suffix(".pkgs"))
            why = [f"asked for by {name}" for name in named] or ["asked for"]
        wanted = patching.reboot(self.host.state, boot=self.host.boot, why=why, now=host.clock())
        components = {"kernel": os.uname().release, **self.versions(patching.SHOWN)}
        self.host.note(components=components, behind=behind or None, reboot=wanted)


def _lines(path: Path) -> list[str]:
    return sorted(set(path.read_text().split())) if path.exists() else []
