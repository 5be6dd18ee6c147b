"""Virtual research environments: closed, patched, from one stack file."""

__version__ = "0.3.0"
