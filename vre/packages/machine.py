"""vre-machine: what of ours runs on machines, as a Debian package, so that a mended one reaches those that stand.

Settings below /etc are part of it as dpkg's configuration files: an upgrade changes those that nobody changed by hand.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from vre import paths
from vre.image import recipe as recipes
from vre.image.recipe import Recipe
from vre.packages import deb, number
from vre.packages.deb import Package
from vre.packages.number import Stated

NAME = "vre-machine"
UNITS = "usr/lib/systemd/system"
STARTED = (".path", ".timer")
"""Kinds of units that begin at once where they are new. What runs is left alone: the upgrade itself is among it."""
AFTER = """systemctl daemon-reload
    systemd-tmpfiles --create /usr/lib/tmpfiles.d/vre.conf
    systemctl restart systemd-sysctl.service || true
    if sshd -t; then systemctl try-reload-or-restart ssh.service || true; fi
    deb-systemd-invoke start {} > /dev/null || true"""


def package(recipe: Recipe) -> Package | None:
    """Return the package of a recipe's files; None where it has none."""
    made = _package(recipe)
    return replace(made, version=str(stated().number)) if made.files else None


def text() -> str:
    """Return what the file of the version has to say: the next number when the package is another than it says."""
    return number.text(NAME, stated(), digest(_package(recipes.load())))


def stated() -> Stated:
    """Return the version that is written down. Raises VreError when it cannot be read."""
    return number.stated(paths.project() / "build" / "image" / "machine.yaml")


def digest(package: Package) -> str:
    """Return what tells two packages apart whatever their versions are: every file with its mode, and the script."""
    whole = hashlib.sha256(deb.postinst(package).encode())
    for name, content in contents(package).items():
        whole.update(f"\n{name} {len(content)}\n".encode() + content)
    return whole.hexdigest()


def contents(package: Package) -> Mapping[str, bytes]:
    """Return each file's content by its name and mode."""
    return {f"{name} {package.modes[name]:o}": file.read_bytes() for name, file in sorted(package.files.items())}


def _package(recipe: Recipe) -> Package:
    files = {str(path.relative_to(recipe.files)): path for path in recipes.packaged(recipe)}
    units = tuple(unit for unit in recipe.enable if f"{UNITS}/{unit}" in files)
    return Package(
        name=NAME,
        version="0",
        architecture="all",
        files=files,
        modes={name: recipe.mode(name) for name in files},
        description="what keeps a machine patched, and looks whether it was changed",
        units=units,
        after=AFTER.format(" ".join(unit for unit in units if unit.endswith(STARTED))),
    )
