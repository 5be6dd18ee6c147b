"""What a launch lost on a cloud: listed, told where it matters, taken away."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vre.cli.options import DEFAULT, Stack, Yes
from vre.errors import VreError
from vre.progress import step

if TYPE_CHECKING:
    from vre.orphans import Resource, Thing

SHOWN = 20
"""Lines in another command's words; `vre orphans` shows all."""


def orphans(
    *,
    stack: Stack = DEFAULT,
    delete: Annotated[bool, typer.Option("--delete", help="Delete them, after a question")] = False,
    yes: Yes = False,
) -> None:
    """List what no state knows of, left on the cloud; delete it"""
    from vre import engine
    from vre import orphans as every
    from vre.cli import outputs

    if every.account(outputs.config(stack)) is None:
        sys.stdout.write(f"stack {stack} stands on a hypervisor, where a launch adopts what it finds\n")
        return
    if delete:
        _settle(stack)
    found = find(stack)
    if not found:
        sys.stdout.write(f"stack {stack}: nothing stands on the cloud that its state does not know\n")
        return
    sys.stdout.write(told(stack, found, known=bool(engine.resources(stack))))
    if delete:
        _delete(stack, found, yes=yes)
    else:
        sys.stdout.write(f"  delete it: {remedy(stack)}\n")


def _settle(stack: str) -> None:
    """Wait for the end of a run: of what it is making just now, its state does not know yet."""
    from vre import engine

    if engine.exists(stack):
        with step(f"state of stack {stack}") as report:
            engine.recover(stack, report)


def find(stack: str) -> "tuple[Thing, ...]":
    """Return what stands on a stack's cloud and is not in its state."""
    from vre import engine
    from vre import orphans as every
    from vre.cli import outputs

    config = outputs.config(stack)
    if every.account(config) is None:
        return ()
    with step(f"what stands on {config.cloud.provider} of {config.name}"):
        return every.find(config, lambda: engine.resources(stack))


def _delete(stack: str, found: "Sequence[Thing]", *, yes: bool) -> None:
    from vre import orphans as every
    from vre.cli import outputs

    if not yes and not sys.stdin.isatty():
        raise VreError("nobody is here to confirm", hint=f"{remedy(stack)} --yes")
    if not yes and not typer.confirm("Delete it?"):
        raise VreError("nothing was deleted")
    # Somebody may have launched while nobody answered.
    _settle(stack)
    still = [each for each in find(stack) if each in found]
    with step(f"deleting {len(still)} things") as report:
        failed = every.remove(outputs.config(stack), still, report)
    left = find(stack)
    if left:
        reasons = "".join(f"\n  {thing}: {why}" for thing, why in failed)
        raise VreError(
            f"{len(left)} of them still stand:{reasons or lines(left)}",
            hint=f"what goes slowly goes at the next try: {remedy(stack)}",
        )
    sys.stdout.write(f"{len(still)} things are gone\n")


def remedy(stack: str) -> str:
    """Return the command that deletes what was lost."""
    from vre.cli import outputs

    return f"{outputs.vre()} orphans -s {stack} --delete"


def told(stack: str, found: "Sequence[Thing]", *, known: bool) -> str:
    """Return what was found, and whose it may be. `known` says whether the state holds anything. Pure."""
    whose = "left by a run that did not hear of them" if known else "left by a run; the state here is empty"
    return (
        f"Stack {stack}: {count(found)} on the cloud, with its mark and not in its state ({whose}):{lines(found)}\n"
        "A VRE of the same name that was launched with another state, by whomever, bears the same mark: "
        "then nothing of this is left over.\n"
    )


def count(found: "Sequence[Thing]") -> str:
    """Return how many things there are, for people. Pure."""
    return f"{len(found)} thing{'s' if len(found) != 1 else ''}"


def lines(found: "Sequence[Thing]", most: int | None = None) -> str:
    """Return one line for each thing, its parts counted with it; each line begins on a new one. Pure."""
    from vre.orphans import whole

    shown = whole(found)
    parts = {each.id: sum(1 for one in found if one.within == each.id) for each in shown}
    made = [
        "; ".join(filter(None, (str(each), f"with {parts[each.id]} parts" if parts[each.id] else "", each.loss)))
        for each in shown
    ]
    more = [f"and {len(made) - most} more"] if most is not None and len(made) > most else []
    return "".join(f"\n  {line}" for line in (*made[:most], *more))


def after(stack: str) -> str:
    """Return what a run left, with its remedy, as the end of another fault's hint; nothing where nothing is left."""
    try:
        found = find(stack)
    except VreError as error:
        return f"whether something was left on the cloud could not be seen: {error.message}"
    if not found:
        return ""
    return f"left on the cloud, and not in the state: {count(found)}{lines(found, SHOWN)}\n  first: {remedy(stack)}"


def rented(resources: "Sequence[Resource]") -> bool:
    """Say whether a state has to do with a cloud: holds its plugin at least, or nothing that says otherwise. Pure."""
    own = ("vre:", "pulumi:pulumi:", "pulumi:providers:vre")
    return not resources or any(not str(each["type"]).startswith(own) for each in resources)


def refuse(stack: str) -> None:
    """Raise VreError when something of a stack that is gone still stands on its cloud."""
    try:
        found = find(stack)
    except VreError as error:
        again = f"{remedy(stack).removesuffix(' --delete')}"
        raise VreError(f"whether something is left on the cloud could not be seen: {error}", hint=again) from error
    if found:
        raise VreError(
            f"left of stack {stack} on the cloud, where it may cost: {count(found)}{lines(found, SHOWN)}",
            hint=remedy(stack),
        )
