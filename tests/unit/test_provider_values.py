"""Values between wire and handlers: nothing is lost, no mark of a secret either."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vre.provider.handler import UNKNOWN
from vre.provider.values import Secret, has_secret, marked, plain, received, secret_texts, sent, starred

TEXT = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), TEXT, st.just(UNKNOWN)
)
PLAIN = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
MARKED = st.recursive(
    LEAVES | LEAVES.map(Secret), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)
PROPS = st.dictionaries(TEXT, MARKED, max_size=4)


@given(PROPS)
def test_what_is_sent_is_what_is_received(props: dict[str, Any]) -> None:
    assert received(sent(props)) == props


@given(PROPS)
def test_plain_values_hold_no_mark(props: dict[str, Any]) -> None:
    assert not has_secret(plain(props))


@given(PROPS)
def test_returned_unchanged_values_get_their_marks_back_exactly(props: dict[str, Any]) -> None:
    again = marked(plain(props), like=[props])
    assert {key for key in props if has_secret(props[key])} <= {key for key in again if has_secret(again[key])}
    assert plain(again) == plain(props)
    assert all(again[key] == props[key] for key in props if has_secret(props[key]))


def test_whole_numbers_are_ints_and_others_stay() -> None:
    numbers = received(sent({"whole": 3.0, "part": 3.5, "large": 2**40}))
    kinds = {key: type(value) for key, value in numbers.items()}
    assert kinds == {"whole": int, "part": float, "large": int}


def test_a_changed_value_under_a_secret_name_is_secret() -> None:
    assert marked({"key": "new"}, like=[{"key": Secret("old")}]) == {"key": Secret("new")}


def test_a_secret_that_turns_up_under_another_name_is_secret_there() -> None:
    token = Secret("correct-horse-battery")
    found = marked({"url": "https://u:correct-horse-battery@h", "size": 3, "short": "no"}, like=[{"t": token}])
    assert found == {"url": Secret("https://u:correct-horse-battery@h"), "size": 3, "short": "no"}


def test_short_secrets_mark_only_their_own_name() -> None:
    assert marked({"pin": "1234", "year": "12345"}, like=[{"pin": Secret("1234")}]) == {
        "pin": Secret("1234"),
        "year": "12345",
    }


@pytest.mark.parametrize(
    "text",
    [
        "said line-one-of-a-key\nline-two-of-a-key here",
        "said 'line-one-of-a-key\\nline-two-of-a-key' here",
        "said only line-two-of-a-key here",
        'said {"key": "line-one-of-a-key\\nline-two-of-a-key"} here',
    ],
)
def test_secrets_are_starred_however_they_are_written(text: str) -> None:
    shown = starred(text, ["line-one-of-a-key\nline-two-of-a-key"])
    assert "of-a-key" not in shown
    assert "****" in shown


def test_every_text_inside_a_secret_counts() -> None:
    value = {"open": "no", "secret": Secret({"a": ["x", 5, True, None], "b": {"c": "y"}})}
    assert secret_texts(value) == {"x", "5", "y"}


def test_a_secret_does_not_show_itself() -> None:
    assert "hidden" not in repr({"k": Secret("hidden")})


def test_what_is_no_json_value_is_refused() -> None:
    with pytest.raises(TypeError, match="returned a bytes"):
        sent({"x": b"bytes"})
