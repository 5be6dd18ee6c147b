"""A package of Debian's built anew under a higher version, from the files and scripts of where it is installed."""

import shutil
from pathlib import Path

from vre.run import run

SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "conffiles", "triggers", "shlibs", "symbols")
DROPPED = ("Status:", "Conffiles:", "Version:")


def rebuilt(root: Path, name: str, suffix: str, folder: Path) -> Path:
    """Write `name` as it is installed in `root` into `folder`, its version longer by `suffix`; return the package."""
    database = root / "var/lib/dpkg"
    asked = ("dpkg-query", f"--admindir={database}", "--show", "--showformat")
    version = run([*asked, "${Version}", name]) + suffix
    tree = folder / name
    for line in (database / f"info/{name}.list").read_text().splitlines():
        there, here = root / line.lstrip("/"), tree / line.lstrip("/")
        if there.is_dir() and not there.is_symlink():
            here.mkdir(parents=True, exist_ok=True)
        elif there.is_symlink() or there.exists():  # manuals are not installed
            shutil.copy2(there, here, follow_symlinks=False)
    control = tree / "DEBIAN"
    control.mkdir()
    for script in SCRIPTS:
        if (database / f"info/{name}.{script}").exists():
            shutil.copy2(database / f"info/{name}.{script}", control / script)
    status = run(["dpkg-query", f"--admindir={database}", "--status", name]).splitlines()
    # Lines that begin with a space go on with the field before them: conffiles, which have a file of their own here.
    kept = [line for line in status if not line.startswith((*DROPPED, " /"))]
    (control / "control").write_text("\n".join([*kept, f"Version: {version}", ""]))
    made = folder / f"{name}_{version.replace(':', '%3a')}.deb"
    run(["dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "--build", tree, made], timeout=900)
    return made
