"""What people get wrong about clouds, in one table: refused before any resource, with key, reason and example."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.oracle.configs import KEY
from tests.unit import test_accounts_azure, test_aws, test_gcp, test_openstack
from vre import clouds
from vre.accounts import aws, azure, gcp, openstack
from vre.config import Config
from vre.errors import Finding, Refused
from vre.load import load
from vre.stackfile import parse

FILE = Path("stacks/Pulumi.test.yaml")
CLOUDS: Mapping[str, Mapping[str, Any]] = {
    "libvirt": {"provider": "libvirt"},
    "aws": {"provider": "aws", "region": "eu-west-1"},
    "azure": {"provider": "azure", "region": "westeurope", "subscription": "00000000-0000-0000-0000-000000000000"},
    "gcp": {"provider": "gcp", "region": "europe-west1", "project": "phenome-1234"},
    "openstack": {
        "provider": "openstack", "region": "RegionOne", "public": True, "external-network": "public",
        "volume-type": "LUKS",
    },
}  # fmt: skip
RENTED = tuple(each for each in CLOUDS if each != "libvirt")
OPERATORS = {"keys": [KEY], "operators": ["203.0.113.0/24"]}
LABEL = "1 to 20 of a-z, 0-9 and single hyphens"


class Row(NamedTuple):
    """Something wrong: on which clouds, what is written, and what is said about it."""

    what: str
    clouds: tuple[str, ...]
    written: Mapping[str, Any]
    key: str
    reason: str
    example: str


def on(cloud: str, **more: Any) -> dict[str, Any]:
    return {"cloud": {**CLOUDS[cloud], **more}}


EVERY = tuple(CLOUDS)
TABLE = (
    Row("a name too long for one of them", EVERY, {"name": "a" * 21}, "name", LABEL, "name: phenome"),
    Row("a name too deep for a zone", EVERY, {"name": "lab.phenome"}, "name", "one label below a zone",
        "name: phenome"),
    Row("two clouds in one value", EVERY, {"cloud": list(CLOUDS.values())}, "cloud", "has keys of its own below it",
        "cloud: {provider: libvirt}"),
    Row("two providers", EVERY, {"cloud": {"provider": ["aws", "gcp"]}}, "cloud", "no such provider; there are:",
        "cloud: {provider: libvirt}"),
    Row("two clouds under one key", ("aws",), on("aws", project="p"), "cloud.project",
        "is a key of gcp, not of aws; there are: network, image, provider, region, zone", ""),
    Row("two clouds under one key", ("libvirt",), on("libvirt", subscription="s"), "cloud.subscription",
        "is a key of azure, not of libvirt", ""),
    Row("the pods' range", EVERY, {"cloud.network": "10.244.0.0/20"}, "cloud.network",
        "overlaps the cluster's own range for pods, 10.244.0.0/16", "network: 10.77.0.0/16"),
    Row("the services' range", EVERY, {"cloud.network": "10.96.0.0/12"}, "cloud.network",
        "overlaps the cluster's own range for services, 10.96.0.0/16", "network: 10.77.0.0/16"),
    Row("operators' networks that overlap", EVERY,
        {"access": {"keys": [KEY], "operators": ["203.0.113.0/24", "203.0.113.0/25"]}}, "access.operators",
        "203.0.113.0/24 and 203.0.113.0/25 overlap; keep the wider one", "operators: [203.0.113.0/24]"),
    Row("operators from inside the stack", RENTED, {"access": {"keys": [KEY], "operators": ["10.77.4.0/24"]}},
        "access.operators", "10.77.4.0/24 overlaps the stack's own network, 10.77.0.0/16", "such as 10.78.0.0/16"),
    Row("visitors from inside the stack", RENTED,
        {"edge": {"provider": "direct", "domain": "example.org", "networks": ["10.77.0.0/16"]}},
        "edge.networks", "10.77.0.0/16 overlaps the stack's own network", "such as 10.78.0.0/16"),
    Row("a network without room", EVERY, {"cloud.network": "10.77.0.0/26", "machines": {"workers": {"count": 60}}},
        "cloud.network", "has no room for worker 60", "network: 10.77.0.0/16"),
    Row("Cloudflare without zone", EVERY, {"edge": {"provider": "cloudflare"}}, "edge.zone", "missing",
        "zone: example.org"),
    *(Row(f"{each} data on a public cloud", RENTED, {"data": {"class": each}}, "data.class",
          f"{each} data never goes to a public cloud", "cloud: {provider: libvirt}")
      for each in ("pseudonymised", "sensitive")),
    Row("OpenStack that does not say whose it is", ("openstack",),
        {"cloud": {key: value for key, value in CLOUDS["openstack"].items() if key != "public"}}, "cloud.public",
        "missing", "public: true"),
    Row("no operators", RENTED, {"access": {"keys": [KEY]}}, "access.operators",
        "name the networks that operators come from", "[203.0.113.0/24]"),
    Row("everybody an operator", EVERY, {"access": {"keys": [KEY], "operators": ["0.0.0.0/0"]}}, "access.operators",
        "0.0.0.0/0 is everybody", "operators: [203.0.113.0/24]"),
    Row("a mistyped region", ("aws",), on("aws", region="eu-wset-1"), "cloud.region",
        "AWS has no region eu-wset-1; did you mean eu-west-1?", "region: eu-west-1"),
    Row("a mistyped region", ("azure",), on("azure", region="west-europe"), "cloud.region",
        "Azure has no region west-europe; did you mean westeurope?", "region: westeurope"),
    Row("a mistyped region", ("gcp",), on("gcp", region="europe-wst1"), "cloud.region",
        "Google has no region europe-wst1; did you mean europe-west1?", "region: europe-west1"),
    Row("a size that nobody has", ("azure",), {"machines": {"control": {"size": {"cpus": 128, "memory": 2048}}}},
        "machines.control.size", "no size has 128 processors and 2048 GiB", "size: {type: Standard_E96s_v5}"),
)  # fmt: skip


def refused(cloud: str, written: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Return what a launch says before it makes anything: about the file, then about the cloud it is for."""
    values: dict[str, Any] = {
        "cloud": dict(CLOUDS[cloud]), "access": OPERATORS, "edge": {"provider": "direct", "domain": "example.org"},
        "outbound": {"resolvers": ["192.0.2.53/32"]},
    }  # fmt: skip
    for key, value in written.items():
        if key == "cloud.network":
            values["cloud"]["network"] = value
        else:
            values[key] = value
    text = yaml.safe_dump({"config": {f"vre:{key}": value for key, value in values.items()}})
    try:
        return tuple(clouds.faults(load(parse(text, FILE))))
    except Refused as told:
        return told.findings


