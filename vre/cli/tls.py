"""What a door shows to those who knock: its certificate, the versions it speaks."""

import socket
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cryptography import x509

from vre.errors import VreError


def shown(url: str, authority: str) -> datetime:
    """Return until when the certificate at an https address is valid; its chain and name are verified."""
    context = ssl.create_default_context(cadata=authority)
    ends = _handshake(url, context).get("notAfter")
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(ends)), UTC)


def speaks(url: str, version: ssl.TLSVersion) -> bool:
    """Say whether the door accepts a version of TLS and no newer one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # so that the refusal is the door's, not ours
    context.minimum_version = context.maximum_version = version
    try:
        _handshake(url, context)
    except VreError:
        return False
    return True


def not_after(pem: str) -> datetime:
    """Return until when a certificate is valid. Raises VreError when the text is none."""
    try:
        return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
    except ValueError as error:
        raise VreError("the authority is no certificate", hint="pulumi refresh") from error


def _handshake(url: str, context: ssl.SSLContext) -> dict[str, object]:
    parts = urlsplit(url)
    host, port = str(parts.hostname), parts.port or 443
    try:
        with (
            socket.create_connection((host, port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            return dict(wrapped.getpeercert() or {})
    except (OSError, ssl.SSLError) as error:
        raise VreError(f"no TLS at {host}:{port}: {error}") from error
