"""What `patch.py` decides, apart from what it does. Pure: no files, no processes, no clock.

Runs on machines as it lies here, with the standard library only. Times are aware; days and windows are those of the
window's own time zone.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

RUNTIME = frozenset({"containerd", "cri-tools", "kubelet", "kubernetes-cni", "runc"})
"""Packages under running pods: one machine of the cluster takes them at a time. Their pods live on."""
BASE = frozenset({"amd64-microcode", "dbus", "intel-microcode", "libc6", "systemd"})
"""Packages that everything has loaded or that cannot start anew: only a reboot brings the new one into use."""
SHOWN = ("containerd", "runc", "kubelet", "kubeadm", "kubernetes-cni", "libc6", "systemd", "vre-machine", "vre-images")
"""Packages whose versions a person is shown."""
STALE = timedelta(hours=1)
"""How long a turn lasts without a word of its holder: longer than a reboot, and the end of waiting for a dead one."""
INSTALL = re.compile(r"Inst (?P<name>\S+)(?: \[(?P<old>[^\]]*)\])? \((?P<new>\S+) ")
POLICY = (
    r"^(\S+):\n  Installed: (\S+)\n  Candidate: \S+\n(?:  Package pin: .*\n)?  Version table:\n (?:\*\*\*|   ) (\S+) "
)
WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")
USER = "hub.jupyter.org/username"
"""The label by which KubeSpawner marks the pod of a user's server."""
FOUND_ANEW = ("kernel ", "microcode ")
"""How reasons begin that needrestart finds out at every run: a reboot that leaves them there was in vain."""
CURRENT, UNKNOWN = "1", "0"
"""What needrestart says of a kernel or microcode that is as it should be, or that it knows nothing of."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A package that goes from one version to another; `old` is empty for a new one."""

    package: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.package} {self.old or '(new)'} -> {self.new}"


@dataclass(frozen=True, kw_only=True)
class Window:
    """When machines may reboot: every day from `begin`, for `length`, by the clocks of `zone`.

    On the days when clocks change it still begins by the clock and is as long as ever. A beginning that the clock
    skips is taken as if it had not been changed.
    """

    begin: time
    length: timedelta
    zone: str = "UTC"

    def __str__(self) -> str:
        end = (datetime.combine(datetime(2000, 1, 1), self.begin) + self.length).strftime("%H:%M")
        return f"{self.begin:%H:%M}-{'24:00' if end == '00:00' else end} {self.zone}"


def window(text: str, zone: str = "UTC") -> Window:
    """Return the window that `02:00-05:00` means; one that ends before it begins goes over midnight.

    Raises ValueError with what is wrong.
    """
    found = WINDOW.fullmatch(text)
    if found is None or (found[3] == "24" and found[4] != "00"):
        raise ValueError(f"{text} is no window: write two times of the day, such as 02:00-05:00")
    first, last = (timedelta(hours=int(found[n]), minutes=int(found[n + 1])) for n in (1, 3))
    if first == last:
        raise ValueError(f"{text} begins when it ends; 00:00-24:00 is the whole day")
    length = (last - first) % timedelta(days=1) or timedelta(days=1)
    return Window(begin=time(int(found[1]), int(found[2])), length=length, zone=zone)


def opening(when: Window, now: datetime) -> tuple[datetime, datetime]:
    """Return beginning and end (UTC) of the window that it is now, or else of the next."""
    zone = ZoneInfo(when.zone)
    today = now.astimezone(zone).date()
    for offset in range(-2, 4):
        local = datetime.combine(today + timedelta(days=offset), when.begin, zone)
        begin = local.astimezone(UTC)
        if now < begin + when.length:
            return begin, begin + when.length
    raise AssertionError("a window opens every day")


def is_open(when: Window, now: datetime) -> bool:
    """Say whether it is now inside the window."""
    begin, end = opening(when, now)
    return begin <= now < end


def changes(simulated: str) -> list[Change]:
    """Return what apt-get's simulation (`--simulate`) would install, in its order."""
    found = [INSTALL.match(line) for line in simulated.splitlines()]
    return [Change(package=each["name"], old=each["old"] or "", new=each["new"]) for each in found if each]


def kept_back(simulated: str) -> list[str]:
    """Return the packages that apt-get would not upgrade, since others would have to go, or a pin says so."""
    lines = iter(simulated.splitlines())
    names: list[str] = []
    for line in lines:
        if re.match(r"The following packages (have been kept back|have been held back)", line) or line.startswith(
            "Not upgrading:"
        ):
            for indented in lines:
                if not indented.startswith(" "):
                    break
                names += indented.replace("*", " ").split()
    return names


