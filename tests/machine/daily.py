"""The daily upgrade of a machine, begun by a test, with a repository that lies on the machine itself."""

import base64
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.machine.repository import PLACE
from tests.machine.stack import Machine
from tests.patience import until
from vre.config import Patches
from vre.machine import patches

FOLDER = "/srv/vre-packages"
PATIENCE = 900.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Published:
    """A signed repository, as it is to lie on the machine: the files of its folder as a tar in base64, and its key."""

    archive: str
    key: str

    def give(self, machine: Machine) -> None:
        """Put it there, and name it to apt."""
        told = patches.files(Patches(repository=PLACE), self.key, name="probe", alone=True, upgrade=True)
        machine.root("sh", "-c", "base64 -d | tar -x -C /", stdin=self.archive)
        machine.root("tee", patches.SOURCES, stdin=told[patches.SOURCES].replace(PLACE, f"file://{FOLDER}/"))
        machine.root("tee", patches.KEY, stdin=told[patches.KEY])


def packed(served: Path, key: Path) -> Published:
    """Return a repository's folder as it is sent."""
    told = io.BytesIO()
    with tarfile.open(fileobj=told, mode="w") as archive:
        archive.add(served, arcname=FOLDER.lstrip("/"))
    return Published(archive=base64.b64encode(told.getvalue()).decode(), key=key.read_text())


def take_away(machine: Machine) -> None:
    """Let the machine's sources be its own again."""
    machine.root("rm", "-rf", patches.SOURCES, patches.KEY, FOLDER)


def upgrade(machine: Machine) -> dict[str, Any]:
    """Begin the daily upgrade and wait for its end; return what it noted."""
    tried = state(machine).get("tried", "")
    machine.root("systemctl", "start", "--no-block", "vre-patch.service")
    until(
        lambda: state(machine).get("tried", "") != tried and not _busy(machine),
        lambda: state(machine),
        seconds=PATIENCE,
        pause=3,
    )
    return state(machine)


def state(machine: Machine) -> dict[str, Any]:
    """Return what the daily upgrade noted; nothing before its first run."""
    return dict(json.loads(machine.root("sh", "-c", "cat /var/lib/vre/patch.json 2> /dev/null || echo {}")))


def _busy(machine: Machine) -> bool:
    return machine.result("systemctl", "is-active", "vre-patch.service").stdout.strip() in {"active", "activating"}
