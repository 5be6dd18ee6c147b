"""Clouds: one module each, all with the same outline. Only the chosen one is imported."""

from typing import Any

from vre import chosen
from vre.config import Config
from vre.edge import visitors
from vre.errors import Finding
from vre.plan import doors, plan
from vre.policy import Policy, decide


def room(config: Config) -> Any:
    """Return the module of the chosen cloud. Raises VreError when its packages are not installed."""
    return chosen.module("clouds", config.cloud.provider)


def faults(config: Config) -> list[Finding]:
    """Return everything that the chosen cloud would refuse, as far as that can be known without asking it."""
    return list(dict.fromkeys(room(config).faults(config, plan(config))))


def policy(config: Config) -> Policy:
    """Return who may reach what in a stack."""
    return decide(doors(config, plan(config), room(config).surroundings(config), edge=visitors(config)))
