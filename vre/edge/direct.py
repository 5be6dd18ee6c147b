"""Users come straight to the VRE: an authority of the stack's own, and a certificate for the ingress."""

from dataclasses import dataclass

import pulumi
from pulumi import Input, Output, ResourceOptions

from vre import resources
from vre.config import Config
from vre.edge.names import names

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 90
RENEW_BEFORE_DAYS = 30


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What the ingress serves (PEM, chain included) and whose word it is."""

    chain: Output[str]
    key: Output[str]
    authority: Output[str]
    not_after: Output[str]


class Edge(pulumi.ComponentResource):
    """The stack's authority and the certificate for all its names and addresses."""

    certificate: Certificate

    def __init__(self, config: Config, addresses: list[Input[str]], services: tuple[str, ...]) -> None:
        """Make both; `up` renews the certificate when less than 30 of its 90 days are left."""
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
            addresses=addresses,
            valid_days=CERTIFICATE_DAYS,
            renew_before_days=RENEW_BEFORE_DAYS,
            opts=child,
        )
        self.certificate = Certificate(
            chain=issued.certificate,
            key=issued.private_key,
            authority=authority.certificate,
            not_after=issued.not_after,
        )
        self.register_outputs({"authority": authority.certificate})
