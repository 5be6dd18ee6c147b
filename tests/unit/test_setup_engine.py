"""The engine: which one is taken, what a release must prove, and what its wrapper sets."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from vre.artifacts import golang
from vre.errors import VreError
from vre.setup import engine

SAYS_ENVIRONMENT = """#!/bin/sh
if [ "$1" = version ]; then echo v{version}; exit; fi
exec python3 -c 'import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))' "$@"
"""


def fake_engine(folder: Path, version: str = "3.259.0", *, host: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pulumi").write_text(SAYS_ENVIRONMENT.format(version=version))
    (folder / "pulumi").chmod(0o755)
    if host:
        (folder / engine.HOST).touch(0o755)
    return folder


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    (tmp_path / "project" / ".venv" / "bin").mkdir(parents=True)
    return tmp_path / "project" / ".venv"


def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Let a build give a fake engine; return the list of names that were asked for."""
    asked: list[str] = []

    def build_all(names: list[str], report: object) -> Mapping[str, Path]:
        asked.extend(names)
        return {"pulumi": fake_engine(tmp_path / "built")}

    monkeypatch.setattr(golang, "build_all", build_all)
    return asked


def reach(monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, bytes]) -> None:
    """Let the network consist of the given answers, by the last part of their address."""

    def answer(request: httpx.Request) -> httpx.Response:
        name = request.url.path.split("/")[-1]
        return httpx.Response(200, content=answers[name]) if name in answers else httpx.Response(404)

    client = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **_: client(transport=httpx.MockTransport(answer)))


