"""Commands that print: what a stack's outputs and its stack file say, and what is generated from the code."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import vre
from vre.cli import outputs
from vre.cli.options import DEFAULT, AsJson, Stack
from vre.errors import VreError

if TYPE_CHECKING:
    from vre.policy import Policy


def password(
    user: Annotated[str, typer.Argument(help="Name the user; else the first one", show_default=False)] = "",
    *,
    stack: Stack = DEFAULT,
) -> None:
    """Print a user's first password"""
    there = outputs.of(stack)
    known = {**there.passwords, there.user: there.password}
    if user and user not in known:
        raise VreError(f"no password of {user} is known here", hint=f"there are: {', '.join(known)}")
    sys.stdout.write(f"{known[user or there.user]}\n")


class Trust(StrEnum):
    """What can be done with a stack's authority."""

    PRINT = "print"
    INSTALL = "install"
    REMOVE = "remove"


def authority(
    action: Annotated[Trust, typer.Argument(help="Say what to do with it")] = Trust.PRINT, *, stack: Stack = DEFAULT
) -> None:
    """Print the stack's authority, or have it trusted here"""
    from vre.cli import trust

    if action == Trust.REMOVE:
        _told(trust.remove(stack))
        return
    certificate = outputs.of(stack).authority
    if not certificate:
        raise VreError("there is no authority of the stack's own", hint="browsers trust its certificate anyway")
    if action == Trust.PRINT:
        sys.stdout.write(certificate)
    else:
        _told(trust.install(stack, certificate))


def _told(places: list[str]) -> None:
    sys.stdout.write("".join(f"{place}\n" for place in places))


def policy(*, stack: Stack = DEFAULT, as_json: AsJson = False) -> None:
    """Show who may reach what, in and out, and why"""
    rows = policy_rows(stack)
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    from rich.table import Table

    from vre.cli.console import console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for key in rows[0]:
        table.add_column(key, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    console().print(table)
    console().print("All else is refused, in and out, on IPv4 and IPv6.")


def policy_rows(stack: str) -> list[dict[str, str]]:
    """Return every rule of a stack's policy as it stands in its file."""
    from vre.policy import Peer

    decided = decided_policy(stack)

    def networks(peer: Peer) -> str:
        return ", ".join(str(network) for network in decided.of(peer)) or "nobody"

    inward = [
        {
            "way": "in", "machine": str(rule.role), "peer": str(rule.origin), "networks": networks(rule.origin),
            "ports": f"{rule.protocol} {rule.ports}", "sender": "", "why": rule.why,
        }
        for rule in decided.inbound
    ]  # fmt: skip
    outward = [
        {
            "way": "out", "machine": str(rule.role), "peer": str(rule.destination),
            "networks": networks(rule.destination), "ports": f"{rule.protocol} {rule.ports}",
            "sender": str(rule.sender), "why": rule.why,
        }
        for rule in decided.outbound
    ]  # fmt: skip
    return inward + outward


def decided_policy(stack: str) -> "Policy":
    """Return the policy that a stack file asks for."""
    from vre import clouds

    return clouds.policy(outputs.config(stack))


def schema() -> None:
    """Print the JSON Schema of stack files"""
    from vre import docs

    sys.stdout.write(docs.schema_text())


def generate() -> None:
    """Write the files that are made from others"""
    from vre import docs

    for path in docs.write():
        sys.stdout.write(f"{path}\n")


def version() -> None:
    """Print the versions of vre and of the engine"""
    from vre import engine

    try:
        told = engine.version()
    except VreError as error:
        told = f"none that fits: {error.message}"
    sys.stdout.write(f"vre {vre.__version__}\nengine {told}\npython {sys.version.split()[0]} at {Path(sys.prefix)}\n")
