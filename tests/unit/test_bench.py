"""What the benchmark reads and writes; the measuring itself is `make bench`."""

from tests.bench import Measured, page, took

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
