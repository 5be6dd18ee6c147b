"""Every size and region in the table of AWS is one that AWS has; what is mistyped has the nearest suggested."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import botocore.session
import pytest
from moto.utilities.utils import load_resource

from vre.clouds import aws, azure, gcp, openstack
from vre.clouds.rented import Type, meant, unknown_region
from vre.config import SHAPES

Sizes = Mapping[str, tuple[int, float]]


class Known(NamedTuple):
    """What a cloud has: processors and GiB of its sizes, and its regions."""

    sizes: Sizes
    regions: Sequence[str]


def amazon() -> Known:
    """Return what the packages of AWS have: botocore its regions, moto its sizes."""
    types = load_resource("ec2/resources/instance_types.json")
    sizes = {
        name: (each["VCpuInfo"]["DefaultVCpus"], each["MemoryInfo"]["SizeInMiB"] / 1024) for name, each in types.items()
    }
    return Known(sizes, botocore.session.get_session().get_available_regions("ec2"))


CLOUDS: dict[str, Any] = {"aws": aws, "azure": azure, "gcp": gcp}


@pytest.mark.parametrize("size", aws.SIZES, ids=[each.name for each in aws.SIZES])
def test_every_size_of_aws_is_there_and_holds_what_the_table_says(size: Type) -> None:
    known = amazon().sizes
    assert size.name in known, f"AWS has no size {size.name}{meant(size.name, known)}"
    assert known[size.name] == (size.cpus, size.memory)


def test_every_region_of_aws_is_there_and_none_is_missing() -> None:
    assert sorted(aws.REGIONS) == sorted(amazon().regions)


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
