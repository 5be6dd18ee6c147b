"""Keys, certificates and passwords, which live in the stack's state only, as secrets."""

import ipaddress
import re
import secrets
import string
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vre.errors import Finding, VreError
from vre.provider.handler import UNKNOWN, Changes, Context, Found, Handler, Props, Unknown

SKEW = timedelta(hours=1)  # a machine whose clock is behind must not find the certificate "not yet valid"
LONGEST_DAYS = 825  # what browsers accept of a private authority's server certificates
AUTHORITY_RENEW_DAYS = 60
LEAF_DAYS, LEAF_RENEW_DAYS = 90, 30
RENEWED_DAYS = 275  # the age at which a request's key is made anew
USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
CLIENT_BITS = 3072  # RSA, for clients: it is what every proxy that holds the key for us takes
LONGEST_CHECKED = 72  # characters that zxcvbn looks at; what follows makes a password no weaker
SHORTEST_HINT = 3  # letters: shorter names are in many a good password
STRONG = 3  # zxcvbn: 10^8 guesses are not enough
PASSWORD_LENGTH = 20
SHORTEST, LONGEST = 16, 128
Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
ALPHABET = "".join(sorted(set(string.ascii_letters + string.digits) - set("0O1lI")))  # none that look alike
DNS_NAME = re.compile(
    r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE
)


class InState(Handler):
    """What has no real thing outside the state: a read gives the state back, a delete only forgets it."""

    inputs: tuple[str, ...] = ()

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Return what the state says."""
        if not state:
            raise VreError(f"{self.token} cannot be imported", hint="declare a new one")
        return Found(inputs={key: state[key] for key in self.inputs if key in state}, outputs=state)

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Do nothing: leaving the state is all there is to it."""


