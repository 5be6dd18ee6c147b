"""What machines note before they reboot: whom it concerns, in which words, and read how often. Standard library only.

`/usr/lib/vre/turn.py` of the machines writes the annotations. Whoever took a machine over writes them, too: what is in
them is taken for text, and for a short one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

AGE = 15.0  # seconds
LONGEST = 200  # characters of the reason
EVERYBODY = "this environment reboots for an upgrade"
ONE_MACHINE = "your server stops for an upgrade; start it again then"
SAVE = "Save your work: files stay, kernels and their variables end."

Notes = Mapping[str, str]


def told(notes: Notes, *, node: str, now: datetime) -> dict[str, str]:
    """Return what a user is told whose server runs on `node`: when (`at`, UTC) and the `text`; nothing is empty.

    JupyterLab shows the first 140 characters, so the reason comes last.
    """
    try:
        at = datetime.fromisoformat(notes.get("vre/reboot-at", ""))
    except ValueError:
        return {}
    only = notes.get("vre/reboot-node", "")
    if at.tzinfo is None or at <= now or only not in ("", node):
        return {}
    why = notes.get("vre/reboot-why", "")[:LONGEST]
    text = f"{ONE_MACHINE if only else EVERYBODY}. {SAVE}"
    return {"at": f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", "text": f"{text} ({why})" if why else text}


class Kept:
    """The notes as they were last read: not again before `AGE` seconds are over, whoever asks.

    When they cannot be read, those from before count: each ends with its own time. `fails` is told the first such time.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Notes]],
        fails: Callable[[Exception], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._fails, self._clock = read, fails, clock
        self._lock = asyncio.Lock()
        self._notes: Notes = {}
        self._due = 0.0
        self._failing = False

    async def notes(self) -> Notes:
        """Return the notes. Never raises; those who ask at once wait for one answer."""
        async with self._lock:
            if self._clock() >= self._due:
                await self._renew()
                self._due = self._clock() + AGE
            return self._notes

    async def _renew(self) -> None:
        try:
            self._notes = await self._read()
        except Exception as error:  # whatever it is, the hub's pages go on
            if not self._failing:
                self._fails(error)
            self._failing = True
        else:
            self._failing = False
