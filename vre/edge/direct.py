"""Users come straight to the VRE: an authority of the stack's own, and a certificate for the ingress."""

from collections.abc import Sequence

import pulumi
from pulumi import Input, Output, Resource, ResourceOptions

from vre import resources
from vre.config import Config
from vre.edge.contract import Certificate, Reach
from vre.edge.names import names, zone
from vre.policy import Network

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 90
RENEW_BEFORE_DAYS = 30


def visitors() -> tuple[Network, ...]:
    """Say nothing: the stack file names who may open the pages."""
    return ()


def refresh() -> str:
    """Read nothing: what the stack file names is known."""
    return ""


class Edge(pulumi.ComponentResource):
    """The stack's authority and the certificate for all its names and addresses."""

    certificate: Certificate
    authority: Output[str]

    def __init__(self, config: Config, address: str, services: tuple[str, ...]) -> None:
        """Make both, for the VRE's names, or for its address when it has none.

        `up` renews the certificate when less than 30 of its 90 days are left.
        """
        super().__init__("vre:edge:Direct", config.name)
        child = ResourceOptions(parent=self)
        authority = resources.Authority(
            "authority", common_name=f"VRE {config.name}", valid_days=AUTHORITY_DAYS, opts=child
        )
        issued = resources.Certificate(
            "certificate",
            authority_certificate=authority.certificate,
            authority_key=authority.private_key,
            names=list(names(config, services)),
            addresses=[] if zone(config) else [address],
            valid_days=CERTIFICATE_DAYS,
            renew_before_days=RENEW_BEFORE_DAYS,
            opts=child,
        )
        self.certificate = Certificate(
            chain=issued.certificate,
            key=issued.private_key,
            not_after=issued.not_after,
        )
        self.authority = authority.certificate
        self.register_outputs({"authority": authority.certificate})

    def publish(self, address: Input[str]) -> Sequence[Resource]:
        """Make nothing: whoever owns the domain writes the address into its zone."""
        return ()

    def reach(self, address: Input[str]) -> Reach:
        """Say that browsers come to the machine itself, and trust the stack's own authority."""
        return Reach(address=address, authority=self.authority)
