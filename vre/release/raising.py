"""What is pinned takes its newest patch: tables, modules and locks are rewritten, each program by itself."""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vre.artifacts import golang, versions
from vre.errors import VreError
from vre.paths import project
from vre.progress import Report
from vre.release import gomod
from vre.release.pins import COMPILE, KUBERNETES, LOCKS, OVERRIDES, PROXY, PYTHON, TOOLCHAIN, Pin, uv
from vre.run import run


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
        go = {name: go.get(name) or partial(_work_out, name) for name in versions.load().programs}
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
    block = gomod.replaced(text[start:end], before.version, after.version)
    for system, told in before.sums.items():
        block = block.replace(told, after.sums[system])
    return text[:start] + block + text[end:]


def _raise_go(pin: Pin, report: Report) -> None:
    """Write the version into the table and the module, then have Go work out the rest."""
    report(f"Go: {pin.name} {pin.patch}")
    program, table = versions.load().program(pin.name), versions.table()
    table.write_text(in_table(table.read_text(), pin))
    module = versions.modules() / pin.name / "go.mod"
    module.write_text(gomod.raised(module.read_text(), program.module, pin))
    _work_out(pin.name)


def _work_out(name: str) -> None:
    """Have Go work out which modules a program needs, and their checksums, from the sources that it is built from.

    What is exchanged in them for ours needs none: in the sources as they come, two programs would need a hundred more.
    """
    folder, go, program = versions.modules() / name, golang.toolchain(), versions.load().program(name)
    with golang.sources(name, program, go) as place:
        run([go.command, "mod", "tidy"], env=go.env, cwd=place)
        if late := _late(name, (place / "go.mod").read_text()):
            run([go.command, "get", *late], env=go.env, cwd=place)
            run([go.command, "mod", "tidy"], env=go.env, cwd=place)
        for module in program.instead:  # it is checked as it comes, before something in it is exchanged
            run([go.command, "mod", "edit", f"-dropreplace={module}"], env=go.env, cwd=place)
            golang.downloaded(module, place, go)
        if place != folder:
            for file in ("go.mod", "go.sum"):
                shutil.copyfile(place / file, folder / file)


def _late(name: str, text: str) -> list[str]:
    """Return what a program's go.mod has older than Kubernetes: what is patched in one is patched in all.

    But for the engine, which is no part of a machine.
    """
    if name.startswith("pulumi"):
        return []
    return gomod.older(text, (versions.modules() / KUBERNETES / "go.mod").read_text())


def in_table(text: str, pin: Pin) -> str:
    """Return build/versions.yaml with a program's version raised, there and where it is stamped. Pure."""
    start = text.index(f"\n  {pin.name}:\n")
    found = re.search(r"\n  \S", text[start + 3 :])
    end = start + 3 + found.start() if found else len(text)
    block = gomod.replaced(gomod.replaced(text[start:end], pin.pinned, pin.patch), pin.pinned[1:], pin.patch[1:])
    return text[:start] + block + text[end:]


def _raise_python(source: Path, late: Sequence[Pin], report: Report) -> None:
    report(f"Python: {source.parent.name}")
    wanted = project() / source
    text = wanted.read_text()
    for pin in late:
        text = re.sub(rf"^{re.escape(pin.name)}==.*$", f"{pin.name}=={pin.patch}", text, flags=re.MULTILINE)
    wanted.write_text(text)
    lock = source.with_suffix(".txt")
    words: list[str | Path] = ["--python-version", PYTHON, "--override", OVERRIDES, source, "--output-file", lock]
    command: list[str | Path] = [uv(), *COMPILE, *words]
    run(command, cwd=project())


def _raise_npm(late: Sequence[Pin], report: Report) -> None:
    report("npm: proxy")
    names = [f"{pin.name}@{pin.patch}" for pin in late]
    run(["npm", "install", "--package-lock-only", "--ignore-scripts", "--save-exact", *names], cwd=project() / PROXY)
