"""The policy pack's own Python environment: pulumi-policy wants an older protobuf than the project has."""

import hashlib
import sys
from pathlib import Path

from vre.progress import Report, silent
from vre.run import run


def ensure_policy_pack(folder: Path, report: Report = silent) -> Path:
    """Return the environment of the pack in a folder, with just the packages that its lock names.

    Does nothing when it is there. Raises VreError when a package cannot be had.
    """
    lock, venv = folder / "requirements.txt", folder / ".venv"
    done = venv / f".done-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if done.exists() and _starts(venv):
        return venv
    report("Python packages of the policy pack")
    run([sys.executable, "-m", "venv", "--clear", venv], timeout=300)
    pip: list[str | Path] = [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", "--requirement", lock], timeout=900)
    done.touch()
    return venv


def _starts(venv: Path) -> bool:
    """Tell whether its Python is still there: it is a link to the one that it was made with."""
    return (venv / "bin" / "python").exists()
