"""Commands that change: set-up, launch, take away, clean."""

import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from vre.cli.options import DEFAULT, Stack, Yes
from vre.errors import VreError
from vre.events import Timeline
from vre.paths import cache, state
from vre.progress import elapsed, step
from vre.run import INTERRUPTED

if TYPE_CHECKING:
    from vre.cli.outputs import Outputs

NEXT = "go on from here: {again}{told}   all of it: {log}"


def setup(
    parts: Annotated[list[str] | None, typer.Argument(help="Name parts; else all", show_default=False)] = None,
) -> None:
    """Prepare this machine: packages, engine, programs, disk image"""
    from vre.cli import parts as every
    from vre.cli import preparation

    if not parts:
        preparation.require_room(DEFAULT)
        preparation.announce(DEFAULT, launching=False)
    every.ensure(parts or ())


def up(*, stack: Stack = DEFAULT, yes: Yes = False) -> None:
    """Set up what is missing, launch, wait until it is usable"""
    from vre import engine
    from vre.cli import orphans, outputs, parts, preparation

    begun = time.monotonic()
    preparation.require(stack, prepared=False)
    preparation.announce(stack, launching=True)
    parts.ensure(preparation.wanted(stack))
    preparation.require(stack)
    with step(f"state of stack {stack}") as report:
        engine.ensure_stack(stack)
        cut_off = engine.recover(stack, report)
    if cut_off and (left := orphans.after(stack)):
        sys.stderr.write(f"the last run was cut off; {left}\n")
    if not yes:
        ask_before_a_loss(stack)
    try:
        change("up", stack)
    except VreError as error:
        hint = "\n  ".join(filter(None, (error.hint, orphans.after(stack))))
        raise VreError(error.message, hint=hint) from error
    _ready(outputs.of(stack), time.monotonic() - begun)


def down(*, stack: Stack = DEFAULT, yes: Yes = False) -> None:
    """Destroy a stack, its machines and all their data"""
    from vre import engine, losses
    from vre.cli import orphans, outputs, trust

    if not engine.exists(stack):
        _tidy(stack)  # set-up alone starts a hypervisor, too, and an interrupted `down` may have left it
        sys.stdout.write(f"stack {stack} is not launched\n")
        return
    resources = engine.resources(stack)
    rented = orphans.rented(resources)
    sys.stdout.write(losses.of_end(stack, [each["urn"] for each in resources]))
    if not yes:
        _confirm("Destroy it?", refused="nothing was destroyed", again=f"{outputs.vre()} down -s {stack} --yes")
    with step(f"state of stack {stack}") as report:
        engine.recover(stack, report)
    change("destroy", stack)
    engine.pulumi("stack", "rm", stack, "--yes", "--preserve-config")
    engine.forget_salt(stack)
    _tidy(stack)
    sys.stdout.write(f"stack {stack} is gone\n")
    if trust.installed(stack):
        sys.stdout.write(f"  its authority is still trusted here: {outputs.vre()} authority remove -s {stack}\n")
    if rented:
        orphans.refuse(stack)


def _tidy(stack: str) -> None:
    """Leave nothing here of a stack that is gone."""
    from vre.cli import parts, reach

    parts.tidy()
    reach.known_hosts_file(stack).unlink(missing_ok=True)


def _confirm(question: str, *, refused: str, again: str) -> None:
    """Ask whoever is here. Raises VreError when the answer is no, or nobody is here."""
    if not sys.stdin.isatty():
        raise VreError(f"{refused}: nobody is here to confirm", hint=again)
    if not typer.confirm(question):
        raise VreError(refused)


def ask_before_a_loss(stack: str) -> None:
    """Have a person say yes to a change that takes away what nothing brings back. Raises VreError without one."""
    from vre import engine, losses
    from vre.cli import outputs

    if not losses.held(each["urn"] for each in engine.resources(stack)):
        return
    events: list[engine.Event] = []
    with step("looking whether anything would be lost"):
        log = _log(stack, "preview")
        code = engine.change("preview", stack, events.append, log)
    if code:
        timeline = Timeline(clock=time.monotonic)
        for event in events:
            timeline.feed(event)
        _failed("preview", stack, code, timeline, log)
    if lost := losses.of_change(events):
        every = "".join(f"  {each}\n" for each in lost)
        sys.stdout.write(f"This change takes away what nothing brings back; copy out first what is wanted:\n{every}")
        _confirm("Go on?", refused="nothing was changed", again=f"{outputs.vre()} up -s {stack} --yes")


def change(action: str, stack: str) -> None:
    """Run the engine with progress for a person. Raises VreError with what failed and what to type next."""
    from vre import engine
    from vre.cli.timeline import shown

    log = _log(stack, action)
    with shown() as view:
        code = engine.change(action, stack, view.take, log)
    if code:
        _failed(action, stack, code, view.timeline, log)


def _log(stack: str, action: str) -> Path:
    return state() / "logs" / f"{stack}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{action}.log"


def _failed(action: str, stack: str, code: int, timeline: Timeline, log: Path) -> NoReturn:
    from vre import engine
    from vre.cli import outputs

    if code == INTERRUPTED:
        sys.stderr.write("interrupted: the same command goes on from here\n")
        raise typer.Exit(INTERRUPTED)
    faults = timeline.faults() or log.read_text(errors="replace").strip()[-2000:]
    told = engine.explain(VreError(f"{action} of stack {stack} failed\n{faults}"))
    again = f"{outputs.vre()} down -s {stack}" if action == "destroy" else outputs.up(stack)
    happened = "" if action == "destroy" else f"   what happened: {outputs.vre()} logs -s {stack}"
    following = NEXT.format(again=again, told=happened, log=log)
    raise VreError(told.message, hint="\n  ".join(filter(None, (told.hint, following))))


def _ready(there: "Outputs", seconds: float) -> None:
    from vre.cli.outputs import vre

    services = "".join(f"  {name:<10} {url}\n" for name, url in there.services.items())
    install = f"{vre()} authority install -s {there.stack}   (so that browsers here know its certificate)"
    trust = f"  trust      {install}\n" if there.authority else ""
    sys.stdout.write(
        f"\nStack {there.stack} is ready ({elapsed(seconds)}).\n"
        f"  address    {there.url}\n{services}"
        f"  user       {there.user}\n"
        f"  password   {vre()} password -s {there.stack}\n"
        f"{trust}"
        f"  look       {vre()} status -s {there.stack}\n"
    )


def clean() -> None:
    """Remove what was built; running stacks stay"""
    folder = cache()
    if folder.exists():
        with step(f"removing {folder}"):
            shutil.rmtree(folder)
