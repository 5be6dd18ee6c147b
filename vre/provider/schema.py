"""The plugin's schema, derived from the classes of `vre.resources`: `pulumi import` and documentation read it."""

import inspect
import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, get_args, get_origin

from vre import __version__, resource, resources

SCALARS = {int: "integer", bool: "boolean", str: "string"}


@cache
def schema_text() -> str:
    """Return the schema as JSON."""
    table = {made.TYPE: _resource(made) for made in classes()}
    return json.dumps({"name": "vre", "version": __version__, "resources": table}, sort_keys=True)


def classes() -> Iterator[Any]:
    """Yield every resource class."""
    for _, found in inspect.getmembers(resources, inspect.isclass):
        if getattr(found, "TYPE", ""):
            yield found


def _resource(made: Any) -> dict[str, Any]:
    inputs = {_camel(name): _property(item.annotation) for name, item in _parameters(made).items()}
    types = inspect.get_annotations(made)
    outputs = {wire: _property(types[name]) for name, wire in resource.outputs(made).items()}
    every = {**inputs, **outputs}
    for name in made.SECRETS:
        every[name] = {**every[name], "secret": True}
    return {
        "description": inspect.getdoc(made),
        "inputProperties": inputs,
        "requiredInputs": sorted(_camel(name) for name in _required(made)),
        "properties": every,
        "required": sorted(outputs),
    }


def _parameters(made: Any) -> dict[str, inspect.Parameter]:
    """The inputs of a resource; its Pulumi name comes first and is no input, whatever it is called."""
    parameters = list(inspect.signature(made.__init__).parameters.values())
    return {item.name: item for item in parameters if item.kind is item.KEYWORD_ONLY and item.name != "opts"}


def _required(made: Any) -> list[str]:
    return [name for name, parameter in _parameters(made).items() if parameter.default is parameter.empty]


def _property(annotation: Any) -> dict[str, Any]:
    """Describe a type: an `Input[int]` is an integer, a sequence an array, the rest any JSON value."""
    kinds = get_args(annotation)
    for kind in kinds:
        if kind in SCALARS:
            return {"type": SCALARS[kind]}
    if any(get_origin(kind) is Sequence for kind in kinds):
        return {"type": "array", "items": {"$ref": "pulumi.json#/Any"}}
    return {"$ref": "pulumi.json#/Any"}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
