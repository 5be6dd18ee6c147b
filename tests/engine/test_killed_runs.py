"""Runs of the engine that are killed, interrupted or in each other's way: the next one goes on and ends well."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import Engine
from tests.patience import until

PROGRAM = """\
import pulumi
from vre import resources

authority = resources.Authority("authority", common_name="test", valid_days=30).certificate
if pulumi.Config("t").get_bool("waiting"):
    resources.Door("door", url="https://127.0.0.1:9", address="127.0.0.1", authority=authority, path="/", timeout=300)
"""
CHANGE = """\
import sys
from pathlib import Path
from vre import engine
from vre.cli.timeline import shown

with shown() as view:
    code = engine.change("up", "t", view.take, Path(sys.argv[1]))
sys.stderr.write(view.timeline.faults())
sys.exit(code)
"""
RECOVER = "from vre import engine; engine.recover('t', print)"


@pytest.fixture
def small(own_engine: Engine) -> Engine:
    """The engine on a program of one quick resource, and one that waits."""
    (own_engine.checkout.path / "__main__.py").write_text(PROGRAM)
    own_engine.stack("t", "  t:waiting: true\n")
    return own_engine


@pytest.fixture
def launching(small: Engine) -> Iterator[subprocess.Popen[bytes]]:
    """`engine.change` at work on the resource that waits."""
    log = small.checkout.state / "logs" / "t-up.log"
    with said(small).open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", CHANGE, str(log)],
            cwd=small.checkout.path,
            env=dict(small.checkout.env),
            stderr=stderr,
        )
    try:
        until(lambda: "door" in pending(small) or process.poll() is not None, "it has begun or ended", seconds=90)
        assert process.poll() is None, said(small).read_text() + log.read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def said(small: Engine) -> Path:
    """Return where what is shown to a person goes."""
    return small.checkout.state / "said"


def pending(small: Engine) -> str:
    """Return the operations that the state says were begun."""
    file = small.checkout.backend / ".pulumi" / "stacks" / "vre" / "t.json"
    try:
        checkpoint = json.loads(file.read_text())["checkpoint"]
    except (OSError, ValueError):
        return ""
    return json.dumps((checkpoint.get("latest") or {}).get("pending_operations") or "")


def locks(small: Engine) -> list[Path]:
    return sorted((small.checkout.backend / ".pulumi" / "locks").glob("**/t/*.json"))


def holder(small: Engine) -> int:
    return int(json.loads(locks(small)[0].read_text())["pid"])


def goes_on(small: Engine) -> None:
    """Recover, then launch without what waits; all is well and nothing is left over."""
    told = small.run(sys.executable, "-c", RECOVER)
    assert told.code == 0, told.text
    assert (locks(small), pending(small)) == ([], '""')
    small.pulumi("config", "set", "t:waiting", "false", "--stack", "t")
    told = small.pulumi("up", "--stack", "t", "--yes", "--skip-preview")
    assert told.code == 0, told.text
    assert "pending operations" not in told.text
    assert [each["type"] for each in small.resources("t")] == [
        "pulumi:pulumi:Stack", "pulumi:providers:vre", "vre:crypto:Authority",
    ]  # fmt: skip


def test_a_killed_engine_leaves_nothing_in_the_way(small: Engine, launching: subprocess.Popen[bytes]) -> None:
    os.kill(holder(small), signal.SIGKILL)
    launching.wait(30)
    assert locks(small)
    assert "door" in pending(small)
    goes_on(small)


def test_when_we_are_killed_the_engine_ends_by_itself(small: Engine, launching: subprocess.Popen[bytes]) -> None:
    launching.kill()
    until(lambda: not locks(small), "its lock is gone", seconds=90)
    assert locks(small) == []
    goes_on(small)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_gracefully(
    small: Engine, launching: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    launching.send_signal(number)
    assert launching.wait(60) == 130
    assert locks(small) == []
    assert "Door door: creating failed" in said(small).read_text()
    goes_on(small)


@pytest.mark.requirement("P-48")
def test_a_run_at_work_is_not_broken_into(small: Engine, launching: subprocess.Popen[bytes]) -> None:
    impatient = "from vre import engine; engine._await('t', engine.locks('t')[0], print, patience=3)"
    told = small.run(sys.executable, "-c", impatient)
    assert told.code != 0
    assert "waiting for its end" in told.text
    assert f"another run is at work on stack t: process {holder(small)}" in told.text
    assert launching.poll() is None


def test_a_wrong_passphrase_is_told_in_our_words(small: Engine) -> None:
    code = "from vre import engine; engine.pulumi('up', '--stack', 't', '--yes', '--skip-preview')"
    told = small.run(
        sys.executable, "-c", code, env={"PULUMI_CONFIG_PASSPHRASE": "wrong", "PULUMI_CONFIG_PASSPHRASE_FILE": ""}
    )
    assert "the passphrase does not open this stack's secrets" in told.text
    assert "encryptionsalt" in told.text


def test_down_asks_destroys_and_leaves_nothing(small: Engine) -> None:
    vre = Path(sys.prefix, "bin", "vre")
    small.pulumi("config", "set", "t:waiting", "false", "--stack", "t")
    up = small.pulumi("up", "--stack", "t", "--yes", "--skip-preview")
    assert up.code == 0, up.text
    unasked = small.run(vre, "down", "-s", "t")
    assert unasked.code == 1
    assert "Stack t will be destroyed: 3 resources" in unasked.text
    assert len(small.resources("t")) == 3
    down = small.run(vre, "down", "-s", "t", "--yes")
    assert down.code == 0, down.text
    assert "Authority authority: deleted" in down.text
    assert "encryptionsalt" not in (small.checkout.path / "stacks" / "Pulumi.t.yaml").read_text()
    again = small.run(vre, "down", "-s", "t", "--yes")
    assert (again.code, again.text) == (0, "stack t is not launched\n")
    for words in (("password",), ("ssh",), ("status", "--json"), ("logs", "hub")):
        told = small.run(vre, *words, "-s", "local")
        assert (told.code, told.text.splitlines()[0]) == (1, "error: stack local is not launched"), told.text
