"""Where things are on a machine, below another root in tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Places:
    """Each name of WHERE is an attribute: its path below `root`."""

    root: Path = Path("/")
    WHERE: ClassVar[Mapping[str, str]] = {}

    def __getattr__(self, name: str) -> Path:
        return self.root / self.WHERE[name]
