"""The kinds of values in a stack file that need more than a type: CIDRs, names, domains, public keys."""

import base64
import binascii
import functools
import itertools
import re
import zoneinfo
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

from vre.policy import Network

NAME = re.compile(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?")
WINDOW = re.compile(r"((?:[01]\d|2[0-3]):[0-5]\d)-((?:[01]\d|2[0-3]):[0-5]\d|24:00)")
DAY, SHORTEST = 24 * 60, 30  # minutes; machines spread their beginnings by 15
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
KEY_TYPES = {
    "ssh-ed25519": 2,
    "sk-ssh-ed25519@openssh.com": 3,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
    "ssh-rsa": 3,
}
"""Of how many parts the data of each type of key consists."""


def _cidr(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError as error:
        try:
            meant = ip_network(value, strict=False)
        except ValueError:
            raise ValueError(f"{value} is no network; write an address and a prefix, such as 203.0.113.0/24") from error
        raise ValueError(f"{value} has bits set beyond its prefix; did you mean {meant}?") from error


def _name(value: str) -> str:
    if not NAME.fullmatch(value) or "--" in value:
        raise ValueError(
            "a name has 1 to 20 of a-z, 0-9 and single hyphens, begins with a letter and ends with none: so every cloud"
            " takes it, and it is one label below a zone"
        )
    return value


def _domain(value: str) -> str:
    labels = value.split(".")
    if len(value) > 200 or len(labels) < 2 or not all(LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{value} is no domain name; write it in small letters without a dot at its end")
    return value


def _public_key(value: str) -> str:
    if "PRIVATE KEY" in value:
        raise ValueError("this is a PRIVATE key: take it out of the file, and write the public one (the .pub file)")
    if value.endswith(".pub") and " " not in value:
        return value
    words = value.split()
    if len(words) < 2 or words[0] not in KEY_TYPES:
        raise ValueError("no public SSH key: it begins with its type (ssh-ed25519 ...), or is the path of a .pub file")
    return _whole(words)


def _whole(words: list[str]) -> str:
    cut = "the public SSH key is cut off or mistyped: copy the whole line of the .pub file"
    try:
        blob = base64.b64decode(words[1], validate=True)
    except binascii.Error as error:
        raise ValueError(cut) from error
    parts = list(_parts(blob))
    if not blob or b"".join(len(part).to_bytes(4, "big") + part for part in parts) != blob:
        raise ValueError(cut)
    if parts[0].decode("ascii", "replace") != words[0]:
        raise ValueError("the public SSH key's type and its data differ: copy the whole line of the .pub file")
    if len(parts) != KEY_TYPES[words[0]] or not all(parts):
        raise ValueError(cut)
    if words[0] == "ssh-rsa" and len(blob) < 380:
        raise ValueError("an RSA key of less than 3072 bits is weak; make an ed25519 key with ssh-keygen -t ed25519")
    return " ".join(words)


def _parts(blob: bytes) -> Iterator[bytes]:
    """Yield the parts of a key's data, each of which is preceded by its length (RFC 4251)."""
    while blob:
        end = 4 + int.from_bytes(blob[:4], "big")
        yield blob[4:end]
        blob = blob[end:]


def _version(version: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        if ip_network(value).version != version:
            raise ValueError(f"{value} is no IPv{version} network")
        return value

    return check


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    for one, other in itertools.combinations(networks(values), 2):
        if one.version == other.version and one.overlaps(other):
            raise ValueError(f"{one} and {other} overlap; keep the wider one")
    return values


def window(value: str) -> str:
    """Return a window of time as it was written; build/image/files/usr/lib/vre/patching.py reads it on machines."""
    found = WINDOW.fullmatch(value)
    if found is None:
        raise ValueError(f"{value} is no window: write two times of the day, such as 02:00-05:00")
    if found[1] == found[2]:
        raise ValueError(f"{value} begins when it ends; 00:00-24:00 is the whole day")
    hours, minutes = (
        int(end) - int(begin) for begin, end in zip(found[1].split(":"), found[2].split(":"), strict=True)
    )
    if (hours * 60 + minutes) % DAY in range(1, SHORTEST):
        raise ValueError(
            f"{value} is less than {SHORTEST} minutes: machines begin up to 15 minutes late, not all at once, and a"
            " reboot takes its time"
        )
    return value


def _zone(value: str) -> str:
    if value not in _zones():
        raise ValueError(
            f"{value} is no time zone that machines know; write a continent and a city, such as Europe/Berlin, or UTC"
        )
    return value


@functools.cache
def _zones() -> frozenset[str]:
    """Return the names of places, from the table that comes with the database of time zones.

    Older names, such as US/Eastern, are not on machines: Debian has them in a package of their own, tzdata-legacy.
    """
    tables = [Path(folder) / "zone.tab" for folder in zoneinfo.TZPATH]
    lines = next((table.read_text().splitlines() for table in tables if table.exists()), [])
    named = {line.split("\t")[2] for line in lines if line and not line.startswith("#")}
    return frozenset({"UTC", "Etc/UTC", *(named or zoneinfo.available_timezones())})


def _repository(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError(f"{value} is no address of a repository; write one such as https://packages.example.org/vre")
    if parts.port not in (None, 443):
        raise ValueError("machines reach port 443 of a repository and no other; leave the port out")
    return value


def _day(value: object) -> object:
    """Take off what the engine adds to a day without quotation marks, whenever it writes the file anew."""
    return value.removesuffix(" 00:00:00 +0000 UTC") if isinstance(value, str) else value


def _directory(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.fragment:
        raise ValueError(f"{value} is no address of a directory; write one such as https://acme.example.org/directory")
    return value


def _email(value: str) -> str:
    name, _, domain = value.rpartition("@")
    if not name or any(each.isspace() or each in ",;<>@" for each in name) or _domain(domain) != domain:
        raise ValueError(f"{value} is no e-mail address")
    return value


def server(value: str) -> tuple[str, int]:
    """Return host and port of a name server as it was written. Raises ValueError for what is none."""
    parts = urlsplit(f"//{value}")
    host = parts.hostname or ""
    try:
        ip_address(host)
    except ValueError:
        _domain(host)
    if value.endswith(":") or set(value) & set("/@?#"):
        raise ValueError(f"{value} is no name server; write its address, such as 192.0.2.53")
    return host, parts.port or 53


def _server(value: str) -> str:
    server(value)
    return value


def _archive(value: str) -> str:
    missing = [part for part in ("{archive}", "{moment}") if part not in value]
    if missing:
        raise ValueError(f"{value} has no {' and no '.join(missing)}: the address of each archive at each moment")
    _repository(value.replace("{archive}", "debian").replace("{moment}", "20261121T000000Z"))
    return value


def networks(values: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks behind CIDRs that were checked when the file was read."""
    return tuple(ip_network(value) for value in values)


def servers(values: Iterable[str | Network]) -> tuple[str, ...]:
    """Return the addresses of those CIDRs that are one address; a wider one admits, and names nobody."""
    found = (ip_network(value) for value in values)
    return tuple(str(each.network_address) for each in found if each.num_addresses == 1)


Cidr = Annotated[str, AfterValidator(_cidr)]
Cidr4 = Annotated[Cidr, AfterValidator(_version(4))]
Cidr6 = Annotated[Cidr, AfterValidator(_version(6))]
Networks = Annotated[tuple[Cidr, ...], AfterValidator(_distinct)]
StackName = Annotated[str, AfterValidator(_name)]
Domain = Annotated[str, AfterValidator(_domain)]
PublicKey = Annotated[str, AfterValidator(_public_key)]
Window = Annotated[str, AfterValidator(window)]
Zone = Annotated[str, AfterValidator(_zone)]
Repository = Annotated[str, AfterValidator(_repository)]
Day = Annotated[date, BeforeValidator(_day)]
Directory = Annotated[str, AfterValidator(_directory)]
Email = Annotated[str, AfterValidator(_email)]
NameServer = Annotated[str, AfterValidator(_server)]
Archive = Annotated[str, AfterValidator(_archive)]
