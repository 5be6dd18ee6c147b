"""What comes before a launch: what it will take, said first; what stands in its way, all of it at once."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vre import preflight
from vre.cli import outputs, parts
from vre.cli.checks import Check, bad, good, looked, warning
from vre.cloud import released, stock
from vre.config import public_authority
from vre.errors import Finding, Refused
from vre.inventory import Plan
from vre.paths import cache
from vre.preflight import Facts, Need

REMOTE_PARTS = ("image-packages", "engine", "secrets", "programs")
"""What a launch on a cloud needs of this machine: no hypervisor."""
RELEASED_PARTS = ("packages", "binding", "engine", "secrets", "hypervisor")
"""What a launch from a release needs of this machine: nothing of the image is built."""
MINUTES = {"engine": 7.0, "programs": 26.0, "image": 12.0}
"""Minutes of one processor that the long parts of set-up take when nothing is cached."""
ROOM = {"engine": 2, "programs": 5, "image": 3}
"""GiB that the long parts of set-up fill below the home folder: sources, compilers' caches, what is built."""
LAUNCH = {True: 2.0, False: 6.5}
"""Minutes of a launch, with KVM and without."""


def local(stack: str) -> bool:
    """Say whether a stack's machines stand on a hypervisor of one's own."""
    return outputs.config(stack).cloud.provider == "libvirt"


def wanted(stack: str) -> tuple[str, ...]:
    """Return the parts of set-up that a stack needs; none named means: the usual ones."""
    config = outputs.config(stack)
    chosen = (config.cloud.provider, config.edge.provider, "acme" if public_authority(config) else "")
    packages = tuple(f"{each}-packages" for each in chosen if each in parts.SDKS)
    if local(stack):
        usual = tuple(part.name for part in parts.PARTS if part.usual) if packages else ()
        return (*(RELEASED_PARTS if released(config.cloud) else usual), *packages)
    # Our own image is built here, too: it says which container images the one in the cloud holds.
    material = "software" if stock(config.cloud) else "image"
    return (*REMOTE_PARTS, material, *packages)


def announce(stack: str, *, launching: bool) -> None:
    """Say what will be done, roughly how long it takes here, and what it needs."""
    todo = parts.missing()
    if released(outputs.config(stack).cloud):
        todo = [part for part in todo if part in RELEASED_PARTS]
    if not todo and not launching:
        return
    cpus = os.cpu_count() or 1
    if not local(stack):
        sys.stderr.write(remotely(stack, todo, outputs.config(stack).cloud.provider, cpus=cpus))
    else:
        needed = preflight.need(_plan(stack))
        sys.stderr.write(announcement(stack, todo, needed, launching=launching, kvm=preflight.kvm(), cpus=cpus))
    sys.stderr.write(room(todo, cache(), preflight.free(cache())))


def room(todo: list[str], where: Path, free: int) -> str:
    """Return what building will fill, beside the bytes that are free there; nothing where nothing is built. Pure.

    Said and not refused: what an interrupted set-up has built already cannot be told from what is another's.
    """
    gib = sum(ROOM.get(part, 0) for part in todo)
    if not gib:
        return ""
    told = f"Building fills up to {gib} GiB more at {where}, where {free / preflight.GIB:.0f} GiB are free.\n"
    return told if free >= gib * preflight.GIB else f"WARNING: {told}"


def remotely(stack: str, todo: list[str], provider: str, *, cpus: int) -> str:
    """Return what a launch on a cloud will do. How long the cloud takes is the cloud's to say. Pure."""
    minutes = max(1, round(sum(MINUTES[part] for part in todo) / min(cpus, 8)))
    first = f"build {', '.join(todo)} here (once, then cached; about {minutes} minutes), and " if todo else ""
    return f"This will {first}launch stack {stack} on {provider}.\n"


def announcement(stack: str, todo: list[str], needed: Need, *, launching: bool, kvm: bool, cpus: int) -> str:
    """Return what a set-up or launch will do. Pure."""
    minutes = sum(MINUTES[part] for part in todo) / min(cpus, 8) + (LAUNCH[kvm] if launching else 0)
    steps = [f"build {', '.join(todo)} (once, then cached)"] if todo else []
    steps += [f"launch stack {stack}"] if launching else []
    machine = f"{cpus} processors, {'KVM' if kvm else 'no KVM: machines are emulated, which is slow'}"
    return (
        f"This will {' and '.join(steps)}: about {max(1, round(minutes))} minutes on this machine ({machine}).\n"
        f"The stack needs {needed.memory / 1024:.1f} GiB of memory and up to {needed.disk} GiB of disk.\n"
    )


