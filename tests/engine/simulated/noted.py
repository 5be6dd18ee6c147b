"""One call, written into the journal, with whatever is planned to go wrong at it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.engine.simulated.store import Asked, Cloud, Fault
from vre.errors import VreError
from vre.provider.handler import Context

ATTEMPTS = 4  # that a plugin makes of a call that is throttled
PAUSE = 0.02  # seconds between two of them


class CloudError(VreError):
    """What the cloud answers when it refuses, in its own words."""


@dataclass(kw_only=True)
class Note:
    """A call while it runs: set `id` as soon as it is known."""

    id: str
    fault: Fault | None
    context: Context
    outcome: str = "done"

    def lose(self, reply: str) -> None:
        """Lose the reply, if that is planned: what was done is done, and nobody is told. Raises CloudError."""
        while self.fault and self.fault.what == "stall":
            self.context.pause(3600)
        if self.fault and self.fault.what == "lose":
            raise CloudError(self.fault.message or f"{reply}: connection reset before the answer came")

    @property
    def half(self) -> str:
        """Why the thing that was made is not whole, if that is planned."""
        return self.fault.message or "it did not become ready" if self.fault and self.fault.what == "half" else ""


@contextmanager
def noted(cloud: Cloud, asked: Asked, context: Context, refusal: Callable[[str], CloudError]) -> Iterator[Note]:
    """Write down that a call begins and how it ends. `refusal` says `fail` or `throttle` in the cloud's words."""
    number, fault = _attempt(cloud, asked, context)
    note = Note(id=asked.id, fault=fault, context=context)
    try:
        _before(fault, context, refusal)
        yield note
    except BaseException as error:
        cloud.end(number, f"failed: {type(error).__name__}: {error}", identity=note.id)
        raise
    cloud.end(number, note.outcome, identity=note.id)


def _attempt(cloud: Cloud, asked: Asked, context: Context) -> tuple[int, Fault | None]:
    """Begin a call, and begin it again where it is throttled, as the official plugins do."""
    for _ in range(ATTEMPTS - 1):
        number, fault = cloud.begin(asked)
        if fault is None or fault.what != "throttle":
            return number, fault
        cloud.end(number, "throttled")
        context.pause(PAUSE)
    return cloud.begin(asked)


def _before(fault: Fault | None, context: Context, refusal: Callable[[str], CloudError]) -> None:
    if fault is None:
        return
    if fault.what in ("fail", "throttle"):
        raise CloudError(fault.message) if fault.message else refusal(fault.what)
    while fault.what == "hang":
        context.pause(3600)
