"""Go programs: what is pinned is what the modules say, and every fault is told to a person."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from vre.artifacts import golang, versions
from vre.artifacts.store import Store
from vre.errors import Refused, VreError
from vre.paths import project
from vre.progress import Report, silent
from vre.release import gomod
from vre.release.gomod import listed

PINS = versions.load()
NAMES = sorted(PINS.programs)
ETCD = PINS.program("etcd").version
STRIPPED = re.compile(r"\s*//.*$", re.MULTILINE)


def module(name: str) -> str:
    return STRIPPED.sub("", (versions.modules() / name / "go.mod").read_text())


def test_each_module_has_pins_and_each_pin_a_module() -> None:
    assert sorted(path.name for path in versions.modules().iterdir()) == NAMES


def test_what_only_tests_need_is_built_when_a_test_asks() -> None:
    assert set(NAMES) - set(golang.usual()) == {"pebble"}


@pytest.mark.parametrize("name", NAMES)
def test_module_and_pins_name_the_same_version(name: str) -> None:
    wanted = PINS.program(name)
    assert f"{wanted.module} {wanted.version}" in listed(module(name), "require")


@pytest.mark.parametrize("name", NAMES)
def test_module_and_pins_name_the_same_programs(name: str) -> None:
    own = f"vre/build/{name}"  # a program whose main package is ours needs no directive to be kept
    packages = [package for package in PINS.program(name).packages.values() if package != own]
    assert sorted(listed(module(name), "tool")) == sorted(packages)
    assert len(packages) == len(PINS.program(name).packages) or (versions.modules() / name / "main.go").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_instead_is_there_and_used(name: str) -> None:
    folder = versions.modules() / name / "instead"
    used = {file for packages in PINS.program(name).instead.values() for file in packages.values()}
    assert used == {file.name for file in folder.glob("*")}


@pytest.mark.parametrize("name", NAMES)
def test_sources_that_are_changed_are_checked_before(name: str) -> None:
    sums = (versions.modules() / name / "go.sum").read_text()
    for changed in PINS.program(name).instead:
        assert re.search(rf"^{re.escape(changed)} v\S+ h1:", sums, re.MULTILINE), changed


@pytest.mark.parametrize("name", NAMES)
def test_every_required_version_has_its_checksum(name: str) -> None:
    sums = (versions.modules() / name / "go.sum").read_text()
    text = module(name)
    swapped = dict(entry.split(" => ") for entry in listed(text, "replace"))
    for entry in listed(text, "require"):
        used = swapped.get(entry.split()[0], entry)
        assert re.search(rf"^{re.escape(used)}(/go\.mod)? h1:", sums, re.MULTILINE), used


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stamped_in_is_the_pinned_version(name: str) -> None:
    wanted = PINS.program(name)
    stamped = {value for variable, value in wanted.stamps.items() if variable.lower().endswith("version")}
    assert stamped <= {wanted.version, wanted.version.removeprefix("v")}


@pytest.mark.parametrize("name", NAMES)
def test_the_pinned_go_can_build_it(name: str) -> None:
    needed = re.search(r"^go (\S+)", module(name), re.MULTILINE)
    assert needed
    assert golang.parse_version(PINS.toolchain.version) >= golang.parse_version(needed[1])


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("pulumi")])
def test_what_is_shared_with_kubernetes_is_no_older(name: str) -> None:
    """What is patched in Kubernetes is patched in all; equal versions are compiled once for all of them, too."""
    assert not gomod.older(module(name), module("kubernetes"))


def test_kubernetes_is_of_one_piece() -> None:
    minor = PINS.program("kubernetes").version.split(".")[1:]
    replaced = [entry.split()[-1] for entry in listed(module("kubernetes"), "replace")]
    assert replaced
    assert set(replaced) == {f"v0.{'.'.join(minor)}"}


def test_the_engine_and_the_sdk_are_of_one_version() -> None:
    assert f'"pulumi=={PINS.program("pulumi").version[1:]}"' in (project() / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("go1.26.8", (1, 26, 8)), ("1.26", (1, 26, 0)), ("go1.27rc1 X:none", (1, 27, 0)), ("devel", ())],
)
def test_go_versions_are_read(text: str, numbers: tuple[int, ...]) -> None:
    assert golang.parse_version(text) == numbers


@pytest.mark.parametrize(
    ("package", "called"),
    [("go.etcd.io/etcd/server/v3", "server"), ("k8s.io/kubernetes/cmd/kubeadm", "kubeadm"), ("example.org/v1x", "v1x")],
)
def test_go_names_programs_by_their_package(package: str, called: str) -> None:
    assert golang.output_name(package) == called


def test_flags_keep_this_machine_out_and_checksums_in() -> None:
    flags = golang.build_flags(PINS.program("kubernetes"))
    assert {"-mod=readonly", "-trimpath", "-buildvcs=false"} < set(flags)
    assert "-X k8s.io/component-base/version.gitVersion=v1.36.3" in flags[-1]
    assert "static" not in flags[-1]
    assert "-extldflags=-static" in golang.build_flags(replace(PINS.program("etcd"), cgo=True))[-1]
    assert "-tags=netgo,osusergo" in golang.build_flags(replace(PINS.program("etcd"), tags=("netgo", "osusergo")))


def test_the_key_follows_sources_flags_and_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = golang.inputs("etcd", PINS)
    copied = tmp_path / "go"
    shutil.copytree(versions.modules() / "etcd", copied / "etcd")
    (copied / "etcd" / "go.sum").write_text("other")
    monkeypatch.setattr(versions, "modules", lambda: copied)
    changed = golang.inputs("etcd", PINS)
    assert {label for label in before if before[label] != changed[label]} == {"file go.sum"}


def fake_go(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str = "go1.99.0", rest: str = "") -> Path:
    """Put a `go` on PATH that says a version and writes its arguments down."""
    folder.mkdir(exist_ok=True)
    command = folder / "go"
    command.write_text(
        f'#!/bin/sh\nif [ "$1 $2" = "env GOVERSION" ]; then echo {version}; exit; fi\n'
        f'echo "$GOFLAGS|$CGO_ENABLED|$*" >> {folder}/calls\n{rest}\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return command


BUILDS = """
case $1 in build)
  for word in "$@"; do case $word in -o=*) echo made > "${word#-o=}server" ;; esac; done
