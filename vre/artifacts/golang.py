"""Programs written in Go, built from pinned and checksummed modules: `build/go/NAME` says from what exactly."""

import json
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from vre import paths
from vre.artifacts import versions
from vre.artifacts.store import Store
from vre.artifacts.versions import Program, Versions
from vre.errors import VreError
from vre.progress import Report, silent
from vre.run import run

ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
KNOWN_PLACES = ("usr/local/go/bin/go", "usr/lib/go-*/bin/go")  # where Go lies when it is not on PATH
RECIPE = "1"  # raise when the way programs are built changes: it is part of every key
FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false")
DOWNLOADS = 10
# The compiler spends a sixth of its time on tidying its memory; up to this much it need not.
ROOM = {"GOGC": "400", "GOMEMLIMIT": "1500MiB"}
ANCIENT = (1, 16)  # before, `go mod download` cannot fetch a module by name
# What a person set for own work must not change what is built here; go.sum is what the sources are checked against.
CLOSED = {"GOFLAGS": "", "GOWORK": "off", "GO111MODULE": "on", "GOOS": "linux", "GOEXPERIMENT": "", "GOAMD64": "v1"}


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """A Go that can be run: the command, its version, and the environment it is to be run in."""

    command: Path
    version: str
    env: Mapping[str, str] = field(default_factory=dict)


def program(name: str, store: Store | None = None, report: Report = silent) -> Path:
    """Return the folder with the programs of one set of `build/versions.yaml`, built first when they are not there.

    Raises VreError that says which program, what went wrong, and where the log is.
    """
    pins = versions.load()
    build = partial(_build, name, pins, report)
    return (store or Store()).get(f"go-{name}", inputs(name, pins), build, report)


def build_all(names: Sequence[str] = (), report: Report = silent, store: Store | None = None) -> dict[str, Path]:
    """Return the folder of each named set (all that a launch needs when none is named).

    The sources of the next come while one is built.
    """
    pins, kept = versions.load(), store or Store()
    wanted = list(names or usual(pins))
    missing = [name for name in wanted if not kept.has(f"go-{name}", inputs(name, pins))]
    with ThreadPoolExecutor(max_workers=1) as ahead:
        coming = {name: ahead.submit(_fetch_quietly, name, pins, report) for name in missing}
        try:
            return {name: _in_turn(name, coming.get(name), kept, _numbered(report, missing, name)) for name in wanted}
        finally:
            ahead.shutdown(wait=False, cancel_futures=True)


def usual(pins: Versions | None = None) -> list[str]:
    """Return the sets of programs that a launch needs: all but those of tests alone."""
    return [name for name, wanted in (pins or versions.load()).programs.items() if not wanted.test]


def current() -> dict[str, Path]:
    """Return where each pinned set of programs lies or would lie: what `Store.prune` keeps."""
    pins, store = versions.load(), Store()
    return {name: store.path(f"go-{name}", inputs(name, pins)) for name in pins.programs}


def inputs(name: str, pins: Versions) -> dict[str, bytes | str]:
    """Return all that decides what is built: sources by their checksums, packages, flags, the least Go."""
    module = versions.modules() / name
    wanted = pins.program(name)
    return {
        "recipe": RECIPE,
        **{
            f"file {path.relative_to(module)}": path.read_bytes()
            for path in sorted(module.rglob("*"))
            if path.is_file()
        },
        "program": repr(wanted),
        "flags": repr(build_flags(wanted)),
        "go": pins.toolchain.version,
        "architecture": architecture(),
    }


def build_flags(wanted: Program) -> list[str]:
    """Return the flags of `go build`: nothing of this machine in the result, the version stamped in, no symbols."""
    stamps = [f"-X {variable}={value}" for variable, value in sorted(wanted.stamps.items())]
    static = ["-extldflags=-static"] if wanted.cgo else []
    tags = [f"-tags={','.join(wanted.tags)}"] if wanted.tags else []
    return [*FLAGS, *tags, f"-ldflags={' '.join(['-s', '-w', *static, *stamps])}"]


