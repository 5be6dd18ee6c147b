"""The `vre` command."""
