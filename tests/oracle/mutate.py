"""Ways to say something else to a cloud than was meant: an oracle that does not notice them is worth nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from tests.oracle.told import Props, Resource

Change = Callable[[Props], Props | None]
"""From inputs to other inputs; None leaves the resource out."""


def mutated(told: Sequence[Resource], kinds: str | Sequence[str], change: Change) -> list[Resource]:
    """Return what a cloud would be told if resources of these types were changed. Raises AssertionError if none was."""
    wanted = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    made = []
    for each in told:
        inputs = change(each.inputs) if each.type in wanted else each.inputs
        if inputs is not None:
            made.append(replace(each, inputs=inputs))
    assert [each.inputs for each in made] != [each.inputs for each in told], f"no {kinds} was changed"
    return made


def swapped(one: str, other: str) -> Change:
    """Exchange two properties, such as source and destination."""

    def change(inputs: Props) -> Props:
        kept = {key: value for key, value in inputs.items() if key not in (one, other)}
        crossed = {there: inputs[here] for here, there in ((one, other), (other, one)) if here in inputs}
        return {**kept, **crossed}

    return change


def widened(inputs: Props) -> Props:
    """Make every network everybody."""
    made: Props = _texts(
        inputs, lambda text: "0.0.0.0/0" if _version(text) == 4 else "::/0" if _version(text) else text
    )
    return made


def without_ipv6(inputs: Props) -> Props | None:
    """Leave IPv6 out: from lists, and the whole resource where it is about nothing else."""
    made: Props | None = _without(inputs, 6)
    return made


def setting(**values: Any) -> Change:
    """Set properties where they are set, such as a priority."""

    def change(inputs: Props) -> Props:
        return {key: values.get(key, value) for key, value in inputs.items()}

    return change


def _version(text: str) -> int:
    if "/" not in text:
        return 0
    try:
        return ip_network(text, strict=False).version
    except ValueError:
        return 0


def _texts(value: Any, change: Callable[[str], str]) -> Any:
    match value:
        case str():
            return change(value)
        case dict():
            return {key: _texts(each, change) for key, each in value.items()}
        case list():
            return [_texts(each, change) for each in value]
        case _:
            return value


def _without(value: Any, version: int) -> Any:
    """Return a value without networks of a family; None where it was about these alone."""
    if isinstance(value, str):
        return None if _version(value) == version else value
    if isinstance(value, list):
        kept = [each for each in (_without(each, version) for each in value) if each is not None]
        return None if value and not kept else kept
    if isinstance(value, dict):
        made = {key: _without(each, version) for key, each in value.items()}
        lost = [key for key, each in made.items() if each is None and value[key] is not None]
        return None if lost else made
    return value
