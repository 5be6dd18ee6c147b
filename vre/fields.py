"""The kinds of values in a stack file that need more than a type: CIDRs, names, domains, public keys."""

import base64
import binascii
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator

from vre.policy import Network

NAME = re.compile(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?")
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
        raise ValueError("a name has 1 to 20 of a-z, 0-9 and single hyphens, begins with a letter and ends with none")
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


def networks(values: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks behind CIDRs that were checked when the file was read."""
    return tuple(ip_network(value) for value in values)


Cidr = Annotated[str, AfterValidator(_cidr)]
Cidr4 = Annotated[Cidr, AfterValidator(_version(4))]
Cidr6 = Annotated[Cidr, AfterValidator(_version(6))]
Networks = Annotated[tuple[Cidr, ...], AfterValidator(_distinct)]
StackName = Annotated[str, AfterValidator(_name)]
Domain = Annotated[str, AfterValidator(_domain)]
PublicKey = Annotated[str, AfterValidator(_public_key)]
