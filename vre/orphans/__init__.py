"""What stands on a cloud with a stack's mark and in no state: found, and taken away.

A launch loses a thing when the cloud makes it and the answer does not come back. One module for each cloud: its
`Account` lists what bears the mark, and deletes one thing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from vre.config import Config
from vre.errors import VreError
from vre.progress import Report


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Something in an account that bears a stack's mark.

    `id` is that of the engine's state. `words` are ids and addresses by which something else in a state may mention it:
    none where they are plain names, which are no proof. `within` is the id of what it is a part of. `loss` says what
    goes with it for good.
    """

    kind: str
    id: str
    name: str = ""
    words: tuple[str, ...] = ()
    within: str = ""
    loss: str = ""

    def __str__(self) -> str:
        return " ".join(dict.fromkeys((self.kind, self.name or self.id, self.id)))


Resource = Mapping[str, Any]


class Account(Protocol):
    """A cloud's account, logged in to. Every question and order raises VreError with what the cloud said."""

    @property
    def order(self) -> Sequence[str]:
        """The kinds of things, in an order in which they can be deleted."""

    @property
    def plugin(self) -> str:
        """What the types of this cloud's resources begin with."""

    def standing(self) -> Iterable[Thing]:
        """Return everything with the stack's mark."""

    def identity(self, resource: Resource) -> str:
        """Return the id by which a thing of the account is in a state."""

    def delete(self, thing: Thing) -> None:
        """Delete a thing, and wait until it is gone. That it is gone already is no fault."""


def account(config: Config) -> Account | None:
    """Return the account of a stack's cloud; nothing where what stands is looked up by name, as on a hypervisor."""
    name = f"{__name__}.{config.cloud.provider}"
    if find_spec(name) is None:
        return None
    try:
        made: Account = import_module(name).Account(config)
    except ModuleNotFoundError as error:
        hint = f"vre setup {config.cloud.provider}-packages"
        raise VreError(f"the Python package {error.name} is not installed", hint=hint) from error
    return made


def find(config: Config, state: Callable[[], Iterable[Resource]]) -> tuple[Thing, ...]:
    """Return what stands in the account with the stack's mark and is not in its state. Raises VreError."""
    cloud = account(config)
    if cloud is None:
        return ()
    standing = cloud.standing()
    # Afterwards: what a run makes meanwhile is in the state by then.
    return unknown(cloud, standing, state())


def unknown(cloud: Account, standing: Iterable[Thing], resources: Iterable[Resource]) -> tuple[Thing, ...]:
    """Return the things that a state neither holds nor mentions, in the order in which they can be deleted. Pure."""
    own = [each for each in resources if str(each.get("type", "")).startswith(f"{cloud.plugin}:")]
    held = {cloud.identity(each).casefold() for each in own}
    mentioned = {word.casefold() for each in own for word in _words([each.get("inputs"), each.get("outputs")])}
    left = {each.id: each for each in standing if not _known(each, held, mentioned)}
    return tuple(sorted(left.values(), key=lambda each: (cloud.order.index(each.kind), each.name, each.id)))


def _known(thing: Thing, held: set[str], mentioned: set[str]) -> bool:
    return thing.id.casefold() in held or any(word.casefold() in mentioned for word in thing.words)


def _words(value: Any) -> Iterator[str]:
    """Yield every text in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (word for each in value.values() for word in _words(each))
    elif isinstance(value, list | tuple):
        yield from (word for each in value for word in _words(each))


def whole(things: Sequence[Thing]) -> tuple[Thing, ...]:
    """Return the things that are no part of another of them: these go with it. Pure."""
    every = {each.id for each in things}
    return tuple(each for each in things if each.within not in every)


def remove(config: Config, things: Sequence[Thing], report: Report) -> tuple[tuple[Thing, str], ...]:
    """Delete things in their order; return those that could not be, each with why."""
    cloud = account(config)
    if cloud is None:
        return ()
    failed = []
    for number, each in enumerate(things, start=1):
        report(f"{number} of {len(things)}: {each}")
        try:
            cloud.delete(each)
        except VreError as error:
            failed.append((each, error.message))
    return tuple(failed)
