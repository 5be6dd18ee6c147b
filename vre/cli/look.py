"""Commands that look now: may it be launched, how is it, is it as closed as it should be."""

from typing import Annotated

import typer

from vre.cli import checks, outputs
from vre.cli.options import DEFAULT, AsJson, Stack


def check(*, stack: Stack = DEFAULT, as_json: AsJson = False) -> None:
    """Check a stack file and this machine, change nothing"""
    from vre.cli import preparation

    checks.show(preparation.look(stack), title=f"Stack {stack}: before a launch", machine_readable=as_json)


def status(*, stack: Stack = DEFAULT, as_json: AsJson = False) -> None:
    """Show how machines, cluster, services, certificates are now"""
    from vre.cli import edge as front
    from vre.cli import status as looks

    there = outputs.machines(stack)
    if there.url:
        found = [*looks.look(there), *front.look(there, outputs.config(stack))]
    else:
        found = looks.unfinished(there, hint=f"what failed is told by: {outputs.up(stack)}")
    checks.show(found, title=f"Stack {stack}, checked now", machine_readable=as_json)


def edge(
    *,
    stack: Stack = DEFAULT,
    as_json: AsJson = False,
    update: Annotated[bool, typer.Option("--update", help="Bring this checkout's copy up to date")] = False,
) -> None:
    """Compare who is let in with what Cloudflare publishes"""
    from vre.cli import edge as front

    if update:
        from vre.edge import ranges

        ranges.keep(ranges.published(), ranges.COPY)
        return
    found = front.look(outputs.of(stack), outputs.config(stack))
    checks.show(found, title=f"Stack {stack}, its edge now", machine_readable=as_json)


def audit(*, stack: Stack = DEFAULT, as_json: AsJson = False) -> None:
    """Check that a running stack is as closed as it should be"""
    from vre.cli import audit as looks

    found = looks.look(outputs.of(stack), outputs.config(stack))
    checks.show(found, title=f"Stack {stack}, tried now", machine_readable=as_json)
