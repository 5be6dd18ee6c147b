"""Stack files: what is read, on which line it stands, and that nothing in them ends in a traceback."""

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vre import stackfile
from vre.errors import Refused, VreError
from vre.load import load
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


def test_on_is_a_word_and_only_true_and_false_are_what_they_say() -> None:
    text = "config: {vre:terms: {on: 2026-11-21}, vre:flags: [yes, no, true, False, truest]}"
    terms = {"on": date(2026, 11, 21)}
    assert parse(text, FILE).values == {"terms": terms, "flags": ["yes", "no", True, False, "truest"]}


def test_a_day_is_one_also_after_the_engine_has_written_the_file_anew() -> None:
    for day in ("2026-11-21", "'2026-11-21'", "'2026-11-21 00:00:00 +0000 UTC'"):
        text = f"""
config:
  vre:cloud: {{provider: libvirt}}
  vre:access: {{keys: [.vre/id_ed25519.pub]}}
  vre:data: {{approval: {{body: Committee, reference: 2026/117, until: {day}}}}}
"""
        approval = load(parse(text, FILE)).data.approval
        assert approval is not None
        assert approval.until == date(2026, 11, 21)


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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "vre:cloud: {provider: aws}\n  vre:a: b\n  vre:cloud: {provider: gcp}",
            "4: vre:cloud: is written in lines 2 and 4",
        ),
        ("vre:cloud:\n    provider: aws\n    provider: gcp", "4: vre:cloud.provider: is written in lines 3 and 4"),
        ("vre:a:\n    - {b: 1, c: 2, b: 3}", "3: vre:a.0.b: is written in lines 3 and 3"),
        ("vre:a: 1\n  'vre:a': 1\n  vre:a: 1", "4: vre:a: is written in lines 2, 3 and 4"),
        ("vre:a: 1\nconfig: {}", "3: config: is written in lines 1 and 3"),
    ],
)
def test_a_key_that_is_written_twice_is_refused_with_its_lines(text: str, told: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(f"config:\n  {text}\n", FILE)
    assert [str(each) for each in refused.value.findings] == [f"stacks/Pulumi.local.yaml:{told}: keep one"]


def test_every_key_that_is_written_twice_is_told() -> None:
    with pytest.raises(Refused) as refused:
        parse("config:\n  vre:a: 1\n  vre:b: {c: 1, c: 2}\n  vre:a: 2\n", FILE)
    assert [each.key for each in refused.value.findings] == ["vre:a", "vre:b.c"]


def test_a_cloud_with_a_key_of_another_cloud_is_refused() -> None:
    text = "config:\n  vre:cloud:\n    provider: aws\n    region: eu-west-1\n    project: phenome-1234\n"
    with pytest.raises(Refused, match=r"yaml:5: vre:cloud\.project: is a key of gcp, not of aws"):
        load(parse(text, FILE))


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
