"""What an official SDK says about its resources and functions: names, types and which inputs are required.

Read off the installed Python SDK itself, which is generated from the provider's own schema.
"""

import collections.abc
import enum
import hashlib
import inspect
import json
import os
import pickle
import re
import sys
import threading
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import pulumi
from pulumi import _types

from vre import paths
from vre.errors import Finding
from vre.provider.handler import Unknown

MODULES = re.compile(r'resource_modules="""(.*?)"""', re.DOTALL)
ARGUMENT = re.compile(r"__args__\['(\w+)'\] = (\w+)")
LOCAL = {"T": type(None), "Output": pulumi.Output}
WRAPPED = re.compile(r"(\w+): ((?:pulumi\.Input\[|Optional\[)+)")
MADE: dict[type, "Object"] = {}
READING = threading.Lock()
"""An SDK is imported piece by piece when it is looked at, which two threads must not do at once."""
NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


class Shape(Protocol):
    """What a value has to look like."""

    def faults(self, value: Any, path: str) -> Iterator[Finding]:
        """Yield what is wrong with a value; unknown values pass."""


@dataclass(frozen=True)
class Anything:
    """Any value."""

    def faults(self, value: Any, path: str) -> Iterator[Finding]:
        """Yield nothing."""
        yield from ()


@dataclass(frozen=True)
class Scalar:
    """A text, a number, or a truth value."""

    kind: type

    def faults(self, value: Any, path: str) -> Iterator[Finding]:
        """Refuse every other type; a whole number is a number, too."""
        right = (self.kind, int) if self.kind is float else self.kind
        if not isinstance(value, Unknown) and (
            not isinstance(value, right) or (self.kind is not bool and isinstance(value, bool))
        ):
            yield Finding(key=path, reason=f"must be {NAMES[self.kind]}, not {_said(value)}")


@dataclass(frozen=True)
class OneOf:
    """One of the values of an enumeration."""

    values: tuple[Any, ...]

    def faults(self, value: Any, path: str) -> Iterator[Finding]:
        """Refuse other values."""
        if not isinstance(value, Unknown) and value not in self.values:
            yield Finding(key=path, reason=f"must be one of {', '.join(map(str, self.values))}, not {value!r}")


@dataclass(frozen=True)
class Items:
    """A list."""

    item: Shape

    def faults(self, value: Any, path: str) -> Iterator[Finding]:
        """Look at every item."""
        if isinstance(value, Unknown):
            return
        if not isinstance(value, list):
            yield Finding(key=path, reason=f"must be a list, not {_said(value)}")
            return
        for index, each in enumerate(value):
            yield from self.item.faults(each, f"{path}[{index}]")


@dataclass(frozen=True)
class Entries:
    """A mapping from texts."""

    item: Shape

    def faults(self, value: Any, path: str) -> Iterator[Finding]:
        """Look at every entry."""
        if isinstance(value, Unknown):
            return
        if not isinstance(value, dict):
            yield Finding(key=path, reason=f"must be a mapping, not {_said(value)}")
            return
        for key, each in value.items():
            yield from self.item.faults(each, f'{path}["{key}"]')


@dataclass(frozen=True)
class Either:
    """Any one of several."""

    options: tuple[Shape, ...]

    def faults(self, value: Any, path: str) -> Iterator[Finding]:
        """Yield the first option's faults when no option takes the value."""
        found = [list(option.faults(value, path)) for option in self.options]
        if all(found):
            yield from found[0]


class Object:
    """A set of named properties, each under its name on the wire."""

    def __init__(self) -> None:
        self.fields: dict[str, Shape] = {}
        self.required: frozenset[str] = frozenset()

    def faults(self, value: Any, path: str) -> Iterator[Finding]:
        """Refuse unknown, missing and ill-typed properties."""
        if isinstance(value, Unknown):
            return
        if not isinstance(value, dict):
            yield Finding(key=path, reason=f"must be an object, not {_said(value)}")
            return
        given = {key: each for key, each in value.items() if each is not None and not key.startswith("__")}
        before = f"{path}." if path else ""
        for key in sorted(self.required - given.keys()):
            yield Finding(key=f"{before}{key}", reason="missing required property")
        for key, each in given.items():
            if key in self.fields:
                yield from self.fields[key].faults(each, f"{before}{key}")
            else:
                yield Finding(key=f"{before}{key}", reason="unknown property")

    def decoded(self, key: str, value: Any) -> Any:
        """Return a property that was sent as text although it is none: then it is JSON."""
        if not isinstance(value, str) or self.fields.get(key) in (None, Scalar(str)):
            return value
        try:
            return json.loads(value)
        except ValueError:
            return value


@dataclass(frozen=True, kw_only=True)
class Described:
    """One resource type, one function, or the provider's own settings: what goes in, what comes out."""

    inputs: Object
    outputs: frozenset[str] = frozenset()

    def faults(self, given: Mapping[str, Any]) -> list[Finding]:
        """Return what is wrong with what is given."""
        return list(self.inputs.faults(dict(given), ""))


