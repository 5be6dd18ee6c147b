"""Commands that look now: may it be launched, how is it, is it as closed as it should be."""

from vre.cli import checks, outputs
from vre.cli.options import DEFAULT, AsJson, Stack


def check(*, stack: Stack = DEFAULT, as_json: AsJson = False) -> None:
    """Check a stack file and this machine, change nothing"""
    from vre.cli import preparation

    checks.show(preparation.look(stack), title=f"Stack {stack}: before a launch", machine_readable=as_json)


def status(*, stack: Stack = DEFAULT, as_json: AsJson = False) -> None:
    """Show how machines, cluster, services, certificates are now"""
    from vre.cli import status as looks

    found = looks.look(outputs.of(stack))
    checks.show(found, title=f"Stack {stack}, checked now", machine_readable=as_json)


def audit(*, stack: Stack = DEFAULT, as_json: AsJson = False) -> None:
    """Check that a running stack is as closed as it should be"""
    from vre.cli import audit as looks

    found = looks.look(outputs.of(stack), outputs.config(stack))
    checks.show(found, title=f"Stack {stack}, tried now", machine_readable=as_json)
