"""What the benchmark reads and writes; the measuring itself is `make bench`."""

from typing import Any

import pytest

from tests import bench_bare, bench_clouds, bench_image
from tests.bench import Measured, page, took
from vre.provider.values import SECRET, SIGNATURE

PRINTED = """
 +  vre:libvirt:Volume proof-control-system created (4s)
 +  vre:cluster:ControlPlane proof created (120s) initialised
 +  vre:cluster:Objects jupyter created (61.5s)
 +  vre:service:Door jupyter creating (3s) waiting
"""
FOUND = Measured(launch=300, service=60, by_hand=200, quiet=6, empty=3, accelerator="tcg", parts=took(PRINTED))


def test_times_are_read_from_what_the_engine_printed() -> None:
    assert took(PRINTED) == {
        "libvirt:Volume proof-control-system": 4,
        "cluster:ControlPlane proof": 120,
        "cluster:Objects jupyter": 61.5,
    }


def test_the_page_holds_ratios_and_where_they_come_from() -> None:
    told = page(FOUND, where="2 processors", when="2026-11-21")
    assert "**1.15**" in told
    assert "**2.00**" in told
    assert "2 processors" in told
    assert told.index("ControlPlane") < told.index("Objects jupyter")


def test_a_limit_that_is_passed_is_seen() -> None:
    assert FOUND.launch_ratio < 1.25
    assert Measured(**{**vars(FOUND), "by_hand": 150}).launch_ratio > 1.25


IMAGE = bench_image.Measured(
    build=120,
    write=30,
    bare=70,
    rebuild=1.5,
    ready=40,
    generic_ready=38,
    size=700 * 1024**2,
    generic_size=300 * 1024**2,
)


def test_the_images_page_holds_what_was_measured() -> None:
    told = bench_image.page(IMAGE, when="2026-11-21")
    assert "**1.20** | 1.3 |" in told
    assert "**1.5 s** | 20 s |" in told
    assert "| 40.0 s | 38.0 s |" in told
    assert "**700 MiB** | 300 MiB |" in told


@pytest.mark.parametrize("worse", [{"build": 131.0}, {"rebuild": 20.1}, {"size": 901 * 1024**2}])
def test_each_limit_of_the_image_is_held(worse: dict[str, float]) -> None:
    assert IMAGE.fits
    assert not bench_image.Measured(**{**vars(IMAGE), **worse}).fits


def test_each_stage_is_begun_once() -> None:
    told: list[str] = []
    stages = bench_image.Stages(told.append)
    for message in ("one", bench_image.WRITE, "one"):
        stages(message)
    assert stages.begun["one"] < stages.begun[bench_image.WRITE]
    assert told == ["one", bench_image.WRITE, "one"]


CLOUD = bench_clouds.Measured(
    preview=2.4, bare=1.8, machine=0.001, growth=1.1, whole=0.012, memory=120 * 1024, most=200 * 1024
)  # fmt: skip


def test_the_page_of_clouds_holds_what_was_measured() -> None:
    told = bench_clouds.page({"azure": CLOUD}, 1.5, when="2026-11-21")
    assert "| azure | 2.4 s | 1.60 | 1.8 s | 1.20 | 1.40 | 1.0 ms | 1.10 | 12.0 ms | 120 MiB | 200 MiB |" in told
    assert "| *at most* | | *2* | | | | *20 ms* | *2* | | *250 MiB* | *250 MiB* |" in told


@pytest.mark.parametrize(
    "worse",
    [{"preview": 3.1}, {"bare": 1.5}, {"machine": 0.021}, {"growth": 2.1}, {"memory": 257000}, {"most": 257000}],
)
def test_each_limit_of_a_cloud_is_held(worse: dict[str, float]) -> None:
    assert CLOUD.within(1.5)
    assert not bench_clouds.Measured(**{**vars(CLOUD), **worse}).within(1.5)


def test_a_list_of_what_stands_is_declared_as_it_was() -> None:
    start = "urn:pulumi:s::p::"
    default = f"{start}pulumi:providers:gcp::default_9_1_0"
    stack, net = f"{start}pulumi:pulumi:Stack::p-s", f"{start}gcp:compute/network:Network::net"
    secret = {SIGNATURE: SECRET, "plaintext": '{"a": 1}'}
    state: list[dict[str, Any]] = [
        {"urn": stack, "type": "pulumi:pulumi:Stack"},
        {"urn": default, "type": "pulumi:providers:gcp", "custom": True},
        {
            "urn": net,
            "type": "gcp:compute/network:Network",
            "custom": True,
            "parent": stack,
            "provider": f"{default}::an-id",
            "inputs": {"__defaults": ["mtu"], "list": [secret, {"__defaults": [], "b": 2}]},
        },
    ]
    told = {"list": [{"a": 1}, {"b": 2}]}
    row = (net, "gcp:compute/network:Network", "net", True, told, stack, default, "9.1.0")
    assert bench_bare.listed(state) == [row]
