"""Options that mean the same in every command."""

from typing import Annotated

import typer

Stack = Annotated[
    str, typer.Option("--stack", "-s", envvar="VRE_STACK", help="Name the stack: stacks/Pulumi.NAME.yaml")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON for programs")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing")]
Machine = Annotated[str, typer.Option("--machine", "-m", help="Name the machine; else the control machine")]
DEFAULT = "local"
