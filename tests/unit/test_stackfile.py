"""Stack files: what is read, on which line it stands, and that nothing in them ends in a traceback."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vre import stackfile
from vre.errors import Refused, VreError
from vre.stackfile import opened, parse

FILE = Path("stacks/Pulumi.local.yaml")
TEXT = """\
# a comment
config:
  vre:name: phenome
  vre:access:
    keys:
      - one
      - two
  other:thing: 7
encryptionsalt: v1:abc
"""


def test_values_lose_the_prefix_and_other_namespaces_are_left_out() -> None:
    assert parse(TEXT, FILE).values == {"name": "phenome", "access": {"keys": ["one", "two"]}}


@pytest.mark.parametrize(
    ("key", "line"),
    [(("name",), 3), (("access", "keys", 1), 7), (("access", "identity"), 4), (("nowhere",), 2)],
)
def test_the_place_of_a_key_is_its_line_or_that_of_the_nearest_above(key: tuple[str | int, ...], line: int) -> None:
    assert parse(TEXT, FILE).place(key) == f"stacks/Pulumi.local.yaml:{line}"


def test_a_missing_file_names_the_stacks_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.aws.yaml").write_text("config: {}")
    with pytest.raises(VreError, match="no such stack file") as told:
        stackfile.read(tmp_path / "Pulumi.asw.yaml")
    assert "aws" in told.value.hint


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.local.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(VreError, match="cannot be read"):
        stackfile.read(file)


@pytest.mark.parametrize("text", ["", "- a\n- b", "word", "config: 7", "config:", "other: {}"])
def test_a_file_without_config_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"no config|no YAML mapping"):
        parse(text, FILE)


def test_broken_yaml_names_the_line() -> None:
    with pytest.raises(Refused) as told:
        parse("config:\n  vre:name: [a\n", FILE)
    assert told.value.findings[0].where.startswith("stacks/Pulumi.local.yaml:")


@pytest.mark.parametrize(
    "text",
    [
        "config: &a {vre:name: *a}",
        "config: {vre:name: !!python/object:os.system x}",
        "config: {? [a, b] : c}",
        "config: {? {a: b} : c}",
        "config: {vre:on: 2026-99-99}",
        "config: " + "[" * 3000,
        "config: {vre:name: !!int x}",
        "---\na: 1\n---\nb: 2",
        "config: {vre:name: 0x" + "f" * 5000 + "}",
        "config: {vre:name: !!binary '%'}",
        "\x00",
        "config: {<<: 7}",
    ],
)
def test_odd_yaml_is_read_or_refused(text: str) -> None:
    try:
        assert parse(text, FILE).path == FILE
    except Refused as refused:
        assert refused.findings


def test_the_engines_salt_is_taken_out_where_nothing_is_sealed_with_it() -> None:
    assert stackfile.without_salt(TEXT) == TEXT.replace("encryptionsalt: v1:abc\n", "")
    sealed = TEXT.replace("phenome", "{secure: v1:xyz}")
    assert stackfile.without_salt(sealed) == sealed
    assert stackfile.without_salt("config: {}\n") == "config: {}\n"


def test_values_that_stand_for_others_are_refused() -> None:
    with pytest.raises(Refused, match=r"Pulumi.local.yaml:3: config: \*a: write the value out"):
        parse("config:\n  vre:name: &a x\n  vre:b: [*a, *a]\n", FILE)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert parse(text, FILE).path == FILE
    except Refused as refused:
        assert refused.findings


@given(st.text(alphabet="config: vre:name\n-{}[]&*!|>'\"%@#?,<0123456789~\t", max_size=200))
def test_any_text_of_yaml_signs_is_read_or_refused(text: str) -> None:
    try:
        assert parse(f"config:\n  vre:name: {text}", FILE).path == FILE
    except Refused as refused:
        assert refused.findings


def test_what_the_engine_opened_replaces_what_the_file_holds() -> None:
    file = parse("config:\n  vre:a: {secure: xyz}\n  vre:b: [1]\n  vre:c: plain\n  vre:d: 4\n", FILE)
    engine = {"a": '{"x": 1}', "b": "[1, 2]", "c": "{not json"}
    assert opened(file, engine.get).values == {"a": {"x": 1}, "b": [1, 2], "c": "{not json", "d": 4}
