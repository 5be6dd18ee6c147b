"""What was looked at and found, for people and for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from vre.errors import VreError


class State(StrEnum):
    """How well a thing is."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at now."""

    area: str
    name: str
    state: State
    found: str
    hint: str = ""


def good(area: str, name: str, found: str) -> Check:
    """Return a check that is as it should be."""
    return Check(area=area, name=name, state=State.GOOD, found=found)


def warning(area: str, name: str, found: str, hint: str = "") -> Check:
    """Return a check that somebody should know of."""
    return Check(area=area, name=name, state=State.WARNING, found=found, hint=hint)


def bad(area: str, name: str, found: str, hint: str = "") -> Check:
    """Return a check that is not as it should be."""
    return Check(area=area, name=name, state=State.BAD, found=found, hint=hint)


def looked(area: str, name: str, look: Callable[[], Iterable[Check]]) -> list[Check]:
    """Return what a look found; a fault on the way is a finding, too."""
    try:
        return list(look())
    except VreError as error:
        return [bad(area, name, error.message, error.hint)]
    except (KeyError, TypeError, ValueError) as error:
        return [bad(area, name, f"the answer cannot be read: {type(error).__name__}: {error}")]


def well(checks: Iterable[Check]) -> bool:
    """Say whether nothing is bad."""
    return all(check.state != State.BAD for check in checks)


def as_json(checks: Sequence[Check]) -> str:
    """Return checks for programs."""
    return json.dumps({"ok": well(checks), "checks": [asdict(check) for check in checks]}, indent=2)


def show(checks: Sequence[Check], *, title: str, machine_readable: bool) -> None:
    """Print checks; end the command with 1 when one of them is bad."""
    import typer

    if machine_readable:
        sys.stdout.write(as_json(checks) + "\n")
    else:
        _table(checks, title)
    if not well(checks):
        raise typer.Exit(1)


def _table(checks: Sequence[Check], title: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from vre.cli.console import console

    marks = {State.GOOD: ("✓", "green"), State.WARNING: ("!", "yellow"), State.BAD: ("✗", "red")}
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    area = ""
    for check in checks:
        mark, colour = marks[check.state]
        told = check.found + (f"\n→ {check.hint}" if check.hint else "")
        table.add_row(check.area if check.area != area else "", Text(mark, style=colour), check.name, Text(told))
        area = check.area
    console().print(table)
