"""The life of a stack on simulated clouds: previews, ups, drift, kills and failures, and what must hold after each."""

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.checkout import Checkout, clone
from tests.engine.conftest import PULUMI, Engine, Told
from tests.engine.simulated.plugins import TABLES, simulated
from tests.engine.simulated.store import Cloud, Entry, Fault, Thing

PATIENCE = 300.0  # seconds for a run to come to the call at which it is killed
MOST = 80  # runs until a stack has to be whole
RECOVER = "import sys; from vre import engine; engine.recover(sys.argv[1], print)"
PLAIN = ("--non-interactive", "--color", "never")
REPLACED = ("create-replacement", "delete-replaced", "replace")
NOT_THINGS = ("pulumi:", "vre:crypto:", "vre:cloud:")
PASSING = "vre:service:Door"
"""It makes nothing: with the machine behind it, it is simply no more."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What the engine would do with one resource, in its own words."""

    type: str
    name: str
    action: str


@dataclass(frozen=True, kw_only=True)
class Life:
    """One stack, its engine and its cloud."""

    engine: Engine
    cloud: Cloud
    stack: str
    said: list[str] = field(default_factory=list)
    """Everything that the engine has said so far."""

    def run(self, *words: str) -> Told:
        """Run an action of the engine on the stack to its end, however it ends."""
        told = self.engine.pulumi(*words, "--stack", self.stack)
        self.said.append(told.text)
        return told

    def succeeds(self, *words: str) -> str:
        """Run an action that has to end well; return what it said."""
        told = self.run(*words)
        assert told.code == 0, told.text
        return told.text

    def fails(self, *words: str) -> str:
        """Run an action that must not end well; return what it said."""
        told = self.run(*words)
        assert told.code != 0, told.text
        return told.text

    def preview(self, *flags: str) -> str:
        """Preview."""
        return self.succeeds("preview", *flags)

    def up(self, *flags: str) -> str:
        """Bring it up."""
        return self.succeeds("up", "--yes", "--skip-preview", *flags)

    def refresh(self) -> str:
        """Look at everything that stands."""
        return self.succeeds("refresh", "--yes", "--skip-preview")

    def destroy(self) -> None:
        """Destroy it. Nothing is left."""
        self.succeeds("destroy", "--yes", "--skip-preview")
        self.gone()

    def gone(self) -> None:
        """Hold that nothing is left in the cloud but what was there before."""
        assert [thing for thing in self.cloud.resources() if thing.type != PASSING] == []

    def planned(self, plugin: str = "") -> dict[str, str]:
        """Return what the next `up` would do, by the resource's name: create, update, replace, delete.

        Of one plugin's resources only, where it is named: others may have the same names.
        """
        return _todo({step.name: step.action for step in self._steps(plugin)})

    def planned_by_type(self, plugin: str) -> dict[str, str]:
        """Return the same by `TYPE NAME`, since things of several types may have the same name."""
        return _todo({f"{step.type} {step.name}": step.action for step in self._steps(plugin)})

    def _steps(self, plugin: str) -> list[Step]:
        told = self.engine.pulumi("preview", "--json", "--stack", self.stack)
        self.said.append(told.text)
        assert told.code == 0, told.text
        steps = json.loads(told.text[told.text.index("{") :]).get("steps") or []
        every = [Step(type=_type(each["urn"]), name=_name(each["urn"]), action=each["op"]) for each in steps]
        return [each for each in every if each.type.startswith(plugin)]

    def whole(self) -> None:
        """Hold that the stack is as it was asked for: nothing to do, nothing twice, nothing forgotten, nothing gone."""
        self.preview("--expect-no-changes", "--refresh")
        assert self.orphans() == []
        assert self.phantoms() == []

    def orphans(self) -> list[Thing]:
        """Return what stands in the cloud and in no state: made twice, or forgotten.

        What a cloud makes by itself beside a resource was declared by nobody, and has no name of the engine's.
        """
        known = {(each["type"], each.get("id")) for each in self.engine.resources(self.stack)}
        things = [thing for thing in self.cloud.resources() if thing.urn and thing.type != PASSING]
        return [thing for thing in things if (thing.type, thing.id) not in known]

    def phantoms(self) -> list[str]:
        """Return what stands in the state and not in the cloud."""
        there = {(thing.type, thing.id) for thing in self.cloud.resources(given=True)}
        every = self.engine.resources(self.stack)
        things = [each for each in every if each.get("custom") and not each["type"].startswith(NOT_THINGS)]
        return [str(each["urn"]) for each in things if (each["type"], each.get("id")) not in there]

    def fail_in_turn(self, *faults: Fault, action: str = "up", go_on: bool = True) -> list[Entry]:
        """Run an action until it succeeds, while the first call of each type (or resource, by `once_per`) goes wrong.

        Return the calls that went wrong. Every run that fails must have met a fault that none met before. With `go_on`
        a run does what does not hang on the failure. Not where things are made anew: there the engine then deletes
        what others still use, and may wait for ever (https://github.com/pulumi/pulumi/issues/16373).
        """
        assert all(fault.once_per for fault in faults)
        before = len(self._hit())
        self.cloud.plan(*faults)
        seen = before
        flags = ["--continue-on-error"] if go_on else []
        for _ in range(MOST):
            told = self.run(action, "--yes", "--skip-preview", *flags)
            met = self._hit()
            if told.code == 0:
                self.cloud.plan()
                return met[before:]
            assert len(met) > seen, f"it fails, and nobody made it fail:\n{told.text}"
            seen = len(met)
        raise AssertionError(f"no good end of {action} after {MOST} runs")

    def kill(self, fault: Fault, *words: str, quiet: float = 0.0) -> Entry:
        """Start `up` (or what `words` say), kill engine and plugins when the fault's call hangs, and clear the lock.

        With `quiet`, only when nothing else has been asked of the cloud for so many seconds.
        """
        before = len(self._hit())
        self.cloud.plan(fault)
        action = words or ("up", "--yes", "--skip-preview")
        command = [str(PULUMI), *action, "--stack", self.stack, *PLAIN]
        place = self.engine.checkout
        with (place.state / "killed.log").open("w") as log:
            running = subprocess.Popen(command, cwd=place.path, env=dict(place.env), stdout=log, stderr=log)
        try:
            _until(lambda: len(self._hit()) > before or running.poll() is not None)
            self._settle(quiet)
        finally:
            _kill(running)
        self.said.append((place.state / "killed.log").read_text())
        assert len(self._hit()) > before, self.said[-1]
        self.cloud.plan()
        self.recover()
        return self._hit()[-1]

    def _settle(self, quiet: float) -> None:
        """Wait until nothing has been asked of the cloud for a while."""
        _until(lambda: time.time() - max(each.at for each in self.cloud.journal()) >= quiet)

    def recover(self) -> None:
        """Clear what a killed run left, as `vre up` does."""
        told = self.engine.run(sys.executable, "-c", RECOVER, self.stack)
        assert told.code == 0, told.text

    def configure(self, config: str) -> None:
        """Change what stands below `config:` in the stack file; the stack's salt is kept."""
        file = self.engine.checkout.path / "stacks" / f"Pulumi.{self.stack}.yaml"
        salt = [line for line in file.read_text().splitlines() if line.startswith("encryptionsalt:")]
        file.write_text("\n".join([*salt, "config:", config]))

    def _hit(self) -> list[Entry]:
        return [entry for entry in self.cloud.journal() if entry.fault]


def begin(
    target: Path, stack: str, config: str, plugins: Iterable[str], *, env: Mapping[str, str] | None = None
) -> Life:
    """Make a clone with these simulated plugins and a stack with what stands below `config:` in its file."""
    checkout, cloud = simulated(clone(target), {name: TABLES[name] for name in plugins})
    engine = Engine(checkout=Checkout(path=checkout.path, env={**checkout.env, **(env or {})}))
    engine.stack(stack, config)
    return Life(engine=engine, cloud=cloud, stack=stack)


def _todo(actions: Mapping[str, str]) -> dict[str, str]:
    """Return those that do something; a replacement is one, whatever its parts."""
    done = {what: "replace" if action in REPLACED else action for what, action in actions.items()}
    return {what: action for what, action in done.items() if action not in ("same", "read", "refresh")}


def _name(urn: str) -> str:
    return urn.split("::")[-1]


def _type(urn: str) -> str:
    return urn.split("::")[2].split("$")[-1]


def _until(holds: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started, each by its number."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        family = []
    for each in family:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(family, timeout=10)
