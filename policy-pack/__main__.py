"""Serves the rules to the engine."""

from vre_rules import pack

pack.serve()
