"""The engine driven for a person: what a killed run left is mended, events become lines, faults get words of ours."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vre import engine, events, run, stackfile
from vre.cli import timeline
from vre.errors import VreError
from vre.events import Timeline, follow, title

MACHINE = "urn:pulumi:local::vre::vre:site:Site$vre:machine:Machine::local-control"
STACK = "urn:pulumi:local::vre::pulumi:pulumi:Stack::vre-local"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("error: getting secrets manager: incorrect passphrase", "the passphrase does not open"),
        ("error: passphrase must be set with PULUMI_CONFIG_PASSPHRASE", "no passphrase was given"),
        ("error: the stack is currently locked by 1 lock(s)", "another run is at work"),
        ("error: no stack named 'x' found", "there is no such stack"),
        ("error: current Pulumi CLI version does not satisfy the version requirement", "engine is too old"),
    ],
)
def test_known_faults_of_the_engine_get_our_words(said: str, told: str) -> None:
    explained = engine.explain(VreError(f"failed with exit code 255: pulumi\n    {said}"))
    assert told in explained.message
    assert explained.hint


def test_other_faults_are_told_as_they_are() -> None:
    error = VreError("something else", hint="hm")
    assert engine.explain(error) is error


@pytest.mark.parametrize("said", ["v3.258.9", "v3.100.0\n", "2.99.1"])
def test_an_engine_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(engine, "pulumi", lambda *words: said)
    with pytest.raises(VreError, match=r"3\.259\.0 or newer is needed") as told:
        engine.version()
    assert "make setup" in told.value.hint


@pytest.mark.parametrize("said", ["v3.259.0", "v3.260.1-dev", "v4.0.0"])
def test_an_engine_that_fits_is_taken(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(engine, "pulumi", lambda *words: said)
    assert engine.version() == said.removeprefix("v")


def test_pending_operations_are_dropped_and_nothing_else() -> None:
    kept = {"manifest": {}, "resources": [{"urn": STACK}]}
    exported = {"version": 3, "deployment": {**kept, "pending_operations": [{"type": "creating"}]}}
    assert engine.without_pending(exported) == {"version": 3, "deployment": kept}
    assert engine.without_pending({"version": 3, "deployment": kept}) is None
    assert engine.without_pending({"version": 3, "deployment": None}) is None


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write locks as the engine does, in a backend of the test's own."""
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}")

    def write(pid: int, *, stack: str = "local", host: str = "") -> Path:
        folder = tmp_path / ".pulumi" / "locks" / "organization" / "vre" / stack
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{pid}.json"
        file.write_text(json.dumps({"pid": pid, "hostname": host or socket.gethostname()}))
        return file

    return write


@pytest.fixture
def engine_process(tmp_path: Path) -> Any:
    """A process that looks like an engine at work."""
    program = tmp_path / "pulumi"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    process = subprocess.Popen([program, "60"])
    deadline = time.monotonic() + 10
    while "pulumi" not in Path(f"/proc/{process.pid}/comm").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


def test_who_holds_a_lock(locks: Callable[..., Path], engine_process: Any) -> None:
    assert engine.holder(locks(engine_process.pid)) == engine_process.pid
    assert engine.holder(locks(os.getpid())) is None  # it lives, but is no engine
    assert engine.holder(locks(2**22 + 1)) is None
    assert engine.holder(locks(7, host="another-machine")) == 0
    broken = locks(8)
    broken.write_text("{")
    assert engine.holder(broken) is None
    assert len(engine.locks("local")) == 5
    assert engine.locks("other") == []


def test_a_backend_elsewhere_has_no_lock_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://bucket")
    assert engine.locks("local") == []


class Fake:
    """An engine that keeps one state, and remembers what it was told."""

    def __init__(self, deployment: dict[str, Any]) -> None:
        self.deployment = deployment
        self.told: list[str] = []

    def __call__(self, *words: str, stdin: str | None = None, timeout: float = 0) -> str:
        self.told.append(" ".join(words))
        if words[:2] == ("stack", "export"):
            return json.dumps({"version": 3, "deployment": self.deployment})
        if words[:2] == ("stack", "import"):
            self.deployment = json.loads(stdin or "")["deployment"]
        return ""


