"""What set-up fills on a disk, beside the stack's own disks: refused where it cannot fit, warned of before."""

from pathlib import Path
from typing import Any

import pytest

from vre.artifacts import golang
from vre.cli import building, obstacles, parts
from vre.cli.building import Building, faults, told
from vre.config import Config
from vre.preflight import GIB


def built(free: float, **changes: Any) -> Building:
    return Building(**{"gib": 8.0, "where": "/cache", "free": int(free * GIB), "begun": False, "stack": 0, **changes})


def test_what_building_fills_is_said_first_and_loudly_where_it_is_not_there() -> None:
    assert told(built(100)) == "Building fills up to 8 GiB more at /cache, where 100 GiB are free.\n"
    assert told(built(7)).startswith("WARNING: Building")
    assert told(built(20, stack=15)).startswith("WARNING: Building")
    assert "and the stack's disks up to 15 GiB on the same disk" in told(built(100, stack=15))
    assert told(built(0, gib=0)) == ""


@pytest.mark.parametrize(
    ("free", "changes", "refused"),
    [
        (8.1, {}, False),
        (7.9, {}, True),
        (7.9, {"begun": True}, False),
        (3.9, {"begun": True}, True),
        (22.9, {"stack": 15}, True),
        (23.1, {"stack": 15}, False),
        (19.1, {"stack": 15, "begun": True}, False),
        (18.9, {"stack": 15, "begun": True}, True),
        (0, {"gib": 0, "stack": 15}, False),
    ],
)
def test_what_cannot_fit_is_refused(free: float, changes: dict[str, Any], refused: bool) -> None:
    assert bool(faults(built(free, **changes))) is refused


def test_a_refusal_says_what_is_free_and_what_all_of_it_takes() -> None:
    [finding] = faults(built(2, stack=15))
    reason = "building fills up to 8 GiB more at /cache, and the stack's disks up to 15 GiB on the same disk"
    assert finding.reason == f"2.0 GiB are free on this machine, {reason}"
    assert finding.example


AWS = {"provider": "aws", "region": "eu-west-1"}


@pytest.mark.parametrize(
    ("cloud", "built"),
    [
        ({"provider": "libvirt"}, ["engine", "programs", "image"]),
        ({"provider": "libvirt", "image": "current"}, ["engine"]),
        (AWS, ["engine", "programs"]),
        ({**AWS, "image": "ami-0123456789abcdef0"}, ["engine", "programs", "image"]),
    ],
)
def test_only_what_a_stack_needs_is_built_for_it(
    monkeypatch: pytest.MonkeyPatch, cloud: dict[str, str], built: list[str]
) -> None:
    monkeypatch.setattr(parts, "missing", lambda: ["engine", "programs", "image"])
    asked = Config.model_validate({"cloud": cloud, "access": {"keys": ["a.pub"], "operators": ["192.0.2.0/24"]}})
    assert obstacles.todo(asked) == built


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home where nothing was ever built."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VRE_CACHE", str(tmp_path / "cache" / "vre"))
    return tmp_path


def test_the_stacks_disks_count_where_they_lie_on_the_same_file_system(fresh: Path) -> None:
    seen = building.look(["programs", "image"], 1, pool=fresh / "not" / "yet", disks=15)
    assert (seen.gib, seen.stack, seen.begun) == (8, 15, False)
    assert building.look(["image"], 1, pool=Path("/proc"), disks=15).stack == 0
    assert building.look(["image"], 1, pool=None, disks=15).stack == 0


@pytest.mark.parametrize("place", ["cache/vre", "cache/go-build", "go"])
def test_where_something_was_built_before_not_all_of_it_may_be_missing(fresh: Path, place: str) -> None:
    (fresh / place).mkdir(parents=True)
    assert building.look(["image"], 1, pool=None, disks=0).begun


def test_programs_that_are_built_are_not_counted(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["kubernetes", "containerd", "runc", "etcd", "pulumi"]
    monkeypatch.setattr(golang, "usual", lambda: names)
    monkeypatch.setattr(golang, "current", lambda: {name: fresh / name for name in [*names, "of-tests-alone"]})
    assert parts.unbuilt() == 1
    for name in names[:3]:
        (fresh / name).mkdir()
    assert parts.unbuilt() == 0.25
    assert building.look(["engine", "programs"], parts.unbuilt(), pool=None, disks=0).gib == 2 + 5 / 4