esac"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VRE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_program_is_built_once_and_called_as_pinned(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_go(tmp_path / "bin", monkeypatch, rest=BUILDS)
    monkeypatch.setenv("GOFLAGS", "-mod=mod")  # a person's own setting must not switch the checksums off
    said: list[str] = []
    folder = golang.program("etcd", report=said.append)
    assert [path.name for path in folder.iterdir()] == ["etcd"]
    assert golang.program("etcd") == folder == golang.current()["etcd"]
    calls = (tmp_path / "bin" / "calls").read_text().splitlines()
    assert [call.split("|")[:2] for call in calls] == [["", "0"]] * 2
    assert [call.split("|")[2].split()[0] for call in calls] == ["list", "build"]
    assert said[-1] == f"etcd {ETCD}: compiling etcd"


def test_packages_are_exchanged_in_a_copy_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = tmp_path / "upstream"
    for file in ("pkg/one/a.go", "pkg/one/b.go", "pkg/two/c.go"):
        (upstream / file).parent.mkdir(parents=True, exist_ok=True)
        (upstream / file).write_text("upstream")
        (upstream / file).chmod(0o444)  # as the go command leaves them
    fake_go(
        tmp_path / "bin",
        monkeypatch,
        rest=f"""[ "$2" = download ] && echo '{json.dumps({"Dir": str(upstream)})}'; exit 0""",
    )
    monkeypatch.setattr(versions, "modules", lambda: tmp_path)
    source = tmp_path / "etcd"
    (source / "instead").mkdir(parents=True)
    (source / "instead" / "ours.go").write_text("ours")
    wanted = replace(PINS.program("etcd"), instead={"example.org/x": {"pkg/one": "ours.go"}})
    with golang.sources("etcd", wanted, golang.toolchain(PINS)) as copy:
        made = copy / "changed" / "0" / "pkg"
        assert [file.name for file in (made / "one").iterdir()] == ["ours.go"]
        assert (made / "two" / "c.go").read_text() == "upstream"
    assert not copy.exists()
    assert (upstream / "pkg/one/b.go").read_text() == "upstream"
    assert not (source / "changed").exists()
    assert "mod edit -replace=example.org/x=./changed/0" in (tmp_path / "bin" / "calls").read_text()