def test_a_killed_run_is_mended_and_a_second_time_nothing_is_done(
    locks: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake({"resources": [], "pending_operations": [{"type": "creating"}]})
    monkeypatch.setattr(engine, "pulumi", fake)
    lock = locks(2**22 + 1)
    engine.recover("local")
    assert fake.told == ["cancel --yes local", "stack export --stack local", "stack import --stack local"]
    assert fake.deployment == {"resources": []}
    lock.unlink()
    fake.told.clear()
    engine.recover("local")
    assert fake.told == ["stack export --stack local"]


def test_an_empty_file_beside_the_state_goes_and_a_whole_one_stays(
    locks: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "pulumi", Fake({}))
    lock = locks(2**22 + 1)
    stacks = next(each for each in lock.parents if each.name == "locks").parent / "stacks" / "vre"
    stacks.mkdir(parents=True)
    lock.unlink()
    cut, whole = stacks / "local.json.attrs", stacks / "other.json.attrs"
    cut.touch()
    engine.recover("local")
    assert not cut.exists()
    whole.write_text("{}")
    engine.recover("other")
    assert whole.exists()


def test_what_keeps_the_engine_from_the_state_goes_before_the_engine_is_asked(
    locks: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine reads the state also to take a lock away: a run that was killed in the midst of writing left both."""
    lock = locks(2**22 + 1)
    stacks = next(each for each in lock.parents if each.name == "locks").parent / "stacks" / "vre"
    stacks.mkdir(parents=True)
    for name in ("local.json", "local.json.attrs", "local.json.18ebf7f8.tmp", "local.json.bak", "other.json.1.tmp"):
        (stacks / name).touch()
    there: list[list[str]] = []

    def pulumi(*words: str, stdin: str | None = None, timeout: float = 0) -> str:
        there.append(sorted(each.name for each in stacks.iterdir()))
        return "{}"

    monkeypatch.setattr(engine, "pulumi", pulumi)
    engine.recover("local")
    assert there == [["local.json", "local.json.bak", "other.json.1.tmp"]] * 2


@pytest.mark.requirement("P-48")
def test_a_lock_from_another_machine_is_not_broken(locks: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake({})
    monkeypatch.setattr(engine, "pulumi", fake)
    locks(7, host="another-machine")
    with pytest.raises(VreError, match="locked from another machine"):
        engine.recover("local")
    assert fake.told == []


def test_a_run_that_ends_is_waited_for(
    locks: Callable[..., Path], engine_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake({})
    monkeypatch.setattr(engine, "pulumi", fake)
    lock = locks(engine_process.pid)
    told: list[str] = []

    def report(message: str) -> None:
        told.append(message)
        engine_process.kill()
        engine_process.wait()
        lock.unlink()

    engine.recover("local", report)
    assert "still at work on stack local" in told[0]
    assert fake.told == ["stack export --stack local"]


def test_the_salt_goes_out_of_the_file_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, link = tmp_path / "mine.yaml", tmp_path / "Pulumi.local.yaml"
    file.write_text("config: {}\nencryptionsalt: v1:abc\n")
    file.chmod(0o640)
    link.symlink_to(file)
    monkeypatch.setattr(stackfile, "path", lambda stack: link)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            engine.forget_salt("local")
    assert "encryptionsalt" in file.read_text()
    engine.forget_salt("local")
    assert (file.read_text(), file.stat().st_mode & 0o777, link.is_symlink()) == ("config: {}\n", 0o640, True)


def pre(urn: str, operation: str, kind: str = "vre:machine:Machine") -> dict[str, Any]:
    return {"resourcePreEvent": {"metadata": {"urn": urn, "op": operation, "type": kind, "new": {"custom": True}}}}


def done(urn: str, operation: str) -> dict[str, Any]:
    return {"resOutputsEvent": {"metadata": {"urn": urn, "op": operation}}}


def failed(urn: str, operation: str) -> dict[str, Any]:
    return {"resOpFailedEvent": {"metadata": {"urn": urn, "op": operation}}}


def said(message: str, severity: str = "info", urn: str = "", *, ephemeral: bool = False) -> dict[str, Any]:
    return {"diagnosticEvent": {"message": message, "severity": severity, "urn": urn, "ephemeral": ephemeral}}


def test_a_launch_as_lines() -> None:
    now = [0.0]
    view = Timeline(clock=lambda: now[0])
    assert view.feed(pre(STACK, "create", "pulumi:pulumi:Stack")) == []
    assert view.feed(pre(MACHINE, "create")) == []
    assert view.feed(said("<{%reset%}>waiting for SSH<{%reset%}>\n", urn=MACHINE, ephemeral=True)) == []
    assert view.running[MACHINE].status == "waiting for SSH"
    now[0] = 65
    assert view.feed(done(MACHINE, "create")) == ["✓ Machine local-control: created (1 min 05 s)"]
    assert view.running == {}
    assert view.feed({"summaryEvent": {"resourceChanges": {"create": 2}}}) == []
    assert view.changes == {"create": 2}


def test_what_stays_as_it_is_makes_no_line() -> None:
    view = Timeline(clock=lambda: 0.0)
    view.feed(pre(MACHINE, "same"))
    assert view.feed(done(MACHINE, "same")) == []
    view.feed(pre(MACHINE, "refresh"))
    assert view.running[MACHINE].doing == "looking at"
    assert view.feed(done(MACHINE, "refresh")) == []


def test_warnings_are_told_at_once_and_components_are_not() -> None:
    view = Timeline(clock=lambda: 0.0)
    assert view.feed(said("emulated: slow", "warning", MACHINE)) == ["! Machine local-control: emulated: slow"]
    component = {"urn": "urn:pulumi:local::vre::vre:site:Site::local", "op": "create", "type": "vre:site:Site"}
    view.feed({"resourcePreEvent": {"metadata": {**component, "new": {}}}})
    assert view.running == {}


def test_what_failed_is_told_without_what_follows_from_it() -> None:
    view = Timeline(clock=lambda: 0.0)
    view.feed(pre(MACHINE, "create"))
    assert view.feed(failed(MACHINE, "create")) == ["✗ Machine local-control: creating failed (0 s)"]
    view.feed(said("cloud-init failed in module runcmd", "error", MACHINE))
    view.feed(said("cloud-init failed in module runcmd", "error", MACHINE))
    view.feed(said("Traceback (most recent call last):\n KeyboardInterrupt", "error", STACK))
    view.feed(said("update failed", "error", STACK))
    assert view.told_errors() == [("Machine local-control", "cloud-init failed in module runcmd")]


def test_a_program_that_fails_is_told_too() -> None:
    view = Timeline(clock=lambda: 0.0)
    view.feed(said("2 faults, nothing was changed", "error", STACK))
    assert view.told_errors() == [("", "2 faults, nothing was changed")]
    only = Timeline(clock=lambda: 0.0)
    only.feed(said("update failed", "error"))
    assert only.told_errors() == [("", "update failed")]


@pytest.mark.parametrize(("urn", "told"), [(MACHINE, "Machine local-control"), ("odd", "odd")])
def test_resources_are_called_by_kind_and_name(urn: str, told: str) -> None:
    assert title(urn) == told


def test_events_are_followed_while_they_are_written(tmp_path: Path) -> None:
    log = tmp_path / "up.events"
    seen: list[events.Event] = []
    with follow(log, seen.append), log.open("a") as sink:
        for number in range(3):
            sink.write(json.dumps({"sequence": number}) + "\n")
            sink.flush()
        sink.write('{"sequence": 3')
        sink.flush()
        deadline = time.monotonic() + 10
        while len(seen) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        first = len(seen)
        sink.write("}\n")
    assert first == 3
    assert [event["sequence"] for event in seen] == [0, 1, 2, 3]
    assert log.stat().st_mode & 0o077 == 0


def test_lines_that_are_no_events_are_left_out() -> None:
    assert events.read('{"a": 1}\nnoise\n{"b": 2}') == [{"a": 1}, {"b": 2}]


def test_a_log_is_told_what_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "EVERY", 0.0)
    with timeline.shown() as view:
        view.take(pre(MACHINE, "create"))
        view.take(said("booting", urn=MACHINE, ephemeral=True))
        view.tick()
        view.take(said("broken\nin two lines", "error", MACHINE))
        view.take(failed(MACHINE, "create"))
    told = capsys.readouterr().err
    assert "… Machine local-control: creating, booting (0 s)" in told
    assert "✗ Machine local-control: creating failed (0 s)" in told
    assert view.timeline.faults() == "  Machine local-control: broken\nin two lines"


GRACEFUL = """
import pathlib, signal, sys, time
def stop(number, frame):
    print("interrupted", flush=True)
    sys.exit(3)
signal.signal(signal.SIGINT, stop)
print("ready", flush=True)
time.sleep(60)
"""


def waited_for(file: Path, word: str) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if file.exists() and word in file.read_text():
            return True
        time.sleep(0.05)
    return False


ATTENDING = """
import sys
from pathlib import Path
from vre.run import attend
sys.exit(attend([sys.executable, "-c", sys.argv[1]], cwd=Path("."), output=Path(sys.argv[2])))
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, run.INTERRUPTED),
        (signal.SIGTERM, run.INTERRUPTED),
        (signal.SIGHUP, run.INTERRUPTED),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_whatever_ends_us_lets_the_engine_end_gracefully(tmp_path: Path, number: signal.Signals, code: int) -> None:
    log = tmp_path / "log"
    process = subprocess.Popen([sys.executable, "-c", ATTENDING, GRACEFUL, str(log)])
    assert waited_for(log, "ready")
    process.send_signal(number)
    assert process.wait(20) == code
    assert waited_for(log, "interrupted")


def test_an_attended_command_ends_with_its_own_code(tmp_path: Path) -> None:
    assert run.attend(["sh", "-c", "echo told; exit 7"], cwd=tmp_path, output=tmp_path / "log") == 7
    assert (tmp_path / "log").read_text() == "told\n"
