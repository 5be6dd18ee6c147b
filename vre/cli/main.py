"""The `vre` command: what there is, and the one place where a fault becomes an exit code."""

import logging
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from vre.cli import image, launch, look, orphans, packages, reach, show
from vre.errors import VreError

app = typer.Typer(
    name="vre",
    help="Launch and look after virtual research environments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
OWN_WORDS = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


@app.callback()
def options(
    *, verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every command that is run")] = False
) -> None:
    """Launch and look after virtual research environments."""
    if verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s", stream=sys.stderr)
        for noisy in ("paramiko", "asyncio", "httpx", "httpcore"):
            logging.getLogger(noisy).setLevel(logging.WARNING)


COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Launch": (launch.setup, launch.up, launch.down, orphans.orphans, launch.clean, packages.packages),
    "Look": (look.check, look.status, look.edge, look.audit),
    "Reach": (reach.ssh, reach.kubectl, reach.logs, reach.hypervisor),
    "Show": (show.password, show.authority, show.policy, show.schema, show.generate, show.version),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        settings = OWN_WORDS if command in {reach.ssh, reach.kubectl} else None
        kind = reach.WordsAsGiven if command is reach.ssh else None
        app.command(cls=kind, rich_help_panel=panel, context_settings=settings)(command)
app.add_typer(image.app, name="image", rich_help_panel="Image")


def run() -> None:
    """Run the command line; a fault is told on standard error and ends with 1, an interrupt with 130."""
    try:
        app()
    except VreError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
