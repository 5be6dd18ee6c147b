"""An account at an authority that speaks ACME, and what it orders there (RFC 8555). Raises VreError in its words."""

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import josepy
import requests
from acme import challenges, client, errors, messages
from cryptography.hazmat.primitives.asymmetric import ec

from vre import __version__
from vre.errors import VreError
from vre.provider.handler import Context

TIMEOUT = 30
EVERY = 1.0
PROOF_SECONDS = 180.0
"""How long the authority may take to look at DNS."""
SLICE = timedelta(seconds=4)
"""How long the library may wait without looking whether the launch was cancelled."""
RETRY = "run it again later; what was proven is not asked for again"


@dataclass(frozen=True, kw_only=True)
class Placed:
    """An order: its address, where it is finished, and the request (PEM) that the certificate is for."""

    uri: str
    finalize: str
    request: str


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What DNS has to show at a name before the authority believes it, and how the authority is told to look."""

    host: str
    value: str
    name: str
    authorization: Any
    challenge: Any


def new_key() -> str:
    """Return a new account's private key (a JWK of ECDSA P-256)."""
    key = ec.generate_private_key(ec.SECP256R1())
    return str(josepy.JWKEC(key=josepy.ComparableECKey(key)).json_dumps())


def about(directory: str) -> messages.Directory.Meta:
    """Return what an authority says of itself: its terms, and by which names CAA records know it."""
    with _told(directory):
        found: messages.Directory.Meta = client.ClientV2.get_directory(directory, _network()).meta
        return found


def connect(directory: str, key: str, contact: str) -> client.ClientV2:
    """Return a connection with the account that a key has; it is made where there is none, its terms agreed to."""
    with _told(directory):
        network = _network(josepy.JWK.json_loads(key))
        connection = client.ClientV2(client.ClientV2.get_directory(directory, network), network)
        if connection.external_account_required():
            raise VreError(f"{directory} wants an account that was made elsewhere", hint="name another directory")
        wanted = messages.NewRegistration.from_data(email=contact or None, terms_of_service_agreed=True)
        try:
            connection.new_account(wanted)
        except errors.ConflictError as known:
            there = messages.RegistrationResource(body=messages.Registration(), uri=known.location)
            network.account = there
            connection.update_registration(there, messages.Registration.from_data(email=contact or None))
    return connection


def place(connection: client.ClientV2, request: str) -> tuple[Placed, tuple[Proof, ...]]:
    """Order a certificate; return the order, and what is still to be proven for it."""
    with _told("the authority"):
        made = connection.new_order(request.encode())
        open_ = [each for each in made.authorizations if each.body.status == messages.STATUS_PENDING]
        proofs = tuple(_proof(each, connection.net.key) for each in open_)
        return Placed(uri=str(made.uri), finalize=str(made.body.finalize), request=request), proofs


def _proof(authorization: Any, key: Any) -> Proof:
    name = str(authorization.body.identifier.value)
    offered = [each for each in authorization.body.challenges if isinstance(each.chall, challenges.DNS01)]
    if not offered:
        raise VreError(f"{name}: the authority takes no proof by DNS", hint="name another directory")
    return Proof(
        host=offered[0].chall.validation_domain_name(name),
        value=offered[0].chall.validation(key),
        name=name,
        authorization=authorization,
        challenge=offered[0],
    )


def prove(connection: client.ClientV2, proofs: tuple[Proof, ...], context: Context) -> None:
    """Have the authority look at every name, and wait until it believes all."""
    context.pause(0)
    with _told("the authority"):
        for each in proofs:
            connection.answer_challenge(each.challenge, each.challenge.chall.response(connection.net.key))
        deadline = time.monotonic() + PROOF_SECONDS
        for each in proofs:
            context.report(f"the authority looks at {each.host}")
            _believed(connection, each, context, deadline)


def _believed(connection: client.ClientV2, proof: Proof, context: Context, deadline: float) -> None:
    while True:
        found, _ = connection.poll(proof.authorization)
        if found.body.status == messages.STATUS_VALID:
            return
        if found.body.status != messages.STATUS_PENDING:
            faults = [_words(each.error) for each in found.body.challenges if each.error]
            raise VreError(f"{proof.name}: {'; '.join(faults) or found.body.status.name}", hint=RETRY)
        if time.monotonic() > deadline:
            raise VreError(f"{proof.name}: the authority has not looked within {PROOF_SECONDS:.0f} s", hint=RETRY)
        context.pause(EVERY)


def collect(connection: client.ClientV2, placed: Placed, context: Context, *, seconds: float = 120.0) -> str:
    """Have a proven order finished; return the chain (PEM). One that was finished before is fetched again."""
    body = messages.Order(identifiers=(), finalize=placed.finalize)
    order = messages.OrderResource(uri=placed.uri, body=body, csr_pem=placed.request.encode())
    deadline = time.monotonic() + seconds
    with _told("the authority"):
        while time.monotonic() < deadline:
            context.pause(0)
            try:
                return str(connection.poll_finalization(order, datetime.now() + SLICE).fullchain_pem)
            except errors.TimeoutError:
                context.report("the authority makes the certificate")
    raise VreError(f"the authority has made no certificate within {seconds:.0f} s", hint=RETRY)


def _network(key: Any = None) -> client.ClientNetwork:
    paths = ssl.get_default_verify_paths()
    # What this machine trusts, as everywhere else here; the library's own list knows no institution's authority.
    trusted: Any = paths.cafile or paths.capath or True
    agent = f"vre/{__version__}"
    return client.ClientNetwork(key, alg=josepy.ES256, verify_ssl=trusted, user_agent=agent, timeout=TIMEOUT)


@contextmanager
def _told(who: str) -> Iterator[None]:
    """Say what went wrong in the authority's own words."""
    try:
        yield
    except messages.Error as error:
        raise VreError(f"{who} refuses: {_words(error)}", hint=RETRY) from None
    except errors.IssuanceError as error:
        raise VreError(f"{who} issues nothing: {_words(error.error)}", hint=RETRY) from None
    except (requests.RequestException, errors.Error, josepy.errors.Error, ValueError, KeyError) as error:
        raise VreError(f"{who}: no use from the answer: {_cause(error)}", hint=RETRY) from None


def _words(error: Any) -> str:
    """Return a problem's own words (RFC 7807), and those of what it consists of."""
    below = "; ".join(f"{each.identifier.value}: {each.detail}" for each in getattr(error, "subproblems", None) or ())
    told = str(error.detail or error.title or error.typ)
    return f"{told} ({below})" if below else told


def _cause(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' + text[:200] if text else ''}"


def hosts(names: Iterable[str]) -> tuple[str, ...]:
    """Return where in DNS each name is proven."""
    return tuple(f"{challenges.DNS01.LABEL}.{name}" for name in names)
