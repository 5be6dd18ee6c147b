"""What this machine needs of its distribution: which packages are missing, and installing them."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vre import paths, yamltext
from vre.errors import VreError
from vre.progress import Report, silent
from vre.run import run

SYSTEMS = {("debian", "12"), ("debian", "13"), ("ubuntu", "24.04")}
BACKPORTS = {"12": "bookworm-backports"}  # Debian 12's QEMU 7.2 hangs Debian 13 guests now and then
LEAST = {"qemu-system-x86": "1:8", "qemu-utils": "1:8", "libvirt-daemon": "10"}
PARTS = "libvirt-daemon-driver-"  # on older systems these are inside libvirt-daemon
UNPACKED = ("ii", "iF", "iU", "iW", "it")  # there; its install script may have wanted a service manager
SOURCES = Path("/etc/apt/sources.list.d")
POLICY = Path("/usr/sbin/policy-rc.d")
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "LANG": "C.UTF-8"}
APT = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold"]


@dataclass(frozen=True, kw_only=True)
class System:
    """A distribution and its release, as in os-release."""

    name: str
    release: str

    @property
    def backports(self) -> str:
        """The suite with newer versions that is needed here, or nothing."""
        return BACKPORTS.get(self.release, "") if self.name == "debian" else ""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A package as dpkg knows it."""

    state: str
    version: str


def ensure_packages(purposes: Sequence[str], report: Report = silent) -> None:
    """Install what is missing of the packages of some purposes (keys of build/host-packages.yaml).

    Raises VreError on a system that is not known, with the command to type when not root, or when apt fails.
    """
    system = _system(Path("/etc/os-release").read_text())
    wanted = packages(purposes)
    lacking = missing(wanted, _installed(wanted))
    if all(name.startswith(PARTS) and not _exists(name) for name in lacking):
        return
    if os.geteuid() != 0:
        raise VreError(f"these packages are missing: {', '.join(lacking)}", hint=_by_hand(system, lacking))
    _add_backports(system, report)
    report("reading the package lists")
    run([*APT, "update"], env=QUIET, hint="look at /etc/apt/sources.list.d")
    names = [name for name in lacking if not name.startswith(PARTS) or _exists(name)]
    report(f"installing {len(names)} packages: {', '.join(names)}")
    _install(system, names, report)


def packages(purposes: Sequence[str]) -> list[str]:
    """Return the packages of some purposes. Raises VreError for a purpose that there is none of."""
    table: Mapping[str, list[str]] = yamltext.load((paths.project() / "build" / "host-packages.yaml").read_text())
    unknown = sorted(set(purposes) - table.keys())
    if unknown:
        raise VreError(f"build/host-packages.yaml has no {', '.join(unknown)}", hint=f"it has: {', '.join(table)}")
    return sorted({name for purpose in purposes for name in table[purpose]})


def missing(wanted: Sequence[str], installed: Mapping[str, Installed]) -> list[str]:
    """Return which packages are not there or too old. A part that libvirt-daemon holds elsewhere is missing too."""
    return [name for name in wanted if not _is_there(name, installed.get(name))]


def _is_there(name: str, package: Installed | None) -> bool:
    if package is None or package.state not in UNPACKED:
        return False
    return name not in LEAST or _number(package.version) >= _number(LEAST[name])


def _number(version: str) -> tuple[int, int]:
    """Return epoch and first number of a Debian version."""
    epoch, colon, rest = version.partition(":")
    digits = (rest if colon else version).split(".")[0].split("-")[0]
    return int(epoch) if colon else 0, int("".join(filter(str.isdigit, digits)) or 0)


def _system(text: str) -> System:
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    values = {key: shlex.split(value)[0] if value else "" for key, value in pairs}
    system = System(name=values.get("ID", ""), release=values.get("VERSION_ID", ""))
    if (system.name, system.release) not in SYSTEMS:
        known = ", ".join(f"{name} {release}" for name, release in sorted(SYSTEMS))
        raise VreError(
            f"cannot install packages on {system.name} {system.release}".rstrip(),
            hint=f"use one of {known}; or install what build/host-packages.yaml names and go on",
        )
    return system


def _installed(names: Sequence[str]) -> dict[str, Installed]:
    form = "${db:Status-Abbrev}\t${Package}\t${Version}\n"
    lines = run(["dpkg-query", "-W", "-f", form, *names], accept=(0, 1)).splitlines()
    rows = [line.split("\t") for line in lines]
    return {name: Installed(state=state.strip(), version=version) for state, name, version in rows}


def _exists(name: str) -> bool:
    return bool(run(["apt-cache", "pkgnames", name]).strip())


def _by_hand(system: System, names: Sequence[str]) -> str:
    suite = f"-t {system.backports} " if system.backports else ""
    backports = f" (with {system.backports} among the package sources)" if suite else ""
    return f"run: sudo apt-get install -y --no-install-recommends {suite}{' '.join(names)}{backports}"


def _add_backports(system: System, report: Report) -> None:
    """Add the suite on the mirror that this machine already uses."""
    if not system.backports:
        return
    form = "$(CODENAME) $(COMPONENT) $(REPO_URI) $(SIGNED_BY)"
    targets = [line.split() for line in run(["apt-get", "indextargets", "--format", form]).splitlines()]
    if any(words[0] == system.backports for words in targets):
        return
    release = system.backports.removesuffix("-backports")
    mirrors = [words for words in targets if words[:2] == [release, "main"]]
    if not mirrors:
        raise VreError(f"this machine has no package source for {release} main", hint="add one to /etc/apt")
    report(f"adding {system.backports} to the package sources")
    (SOURCES / "vre-backports.sources").write_text(_source(system.backports, *mirrors[0][2:4]))


def _source(suite: str, mirror: str, key: str = "") -> str:
    # apt leaves the field as it was written where it does not tell the key
    signed = key if key.startswith("/") else "/usr/share/keyrings/debian-archive-keyring.gpg"
    return f"Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nSigned-By: {signed}\n"


def _install(system: System, names: Sequence[str], report: Report) -> None:
    suite = ["-t", system.backports] if system.backports else []
    bare = not Path("/run/systemd/system").exists()
    with _no_services() if bare else _as_it_is():
        try:
            run([*APT, "install", "--no-install-recommends", *suite, *names], env=QUIET)
        except VreError:
            if not bare or missing(names, _installed(names)):
                raise
            report("installed; some services could not be set up, because no service manager runs here")


@contextmanager
def _no_services() -> Iterator[None]:
    """Let no install script start a service: nothing here would look after it."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield
