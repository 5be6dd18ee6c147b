"""The daily jobs' files: right by their own linters and schemas, and what they call is there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from vre.cli.main import app
from vre.paths import project

UNITS = ("vre-image", "vre-watch", "vre-raise")
SCRIPTS = ("image.sh", "watch.sh", "raise.sh")
GITHUB = project() / ".github" / "workflows" / "image.yml"
GITLAB = project() / ".gitlab-ci.yml"
FILES = [GITHUB, GITLAB, *sorted((project() / "build" / "ci").iterdir())]


def tool(name: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.prefix, "bin", name), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=project())


@pytest.mark.requirement("P-12")
@pytest.mark.parametrize(("schema", "file"), [("github-workflows", GITHUB), ("gitlab-ci", GITLAB)])
def test_a_file_fits_its_schema(schema: str, file: Path) -> None:
    flags = ["--data-transform", "gitlab-ci"] if schema == "gitlab-ci" else []
    done = tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *flags, file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_weakness_of_workflows_that_is_known_is_in_ours() -> None:
    done = tool("zizmor", "--offline", "--no-progress", "--persona", "pedantic", GITHUB)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["service", "timer"])
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_can_read_a_unit(unit: str, kind: str, tmp_path: Path) -> None:
    for name in UNITS:
        for each in ("service", "timer"):
            text = (project() / "build" / "ci" / f"{name}.{each}").read_text()
            (tmp_path / f"{name}.{each}").write_text(text.replace("/opt/vre", str(project())))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / f"{unit}.{kind}"],
        capture_output=True, text=True, check=False, env={"SYSTEMD_LOG_LEVEL": "warning", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert (done.returncode, [line for line in done.stderr.splitlines() if unit in line]) == (0, [])


@pytest.mark.requirement("P-12", "P-33", "C-18")
def test_every_job_runs_every_day() -> None:
    workflow = yaml.safe_load(GITHUB.read_text())
    crons = [each["cron"] for each in workflow[True]["schedule"]]  # YAML takes the key `on` for true
    assert [re.fullmatch(r"\d+ \d+ \* \* \*", cron) is not None for cron in crons] == [True]
    for unit in UNITS:
        timer = (project() / "build" / "ci" / f"{unit}.timer").read_text()
        assert re.search(r"^OnCalendar=\*-\*-\* \d\d:\d\d$", timer, re.MULTILINE)
        assert "Persistent=true" in timer


@pytest.mark.requirement("P-28")
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_nothing_goes_in_the_clear(file: Path) -> None:
    assert "http://" not in file.read_text()


def commands(text: str) -> list[list[str]]:
    """Return the words of every call of our command in a script."""
    return [line.split() for line in re.findall(r'"\$vre" ([a-z][^|)\n]*)', text)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_that_a_job_calls_exists_with_its_options(script: str) -> None:
    called = commands((project() / "build" / "ci" / script).read_text())
    assert called
    for words in called:
        command = get_command(app)
        for word in words:
            if word in getattr(command, "commands", {}):
                command = command.commands[word]  # type: ignore[attr-defined]
        assert not hasattr(command, "commands"), words
        options = {option for each in command.params for option in each.opts}
        assert {word for word in words if word.startswith("--")} <= options, words


def test_all_jobs_do_the_same() -> None:
    for script in SCRIPTS:
        name = f"build/ci/{script}"
        service = (project() / "build" / "ci" / f"vre-{script.removesuffix('.sh')}.service").read_text()
        assert name in GITHUB.read_text()
        assert name in GITLAB.read_text()
        assert f"ExecStart=/opt/vre/{name}\n" in service
    order = [words[:2] for words in commands((project() / "build" / "ci" / "image.sh").read_text())]
    steps = [["image", step] for step in ("build", "test", "publish", "promote")]
    assert order == [*steps, ["packages", "--to"]]


def checkout(folder: Path, script: str, vre: str) -> Path:
    """Return a job's script in a checkout of its own, where our command is a fake that notes what it was called for."""
    for name in ("build/ci", ".venv/bin"):
        (folder / name).mkdir(parents=True)
    shutil.copy(project() / "build" / "ci" / script, folder / "build" / "ci")
    (folder / "Makefile").write_text("setup:\n\t@true\n")
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    for name, text in (("vre", vre), ("git", "exit 0\n")):
        fake = folder / ".venv" / "bin" / name
        fake.write_text(f'#!/bin/sh\necho "$@ $VRE_DEBIAN_MIRROR" >> called\n{text}')
        fake.chmod(0o755)
    return folder / "build" / "ci" / script


