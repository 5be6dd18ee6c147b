"""What comes before a launch: what it will take, said first; what stands in its way, all of it at once."""

import os
import sys
from collections.abc import Iterator

from vre import preflight
from vre.cli import building, obstacles, outputs, parts
from vre.cli.checks import Check, bad, good, looked, warning
from vre.cloud import released, stock
from vre.config import public_authority
from vre.errors import Finding, Refused, VreError
from vre.plan import plan
from vre.preflight import Facts, Need

REMOTE_PARTS = ("image-packages", "engine", "secrets", "programs")
"""What a launch on a cloud needs of this machine: no hypervisor."""
MINUTES = {"engine": 6.0, "programs": 18.0, "image": 8.0}
"""Minutes of one processor that the long parts of set-up take when nothing is cached."""
LAUNCH = {True: 2.0, False: 5.0}
"""Minutes of a launch, with KVM and without."""


def wanted(stack: str) -> tuple[str, ...]:
    """Return the parts of set-up that a stack needs; none named means: the usual ones."""
    config = outputs.config(stack)
    chosen = (config.cloud.provider, config.edge.provider, "acme" if public_authority(config) else "")
    packages = tuple(f"{each}-packages" for each in chosen if each in parts.SDKS)
    if config.cloud.provider == "libvirt":
        usual = tuple(part.name for part in parts.PARTS if part.usual) if packages else ()
        return (*(parts.RELEASED if released(config.cloud) else usual), *packages)
    # Our own image is built here, too: it says which container images the one in the cloud holds.
    material = "software" if stock(config.cloud) else "image"
    return (*REMOTE_PARTS, material, *packages)


def announce(stack: str, *, launching: bool) -> None:
    """Say what will be done, roughly how long it takes here, and what it needs."""
    config = outputs.config(stack)
    todo = obstacles.todo(config)
    if not todo and not launching:
        return
    cpus = os.cpu_count() or 1
    if config.cloud.provider != "libvirt":
        sys.stderr.write(remotely(stack, todo, config.cloud.provider, cpus=cpus))
    else:
        needed, kvm, host = preflight.need(plan(config)), preflight.accelerated(config), preflight.host(config)
        told = announcement(stack, todo, needed, launching=launching, kvm=kvm, cpus=cpus, host=host)
        sys.stderr.write(told)
    sys.stderr.write(building.told(obstacles.construction(config, todo)))


def remotely(stack: str, todo: list[str], provider: str, *, cpus: int) -> str:
    """Return what a launch on a cloud will do. How long the cloud takes is the cloud's to say. Pure."""
    minutes = max(1, round(_minutes(todo, cpus)))
    first = f"build {', '.join(todo)} here (once, then cached; about {minutes} minutes), and " if todo else ""
    return f"This will {first}launch stack {stack} on {provider}.\n"


def announcement(
    stack: str, todo: list[str], needed: Need, *, launching: bool, kvm: bool | None, cpus: int, host: str = ""
) -> str:
    """Return what a set-up or launch will do. Pure.

    `kvm` is None as long as nobody can say; `host` is the hypervisor's machine where that is not this one.
    """
    first = _minutes(todo, cpus)
    steps = [f"build {', '.join(todo)} (once, then cached)"] if todo else []
    steps += [f"launch stack {stack}"] if launching else []
    lasts = {known: max(1, round(first + (LAUNCH[known] if launching else 0))) for known in (True, False)}
    minutes = f"{lasts[bool(kvm)]} minutes on this machine"
    if kvm is None and lasts[True] != lasts[False]:
        minutes = f"{lasts[True]} minutes on this machine with KVM, {lasts[False]} without"
    return (
        f"This will {' and '.join(steps)}: about {minutes} ({_machine_told(kvm, cpus, host)}).\n"
        f"The stack needs {needed.memory / 1024:.1f} GiB of memory and up to {needed.disk} GiB of disk"
        f"{f' on {host}' if host else ''}.\n"
    )


def _minutes(todo: list[str], cpus: int) -> float:
    """Return how long these parts of set-up take on so many processors, of which a build uses eight at most."""
    return sum(MINUTES[part] for part in todo) / min(cpus, 8)


def _machine_told(kvm: bool | None, cpus: int, host: str) -> str:
    there = f" on {host}" if host else ""
    if kvm is None:
        when = "is asked once libvirt answers" if host else "is tried once QEMU is installed"
        return f"{cpus} processors; whether KVM works{there} {when}"
    told = f"KVM{there}" if kvm else f"no KVM{there}: machines are emulated, which is slow"
    return f"{cpus} processors, {told}"


def look(stack: str) -> list[Check]:
    """Return everything that is known before a launch: the stack file, the keys, this machine."""
    try:
        seen = obstacles.see(stack)
    except Refused as error:
        return [bad("stack file", finding.key, finding.reason, _place(finding)) for finding in error.findings]
    checks = [bad(area, finding.key, finding.reason, _place(finding)) for area, finding in seen.faults]
    if not any(area == "stack file" for area, _ in seen.faults):
        checks.insert(0, good("stack file", f"Pulumi.{stack}.yaml", "valid"))
    checks += looked("engine", "Pulumi", _engine)
    checks += described(seen.facts) if seen.facts else []
    if seen.config and seen.accounts:
        checks += looked("accounts", seen.config.cloud.provider, lambda: _able(stack, seen.accounts))
    return checks


def _place(finding: Finding) -> str:
    return "; ".join(part for part in (finding.where, finding.example and f"for example {finding.example}") if part)


def _able(stack: str, asked: tuple[str, ...]) -> Iterator[Check]:
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


def _no_engine() -> list[Finding]:
    from vre import engine

    try:
        engine.version()
    except VreError as error:
        return [Finding(key="engine", reason=error.message, example=error.hint)]
    return []


def described(facts: Facts) -> Iterator[Check]:
    """Return what was found where machines will stand and is no fault. Pure."""
    if facts.hypervisor:
        yield good(facts.place, "hypervisor", facts.hypervisor)
    if facts.kvm:
        yield good(facts.place, "KVM", "libvirt offers it" if facts.host else "works")
    elif facts.kvm is not None:
        yield warning(facts.place, "KVM", "does not work: machines are emulated, which is slow")
    elif not facts.host:
        yield warning(facts.place, "KVM", "is tried once QEMU is installed: without it machines are slow")
    if facts.memory is not None:
        yield good(facts.place, "memory", f"{facts.memory / 1024:.1f} GiB free")
    if facts.disk is not None:
        yield good(facts.place, "disk", f"{facts.disk / preflight.GIB:.0f} GiB free at {facts.disk_at}")


def require(stack: str, *, prepared: bool = True) -> None:
    """Raise Refused with everything that stands in the way of a launch.

    Before set-up (`prepared` is false) keys, passphrase, hypervisor and packages need not be there yet: it makes them.
    """
    found = [finding for _, finding in obstacles.see(stack, prepared=prepared).faults]
    found += _no_engine() if prepared else []
    if found:
        raise Refused(found)


def require_room(stack: str) -> None:
    """Raise Refused where what set-up builds has no room on this machine, whatever becomes of the stack."""
    config = outputs.config(stack)
    found = building.faults(obstacles.construction(config, obstacles.todo(config), launching=False))
    if found:
        raise Refused(found)
