"""The base of every part of the stack file."""

from pydantic import BaseModel, ConfigDict


def _kebab(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


class Model(BaseModel):
    """Frozen, no unknown keys, words joined by hyphens; errors never repeat what was written."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=_kebab, populate_by_name=True, hide_input_in_errors=True
    )
