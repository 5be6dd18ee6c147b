"""The whole way of an image: built, started by every firmware, launched from, signed, published, current."""

from pathlib import Path

import pytest

from vre.artifacts.store import Store
from vre.cli import image_checks
from vre.cli.checks import State
from vre.image.formats import FORMATS
from vre.progress import silent
from vre.release import build, envelope, publish
from vre.release.verify import Wanted


@pytest.mark.drill
def test_a_release_passes_its_test_and_becomes_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRE_STATE", str(tmp_path / "state"))
    key = envelope.signer()
    folder = build.build(tmp_path / "dist", ["qcow2"], Store(), key, silent)
    keys = envelope.trusted()
    found, release = image_checks.whole(folder, Wanted(keys=keys, known=tuple(FORMATS)), silent, launch=True)
    assert [each for each in found if each.state == State.BAD] == []
    image_checks.sign(release, found, key)
    publish.publish(folder, tmp_path / "target", keys, silent)
    now = publish.promote(tmp_path / "target", folder.name, key, keys, silent)
    assert now.current is not None
    assert now.current.id == folder.name
