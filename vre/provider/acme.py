"""`vre:crypto:AcmeCertificate`: a server's certificate by a public authority, ordered and renewed by `up`.

The account's key, the server's key and the chain are in the state; the credential for DNS is in the environment of
whoever launches. On destroy the certificate is left to lapse: its key is gone with the state and the machines, and an
authority that does not answer must not hold up a destroy.
"""

import secrets
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit

from cryptography import x509

from vre import chosen
from vre.errors import Finding, VreError
from vre.provider.crypto import InState, Request
from vre.provider.handler import UNKNOWN, Changes, Context, Partial, Props, Unknown

LEFT = 3
"""A certificate is renewed when less than this part of its life is left: a third."""
RESUME_SECONDS = 5.0
"""How long an order of an earlier run may take to give what was made for it."""
HERE = {"127.0.0.1", "localhost", "::1"}


class AcmeCertificate(InState):
    """A chain and its key, both new when the names change, the directory does, or a third of its life is left."""

    token = "vre:crypto:AcmeCertificate"  # noqa: S105 - a type
    ignore: ClassVar[frozenset[str]] = frozenset({"contact", "server"})
    secret_outputs = frozenset({"accountKey", "privateKey", "pending"})
    inputs = ("names", "directory", "contact", "server")

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse names that cannot be, and a directory that is not https."""
        findings = Request().check({"names": inputs.get("names"), "renewAfterDays": 1})
        directory = inputs.get("directory")
        if not isinstance(directory, Unknown) and not _safe(str(directory)):
            findings.append(Finding(key="directory", reason="not https", example="https://acme.example.org/directory"))
        return findings

    def normalise(self, inputs: Props) -> Props:
        """Fill in no contact, and Cloudflare."""
        return {"contact": "", "server": "", **inputs}

    def diff(self, state: Props, inputs: Props) -> Changes:
        """Compare, and look at the clock."""
        changes = super().diff(state, inputs)
        return Changes(update=changes.update | {"notAfter"}) if _due(state) else changes

    def preview(self, inputs: Props, state: Props) -> Props:
        """Say that certificate and key will be new."""
        return {**state, **inputs, "certificate": UNKNOWN, "privateKey": UNKNOWN, "notAfter": UNKNOWN}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Make an account, and order."""
        resource_id = secrets.token_hex(8)
        return resource_id, self._issued(context, resource_id, {}, inputs)

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Order another with the same account; go on with the order that an interrupted run has left."""
        return self._issued(context, resource_id, state, inputs)

    def _issued(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        order = chosen.module("acme", "order", packages="acme")
        known = state if state.get("directory") == inputs["directory"] else {}
        kept = {"accountKey": known.get("accountKey") or order.new_key(), "pending": known.get("pending") or {}}
        context.report(f"account at {inputs['directory']}")
        connection = order.connect(inputs["directory"], kept["accountKey"], inputs["contact"])
        try:
            made = _resumed(connection, context, kept, inputs) or _ordered(connection, context, kept, inputs)
        except VreError as error:
            # What was proven counts for the account's key alone, and what was ordered may yet come.
            known_inputs = {} if state else inputs
            raise Partial(resource_id, {**known_inputs, **kept}, error.message, hint=error.hint) from None
        return {**inputs, "accountKey": kept["accountKey"], "pending": {}, **made}


def _resumed(connection: Any, context: Context, kept: Props, inputs: Props) -> Props | None:
    """Return what an interrupted run has ordered, if it is for the same names and was made meanwhile."""
    order, records = chosen.module("acme", "order"), chosen.module("acme", "records")
    pending = kept["pending"]
    if not pending or pending["names"] != inputs["names"]:
        return None
    writer = records.of(inputs["server"])
    for host in order.hosts(inputs["names"]):
        writer.clear(host)
    placed = order.Placed(uri=pending["uri"], finalize=pending["finalize"], request=pending["request"])
    try:
        chain = order.collect(connection, placed, context, seconds=RESUME_SECONDS)
    except VreError:
        return None
    return _read(chain, pending["privateKey"])


def _ordered(connection: Any, context: Context, kept: Props, inputs: Props) -> Props:
    order, records = chosen.module("acme", "order"), chosen.module("acme", "records")
    made = Request().update(context, "", {}, {"names": inputs["names"]})
    context.report("order")
    placed, proofs = order.place(connection, made["request"])
    kept["pending"] = {
        "uri": placed.uri,
        "finalize": placed.finalize,
        "request": placed.request,
        "privateKey": made["privateKey"],
        "names": inputs["names"],
    }
    if proofs:
        with records.shown(records.of(inputs["server"]), {each.host: each.value for each in proofs}, context):
            order.prove(connection, proofs, context)
    return _read(order.collect(connection, placed, context), made["privateKey"])


def _read(chain: str, key: str) -> Props:
    own = x509.load_pem_x509_certificates(chain.encode())[0]
    return {
        "certificate": chain,
        "privateKey": key,
        "notBefore": own.not_valid_before_utc.isoformat(),
        "notAfter": own.not_valid_after_utc.isoformat(),
    }


def _due(state: Props) -> bool:
    """Say whether there is no certificate, or a third of its life is left."""
    if not state.get("certificate"):
        return True
    begin, end = (datetime.fromisoformat(state[key]) for key in ("notBefore", "notAfter"))
    return end - datetime.now(UTC) < (end - begin) / LEFT


def _safe(directory: str) -> bool:
    parts = urlsplit(directory)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in HERE)
