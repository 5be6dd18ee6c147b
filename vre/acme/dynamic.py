"""Dynamic updates of a zone (RFC 2136), signed by a key (TSIG, RFC 8945) that stays in the environment."""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from socket import SOCK_STREAM, getaddrinfo
from typing import Any

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update

from vre.errors import VreError
from vre.fields import server

KEY = "VRE_DNS_KEY"
HOW = f"export {KEY}=[ALGORITHM:]NAME:SECRET, as nsupdate -y takes it"
DEFAULT = "hmac-sha256"
SHORTEST = 16
"""Bytes of a key; what is no base64 decodes to fewer."""
TIMEOUT = 10.0
TTL = 60


class Dynamic:
    """A name server that takes updates for names in its zones. What stands at the proofs' names is the VRE's own."""

    def __init__(self, address: str, environment: Mapping[str, str]) -> None:
        self._address, self._port = server(address)
        self._key = key(environment.get(KEY, ""))

    def put(self, host: str, value: str) -> None:
        """Add a text to what stands at a name."""
        self._change(host, lambda update, name: update.add(name, TTL, "TXT", f'"{value}"'))

    def clear(self, host: str) -> None:
        """Remove all texts at a name."""
        self._change(host, lambda update, name: update.delete(name, "TXT"))

    def servers(self, host: str) -> Sequence[tuple[str, int]]:
        """Return the one that takes updates; how long its seconds take is theirs to say."""
        return [(self._address, self._port)]

    def check(self, host: str) -> None:
        """Remove what is not there: whoever may not change the name is refused."""
        self.clear(host)

    def _change(self, host: str, change: Callable[[dns.update.UpdateMessage, dns.name.Name], None]) -> None:
        name = dns.name.from_text(host)
        update = dns.update.UpdateMessage(self._zone(name), keyring=self._key)
        change(update, name)
        answer = self._ask(update)
        if answer.rcode() != dns.rcode.NOERROR:
            raise VreError(
                f"{self._address} refuses to change {host}: {dns.rcode.to_text(answer.rcode())}",
                hint=f"the key in {KEY} must be allowed to change TXT records at this name",
            )

    def _zone(self, name: dns.name.Name) -> dns.name.Name:
        """Return the zone that a name lies in: what its server names as the start of authority."""
        answer = self._ask(dns.message.make_query(name, dns.rdatatype.SOA))
        found = [each.name for each in (*answer.answer, *answer.authority) if each.rdtype == dns.rdatatype.SOA]
        if not found:
            raise VreError(f"{self._address} has no zone for {name.to_text(omit_final_dot=True)}")
        return found[0]

    def _ask(self, message: dns.message.Message) -> dns.message.Message:
        try:
            return dns.query.tcp(message, self._reached(), port=self._port, timeout=TIMEOUT)
        except dns.tsig.PeerError as error:
            raise VreError(f"{self._address} does not take the key in {KEY}: {error}", hint=HOW) from None
        except (OSError, EOFError, dns.exception.DNSException) as error:
            raise VreError(f"{self._address}: no use from the name server: {error or type(error).__name__}") from None

    def _reached(self) -> str:
        try:
            return str(ip_address(self._address))
        except ValueError:
            return str(getaddrinfo(self._address, self._port, type=SOCK_STREAM)[0][4][0])


def key(text: str) -> dict[Any, Any]:
    """Return the key in a text as nsupdate takes it. Raises VreError, which never shows it."""
    if not text.strip():
        raise VreError(f"{KEY} is not set", hint=HOW)
    parts = text.strip().split(":")
    algorithm, name, secret = parts if len(parts) == 3 else (DEFAULT, *parts) if len(parts) == 2 else ("", "", "")
    try:
        named = dns.name.from_text(name)
        made = dns.tsig.Key(named, secret, f"{algorithm}.")
        if made.algorithm not in dns.tsig.mac_sizes or len(made.secret) < SHORTEST:
            raise ValueError("too short, or of no known kind")
    except (ValueError, dns.exception.DNSException):
        raise VreError(f"{KEY} holds no key", hint=HOW) from None
    return {named: made}
