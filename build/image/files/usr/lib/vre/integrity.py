#!/usr/bin/python3
"""Whether programs and settings are what was installed: AIDE finds what changed, dpkg says what an upgrade brought.

Only the standard library. `integrity.py` looks, and writes /var/lib/vre/integrity.json; it ends with 1 when something
changed that no package explains. `integrity.py accept` takes what there is now as right.
"""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

SETTINGS = "/etc/aide/aide.conf"
BASE = Path("/var/lib/aide/aide.db")
REPORT = Path("/var/lib/vre/integrity.json")
PACKAGES = Path("/var/lib/dpkg")
LAUNCHED = ("/etc/", "/usr/local/")
"""Where the first boot and the launch write, and no package after them."""
MERGED = ("bin/", "lib/", "lib64/", "sbin/")
FAULT = 14  # aide's exit codes from here on are errors of its own, below they say that something differs
SHOWN = 50
INODE = 5  # the field's place: name lname perm uid gid inode attr sha256


def main(words: list[str]) -> int:
    """Look, or accept; return the exit code."""
    if words == ["accept"] or not BASE.exists():
        take()
        return report([], 0)
    found = changes(aide("--check"))
    if not REPORT.exists():
        # What packages brought is compared with the build from the first day on.
        found = {path: rights for path, rights in found.items() if not path.startswith(LAUNCHED)}
    known, upgraded = packaged(), (PACKAGES / "status").stat().st_mtime > BASE.stat().st_mtime
    strange = [path for path, rights in found.items() if rights or not explained(Path(path), known, upgraded=upgraded)]
    if not strange and (found or not REPORT.exists()):
        take()
    return report(strange, len(found) - len(strange))


def aide(task: str) -> str:
    """Run aide, and return what it found. Ends the program when aide itself fails."""
    done = subprocess.run(["aide", f"--config={SETTINGS}", task], capture_output=True, text=True, check=False)
    if done.returncode >= FAULT:
        sys.exit(f"aide {task}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def take() -> None:
    """Make what there is now the base of the next comparison."""
    aide("--init")
    made = BASE.with_name("aide.db.new")
    made.write_text("".join(map(without_inode, made.read_text().splitlines(keepends=True))))
    made.replace(BASE)


def without_inode(line: str) -> str:
    """Return a line of aide's database without the inode, kept unasked: same files, same bytes. Pure."""
    words = line.split(" ")
    return line if line.startswith("@@") else " ".join([*words[:INODE], "0", *words[INODE + 1 :]])


def changes(told: str) -> dict[str, bool]:
    """Return every path that differs, out of aide's report, and whether its owner or mode does. Pure.

    Which mode a file should have no package says, so that is never explained by one.
    """
    found = json.loads(told) if told.strip() else {}
    details = found.get("details", {})
    paths = sorted({path for kind in ("added", "removed", "changed") for path in found.get(kind, {})})
    return {path: bool({"perm", "uid", "gid"} & set(details.get(path, {}))) for path in paths}


def packaged() -> dict[str, set[str]]:
    """Return what dpkg knows: path -> the MD5 sums it may have; none for links and folders."""
    known: dict[str, set[str]] = {}
    for listed in (PACKAGES / "info").glob("*.list"):
        for line in listed.read_text().splitlines():
            known.setdefault(place(line), set())
    for sums in (PACKAGES / "info").glob("*.md5sums"):
        for line in sums.read_text().splitlines():
            digest, _, path = line.partition("  ")
            known.setdefault(place(path), set()).add(digest)
    for line in (PACKAGES / "status").read_text().splitlines():
        if line.startswith(" /") and len(line.split()) > 1:  # a settings file of a package, with its sum
            path, digest, *_ = line.split()
            known.setdefault(place(path), set()).add(digest)
    return known


def place(path: str) -> str:
    """Return where a path of a package lies today: /bin is /usr/bin. Pure."""
    bare = path.lstrip("/")
    return f"/usr/{bare}" if bare.startswith(MERGED) else f"/{bare}"


def explained(path: Path, known: Mapping[str, set[str]], *, upgraded: bool) -> bool:
    """Say whether a package accounts for what is there: its very bytes, its link or folder, or that it is gone.

    A link that packages' scripts make (an alternative, a unit that is enabled) leads to a file of a package.
    """
    sums = known.get(str(path))
    if path.is_symlink():
        return upgraded and (sums is not None or str(path.resolve()) in known)
    if not path.exists():
        return sums is None and upgraded
    if sums is None:
        return False
    return upgraded if path.is_dir() else hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() in sums


def report(strange: Iterable[str], explained_too: int) -> int:
    """Write down what was found, and say it; return the exit code."""
    paths = list(strange)
    found = {"looked": time.strftime("%FT%TZ", time.gmtime()), "strange": paths, "upgraded": explained_too}
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    beside = REPORT.with_suffix(".new")
    beside.write_text(json.dumps(found))
    beside.replace(REPORT)
    for path in paths[:SHOWN]:
        print(f"changed, and by no package: {path}", file=sys.stderr)
    return 1 if paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
