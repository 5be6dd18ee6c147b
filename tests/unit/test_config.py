"""The stack file's model and its JSON Schema: what is said in one is refused by the other, too."""

import re
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from vre.config import SHAPES, Config, schema, shape
from vre.fields import Cidr, Domain, Networks, PublicKey, StackName
from vre.paths import project

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO7pYHNTKlbjhJcKVYz4oTCdoBH/V1KdbSFHwMcjSSo2 alice"
GOOD: dict[str, Any] = {"cloud": {"provider": "libvirt"}, "access": {"keys": [KEY]}}


def accepts(kind: Any, value: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


@given(st.ip_addresses(network="203.0.113.0/24"), st.integers(min_value=0, max_value=32))
def test_a_network_is_taken_only_without_bits_beyond_its_prefix(address: Any, prefix: int) -> None:
    rest = int(address) & ((1 << (32 - prefix)) - 1)
    assert accepts(Cidr, f"{address}/{prefix}") == (rest == 0)


@given(st.text(max_size=30))
def test_a_stack_name_fits_into_every_name_that_is_made_of_it(text: str) -> None:
    fits = bool(re.fullmatch(r"[a-z](?:[a-z0-9]|-(?!-)){0,18}[a-z0-9]|[a-z]", text))
    assert accepts(StackName, text) == fits


@given(st.from_regex(r"\A[a-z]{1,5}(\.[a-z]{1,5}){1,3}\Z"))
def test_domain_names_are_taken_in_one_spelling(text: str) -> None:
    assert accepts(Domain, text)
    assert not any(accepts(Domain, wrong) for wrong in (text.upper(), f"{text}.", f".{text}", f"-{text}", f"{text}/"))


@given(st.text(max_size=60), st.integers(min_value=0, max_value=60))
def test_only_whole_public_keys_are_taken(text: str, cut: int) -> None:
    assert accepts(PublicKey, KEY)
    assert not accepts(PublicKey, KEY[:cut])
    assert not accepts(PublicKey, f"-----BEGIN OPENSSH PRIVATE KEY-----{text}")


def test_a_public_key_loses_its_spare_blanks() -> None:
    assert TypeAdapter(PublicKey).validate_python(f"  {KEY}  \n".replace(" ", "  ")) == KEY


def test_overlapping_networks_are_refused() -> None:
    assert accepts(Networks, ["192.0.2.0/25", "192.0.2.128/25", "2001:db8::/32"])
    assert not accepts(Networks, ["192.0.2.0/24", "192.0.2.128/25"])


def test_sizes_mean_the_same_everywhere() -> None:
    sizes = [shape("small"), shape("medium"), shape("large")]
    assert [(size.cpus, size.memory) for size in sizes] == [(2, 4), (4, 16), (16, 64)]
    assert shape(SHAPES["small"]) is SHAPES["small"]


def test_the_model_is_frozen() -> None:
    config = Config.model_validate(GOOD)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config, "name", "other")  # noqa: B010


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("file", sorted(project().glob("stacks/Pulumi.*.yaml")), ids=lambda file: file.name)
def test_every_stack_file_fits_the_schema(file: Any) -> None:
    faults = jsonschema.Draft202012Validator(schema()).iter_errors(yaml.safe_load(file.read_text()))
    assert [fault.message for fault in faults] == []


@pytest.mark.parametrize(
    "change",
    [
        {"machnes": {}},
        {"cloud": {"provider": "amazon"}},
        {"machines": {"control": {"disk": 2}}},
        {"access": {"keys": []}},
    ],
)
def test_the_schema_refuses_what_the_model_refuses(change: dict[str, Any]) -> None:
    values = {f"vre:{key}": value for key, value in {**GOOD, **change}.items()}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"config": values}, schema())
    with pytest.raises(ValidationError):
        Config.model_validate({**GOOD, **change})


def test_every_key_says_what_it_is() -> None:
    definitions = schema()["$defs"]
    silent = [
        f"{name}.{key}"
        for name, part in definitions.items()
        for key, prop in part.get("properties", {}).items()
        if not prop.get("description")
    ]
    assert silent == []


def test_every_example_in_the_schema_is_taken() -> None:
    faults = []
    for name, field in Config.model_fields.items():
        for example in field.examples or []:
            try:
                Config.model_validate({**GOOD, name: example})
            except ValidationError as error:
                faults.append(str(error))
    assert faults == []
