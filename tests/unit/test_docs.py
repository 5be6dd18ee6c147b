"""The pages that are made from the code."""

import ast
import re
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml

from vre import clouds, docs
from vre.load import load
from vre.paths import project
from vre.plan import plan
from vre.policy import Protocol, reaches
from vre.stackfile import parse


def test_every_key_of_the_stack_file_says_what_changing_it_does() -> None:
    silent = [key.name for key in docs.stack_keys() if not key.later]
    assert silent == []


def test_every_key_of_the_stack_file_is_described() -> None:
    keys = docs.stack_keys()
    assert [key.name for key in keys if not key.about or not key.values] == []
    assert {"name", "cloud.network", "machines.workers.count", "services.jupyter.admin"} <= {key.name for key in keys}


def test_what_is_said_about_changes_names_keys_that_exist() -> None:
    names = {key.name for key in docs.stack_keys()}
    assert [key for key in docs.LATER if not any(name == key or name.startswith(f"{key}.") for name in names)] == []


def test_the_nearest_key_above_decides() -> None:
    assert docs.later("machines.control.disk") == docs.LATER["machines.control.disk"]
    assert docs.later("services.jupyter.cpus") == docs.LATER["services"]


def test_marks_are_found_on_functions_classes_and_modules() -> None:
    tree = ast.parse(
        "pytestmark = pytest.mark.requirement('A-1')\n"
        "@pytest.mark.requirement('A-2', 'A-3')\n"
        "def test_one(): ...\n"
        "@pytest.mark.requirement('A-4')\n"
        "class TestTwo:\n"
        "    @pytest.mark.requirement('A-5')\n"
        "    def test_three(self): ...\n"
        "def test_four(): ...\n"
    )
    found = {test: ids for test, ids, _ in docs.marked(tree) if ids}
    assert found == {"": ["A-1"], "test_one": ["A-2", "A-3"], "TestTwo": ["A-4"], "TestTwo::test_three": ["A-5"]}


@pytest.mark.parametrize(
    ("before", "on_class", "on_test"),
    [("pytestmark = pytest.mark.drill\n", "", ""), ("", "@pytest.mark.drill\n", ""), ("", "", "@pytest.mark.drill")],
)
def test_a_drill_is_called_one_wherever_its_mark_stands(
    tmp_path: Path, before: str, on_class: str, on_test: str
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text(
        f"{before}{on_class}class TestIt:\n    {on_test}\n"
        "    @pytest.mark.requirement('A-1')\n    def test_it(self): ...\n"
    )
    (tmp_path / "tests" / "test_y.py").write_text("@pytest.mark.requirement('A-1')\ndef test_it(): ...\n")
    [long, short] = map(str, docs.shown_by(tmp_path)["A-1"])
    assert long == "`tests/test_x.py::TestIt::test_it` (drill)"
    assert short == "`tests/test_y.py::test_it`"


def test_a_requirement_is_met_by_the_tests_that_name_it_and_by_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "docs" / "requirements.yaml").write_text(
        "- {id: A-1, kind: must, what: One}\n- {id: A-2, kind: roadmap, what: Two}\n"
        "- {id: A-3, kind: must, what: Three, open: more}\n- {id: A-4, kind: must, what: Four, open: more}\n"
        "- {id: A-5, kind: must, what: Five, why: nobody wants it}\n"
    )
    (tmp_path / "tests" / "test_x.py").write_text("@pytest.mark.requirement('A-1', 'A-3')\ndef test_it(): ...\n")
    page = docs.requirements_text(tmp_path)
    assert "| A-1 | One | must | met: `tests/test_x.py::test_it` |" in page
    assert "| A-2 | Two | roadmap | not in place |" in page
    assert "| A-3 | Three | must | in part: `tests/test_x.py::test_it`; open: more |" in page
    assert "| A-4 | Four | must | not in place |" in page
    assert "| A-5 | Five | must | not in place: nobody wants it |" in page
    assert "**Of 5, 1 are met and 1 in part.**" in page


def test_tests_name_only_requirements_that_exist() -> None:
    assert set(docs.shown_by()) - {each.id for each in docs.requirements()} == set()


def test_what_is_open_and_why_nothing_is_there_are_said_only_where_they_are_shown() -> None:
    by = docs.shown_by()
    assert [each.id for each in docs.requirements() if each.open and each.id not in by] == []
    assert [each.id for each in docs.requirements() if each.why and (each.id in by or each.open)] == []


def test_every_requirement_has_its_own_id_and_a_known_kind() -> None:
    every = docs.requirements()
    assert len({each.id for each in every}) == len(every) > 200
    assert {each.kind.split(" (")[0] for each in every} == {"must", "roadmap", "context"}


@pytest.mark.requirement("P-09")
def test_what_is_not_in_place_is_said() -> None:
    page = docs.requirements_text()
    states = page.count("| not in place") + page.count("| met: ") + page.count("| in part: ")
    assert states == len(docs.requirements())


def test_files_are_written_once(tmp_path: Path) -> None:
    assert [path.name for path in docs.write(tmp_path)] == [
        "stack.schema.json", "stack-file.md", "requirements.md", "standards.md", "number.yaml", "machine.yaml",
    ]  # fmt: skip
    assert docs.write(tmp_path) == []


@pytest.mark.requirement("C-27", "F-34")
def test_there_is_a_place_to_ask_about_security() -> None:
    page = (project() / "SECURITY.md").read_text()
    assert "Report a vulnerability" in page
    assert "within a week" in page
    assert "issues" in page
    assert "SECURITY.md" in (project() / "README.md").read_text()


@pytest.mark.requirement("C-24", "C-09")
def test_the_smallest_stack_file_needs_no_word_about_security_and_is_closed() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", docs.INTRODUCTION, re.DOTALL)
    config = load(parse(text, Path("smallest")))
    stack = plan(config)
    policy = clouds.policy(config)
    assert set(yaml.safe_load(text)["config"]) == {"vre:cloud", "vre:access", "vre:services"}
    strangers = [ip_address("203.0.113.1"), ip_address("2001:db8::1"), ip_address(stack.control.ipv4) + 1]
    opened = [
        (stranger, port)
        for stranger in strangers
        for port in range(1, 65536)
        if reaches(policy, stranger, stack.control.role, Protocol.TCP, port)
    ]
    assert opened == []