class Authority(InState):
    """A certificate authority (ECDSA P-256) for servers and clients. Its key outlives its certificate."""

    token = "vre:crypto:Authority"  # noqa: S105
    replace_on = frozenset({"commonName"})
    secret_outputs = frozenset({"privateKey"})
    inputs = ("commonName", "validDays")

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse an empty name and an impossible time."""
        name = inputs.get("commonName")
        findings = (
            [] if isinstance(name, Unknown) or _is_text(name, 64) else [_wrong("commonName", "1 to 64 characters")]
        )
        return findings + _days(inputs, "validDays", 1, 36500)

    def normalise(self, inputs: Props) -> Props:
        """Fill in ten years."""
        return {"validDays": 3650, **inputs}

    def diff(self, state: Props, inputs: Props) -> Changes:
        """Compare, and look at the clock."""
        days = inputs["validDays"]
        before = 0 if isinstance(days, Unknown) else min(AUTHORITY_RENEW_DAYS, days // 3)
        return _with_clock(super().diff(state, inputs), state, before)

    def preview(self, inputs: Props, state: Props) -> Props:
        """Say that the key stays and the certificate will be new."""
        return {"privateKey": UNKNOWN, **state, **inputs, "certificate": UNKNOWN, "notAfter": UNKNOWN}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Make a key and sign its certificate with it."""
        key = ec.generate_private_key(ec.SECP256R1())
        digest = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()
        return digest, {**inputs, "privateKey": _pem(key), **_authority(key, inputs)}

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Sign a new certificate with the same key, so that what the old one signed stays valid."""
        return {**state, **inputs, **_authority(_key(state["privateKey"]), inputs)}


class Certificate(InState):
    """A certificate, of a server unless `usage` says client; new, with its key, when something changes or it ends."""

    token = "vre:crypto:Certificate"  # noqa: S105
    secret_outputs = frozenset({"privateKey", "authorityKey"})
    inputs = ("authorityCertificate", "authorityKey", "names", "addresses", "usage", "validDays", "renewBeforeDays")

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse names, addresses and times that cannot be, and a key that is not the authority's."""
        findings = _days(inputs, "validDays", 1, LONGEST_DAYS) + _days(inputs, "renewBeforeDays", 0, LONGEST_DAYS)
        if not findings and not _later(inputs):
            findings.append(_wrong("renewBeforeDays", "less than validDays"))
        if not isinstance(inputs.get("usage"), Unknown) and inputs.get("usage") not in {None, *USAGES}:
            findings.append(_wrong("usage", " or ".join(USAGES)))
        return findings + _bad_names(inputs) + _bad_authority(inputs)

    def normalise(self, inputs: Props) -> Props:
        """Fill in 90 days, renewed 30 before."""
        days = inputs.get("validDays", LEAF_DAYS)
        before = LEAF_RENEW_DAYS if isinstance(days, Unknown) else min(LEAF_RENEW_DAYS, days // 3)
        return {"names": [], "addresses": [], "validDays": days, "renewBeforeDays": before, **inputs}

    def diff(self, state: Props, inputs: Props) -> Changes:
        """Compare, and look at the clock."""
        before = inputs["renewBeforeDays"]
        return _with_clock(super().diff(state, inputs), state, 0 if isinstance(before, Unknown) else before)

    def preview(self, inputs: Props, state: Props) -> Props:
        """Say that everything will be new."""
        return {**state, **inputs, "certificate": UNKNOWN, "privateKey": UNKNOWN, "notAfter": UNKNOWN}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Issue it."""
        return secrets.token_hex(8), {**inputs, **_leaf(inputs)}

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Issue another."""
        return {**inputs, **_leaf(inputs)}


class Request(InState):
    """A server's key and the request that an authority elsewhere signs; both new when the names change or it is old."""

    token = "vre:crypto:Request"  # noqa: S105
    secret_outputs = frozenset({"privateKey"})
    inputs = ("names", "renewAfterDays")

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse names that cannot be, and an impossible time."""
        return _days(inputs, "renewAfterDays", 1, 5475) + _bad_names(inputs)

    def normalise(self, inputs: Props) -> Props:
        """Fill in nine months."""
        return {"renewAfterDays": RENEWED_DAYS, **inputs}

    def diff(self, state: Props, inputs: Props) -> Changes:
        """Compare, and look at the clock."""
        changes, days = super().diff(state, inputs), inputs["renewAfterDays"]
        age = _now() - datetime.fromisoformat(state["made"])
        if isinstance(days, Unknown) or age < timedelta(days=days):
            return changes
        return Changes(update=changes.update | {"made"})

    def preview(self, inputs: Props, state: Props) -> Props:
        """Say that everything will be new."""
        return {**state, **inputs, "privateKey": UNKNOWN, "request": UNKNOWN, "made": UNKNOWN}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Make a key, and sign the request with it."""
        return secrets.token_hex(8), self.update(context, "", {}, inputs)

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Make another."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(_alternatives({**inputs, "addresses": []}))
        builder = x509.CertificateSigningRequestBuilder().subject_name(_named(inputs["names"]))
        signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
        text = signed.public_bytes(serialization.Encoding.PEM).decode()
        return {**inputs, "privateKey": _pem(key), "request": text, "made": _now().isoformat()}


class HostKey(InState):
    """An SSH host key, Ed25519."""

    token = "vre:crypto:HostKey"  # noqa: S105
    secret_outputs = frozenset({"privateKey"})

    def preview(self, inputs: Props, state: Props) -> Props:
        """Say that both halves will be new."""
        return {"publicKey": UNKNOWN, "privateKey": UNKNOWN, **state}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Make the pair."""
        key = ed25519.Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        ).decode()
        line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return secrets.token_hex(8), {"publicKey": line.decode(), "privateKey": private}

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Keep it: there is nothing to change."""
        return state


class Password(InState):
    """A password: the given one if it is strong, else a random one."""

    token = "vre:crypto:Password"  # noqa: S105
    secret_outputs = frozenset({"given", "password"})
    inputs = ("given", "length", "hints")

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse a weak password, one that holds a hint, and a length out of bounds."""
        given, length = inputs.get("given"), inputs.get("length", PASSWORD_LENGTH)
        if not isinstance(length, Unknown) and not _between(length, SHORTEST, LONGEST):
            return [_wrong("length", f"{SHORTEST} to {LONGEST}")]
        if not given or isinstance(given, Unknown):
            return []
        return weakness(given, [hint for hint in _known(inputs.get("hints")) if hint])

    def normalise(self, inputs: Props) -> Props:
        """Fill in the length."""
        return {"length": PASSWORD_LENGTH, "hints": [], **inputs}

    def preview(self, inputs: Props, state: Props) -> Props:
        """Say whether it stays."""
        return {**state, **inputs, "password": inputs.get("given") or _kept(inputs, state) or UNKNOWN}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Take or make it."""
        return secrets.token_hex(8), self.update(context, "", {}, inputs)

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Take the given one, keep the one that was made, or make one."""
        made = inputs.get("given") or _kept(inputs, state) or random_password(inputs["length"])
        return {**inputs, "password": made}


def weakness(password: str, hints: Sequence[str], *, key: str = "given") -> list[Finding]:
    """Return what is wrong with a password, without showing it. Guessability by zxcvbn."""
    import zxcvbn

    telling = [hint for hint in hints if len(hint) >= SHORTEST_HINT]
    inside = [hint for hint in telling if hint.lower() in password.lower()]
    if inside:
        return [Finding(key=key, reason=f"holds the word {inside[0]!r}, which anybody would try first")]
    judged = zxcvbn.zxcvbn(password[:LONGEST_CHECKED], user_inputs=telling)
    if judged["score"] >= STRONG:
        return []
    warning = judged["feedback"]["warning"] or "it takes too few guesses"
    return [
        Finding(key=key, reason=f"is too easy to guess: {warning}", example="four unrelated words, or leave it out")
    ]


def random_password(length: int) -> str:
    """Return a random password of letters and digits that cannot be mistaken for one another."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _kept(inputs: Props, state: Props) -> str | None:
    """A made password stays while it still fits; one that was given goes when it is no longer given."""
    old = state.get("password")
    return old if old and not state.get("given") and len(old) == inputs["length"] else None


def _authority(key: ec.EllipticCurvePrivateKey, inputs: Props) -> Props:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, inputs["commonName"])])
    end = _now() + timedelta(days=inputs["validDays"])
    usage = {"key_cert_sign": True, "crl_sign": True}
    made = (
        _builder(name, name, key.public_key(), end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(**usage), critical=True)
        .sign(key, hashes.SHA256())
    )
    return {"certificate": _certificate_pem(made), "notAfter": made.not_valid_after_utc.isoformat()}


