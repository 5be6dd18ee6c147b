"""What stands in the way of a launch, all of it at once: stack file, keys, machine, room for building, accounts."""

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from vre import accounts, chosen, preflight, stackfile
from vre.cli import building, parts
from vre.cli.building import Building
from vre.cloud import Libvirt, released, stock
from vre.config import Config
from vre.errors import Finding, VreError
from vre.load import apart, placed, steps
from vre.plan import plan
from vre.preflight import Facts
from vre.review import review


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was looked at before a launch: every fault with the area that it is of, and what this machine has.

    `config` is what the stack file asks for, None where nothing can be made of it. `accounts` were asked and are well.
    """

    faults: tuple[tuple[str, Finding], ...]
    config: Config | None = None
    facts: Facts | None = None
    accounts: tuple[str, ...] = ()


def see(stack: str, *, prepared: bool = True) -> Seen:
    """Look at everything that can stand in the way of a launch. Raises Refused where the stack file is no such file.

    One wrong thing does not hide another: what hangs on it alone is left out. Before set-up (`prepared` is false) what
    that makes need not be there: keys, passphrase, the hypervisor, packages of clouds.
    """
    file = stackfile.read(stackfile.path(stack))
    config, first = review(file, prepared=prepared)
    found = [("stack file", each) for each in first]
    if config is None:
        return Seen(faults=tuple(found))
    facts: Facts | None = None
    later: list[tuple[str, Finding]] = []
    if config.cloud.provider == "libvirt":
        facts, later = _machine(config, prepared=prepared)
    later += [("set-up", each) for each in building.faults(construction(config, todo(config), facts))]
    asked = _clear(first) and (prepared or _installed(config))
    refused = _accounts(config) if asked else []
    later += [("accounts", each) for each in refused]
    found += [(area, placed(each, file)) for area, each in later if apart([each], first)]
    able = _named(config) if asked and not refused else ()
    return Seen(faults=tuple(found), config=config, facts=facts, accounts=able)


def _clear(found: list[Finding]) -> bool:
    """Say whether it is known whose accounts will be used: nothing is wrong with what names them."""
    return not any(steps(each.key)[0] in {"cloud", "edge"} for each in found)


def _named(config: Config) -> tuple[str, ...]:
    return tuple(name.rpartition(".")[2] for name in accounts.modules(config))


def _installed(config: Config) -> bool:
    """Say whether what asks a stack's accounts is installed; set-up does that."""
    try:
        for name in _named(config):
            chosen.module("accounts", name)
    except VreError:
        return False
    return True


def _accounts(config: Config) -> list[Finding]:
    try:
        return accounts.look(config)
    except VreError as error:
        return [Finding(key="vre:cloud.provider", reason=error.message, example=error.hint)]


def _machine(config: Config, *, prepared: bool) -> tuple[Facts | None, list[tuple[str, Finding]]]:
    from vre.clouds import libvirt

    wanted = plan(config)
    area = preflight.host(config) or "this machine"
    try:
        facts = preflight.probe(config, wanted, pool=pool(config))
    except VreError as error:
        return None, [(area, Finding(key="vre:cloud.uri", reason=error.message, example=error.hint))]
    if not prepared:
        # Set-up installs what asks a hypervisor and starts this machine's own, but mends no other machine's.
        made = not facts.host or find_spec("libvirt") is None
        facts = replace(facts, fault="" if made else facts.fault, passphrase="")
    found = preflight.judge(config, wanted, facts, bridge=libvirt.bridge(config.name))
    return facts, [(area, each) for each in found]


def todo(config: Config) -> list[str]:
    """Return the long parts of set-up that are still to be done for a stack; one on others' images builds none."""
    missing = parts.missing()
    if released(config.cloud):
        return [part for part in missing if part in parts.RELEASED]
    return [part for part in missing if part != "image" or not stock(config.cloud)]


def construction(config: Config, todo: list[str], facts: Facts | None = None, *, launching: bool = True) -> Building:
    """Return what building these parts takes here, beside what the stack's disks still take if it is launched."""
    here = launching and isinstance(config.cloud, Libvirt) and not preflight.host(config)
    disks = preflight.need(plan(config), facts.running if facts else (), facts.taken if facts else {}).disk
    return building.look(todo, parts.unbuilt(), pool=pool(config) if here else None, disks=disks)


def pool(config: Config) -> Path:
    """Return the folder that a stack's disks lie in, as this machine sees it."""
    from vre.clouds import libvirt
    from vre.provider.libvirt.connection import here

    uri = config.cloud.uri if isinstance(config.cloud, Libvirt) else ""
    return here(uri, Path(libvirt.folder(config)))
