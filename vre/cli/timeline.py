"""The engine's events on a screen or in a log: what ended as lines, what runs as a moving list."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from vre.events import Event, Operation, Timeline
from vre.progress import elapsed

EVERY = 15.0
"""Seconds between two lines about the same running operation, where the output is a log."""


class Shown:
    """Shows a timeline on standard error while it grows."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.timeline = Timeline(clock=time.monotonic)
        self.lock = threading.Lock()
        self.told = time.monotonic()

    def take(self, event: Event) -> None:
        """Take one event of the engine."""
        with self.lock:
            lines = self.timeline.feed(event)
        for line in lines:
            self.console.print(Text(line), soft_wrap=True)
        if lines:
            self.told = time.monotonic()

    def running(self) -> Group:
        """Return what runs now, for a terminal."""
        with self.lock:
            operations = list(self.timeline.running.values())
        return Group(*(Text(f"… {line(each)}", overflow="ellipsis", no_wrap=True) for each in operations))

    def tick(self) -> None:
        """Tell a log what is being done, from time to time."""
        if time.monotonic() - self.told < EVERY:
            return
        self.told = time.monotonic()
        with self.lock:
            operations = list(self.timeline.running.values())
        for each in operations:
            self.console.print(Text(f"… {line(each)}"), soft_wrap=True)

    def __rich__(self) -> Group:
        return self.running()


def line(operation: Operation) -> str:
    """Return what is being done to one resource, and for how long."""
    status = f", {operation.status}" if operation.status else ""
    return f"{operation.title}: {operation.doing}{status} ({elapsed(time.monotonic() - operation.begun)})"


@contextmanager
def shown(console: Console | None = None) -> Iterator[Shown]:
    """Show the engine's events until the block ends."""
    made = console or Console(file=sys.stderr, highlight=False)
    view = Shown(made)
    if made.is_terminal:
        with Live(view, console=made, refresh_per_second=4, transient=True):
            yield view
        return
    over = threading.Event()
    thread = threading.Thread(target=_ticks, args=(view, over), daemon=True)
    thread.start()
    try:
        yield view
    finally:
        over.set()
        thread.join()


def _ticks(view: Shown, over: threading.Event) -> None:
    while not over.wait(1.0):
        view.tick()