def run(script: Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = f"{script.parents[2]}/.venv/bin:/usr/bin:/bin"
    return subprocess.run([script], env={"PATH": path, **env}, check=False, capture_output=True, text=True)


IMAGE = '[ "$2" != build ] || echo dist/id\n[ "$2" != "$FAILS" ]\n'
STEPS = ["build", "test", "publish", "promote"]


@pytest.mark.parametrize(("fails", "wanted"), [("test", ["build", "test"]), ("none", STEPS)])
def test_a_failed_test_ends_the_job_before_anything_is_published(tmp_path: Path, fails: str, wanted: list[str]) -> None:
    done = run(checkout(tmp_path, "image.sh", IMAGE), FAILS=fails)
    assert [line.split()[1] for line in (tmp_path / "called").read_text().splitlines()] == wanted
    assert (done.returncode == 0) == (fails == "none")


@pytest.mark.requirement("P-35")
@pytest.mark.parametrize("fails", [*STEPS, "none"])
def test_a_moment_is_announced_only_after_all_of_the_rest(tmp_path: Path, fails: str) -> None:
    archive = "https://a.example/{archive}/{moment}"
    script = checkout(tmp_path, "image.sh", IMAGE)
    run(script, FAILS=fails, VRE_PACKAGES_TARGET="/srv/www/vre", VRE_DEBIAN_ARCHIVE=archive)
    called = [line.split() for line in (tmp_path / "called").read_text().splitlines()]
    assert (called[-1][:5] == ["packages", "--to", "/srv/www/vre", "--tested", "dist/id"]) == (fails == "none")
    assert {words[0] for words in called[:-1]} <= {"image"}
    [mirror] = {words[-1] for words in called}
    assert re.fullmatch(r"https://a\.example/\{archive\}/[0-9]{8}T[0-9]{2}0000Z", mirror)


WATCHED = """[ "$2" != list ] || echo '{"current": {"id": "one"}}'
[ "$2" = list ] || echo '{}'
case "$*" in *"$FAILS"*) exit 1 ;; esac
"""
LOOKED_AT = {
    "edge --update": "edge --update", "edge --json": "edge.json", "audit": "audit.json", "image pins": "pins.json",
    "image vulner": "vulnerabilities.json",
}  # fmt: skip


@pytest.mark.requirement("P-11", "P-60", "H-22", "C-18", "H-27")
@pytest.mark.parametrize("fails", [*LOOKED_AT, "none"])
def test_what_fails_is_named_and_nothing_else_is_left_out(tmp_path: Path, fails: str) -> None:
    done = run(checkout(tmp_path, "watch.sh", WATCHED), FAILS=fails, VRE_OSV="osv.zip", VRE_IMAGE_TARGET="/srv/images")
    called = (tmp_path / "called").read_text()
    assert [name for name in LOOKED_AT if name not in called] == []
    assert "image vulnerabilities one --output /srv/images/releases --database osv.zip" in called
    for name in ("audit", "edge", "pins", "vulnerabilities"):
        assert (tmp_path / "reports" / f"{name}.json").read_text() == "{}\n"
    assert [file for name, file in LOOKED_AT.items() if file in done.stderr] == [
        file for name, file in LOOKED_AT.items() if name == fails
    ]
    assert (done.returncode == 0) == (fails == "none")


def test_without_records_the_look_says_what_it_did_not_look_for(tmp_path: Path) -> None:
    done = run(checkout(tmp_path, "watch.sh", WATCHED), FAILS="none")
    assert "known vulnerabilities: not looked for" in done.stderr
    assert done.returncode == 0


RAISED = """[ -z "$VRE_IMAGE_KEY$VRE_STATE" ] || exit 2
case "$2" in
    pins) [ "$FAILS" = nothing ] || echo newer > pinned; [ "$FAILS" != pins ] ;;
    build) echo dist/id ;;
    test) [ "$FAILS" != test ] ;;
esac
"""


@pytest.mark.requirement("P-11", "P-12")
@pytest.mark.parametrize(
    ("fails", "steps", "left"),
    [
        ("none", ["image pins", "generate", "unit tests", "image build", "image test"], "raised.patch"),
        ("pins", ["image pins", "generate", "unit tests", "image build", "image test"], "raised.patch"),
        ("unit", ["image pins", "generate", "unit tests"], "failed.patch"),
        ("test", ["image pins", "generate", "unit tests", "image build", "image test"], "failed.patch"),
        ("nothing", ["image pins", "generate"], ""),
    ],
)
def test_what_was_raised_is_left_as_a_change_once_it_was_tested(
    tmp_path: Path, fails: str, steps: list[str], left: str
) -> None:
    script = checkout(tmp_path, "raise.sh", RAISED)
    (tmp_path / ".venv" / "bin" / "git").unlink()
    called = tmp_path / "called"
    setup = "setup:\n\tmkdir -p .venv/bin\n\tcp fake .venv/bin/vre\n"
    unit = f'unit:\n\techo unit tests >> {called}\n\t[ $$FAILS != unit ] && [ -z "$$VRE_STATE" ]\n'
    (tmp_path / "Makefile").write_text(setup + unit)
    fake = (tmp_path / ".venv" / "bin" / "vre").read_text().replace(">> called", f">> {called}")
    for name, text in (("fake", fake), ("pinned", "older\n"), (".gitignore", ".venv\ncalled\nreports\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "fake").chmod(0o755)
    who = ("-c", "user.name=a", "-c", "user.email=a@a.example")
    for words in (("init", "--quiet"), ("add", "."), (*who, "commit", "--quiet", "--message=first")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    done = run(script, FAILS=fails, VRE_IMAGE_KEY="key", VRE_STATE="/given", TMPDIR=str(tmp_path))
    assert [" ".join(line.split()[:2]) for line in called.read_text().splitlines()] == [*steps, "hypervisor stop"]
    assert (done.returncode == 0) == (fails in {"none", "nothing"}), done.stderr
    assert [file.name for file in (tmp_path / "reports").iterdir()] == ([left] if left else [])
    assert not left or "\n-older\n+newer\n" in (tmp_path / "reports" / left).read_text()
    assert (tmp_path / "pinned").read_text() == "older\n"
    assert list(tmp_path.glob("tmp.*")) == []


def test_the_key_that_signs_is_in_no_file() -> None:
    assert [file.name for file in FILES if "PRIVATE KEY" in file.read_text()] == []