def _leaf(inputs: Props) -> Props:
    authority = x509.load_pem_x509_certificate(inputs["authorityCertificate"].encode())
    usage = inputs.get("usage") or "server"
    signer, key = _key(inputs["authorityKey"]), _leaf_key(usage)
    end = min(_now() + timedelta(days=inputs["validDays"]), authority.not_valid_after_utc)
    # Servers are known by their alternative names alone, which are critical then (RFC 5280); a client has a subject.
    subject = _named(inputs["names"]) if usage == "client" else x509.Name([])
    made = (
        _builder(subject, authority.subject, key.public_key(), end)
        .add_extension(x509.SubjectAlternativeName(_alternatives(inputs)), critical=usage == "server")
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([USAGES[usage]]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    chain = [_certificate_pem(made)] + [_certificate_pem(authority)] * (usage == "server")
    return {
        "certificate": "".join(chain),
        "privateKey": _pem(key),
        "notAfter": made.not_valid_after_utc.isoformat(),
    }


def _leaf_key(usage: str) -> Private:
    if usage == "client":
        return rsa.generate_private_key(public_exponent=65537, key_size=CLIENT_BITS)
    return ec.generate_private_key(ec.SECP256R1())


def _named(names: Sequence[str]) -> x509.Name:
    """Return a subject of the first name; nothing where it is longer than a common name may be."""
    short = [name for name in names[:1] if len(name) <= 64]
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in short])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(**chosen: bool) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: chosen.get(name, False) for name in every})


def _alternatives(inputs: Props) -> list[x509.GeneralName]:
    names: Iterable[x509.GeneralName] = (x509.DNSName(name) for name in inputs["names"])
    addresses = (x509.IPAddress(ipaddress.ip_address(address)) for address in inputs["addresses"])
    return [*names, *addresses]


def _with_clock(changes: Changes, state: Props, days: int) -> Changes:
    """Add the certificate to the changes when fewer days than that are left of it."""
    left = datetime.fromisoformat(state["notAfter"]) - _now()
    if left >= timedelta(days=days) or changes.replace:
        return changes
    return Changes(update=changes.update | {"notAfter"}, delete_first=changes.delete_first)


def _bad_names(inputs: Props) -> list[Finding]:
    names, addresses = inputs.get("names") or [], inputs.get("addresses") or []
    if not names and not addresses:
        return [
            Finding(key="names", reason="neither a name nor an address: nobody could use it", example="[localhost]")
        ]
    findings = [
        Finding(key="names", reason=f"{name!r} is no DNS name", example="jupyter.example.org")
        for name in _known(names)
        if not DNS_NAME.fullmatch(name)
    ]
    wrong = [address for address in _known(addresses) if not _is_address(address)]
    return findings + [
        Finding(key="addresses", reason=f"{address!r} is no IP address", example="192.0.2.7") for address in wrong
    ]


def _bad_authority(inputs: Props) -> list[Finding]:
    certificate, key = inputs.get("authorityCertificate"), inputs.get("authorityKey")
    if isinstance(certificate, Unknown) or isinstance(key, Unknown):
        return []
    try:
        loaded = x509.load_pem_x509_certificate(str(certificate).encode())
        own = _key(str(key)).public_key()
        if own != loaded.public_key():
            return [Finding(key="authorityKey", reason="is not the key of authorityCertificate")]
        loaded.verify_directly_issued_by(loaded)
    except (ValueError, TypeError, InvalidSignature):
        return [Finding(key="authorityCertificate", reason="is not an authority's certificate with its key, in PEM")]
    return []


def _days(inputs: Props, key: str, least: int, most: int) -> list[Finding]:
    days = inputs.get(key, least)
    if isinstance(days, Unknown) or _between(days, least, most):
        return []
    return [_wrong(key, f"{least} to {most} days")]


def _later(inputs: Props) -> bool:
    days, before = inputs.get("validDays", LEAF_DAYS), inputs.get("renewBeforeDays", 0)
    return isinstance(days, Unknown) or isinstance(before, Unknown) or bool(before < days)


def _between(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_text(value: Any, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _wrong(key: str, allowed: str) -> Finding:
    return Finding(key=key, reason=f"must be {allowed}")


def _known(values: Any) -> list[str]:
    if values is None or isinstance(values, Unknown):
        return []
    return [str(value) for value in values if not isinstance(value, Unknown)]


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _key(pem: str) -> ec.EllipticCurvePrivateKey:
    loaded = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise TypeError("not an elliptic curve key")
    return loaded


def _pem(key: Private) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _certificate_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
