"""Commands that change: set-up, launch, take away, clean."""

import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vre.cli.options import DEFAULT, Stack, Yes
from vre.errors import VreError
from vre.paths import cache, state
from vre.progress import elapsed, step
from vre.run import INTERRUPTED

if TYPE_CHECKING:
    from vre.cli.outputs import Outputs

MACHINES = frozenset({
    "vre:libvirt:Domain",
    "aws:ec2/instance:Instance",
    "gcp:compute/instance:Instance",
    "azure-native:compute:VirtualMachine",
    "openstack:compute/instance:Instance",
})  # fmt: skip
DISKS = frozenset({
    "vre:libvirt:Volume",
    "aws:ebs/volume:Volume",
    "gcp:compute/disk:Disk",
    "azure-native:compute:Disk",
    "openstack:blockstorage/volume:Volume",
})  # fmt: skip
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


def up(*, stack: Stack = DEFAULT) -> None:
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
    try:
        change("up", stack)
    except VreError as error:
        hint = "\n  ".join(filter(None, (error.hint, orphans.after(stack))))
        raise VreError(error.message, hint=hint) from error
    _ready(outputs.of(stack), time.monotonic() - begun)


def down(*, stack: Stack = DEFAULT, yes: Yes = False) -> None:
    """Destroy a stack, its machines and all their data"""
    from vre import engine
    from vre.cli import orphans, outputs, trust

    if not engine.exists(stack):
        _tidy(stack)  # set-up alone starts a hypervisor, too, and an interrupted `down` may have left it
        sys.stdout.write(f"stack {stack} is not launched\n")
        return
    resources = engine.resources(stack)
    rented = orphans.rented(resources)
    sys.stdout.write(loss(stack, [each["urn"] for each in resources]))
    if not yes and sys.stdin.isatty() and not typer.confirm("Destroy it?"):
        raise VreError("nothing was destroyed")
    if not yes and not sys.stdin.isatty():
        raise VreError("nobody is here to confirm", hint=f"vre down -s {stack} --yes")
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


def change(action: str, stack: str) -> None:
    """Run the engine with progress for a person. Raises VreError with what failed and what to type next."""
    from vre import engine
    from vre.cli import outputs
    from vre.cli.timeline import shown

    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    log = state() / "logs" / f"{stack}-{moment}-{action}.log"
    with shown() as timeline:
        code = engine.change(action, stack, timeline.take, log)
    if code == 0:
        return
    if code == INTERRUPTED:
        sys.stderr.write("interrupted: the same command goes on from here\n")
        raise typer.Exit(INTERRUPTED)
    faults = timeline.faults() or Path(log).read_text(errors="replace").strip()[-2000:]
    told = engine.explain(VreError(f"{action} of stack {stack} failed\n{faults}"))
    again = outputs.up(stack) if action == "up" else f"{outputs.vre()} down -s {stack}"
    happened = f"   what happened: {outputs.vre()} logs -s {stack}" if action == "up" else ""
    following = NEXT.format(again=again, told=happened, log=log)
    raise VreError(told.message, hint="\n  ".join(filter(None, (told.hint, following))))


def _kind(urn: str) -> str:
    return urn.split("::")[2].rsplit("$", 1)[-1]


def loss(stack: str, urns: list[str]) -> str:
    """Return what destroying a stack takes away. Pure."""
    from vre.events import title

    machines = [title(urn).split()[-1] for urn in urns if _kind(urn) in MACHINES]
    disks = [urn for urn in urns if _kind(urn) in DISKS]
    told = f"Stack {stack} will be destroyed: {len(urns)} resources"
    told += f", machines {', '.join(machines)}" if machines else ""
    told += f", {len(disks)} disks with all notebooks and data on them" if disks else ""
    return f"{told}.\nThe key of the data disks is destroyed with them: nothing brings the data back.\n"


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
