"""Where tables are printed: as wide as the terminal, wide in a log."""

import sys

from rich.console import Console

WIDE = 160


def console() -> Console:
    """Return the console of standard output."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
