"""Keys, certificates and passwords of the plugin `vre`, as a Pulumi program uses them: part of `vre.resources`."""

from collections.abc import Sequence
from typing import Any

from pulumi import Input, Output, ResourceOptions

from vre.resource import Resource as _Resource
from vre.resource import out as _out

Texts = Sequence[Input[str]]


class Authority(_Resource):
    """A certificate authority of the stack's own."""

    TYPE = "vre:crypto:Authority"
    SECRETS = ("privateKey",)
    certificate: Output[str] = _out("certificate")
    private_key: Output[str] = _out("privateKey")
    not_after: Output[str] = _out("notAfter")

    def __init__(
        self, name: str, *, common_name: Input[str], valid_days: Input[int], opts: ResourceOptions | None = None
    ) -> None:
        """Make an authority valid for `valid_days`."""
        props = {"commonName": common_name, "validDays": valid_days}
        super().__init__(name, props, opts)


class Certificate(_Resource):
    """A certificate signed by an authority, renewed by `up` when its end is near."""

    TYPE = "vre:crypto:Certificate"
    SECRETS = ("authorityKey", "privateKey")
    certificate: Output[str] = _out("certificate")
    private_key: Output[str] = _out("privateKey")
    not_after: Output[str] = _out("notAfter")

    def __init__(
        self,
        name: str,
        *,
        authority_certificate: Input[str],
        authority_key: Input[str],
        names: Input[Texts] | None = None,
        addresses: Input[Texts] | None = None,
        usage: Input[str] | None = None,
        valid_days: Input[int] | None = None,
        renew_before_days: Input[int] | None = None,
        opts: ResourceOptions | None = None,
    ) -> None:
        """Issue a certificate for DNS names and IP addresses; a server's `certificate` holds the authority's, too.

        `usage` is server (ECDSA), where nothing is said, or client (RSA).
        """
        props = {
            "authorityCertificate": authority_certificate,
            "authorityKey": authority_key,
            "names": names,
            "addresses": addresses,
            "usage": usage,
            "validDays": valid_days,
            "renewBeforeDays": renew_before_days,
        }
        super().__init__(name, props, opts)


class Request(_Resource):
    """A server's key with a signing request, for an authority that is not the stack's; `up` makes both anew in time."""

    TYPE = "vre:crypto:Request"
    SECRETS = ("privateKey",)
    request: Output[str] = _out("request")
    private_key: Output[str] = _out("privateKey")
    made: Output[str] = _out("made")

    def __init__(
        self,
        name: str,
        *,
        names: Input[Texts],
        renew_after_days: Input[int] | None = None,
        opts: ResourceOptions | None = None,
    ) -> None:
        """Make a key and a request (both PEM) for DNS names."""
        props = {"names": names, "renewAfterDays": renew_after_days}
        super().__init__(name, props, opts)


class AcmeCertificate(_Resource):
    """A server's certificate by a public authority that speaks ACME, renewed by `up` in the last third of its life."""

    TYPE = "vre:crypto:AcmeCertificate"
    SECRETS = ("accountKey", "privateKey", "pending")
    account_key: Output[str] = _out("accountKey")
    pending: Output[Any] = _out("pending")
    certificate: Output[str] = _out("certificate")
    private_key: Output[str] = _out("privateKey")
    not_after: Output[str] = _out("notAfter")

    def __init__(
        self,
        name: str,
        *,
        names: Input[Texts],
        directory: Input[str],
        contact: Input[str] = "",
        server: Input[str] = "",
        opts: ResourceOptions | None = None,
    ) -> None:
        """Order a certificate for DNS names at a directory (its URL), whose terms this agrees to.

        The names are proven at the name server `server` by dynamic updates, else at Cloudflare.
        """
        props = {"names": names, "directory": directory, "contact": contact, "server": server}
        super().__init__(name, props, opts)


class HostKey(_Resource):
    """An SSH host key (Ed25519), made before its machine so that it can be pinned."""

    TYPE = "vre:crypto:HostKey"
    SECRETS = ("privateKey",)
    public_key: Output[str] = _out("publicKey")
    private_key: Output[str] = _out("privateKey")

    def __init__(self, name: str, *, opts: ResourceOptions | None = None) -> None:
        """Make a key pair; the private key is in OpenSSH's PEM format."""
        super().__init__(name, {}, opts)


class Password(_Resource):
    """A password: the one given, if it is strong enough, or one that is made."""

    TYPE = "vre:crypto:Password"
    SECRETS = ("given", "password")
    password: Output[str] = _out("password")

    def __init__(
        self,
        name: str,
        *,
        given: Input[str] | None = None,
        length: Input[int] | None = None,
        hints: Input[Texts] | None = None,
        opts: ResourceOptions | None = None,
    ) -> None:
        """Make or check a password; `hints` are words it must not hold, such as the user's name."""
        props = {"given": given, "length": length, "hints": hints}
        super().__init__(name, props, opts)
