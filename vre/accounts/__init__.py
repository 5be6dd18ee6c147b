"""Whether the accounts that a launch will use can do what it needs: looked at before, and nothing is made.

One module for each cloud, and one for Cloudflare: `probe(config)` looks, `judge(config, facts)` says what is wrong.
"""

from importlib import import_module
from importlib.util import find_spec

from vre.config import Config
from vre.errors import Finding


def look(config: Config) -> list[Finding]:
    """Return everything in the accounts of a stack's cloud and edge that stands in the way of a launch."""
    found: list[Finding] = []
    for name in modules(config):
        module = import_module(name)
        found += module.judge(config, module.probe(config))
    return found


def modules(config: Config) -> tuple[str, ...]:
    """Return the modules that look at a stack's accounts: none for a hypervisor and what is direct."""
    names = (f"{__name__}.{provider}" for provider in (config.cloud.provider, config.edge.provider))
    return tuple(name for name in names if find_spec(name) is not None)