def output_name(package: str) -> str:
    """Return what `go build` calls the program of a package: its last part that is no major version."""
    parts = package.split("/")
    return parts[-2] if re.fullmatch(r"v\d+", parts[-1]) and len(parts) > 1 else parts[-1]


def architecture() -> str:
    """Return this machine's architecture by Go's name for it. Raises VreError for one that nothing is built for."""
    machine = platform.machine().lower()
    if machine not in ARCHITECTURES:
        raise VreError(f"nothing is built for the architecture {machine}", hint="use an x86_64 or aarch64 machine")
    return ARCHITECTURES[machine]


def parse_version(text: str) -> tuple[int, ...]:
    """Return the numbers of a Go version (`go1.26.8`, `1.26`, `go1.27rc1 X:none`); empty when it has none."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def toolchain(pins: Versions | None = None, report: Report = silent) -> Toolchain:
    """Return a Go that is new enough: the installed one, else the pinned one, fetched as a module with its checksum.

    Raises VreError when there is no Go at all or the pinned one cannot be fetched.
    """
    least = (pins or versions.load()).toolchain
    installed = _installed()
    if parse_version(installed.version) >= parse_version(least.version):
        return installed
    if parse_version(installed.version) < ANCIENT:
        raise VreError(f"Go {installed.version} is too old to fetch a newer one", hint=_remedy(least.version))
    report(f"fetching Go {least.version}: the installed one is {installed.version}")
    return _fetched(installed, least)


def _installed() -> Toolchain:
    others = [str(place) for known in KNOWN_PLACES for place in sorted(Path("/").glob(known), reverse=True)]
    found = shutil.which("go") or next(iter(others), None)
    if found is None:
        raise VreError("there is no Go on this machine", hint="run: make setup (it installs Go)")
    env = {**CLOSED, "GOTOOLCHAIN": "local"}
    return Toolchain(command=Path(found), version=run([found, "env", "GOVERSION"], env=env).strip(), env=env)


def _fetched(installed: Toolchain, least: versions.Toolchain) -> Toolchain:
    """Go's releases are modules, too. The go command fetches them itself since 1.21; this way older ones can."""
    system = f"linux-{architecture()}"
    got = fetched(least.version, system)
    if got["Sum"] != least.sums.get(system):
        raise VreError(
            f"Go {least.version} as fetched is not what is pinned: {got['Sum']}", hint=_remedy(least.version)
        )
    root = Path(got["Dir"])
    _make_executable(root)
    return Toolchain(command=root / "bin" / "go", version=least.version, env={**installed.env, "GOROOT": str(root)})


def fetched(version: str, system: str) -> dict[str, str]:
    """Return what the go command says of a toolchain's module (`Dir`, `Sum`, ...), fetched where it is not here yet."""
    installed, module = _installed(), f"golang.org/toolchain@v0.0.1-go{version}.{system}"
    command: list[str | Path] = [installed.command, "mod", "download", "-json", module]
    with tempfile.TemporaryDirectory() as empty:
        got: dict[str, str] = json.loads(run(command, env=installed.env, cwd=Path(empty), hint=_remedy(version)))
    return got


def _make_executable(root: Path) -> None:
    """Modules carry no permissions, so the compiler arrives as plain files; the go command does the same."""
    for folder in (root / "bin", root / "pkg" / "tool"):
        for file in folder.rglob("*"):
            if file.is_file():
                file.chmod(0o755)


def _remedy(version: str) -> str:
    return f"install Go {version} or newer and put it on PATH, then run the same command again"


def _build(name: str, pins: Versions, report: Report, folder: Path) -> None:
    wanted = pins.program(name)
    go = toolchain(pins, report)
    report(f"{name} {wanted.version}: fetching its sources")
    with sources(name, wanted, go) as source:
        _fetch(name, wanted, go, source)
        report(f"{name} {wanted.version}: compiling {', '.join(wanted.packages)}")
        _compile(name, wanted, go, source, folder)
        for file, origin in wanted.files.items():
            shutil.copyfile(downloaded(origin.module, source, go) / origin.path, folder / file)
            (folder / file).chmod(0o755)


