"""`vre:cloud:Capacity`: how large a disk is, where the cloud would make a smaller one anew, and empty."""

import secrets

from vre.errors import Finding, VreError
from vre.provider.crypto import InState
from vre.provider.handler import Changes, Context, Props


class Capacity(InState):
    """In the state only. The disk itself comes after it."""

    token = "vre:cloud:Capacity"  # noqa: S105
    inputs = ("gib",)

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse what is no size."""
        size = inputs.get("gib")
        whole = isinstance(size, int) and not isinstance(size, bool) and size > 0
        return [] if whole else [Finding(key="gib", reason="must be a whole number of GiB")]

    def diff(self, state: Props, inputs: Props) -> Changes:
        """Compare. Raises VreError when the disk would have to shrink."""
        old, new = state["gib"], inputs["gib"]
        if new < old:
            raise VreError(
                f"a disk cannot shrink from {old} to {new} GiB: data would be lost",
                hint="give it back its size, or remove the machine and make a new one",
            )
        return super().diff(state, inputs)

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Note it."""
        return secrets.token_hex(8), inputs

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Note the larger size."""
        return inputs
