"""What one kind of resource does, with no Pulumi in it: the contract between the plugin's server and its drivers.

A handler is plain and synchronous; the server calls it in a thread of its own, so a handler may block, but must look at
`context.cancelled` where it waits. Values are plain JSON values: secrets arrive unwrapped, and leave wrapped when their
name stands in `Handler.secret_outputs` or when the input of the same name was a secret.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vre.errors import Finding, VreError
from vre.progress import Report, silent

Props = dict[str, Any]


class Unknown:
    """A value that only the update will know. Appears in `check`, `diff` and previews, never in an update itself."""


UNKNOWN = Unknown()


@dataclass(frozen=True, kw_only=True)
class Context:
    """What surrounds one call: where to report, whether it was cancelled, how long it may take (s; 0: no limit).

    `report` is a line that the next one replaces; `warn` is for what a person has to know afterwards, too.
    """

    report: Report = silent
    warn: Report = silent
    cancelled: threading.Event = field(default_factory=threading.Event)
    timeout: float = 0.0

    def pause(self, seconds: float) -> None:
        """Wait, but not past a cancel. Raises Cancelled."""
        if self.cancelled.wait(seconds):
            raise Cancelled("cancelled", hint="the next `pulumi up` goes on where this one stopped")


class Cancelled(VreError):
    """The user pressed Ctrl-C, or the resource's customTimeouts ran out: stop at once, keep what is there."""


class Partial(VreError):
    """The resource exists but is not whole: it is kept in state, and the next update goes on from there.

    `outputs` is what is known of it; the message says what failed and what to do.
    """

    def __init__(self, resource_id: str, outputs: Props, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.resource_id = resource_id
        self.outputs = outputs


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a diff found: `update` changes in place, `replace` needs a new resource. Both empty: nothing to do."""

    update: frozenset[str] = frozenset()
    replace: frozenset[str] = frozenset()
    delete_first: bool = True


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a read found: the inputs that would give this resource, and its outputs."""

    inputs: Props
    outputs: Props


class Handler(ABC):
    """One kind of resource. Outputs always hold the inputs under the same names, and what was computed beside them."""

    token: ClassVar[str]
    """The Pulumi type, `vre:module:Type`."""
    replace_on: ClassVar[frozenset[str]] = frozenset()
    """Inputs whose change needs a new resource."""
    ignore: ClassVar[frozenset[str]] = frozenset()
    """Inputs whose change alone is no change: how to reach a thing, not what it is."""
    secret_outputs: ClassVar[frozenset[str]] = frozenset()
    """Outputs that are secret whatever the inputs were."""

    def check(self, inputs: Props) -> list[Finding]:
        """Return what is wrong with the inputs as given, before `normalise`. Unknown values are `UNKNOWN` and pass."""
        return []

    def normalise(self, inputs: Props) -> Props:
        """Return the inputs with defaults filled in."""
        return inputs

    def diff(self, state: Props, inputs: Props) -> Changes:
        """Compare the state's outputs with new inputs. An unknown counts as a change."""
        changed = {
            key
            for key in inputs.keys() | self.known_inputs(state)
            if key not in self.ignore and state.get(key) != inputs.get(key)
        }
        return Changes(
            update=frozenset(changed - self.replace_on),
            replace=frozenset(changed & self.replace_on),
        )

    def known_inputs(self, state: Props) -> set[str]:
        """Return which keys of a state are inputs, beyond the new ones. The server adds the removed ones by itself."""
        return set()

    def preview(self, inputs: Props, state: Props) -> Props:
        """Return the outputs a create (empty state) or update will give, `UNKNOWN` where only it can tell."""
        return {**state, **inputs}

    @abstractmethod
    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Make it; return its id and outputs. Safe to run again after a kill: adopts its own half-made work."""

    @abstractmethod
    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Look at the real thing; None when it is gone. `state` is empty on import.

        May raise Partial when it is there but not whole. Inputs named in `ignore` may be left out: the server keeps
        those that were there.
        """

    @abstractmethod
    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Change it in place; return the new outputs."""

    @abstractmethod
    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Remove it. Already gone is success."""


Registry = Mapping[str, Handler]
