"""The cache as a launch sees it: looked up once for each thing, and what is missing is told with its remedy."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from vre import image
from vre.artifacts import golang, oci
from vre.artifacts import table as tables
from vre.artifacts.finished import Finished
from vre.artifacts.store import Build, Store
from vre.errors import VreError
from vre.progress import Report, silent


@pytest.mark.parametrize(("name", "remedy"), [("software", "vre setup software"), ("image", "make setup")])
def test_what_is_missing_is_told_with_what_builds_it(tmp_path: Path, name: str, remedy: str) -> None:
    with pytest.raises(VreError, match=f"{name} is not built") as told:
        Finished(tmp_path).get(name, {"any": "thing"}, Path.mkdir)
    assert told.value.hint == f"run: {remedy}"


class Everything(Store):
    """A store that has all there is, and notes how often each thing was asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []

    def has(self, name: str, inputs: Mapping[str, bytes | str]) -> bool:
        return True

    def get(self, name: str, inputs: Mapping[str, bytes | str], build: Build, report: Report = silent) -> Path:
        self.asked.append(name)
        path = self.path(name, inputs)
        path.mkdir(parents=True, exist_ok=True)
        (path / image.IMAGES).write_text("{}")
        return path


@pytest.mark.parametrize("wanted", [image.software, image.build])
def test_a_launch_looks_each_thing_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Callable[[Store, Report], image.Image]
) -> None:
    """Each look reads all that a thing is made from: a launch would wait for it, and every preview."""
    names = [table.full_name(each) for table in [tables.load()] for each in table.images]
    monkeypatch.setattr(oci, "descriptor", lambda layout: {"digest": layout.parent.name})
    monkeypatch.setattr(oci, "digests", lambda layout: dict.fromkeys(names, "sha256:0"))
    read: Counter[str] = Counter()
    inputs = golang.inputs
    monkeypatch.setattr(golang, "inputs", lambda name, pins: (read.update([name]), inputs(name, pins))[1])
    store = Everything(tmp_path)
    wanted(store, silent)
    assert {name for name, count in Counter(store.asked).items() if count > 1} <= {"container-base"}
    assert set(read.values()) == {2}  # whether it is there, then where
