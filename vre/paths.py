"""Where the project keeps things. Functions, not constants: nothing is read at import."""

import os
from pathlib import Path


def project() -> Path:
    """Return the root of the checkout: the folder with Pulumi.yaml."""
    return Path(__file__).resolve().parent.parent


def state() -> Path:
    """Return the folder for what belongs to this checkout: Pulumi state, passphrase, key, own hypervisor."""
    return Path(os.environ.get("VRE_STATE") or project() / ".vre")


def cache() -> Path:
    """Return the folder for what is built once and can be built again: programs, container images, disk images."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("VRE_CACHE") or Path(base) / "vre")
