"""A resource as a rule sees it. Pure: it knows neither the engine nor the policy library."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Report = Callable[[str], None]


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()
"""What only the `up` will tell: a preview lets it pass, and the `up` judges it before the resource is made."""

_AZURE = re.compile(r"azure-native[^:]*:([a-z]+)[^:]*:(\w+)")


class Odd(Exception):
    """An input has another form than the cloud's SDK gives it. Holds its place, never its value."""


@dataclass(frozen=True)
class Part:
    """A part of a resource's inputs and its place among them: a fault is told by the place, as values may be secret."""

    value: Any = field(repr=False)
    path: str = ""

    def __getitem__(self, key: str) -> "Part":
        """Return the part of that name; one without a value where there is none. Raises Odd."""
        path = f"{self.path}.{key}" if self.path else key
        if self.value is None or self.value is UNKNOWN:
            return Part(self.value, path)
        if not isinstance(self.value, Mapping):
            raise Odd(self.path)
        return Part(self.value.get(key), path)

    def each(self) -> list["Part"]:
        """Return the parts of a list; none where there is none, or where it is not known yet. Raises Odd."""
        if self.value is None or self.value is UNKNOWN:
            return []
        if not isinstance(self.value, Sequence) or isinstance(self.value, str):
            raise Odd(self.path)
        return [Part(value, f"{self.path}[{number}]") for number, value in enumerate(self.value)]

    @property
    def given(self) -> bool:
        """Whether there is something, known or not."""
        return self.value is UNKNOWN or self.value not in (None, "", [], {})

    def may_be(self, *values: object) -> bool:
        """Say whether this is one of these values, or not known yet. Upper and lower case are the same."""
        return self.value is UNKNOWN or _folded(self.value) in [_folded(value) for value in values]

    def instead(self, value: object) -> "Part":
        """Return what this stands for where it was left out."""
        return Part(value, self.path)


def _folded(value: object) -> object:
    return value.casefold() if isinstance(value, str) else value


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource that is to be: its type, its inputs, and what the institution set for the rule that looks at it."""

    type: str
    inputs: Part
    config: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Part:
        return self.inputs[key]

    @property
    def kind(self) -> str:
        """The type, without the API's version that Azure's may carry."""
        found = _AZURE.fullmatch(self.type)
        return f"azure-native:{found[1]}:{found[2]}" if found else self.type


Check = Callable[[Resource, Report], None]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of the pack. `settings` is the JSON schema of each setting that an institution may give."""

    name: str
    description: str
    check: Check
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def look(rule: Rule, resource: Resource, report: Report) -> None:
    """Apply a rule. What it cannot read it refuses, since an error's text would show what was in the resource."""
    try:
        rule.check(resource, report)
    except Odd as odd:
        report(f"{odd.args[0] or 'the resource'}: has another form than this rule can read")
    except Exception as error:
        report(f"the resource has another form than this rule can read ({type(error).__name__})")


def plain(value: Any, unknown: type[Exception]) -> Any:
    """Return inputs as plain data, from a view of them that raises `unknown` where something is not known yet."""
    if isinstance(value, Mapping):
        return {key: _taken(value, key, unknown) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_taken(value, number, unknown) for number in range(len(value))]
    return value


def _taken(holder: Any, key: str | int, unknown: type[Exception]) -> Any:
    try:
        return plain(holder[key], unknown)
    except unknown:
        return UNKNOWN
