"""What Pulumi's SDK tells its own developers, kept from the engine."""

import os
from typing import Any

import pulumi


def hush() -> None:
    """Have Pulumi's SDK keep to itself what only its own developers read: `VRE_DEBUG` set has it told as ever.

    It sends four lines for each resource, each a call to the engine that all else waits for, and the engine shows them
    to `--debug` alone.
    """
    if not os.environ.get("VRE_DEBUG"):
        pulumi.log.debug = _nothing


def _nothing(*_: Any, **__: Any) -> None:
    """Stand for what is not told."""