class Sdk:
    """An installed provider SDK, such as pulumi_aws.

    Importing one takes seconds, so what was read off it is kept in a cache.
    """

    def __init__(self, package: str) -> None:
        self.package = package
        self.version = version(package.replace("_", "-"))
        self._known: dict[str, Described] = {}

    def resource(self, token: str) -> Described:
        """Return what is known of a resource type. Raises LookupError for one that the SDK does not have."""
        return self._kept(token, lambda: _resource(self.package, token))

    def function(self, token: str) -> Described:
        """Return what is known of a function. Raises LookupError for one that the SDK does not have."""
        return self._kept(token, lambda: _function(self.package, token))

    def settings(self) -> Described:
        """Return what the provider itself is configured with."""
        return self._kept(
            "provider", lambda: Described(inputs=_object(import_module(f"{self.package}.provider").ProviderArgs))
        )

    def _kept(self, name: str, read: Callable[[], Described]) -> Described:
        with READING:
            if name not in self._known:
                self._known[name] = self._stored(name, read)
            return self._known[name]

    def _stored(self, name: str, read: Callable[[], Described]) -> Described:
        code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
        file = paths.cache() / "sdk" / f"{self.package}-{self.version}-{code}" / f"{name.replace('/', '_')}.pickle"
        if file.exists():
            found: Described = pickle.loads(file.read_bytes())
            return found
        made = read()
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = file.with_suffix(f".{os.getpid()}")
        whole.write_bytes(pickle.dumps(made))
        whole.rename(file)
        return made


def _resource(package: str, token: str) -> Described:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise LookupError(f"{package} is not installed")
    found = MODULES.search(Path(spec.origin).read_text())
    modules = json.loads(found[1]) if found else []
    places = {every: (each["fqn"], name) for each in modules for every, name in each["classes"].items()}
    if token not in places:
        raise LookupError(f"{package} has no resource type {token}")
    module, name = places[token]
    made = getattr(import_module(module), name)
    inside = vars(sys.modules[made.__module__])
    # InitArgs where a type inside some resource has taken the name.
    args = inside.get(f"{name}InitArgs") or inside[f"{name}Args"]
    return Described(inputs=_object(args), outputs=frozenset(_types.resource_types(made)))


def _function(package: str, token: str) -> Described:
    _, place, name = token.split(":")
    folder = place.split("/")[0]
    module = import_module(package if folder in ("index", "") else f"{package}.{folder.replace('-', '')}")
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    made: Callable[..., Any] | None = getattr(module, snake, None)
    if made is None:
        raise LookupError(f"{package} has no function {token}")
    inside = vars(sys.modules[made.__module__])
    output = getattr(module, f"{snake}_output")
    wire = {python: name for name, python in ARGUMENT.findall(inspect.getsource(made))}
    hints = typing.get_type_hints(output, globalns=inside, localns=LOCAL)
    inputs = Object()
    inputs.fields = {name: shape(hints[python]) for python, name in wire.items()}
    inputs.required = frozenset(wire[python] for python in _required(output) if python in wire)
    result = typing.get_type_hints(made, globalns=inside, localns=LOCAL)["return"]
    return Described(inputs=inputs, outputs=frozenset(_names(result)))


def _required(output: Callable[..., Any]) -> Iterator[str]:
    """Yield the arguments that are optional once, for the options' sake; those that are so by themselves are twice."""
    for name, wrapped in WRAPPED.findall(inspect.getsource(output)):
        if wrapped.count("Optional[") < 2:
            yield name


def _names(result: type) -> Iterator[str]:
    known = {name: wire for name, wire, _ in _types._py_properties(result)}
    for name in inspect.signature(result.__init__).parameters:  # type: ignore[misc]
        if not name.startswith("__"):
            yield known.get(name, re.sub(r"_(\w)", lambda found: found[1].upper(), name))


def shape(hint: Any) -> Shape:
    """Return the shape that a type annotation of an SDK stands for."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _union([each for each in typing.get_args(hint) if _is_value(each)])
    if origin in (collections.abc.Sequence, list):
        return Items(shape(typing.get_args(hint)[0]))
    if origin in (collections.abc.Mapping, dict):
        return Entries(shape(typing.get_args(hint)[1]))
    if hint in NAMES:
        return Scalar(hint)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return OneOf(tuple(each.value for each in hint))
    if isinstance(hint, type) and _types.is_input_type(hint):
        return _object(hint)
    if hint is Any or hint in (pulumi.Asset, pulumi.Archive, dict):
        return Anything()
    raise TypeError(f"an annotation of a kind not met before: {hint}")


def _object(args: type) -> Object:
    made = MADE.setdefault(args, Object())
    if not made.fields:
        hints = _types.input_type_types(args)
        made.fields = dict.fromkeys(hints, Anything())
        made.fields.update({name: shape(hint) for name, hint in hints.items()})
        names = _types.input_type_py_to_pulumi_names(args)
        given = inspect.signature(args.__init__).parameters.values()  # type: ignore[misc]
        made.required = frozenset(
            names[each.name] for each in given if each.name in names and each.default is each.empty
        )
    return made


def _is_value(hint: Any) -> bool:
    """Say whether a member of a union is a value, and not one of the ways to come by it."""
    origin = typing.get_origin(hint) or hint
    return not (hint is type(None) or origin in (collections.abc.Awaitable, pulumi.Output))


def _union(hints: list[Any]) -> Shape:
    if any(isinstance(each, type) and _types.is_input_type(each) for each in hints):
        # InputType[T] is T or a mapping of any kind, or T's TypedDict; functions add what they themselves return.
        hints = [each for each in hints if not (_is_mapping(each) or typing.is_typeddict(each) or _is_output(each))]
    made = tuple(dict.fromkeys(shape(each) for each in hints))
    return made[0] if len(made) == 1 else Either(made)


def _is_output(hint: Any) -> bool:
    return isinstance(hint, type) and _types.is_output_type(hint)


def _is_mapping(hint: Any) -> bool:
    return (typing.get_origin(hint) or hint) in (collections.abc.Mapping, dict)


def _said(value: Any) -> str:
    for kind, name in ((bool, "true or false"), (int, "a number"), (float, "a number"), (str, "a text")):
        if isinstance(value, kind):
            return name
    return "a list" if isinstance(value, list) else "an object"
