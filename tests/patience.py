"""Waiting for something that comes by itself, with an end: one loop for all tests."""

import time
from collections.abc import Callable


def until(
    holds: Callable[[], object],
    what: str | Callable[[], object],
    *,
    seconds: float,
    pause: float = 0.1,
) -> None:
    """Wait until something holds, asked again after a pause.

    Raises AssertionError with `what`, or what that returns, after so many seconds.
    """
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not after {seconds:g} s: {what() if callable(what) else what}"
        time.sleep(pause)
