"""What a long step says in a log."""

import re
import threading
from types import SimpleNamespace

import pytest

from tests.patience import until
from vre import progress
from vre.progress import AGAIN, elapsed, step


class Log:
    """What was written so far, of all that pytest captures."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.text = ""

    def lines(self, pattern: str) -> list[str]:
        """Return the lines that are wholly as the pattern says."""
        self.text += self.capsys.readouterr().err
        return [line for line in self.text.splitlines() if re.fullmatch(pattern, line)]


def test_a_log_says_what_is_new_and_now_and_then_that_it_still_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(capsys)
    with step("programs", every=0.02) as report:
        until(lambda: log.lines(r"… programs \(0 s\)"), "said without a message", seconds=30)
        report("compiling")
        until(lambda: len(log.lines(r"… programs: compiling \(\d+ s\)")) >= 3, "said again", seconds=30)
        report("linking")
        until(lambda: log.lines(r"… programs: linking \(\d+ s\)"), "what is new", seconds=30)
    assert log.lines(r"✓ programs \(\d+ s\)")


class Looks:
    """An event that is looked at so many times before it is there."""

    left = 0

    def wait(self, timeout: float) -> bool:
        """Say whether it is there."""
        Looks.left -= 1
        return Looks.left < 0

    def set(self) -> None:
        """Be there, which it is by its number alone."""
        until(lambda: Looks.left < 0, "looked at so many times", seconds=30)


def test_what_is_not_new_is_said_rarely(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Looks.left = 3 * AGAIN
    monkeypatch.setattr(progress, "threading", SimpleNamespace(Event=Looks, Thread=threading.Thread))
    with step("programs", every=1):
        pass
    assert len(Log(capsys).lines(r"… programs \(0 s\)")) == 3


def test_a_step_that_fails_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no"), step("programs"):
        raise ValueError("no")
    assert "✗ programs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (125, "2 min 05 s"), (3600, "60 min 00 s")]
)
def test_how_a_length_of_time_reads(seconds: float, words: str) -> None:
    assert elapsed(seconds) == words