@contextmanager
def sources(name: str, wanted: Program, go: Toolchain) -> Iterator[Path]:
    """Give the module to build from: the project's, or for a while a copy with packages of others exchanged for ours.

    What is exchanged comes out of a checksummed module like all the rest; only then are its packages replaced.
    """
    source = versions.modules() / name
    if not wanted.instead:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="vre-") as place:
        copy = shutil.copytree(source, Path(place) / "build")
        for number, (module, packages) in enumerate(sorted(wanted.instead.items())):
            changed = copy / "changed" / str(number)
            shutil.copytree(downloaded(module, source, go), changed, copy_function=shutil.copyfile)
            for package, file in packages.items():
                _exchange(changed / package, source / "instead" / file)
            run([go.command, "mod", "edit", f"-replace={module}=./changed/{number}"], env=go.env, cwd=copy)
        yield copy


def _exchange(package: Path, file: Path) -> None:
    package.chmod(0o755)
    for old in package.iterdir():
        if old.is_file():
            old.unlink()
    shutil.copyfile(file, package / file.name)


def _compile(name: str, wanted: Program, go: Toolchain, source: Path, folder: Path) -> None:
    """All packages in one call, so that what they share is compiled once."""
    _logged(
        name,
        wanted,
        go,
        source,
        [go.command, "build", *build_flags(wanted), f"-o={folder}/", *wanted.packages.values()],
    )
    for called, package in wanted.packages.items():
        (folder / output_name(package)).rename(folder / called)


def _fetch(name: str, wanted: Program, go: Toolchain, source: Path) -> None:
    """Load all packages, which brings only the modules that are needed, and none of which only tests need."""
    quiet = "-f={{if .Error}}{{.ImportPath}}{{end}}"
    _log(name).unlink(missing_ok=True)  # a person is shown this attempt, not all before it
    many = replace(go, env={**go.env, "GOMAXPROCS": str(DOWNLOADS)})  # so many modules come at once
    _logged(name, wanted, many, source, [go.command, "list", *FLAGS[:1], "-deps", quiet, *wanted.packages.values()])


def downloaded(name: str, source: Path, go: Toolchain) -> Path:
    """Return where the go command keeps a module, downloaded and checked. Raises VreError when it does not come."""
    said = run([go.command, "mod", "download", "-json", name], env=go.env, cwd=source)
    return Path(json.loads(said)["Dir"])


def _logged(name: str, wanted: Program, go: Toolchain, source: Path, command: Sequence[str | Path]) -> None:
    log = _log(name)
    env = {**go.env, **ROOM, "CGO_ENABLED": "1" if wanted.cgo else "0", "GOARCH": architecture()}
    hint = f"the whole log: {log}\n  then run the same command again: what is built already is not built twice"
    try:
        run(command, env=env, cwd=source, output=log, hint=hint)
    except VreError as error:
        raise VreError(f"building {name} {wanted.version}: {error.message}", hint=error.hint) from error


def _log(name: str) -> Path:
    return paths.cache() / "logs" / f"go-{name}.log"


def _fetch_quietly(name: str, pins: Versions, report: Report) -> None:
    """Fetch sources ahead of their turn, and do not speak over what is being compiled meanwhile.

    What fails here fails again, and is told, when the turn comes.
    """
    try:
        wanted, go = pins.program(name), toolchain(pins)
        with sources(name, wanted, go) as source:
            _fetch(name, wanted, go, source)
    except VreError:
        report(f"{name}: its sources did not come at the first attempt")


def _in_turn(name: str, coming: "Future[None] | None", store: Store, report: Report) -> Path:
    if coming is not None:
        report(f"{name}: fetching its sources")
        coming.result()
    return program(name, store, report)


def _numbered(report: Report, missing: Sequence[str], name: str) -> Report:
    if name not in missing:
        return report
    place = f"program {missing.index(name) + 1} of {len(missing)}"

    def say(message: str) -> None:
        report(f"{place}: {message}")

    return say
