"""The records in DNS that prove a name, for as long as an authority looks: Cloudflare's DNS, or dynamic updates."""

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import dns.exception
import dns.message
import dns.query
import dns.rdatatype

from vre.edge.api import TOKEN, Api, CloudflareError
from vre.errors import VreError
from vre.provider.handler import Context

COMMENT = "VRE: proof of a name, gone after minutes"
"""What is written at records of ours, by which those that a killed launch left are known."""
SECONDS = 60
"""The time to live: nobody should keep them."""
EVERY = 2.0
SHOWN_SECONDS = 180.0
BLIND_SECONDS = 30.0
"""How long name servers may take, and how long is waited where none of them answers this machine."""
PATIENCE = 3.0


class Records(Protocol):
    """Who writes TXT records into the zone of a name."""

    def put(self, host: str, value: str) -> None:
        """Have a name show a text, beside others; once, however often it is asked."""

    def clear(self, host: str) -> None:
        """Remove what was put at a name. Nothing there is success."""

    def servers(self, host: str) -> Sequence[tuple[str, int]]:
        """Return the name servers of the zone that a name lies in: address and port."""

    def check(self, host: str) -> None:
        """Do nothing, as somebody who may do all of it. Raises VreError where that is refused."""


@contextmanager
def shown(records: Records, values: Mapping[str, str], context: Context) -> Iterator[None]:
    """Have names show texts for a while; they are removed again whatever happens."""
    try:
        for host, value in values.items():
            context.report(f"{host}: record")
            records.clear(host)
            records.put(host, value)
        _wait(records, values, context)
        yield
    except VreError as error:
        left = _cleared(records, values)
        error.hint = f"{error.hint}\n  {left}" if left else error.hint
        raise
    except BaseException:
        _cleared(records, values)
        raise
    left = _cleared(records, values)
    if left:
        raise VreError(left, hint="the next `up` removes them and goes on")


def _cleared(records: Records, values: Mapping[str, str]) -> str:
    """Remove all; return what could not be removed and why, or nothing."""
    faults = []
    for host in values:
        try:
            records.clear(host)
        except VreError as error:
            faults.append(f"{host} stays in DNS: {error.message}")
    return "; ".join(faults)


def _wait(records: Records, values: Mapping[str, str], context: Context) -> None:
    """Wait until every name server of the zone shows every text: an authority that looks too early refuses."""
    start = time.monotonic()
    asked = {(host, server) for host in values for server in records.servers(host)}
    heard = False
    while asked:
        answers = {each: texts(each[0], each[1]) for each in asked}
        heard = heard or any(answer is not None for answer in answers.values())
        asked = {each for each in asked if values[each[0]] not in (answers[each] or ())}
        waited = time.monotonic() - start
        if not asked or (not heard and waited > BLIND_SECONDS):
            return
        if waited > SHOWN_SECONDS:
            host, (server, _) = min(asked)
            raise VreError(f"{server} does not show {host}", hint="run it again; the zone's name servers are slow")
        context.report(f"{len(asked)} answers of name servers to come")
        context.pause(EVERY)


def texts(host: str, server: tuple[str, int]) -> tuple[str, ...] | None:
    """Return the texts that a name server shows for a name; None where it does not answer."""
    try:
        address = socket.getaddrinfo(*server, type=socket.SOCK_DGRAM)[0][4]
        asked = dns.message.make_query(host, dns.rdatatype.TXT)
        answer = dns.query.udp(asked, str(address[0]), port=server[1], timeout=PATIENCE)
    except (OSError, dns.exception.DNSException):
        return None
    found = [each for rrset in answer.answer if rrset.rdtype == dns.rdatatype.TXT for each in rrset]
    return tuple(b"".join(each.strings).decode("ascii", "replace") for each in found)


class Cloudflare:
    """Zones at Cloudflare, by the token of the environment. What is not ours is neither changed nor removed."""

    def __init__(self) -> None:
        self._zones: dict[str, dict[str, Any]] = {}

    def put(self, host: str, value: str) -> None:
        """Add a record unless it is there: the answer to an earlier attempt may have been lost."""
        with Api() as api:
            zone = self._zone(api, host)
            if all(str(each["content"]).strip('"') != value for each in _records(api, zone, host)):
                body = {"type": "TXT", "name": host, "content": f'"{value}"', "ttl": SECONDS, "comment": COMMENT}
                api.ask("POST", f"/zones/{zone['id']}/dns_records", body=body)

    def clear(self, host: str) -> None:
        """Remove the records that bear our comment."""
        with Api() as api:
            zone = self._zone(api, host)
            for each in _records(api, zone, host):
                if each.get("comment") == COMMENT:
                    _removed(api, f"/zones/{zone['id']}/dns_records/{each['id']}")

    def servers(self, host: str) -> Sequence[tuple[str, int]]:
        """Return those that Cloudflare gave the zone."""
        with Api() as api:
            return [(str(each), 53) for each in self._zone(api, host).get("name_servers") or ()]

    def check(self, host: str) -> None:
        """Ask for an empty record, which is none; without the permission it is refused before that is seen."""
        with Api() as api:
            zone = self._zone(api, host)
            if zone.get("status") != "active":
                raise VreError(f"{zone['name']} is {zone.get('status')}: its name servers are not Cloudflare's yet")
            try:
                api.ask("POST", f"/zones/{zone['id']}/dns_records", body={})
            except CloudflareError as error:
                if error.status in {401, 403}:
                    raise VreError(f"{TOKEN} lacks DNS: Edit for {zone['name']}") from None
                if error.status != 400:
                    raise

    def _zone(self, api: Api, host: str) -> dict[str, Any]:
        labels = host.split(".")
        for name in (".".join(labels[at:]) for at in range(1, len(labels) - 1)):
            if name not in self._zones:
                self._zones |= {str(each["name"]): each for each in api.ask("GET", "/zones", query={"name": name})}
            if name in self._zones:
                return self._zones[name]
        raise VreError(f"{host} lies in no zone that {TOKEN} knows", hint="docs/clouds/acme.md says which it needs")


def _records(api: Api, zone: Mapping[str, Any], host: str) -> list[dict[str, Any]]:
    return list(api.ask("GET", f"/zones/{zone['id']}/dns_records", query={"name": host, "type": "TXT"}) or ())


def _removed(api: Api, path: str) -> None:
    try:
        api.ask("DELETE", path)
    except CloudflareError as error:
        if error.status != 404:
            raise


def of(server: str) -> Records:
    """Return who writes the records: the name server that is named, else Cloudflare."""
    if not server:
        return Cloudflare()
    from vre.acme.dynamic import Dynamic

    return Dynamic(server, os.environ)
