"""The house rules, for the whole repository: sizes, doors, imports, pages and what is made from others."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import vre
from vre import docs
from vre.load import load
from vre.paths import project
from vre.stackfile import Loader, parse

LONGEST_FUNCTION = 50
LONGEST_FILE = 500
PROVIDER_SDKS = {"pulumi_aws", "pulumi_gcp", "pulumi_azure_native", "pulumi_cloudflare", "pulumi_openstack", "libvirt"}
IMPURE = {"os", "pathlib", "subprocess", "socket", "time", "datetime", "random", "pulumi", "httpx", "paramiko", "io"}


def kept(pattern: str) -> list[Path]:
    """Return the files of the repository that fit, without what is built or installed."""
    aside = {".venv", ".vre", ".git", "node_modules", "__pycache__"}
    return sorted(path for path in project().rglob(pattern) if not aside & set(path.relative_to(project()).parts))


PYTHON = kept("*.py")
PAGES = kept("*.md")


def name(path: Path) -> str:
    return str(path.relative_to(project()))


def test_there_is_something_to_look_at() -> None:
    assert len(PYTHON) > 50
    assert len(PAGES) > 8


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_no_function_is_too_long(path: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {node.name for node in functions if (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION}
    assert long == set()


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize(
    "file", ["policy.py", "plan.py", "inventory.py", "model.py", "errors.py", "machine/nftables.py"]
)
def test_pure_modules_import_nothing_that_reaches_outside(file: str) -> None:
    found = {module.split(".")[0] for module in imports(project() / "vre" / file)}
    assert found & IMPURE == set()


def test_processes_are_started_in_one_place() -> None:
    # The others run by themselves, where nothing of ours can be imported.
    allowed = {"vre/run.py", "vre/setup/enclosed.py", "vre/image/importer.py", "vre/image/adopt.py"}
    allowed |= {"vre/release/outside.py"}
    found = {name(path) for path in PYTHON if name(path).startswith("vre/") and "subprocess" in set(imports(path))}
    assert found - allowed == set()


def imported_by(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=project())
    return {module.split(".")[0] for module in done.stdout.split()}


@pytest.mark.parametrize("module", ["vre.launch", "vre.config", "vre.cli.main", "vre.policy"])
def test_no_provider_sdk_is_imported_before_it_is_chosen(module: str) -> None:
    assert imported_by(f"import {module}") & PROVIDER_SDKS == set()


def test_the_command_line_starts_without_the_engines_library() -> None:
    assert "pulumi" not in imported_by("import vre.cli.main")


def test_version_and_changes_agree() -> None:
    newest = re.search(r"^## (\S+)", (project() / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == vre.__version__


@pytest.mark.parametrize("file", docs.files())
def test_what_is_made_from_others_is_current(file: str) -> None:
    assert (project() / file).read_text() == docs.files()[file](), "run: make generate"


@pytest.mark.parametrize("file", sorted(project().glob("stacks/Pulumi.*.yaml")), ids=name)
def test_every_stack_file_loads(file: Path) -> None:
    assert load(parse(file.read_text(), file)).name


def test_no_stack_file_is_kept_with_the_salt_of_somebodys_passphrase() -> None:
    # What the engine writes into the working copy is not for others: no other passphrase fits it.
    for file in project().glob("stacks/Pulumi.*.yaml"):
        kept = subprocess.run(
            ["git", "show", f":{name(file)}"], capture_output=True, text=True, cwd=project(), check=False
        )
        assert "encryptionsalt" not in kept.stdout


def examples() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
            yield f"{name(page)}-{number}", text


def as_stack(text: str) -> str:
    """Return an example as a whole stack file, completed with what every stack file needs."""
    loaded = yaml.load(text, Loader=Loader)
    config = loaded.get("config", loaded)
    prefixed = {key if str(key).startswith("vre:") else f"vre:{key}": value for key, value in config.items()}
    usual = {"vre:cloud": {"provider": "libvirt"}, "vre:access": {"keys": [".vre/id_ed25519.pub"]}}
    return yaml.safe_dump({"config": {**usual, **prefixed}})


@pytest.mark.parametrize("text", [pytest.param(text, id=where) for where, text in examples()])
def test_every_example_in_the_pages_loads(text: str) -> None:
    assert load(parse(as_stack(text), Path("example"))).cloud


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        yield from ((page, target) for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target)


@pytest.mark.parametrize(("page", "target"), [pytest.param(*link, id=f"{name(link[0])}:{link[1]}") for link in links()])
def test_every_link_between_pages_leads_somewhere(page: Path, target: str) -> None:
    file, _, heading = target.partition("#")
    there = page.parent / file if file else page
    assert there.exists()
    if heading:
        titles = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
        assert heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [project() / "README.md"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        ahead += [
            to
            for at, link in links()
            if at == page and (to := (at.parent / link.split("#")[0]).resolve()) not in reached
        ]
    lost = {name(page) for page in kept("docs/**/*.md") if page not in reached}
    assert {page for page in lost if not page.startswith("docs/benchmarks")} == set()


def test_every_make_target_that_pages_name_exists() -> None:
    there = set(re.findall(r"^([a-z-]+):", (project() / "Makefile").read_text(), re.MULTILINE))
    texts = [page.read_text() for page in PAGES]
    named = {target for text in texts for target in re.findall(r"`make ([a-z-]+)`", text)}
    named |= {target for text in texts for target in re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)}
    assert {"up", "down", "test", "test-all"} <= named <= there


def test_every_command_that_pages_name_exists() -> None:
    from vre.cli.main import app

    there = {
        command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands
    }
    there |= {group.name or "" for group in app.registered_groups}
    named = {word for page in PAGES for word in re.findall(r"`vre ([a-z]+)", page.read_text())}
    named |= {word for page in PAGES for word in re.findall(r"^vre ([a-z]+)", page.read_text(), re.MULTILINE)}
    assert named
    assert named <= there


def test_locks_have_hashes_and_no_addresses() -> None:
    for lock in (project() / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "://" not in text
        pinned = len(re.findall(r"^\S+==", text, re.MULTILINE))
        assert pinned > 20 or (lock.name, pinned) == ("cloud-lists.txt", 1)
        assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", text.strip()))


def test_no_path_of_one_machine_is_written_anywhere() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=True, cwd=project(),
    ).stdout.splitlines()  # fmt: skip
    text_files = [project() / file for file in tracked if not file.endswith((".png", ".qcow2"))]
    machine = re.compile(r"(?<![\w.])/(?:work|root)/\w")
    found = [name(path) for path in text_files if path.is_file() and machine.search(path.read_text(errors="replace"))]
    assert found == []


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        (0, "====== 7 passed in 1.20s ======", 0),
        (2, "===== 1 failed, 6 passed in 61.2s (0:01:01) =====\nmake: *** [Makefile:40: test] Error 1", 1),
        (2, "====== no tests ran in 0.01s ======\nmake: *** [Makefile:40: test] Error 5", 5),
        (2, "make: *** No rule to make target 'test'.  Stop.", 2),
    ],
)
def test_the_machines_run_ends_with_pytests_code_and_closing_line(
    tmp_path: Path, code: int, said: str, expected: int
) -> None:
    fake = tmp_path / "make"
    fake.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\nexit {code}\n")
    fake.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run([project() / ".ci" / "run"], capture_output=True, text=True, check=False, env={"PATH": path})
    assert done.returncode == expected
    assert "=" not in said or done.stdout.strip().splitlines()[-1] == said.splitlines()[0]
