"""What the engine is doing, as its event log tells it: a timeline for people, and the errors that matter."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = Mapping[str, Any]

DOING = {
    "create": "creating",
    "update": "changing",
    "delete": "deleting",
    "replace": "replacing",
    "create-replacement": "creating anew",
    "delete-replaced": "deleting the old",
    "read": "reading",
    "refresh": "looking at",
    "import": "importing",
}
DONE = {
    "create": "created",
    "update": "changed",
    "delete": "deleted",
    "create-replacement": "created anew",
    "delete-replaced": "deleted the old",
    "import": "imported",
}
QUIET = {"same", "refresh", "read"}
NOISE = (
    "KeyboardInterrupt",
    "update failed",
    "destroy failed",
    "update cancelled",
    "Program exited with non-zero exit code",
)
MARKUP = re.compile(r"<\{%.*?%\}>|\x1b\[[0-9;]*m")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One resource that the engine is at work on. `begun` is in seconds of the clock that the timeline was given."""

    title: str
    doing: str
    begun: float
    status: str = ""


@dataclass(kw_only=True)
class Timeline:
    """What runs now, what ended, and what went wrong."""

    clock: Callable[[], float]
    running: dict[str, Operation] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    changes: dict[str, int] = field(default_factory=dict)

    def feed(self, event: Event) -> list[str]:
        """Take one event; return the lines that a person should see for it."""
        if "resourcePreEvent" in event:
            return self._begin(event["resourcePreEvent"].get("metadata", {}))
        if "resOutputsEvent" in event:
            return self._end(event["resOutputsEvent"].get("metadata", {}), failed=False)
        if "resOpFailedEvent" in event:
            return self._end(event["resOpFailedEvent"].get("metadata", {}), failed=True)
        if "diagnosticEvent" in event:
            return self._told(event["diagnosticEvent"])
        if "summaryEvent" in event:
            self.changes = dict(event["summaryEvent"].get("resourceChanges") or {})
        return []

    def told_errors(self) -> list[tuple[str, str]]:
        """Return (resource, message) of what went wrong, without what merely follows from it."""
        real = [(who, text) for who, text in self.errors if not any(noise in text for noise in NOISE)]
        resources = [(who, text) for who, text in real if who]
        return list(dict.fromkeys(resources or real or self.errors))

    def faults(self) -> str:
        """Return what went wrong, one resource after the other, for people."""
        return "\n".join(f"  {who}: {text}" if who else f"  {text}" for who, text in self.told_errors())

    def _begin(self, metadata: Mapping[str, Any]) -> list[str]:
        operation = str(metadata.get("op", ""))
        if operation in DOING and not _plumbing(metadata):
            self.running[str(metadata["urn"])] = Operation(
                title=title(str(metadata["urn"])), doing=DOING[operation], begun=self.clock()
            )
        return []

    def _end(self, metadata: Mapping[str, Any], *, failed: bool) -> list[str]:
        begun = self.running.pop(str(metadata.get("urn", "")), None)
        operation = str(metadata.get("op", ""))
        if begun is None or (not failed and (operation in QUIET or operation not in DONE)):
            return []
        took = _seconds(self.clock() - begun.begun)
        word = f"{begun.doing} failed" if failed else DONE[operation]
        return [f"{'✗' if failed else '✓'} {begun.title}: {word} ({took})"]

    def _told(self, told: Mapping[str, Any]) -> list[str]:
        text = MARKUP.sub("", str(told.get("message", ""))).strip()
        urn, severity = str(told.get("urn") or ""), told.get("severity")
        who = "" if not urn or "pulumi:pulumi:Stack" in urn.split("::")[-2] else title(urn)
        if severity == "error":
            self.errors.append((who, text))
            return []
        if severity == "warning":
            self.warnings.append(f"{who}: {text}" if who else text)
            return [f"! {who}: {text}" if who else f"! {text}"]
        running = self.running.get(urn)
        if running is not None and text and text != running.status:
            self.running[urn] = Operation(title=running.title, doing=running.doing, begun=running.begun, status=text)
            return []
        return [f"  {text}"] if text and severity == "info" and running is None and not told.get("ephemeral") else []


def title(urn: str) -> str:
    """Return a resource's name for people: what it is and what it is called."""
    parts = urn.split("::")
    if len(parts) < 4:
        return urn
    kind = parts[2].rsplit("$", 1)[-1].rsplit(":", 1)[-1]
    return f"{kind} {parts[3]}"


def _plumbing(metadata: Mapping[str, Any]) -> bool:
    kind = str(metadata.get("type", ""))
    custom = (metadata.get("new") or metadata.get("old") or {}).get("custom", False)
    return kind == "pulumi:pulumi:Stack" or kind.startswith("pulumi:providers:") or not custom


def _seconds(value: float) -> str:
    from vre.progress import elapsed

    return elapsed(value)


def read(text: str) -> list[Event]:
    """Return the events in lines of JSON; a line that is not whole yet is left out."""
    events = []
    for line in text.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            events.append(json.loads(line))
    return events


@contextlib.contextmanager
def follow(log: Path, on_event: Callable[[Event], None]) -> Iterator[None]:
    """Hand each event that is written to a log to `on_event`, from a thread, until the block ends."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # Inputs of resources are in it, the open ones only: still nobody else's business.
    log.touch(mode=0o600)
    over = threading.Event()

    def watch() -> None:
        with log.open() as source:
            rest = ""
            while True:
                last = over.is_set()
                rest += source.read()
                whole, _, rest = rest.rpartition("\n")
                for event in read(whole):
                    on_event(event)
                if last:
                    return
                time.sleep(0.1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
