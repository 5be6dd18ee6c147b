"""Users come straight to the VRE: a certificate for the ingress, by an authority of the stack's own, or by ACME."""

from collections.abc import Sequence

import pulumi
from pulumi import Input, Output, Resource, ResourceOptions

from vre import resources
from vre.config import Acme, Config, public_authority
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
    """The certificate for all names and addresses, and the stack's authority where that signs."""

    certificate: Certificate
    authority: Output[str]

    def __init__(self, config: Config, address: str, services: tuple[str, ...]) -> None:
        """Make both, for the VRE's names, or for its address when it has none.

        `up` renews what the stack's authority signed when less than 30 of its 90 days are left.
        """
        super().__init__("vre:edge:Direct", config.name)
        self._child = ResourceOptions(parent=self)
        self._names = list(names(config, services))
        public = public_authority(config)
        issued = self._public(public) if public else self._own(config.name, [] if zone(config) else [address])
        self.certificate = Certificate(
            chain=issued.certificate,
            key=issued.private_key,
            not_after=issued.not_after,
        )
        self.register_outputs({"authority": self.authority})

    def _own(self, name: str, addresses: list[str]) -> resources.Certificate:
        authority = resources.Authority(
            "authority", common_name=f"VRE {name}", valid_days=AUTHORITY_DAYS, opts=self._child
        )
        self.authority = authority.certificate
        return resources.Certificate(
            "certificate",
            authority_certificate=authority.certificate,
            authority_key=authority.private_key,
            names=self._names,
            addresses=addresses,
            valid_days=CERTIFICATE_DAYS,
            renew_before_days=RENEW_BEFORE_DAYS,
            opts=self._child,
        )

    def _public(self, asked: Acme) -> resources.AcmeCertificate:
        self.authority = Output.from_input("")
        return resources.AcmeCertificate(
            "certificate",
            names=self._names,
            directory=asked.directory,
            contact=asked.contact or "",
            server=asked.server or "",
            opts=self._child,
        )

    def publish(self, address: Input[str]) -> Sequence[Resource]:
        """Make nothing: whoever owns the domain writes the address into its zone."""
        return ()

    def reach(self, address: Input[str]) -> Reach:
        """Say that browsers come to the machine itself, and trust the stack's own authority if that signed."""
        return Reach(address=address, authority=self.authority)
