"""The cache as a launch sees it: only what is finished, nothing is ever built."""

from collections.abc import Mapping
from pathlib import Path

from vre.artifacts.store import Build, Store
from vre.errors import VreError
from vre.progress import Report, silent

REMEDIES = {"software": "vre setup software"}
"""What builds that which is no usual part of set-up; `make setup` builds all others."""


class Finished(Store):
    """A store that finds and never builds: a launch must not turn into half an hour of compiling."""

    def get(self, name: str, inputs: Mapping[str, bytes | str], build: Build, report: Report = silent) -> Path:
        """Return the folder of an artifact. Raises VreError when it has not been built from these inputs."""
        if not self.has(name, inputs):
            hint = f"run: {REMEDIES.get(name, 'make setup')}"
            raise VreError(f"{name} is not built, or its recipe has changed since", hint=hint)
        return self.path(name, inputs)
