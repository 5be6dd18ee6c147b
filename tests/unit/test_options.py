"""No option of the stack file does nothing: each is read somewhere by what it decides."""

import ast
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from vre import docs
from vre.config import Config
from vre.paths import project

NOTED = {("Acme", "terms"), ("Terms", "accepted_by"), ("Terms", "on")}
"""That somebody accepted an authority's terms, who, and when: a record for people. Without it the file is refused."""


def models(kind: Any) -> Iterator[type[BaseModel]]:
    """Yield a model and every one that its fields are made of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from models(field.annotation)
    for part in get_args(kind):
        yield from models(part)


FIELDS = sorted({(model.__name__, name) for model in models(Config) for name in model.model_fields})


def read() -> set[str]:
    """Return every name that the code asks something for: as an attribute, as a key, or by a validator of the model."""
    found: set[str] = set()
    for file in (project() / "vre").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                found.add(str(node.slice.value))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
                found |= {str(word.value) for word in node.args if isinstance(word, ast.Constant)}
    return found


READ = read()


def test_the_fields_are_those_of_the_page() -> None:
    last = {key.name.rpartition(".")[2].replace("-", "_") for key in docs.stack_keys()}
    assert last <= {name.removesuffix("_") for _, name in FIELDS}
    assert len(FIELDS) > 60


@pytest.mark.requirement("O-09")
@pytest.mark.parametrize(("model", "name"), FIELDS, ids=[f"{model}.{name}" for model, name in FIELDS])
def test_an_option_is_read(model: str, name: str) -> None:
    assert name in READ or (model, name) in NOTED, f"nothing asks for {name} of {model}: it would do nothing"
