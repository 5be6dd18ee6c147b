"""Values on the wire and in handlers: what the engine sends as protobuf, with secrets and unknowns marked.

Three forms: protobuf; marked (plain JSON values with `Secret` around what is secret and `UNKNOWN` for what only the
update will know); plain (marked, with the `Secret` taken off), which is all that a handler sees.
"""

import json
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from google.protobuf.struct_pb2 import ListValue, NullValue, Struct, Value

from vre.provider.handler import UNKNOWN, Props, Unknown

# The protocol's own constants; they never change (provider.proto, "special signature").
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 a signature, not a secret
OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
UNKNOWN_TEXT = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
LONGEST_HARMLESS = 7  # characters: shorter texts occur by chance, so finding one inside another proves nothing


@dataclass(frozen=True)
class Secret:
    """A marked value: may be used, never shown."""

    value: Any

    def __repr__(self) -> str:
        return "Secret(****)"


def received(struct: Struct) -> Props:
    """Return a protobuf struct as marked values. Whole floats become ints: the wire knows no ints."""
    return {key: _received(value) for key, value in struct.fields.items()}


def _received(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return _object(received(value.struct_value))
        case "list_value":
            return [_received(item) for item in value.list_value.values]
        case "string_value":
            return UNKNOWN if value.string_value == UNKNOWN_TEXT else value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case _:
            return None


def _object(fields: Props) -> Any:
    match fields.get(SIGNATURE):
        case str(sign) if sign == SECRET:
            return Secret(fields.get("value"))
        case str(sign) if sign == OUTPUT:
            inner = fields.get("value", UNKNOWN)
            return Secret(inner) if fields.get("secret") else inner
        case _:
            return fields


def sent(props: Mapping[str, Any]) -> Struct:
    """Return marked values as a protobuf struct."""
    return Struct(fields={key: _sent(value) for key, value in props.items()})


def _sent(value: Any) -> Value:
    match value:
        case Secret():
            made = Value(struct_value=sent({SIGNATURE: SECRET, "value": value.value}))
        case Unknown():
            made = Value(string_value=UNKNOWN_TEXT)
        case None:
            made = Value(null_value=NullValue.NULL_VALUE)
        case bool():
            made = Value(bool_value=value)
        case int() | float():
            made = Value(number_value=float(value))
        case str():
            made = Value(string_value=value)
        case Mapping():
            made = Value(struct_value=sent(value))
        case list() | tuple():
            made = Value(list_value=ListValue(values=[_sent(item) for item in value]))
        case _:
            raise TypeError(f"a handler returned a {type(value).__name__}, which is no JSON value")
    return made


def plain(value: Any) -> Any:
    """Return marked values without their secret marks."""
    match value:
        case Secret():
            return plain(value.value)
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case _:
            return value


def has_secret(value: Any) -> bool:
    """Return whether anything inside is secret."""
    match value:
        case Secret():
            return True
        case dict():
            return any(has_secret(item) for item in value.values())
        case list():
            return any(has_secret(item) for item in value)
        case _:
            return False


def secret_texts(value: Any, *, inside: bool = False) -> frozenset[str]:
    """Return every text and number that stands inside a secret."""
    match value:
        case Secret():
            return secret_texts(value.value, inside=True)
        case dict():
            return frozenset().union(*(secret_texts(item, inside=inside) for item in value.values()))
        case list():
            return frozenset().union(*(secret_texts(item, inside=inside) for item in value))
        case str() | int() | float() if inside and not isinstance(value, bool) and str(value):
            return frozenset([str(value)])
        case _:
            return frozenset()


def starred(text: str, secrets: Iterable[str]) -> str:
    """Return a text with every secret in it as stars, also where it stands quoted, escaped or line by line."""
    forms: set[str] = set()
    for secret in secrets:
        forms |= {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]}
        forms |= {line.strip() for line in secret.splitlines() if len(line.strip()) > LONGEST_HARMLESS}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "****")
    return text


def marked(props: Props, *, like: Iterable[Props], names: AbstractSet[str] = frozenset()) -> Props:
    """Return a handler's plain values with secret marks put back.

    A value is secret when its name stands in `names`, when it is what one of `like` (marked values) had under that name
    (then it is marked exactly as there), when that was secret in any part, or when it holds a secret text of `like`.
    """
    sources = list(like)
    texts = {text for source in sources for text in secret_texts(source) if len(text) > LONGEST_HARMLESS}
    return {key: _marked(key, value, sources, names, texts) for key, value in props.items()}


def _marked(key: str, value: Any, sources: list[Props], names: AbstractSet[str], texts: set[str]) -> Any:
    if key in names:
        return Secret(value)
    was_secret = False
    for source in sources:
        if key in source and has_secret(source[key]):
            if plain(source[key]) == value:
                return source[key]
            was_secret = True
    if was_secret or _holds(value, texts):
        return Secret(value)
    return value


def _holds(value: Any, texts: set[str]) -> bool:
    match value:
        case str():
            return any(text in value for text in texts)
        case dict():
            return any(_holds(item, texts) for item in value.values())
        case list():
            return any(_holds(item, texts) for item in value)
        case _:
            return False


def unknown_inside(value: Any) -> bool:
    """Return whether anything inside is not known yet."""
    match value:
        case Unknown():
            return True
        case dict():
            return any(unknown_inside(item) for item in value.values())
        case list():
            return any(unknown_inside(item) for item in value)
        case _:
            return False
