"""A stack file read by a program: values, and on which line each key stands, so that errors can point at it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from vre.errors import Finding, Refused, VreError
from vre.paths import project

PREFIX = "vre:"
BOOLEAN = "tag:yaml.org,2002:bool"
Where = tuple[str | int, ...]


class Loader(yaml.SafeLoader):
    """YAML as the engine reads it: only true and false are, and `on` is a word, as in `terms: {on: 2026-11-21}`."""


Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] != BOOLEAN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(BOOLEAN, re.compile("(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


@dataclass(frozen=True, kw_only=True)
class StackFile:
    """What stands below `config:`, without the `vre:` prefix, and the line of each key."""

    path: Path
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[Where, int] = field(default_factory=dict)

    def place(self, key: Where) -> str:
        """Return `file:line` of a key, or of the nearest key above it that is there."""
        for length in range(len(key), -1, -1):
            line = self.lines.get(key[:length])
            if line:
                return f"{self.path.parent.name}/{self.path.name}:{line}"
        return f"{self.path.parent.name}/{self.path.name}"


def path(stack: str) -> Path:
    """Return where a stack's file lies."""
    return project() / "stacks" / f"Pulumi.{stack}.yaml"


def read(file: Path) -> StackFile:
    """Read a stack file. Raises VreError when it is not there, Refused when it is no YAML mapping."""
    try:
        text = file.read_text()
    except FileNotFoundError as error:
        there = sorted(p.name.split(".")[1] for p in file.parent.glob("Pulumi.*.yaml"))
        raise VreError(f"no such stack file: {file.name}", hint=f"there are stacks: {', '.join(there)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise VreError(f"{file} cannot be read: {error}", hint="a stack file is YAML in UTF-8") from error
    return parse(text, file)


def without_salt(text: str) -> str:
    """Return a stack file's text without the engine's salt, where nothing is sealed with it. Pure.

    The engine writes the salt of its passphrase into the file, where it fits no other checkout's passphrase.
    """
    if re.search(r"\bsecure:", text):
        return text
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("encryptionsalt:"))


def parse(text: str, file: Path) -> StackFile:
    """Parse the text of a stack file."""
    try:
        _refuse_aliases(text, file)
        root = yaml.compose(text, Loader=Loader)
        loaded = yaml.load(text, Loader=Loader) or {}  # noqa: S506 - it is a safe one
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Refused([_broken(error, file)]) from error
    _refuse_doubles(root, file)
    config = loaded.get("config") if isinstance(loaded, dict) else None
    if not isinstance(config, dict):
        reason = "the file has no config:" if isinstance(loaded, dict) else "the file is no YAML mapping"
        raise Refused([Finding(key="config", reason=reason, where=file.name, example="config: {vre:name: phenome}")])
    values = {str(key).removeprefix(PREFIX): value for key, value in config.items() if str(key).startswith(PREFIX)}
    return StackFile(path=file, values=values, lines=_lines(root))


def _refuse_aliases(text: str, file: Path) -> None:
    """Refuse values that stand for others: they can contain themselves, or unfold without end."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark else 1
            place = f"{file.parent.name}/{file.name}:{line}"
            raise Refused([Finding(key="config", reason=f"*{event.anchor}: write the value out", where=place)])


def opened(file: StackFile, get: Callable[[str], str | None]) -> StackFile:
    """Return a stack file with the values as the engine reads them, secrets opened.

    `get` returns the engine's text of a key without its prefix: plain, or JSON for what has structure.
    """
    texts = {key: get(key) for key in file.values}
    values = {key: _value(text) if text is not None else file.values[key] for key, text in texts.items()}
    return replace(file, values=values)


def _value(text: str) -> Any:
    try:
        return json.loads(text) if text[:1] in "{[" else text
    except json.JSONDecodeError:
        return text


def _broken(error: Exception, file: Path) -> Finding:
    mark = getattr(error, "problem_mark", None)
    where = f"{file.parent.name}/{file.name}:{mark.line + 1}" if mark else file.name
    return Finding(
        key="config", reason=f"no YAML: {getattr(error, 'problem', None) or type(error).__name__}", where=where
    )


def _lines(root: yaml.Node | None) -> dict[Where, int]:
    under = {at[1:]: line for at, line in _places(root) if at[:1] == ("config",)}
    return {(str(at[0]).removeprefix(PREFIX), *at[1:]) if at else at: line for at, line in under.items()}


def _places(node: yaml.Node | None, at: Where = ()) -> Iterator[tuple[Where, int]]:
    """Yield every key below a node, as often as it is written, and its line."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, str(getattr(key, "value", "")))
            yield here, key.start_mark.line + 1
            yield from _places(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*at, index), value.start_mark.line + 1
            yield from _places(value, (*at, index))


def _refuse_doubles(root: yaml.Node | None, file: Path) -> None:
    """Refuse keys that are written twice: a YAML reader takes the last one, without a word."""
    lines: dict[Where, list[int]] = {}
    for at, line in _places(root):
        lines.setdefault(at, []).append(line)
    twice = {at: found for at, found in lines.items() if len(found) > 1}
    # What stands below a key that is written twice seems to be there twice, too.
    first = {at: found for at, found in twice.items() if not any(at[:length] in twice for length in range(len(at)))}
    if first:
        raise Refused([_double(at, found, file) for at, found in first.items()])


def _double(at: Where, lines: list[int], file: Path) -> Finding:
    shown = at[1:] if at[:1] == ("config",) and len(at) > 1 else at
    *before, last = (str(line) for line in lines)
    return Finding(
        key=".".join(str(part) for part in shown),
        reason=f"is written in lines {', '.join(before)} and {last}: keep one",
        where=f"{file.parent.name}/{file.name}:{last}",
    )
