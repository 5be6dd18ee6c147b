"""Memory that a container leaves, from what the kernel tells in either version of cgroups."""

from pathlib import Path

import pytest

from vre import limits

MIB = 1024**2


def group(folder: Path, limit: str, use: int, cache: int, *, old: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if old else ("memory.max", "memory.current")
    for name, value in zip(names, (limit, str(use)), strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{'total_' if old else ''}inactive_file {cache}\nslab 2\n")


def test_a_container_has_what_its_limit_leaves_and_what_cache_gives_back(tmp_path: Path) -> None:
    group(tmp_path, str(3072 * MIB), 1000 * MIB, 300 * MIB)
    assert limits.left("0::/\n", tmp_path) == (3072 - 1000 + 300) * MIB


def test_the_tightest_of_all_groups_above_counts(tmp_path: Path) -> None:
    group(tmp_path / "a", str(900 * MIB), 100 * MIB, 0)
    group(tmp_path / "a/b", "max", 50 * MIB, 0)
    group(tmp_path / "a/b/c", str(5000 * MIB), 10 * MIB, 0)
    assert limits.left("0::/a/b/c\n", tmp_path) == 800 * MIB


def test_a_path_that_only_the_host_has_is_looked_for_at_the_top(tmp_path: Path) -> None:
    group(tmp_path, str(400 * MIB), 100 * MIB, 0)
    assert limits.left("0::/docker/4815162342\n", tmp_path) == 300 * MIB


@pytest.mark.parametrize(("limit", "left"), [(str(700 * MIB), 600 * MIB), (str((1 << 63) - 4096), None)])
def test_version_1(tmp_path: Path, limit: str, left: int | None) -> None:
    group(tmp_path / "memory/box", limit, 100 * MIB, 0, old=True)
    assert limits.left("12:cpu,cpuacct:/x\n4:memory:/box\n", tmp_path) == left


def test_where_nothing_is_limited_nothing_is_said(tmp_path: Path) -> None:
    group(tmp_path, "max", 100 * MIB, 0)
    assert limits.left("0::/\n", tmp_path) is None
    assert limits.left("", tmp_path) is None


def test_more_used_than_allowed_leaves_nothing(tmp_path: Path) -> None:
    group(tmp_path, str(100 * MIB), 200 * MIB, 0)
    assert limits.left("0::/\n", tmp_path) == 0