def test_all_are_counted(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(tmp_path / "bin", monkeypatch, rest=BUILDS)
    said: list[str] = []
    assert list(golang.build_all(["etcd"], said.append)) == ["etcd"]
    assert f"program 1 of 1: etcd {ETCD}: compiling etcd" in said
    said.clear()
    assert list(golang.build_all(["etcd"], said.append)) == ["etcd"]
    assert said == []


def test_what_is_fetched_ahead_does_not_speak_over_what_is_compiled(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_go(tmp_path / "bin", monkeypatch, rest=BUILDS)
    made = golang.toolchain(PINS)

    def fetching(pins: versions.Versions, report: Report = silent) -> golang.Toolchain:
        report("fetching Go")
        return made

    monkeypatch.setattr(golang, "toolchain", fetching)
    said: list[str] = []
    golang.build_all(["etcd"], said.append)
    assert [line for line in said if "fetching Go" in line] == ["program 1 of 1: fetching Go"]


def test_a_failed_build_tells_what_where_and_what_next(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_go(tmp_path / "bin", monkeypatch, rest="echo no space left on device >&2; exit 1")
    with pytest.raises(VreError, match=rf"(?s)building etcd {re.escape(ETCD)}: .*no space left") as told:
        golang.build_all(["etcd"])
    log = cache / "logs" / "go-etcd.log"
    assert str(log) in told.value.hint
    assert "no space left" in log.read_text()
    before = log.read_text()
    with pytest.raises(VreError):
        golang.program("etcd")
    assert log.read_text() == before  # the log of one attempt, not of all
    assert not Store().has("go-etcd", golang.inputs("etcd", PINS))


def test_no_go_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(golang, "KNOWN_PLACES", ())
    with pytest.raises(VreError, match="no Go") as told:
        golang.toolchain(PINS)
    assert "make setup" in told.value.hint


def test_a_go_too_old_to_help_itself_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(tmp_path / "bin", monkeypatch, "go1.15.2")
    with pytest.raises(VreError, match=r"go1\.15\.2 is too old"):
        golang.toolchain(PINS)


def test_an_installed_go_that_fits_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = fake_go(tmp_path / "bin", monkeypatch, f"go{PINS.toolchain.version}")
    found = golang.toolchain(PINS)
    assert (found.command, found.env["GOTOOLCHAIN"]) == (command, "local")
    assert not (tmp_path / "bin" / "calls").exists()


def fetched(tmp_path: Path, digest: str) -> str:
    root = tmp_path / "fetched"
    for file in ("bin/go", "pkg/tool/linux/compile"):
        (root / file).parent.mkdir(parents=True)
        (root / file).touch(0o444)
    return f"echo '{json.dumps({'Dir': str(root), 'Sum': digest})}'"


def sums() -> Mapping[str, str]:
    return PINS.toolchain.sums


def test_an_older_go_fetches_the_pinned_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = f"linux-{golang.architecture()}"
    fake_go(tmp_path / "bin", monkeypatch, "go1.19.8", fetched(tmp_path, sums()[system]))
    said: list[str] = []
    found = golang.toolchain(PINS, said.append)
    assert found.command == tmp_path / "fetched" / "bin" / "go"
    assert found.command.stat().st_mode & 0o777 == 0o755
    assert found.env["GOROOT"] == str(tmp_path / "fetched")
    assert said == [f"fetching Go {PINS.toolchain.version}: the installed one is go1.19.8"]
    assert f"golang.org/toolchain@v0.0.1-go{PINS.toolchain.version}.{system}" in (tmp_path / "bin/calls").read_text()


def test_a_fetched_go_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(tmp_path / "bin", monkeypatch, "go1.19.8", fetched(tmp_path, "h1:other"))
    with pytest.raises(VreError, match="not what is pinned"):
        golang.toolchain(PINS)


def test_an_unknown_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(VreError, match="riscv64"):
        golang.architecture()


def test_an_unknown_program_is_told_with_those_there_are() -> None:
    with pytest.raises(VreError, match="called etcdx") as told:
        PINS.program("etcdx")
    assert "etcd, flannel" in told.value.hint


def test_faults_of_the_table_come_all_at_once() -> None:
    text = "toolchain: {version: 1.26.8, sums: {}, more: 1}\nprograms: {etcd: {module: x}}"
    with pytest.raises(Refused) as told:
        versions.parse(text, where="versions.yaml")
    assert {finding.key for finding in told.value.findings} == {
        "toolchain.more",
        "programs.etcd.version",
        "programs.etcd.packages",
    }


def test_a_table_that_is_no_yaml_is_told() -> None:
    with pytest.raises(VreError, match="is no YAML"):
        versions.parse("a: [", where="versions.yaml")
