"""A libvirt volume: a disk that is empty, uploaded from this machine, on top of another one, or encrypted."""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from vre.errors import Finding, VreError
from vre.provider.handler import UNKNOWN, Changes, Context, Found, Handler, Props, Unknown
from vre.provider.libvirt.connection import connect, found, missing, module, told
from vre.provider.libvirt.identity import known, named
from vre.provider.libvirt.upload import upload, virtual_size
from vre.provider.libvirt.xml import attribute, node, parse, text

FORMATS = ("qcow2", "raw")
LEAST = 64 * 1024  # bytes: what holds a seed image
SECTOR = 512


class Volume(Handler):
    """Grows in place; anything else needs a new volume. With `sourceId`, where the file lies is no matter."""

    token = "vre:libvirt:Volume"  # noqa: S105
    replace_on = frozenset({"pool", "name", "format", "source", "sourceId", "content", "backing", "encryption"})
    ignore = frozenset({"uri"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse formats, sizes and pairs of origins that cannot be."""
        findings = named(inputs, longest=128)
        if known(inputs.get("format")) and inputs["format"] not in FORMATS:
            findings.append(Finding(key="format", reason=f"must be one of {', '.join(FORMATS)}"))
        return findings + _bad_origin(inputs) + _bad_capacity(inputs)

    def diff(self, state: Props, inputs: Props) -> Changes:
        """Compare. Raises VreError when the volume would have to shrink."""
        # A refresh by former versions may have noted what libvirt guessed.
        changes = super().diff({**state, "format": _format(state.get("format"))}, inputs)
        old, new = state.get("capacity"), inputs.get("capacity")
        same = state.get("sourceId") == inputs.get("sourceId") is not None
        replace = changes.replace - ({"source"} if same else frozenset())
        if not replace and isinstance(old, int) and isinstance(new, int) and new < old:
            raise VreError(
                f"volume {state.get('name')}: cannot shrink from {old} to {new} bytes: data would be lost",
                hint="give it back its size, or remove the machine and make a new one",
            )
        return Changes(update=changes.update, replace=replace)

    def preview(self, inputs: Props, state: Props) -> Props:
        """The path is known once the volume is there."""
        return {"path": UNKNOWN, **state, **inputs}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Make it, and fill it. One that a killed run left half-filled is made again; an empty one is kept."""
        context.report(f"making volume {inputs['name']}")
        connection = connect(inputs["uri"], context.report)
        with told(f"volume {inputs['name']}"):
            pool = _pool(connection, inputs["pool"])
            old = found(pool.storageVolLookupByName, inputs["name"])
            made = _adopted(connection, old, inputs) or _made(context, pool, inputs)
            return f"{inputs['pool']}/{inputs['name']}", _outputs(made, inputs)

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Look at its size and format; what is in it is its users' own.

        One that was made raw stays it: its machine can write what looks like any other format to whoever guesses.
        """
        pool_name, _, name = resource_id.partition("/")
        connection = connect(state.get("uri", "auto"), context.report)
        with told(f"volume {resource_id}"):
            live = _live(connection, pool_name, name)
        if live is None:
            return None
        size, made = live.info()[1], state.get("format")
        guessed = attribute(parse(live.XMLDesc(0)), "target/format", "type")
        seen = {"pool": pool_name, "name": name, "format": made if made == "raw" else _format(guessed)}
        if not state or size < state.get("capacity", 0):
            seen["capacity"] = size  # larger is fine: whole sectors, or what an upload brought along
        inputs = {key: value for key, value in state.items() if key != "path"} | seen
        return Found(inputs=inputs, outputs={**inputs, "path": live.path()})

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Grow it, while its machine runs or not."""
        connection = connect(inputs["uri"], context.report)
        with told(f"volume {resource_id}"):
            live = _pool(connection, inputs["pool"]).storageVolLookupByName(inputs["name"])
            if inputs.get("capacity"):
                context.report(f"growing volume {inputs['name']}")
                _grow(connection, live, inputs["capacity"])
            return _outputs(live, inputs)

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Remove it and what is in it."""
        pool_name, _, name = resource_id.partition("/")
        connection = connect(state.get("uri", "auto"), context.report)
        with told(f"volume {resource_id}"):
            live = _live(connection, pool_name, name)
            if live is not None:
                _delete(connection, live)


def document(inputs: Mapping[str, Any], capacity: int) -> Element:
    """Return the XML of a volume of `capacity` bytes. Room is taken as it is written."""
    backing, encryption = inputs.get("backing"), inputs.get("encryption")
    lock = encryption and node(
        "encryption", node("secret", type="passphrase", uuid=encryption["secret"]), format="luks"
    )
    return node(
        "volume",
        node("name", inputs["name"]),
        node("capacity", str(capacity), unit="bytes"),
        node("allocation", "0", unit="bytes"),
        node("target", node("format", type=inputs["format"]), lock or None),
        node("backingStore", node("path", backing["path"]), node("format", type=backing["format"]))
        if backing
        else None,
        type="file",
    )


def _made(context: Context, pool: Any, inputs: Props) -> Any:
    origin = _origin(inputs)
    capacity = max(inputs.get("capacity") or 0, virtual_size(origin, inputs["format"]) if origin else 0)
    made = pool.createXML(text(document(inputs, _whole_sectors(max(capacity, LEAST)))))
    if origin is None:
        return made
    try:
        upload(context, made, origin, inputs["name"])
        if inputs["format"] == "qcow2":
            made.resize(_whole_sectors(capacity))  # the upload brought its own, smaller size along
    except BaseException:
        made.delete()
        raise
    return made


def _adopted(connection: Any, old: Any | None, inputs: Props) -> Any | None:
    """Return a volume that is there if it is what is wanted; remove it if it may be half of an upload."""
    if old is None:
        return None
    if _origin(inputs) is not None:
        _delete(connection, old)
        return None
    shown = parse(old.XMLDesc(0))
    kind = _format(attribute(shown, "target/format", "type"))
    same = kind == inputs["format"] and old.info()[1] <= inputs["capacity"]
    if not same or not _same_key(shown, inputs.get("encryption")):
        raise VreError(
            f"the pool {inputs['pool']!r} has another volume {inputs['name']!r}",
            hint=f"if it is not needed: virsh vol-delete --pool {inputs['pool']} {inputs['name']}",
        )
    _grow(connection, old, inputs["capacity"])
    return old


def _format(told: str | None) -> str:
    """Return the format of a volume. Any content is raw: libvirt looks into it, and calls a seed `iso`."""
    return "qcow2" if told == "qcow2" else "raw"


def _same_key(shown: Element, encryption: Mapping[str, str] | None) -> bool:
    """libvirt forgets which key a volume has when it looks at its pool anew: then any will do, but not none."""
    locked = shown.find("target/encryption")
    if locked is None or encryption is None:
        return locked is None and encryption is None
    return attribute(locked, "secret", "uuid", encryption["secret"]) == encryption["secret"]


def _grow(connection: Any, live: Any, capacity: int) -> None:
    wanted = _whole_sectors(capacity)
    if live.info()[1] >= wanted:
        return
    libvirt = module()
    users = _users(connection, live.path(), flags=libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    if users:
        users[0].blockResize(live.path(), wanted, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
    else:
        live.resize(wanted)


def _delete(connection: Any, live: Any) -> None:
    users = _users(connection, live.path())
    if users:
        raise VreError(
            f"volume {live.name()} is a disk of {', '.join(sorted(user.name() for user in users))}",
            hint="remove that machine first",
        )
    live.delete()


def _users(connection: Any, path: str, *, flags: int = 0) -> list[Any]:
    return [
        domain
        for domain in connection.listAllDomains(flags)
        if any(source.get("file") == path for source in parse(domain.XMLDesc(0)).iterfind("devices/disk/source"))
    ]


def _live(connection: Any, pool_name: str, name: str) -> Any | None:
    pool = found(connection.storagePoolLookupByName, pool_name)
    if pool is None or not pool.isActive():
        return None
    live = found(pool.storageVolLookupByName, name)
    if live is None:
        return None
    try:
        live.info()
    except module().libvirtError as error:
        if missing(error) or "No such file" in str(error):
            return None
        raise
    return live


def _pool(connection: Any, name: str) -> Any:
    pool = connection.storagePoolLookupByName(name)
    if not pool.isActive():
        pool.create()
    return pool


def _outputs(live: Any, inputs: Props) -> Props:
    return {**inputs, "path": live.path()}


def _origin(inputs: Props) -> Path | bytes | None:
    if inputs.get("content"):
        return base64.b64decode(inputs["content"])
    if not inputs.get("source"):
        return None
    source = Path(inputs["source"])
    if not source.is_file():  # no fault of a volume that was filled long ago, so it is not looked for in `check`
        raise VreError(f"volume {inputs['name']}: there is no file {source} to fill it with", hint="run: make setup")
    return source


def _whole_sectors(size: int) -> int:
    return -(-size // SECTOR) * SECTOR


def _bad_origin(inputs: Props) -> list[Finding]:
    given = [key for key in ("source", "content", "backing") if inputs.get(key)]
    if len(given) > 1:
        return [Finding(key=given[1], reason=f"cannot stand beside {given[0]}: a volume has one origin")]
    if given and given != ["backing"] and inputs.get("encryption"):
        return [Finding(key="encryption", reason=f"cannot stand beside {given[0]}: uploads are not encrypted")]
    content = inputs.get("content")
    if isinstance(content, str):
        try:
            base64.b64decode(content, validate=True)
        except binascii.Error:
            return [Finding(key="content", reason="is not base64")]
    return []


def _bad_capacity(inputs: Props) -> list[Finding]:
    capacity = inputs.get("capacity")
    if isinstance(capacity, Unknown):
        return []
    if capacity is None and not (inputs.get("source") or inputs.get("content")):
        return [Finding(key="capacity", reason="is needed where nothing is uploaded", example="10737418240")]
    if capacity is None or (isinstance(capacity, int) and capacity > 0):
        return []
    return [Finding(key="capacity", reason="must be a number of bytes", example="10737418240")]