def release(parts: tuple[str, ...] = engine.PARTS) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as tar:
        for part in (*parts, "../../outside"):
            content = SAYS_ENVIRONMENT.format(version="3.259.0").encode()
            entry = tarfile.TarInfo(f"pulumi/{part}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return held.getvalue()


def archive_name() -> str:
    return f"pulumi-v{engine.pinned()}-{engine.PLATFORMS[golang.architecture()]}.tar.gz"


@pytest.mark.parametrize(
    ("said", "serves"),
    [
        ("v3.259.0", True),
        ("v3.300.1\n", True),
        ("3.259.1-alpha.1", True),
        ("v3.258.9", False),
        ("v4.0.0", False),
        ("", False),
        ("no version", False),
    ],
)
def test_only_engines_of_the_same_time_as_the_sdk_serve(said: str, serves: bool) -> None:
    assert engine.fits(engine.parse_version(said)) is serves


def test_what_is_pinned_serves() -> None:
    assert engine.parse_version(engine.pinned()) == engine.LEAST


def test_an_installed_engine_is_taken(venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "PATH", f"{fake_engine(tmp_path / 'old', '3.100.0')}:{fake_engine(tmp_path / 'new')}:/usr/bin:/bin"
    )
    said: list[str] = []
    command = engine.ensure_engine(venv, said.append)
    assert command == venv / "bin" / "pulumi"
    assert (venv / "lib/vre/engine/pulumi").resolve() == tmp_path / "new" / "pulumi"
    assert said[-1] == f"using the installed {tmp_path / 'new' / 'pulumi'}"
    said.clear()
    assert engine.ensure_engine(venv, said.append) == command
    assert said == []


@pytest.mark.parametrize("place", ["missing-host", "too-old", "inside"])
def test_an_engine_that_does_not_serve_is_not_taken(
    venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folders = {
        "missing-host": fake_engine(tmp_path / "a", host=False),
        "too-old": fake_engine(tmp_path / "b", "3.10.0"),
        "inside": fake_engine(venv / "other"),
    }
    monkeypatch.setenv("PATH", f"{folders[place]}:/usr/bin:/bin")
    monkeypatch.setenv("VRE_PULUMI_RELEASES", "")
    asked = built(monkeypatch, tmp_path)
    engine.ensure_engine(venv, lambda message: None)
    assert asked == ["pulumi", "pulumi-language-python"]
    assert (venv / "lib/vre/engine/built-here").is_file()


def test_a_release_is_taken_when_its_checksum_is_right(
    venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    archive = release()
    sums = f"{hashlib.sha512(archive).hexdigest()}  {archive_name()}\n".encode()
    reach(monkeypatch, {archive_name(): archive, "SHA512SUMS": sums})
    assert (asked := built(monkeypatch, tmp_path)) == []
    engine.ensure_engine(venv, lambda message: None)
    assert asked == []
    assert sorted(path.name for path in (venv / "lib/vre/engine").iterdir()) == sorted(engine.PARTS)
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize("fault", ["altered", "unlisted", "unreachable", "incomplete"])
def test_a_release_that_proves_nothing_is_not_taken(
    venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    archive = release(engine.PARTS[:1] if fault == "incomplete" else engine.PARTS)
    digest = hashlib.sha512(b"other" if fault == "altered" else archive).hexdigest()
    name = "other.tar.gz" if fault == "unlisted" else archive_name()
    answers = {archive_name(): archive, "SHA512SUMS": f"{digest}  {name}\n".encode()}
    reach(monkeypatch, {} if fault == "unreachable" else answers)
    asked, said = built(monkeypatch, tmp_path), list[str]()
    engine.ensure_engine(venv, said.append)
    assert asked == ["pulumi", "pulumi-language-python"]
    assert any(line.startswith(f"the release of Pulumi {engine.pinned()} cannot be had") for line in said)
    assert [path.name for path in (venv / "lib/vre").iterdir()] == ["engine"]


def test_an_engine_that_does_not_start_is_not_installed(
    venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("VRE_PULUMI_RELEASES", "")
    built(monkeypatch, tmp_path)
    (fake_engine(tmp_path / "built") / "pulumi").write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setattr(golang, "build_all", lambda names, report: {"pulumi": tmp_path / "built"})
    with pytest.raises(VreError, match="does not start"):
        engine.ensure_engine(venv, lambda message: None)
    assert not (venv / "lib/vre/engine").exists()


def started(
    venv: Path, *, cwd: Path, command: Path | None = None, env: Mapping[str, str] | None = None
) -> tuple[list[str], dict[str, str]]:
    fake_engine(venv / "lib/vre/engine")
    said = subprocess.run(
        [command or engine.ensure_engine(venv, lambda message: None), "up", "a b"],
        env={"PATH": "/usr/bin:/bin", **(env or {})},
        cwd=cwd,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    words, environment = json.loads(said)
    return words, environment


def test_the_wrapper_sets_what_the_engine_needs(venv: Path, tmp_path: Path) -> None:
    words, env = started(venv, cwd=tmp_path)
    state = venv.parent / ".vre"
    assert words == ["up", "a b"]
    assert env["PATH"] == f"{venv}/bin:{venv}/lib/vre/engine:/usr/bin:/bin"
    assert env["PULUMI_BACKEND_URL"] == f"file://{state}/state"
    assert env["PULUMI_CONFIG_PASSPHRASE_FILE"] == f"{state}/passphrase"
    assert env["PULUMI_SKIP_UPDATE_CHECK"] == "true"
    assert "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION" not in env


@pytest.mark.requirement("P-44")
def test_the_wrapper_makes_the_state_folder_for_its_owner_alone(venv: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        started(venv, cwd=tmp_path)
    finally:
        os.umask(before)
    for folder in (venv.parent / ".vre", venv.parent / ".vre" / "state"):
        assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.requirement("P-44")
def test_the_wrapper_refuses_a_state_that_others_can_enter(venv: Path, tmp_path: Path) -> None:
    started(venv, cwd=tmp_path)
    folder = venv.parent / ".vre" / "state"
    folder.chmod(0o750)
    done = subprocess.run([venv / "bin" / "pulumi", "up"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"run: chmod 700 {folder}" in done.stderr


def test_the_wrapper_leaves_what_is_set(venv: Path, tmp_path: Path) -> None:
    given = {
        "PULUMI_BACKEND_URL": "s3://bucket",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "false",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "false",
    }
    (venv / "lib/vre/engine").mkdir(parents=True)
    (venv / "lib/vre/engine/built-here").touch()
    _, env = started(venv, cwd=tmp_path, env=given)
    assert {name: env[name] for name in given} == given
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in env
    assert not (venv.parent / ".vre").exists()


def test_an_engine_built_here_does_not_look_for_plugins(venv: Path, tmp_path: Path) -> None:
    (venv / "lib/vre/engine").mkdir(parents=True)
    (venv / "lib/vre/engine/built-here").touch()
    assert started(venv, cwd=tmp_path)[1]["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] == "true"


@pytest.mark.parametrize("link", ["absolute", "relative"])
def test_the_wrapper_finds_its_environment_through_links(venv: Path, tmp_path: Path, link: str) -> None:
    target = venv / "bin" / "pulumi"
    (tmp_path / "pulumi").symlink_to(target if link == "absolute" else target.relative_to(tmp_path))
    engine_folder = f"{venv}/lib/vre/engine"
    fake_engine(Path(engine_folder))
    engine.ensure_engine(venv, lambda message: None)
    assert engine_folder in started(venv, cwd=tmp_path, command=tmp_path / "pulumi")[1]["PATH"]


def test_the_wrapper_finds_its_environment_by_path(venv: Path, tmp_path: Path) -> None:
    fake_engine(venv / "lib/vre/engine")
    engine.ensure_engine(venv, lambda message: None)
    _, env = started(venv, cwd=tmp_path, command=Path("pulumi"), env={"PATH": f"{venv}/bin:/usr/bin:/bin"})
    assert env["PULUMI_BACKEND_URL"] == f"file://{venv.parent}/.vre/state"


def test_another_state_folder_is_used_when_named(venv: Path, tmp_path: Path) -> None:
    _, env = started(venv, cwd=tmp_path, env={"VRE_STATE": f"{tmp_path}/mine"})
    assert env["PULUMI_CONFIG_PASSPHRASE_FILE"] == f"{tmp_path}/mine/passphrase"


def test_the_wrapper_without_an_engine_says_what_to_do(venv: Path) -> None:
    fake_engine(venv / "lib/vre/engine")
    command = engine.ensure_engine(venv, lambda message: None)
    (venv / "lib/vre/engine/pulumi").unlink()
    done = subprocess.run([command, "up"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: the Pulumi engine is not there\n  run: make setup\n")