def behind(policy: str) -> dict[str, str]:
    """Return the newest version of each package that is installed in an older one, by `apt-cache policy`'s account.

    Also one that a pin holds back: the table of versions begins with the newest that any of the machine's sources has.
    """
    found = re.findall(POLICY, policy, re.MULTILINE)
    return {name: newest for name, installed, newest in found if installed not in ("(none)", newest)}


def follows(old: str, new: str) -> bool:
    """Say whether a version may come after another by itself: the same, or a higher patch level of the same minor one.

    What has no patch level is followed by itself only.
    """
    before, after = ([int(each) for each in re.findall(r"\d+", version)] for version in (old, new))
    return old == new or (min(len(before), len(after)) > 2 and before[:2] == after[:2] and after > before)


def needs_turn(planned: Iterable[Change]) -> bool:
    """Say whether what is to be installed lies under running pods."""
    return any(each.package in RUNTIME for each in planned)


def base_changes(loaded: Mapping[str, str], installed: Mapping[str, str]) -> list[str]:
    """Return why a reboot is wanted where these versions were loaded and those are installed."""
    both = [name for name in sorted(BASE) if loaded.get(name) and installed.get(name)]
    return [
        str(Change(package=name, old=loaded[name], new=installed[name]))
        for name in both
        if loaded[name] != installed[name]
    ]


def needrestart(said: str) -> list[str]:
    """Return why a reboot is wanted by needrestart's account (`-b -k -w`): the kernel, the processor's microcode."""
    told = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
    why = []
    if told.get("NEEDRESTART-KSTA", CURRENT) not in (CURRENT, UNKNOWN):
        why.append(f"kernel {told.get('NEEDRESTART-KCUR', '?')} -> {told.get('NEEDRESTART-KEXP', '?')}")
    if told.get("NEEDRESTART-UCSTA", CURRENT) not in (CURRENT, UNKNOWN):
        why.append(f"microcode {told.get('NEEDRESTART-UCCUR', '?')} -> {told.get('NEEDRESTART-UCEXP', '?')}")
    return why


def reboot(state: Mapping[str, Any], *, boot: str, why: Sequence[str], now: datetime) -> dict[str, Any] | None:
    """Return what the state is to say of a reboot: since when it waits, why, in which boot. None: none is wanted.

    What a package left to a reboot is forgotten with the boot it happened in; what is found out anew is in `why`.
    """
    before = state.get("reboot") or {}
    kept = list(before.get("why") or ()) if before.get("boot") == boot else []
    every = list(dict.fromkeys([*kept, *why]))
    if not every:
        return None
    since = before.get("since") if kept else None
    return {"boot": boot, "since": since or now.isoformat(), "why": every}


def in_vain(state: Mapping[str, Any], *, boot: str, why: Iterable[str]) -> str:
    """Return the reason that a reboot of ours was for and did not remove; empty when there is none."""
    tried = state.get("rebooted") or {}
    again = [each for each in why if each in (tried.get("why") or ()) and each.startswith(FOUND_ANEW)]
    return again[0] if again and tried.get("boot") not in ("", None, boot) else ""


def held(lock: Mapping[str, Any], own: str, now: datetime) -> str:
    """Return which other node has its turn; empty when it is free, one's own, or its holder has not been heard of."""
    notes = (lock.get("metadata") or {}).get("annotations") or {}
    holder = str(notes.get("vre/holder") or "")
    if holder in ("", own):
        return ""
    try:
        heard = datetime.fromisoformat(str(notes.get("vre/heard")))
    except ValueError:
        return ""
    return holder if now - heard < STALE else ""


def movable(pods: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the pods that are asked to go before a reboot: all but the node's own and what has ended."""

    def stays(pod: Mapping[str, Any]) -> bool:
        about = pod["metadata"]
        daemon = any(each.get("kind") == "DaemonSet" for each in about.get("ownerReferences") or [])
        return daemon or "kubernetes.io/config.mirror" in (about.get("annotations") or {})

    return [pod for pod in pods if not stays(pod) and pod["status"].get("phase") not in ("Succeeded", "Failed")]


def at_work(pods: Iterable[Mapping[str, Any]]) -> bool:
    """Say whether one of the pods is the server of a user, who has something to save."""
    return any(USER in (pod["metadata"].get("labels") or {}) for pod in movable(pods))


def ready(node: Mapping[str, Any], boot: str) -> bool:
    """Say whether a node is ready in this very boot: right after a reboot the cluster still knows the one before."""
    status = node.get("status") or {}
    if (status.get("nodeInfo") or {}).get("bootID") != boot:
        return False
    return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or [])
