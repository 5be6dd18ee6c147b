"""All clouds read alike: the same questions are the same functions, in the same order; so are all edges."""

import ast
from pathlib import Path

import pytest

from vre.paths import project

CLOUDS = ("aws", "azure", "gcp", "libvirt", "openstack")
EDGES = ("cloudflare", "direct")
OUTLINE = ("surroundings", "faults", "network", "firewalls", "data", "machine")
PARAMETERS = {
    "surroundings": ["config"],
    "faults": ["config", "plan"],
    "network": ["order", "opts"],
    "firewalls": ["net"],
    "data": ["net", "machine"],
}


def module(folder: str, name: str) -> ast.Module:
    return ast.parse((project() / "vre" / folder / f"{name}.py").read_text())


def functions(tree: ast.Module) -> dict[str, list[str]]:
    """Return the public functions of a module in their order, each with the names of its parameters."""
    found = (node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"))
    return {node.name: [each.arg for each in node.args.args] for node in found}


def test_every_cloud_of_the_stack_file_has_its_module() -> None:
    there = {path.stem for path in (project() / "vre" / "clouds").glob("*.py")}
    assert there - {"__init__", "site", "rented", "aliases"} == set(CLOUDS)
    assert {path.stem for path in Path(project(), "docs", "clouds").glob("*.md")} >= set(CLOUDS) - {"libvirt"}


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_answers_the_same_questions_in_the_same_order(name: str) -> None:
    found = functions(module("clouds", name))
    assert tuple(each for each in found if each in OUTLINE) == OUTLINE
    assert {each: found[each] for each in PARAMETERS} == PARAMETERS
    assert len(found["machine"]) == 5


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_says_first_that_it_is_one_of_several(name: str) -> None:
    text = ast.get_docstring(module("clouds", name))
    assert text is not None
    assert "The same sections in the same order as every module beside it." in text


@pytest.mark.parametrize("name", sorted({*CLOUDS} - {"libvirt"}))
def test_each_rented_cloud_says_alike_what_stands_there(name: str) -> None:
    tree = module("orphans", name)
    [account] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Account"]
    methods = [node.name for node in account.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
    assert methods == ["standing", "identity", "delete"]
    assert functions(tree) == {}


@pytest.mark.parametrize("name", EDGES)
def test_an_edge_has_the_same_outline(name: str) -> None:
    tree = module("edge", name)
    assert "visitors" in functions(tree)
    [edge] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Edge"]
    methods = [node.name for node in edge.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    assert methods == ["publish", "reach"]
