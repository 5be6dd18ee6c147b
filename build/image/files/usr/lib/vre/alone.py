"""One at a time: what upgrades this machine, and what brings it container images."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alone(scratch: Path) -> Iterator[None]:
    """Wait until no other run is on its way. `scratch` is the folder of the lock, /run/vre on a machine."""
    scratch.mkdir(parents=True, exist_ok=True)
    with (scratch / "patch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
