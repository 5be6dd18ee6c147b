"""Whether the accounts that a launch will use can do what it needs: looked at before, and nothing is made.

One module for each cloud, one for Cloudflare, one for a public authority: `probe(config)` looks, `judge(config, facts)`
says what is wrong.
"""

from importlib.util import find_spec

from vre import chosen
from vre.config import Config, public_authority
from vre.errors import Finding


def look(config: Config) -> list[Finding]:
    """Return everything in the accounts of a stack's cloud and edge that stands in the way of a launch."""
    found: list[Finding] = []
    for name in modules(config):
        module = chosen.module("accounts", name.rpartition(".")[2])
        found += module.judge(config, module.probe(config))
    return found


def modules(config: Config) -> tuple[str, ...]:
    """Return the modules that look at a stack's accounts: none for a hypervisor and the stack's own authority."""
    names = (
        f"{__name__}.{each}"
        for each in (config.cloud.provider, "acme" if public_authority(config) else config.edge.provider)
    )
    return tuple(name for name in names if find_spec(name) is not None)
