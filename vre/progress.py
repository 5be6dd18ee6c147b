"""Progress on everything longer than a second: what is being done, how far, how long it has taken."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Report = Callable[[str], None]
"""Where a driver says what it is doing now. The provider plugin hands in the engine's status line, the CLI a step."""


AGAIN = 4
"""After so many looks a log says the same again: once a minute."""


def silent(message: str) -> None:
    """Report nothing: for callers that show no progress."""


def elapsed(seconds: float) -> str:
    """Return a length of time for people: `7 s`, `2 min 05 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@contextmanager
def step(title: str, *, every: float = 15.0) -> Iterator[Report]:
    """Show one step of work on standard error: that it began, what it is doing while it lasts, how it ended.

    On a terminal the running line is replaced. In a log there is a line every `every` seconds when something new is
    being done, so that it reads well, and one for each `AGAIN` of them where nothing is: silence looks like an end.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    begun = time.monotonic()
    show = _live if console.is_terminal else _plain
    mark = "[red]✗[/]"
    try:
        with show(console, title, every) as report:
            yield report
        mark = "[green]✓[/]"
    finally:
        console.print(f"{mark} {escape(title)} ({elapsed(time.monotonic() - begun)})")


@contextmanager
def _live(console: Console, title: str, every: float) -> Iterator[Report]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(escape(title))
        yield lambda message: progress.update(task, description=escape(f"{title}: {message}"))


@contextmanager
def _plain(console: Console, title: str, every: float) -> Iterator[Report]:
    begun = time.monotonic()
    now = [""]
    over = threading.Event()

    def tick() -> None:
        shown, looks = "", 0
        while not over.wait(every):
            looks += 1
            if now[0] != shown or looks == AGAIN:
                shown, looks = now[0], 0
                words = f"{title}: {shown}" if shown else title
                console.print(escape(f"… {words} ({elapsed(time.monotonic() - begun)})"))

    def report(message: str) -> None:
        now[0] = message

    console.print(escape(f"… {title}"))
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield report
    finally:
        over.set()
        thread.join()
