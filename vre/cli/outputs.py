"""What a launched stack says of itself: its outputs, the same on every cloud."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vre.errors import VreError

if TYPE_CHECKING:
    from vre.config import Config
    from vre.machine.ssh import Connection


WANTED = ("url", "services", "user", "password", "authority", "machines")


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine: how to reach it, and the host keys of which it must show one.

    The first address is the one to reach it at; `through` is the address of the machine that leads to it, or empty.
    """

    name: str
    role: str
    addresses: tuple[str, ...]
    host_keys: tuple[str, ...]
    through: str = ""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """A launched stack. `authority` is a certificate in PEM, or empty where browsers trust the door's anyway."""

    stack: str
    url: str
    services: Mapping[str, str]
    user: str
    password: str
    authority: str
    passwords: Mapping[str, str]
    machines: tuple[Node, ...]
    identity: str
    visitors: tuple[str, ...] = ()
    certificate_until: str = ""

    def machine(self, name: str = "") -> Node:
        """Return a machine by its name, or by the end of it; the control machine when none is named."""
        fits = [node for node in self.machines if _named(node, name)]
        if fits:
            return fits[0]
        there = ", ".join(node.name for node in self.machines)
        raise VreError(f"no machine is called {name}", hint=f"there are: {there}")

    def connection(self, node: Node) -> "Connection":
        """Return how to reach a machine: pinned host key, the launching key."""
        from vre.machine.ssh import Connection

        way = self.way(node)
        return Connection(
            address=node.addresses[0],
            host_keys=node.host_keys,
            identity=self.identity,
            through=self.connection(way) if way else None,
        )

    def way(self, node: Node) -> Node | None:
        """Return the machine through which another is reached; nothing where it is reached itself."""
        return next((each for each in self.machines if node.through and node.through in each.addresses), None)


def _named(node: Node, name: str) -> bool:
    return node.name == name or node.name.endswith(f"-{name}") if name else node.role == "control"


def read(stack: str, found: Mapping[str, Any], *, identity: str) -> Outputs:
    """Return the outputs that the engine keeps. Raises VreError when the stack is not (wholly) launched. Pure."""
    missing = [name for name in WANTED if name not in found]
    if missing:
        reason = "is not launched" if len(missing) == len(WANTED) else "is not launched to its end"
        raise VreError(f"stack {stack} {reason}", hint=f"launch it: {up(stack)}")
    return Outputs(
        stack=stack,
        url=str(found["url"]),
        services=dict(found["services"]),
        user=str(found["user"]),
        password=str(found["password"]),
        authority=str(found["authority"]),
        passwords=dict(found.get("passwords") or {}),
        machines=tuple(_node(each) for each in found["machines"]),
        identity=identity,
        visitors=tuple(found.get("visitors") or ()),
        certificate_until=str(found.get("certificateUntil") or ""),
    )


def _node(each: Mapping[str, Any]) -> Node:
    return Node(
        name=str(each["name"]),
        role=str(each["role"]),
        addresses=tuple(each["addresses"]),
        host_keys=tuple(each.get("hostKeys") or (str(each["hostKey"]),)),
        through=str(each.get("through") or ""),
    )


def up(stack: str) -> str:
    """Return the command that launches a stack."""
    return "make up" if stack == "local" else f"{vre()} up -s {stack}"


def vre() -> str:
    """Return how our command is to be typed here: by its name only where the environment is active."""
    return "vre" if shutil.which("vre") else ".venv/bin/vre"


def of(stack: str) -> Outputs:
    """Return the outputs of a stack, with the key from its stack file."""
    from vre import access, engine

    return read(stack, engine.outputs(stack), identity=access.identity(config(stack)))


def config(stack: str) -> "Config":
    """Return what a stack's file says, checked."""
    from vre import stackfile
    from vre.load import load

    return load(stackfile.read(stackfile.path(stack)))


def machines(stack: str) -> Outputs:
    """Return what is needed to reach a stack's machines, also while it is launched half-way.

    Then their names and addresses are those of the stack file, and the host keys those that the state holds.
    """
    from vre import access, engine
    from vre.plan import plan

    asked = config(stack)
    found = engine.outputs(stack)
    key = access.identity(asked)
    if "machines" in found:
        return read(stack, {**dict.fromkeys(WANTED, ""), "services": {}, **found}, identity=key)
    keys = host_keys(engine.resources(stack))
    if not keys:
        raise VreError(f"stack {stack} is not launched", hint=f"launch it: {up(stack)}")
    nodes = [{"name": m.name, "role": m.role, "addresses": [m.ipv4], "hostKeys": keys} for m in plan(asked).machines]
    return read(stack, {**dict.fromkeys(WANTED, ""), "services": {}, "machines": nodes}, identity=key)


def host_keys(resources: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return every public host key that a stack's state holds."""
    kept = [each.get("outputs", {}) for each in resources if each.get("type") == "vre:crypto:HostKey"]
    return [str(each["publicKey"]) for each in kept if each.get("publicKey")]