@pytest.mark.parametrize("cloud", EVERY)
def test_what_is_right_is_not_refused(cloud: str) -> None:
    assert refused(cloud, {"name": "a" * 20, "machines": {"workers": {"count": 100}}}) == ()


EACH = [pytest.param(row, cloud, id=f"{row.what} on {cloud}") for row in TABLE for cloud in row.clouds]


@pytest.mark.requirement("P-80", "P-82")
@pytest.mark.parametrize(("row", "cloud"), EACH)
def test_what_is_wrong_is_refused_before_any_resource(row: Row, cloud: str) -> None:
    found = [each for each in refused(cloud, row.written) if each.key == f"vre:{row.key}" and row.reason in each.reason]
    assert len(found) == 1, refused(cloud, row.written)
    assert row.example in found[0].example
    assert bool(row.example) == bool(found[0].example)


def test_two_clouds_under_one_key_are_refused_with_both_lines() -> None:
    text = "config:\n  vre:cloud: {provider: libvirt}\n  vre:name: a\n  vre:cloud: {provider: aws}\n"
    with pytest.raises(Refused, match="cloud: is written in lines 2 and 4: keep one"):
        parse(text, FILE)


def judged(cloud: str, changed: Mapping[str, Any]) -> list[Finding]:
    """Return what is said about an account in which all is well but for what is changed in the stack file."""
    judge, facts = ACCOUNTS[cloud]
    edge = {"provider": "direct", "domain": "example.org"}
    found: list[Finding] = judge(
        Config.model_validate({"cloud": CLOUDS[cloud], "access": OPERATORS, "edge": edge, **changed}), facts
    )
    return found


ACCOUNTS: Mapping[str, tuple[Any, Any]] = {
    "aws": (aws.judge, test_aws.ALL_WELL),
    "azure": (azure.judge, test_accounts_azure.SOUND),
    "gcp": (gcp.judge, test_gcp.facts()),
    "openstack": (openstack.judge, test_openstack.GOOD),
}


@pytest.mark.parametrize(
    ("cloud", "key", "reason"),
    [
        ("aws", "machines.workers.count", "202 processors of standard sizes needed, 4 of 5 left"),
        ("azure", "machines.workers.count", "202 processors of cores are needed, 8 of 10 are left"),
        ("gcp", "cloud.region", "the quota CPUS leaves 24, 202 are needed"),
        ("openstack", "cloud.provider", "the quota leaves 10 instances, 101 are needed"),
    ],
)
def test_more_than_the_quota_is_refused_with_what_is_left(cloud: str, key: str, reason: str) -> None:
    found = judged(cloud, {"machines": {"workers": {"count": 100}}})
    [told] = [each for each in found if each.reason == reason]
    assert told.key == f"vre:{key}"
    assert told.example


@pytest.mark.parametrize(
    ("cloud", "typed", "near"),
    [
        ("aws", "m6i.xlarg", "m6i.xlarge"),
        ("azure", "Standard_D4_sv5", "Standard_D4s_v5"),
        ("gcp", "e2-standrd-4", "e2-standard-4"),
        ("openstack", "m1.smal", "m1.small"),
    ],
)
def test_a_size_that_the_account_does_not_have_is_refused_with_the_nearest(cloud: str, typed: str, near: str) -> None:
    [told] = judged(cloud, {"machines": {"control": {"size": {"type": typed}}}})
    assert told.key == "vre:machines.control.size"
    assert f"did you mean {near}?" in told.reason
    assert told.example == f"size: {{type: {near}}}"


def test_a_region_that_the_account_does_not_have_is_refused_with_the_nearest() -> None:
    [told] = judged("openstack", on("openstack", region="RegionTow"))
    assert told.key == "vre:cloud.region"
    assert told.reason.endswith("; did you mean RegionTwo?")
    assert told.example == "region: RegionTwo"
