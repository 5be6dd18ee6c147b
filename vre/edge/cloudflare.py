"""Cloudflare stands in front: its networks alone reach the ingress, and must show a certificate that only it holds.

What is done in the zone is done for the VRE's names alone: others have sites in it, and other VREs. The reasons stand
in docs/clouds/cloudflare.md. `pulumi_cloudflare` takes seconds to import, so only the class does it.
"""

from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi import Input, InvokeOutputOptions, Output, Resource, ResourceOptions

from vre import resources
from vre.config import Cloudflare, Config
from vre.edge import ranges, rules
from vre.edge.contract import Certificate, Reach
from vre.edge.names import names
from vre.policy import Network

ORIGIN_DAYS = 365
RENEW_AFTER_DAYS = 275
"""The origin's certificate and its key are made anew by the first `up` after nine months of its year."""
AUTHORITY_DAYS = 3650
CLIENT_DAYS = 365
CLIENT_RENEW_DAYS = 90
AUTOMATIC = 1
"""The time to live of what is proxied."""


def visitors() -> tuple[Network, ...]:
    """Return Cloudflare's networks as they were last read; where none were, as they are in this release."""
    return ranges.known()[0].networks


def refresh() -> str:
    """Read Cloudflare's networks anew; return what somebody should know, or nothing."""
    return ranges.refresh().warning


class Edge(pulumi.ComponentResource):
    """The VRE's names in its zone, and the two certificates between Cloudflare and the origin."""

    certificate: Certificate

    def __init__(self, config: Config, address: str, services: tuple[str, ...]) -> None:
        """Make certificates and rules. The origin's key is made here, and leaves the stack's state for the ingress."""
        import pulumi_cloudflare

        super().__init__("vre:edge:Cloudflare", config.name)
        self._sdk: Any = pulumi_cloudflare
        self._stack = config.name
        self._hosts = names(config, services)
        # Without settings: the token is in the environment of whoever launches, and in no state.
        provider = pulumi_cloudflare.Provider("cloudflare", opts=ResourceOptions(parent=self))
        self._own = ResourceOptions(parent=self)
        self._child = ResourceOptions(parent=self, provider=provider)
        edge = _edge(config)
        found = pulumi_cloudflare.get_zone_output(
            filter={"match": "all", "name": edge.zone}, opts=InvokeOutputOptions(parent=self, provider=provider)
        )
        self._zone: Output[str] = found.apply(lambda zone: str(zone.zone_id))
        self.certificate = self._origin(self._pulls())
        self._before = [*self._demanded, *self._rules(edge, found.apply(_plan))]
        self.register_outputs({"names": list(self._hosts)})

    def _pulls(self) -> resources.Authority:
        """Have Cloudflare show a certificate of the stack's own at the origin, for each name."""
        authority = resources.Authority(
            "client-authority", common_name=f"VRE {self._stack} edge", valid_days=AUTHORITY_DAYS, opts=self._own
        )
        client = resources.Certificate(
            "client-certificate",
            authority_certificate=authority.certificate,
            authority_key=authority.private_key,
            names=list(self._hosts),
            usage="client",
            valid_days=CLIENT_DAYS,
            renew_before_days=CLIENT_RENEW_DAYS,
            opts=self._own,
        )
        uploaded = self._sdk.AuthenticatedOriginPullsHostnameCertificate(
            "client-certificate",
            zone_id=self._zone,
            certificate=client.certificate,
            private_key=client.private_key,
            opts=ResourceOptions.merge(self._child, ResourceOptions(additional_secret_outputs=["privateKey"])),
        )
        self._demanded: list[Resource] = [
            self._sdk.AuthenticatedOriginPulls(
                host,
                zone_id=self._zone,
                configs=[{"cert_id": uploaded.id, "enabled": True, "hostname": host}],
                opts=self._child,
            )
            for host in self._hosts
        ]
        return authority

    def _origin(self, clients: resources.Authority) -> Certificate:
        """Have Cloudflare's own authority sign the certificate that it wants to see at the origin."""
        asked = resources.Request("origin", names=list(self._hosts), renew_after_days=RENEW_AFTER_DAYS, opts=self._own)
        signed = self._sdk.OriginCaCertificate(
            "origin",
            csr=asked.request,
            hostnames=sorted(self._hosts),
            request_type="origin-ecc",
            requested_validity=ORIGIN_DAYS,
            opts=self._child,
        )
        return Certificate(
            chain=signed.certificate,
            key=asked.private_key,
            not_after=signed.expires_on,
            clients=clients.certificate,
        )

    def _rules(self, edge: Cloudflare, plan: Output[str]) -> list[Resource]:
        return [self._rule(each, plan) for each in rules.wanted(managed=edge.managed_rules, limited=edge.rate_limit)]

    def _rule(self, rule: rules.Wanted, plan: Output[str]) -> resources.Rule:
        return resources.Rule(
            rule.name,
            zone=self._zone,
            phase=rule.phase,
            ref=rule.ref(self._stack),
            rule=plan.apply(lambda word: rules.body(rule, self._hosts, self._stack, plan=word)),
            opts=self._own,
        )

    def publish(self, address: Input[str]) -> Sequence[Resource]:
        """Lead the names to Cloudflare, and Cloudflare to the address, which is in no public DNS. Rules come first."""
        records = [
            self._sdk.DnsRecord(
                host,
                zone_id=self._zone,
                name=host,
                type="A",
                content=address,
                proxied=True,
                ttl=AUTOMATIC,
                comment=comment(self._stack),
                opts=ResourceOptions.merge(self._child, ResourceOptions(depends_on=self._before)),
            )
            for host in self._hosts
        ]
        return [*self._before, *records]

    def reach(self, address: Input[str]) -> Reach:
        """Say that browsers ask public DNS, and trust what they trust anyway."""
        return Reach(address="", authority="")


def comment(stack: str) -> str:
    """Return what is written at a VRE's records, by which they are known as its own."""
    return f"VRE {stack}: made by its launch"


def _edge(config: Config) -> Cloudflare:
    if not isinstance(config.edge, Cloudflare):
        raise TypeError("the edge is not Cloudflare")
    return config.edge


def _plan(zone: Any) -> str:
    # Read past the SDK's getter, which warns of another use of this field.
    plan: Any = pulumi.get(zone, "plan")
    return str((plan.get("legacy_id") if isinstance(plan, dict) else plan.legacy_id) or "")
