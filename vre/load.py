"""From a stack file to a checked configuration: every fault at once, with its line, its reason and an example."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from vre.config import SIZE_TAGS, Config
from vre.conflicts import conflicts
from vre.errors import Finding, Refused
from vre.stackfile import StackFile, Where


def load(stack: StackFile) -> Config:
    """Return the configuration in a stack file. Raises Refused with every finding."""
    try:
        config = Config.model_validate(_opened(stack.values))
    except ValidationError as error:
        raise Refused(_sorted(_findings(error.errors(include_input=False), stack))) from None
    found = conflicts(config)
    if found:
        raise Refused([_placed(finding, stack) for finding in found])
    return config


def _opened(value: Any) -> Any:
    """Take `{secure: ...}` for a text: read from the file it is still sealed, read by the engine it is open."""
    if isinstance(value, dict):
        return (
            "sealed by the engine" if set(value) == {"secure"} else {key: _opened(each) for key, each in value.items()}
        )
    return [_opened(each) for each in value] if isinstance(value, list) else value


def _placed(finding: Finding, stack: StackFile) -> Finding:
    return Finding(
        key=f"vre:{finding.key}",
        reason=finding.reason,
        where=stack.place(tuple(finding.key.split("."))),
        example=finding.example,
    )


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    def line(finding: Finding) -> tuple[str, int]:
        file, _, number = finding.where.rpartition(":")
        return file, int(number) if number.isdigit() else 0

    return sorted(findings, key=line)


def _findings(errors: Sequence[ErrorDetails], stack: StackFile) -> Iterator[Finding]:
    for error in errors:
        if not _follows(error, errors):
            at, variant = _at(error["loc"]), _variant(error["loc"])
            yield Finding(
                key=f"vre:{'.'.join(str(part) for part in at)}",
                reason=_reason(error, at, variant),
                where=stack.place(at),
                example="" if error["type"] == "extra_forbidden" else _example(at, variant),
            )


def _follows(error: ErrorDetails, errors: Iterable[ErrorDetails]) -> bool:
    """Say whether a fault only follows from one below it."""
    at = _at(error["loc"])
    below = any(len(_at(other["loc"])) > len(at) and _at(other["loc"])[: len(at)] == at for other in errors)
    return below and error["type"] in {"too_short", "literal_error"}


def _at(loc: Where) -> Where:
    """Return the keys of the file in an error's place; pydantic also names the variant that was chosen."""
    rest = loc[:1] + (loc[2:] if _variant(loc) else loc[1:])
    return tuple(part for before, part in zip(("", *rest), rest, strict=False) if not _tag(before, part))


def _tag(before: str | int, part: str | int) -> bool:
    """Say whether a part of an error's place is no key, but how pydantic tells the ways to write a size apart."""
    return before == "size" and part in SIZE_TAGS


def _variant(loc: Where) -> str:
    """Return which variant of a part with several (the cloud, the edge) an error's place is in."""
    return str(loc[1]) if len(loc) > 1 and loc[0] in {"cloud", "edge"} else ""


def _reason(error: ErrorDetails, at: Where, variant: str) -> str:
    if error["type"] == "extra_forbidden":
        names = [_name(name, info) for name, info in _fields(at[:-1], variant).items()]
        others = _others(at, variant)
        if others:
            return f"is a key of {', '.join(others)}, not of {variant}; there are: {', '.join(names)}"
        near = difflib.get_close_matches(str(at[-1]), names, n=1, cutoff=0.5)
        return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; there are: {', '.join(names)}"
    return _words(error).format(**error.get("ctx", {})).removeprefix("Value error, ")


def _others(at: Where, variant: str) -> list[str]:
    """Return which other variants of a part (the cloud, the edge) have the key that the chosen one has not."""
    if not variant:
        return []
    models = _models(Config.model_fields[str(at[0])].annotation)
    providers = [str(name) for model in models for name in get_args(model.model_fields["provider"].annotation)]
    return [each for each in providers if any(_name(*field) == at[-1] for field in _fields(at[:-1], each).items())]


def _words(error: ErrorDetails) -> str:
    """Return what is said about a kind of error; pydantic's own words where they serve."""
    own = {
        "missing": "missing",
        "union_tag_not_found": "missing provider",
        "union_tag_invalid": "no such provider; there are: {expected_tags}",
        "too_short": "needs at least {min_length}",
        "model_type": "has keys of its own below it",
        "model_attributes_type": "has keys of its own below it",
    }
    size = "is {expected}, or cpus and memory, or a type" if error["loc"][-2:] == ("size", "word") else ""
    return size or own.get(error["type"]) or error["msg"].replace("{", "{{").replace("}", "}}")


def _name(name: str, info: FieldInfo) -> str:
    return info.alias or name


def _fields(at: Where, variant: str) -> dict[str, FieldInfo]:
    """Return the fields below a place in the file, in the chosen variant where there are several."""
    models: list[type[BaseModel]] = [Config]
    for part in at:
        if not isinstance(part, int):
            infos = [info for model in models for name, info in model.model_fields.items() if _name(name, info) == part]
            models = [model for info in infos for model in _models(info.annotation) if _is(model, variant)]
    return {name: info for model in models for name, info in model.model_fields.items()}


def _is(model: type[BaseModel], variant: str) -> bool:
    provider = model.model_fields.get("provider")
    return not variant or provider is None or variant in get_args(provider.annotation)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in {Union, UnionType, Annotated, tuple, list}:
        return [model for each in get_args(annotation) for model in _models(each)]
    return []


def _example(at: Where, variant: str) -> str:
    names = [part for part in at if isinstance(part, str)]
    if not names:
        return ""
    for name, info in _fields(tuple(names[:-1]), variant).items():
        if _name(name, info) == names[-1] and info.examples:
            return f"{names[-1]}: {_shown(info.examples[0])}"
    return ""


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_shown(each) for each in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
