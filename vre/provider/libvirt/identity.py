"""What is ours: names with a UUID derived from them, so that a killed run's work is found and nobody else's taken."""

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from vre.errors import Finding, VreError
from vre.provider.handler import Changes, Props, Unknown


def derived(token: str, name: str) -> str:
    """Return the UUID of a thing of ours by its kind and name."""
    return str(uuid5(NAMESPACE_URL, f"{token}:{name}"))


def own(kind: str, name: str, uuid: str, existing: Any | None) -> Any | None:
    """Return an existing thing if it is ours. Raises VreError when somebody else made it."""
    if existing is None or existing.UUIDString() == uuid:
        return existing
    raise VreError(
        f"the hypervisor has a {kind} {name!r} that this project did not make",
        hint="choose another name in the stack file, or remove it with virsh",
    )


def revived(changes: Changes, state: Props, key: str) -> Changes:
    """Count a thing that should be up and is not as a change in place."""
    if state.get(key) is not False or changes.replace:
        return changes
    return Changes(update=changes.update | {key}, delete_first=changes.delete_first)


def known(value: Any) -> bool:
    """Return whether a value is there and known."""
    return value is not None and not isinstance(value, Unknown)


def named(inputs: Props, *, longest: int = 64) -> list[Finding]:
    """Refuse names that make no file name or no host name."""
    name = inputs.get("name")
    if isinstance(name, Unknown):
        return []
    plain = isinstance(name, str) and name.replace("-", "").replace(".", "").replace("_", "").isalnum()
    if plain and isinstance(name, str) and name.isascii() and len(name) <= longest and name[0].isalnum():
        return []
    return [Finding(key="name", reason=f"must be 1 to {longest} letters, digits, dots, dashes", example="vre-local")]
