"""What a cloud was told: its resources, in one form, wherever they were found."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a simulated cloud's plugin imports this at each start, and the benchmark weighs it
    from tests.engine.simulated.store import Thing

Props = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource as the cloud was told of it, under the names of the wire."""

    type: str
    name: str
    id: str
    inputs: Props
    outputs: Props = field(default_factory=dict)


def recorded(things: "list[Thing]") -> list[Resource]:
    """Return what a simulated cloud was told, in the same form."""
    return [
        Resource(type=each.type, name=each.name, id=each.id, inputs=each.inputs, outputs=each.outputs)
        for each in things
    ]


def texts(value: Any) -> Iterator[str]:
    """Yield every text inside a value."""
    match value:
        case str():
            yield value
        case Mapping():
            for each in value.values():
                yield from texts(each)
        case list() | tuple():
            for each in value:
                yield from texts(each)
