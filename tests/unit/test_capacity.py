"""A disk may grow, and never shrinks."""

from typing import Any

import pytest

from vre.errors import VreError
from vre.provider.capacity import Capacity
from vre.provider.handler import Context

NOTED = {"gib": 20}


def test_a_size_is_noted_and_grows_in_place() -> None:
    handler = Capacity()
    assert handler.check(NOTED) == []
    identity, state = handler.create(Context(), NOTED)
    assert state == NOTED
    changes = handler.diff(state, {"gib": 30})
    assert (changes.update, changes.replace) == (frozenset({"gib"}), frozenset())
    assert handler.update(Context(), identity, state, {"gib": 30}) == {"gib": 30}


def test_no_change_is_none() -> None:
    changes = Capacity().diff(NOTED, NOTED)
    assert not changes.update | changes.replace


def test_a_smaller_size_is_refused_with_both() -> None:
    with pytest.raises(VreError, match="cannot shrink from 20 to 19 GiB") as refused:
        Capacity().diff(NOTED, {"gib": 19})
    assert "give it back its size" in refused.value.hint


@pytest.mark.parametrize("size", [0, -1, True, "20", None])
def test_what_is_no_size_is_refused(size: Any) -> None:
    assert [each.key for each in Capacity().check({"gib": size})] == ["gib"]
