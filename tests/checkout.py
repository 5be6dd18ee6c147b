"""A clone of the checkout to launch from, so that tests write neither to it nor to what is launched from it."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vre.paths import project
from vre.setup.secrets import ensure_key, ensure_passphrase

LEFT_BEHIND = (".git", ".venv", ".vre", "__pycache__", "*.egg-info", ".mypy_cache", ".pytest_cache", ".ruff_cache")


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A clone with state of its own, and the environment in which its commands run."""

    path: Path
    env: Mapping[str, str]

    @property
    def state(self) -> Path:
        """Where it keeps what `vre.paths.state` keeps."""
        return Path(self.env["VRE_STATE"])

    @property
    def backend(self) -> Path:
        """Where the engine keeps its state."""
        return Path(self.env["PULUMI_BACKEND_URL"].removeprefix("file://"))

    def stack(self, name: str, text: str) -> Path:
        """Write a stack file."""
        file = self.path / "stacks" / f"Pulumi.{name}.yaml"
        file.write_text(text)
        return file


def clone(target: Path) -> Checkout:
    """Copy what makes up the project to `target`; its Python environment is shared."""
    source = project()
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_BEHIND), dirs_exist_ok=True, symlinks=True)
    (target / ".venv").symlink_to(source / ".venv")
    state = target / ".vre"
    (state / "state").mkdir(parents=True)
    state.chmod(0o700)
    (state / "state").chmod(0o700)
    for file in (target / "stacks").glob("Pulumi.*.yaml"):
        # What the engine noted there belongs to the stacks of the checkout.
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if not line.startswith("encryptionsalt:")))
    ensure_passphrase(state)
    ensure_key(state)
    return Checkout(path=target, env=environment(target, state))


def environment(target: Path, state: Path) -> dict[str, str]:
    """Return a closed environment: nothing of whoever runs the tests leads a launch elsewhere."""
    names = ("HOME", "LANG", "TERM", "VRE_CACHE", "XDG_CACHE_HOME")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    folders = [f"{sys.prefix}/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    return {
        **kept,
        "PATH": ":".join(folders),
        "PYTHONPATH": str(target),
        "VRE_STATE": str(state),
        "PULUMI_HOME": str(state / "engine"),
        "PULUMI_BACKEND_URL": f"file://{state / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(state / "passphrase"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }
