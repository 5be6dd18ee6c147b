"""Pins against upstream: patches flow, minor versions are held, and a raised pin is raised everywhere."""

import json
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from vre.artifacts import golang, versions
from vre.artifacts.golang import Toolchain
from vre.errors import VreError
from vre.progress import silent
from vre.release import gomod, pins, raising
from vre.release.pins import Pin

NAMES = sorted(versions.load().programs)


@pytest.mark.parametrize(
    ("pinned", "there", "patch", "newest"),
    [
        ("v1.36.3", ["v1.36.9", "v1.36.10", "v1.37.0-rc.1", "v1.37.0"], "v1.36.10", "v1.37.0"),
        ("v1.36.3", ["v1.36.2", "v1.35.9"], "v1.36.3", "v1.36.3"),
        ("v1.36.3", [], "v1.36.3", "v1.36.3"),
        ("6.1.1", ["6.1.2rc1", "not a version", "6.1.1.post1"], "6.1.1.post1", "6.1.1.post1"),
        ("v3.6.14", ["v3.6.15-0.20260101", "v3.7.0-alpha.0", "v3.7.3"], "v3.6.14", "v3.7.3"),
    ],
)
def test_the_newest_of_the_same_minor_is_found(pinned: str, there: list[str], patch: str, newest: str) -> None:
    assert pins.newest(pinned, there) == (patch, newest)


numbers = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 20)).map(lambda each: ".".join(map(str, each)))


@given(pinned=numbers, there=st.lists(numbers))
def test_no_pin_is_ever_lowered_and_no_minor_is_ever_left(pinned: str, there: list[str]) -> None:
    patch, newest = pins.newest(pinned, there)
    assert Version(pinned) <= Version(patch) <= Version(newest)
    assert Version(patch).release[:2] == Version(pinned).release[:2]


@pytest.mark.parametrize("name", NAMES)
def test_a_raised_program_is_raised_with_all_its_stamps_and_no_other_is_touched(name: str) -> None:
    before = versions.load()
    old = before.program(name).version
    new = f"{old.rpartition('.')[0]}.999"
    text = raising.in_table(versions.table().read_text(), pin(name, old, new))
    after = versions.parse(text, where="raised")
    stamps = {key: value.replace(old[1:], new[1:]) for key, value in before.program(name).stamps.items()}
    assert after.program(name) == replace(before.program(name), version=new, stamps=stamps)
    others = set(NAMES) - {name}
    assert {each: after.program(each) for each in others} == {each: before.program(each) for each in others}


def pin(name: str, old: str, new: str) -> Pin:
    return Pin(kind="Go", name=name, pinned=old, patch=new, newest=new)


@pytest.mark.parametrize("name", NAMES)
def test_a_raised_module_is_raised_and_no_other_is_touched(name: str) -> None:
    program = versions.load().program(name)
    new = f"{program.version.rpartition('.')[0]}.999"
    before = (versions.modules() / name / "go.mod").read_text().splitlines()
    text = "\n".join(before)
    after = gomod.raised(text, program.module, pin(name, program.version, new)).splitlines()
    changed = [(old, now) for old, now in zip(before, after, strict=True) if old != now]
    assert any(program.module in now and new in now for _, now in changed)
    if name == "kubernetes":
        assert all("k8s.io/" in now for _, now in changed)
        assert not any(re.search(r"v0\.36\.3\b", now) for now in after)
    else:
        assert len(changed) == 1


def test_a_raised_toolchain_is_raised_with_its_checksums_and_nothing_else_is() -> None:
    before = versions.load()
    after = versions.Toolchain(version="1.26.999", sums={system: f"h1:{system}=" for system in before.toolchain.sums})
    text = raising.with_toolchain(versions.table().read_text(), before.toolchain, after)
    assert versions.parse(text, where="raised") == replace(before, toolchain=after)


def test_go_itself_is_asked_for_and_raised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def fetched(version: str, system: str) -> dict[str, str]:
        asked.append(f"{version} {system}")
        return {"Sum": f"h1:{system}="}

    table = tmp_path / "versions.yaml"
    table.write_text(versions.table().read_text())
    own = versions.load().toolchain
    minor = own.version.rpartition(".")[0]
    go = Toolchain(command=Path("go"), version=f"go{own.version}", env={})
    monkeypatch.setattr(golang, "toolchain", lambda: go)
    monkeypatch.setattr(golang, "fetched", fetched)
    monkeypatch.setattr(pins, "run", lambda *_, **__: f"go 1.4 {minor}.998 {minor}.999 {minor}.1000rc1 2.0.0\n")
    monkeypatch.setattr(versions, "table", lambda: table)
    [found] = pins._toolchain(silent)
    assert (found.pinned, found.patch, found.newest) == (own.version, f"{minor}.999", "2.0.0")
    assert raising.raised([found], silent) == ([table], [])
    assert asked == [f"{minor}.999 {system}" for system in own.sums]
    assert versions.load(table).toolchain.version == f"{minor}.999"


@pytest.mark.requirement("P-11")
@pytest.mark.parametrize("ends", [VreError("go mod tidy: 403"), KeyboardInterrupt()])
def test_what_cannot_be_raised_stays_whole_and_keeps_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ends: BaseException
) -> None:
    table = tmp_path / "versions.yaml"
    table.write_text(versions.table().read_text())
    for name in ("coredns", "etcd", "kubernetes"):
        shutil.copytree(versions.modules() / name, tmp_path / name)
    before = {file: file.read_text() for file in (table, *tmp_path.rglob("go.*"))}
    found = [
        Pin(kind="Go", name=name, pinned=pinned, patch=f"{pinned}9", newest=f"{pinned}9")
        for name, pinned in (("coredns", version("coredns")), ("etcd", version("etcd")))
    ]
    monkeypatch.setattr(versions, "table", lambda: table)
    monkeypatch.setattr(versions, "modules", lambda: tmp_path)
    monkeypatch.setattr(golang, "toolchain", lambda: Toolchain(command=Path("go"), version="go1", env={}))

    def tidy(*_: object, cwd: Path, **__: object) -> str:
        (cwd / "go.sum").write_text("half\n")
        if cwd.name == "coredns":
            raise ends
        return ""

    monkeypatch.setattr(raising, "run", tidy)
    if isinstance(ends, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            raising.raised(found, silent)
        assert {file: file.read_text() for file in before} == before
        return
    changed, [fault] = raising.raised(found, silent)
    assert changed == [table, tmp_path / "etcd" / "go.mod", tmp_path / "etcd" / "go.sum"]
    assert "Go: coredns stays as it was: go mod tidy: 403" in str(fault)
    assert {file for file, text in before.items() if file.read_text() != text} == set(changed)
    assert versions.load(table).program("etcd").version == found[1].patch
    assert versions.load(table).program("coredns").version == found[0].pinned


OLD = "module m\n\nrequire (\n\tone v0.9.0\n\ttwo v1.10.0 // indirect\n\tthree v1.0.0\n)\n\nreplace three => ../three\n"
NEW = "require one v0.10.0\nrequire (\n\ttwo v1.9.0\n\tthree v2.0.0\n\tfour v1.0.0 // indirect\n)\n"


def test_what_another_module_has_newer_is_found() -> None:
    assert gomod.older(OLD, NEW) == ["one@v0.10.0"]
    assert gomod.older(NEW, OLD) == ["two@v1.10.0"]
    before, after = "v0.0.0-20260414002931-afd174a4e478", "v0.0.0-20260803160001-6ac0973c030d"
    assert gomod.older(f"require one {before}\n", f"require one {after}\n") == [f"one@{after}"]
    assert not gomod.older(f"require one {after}\n", f"require one {before}\n")


@pytest.mark.requirement("P-11")
def test_what_a_program_shares_with_kubernetes_is_raised_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table, folder = tmp_path / "versions.yaml", tmp_path / "etcd"
    table.write_text(versions.table().read_text())
    shutil.copytree(versions.modules() / "etcd", folder)
    (tmp_path / "kubernetes").mkdir()
    (tmp_path / "kubernetes" / "go.mod").write_text("require golang.org/x/crypto v0.999.0\n")
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(versions, "table", lambda: table)
    monkeypatch.setattr(versions, "modules", lambda: tmp_path)
    monkeypatch.setattr(golang, "toolchain", lambda: Toolchain(command=Path("go"), version="go1", env={}))
    monkeypatch.setattr(raising, "run", lambda words, **_: ran.append(tuple(map(str, words))))
    late = Pin(kind="Go", name="etcd", pinned=version("etcd"), patch="v3.6.999", newest="v3.6.999")
    assert raising.raised([late], silent)[1] == []
    tidy = ("go", "mod", "tidy")
    assert ran == [tidy, ("go", "get", "golang.org/x/crypto@v0.999.0"), tidy]


UP = "example.org/up"
UP_TABLE = f"""
toolchain: {{version: "1.21", sums: {{}}}}

programs:
  up:
    module: {UP}
    version: v1.0.0
    packages: {{up: {UP}/cmd/up}}
    instead: {{{UP}: {{cloud: ours.go}}}}
"""
UP_SOURCES = {
    "go.mod": f"module {UP}\n\ngo 1.21\n\nrequire example.org/nowhere v1.0.0\n",
    "cmd/up/main.go": f'package main\n\nimport _ "{UP}/cloud"\n\nfunc main() {{}}\n',
    "cloud/theirs.go": 'package cloud\n\nimport _ "example.org/nowhere"\n',
}


@pytest.mark.requirement("P-11")
def test_what_only_exchanged_sources_need_is_not_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, table, served = tmp_path / "go" / "up", tmp_path / "versions.yaml", tmp_path / "served"
    for release in ("v1.0.0", "v1.0.1"):
        serve(served, UP, release, UP_SOURCES)
    serve(served, "example.org/nowhere", "v1.0.0", {"go.mod": "module example.org/nowhere\n"}, whole=False)
    (folder / "instead").mkdir(parents=True)
    (folder / "instead" / "ours.go").write_text("package cloud\n")
    (folder / "go.mod").write_text(
        f"module vre/build/up\n\ngo 1.24\n\ntool {UP}/cmd/up\n\nrequire {UP} v1.0.0 // indirect\n"
    )
    (folder / "go.sum").touch()
    (tmp_path / "go" / "kubernetes").mkdir()
    (tmp_path / "go" / "kubernetes" / "go.mod").touch()
    table.write_text(UP_TABLE)
    go = golang.toolchain()
    here = {"GOPROXY": served.as_uri(), "GOSUMDB": "off", "GOMODCACHE": str(tmp_path / "modules")}
    monkeypatch.setattr(golang, "toolchain", lambda: replace(go, env={**go.env, **here}))
    monkeypatch.setattr(versions, "table", lambda: table)
    monkeypatch.setattr(versions, "modules", lambda: tmp_path / "go")
    changed, faults = raising.raised([pin("up", "v1.0.0", "v1.0.1")], silent)
    assert faults == []
    assert changed == [table, folder / "go.mod", folder / "go.sum"]
    assert gomod.required((folder / "go.mod").read_text()) == {UP: "v1.0.1"}
    assert gomod.listed((folder / "go.mod").read_text(), "replace") == []
    assert re.search(rf"^{UP} v1.0.1 h1:", (folder / "go.sum").read_text(), re.MULTILINE)


def serve(place: Path, module: str, release: str, files: dict[str, str], *, whole: bool = True) -> None:
    """Put a module where the go command finds it by GOPROXY (https://go.dev/ref/mod#goproxy-protocol)."""
    folder = place / module / "@v"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{release}.info").write_text(json.dumps({"Version": release}))
    (folder / f"{release}.mod").write_text(files["go.mod"])
    if whole:
        with zipfile.ZipFile(folder / f"{release}.zip", "w") as archive:
            for name, text in files.items():
                archive.writestr(f"{module}@{release}/{name}", text)


@pytest.mark.requirement("P-11")
def test_all_that_shares_with_kubernetes_is_looked_at_when_that_is_raised() -> None:
    late = Pin(kind="Go", name="kubernetes", pinned="v1.36.3", patch="v1.36.4", newest="v1.36.4")
    assert [step.name for step in raising._steps([late], silent)] == [
        f"Go: {name}" for name in versions.load().programs
    ]
    assert next(iter(versions.load().programs)) == "kubernetes"


def version(name: str) -> str:
    return versions.load().program(name).version


def test_patches_of_what_is_named_flow() -> None:
    text = "# a comment with a==b\njupyterhub==6.1.1\nidle>=1,<2\n"
    assert pins.loosened(text) == "# a comment with a==b\njupyterhub~=6.1.1\nidle>=1,<2\n"


def test_a_lock_says_what_it_pins() -> None:
    text = "aiodns==4.0.4 \\\n    --hash=sha256:c2\n    # via x==1\nuvloop==1.2 ; sys_platform != 'win32' \\\n"
    assert pins.locked(text) == {"aiodns": "4.0.4", "uvloop": "1.2"}
