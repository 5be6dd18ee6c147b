"""One Debian package, written by dpkg-deb: the same bytes from the same files."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vre.artifacts.debian import EPOCH
from vre.errors import VreError
from vre.run import run

LICENCE = "Apache-2.0, as every program in it; the sources are {}\n"
BEGIN = "#!/bin/sh\nset -e\n"
ENABLE = """if [ "$1" = configure ]; then
    for unit in {}; do
        # One that is not known yet counts as enabled; one that was disabled by hand stays so.
        if deb-systemd-helper --quiet was-enabled "$unit"; then
            deb-systemd-helper enable "$unit" > /dev/null
        else
            deb-systemd-helper update-state "$unit" > /dev/null
        fi
    done
fi
"""
AFTER = """if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
    {}
fi
"""


@dataclass(frozen=True, kw_only=True)
class Package:
    """What is in a package. `files` maps where each lies on a machine to the file here; it can be run but for `modes`.

    `units` are systemd's that are enabled when they come, on a disk that is made as well; `after` is a command of the
    shell that a running machine is to run when the package was installed or upgraded.
    """

    name: str
    version: str
    architecture: str
    files: Mapping[str, Path]
    description: str
    homepage: str = ""
    after: str = ""
    modes: Mapping[str, int] = field(default_factory=dict)
    units: tuple[str, ...] = ()

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
    notice.write_text(LICENCE.format(f"at {package.homepage}" if package.homepage else "what is in it"))
    sums = {path: path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()}
    settings = [path for path in sums if path.relative_to(tree).parts[0] == "etc"]
    control = tree / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(about(package, sum(map(len, sums.values()))))
    # By these `dpkg --verify` tells a changed file; the format knows no better sums.
    lines = (f"{_md5(content)}  {path.relative_to(tree)}\n" for path, content in sums.items() if path not in settings)
    (control / "md5sums").write_text("".join(lines))
    if settings:  # what somebody changed there an upgrade leaves as it is (Debian policy, 10.7)
        (control / "conffiles").write_text("".join(f"/{path.relative_to(tree)}\n" for path in settings))
    if script := postinst(package):
        (control / "postinst").write_text(script)
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
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def postinst(package: Package) -> str:
    """Return the script that dpkg runs when the package was unpacked; empty where there is nothing to do. Pure."""
    parts = [ENABLE.format(" ".join(package.units))] if package.units else []
    parts += [AFTER.format(package.after)] if package.after else []
    return BEGIN + "".join(parts) if parts else ""


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _put(target: Path, source: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _settle(tree: Path, package: Package) -> None:
    """Give everything the mode and the time that it has on every machine, whatever is usual here."""
    modes = {tree / name: package.modes.get(name, 0o755) for name in package.files}
    modes[tree / "DEBIAN/postinst"] = 0o755
    for path in (tree, *tree.rglob("*")):
        path.chmod(0o755 if path.is_dir() else modes.get(path, 0o644))
        os.utime(path, (EPOCH, EPOCH))
