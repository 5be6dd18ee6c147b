"""What one simulated cloud knows: a class for each resource type and a function for each data source."""

import re
import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.engine.simulated.noted import CloudError
from tests.engine.simulated.store import Cloud, Thing
from vre.errors import Finding
from vre.provider.handler import Context, Found, Props, Unknown

STEP = re.compile(r"[^.\[\]]+|\[(?:\*|\d+)\]")


@dataclass(kw_only=True)
class Call:
    """One call as a resource class sees it: values are plain (no secret marks, and no unknowns but in `check`)."""

    provider: "Provider"
    cloud: Cloud
    context: Context
    config: Props
    urn: str = ""
    id: str = ""
    inputs: Props = field(default_factory=dict)
    """What the program asks for, or a function's arguments."""
    state: Props = field(default_factory=dict)
    """The outputs as the engine has them (update, read, delete)."""
    old_inputs: Props = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name that the program gave the resource."""
        return self.urn.split("::")[-1]

    def find(self, token: str, name: str) -> Thing | None:
        """Return another thing of the cloud."""
        return self.cloud.find(token, name)

    def things(self, token: str) -> list[Thing]:
        """Return every thing of a type, those that were there before, too."""
        return self.cloud.resources(token, given=True)


class Kind:
    """One resource type. Names, types and required properties are the SDK's; here stands what the SDK does not say."""

    token: ClassVar[str]
    """The type, such as `aws:ec2/vpc:Vpc`."""
    replace_on: ClassVar[frozenset[str]] = frozenset()
    """Paths of inputs whose change needs a new one: `cidrBlock`, `networkInterfaces[*].subnet`."""
    delete_first: ClassVar[bool] = False
    """Whether the old one goes before the new one comes. So it is anyway when both would have the same name."""
    named: ClassVar[str] = ""
    """The input that is its name in the cloud; the plugin makes one up where none is given."""
    unique: ClassVar[tuple[str, ...]] = ()
    """Inputs that no two may have in common (all of them together)."""
    known_by: ClassVar[tuple[str, ...]] = ()
    """Outputs by which others may refer to it, beside its id, such as `selfLink`."""
    refers: ClassVar[Mapping[str, str | tuple[str, ...]]] = {}
    """Paths of inputs that refer to other things, and their types: {"vpcId": "aws:ec2/vpc:Vpc"}."""
    frees: ClassVar[frozenset[str]] = frozenset()
    """Those paths of `refers` that do not keep the other from being deleted."""
    secret_outputs: ClassVar[frozenset[str]] = frozenset()

    def check(self, inputs: Props) -> Iterable[Finding]:
        """Return what the provider refuses without asking the cloud, beyond the SDK's types. May meet unknowns."""
        return ()

    def defaults(self, call: Call) -> Props:
        """Return inputs that the provider fills in where the program gives none."""
        return {}

    def identify(self, call: Call) -> str:
        """Return the id of a new one."""
        return str(uuid.uuid4())

    def outputs(self, call: Call) -> Props:
        """Return what the cloud computes for a new one (`call.id` is set): every name must be an output in the SDK."""
        return {}

    def create(self, call: Call) -> Props:
        """Make it behind the scenes, too; sets `call.id`, returns the outputs. Raises CloudError."""
        call.id = self.identify(call)
        return self.outputs(call)

    def read(self, call: Call) -> Found | None:
        """Look at the real thing; None when it is gone."""
        found = call.find(self.token, call.id)
        return Found(inputs=found.inputs, outputs=found.outputs) if found else None

    def update(self, call: Call) -> Props:
        """Change it in place; return the outputs that differ from the state's."""
        return {}

    def delete(self, call: Call) -> None:
        """Remove it behind the scenes, too. Raises CloudError. What refers to it was looked for before."""

    def references(self, inputs: Props) -> Iterator[tuple[str, tuple[str, ...], str]]:
        """Yield path, possible types and value of each reference to another thing."""
        for pattern, token in self.refers.items():
            for path, value in at(inputs, pattern):
                if isinstance(value, str) and value:
                    yield path, (token,) if isinstance(token, str) else token, value


class Provider:
    """One simulated cloud."""

    name: ClassVar[str]
    """The plugin's name: the first part of its types."""
    sdk: ClassVar[str]
    """The Python package of the official SDK."""
    kinds: ClassVar[Sequence[type[Kind]]] = ()
    functions: ClassVar[Mapping[str, Callable[[Call], Props]]] = {}
    """Data sources: token to what answers it; `call.inputs` are the arguments."""
    replace_on: ClassVar[frozenset[str]] = frozenset()
    """Settings of the provider whose change needs everything anew, such as `region`."""

    def configure(self, config: Props) -> None:
        """Look at the provider's settings, and refuse credentials. Raises CloudError."""

    def given(self, config: Props) -> Iterable[Thing]:
        """Return what stands in the cloud before anybody comes: images, zones, public networks."""
        return ()

    def missing(self, path: str, token: str, value: str) -> CloudError:
        """Say that something refers to what does not exist."""
        return CloudError(f"{path}: no {token} {value!r}")

    def in_use(self, thing: Thing, users: Sequence[Thing]) -> CloudError:
        """Say that something cannot be deleted because of what refers to it."""
        return CloudError(f"{thing.id} is in use by {', '.join(each.id for each in users)}")

    def exists(self, kind: Kind, other: Thing) -> CloudError:
        """Say that something of that name exists."""
        return CloudError(f"{kind.token} {other.id} already exists")

    def failed(self, method: str, token: str) -> CloudError:
        """Say that a call failed for no reason of the caller's."""
        return CloudError(f"{token}: {method}: internal error, status 500")

    def throttled(self, method: str, token: str) -> CloudError:
        """Say that the cloud is asked too often."""
        return CloudError(f"{token}: {method}: rate exceeded, status 429")


def hexadecimal(length: int, prefix: str = "") -> str:
    """Return a random id such as `vpc-0a1b2c3d4e5f60718`."""
    return prefix + secrets.token_hex((length + 1) // 2)[:length]


def at(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what stands at a path, with its full path: `[*]` is every item of a list. What is not there is left out."""
    yield from _at(value, STEP.findall(path), "")


def _at(value: Any, steps: list[str], before: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Unknown):
        return
    if not steps:
        if value is not None:
            yield before, value
        return
    step, rest = steps[0], steps[1:]
    if step.startswith("["):
        for index, each in enumerate(value if isinstance(value, list) else []):
            if step in ("[*]", f"[{index}]"):
                yield from _at(each, rest, f"{before}[{index}]")
    elif isinstance(value, dict) and step in value:
        yield from _at(value[step], rest, f"{before}.{step}" if before else step)


def changes(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield every path at which two values differ, with both sides; None where there is nothing."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from changes(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            pair = [each[index] if index < len(each) else None for each in (old, new)]
            yield from changes(pair[0], pair[1], f"{path}[{index}]")
    elif isinstance(new, Unknown) or old != new:
        yield path, old, new


def covers(patterns: Iterable[str], path: str) -> bool:
    """Say whether a path is one of the patterns, or lies below or above one."""
    steps = STEP.findall(path)
    return any(_agree(STEP.findall(pattern), steps) for pattern in patterns)


def _agree(pattern: list[str], steps: list[str]) -> bool:
    return all(one == other or (one == "[*]" and other[0] == "[") for one, other in zip(pattern, steps, strict=False))


__all__ = ["Call", "CloudError", "Kind", "Provider", "at", "changes", "covers", "hexadecimal"]
