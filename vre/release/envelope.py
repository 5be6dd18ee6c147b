"""Signed texts: DSSE envelopes with Ed25519 keys.

https://github.com/secure-systems-lab/dsse/blob/v1.0.2/envelope.md
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error, VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from vre import paths
from vre.errors import VreError
from vre.setup.secrets import ensure_image_key, image_key

KEY_VARIABLE = "VRE_IMAGE_KEY"
"""Where a key is that is not this checkout's own: a path. To check what others signed, its public half is enough."""
PUBLIC = b"-----BEGIN PUBLIC KEY-----"
TRUST = "put its public half, images.pub, into build/trusted"
LARGEST = 64 * 1024**2
"""Bytes that a signed text may have: a bill of materials has some five million."""


def named() -> str:
    """Return the path of the key that the environment names, empty where it names none."""
    return os.environ.get(KEY_VARIABLE, "")


def signer(given: str = "") -> CryptoSigner:
    """Return what signs: the key in the file `given`, else this checkout's own, made when there is none."""
    file = Path(given) if given else ensure_image_key(paths.state())
    return CryptoSigner(image_key(file))


def trusted(given: str = "") -> list[SSlibKey]:
    """Return the keys whose signatures count: this checkout's own, the given one, and those in build/trusted.

    Raises VreError for a file there that is no public Ed25519 key, and for a given one that is none of either half.
    """
    files = [paths.state() / "images.pub", *sorted((paths.project() / "build" / "trusted").glob("*.pub"))]
    keys = [public(file) for file in files if file.is_file()]
    return [*keys, *([_either(Path(given))] if given else [])]


def _either(file: Path) -> SSlibKey:
    """Return the public key in a file with either half. The secret half must be its owner's alone, as for signing."""
    if file.is_file() and os.access(file, os.R_OK) and file.read_bytes().lstrip().startswith(PUBLIC):
        return public(file)
    return signer(str(file)).public_key


def public(file: Path) -> SSlibKey:
    """Return the public key in a PEM file. Raises VreError when it holds no Ed25519 one."""
    try:
        key = load_pem_public_key(file.read_bytes())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise VreError(f"{file} is no public Ed25519 key in PEM", hint="take it away, or put an images.pub there")
    return SSlibKey.from_crypto(key)


def pem(key: SSlibKey) -> bytes:
    """Return a public key as `public` reads it."""
    known = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
    return known.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sealed(payload: bytes, kind: str, key: CryptoSigner) -> bytes:
    """Return the text of an envelope around a payload of the media type `kind`: the same from the same."""
    envelope = Envelope(payload, kind, {})
    envelope.sign(key)
    return _text(envelope)


def opened(text: bytes, kind: str, keys: Sequence[SSlibKey]) -> bytes:
    """Return the payload of an envelope that one of the keys signed. Raises VreError with what is wrong with it.

    An envelope that is written in any other way than ours is refused: no byte of it may change unnoticed.
    """
    envelope = _parsed(text)
    if not envelope.signatures:
        raise VreError("is not signed")
    if envelope.payload_type != kind:
        raise VreError(f"is {envelope.payload_type[:80]!r}, not {kind}")
    known = {key.keyid for key in keys}
    if not known & set(envelope.signatures):
        signed = ", ".join(sorted(keyid[:12] for keyid in envelope.signatures))
        raise VreError(f"is signed by a key that is not trusted ({signed})", hint=TRUST)
    try:
        envelope.verify(list(keys), 1)
    except VerificationError:
        raise VreError("was altered after it was signed") from None
    return bytes(envelope.payload)


def _parsed(text: bytes) -> Envelope:
    if len(text) > LARGEST:
        raise VreError(f"has more than {LARGEST} bytes")
    try:
        envelope = Envelope.from_dict(json.loads(text))
        same = _text(envelope) == text
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Error):
        raise VreError("is no signed envelope, or was altered") from None
    if not same:
        raise VreError("was altered after it was signed")
    return envelope


def _text(envelope: Envelope) -> bytes:
    return (json.dumps(envelope.to_dict(), indent=1, sort_keys=True) + "\n").encode()
