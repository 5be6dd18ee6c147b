"""Rules at the edge, without Cloudflare."""

from tests.engine.simulated.machines import Simulated
from vre.provider import cloudflare
from vre.provider.handler import Props


class Rule(Simulated, cloudflare.Rule):
    """A rule of a zone."""

    def identity(self, inputs: Props) -> str:
        """Take the zone, and what the rule is found again by."""
        return f"{inputs['zone']}/{inputs['phase']}/{inputs['ref']}"
