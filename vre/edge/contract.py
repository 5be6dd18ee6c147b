"""What every edge hands on, whatever it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pulumi import Input, Output, Resource


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What the ingress serves (PEM, chain included), and whom it serves: `clients` is the authority (PEM) whose client
    certificate it demands; None where it demands none.
    """

    chain: Output[str]
    key: Output[str]
    not_after: Output[str]
    clients: Output[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How a browser gets to the VRE: `address` to connect to (empty: what public DNS says), `authority` (PEM) that it
    must trust (empty: those that every browser trusts).
    """

    address: Input[str]
    authority: Input[str]


class Front(Protocol):
    """What the class `Edge` of every module has."""

    certificate: Certificate

    def publish(self, address: Input[str]) -> Sequence[Resource]:
        """Lead the VRE's names to the control plane's public address; return what must stand before they answer."""

    def reach(self, address: Input[str]) -> Reach:
        """Return how a browser gets there."""
