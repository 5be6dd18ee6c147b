"""One Debian package, written by dpkg-deb: the same bytes from the same files."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vre.artifacts.debian import EPOCH
from vre.errors import VreError
from vre.run import run

LICENCE = "Apache-2.0, as every program in it; the sources are at {}\n"
AFTER = """#!/bin/sh
set -e
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
    {}
fi
"""


@dataclass(frozen=True, kw_only=True)
class Package:
    """What is in a package. `files` maps where each lies on a machine to the file here; all of them can be run.

    `after` is a command of the shell that a running machine is to run when the package was installed or upgraded.
    """

    name: str
    version: str
    architecture: str
    files: Mapping[str, Path]
    description: str
    homepage: str
    after: str = ""

    @property
    def file(self) -> str:
        """The package's file name."""
        return f"{self.name}_{self.version}_{self.architecture}.deb"


def write(package: Package, folder: Path) -> Path:
    """Write a package into `folder`. Raises VreError when it has no files, or dpkg-deb does not like it."""
    if not package.files:
        raise VreError(f"the package {package.name} has no files")
    tree = folder / f"{package.name}.tree"
    for name, source in package.files.items():
        _put(tree / name, source)
    notice = tree / "usr/share/doc" / package.name / "copyright"
    notice.parent.mkdir(parents=True)
    notice.write_text(LICENCE.format(package.homepage))
    sums = {path: path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()}
    control = tree / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(about(package, sum(map(len, sums.values()))))
    # By these `dpkg --verify` tells a changed file; the format knows no better sums.
    lines = (f"{_md5(content)}  {path.relative_to(tree)}\n" for path, content in sums.items())
    (control / "md5sums").write_text("".join(lines))
    if package.after:
        (control / "postinst").write_text(AFTER.format(package.after))
    _settle(tree, package)
    made = folder / package.file
    packing = ["--root-owner-group", "-Zzstd", "-z3", "--threads-max=1"]
    run(["dpkg-deb", *packing, "--build", tree, made], env={"SOURCE_DATE_EPOCH": str(EPOCH)}, timeout=900)
    shutil.rmtree(tree)
    return made


def about(package: Package, size: int) -> str:
    """Return the package's control file. `size` is in bytes."""
    fields = {
        "Package": package.name,
        "Version": package.version,
        "Architecture": package.architecture,
        "Maintainer": "VRE project <vre@localhost>",
        "Installed-Size": str(-(-size // 1024)),
        "Section": "admin",
        "Priority": "optional",
        "Homepage": package.homepage,
        "Description": package.description,
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _put(target: Path, source: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _settle(tree: Path, package: Package) -> None:
    """Give everything the mode and the time that it has on every machine, whatever is usual here."""
    programs = {tree / name for name in package.files} | {tree / "DEBIAN/postinst"}
    for path in (tree, *tree.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path in programs else 0o644)
        os.utime(path, (EPOCH, EPOCH))
