"""What stands in front of the ingress: names and certificates. One module each, all with the same outline."""

from typing import Any

from vre import chosen
from vre.config import Config
from vre.policy import Network


def front(config: Config) -> Any:
    """Return the module of what stands in front. Raises VreError when its packages are not installed."""
    return chosen.module("edge", config.edge.provider)


def visitors(config: Config) -> tuple[Network, ...]:
    """Return the networks that visitors come from; none where the stack file names them itself."""
    networks: tuple[Network, ...] = front(config).visitors()
    return networks


def refresh(config: Config) -> str:
    """Read anew where visitors come from, where somebody publishes it; return a warning, or nothing."""
    warning: str = front(config).refresh()
    return warning