def _plan(stack: str) -> Plan:
    from vre.plan import plan

    return plan(outputs.config(stack))


def look(stack: str) -> list[Check]:
    """Return everything that is known before a launch: the stack file, the keys, this machine."""
    try:
        config = outputs.config(stack)
    except Refused as error:
        return [bad("stack file", finding.key, finding.reason, _place(finding)) for finding in error.findings]
    checks = [good("stack file", f"Pulumi.{stack}.yaml", "valid")]
    checks += looked("cloud", config.cloud.provider, lambda: _cloud(stack))
    checks += looked("engine", "Pulumi", _engine)
    checks += [bad("keys", finding.key, finding.reason, _place(finding)) for finding in _keys(stack)]
    if config.cloud.provider == "libvirt":
        checks += looked("this machine", "hypervisor", lambda: _machine(stack))
    checks += looked("accounts", config.cloud.provider, lambda: _accounts(stack))
    return checks


def _place(finding: Finding) -> str:
    return "; ".join(part for part in (finding.where, finding.example and f"for example {finding.example}") if part)


def _cloud(stack: str) -> Iterator[Check]:
    from vre import clouds

    clouds.room(outputs.config(stack))
    yield from ()


def _accounts(stack: str) -> Iterator[Check]:
    from vre import accounts

    config = outputs.config(stack)
    found = accounts.look(config)
    yield from (bad("accounts", finding.key, finding.reason, _place(finding)) for finding in found)
    asked = [name.rsplit(".", 1)[-1] for name in accounts.modules(config)]
    if asked and not found:
        yield good("accounts", ", ".join(asked), "can do what the launch needs, as far as can be asked")
        yield from _orphans(stack)


def _orphans(stack: str) -> Iterator[Check]:
    from vre.cli import orphans

    found = orphans.find(stack)
    if found:
        every = orphans.lines(found, orphans.SHOWN)
        told = f"{orphans.count(found)} with the stack's mark and not in its state:{every}"
        yield warning("accounts", "left over", told, f"delete what is not another's: {orphans.remedy(stack)}")


def _engine() -> Iterator[Check]:
    from vre import engine

    yield good("engine", "Pulumi", engine.version())


def _keys(stack: str) -> list[Finding]:
    from vre import access

    return access.check(outputs.config(stack))


def _machine(stack: str) -> Iterator[Check]:
    config, stack_plan = outputs.config(stack), _plan(stack)
    facts = preflight.probe(config, stack_plan, pool=pool(stack))
    found = preflight.judge(config, stack_plan, facts, bridge=bridge(stack))
    yield from (bad("this machine", finding.key, finding.reason, _place(finding)) for finding in found)
    yield from described(facts)


def described(facts: Facts) -> Iterator[Check]:
    """Return what was found on this machine and is no fault. Pure."""
    if facts.hypervisor:
        yield good("this machine", "hypervisor", facts.hypervisor)
    if facts.kvm:
        yield good("this machine", "KVM", "works")
    else:
        yield warning("this machine", "KVM", "does not work: machines are emulated, which is slow")
    yield good("this machine", "memory", f"{facts.memory / 1024:.1f} GiB free")
    yield good("this machine", "disk", f"{facts.disk / preflight.GIB:.0f} GiB free at {facts.disk_at}")


def pool(stack: str) -> Path:
    """Return the folder that a stack's disks lie in, as this machine sees it."""
    from vre.cloud import Libvirt
    from vre.clouds import libvirt
    from vre.provider.libvirt.connection import here

    config = outputs.config(stack)
    uri = config.cloud.uri if isinstance(config.cloud, Libvirt) else ""
    return here(uri, Path(libvirt.folder(config)))


def bridge(stack: str) -> str:
    """Return the name of the stack's own bridge, whose routes are no conflict."""
    from vre.clouds import libvirt

    return libvirt.bridge(outputs.config(stack).name)


def require(stack: str, *, prepared: bool = True) -> None:
    """Raise Refused with everything that stands in the way of a launch.

    Before set-up (`prepared` is false) keys, passphrase and hypervisor need not be there yet: it makes them.
    """
    found = _keys(stack) if prepared else []
    if local(stack):
        config, stack_plan = outputs.config(stack), _plan(stack)
        facts = preflight.probe(config, stack_plan, pool=pool(stack))
        if not prepared:
            facts = replace(facts, fault="", passphrase="")
        found += preflight.judge(config, stack_plan, facts, bridge=bridge(stack))
    if prepared:
        from vre import accounts

        found += accounts.look(outputs.config(stack))
    if found:
        raise Refused(found)
