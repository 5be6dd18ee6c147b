"""A stack's authority in the trust stores of this computer, and out of them again."""

import os
import shutil
from pathlib import Path

from vre.errors import VreError
from vre.paths import state
from vre.run import run

SYSTEM = Path("/usr/local/share/ca-certificates")


def install(stack: str, authority: str, *, system: Path = SYSTEM, home: Path | None = None) -> list[str]:
    """Have this computer and the user's browsers trust a stack's authority; return what was done."""
    pem = state() / f"authority-{stack}.crt"
    pem.parent.mkdir(parents=True, exist_ok=True)
    pem.write_text(authority)
    done = [_into_system(stack, pem, system)]
    for store in _browsers(home or Path.home()):
        run(["certutil", "-A", "-d", f"sql:{store}", "-n", _name(stack), "-t", "C,,", "-i", pem])
        done.append(f"browser store {store}: trusted")
    if not shutil.which("certutil"):
        done.append("browsers with a store of their own (Firefox, Chromium): import it there, or install libnss3-tools")
    return done


def installed(stack: str, *, system: Path = SYSTEM) -> bool:
    """Say whether the system trusts a stack's authority."""
    return (system / f"{_name(stack)}.crt").exists()


def remove(stack: str, *, system: Path = SYSTEM, home: Path | None = None) -> list[str]:
    """Take a stack's authority out of the trust stores again; return what was done."""
    place = system / f"{_name(stack)}.crt"
    done = []
    if place.exists():
        _as_root(["rm", str(place)])
        _as_root(["update-ca-certificates", "--fresh"])
        done.append(f"system store {place}: removed")
    for store in _browsers(home or Path.home()):
        if _name(stack) in run(["certutil", "-L", "-d", f"sql:{store}"]):
            run(["certutil", "-D", "-d", f"sql:{store}", "-n", _name(stack)])
            done.append(f"browser store {store}: removed")
    (state() / f"authority-{stack}.crt").unlink(missing_ok=True)
    return done or ["it was in no trust store"]


def _into_system(stack: str, pem: Path, system: Path) -> str:
    if not shutil.which("update-ca-certificates"):
        raise VreError("update-ca-certificates is not there", hint="it is in the package ca-certificates")
    place = system / f"{_name(stack)}.crt"
    _as_root(["install", "-D", "-m", "0644", str(pem), str(place)])
    _as_root(["update-ca-certificates"])
    return f"system store {place}: trusted"


def _browsers(home: Path) -> list[Path]:
    """Return the certificate stores of the user's browsers, where the tool that writes them is there."""
    if not shutil.which("certutil"):
        return []
    shared = home / ".pki" / "nssdb"
    profiles = (home / ".mozilla" / "firefox").glob("*/cert9.db")
    return [store for store in (shared, *(file.parent for file in profiles)) if (store / "cert9.db").exists()]


def _as_root(command: list[str]) -> None:
    run(command if os.geteuid() == 0 else ["sudo", *command], hint="this needs root")


def _name(stack: str) -> str:
    return f"vre-{stack}"
