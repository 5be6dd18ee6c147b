"""How far what is pinned is behind its makers: asked of each registry through its ordinary client.

Patch versions flow, minor ones are held: raising those is a decision of a person.
"""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from packaging.version import InvalidVersion, Version
from univers.versions import GolangVersion

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
        command: list[str | Path] = [_uv(), *COMPILE, "--python-version", PYTHON, "--override", OVERRIDES, "-"]
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


def _uv() -> str:
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


@dataclass(frozen=True, kw_only=True)
class Raise:
    """One step of raising: what it is called, the files that it writes, and what writes them."""

    name: str
    files: Sequence[Path]
    work: Callable[[], None]


def raised(pins: Sequence[Pin], report: Report) -> tuple[list[Path], list[VreError]]:
    """Raise every pin that is behind its newest patch, each by itself.

    Returns the files that changed, and what kept others as they were: their files are put back.
    """
    changed: list[Path] = []
    faults: list[VreError] = []
    for step in _steps([pin for pin in pins if pin.behind], report):
        before = {file: file.read_bytes() for file in step.files}
        try:
            step.work()
        except BaseException as error:
            for file, content in before.items():
                file.write_bytes(content)
            if not isinstance(error, VreError):
                raise
            faults.append(VreError(f"{step.name} stays as it was: {error}"))
        else:
            changed += [file for file in step.files if file.read_bytes() != before[file]]
    return list(dict.fromkeys(changed)), faults


def _steps(late: Sequence[Pin], report: Report) -> Iterator[Raise]:
    """Yield what there is to raise: Go, each Go program, each Python lock, the npm lock."""
    table = versions.table()
    for pin in (pin for pin in late if pin.kind == TOOLCHAIN):
        yield Raise(name=pin.kind, files=[table], work=partial(_raise_toolchain, pin, report))
    go = {pin.name: partial(_raise_go, pin, report) for pin in late if pin.kind == "Go"}
    if KUBERNETES in go:
        go = {name: go.get(name) or partial(_level, name) for name in versions.load().programs}
    for name, work in go.items():
        module = versions.modules() / name
        yield Raise(name=f"Go: {name}", files=[table, module / "go.mod", module / "go.sum"], work=work)
    for source in LOCKS:
        name = f"Python ({source.parent.name})"
        if own := [pin for pin in late if pin.kind == name]:
            files = [project() / source, project() / source.with_suffix(".txt")]
            yield Raise(name=name, files=files, work=partial(_raise_python, source, own, report))
    if own := [pin for pin in late if pin.kind == "npm"]:
        files = [project() / PROXY / name for name in ("package.json", "package-lock.json")]
        yield Raise(name="npm", files=files, work=partial(_raise_npm, own, report))


def _raise_toolchain(pin: Pin, report: Report) -> None:
    """Write version and checksums of the toolchain's module; the go command holds these against Go's own record."""
    table, before = versions.table(), versions.load().toolchain
    sums = {}
    for system in before.sums:
        report(f"Go itself: {pin.patch} for {system}")
        sums[system] = golang.fetched(pin.patch, system)["Sum"]
    table.write_text(with_toolchain(table.read_text(), before, versions.Toolchain(version=pin.patch, sums=sums)))


def with_toolchain(text: str, before: versions.Toolchain, after: versions.Toolchain) -> str:
    """Return build/versions.yaml with another Go. Pure."""
    start, end = text.index("\ntoolchain:\n"), text.index("\nprograms:\n")
    block = _replaced(text[start:end], before.version, after.version)
    for system, told in before.sums.items():
        block = block.replace(told, after.sums[system])
    return text[:start] + block + text[end:]


def _raise_go(pin: Pin, report: Report) -> None:
    """Write the version into the table and the module, then have Go work out the checksums."""
    report(f"Go: {pin.name} {pin.patch}")
    program, go = versions.load().program(pin.name), golang.toolchain()
    folder, table = versions.modules() / pin.name, versions.table()
    table.write_text(in_table(table.read_text(), pin))
    module = folder / "go.mod"
    module.write_text(in_module(module.read_text(), program.module, pin))
    run([go.command, "mod", "tidy"], env=go.env, cwd=folder)
    _level(pin.name)


