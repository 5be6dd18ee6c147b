"""The store: keyed by content, whole or not at all, one builder at a time, nothing altered unseen."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vre.artifacts.store import PARTIAL, Build, Store, key
from vre.errors import VreError

TEXTS = st.text(max_size=8)


def writes(content: str = "made", built: list[Path] | None = None) -> Build:
    def build(folder: Path) -> None:
        if built is not None:
            built.append(folder)
        (folder / "bin").mkdir()
        (folder / "bin" / "tool").write_text(content)
        (folder / "bin" / "tool").chmod(0o755)
        (folder / "link").symlink_to("bin/tool")

    return build


@given(st.dictionaries(TEXTS, TEXTS, max_size=3), st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_keys_are_equal_only_for_equal_inputs(one: dict[str, str], two: dict[str, str]) -> None:
    assert (key("x", one) == key("x", two)) == (one == two)


def test_key_depends_on_the_name_and_not_on_the_order() -> None:
    assert key("a", {"x": "1", "y": b"2"}) == key("a", {"y": "2", "x": b"1"})
    assert key("a", {}) != key("b", {})


def test_an_artifact_is_built_once(tmp_path: Path) -> None:
    store, built = Store(tmp_path), list[Path]()
    first = store.get("tool", {"version": "1"}, writes(built=built))
    assert store.get("tool", {"version": "1"}, writes(built=built)) == first
    assert len(built) == 1
    assert (first / "bin" / "tool").read_text() == "made"
    assert store.get("tool", {"version": "2"}, writes(built=built)) != first
    assert len(built) == 2


def test_what_is_built_lies_elsewhere_until_it_is_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    final = store.path("tool", {})
    seen: list[bool] = []
    store.get("tool", {}, lambda folder: seen.append(final.exists() or folder == final))
    assert seen == [False]
    assert final.is_dir()


@pytest.mark.parametrize("fault", [VreError("no space"), KeyboardInterrupt()])
def test_a_failed_build_leaves_nothing(tmp_path: Path, fault: BaseException) -> None:
    store = Store(tmp_path)

    def build(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise fault

    with pytest.raises(type(fault)):
        store.get("tool", {}, build)
    assert not store.has("tool", {})
    assert [path.name for path in (tmp_path / "tool").iterdir()] == [".lock"]


def test_a_killed_build_is_not_taken_for_whole_and_is_cleared(tmp_path: Path) -> None:
    script = f"""
        import os
        from pathlib import Path
        from vre.artifacts.store import Store

        def build(folder):
            (folder / "half").write_text("x")
            os.kill(os.getpid(), 9)

        Store(Path({str(tmp_path)!r})).get("tool", {{}}, build)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False).returncode == -9
    assert list((tmp_path / "tool").glob(f"{PARTIAL}*"))
    store = Store(tmp_path)
    assert not store.has("tool", {})
    assert (store.get("tool", {}, writes()) / "bin" / "tool").read_text() == "made"
    assert not list((tmp_path / "tool").glob(f"{PARTIAL}*"))


def test_two_processes_build_once_between_them(tmp_path: Path) -> None:
    script = f"""
        import time
        from pathlib import Path
        from vre.artifacts.store import Store

        def build(folder):
            with Path({str(tmp_path / "builds")!r}).open("a") as log:
                log.write("built\\n")
            time.sleep(0.5)
            (folder / "tool").write_text("made")

        print(Store(Path({str(tmp_path / "store")!r})).get("tool", {{}}, build))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=60)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(said) == 1
    assert (tmp_path / "builds").read_text() == "built\n"


def test_whoever_waits_says_so(tmp_path: Path) -> None:
    store, said = Store(tmp_path), list[str]()
    with store._locked("tool", said.append):
        script = (
            f"from vre.artifacts.store import Store; from pathlib import Path; s = Store(Path({str(tmp_path)!r}))\n"
        )
        script += "s.get('tool', {}, lambda folder: None, lambda message: print(message, flush=True))"
        other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "waiting for another process that is building tool\n"
    other.communicate(timeout=60)
    assert other.returncode == 0
    assert said == []


def test_what_lost_its_content_is_built_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.get("tool", {}, writes())
    (path / "bin" / "tool").write_text("")
    assert not store.has("tool", {})
    assert (store.get("tool", {}, writes()) / "bin" / "tool").read_text() == "made"


def test_verify_finds_every_kind_of_change(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.get("tool", {}, writes())
    tool = path / "bin" / "tool"
    assert store.verify(path) == []
    tool.write_text("evil")
    assert store.verify(path) == [f"{tool} was changed after the build"]
    tool.write_text("made")
    tool.chmod(0o644)
    assert store.verify(path) == [f"{tool} was changed after the build"]
    tool.unlink()
    (path / "more").touch()
    assert store.verify(path) == [f"{tool} is missing", f"{path / 'more'} was added after the build"]


def test_verify_of_nothing_is_a_finding(tmp_path: Path) -> None:
    assert store_findings(tmp_path) == [f"{tmp_path / 'tool' / 'x'} is not there or was never finished"]


def store_findings(root: Path) -> list[str]:
    return Store(root).verify(root / "tool" / "x")


def test_prune_keeps_what_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept, gone = (store.get("tool", {"version": version}, writes()) for version in "12")
    (tmp_path / "tool" / f"{PARTIAL}left").mkdir()
    assert store.prune({kept}) == [gone]
    assert store.verify(kept) == []
    assert sorted(path.name for path in (tmp_path / "tool").iterdir()) == sorted(
        [".lock", kept.name, f"{kept.name}.json"]
    )
    assert store.prune({kept}) == []


def test_an_empty_store_is_pruned_and_made_where_it_is_asked_for(tmp_path: Path) -> None:
    assert Store(tmp_path / "none").prune(()) == []
    assert not (tmp_path / "none").exists()


def test_the_store_lies_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRE_CACHE", str(tmp_path))
    assert Store().root == tmp_path / "artifacts"
    assert not list(tmp_path.iterdir())
