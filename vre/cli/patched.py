"""How a machine is patched, by what it noted itself: when, what is left, whether a reboot waits, what failed. Pure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from vre.cli.checks import Check, bad, good, warning

PATCH_AGE = timedelta(hours=48)
MOMENT_AGE = timedelta(days=2)
"""A test that fails keeps security fixes away for as long."""
MARK = "----"
LOOK = f"""cat /run/vre/patch.json 2>/dev/null || cat /var/lib/vre/patch.json 2>/dev/null || echo '{{}}'
echo {MARK}; cat /var/lib/vre/upgraded 2>/dev/null; echo {MARK}; cat /var/lib/vre/failed 2>/dev/null; echo {MARK}
cat /var/lib/vre/archive.json 2>/dev/null || echo '{{}}'"""
"""What is run on a machine. The first file is there while its disk is full."""
NAMED = 4  # pending packages that are named


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What a machine says: the state of its daily upgrade, when its first boot upgraded it, why that failed.

    `archive` is the tested moment of Debian's archive that it takes, empty where it takes the newest.
    """

    state: Mapping[str, Any]
    first: str = ""
    failed: str = ""
    archive: Mapping[str, Any] = field(default_factory=dict)


def noted(told: str) -> Noted:
    """Read what LOOK prints. Raises ValueError when it is something else."""
    state, first, failed, archive = told.split(f"{MARK}\n")
    return Noted(state=json.loads(state), first=first.strip(), failed=failed.strip(), archive=json.loads(archive))


def look(name: str, found: Noted, now: datetime) -> Iterator[Check]:
    """Judge one machine."""
    if found.failed:
        yield bad("machines", f"{name} first boot", found.failed, f"vre ssh {name} -- sudo cat /var/lib/vre/failed")
    state = found.state
    about = f"{name} patches"
    if state.get("failure"):
        yield bad("machines", about, _failure(state, now), f"vre ssh {name} -- sudo systemctl start vre-patch")
    elif not _last(found):
        yield warning("machines", about, "never patched yet", f"vre ssh {name} -- sudo systemctl start vre-patch")
    else:
        yield _patched(about, found, now)
    if found.archive:
        yield _archive(f"{name} archive", found.archive, now)
    if state.get("reboot"):
        yield _reboot(name, state, now)
    if state.get("lost") and now - _time(state["lost"]["at"]) < PATCH_AGE:
        yield _lost(name, state["lost"], now)
    if state.get("components"):
        yield good("machines", f"{name} versions", _versions(state["components"], state.get("behind") or {}))


def _versions(components: Mapping[str, str], behind: Mapping[str, str]) -> str:
    """Return each component's version, and the newest that the machine's sources have where that is another."""
    newest = {part: f" (newest: {version})" for part, version in behind.items()}
    return ", ".join(f"{part} {version}{newest.get(part, '')}" for part, version in components.items())


def _patched(about: str, found: Noted, now: datetime) -> Check:
    pending = list(found.state.get("pending") or ())
    named = ", ".join(pending[:NAMED]) + (", ..." if len(pending) > NAMED else "")
    left = f"{len(pending)} pending: {named}" if pending else "nothing pending"
    since = now - _last(found)[0]
    told = f"patched {_age(since)} ago, {left}"
    if found.state.get("waits"):
        return warning("machines", about, f"{told}; waits, since {found.state['waits']}")
    if since > PATCH_AGE:
        return warning("machines", about, told, "the machine cannot reach a package mirror?")
    return good("machines", about, told)


def _archive(about: str, taken: Mapping[str, Any], now: datetime) -> Check:
    """Judge how old the state of Debian's archive is that was tested last."""
    since = now - datetime.strptime(str(taken["moment"]), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    announced = _age(now - _time(str(taken["announced"])))
    told = f"Debian as tested: {taken['moment']}, {_age(since)} old, announced {announced} ago"
    if since > MOMENT_AGE:
        return warning("machines", about, told, "does the image's daily test pass? vre packages --tested announces it")
    return good("machines", about, told)


def _last(found: Noted) -> list[datetime]:
    """Return when the machine was last patched, if ever."""
    text = found.state.get("patched") or found.first
    return [_time(str(text))] if text else []


def _failure(state: Mapping[str, Any], now: datetime) -> str:
    fault = state["failure"]
    done = f"patched {_age(now - _time(state['patched']))} ago; " if state.get("patched") else ""
    when = _age(now - _time(fault["at"]))
    return f"{done}failed {when} ago with exit code {fault['code']}: {fault['command']}\n{fault['said']}"


def _reboot(name: str, state: Mapping[str, Any], now: datetime) -> Check:
    waiting = state["reboot"]
    told = f"waits since {_age(now - _time(waiting['since']))} ({', '.join(waiting['why'])}), window {state['window']}"
    return warning("machines", f"{name} reboot", told, f"at once: vre ssh {name} -- sudo systemctl reboot")


def _lost(name: str, lost: Mapping[str, Any], now: datetime) -> Check:
    """Say which pods did not live through a change of the container runtime."""
    told = f"{', '.join(lost['pods'])} started anew {_age(now - _time(lost['at']))} ago, when it was upgraded"
    return warning("machines", f"{name} container runtime", told, "what was not saved in them is lost")


def _time(text: str) -> datetime:
    made = datetime.fromisoformat(text)
    return made if made.tzinfo else made.replace(tzinfo=UTC)


def age(seconds: float) -> str:
    """Return a length of time in its largest unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _age(since: timedelta) -> str:
    return age(max(since.total_seconds(), 0))
