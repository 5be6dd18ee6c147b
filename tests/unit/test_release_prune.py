"""Old releases go, and the two that a channel names never do."""

import os
import shutil
from pathlib import Path

import pytest

from tests.unit import releases
from tests.unit.releases import ID, KEY, OTHER
from vre.errors import VreError
from vre.progress import silent
from vre.release import channel, publish

KEYS = [KEY.public_key]
THIRD, FOURTH = "3" * 32, "4" * 32


@pytest.fixture
def four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A target with four releases, of which the last was not promoted; its current one is the third."""
    monkeypatch.setenv("VRE_STATE", str(tmp_path / "state"))
    target = tmp_path / "target"
    for name in (ID, OTHER, THIRD, FOURTH):
        folder = releases.release(tmp_path / "dist", name)
        releases.test_result(folder)
        publish.publish(folder, target, KEYS, silent)
    for moment, name in enumerate((ID, OTHER, THIRD, FOURTH)):
        os.utime(target / channel.RELEASES / name, (moment, moment))
    for name in (ID, OTHER, THIRD):
        publish.promote(target, name, KEY, KEYS, silent)
    return target


@pytest.mark.parametrize(("keep", "gone"), [(0, [FOURTH, ID]), (1, [ID]), (2, [])])
def test_old_releases_are_removed_and_the_channels_two_never(four: Path, keep: int, gone: list[str]) -> None:
    before = publish.now(four, KEYS)
    assert publish.prune(four, keep, KEY, KEYS, silent) == gone
    assert set(publish.published(four)) == {ID, OTHER, THIRD, FOURTH} - set(gone)
    after = publish.now(four, KEYS)
    assert (after.find(channel.CURRENT).id, after.find(channel.PREVIOUS).id) == (THIRD, OTHER)
    assert [each.id for each in after.older] == [each for each in (ID,) if each not in gone]
    assert after.serial - before.serial == (ID in gone)
    assert publish.prune(four, keep, KEY, KEYS, silent) == []


def test_a_removal_that_is_interrupted_leaves_no_release_that_is_named(
    four: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(shutil, "rmtree", _interrupted)
        publish.prune(four, 1, KEY, KEYS, silent)
    assert publish.published(four) == sorted([OTHER, THIRD, FOURTH])
    with pytest.raises(VreError, match=f"no {ID}"):
        publish.now(four, KEYS).find(ID)
    publish.prune(four, 1, KEY, KEYS, silent)
    assert list((four / channel.RELEASES).glob(".partial-*")) == []


def _interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
