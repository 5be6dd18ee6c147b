"""A ledger of everything a run puts on this machine, so that all of it goes again, also after a crash of the run."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

Entry = Mapping[str, str]


def command(*words: str | Path, check: bool = True) -> str:
    """Run a command of this machine and return what it printed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if check and done.returncode:
        raise RuntimeError(
            f"{' '.join(map(str, words))}: {done.returncode}: {done.stderr.strip()} {done.stdout.strip()}"
        )
    return done.stdout


class Ledger:
    """Entries are written down before the thing is made, and undone in reverse order."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def add(self, kind: str, **values: str) -> None:
        """Write down one thing that is about to be made."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as out:
            out.write(json.dumps({"kind": kind, **values}) + "\n")
            out.flush()
            os.fsync(out.fileno())

    def entries(self) -> list[Entry]:
        """Return what is written down, the newest last."""
        if not self.file.exists():
            return []
        return [json.loads(line) for line in self.file.read_text().splitlines() if line.strip()]

    def undo(self) -> None:
        """Take everything away again; what is gone already is fine. Raises when something stays."""
        failed = []
        for entry in reversed(self.entries()):
            try:
                UNDO[entry["kind"]](entry)
            except (OSError, RuntimeError) as error:
                failed.append(f"{entry}: {error}")
        if failed:
            raise RuntimeError("left behind: " + "; ".join(failed))
        self.file.unlink(missing_ok=True)


def started(pid: int) -> str:
    """Return when a process started, in ticks since boot: a process id alone may be somebody else's by now.

    Empty for one that has ended, also while nobody has asked for its exit code yet.
    """
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""


def end(pids: list[int], *, grace: float = 5.0) -> None:
    """End processes by their ids: asked first, killed when they stay."""
    born = {pid: started(pid) for pid in pids}
    for each in (signal.SIGTERM, signal.SIGKILL):
        for pid, ticks in born.items():
            if ticks and started(pid) == ticks:
                with suppress(ProcessLookupError):
                    os.kill(pid, each)
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline and any(ticks and started(pid) == ticks for pid, ticks in born.items()):
            time.sleep(0.05)


def inside(namespace: str) -> list[int]:
    """Return the processes that use a network namespace."""
    return [int(pid) for pid in command("ip", "netns", "pids", namespace, check=False).split()]


def _namespace(entry: Entry) -> None:
    name = entry["name"]
    if Path("/run/netns", name).exists():
        end([pid for pid in inside(name) if pid != os.getpid()])
        command("ip", "netns", "del", name)
    shutil.rmtree(Path("/etc/netns", name), ignore_errors=True)


def _link(entry: Entry) -> None:
    if Path("/sys/class/net", entry["name"]).exists():
        command("ip", "link", "del", entry["name"])


def _table(entry: Entry) -> None:
    if entry["name"] in command("nft", "list", "tables", entry["family"]).split():
        command("nft", "delete", "table", entry["family"], entry["name"])


def _process(entry: Entry) -> None:
    if started(int(entry["pid"])) == entry["started"]:
        end([int(entry["pid"])])


def _forwarding(entry: Entry) -> None:
    # Somebody who turned forwarding on for the whole machine meanwhile needs it on this link, too.
    if Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "0":
        Path("/proc/sys/net/ipv4/conf", entry["link"], "forwarding").write_text("0\n")


def _folder(entry: Entry) -> None:
    shutil.rmtree(entry["path"], ignore_errors=True)
    if Path(entry["path"]).exists():
        raise RuntimeError("still there")


UNDO: Mapping[str, Callable[[Entry], None]] = {
    "namespace": _namespace,
    "link": _link,
    "table": _table,
    "process": _process,
    "forwarding": _forwarding,
    "folder": _folder,
}
