"""A libvirt secret: the key of encrypted volumes. Only libvirt knows it; deleting it nullifies what it encrypts."""

import secrets
from typing import Any
from xml.etree.ElementTree import Element

from vre.errors import Finding
from vre.provider.handler import UNKNOWN, Context, Found, Handler, Props, Unknown
from vre.provider.libvirt.connection import connect, found, told
from vre.provider.libvirt.identity import derived, named
from vre.provider.libvirt.xml import node, parse, text

BYTES = 32
EMPTY = " (no key yet)"


class Secret(Handler):
    """A key of 32 random bytes that no state and no log ever sees."""

    token = "vre:libvirt:Secret"  # noqa: S105
    replace_on = frozenset({"name"})
    ignore = frozenset({"uri"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse names that cannot be."""
        return named(inputs)

    def preview(self, inputs: Props, state: Props) -> Props:
        """Everything follows from the inputs."""
        name = inputs["name"]
        return {**inputs, "uuid": UNKNOWN if isinstance(name, Unknown) else _uuid(name)}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Make the key. One that a killed run made whole is kept: something may be encrypted with it."""
        name = inputs["name"]
        context.report(f"making key {name}")
        connection = connect(inputs["uri"], context.report)
        with told(f"secret {name}"):
            if not _is_whole(found(connection.secretLookupByUUIDString, _uuid(name))):
                made = connection.secretDefineXML(text(document(name, note=EMPTY)))
                made.setValue(secrets.token_urlsafe(BYTES).encode())  # QEMU takes passphrases in UTF-8 only
                connection.secretDefineXML(text(document(name)))
        return name, self.preview(inputs, {})

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Look whether it is there; its value cannot be read by anybody."""
        connection = connect(state.get("uri", "auto"), context.report)
        with told(f"secret {resource_id}"):
            if not _is_whole(found(connection.secretLookupByUUIDString, _uuid(resource_id))):
                return None
        inputs = {key: state[key] for key in ("uri",) if key in state} | {"name": resource_id}
        return Found(inputs=inputs, outputs=self.preview(inputs, state))

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Keep it: there is nothing to change."""
        return self.preview(inputs, state)

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Forget the key: what it encrypted can never be read again."""
        connection = connect(state.get("uri", "auto"), context.report)
        with told(f"secret {resource_id}"):
            live = found(connection.secretLookupByUUIDString, _uuid(resource_id))
            if live is not None:
                live.undefine()


def document(name: str, *, note: str = "") -> Element:
    """Return the XML of a secret that libvirt keeps on disk and shows to nobody."""
    return node(
        "secret",
        node("uuid", _uuid(name)),
        node("description", f"{name}{note}"),
        ephemeral="no",
        private="yes",
    )


def _uuid(name: str) -> str:
    return derived(Secret.token, name)


def _is_whole(live: Any | None) -> bool:
    return live is not None and not parse(live.XMLDesc()).findtext("description", "").endswith(EMPTY)
