"""Every size and region in the tables is one that its cloud has; what is mistyped has the nearest suggested."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.published import UNLISTED, Known, amazon, google, microsoft
from vre.clouds import aws, azure, gcp, openstack
from vre.clouds.rented import Type, meant, unknown_region
from vre.config import SHAPES
from vre.paths import project

CLOUDS: dict[str, Any] = {"aws": aws, "azure": azure, "gcp": gcp}
LISTS: dict[str, Callable[[], Known]] = {"aws": amazon, "azure": microsoft, "gcp": google}
TABLED = [
    pytest.param(cloud, size, id=size.name)
    for cloud, module in CLOUDS.items()
    for size in module.SIZES
    if size.name not in UNLISTED
]
NAMED = re.compile(r"\b(?:[acemnt]\d[a-z]{0,2}-(?:standard|high(?:mem|cpu)|ultramem)-\d+|Standard_[DE]\d\w*)\b")
"""A size of Google's or of Azure's, as pages name it; those with a GPU are not in the list."""


def holds(cloud: str, name: str) -> tuple[int, float]:
    """Return the processors and GiB of a size that a cloud has."""
    known = LISTS[cloud]().sizes
    word = name.lower() if cloud == "azure" else name
    assert word in known, f"{cloud} has no size {name}{meant(word, known)}"
    return known[word]


@pytest.mark.parametrize(("cloud", "size"), TABLED)
def test_every_size_is_there_and_holds_what_the_table_says(cloud: str, size: Type) -> None:
    assert holds(cloud, size.name) == (size.cpus, size.memory)


@pytest.mark.parametrize("name", UNLISTED)
def test_a_size_that_the_list_leaves_out_is_half_of_its_twin(name: str) -> None:
    size = next(each for each in azure.SIZES if each.name == name)
    assert name.lower() not in microsoft().sizes  # else it belongs to the test above
    assert holds("azure", name.replace("ls_", "s_")) == (size.cpus, 2 * size.memory)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_region_is_there_and_none_is_missing(cloud: str) -> None:
    assert len(set(CLOUDS[cloud].REGIONS)) == len(CLOUDS[cloud].REGIONS)
    assert set(CLOUDS[cloud].REGIONS) == LISTS[cloud]().regions


def test_every_region_and_size_that_a_page_or_stack_file_names_is_there() -> None:
    files = [*(project() / "docs").rglob("*.md"), *(project() / "stacks").glob("*.yaml"), project() / "README.md"]
    text = "\n".join(each.read_text() for each in files)
    regions = set(re.findall(r"(?:^ *|`|{)region: ([a-z]+[a-z-]*\d*)\b", text, re.MULTILINE))
    assert {"eu-west-1", "europe-west1", "westeurope"} <= regions
    assert regions <= {each for known in LISTS.values() for each in known().regions}
    sizes = set(NAMED.findall(text)) - set(UNLISTED)
    assert {"e2-standard-2", "Standard_D4s_v5"} <= sizes
    for name in sizes:
        holds("azure" if name.startswith("Standard_") else "gcp", name)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_word_for_a_size_is_held_by_a_size(cloud: str) -> None:
    for word, shape in SHAPES.items():
        held = [each for each in CLOUDS[cloud].SIZES if each.cpus >= shape.cpus and each.memory >= shape.memory]
        assert held, word


def test_openstack_has_no_list_since_every_one_has_flavours_of_its_own() -> None:
    assert openstack.SIZES == ()


@pytest.mark.parametrize(
    ("cloud", "typed", "near"),
    [
        ("aws", "eu-wset-1", "eu-west-1"),
        ("azure", "westeurop", "westeurope"),
        ("azure", "WestEurope", "westeurope"),
        ("gcp", "europe-wst1", "europe-west1"),
    ],
)
def test_a_mistyped_region_has_the_nearest_suggested(cloud: str, typed: str, near: str) -> None:
    found = unknown_region(cloud, typed, CLOUDS[cloud].REGIONS)
    assert found.reason == f"{cloud} has no region {typed}; did you mean {near}?"
    assert found.example == f"region: {near}"


def test_what_is_like_nothing_has_some_named_and_nothing_suggested() -> None:
    found = unknown_region("Azure", "???", azure.REGIONS)
    assert found.reason == "Azure has no region ???"
    assert found.example.startswith("region: one of australiacentral, ")
