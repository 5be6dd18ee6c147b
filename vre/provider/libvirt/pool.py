"""A libvirt storage pool: one directory for the volumes of a stack."""

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

from vre.errors import Finding, VreError
from vre.provider.handler import UNKNOWN, Changes, Context, Found, Handler, Props, Unknown
from vre.provider.libvirt.connection import connect, found, module, told
from vre.provider.libvirt.identity import derived, named, own, revived
from vre.provider.libvirt.xml import drifted, node, parse, text

INPUTS = ("uri", "name", "path")
MODE = "0711"  # QEMU's user must get through, nobody else needs to look


class Pool(Handler):
    """A directory that is made and removed with its pool."""

    token = "vre:libvirt:Pool"  # noqa: S105
    replace_on = frozenset({"name", "path"})
    ignore = frozenset({"uri"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse names and paths that cannot be."""
        path = inputs.get("path")
        good = isinstance(path, Unknown) or (isinstance(path, str) and path.startswith("/") and len(path) > 1)
        wrong = Finding(
            key="path", reason="must be a whole path of the hypervisor", example="/var/lib/libvirt/images/x"
        )
        return named(inputs) + ([] if good else [wrong])

    def diff(self, state: Props, inputs: Props) -> Changes:
        """Compare; a pool that is down is a change."""
        return revived(super().diff(state, inputs), state, "active")

    def preview(self, inputs: Props, state: Props) -> Props:
        """Everything follows from the inputs."""
        name = inputs["name"]
        return {**inputs, "uuid": UNKNOWN if isinstance(name, Unknown) else _uuid(name), "active": True}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Make the directory and the pool, or adopt what a killed run left of it."""
        name = inputs["name"]
        context.report(f"making pool {name} at {inputs['path']}")
        connection = connect(inputs["uri"], context.report)
        with told(f"pool {name}"):
            old = own("pool", name, _uuid(name), found(connection.storagePoolLookupByName, name))
            if old is not None and describe(parse(old.XMLDesc(0))) != describe(document(inputs)):
                _stop(old)
            made = connection.storagePoolDefineXML(text(document(inputs)))
            _start(made)
        return name, self.preview(inputs, {})

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Compare what is there with what was asked for."""
        connection = connect(state.get("uri", "auto"), context.report)
        with told(f"pool {resource_id}"):
            live = found(connection.storagePoolLookupByName, resource_id)
            if own("pool", resource_id, _uuid(resource_id), live) is None or live is None:
                return None
            shown, active = parse(live.XMLDesc(0)), bool(live.isActive())
        old = {key: state[key] for key in INPUTS if key in state}
        inputs = drifted(old, document(state), shown, describe) if state else describe(shown)
        return Found(inputs=inputs, outputs={**inputs, "uuid": _uuid(resource_id), "active": active})

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Bring it up."""
        connection = connect(inputs["uri"], context.report)
        with told(f"pool {resource_id}"):
            _start(connection.storagePoolLookupByName(resource_id))
        return self.preview(inputs, state)

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Remove the pool and its directory. Raises VreError when something is still in it."""
        connection = connect(state.get("uri", "auto"), context.report)
        with told(f"pool {resource_id}"):
            live = own("pool", resource_id, _uuid(resource_id), found(connection.storagePoolLookupByName, resource_id))
            if live is not None:
                _remove(live)


def document(inputs: Mapping[str, Any]) -> Element:
    """Return the XML of a pool."""
    return node(
        "pool",
        node("name", inputs["name"]),
        node("uuid", _uuid(inputs["name"])),
        node("target", node("path", inputs["path"]), node("permissions", node("mode", MODE))),
        type="dir",
    )


def describe(root: Element) -> Props:
    """Return the inputs that a pool's XML amounts to."""
    return {"name": root.findtext("name", ""), "path": root.findtext("target/path", "")}


def _uuid(name: str) -> str:
    return derived(Pool.token, name)


def _start(live: Any) -> None:
    live.setAutostart(1)
    if not live.isActive():
        live.build(module().VIR_STORAGE_POOL_BUILD_NEW)
        live.create()


def _stop(live: Any) -> None:
    if live.isActive():
        live.destroy()


def _remove(live: Any) -> None:
    if live.isActive():
        live.refresh()
        left = live.listVolumes()
        if left:
            raise VreError(
                f"pool {live.name()!r} still holds {', '.join(sorted(left))}",
                hint=f"nothing was removed; if it is not needed: virsh vol-delete --pool {live.name()} NAME",
            )
        _stop(live)
    try:
        live.delete(module().VIR_STORAGE_POOL_DELETE_NORMAL)
    except module().libvirtError as error:
        # the directory may be gone already, and then that is what was wanted
        if "No such file" not in str(error):
            raise
    live.undefine()
