"""How far what is pinned is behind its makers: asked of each registry through its ordinary client.

Patch versions flow, minor ones are held: raising those is a decision of a person.
"""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from vre.artifacts import golang, versions
from vre.errors import VreError
from vre.paths import project
from vre.progress import Report
from vre.run import run

IMAGES = Path("vre/services/jupyter/image")
LOCKS = (IMAGES / "hub" / "requirements.in", IMAGES / "notebook" / "requirements.in")
OVERRIDES = IMAGES / "overrides.in"
PROXY = IMAGES / "proxy"
TOOLCHAIN = "Go toolchain"
KUBERNETES = "kubernetes"
"""The first of all programs: others share modules with it."""
PYTHON = "3.13"
"""Of Debian 13, in which the container images' environments live."""
COMPILE = ("pip", "compile", "--quiet", "--upgrade", "--no-header", "--no-emit-index-url", "--generate-hashes")
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Something that is pinned: at which version, the newest of the same minor, and the newest at all.

    `fault` says why that could not be asked.
    """

    kind: str
    name: str
    pinned: str
    patch: str
    newest: str
    fault: str = ""

    @property
    def behind(self) -> bool:
        """Whether there is a newer patch."""
        return self.patch != self.pinned


def look(report: Report) -> list[Pin]:
    """Return every pin. Raises VreError when a whole registry cannot be asked."""
    return [*_toolchain(report), *_go(report), *_python(report), *_node(report)]


def newest(pinned: str, there: Iterable[str]) -> tuple[str, str]:
    """Return the newest stable version of the same minor as `pinned`, and the newest stable one. Pure."""
    own = Version(pinned)
    known = [(version, text) for text in (*there, pinned) if (version := _stable(text)) and version >= own]
    same = [each for each in known if each[0].release[:2] == own.release[:2]]
    return max(same)[1], max(known)[1]


def _stable(text: str) -> Version | None:
    try:
        found = Version(text)
    except InvalidVersion:
        return None
    return None if found.is_prerelease else found


def _toolchain(report: Report) -> Iterator[Pin]:
    """Go itself: the go command knows it as a module called `go`, but only outside of other modules."""
    report("Go itself")
    go, own = golang.toolchain(), versions.load().toolchain.version
    with tempfile.TemporaryDirectory() as empty:
        told = run([go.command, "list", "-m", "-versions", "go"], env=go.env, cwd=Path(empty))
    patch, latest = newest(own, told.split()[1:])
    yield Pin(kind=TOOLCHAIN, name="go", pinned=own, patch=patch, newest=latest)


def _go(report: Report) -> Iterator[Pin]:
    go = golang.toolchain()
    for name, program in versions.load().programs.items():
        report(f"Go: {name}")
        command: list[str | Path] = [go.command, "list", "-mod=mod", "-m", "-versions", program.module]
        own = program.version
        try:
            told = run(command, env=go.env, cwd=versions.modules() / name)
        except VreError as error:
            yield Pin(kind="Go", name=name, pinned=own, patch=own, newest=own, fault=error.message.splitlines()[-1])
            continue
        patch, latest = newest(own, told.split()[1:])
        yield Pin(kind="Go", name=name, pinned=own, patch=patch, newest=latest)


def _python(report: Report) -> Iterator[Pin]:
    for source in LOCKS:
        report(f"Python: {source.parent.name}")
        wanted = loosened((project() / source).read_text())
        command: list[str | Path] = [uv(), *COMPILE, "--python-version", PYTHON, "--override", OVERRIDES, "-"]
        after = locked(run(command, stdin=wanted, cwd=project(), hint="is the Python index reachable?"))
        for name, pinned in locked((project() / source).with_suffix(".txt").read_text()).items():
            there = after.get(name, pinned)
            newer = there if Version(there) > Version(pinned) else pinned
            yield Pin(kind=f"Python ({source.parent.name})", name=name, pinned=pinned, patch=newer, newest=newer)


def loosened(text: str) -> str:
    """Return requirements in which patches of what is named flow, and with them all that they need. Pure."""
    return re.sub(r"^([A-Za-z0-9._-]+)==", r"\1~=", text, flags=re.MULTILINE)


def locked(text: str) -> dict[str, str]:
    """Return what a lock file pins. Pure."""
    return dict(PINNED.findall(text))


def uv() -> str:
    """Return the command of uv. Raises VreError when it is not there."""
    beside = Path(sys.prefix, "bin", "uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise VreError("uv is not there", hint="run: vre setup release-packages")
    return found


def _node(report: Report) -> Iterator[Pin]:
    report("npm: proxy")
    told = run(["npm", "outdated", "--json", "--package-lock-only"], cwd=project() / PROXY, accept=(0, 1))
    lock = json.loads((project() / PROXY / "package-lock.json").read_text())["packages"]
    outdated = json.loads(told or "{}")
    for name in lock[""]["dependencies"]:
        pinned = str(lock[f"node_modules/{name}"]["version"])
        there = [str(outdated[name][key]) for key in ("wanted", "latest")] if name in outdated else []
        patch, latest = newest(pinned, there)
        yield Pin(kind="npm", name=name, pinned=pinned, patch=patch, newest=latest)
