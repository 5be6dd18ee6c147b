"""A libvirt domain: one virtual machine, defined and running."""

from pathlib import PurePosixPath
from typing import Any

from vre.errors import Finding, VreError
from vre.progress import Report
from vre.provider.handler import UNKNOWN, Changes, Context, Found, Handler, Props, Unknown
from vre.provider.libvirt import host
from vre.provider.libvirt.accelerator import kvm_works
from vre.provider.libvirt.connection import connect, found, is_local, module, told
from vre.provider.libvirt.identity import known, named, revived
from vre.provider.libvirt.machine import describe, document, is_ours
from vre.provider.libvirt.power import power_off, shut_down
from vre.provider.libvirt.xml import attribute, drifted, parse, text

INPUTS = (
    "uri",
    "name",
    "cpus",
    "memory",
    "accelerator",
    "firmware",
    "disks",
    "interfaces",
    "console",
    "autostart",
    "metadata",
)
ACCELERATORS = ("auto", "kvm", "tcg")
LEAST_MEMORY = 128  # MiB
QUIET = frozenset({"autostart", "metadata", "running"})  # what changes without a restart
GRACE = 60.0  # seconds that a machine has for shutting down; slow ones are not worth losing data for
STEP = 0.5


class Domain(Handler):
    """Processors and memory change in place, by shutting down and starting again; disks and interfaces do not."""

    token = "vre:libvirt:Domain"  # noqa: S105
    replace_on = frozenset({"name", "firmware", "disks", "interfaces"})
    ignore = frozenset({"uri"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse sizes, words, disks and interfaces that cannot be."""
        findings = named(inputs) + _bad_number(inputs, "cpus", 1) + _bad_number(inputs, "memory", LEAST_MEMORY)
        for key, allowed in (("accelerator", ACCELERATORS), ("firmware", ("efi",))):
            if known(inputs.get(key)) and inputs[key] not in allowed:
                findings.append(Finding(key=key, reason=f"must be one of {', '.join(allowed)}"))
        return (
            findings
            + _bad_items(inputs, "disks", ("volume", "format", "device", "target"))
            + _bad_items(inputs, "interfaces", ("network", "mac"))
        )

    def normalise(self, inputs: Props) -> Props:
        """Fill in what a headless machine needs."""
        defaults = {"accelerator": "auto", "firmware": "efi", "console": "", "autostart": True, "metadata": {}}
        return {**defaults, "disks": [], "interfaces": [], **inputs}

    def diff(self, state: Props, inputs: Props) -> Changes:
        """Compare; a machine that is off is a change, another accelerator only when it was asked for by name."""
        any_will_do = inputs.get("accelerator") == "auto"
        own = {**inputs, "accelerator": state.get("accelerator")} if any_will_do else inputs
        return revived(super().diff(state, own), state, "running")

    def preview(self, inputs: Props, state: Props) -> Props:
        """The UUID is new with each machine, so that what lies in it is made anew too."""
        accelerator = inputs.get("accelerator")
        used = (state.get("accelerator") or UNKNOWN) if accelerator == "auto" else accelerator
        return {"uuid": UNKNOWN, **state, **inputs, "accelerator": used, "running": True}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Define and start it. One that a killed run left is adopted if it is the same, else made again."""
        name = inputs["name"]
        connection = connect(inputs["uri"], context.report)
        with told(f"machine {name}"):
            old = _own(name, found(connection.lookupByName, name))
            chosen = _chosen(context, connection, inputs)
            if old is not None and not _same(old, chosen):
                _remove(context, connection, old, grace=0)
                old = None
            made = old or connection.defineXML(text(document(chosen, khz=counter(connection))))
            try:
                made.setAutostart(int(inputs["autostart"]))
                _start(context, made, chosen)
            except BaseException:
                if old is None:
                    _remove(context, connection, made, grace=0)
                raise
        return name, _outputs(made, chosen)

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Compare what is defined with what was asked for, and see whether it runs."""
        connection = connect(state.get("uri", "auto"), context.report)
        with told(f"machine {resource_id}"):
            live = _own(resource_id, found(connection.lookupByName, resource_id))
            if live is None:
                return None
            shown = parse(live.XMLDesc(module().VIR_DOMAIN_XML_INACTIVE))
            seen = {"running": bool(live.isActive()), "autostart": bool(live.autostart())}
        old = {key: state[key] for key in INPUTS if key in state}
        inputs = drifted(old, document(state), shown, describe) if state else describe(shown)
        inputs["autostart"] = seen["autostart"]
        outputs = {**inputs, **seen, "accelerator": describe(shown)["accelerator"], "uuid": live.UUIDString()}
        return Found(inputs=inputs, outputs=outputs)

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Define it again under its UUID, restart it if it must, start it if it is off."""
        connection = connect(inputs["uri"], context.report)
        with told(f"machine {resource_id}"):
            _own(resource_id, connection.lookupByName(resource_id))
            kept = inputs["accelerator"] == "auto" and state.get("accelerator") in ("kvm", "tcg")
            wanted = {**inputs, "accelerator": state["accelerator"]} if kept else inputs
            chosen = _chosen(context, connection, wanted)
            changed = {key for key in INPUTS if key != "uri" and state.get(key) != chosen.get(key)} - QUIET
            live = connection.defineXML(text(document(chosen, uuid=state["uuid"], khz=counter(connection))))
            live.setAutostart(int(inputs["autostart"]))
            if changed and live.isActive():
                _stop(context, live, grace=GRACE)
            _start(context, live, chosen)
        return _outputs(live, chosen)

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Shut it down, and remove it with its firmware variables and its console's log."""
        connection = connect(state.get("uri", "auto"), context.report)
        with told(f"machine {resource_id}"):
            live = _own(resource_id, found(connection.lookupByName, resource_id))
            if live is not None:
                _remove(context, connection, live, grace=GRACE)


def _own(name: str, existing: Any | None) -> Any | None:
    libvirt = module()
    if existing is None or is_ours(parse(existing.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))):
        return existing
    raise VreError(
        f"the hypervisor has a machine {name!r} that this project did not make",
        hint="choose another name in the stack file, or remove it with virsh",
    )


def counter(connection: Any) -> int:
    """Return the frequency in kHz of the hypervisor's time stamp counter; 0 where libvirt does not know it."""
    counter = parse(connection.getCapabilities()).find("host/cpu/counter[@name='tsc']")
    return int(counter.get("frequency", "0")) // 1000 if counter is not None else 0


def _same(live: Any, chosen: Props) -> bool:
    shown = parse(live.XMLDesc(module().VIR_DOMAIN_XML_INACTIVE))
    return describe(shown) == describe(document(chosen))


def _chosen(context: Context, connection: Any, inputs: Props) -> Props:
    """Return the inputs with the accelerator that will be used, and say which; warn of the slow one if none was named.

    A state names the one that it got, so that this is said once for each machine.
    """
    if inputs["accelerator"] != "auto":
        return inputs
    accelerator = "kvm" if _has_kvm(connection, context.report) else "tcg"
    context.report(f"{inputs['name']} runs with {accelerator}")
    if accelerator == "tcg":
        context.warn(f"{inputs['name']} is emulated, about ten times slower: no KVM that works {_at(connection)}")
    return {**inputs, "accelerator": accelerator}


def _at(connection: Any) -> str:
    uri = str(connection.getURI())
    return "on this machine" if is_local(uri) else f"at {uri}"


def _has_kvm(connection: Any, report: Report) -> bool:
    """KVM of another host cannot be tried from here: there, what libvirt says has to do."""
    return kvm_works(report) if is_local(connection.getURI()) else host.kvm(connection)


def _start(context: Context, live: Any, chosen: Props) -> None:
    if not live.isActive():
        context.report(f"starting {chosen['name']} ({chosen['cpus']} CPUs, {chosen['memory']} MiB)")
        live.create()


def _stop(context: Context, live: Any, *, grace: float) -> None:
    """Ask it to shut down; take its power away when it has not after `grace` seconds."""
    waited = 0.0
    asked = bool(grace) and bool(live.isActive()) and shut_down(live)
    while asked and live.isActive() and waited < grace:
        context.report(f"{live.name()} is shutting down")
        context.pause(STEP)
        waited += STEP
    if grace and live.isActive():
        context.report(f"{live.name()} does not shut down: switching it off")
    power_off(live)


def _remove(context: Context, connection: Any, live: Any, *, grace: float) -> None:
    libvirt = module()
    console = attribute(parse(live.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)), "devices/serial/source", "path")
    _stop(context, live, grace=grace)
    live.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
    if console:
        _remove_file(connection, console)


def _remove_file(connection: Any, path: str) -> None:
    """The file may be of another host, or of another mount namespace: libvirt removes it, as a volume of its pool."""
    where = PurePosixPath(path)
    pool = found(connection.storagePoolLookupByTargetPath, str(where.parent))
    if pool is None or not pool.isActive():
        return
    pool.refresh()
    file = found(pool.storageVolLookupByName, where.name)
    if file is not None:
        file.delete()


def _outputs(live: Any, chosen: Props) -> Props:
    return {**chosen, "uuid": live.UUIDString(), "running": True}


def _bad_number(inputs: Props, key: str, least: int) -> list[Finding]:
    value = inputs.get(key)
    if isinstance(value, Unknown) or (isinstance(value, int) and value >= least):
        return []
    return [Finding(key=key, reason=f"must be a whole number, at least {least}", example=str(max(2, least)))]


def _bad_items(inputs: Props, key: str, needed: tuple[str, ...]) -> list[Finding]:
    items = inputs.get(key) or []
    if isinstance(items, Unknown):
        return []
    return [
        Finding(key=f"{key}[{index}].{word}", reason="is missing")
        for index, item in enumerate(items)
        if not isinstance(item, Unknown)
        for word in needed
        if not item.get(word)
    ]