def _level(name: str) -> None:
    """Raise what a program has older than Kubernetes: what is patched in one is patched in all.

    But for the engine, which is no part of a machine.
    """
    if name.startswith("pulumi"):
        return
    folder, go = versions.modules() / name, golang.toolchain()
    text, kubernetes = ((versions.modules() / each / "go.mod").read_text() for each in (name, KUBERNETES))
    if late := older(text, kubernetes):
        run([go.command, "get", *late], env=go.env, cwd=folder)
        run([go.command, "mod", "tidy"], env=go.env, cwd=folder)


def older(text: str, other: str) -> list[str]:
    """Return the modules that one go.mod has older than another, as `path@version` of the other. Pure."""
    own, wanted = required(text), required(other)
    shared = sorted(own.keys() & wanted.keys())
    return [f"{path}@{wanted[path]}" for path in shared if GolangVersion(own[path]) < GolangVersion(wanted[path])]


def required(text: str) -> dict[str, str]:
    """Return module -> version of a go.mod, of those that it does not replace. Pure."""
    replaced = {entry.split()[0] for entry in listed(text, "replace")}
    pairs = (entry.split()[:2] for entry in listed(text, "require"))
    return {path: version for path, version in pairs if path not in replaced}


def listed(text: str, word: str) -> list[str]:
    """Return the entries of a directive in go.mod, written on one line or in brackets. Pure."""
    blocks = re.findall(rf"^{word} \((.*?)^\)", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines + re.findall(rf"^{word} ([^(\n]+)$", text, re.MULTILINE) if line]


def in_table(text: str, pin: Pin) -> str:
    """Return build/versions.yaml with a program's version raised, there and where it is stamped. Pure."""
    start = text.index(f"\n  {pin.name}:\n")
    found = re.search(r"\n  \S", text[start + 3 :])
    end = start + 3 + found.start() if found else len(text)
    block = _replaced(_replaced(text[start:end], pin.pinned, pin.patch), pin.pinned[1:], pin.patch[1:])
    return text[:start] + block + text[end:]


def in_module(text: str, module: str, pin: Pin) -> str:
    """Return a go.mod with the program's module raised, and Kubernetes' own parts, whose releases go with it. Pure."""
    line = rf"^(\s*(?:require )?{re.escape(module)}) {re.escape(pin.pinned)}\b"
    raised = re.sub(line, rf"\1 {pin.patch}", text, flags=re.MULTILINE)
    if module != "k8s.io/kubernetes":
        return raised
    return _replaced(raised, pin.pinned.replace("v1.", "v0.", 1), pin.patch.replace("v1.", "v0.", 1))


def _replaced(text: str, old: str, new: str) -> str:
    return re.sub(rf"(?<![\w.]){re.escape(old)}(?![\w.]|-)", new, text)


def _raise_python(source: Path, late: Sequence[Pin], report: Report) -> None:
    report(f"Python: {source.parent.name}")
    wanted = project() / source
    text = wanted.read_text()
    for pin in late:
        text = re.sub(rf"^{re.escape(pin.name)}==.*$", f"{pin.name}=={pin.patch}", text, flags=re.MULTILINE)
    wanted.write_text(text)
    lock = source.with_suffix(".txt")
    words: list[str | Path] = ["--python-version", PYTHON, "--override", OVERRIDES, source, "--output-file", lock]
    command: list[str | Path] = [_uv(), *COMPILE, *words]
    run(command, cwd=project())


def _raise_npm(late: Sequence[Pin], report: Report) -> None:
    report("npm: proxy")
    names = [f"{pin.name}@{pin.patch}" for pin in late]
    run(["npm", "install", "--package-lock-only", "--ignore-scripts", "--save-exact", *names], cwd=project() / PROXY)
