"""The content-keyed cache: what was built is found again by everything that went into it, and never half-made."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from vre import paths
from vre.errors import VreError
from vre.progress import Report, silent
from vre.run import run

Build = Callable[[Path], None]
"""Fills the empty folder it is given. When it raises, nothing is kept."""

KEY_LENGTH = 32  # hexadecimal digits of the digest: 128 bits, and folder names that can still be read
PARTIAL = ".partial-"


def key(name: str, inputs: Mapping[str, bytes | str]) -> str:
    """Return the key of an artifact: a digest of its name and of every input, each with its own name and length."""
    digest = hashlib.sha256()
    for label, value in [("name", name), *sorted(inputs.items())]:
        for part in (label.encode(), value.encode() if isinstance(value, str) else value):
            digest.update(len(part).to_bytes(8, "big"))  # lengths keep ("ab", "c") apart from ("a", "bc")
            digest.update(part)
    return digest.hexdigest()[:KEY_LENGTH]


class Store:
    """A folder of artifacts: `ROOT/NAME/KEY/` is what was built, `ROOT/NAME/KEY.json` what it consisted of then."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or paths.cache() / "artifacts"

    def path(self, name: str, inputs: Mapping[str, bytes | str]) -> Path:
        """Return where an artifact lies, or would lie once built."""
        return self.root / name / key(name, inputs)

    def has(self, name: str, inputs: Mapping[str, bytes | str]) -> bool:
        """Tell whether an artifact is there and whole: every file present and of the length it was built with."""
        return _whole(self.path(name, inputs))

    def get(self, name: str, inputs: Mapping[str, bytes | str], build: Build, report: Report = silent) -> Path:
        """Return the folder of an artifact, built first when it is not there.

        Two processes never build the same at once: the second waits for the first. Raises what `build` raises, and
        then leaves nothing behind.
        """
        path = self.path(name, inputs)
        if _whole(path):
            return path
        with self._locked(name, report):
            if not _whole(path):  # another process may have built it while this one waited
                _clear_partial(path.parent)
                _build(path, build)
        return path

    def verify(self, path: Path) -> list[str]:
        """Return what is wrong with an artifact, one sentence each: files missing, added or changed since the build."""
        if not path.is_dir() or not _manifest_path(path).is_file():
            return [f"{path} is not there or was never finished"]
        then, now = _manifest(path), _measure(path)
        return [_difference(path / file, then.get(file), now.get(file)) for file in _changed(then, now)]

    def prune(self, keep: Collection[Path]) -> list[Path]:
        """Remove every artifact whose folder is not in `keep`, and what interrupted builds left; return what went."""
        removed: list[Path] = []
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else []:
            with self._locked(folder.name, silent):
                _clear_partial(folder)
                stale = [path for path in sorted(folder.iterdir()) if path.is_dir() and path not in keep]
                for path in stale:
                    _remove(path)
                removed += stale
        return removed

    @contextmanager
    def _locked(self, name: str, report: Report) -> Iterator[None]:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report(f"waiting for another process that is building {name}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def spread(folder: Path) -> None:
    """Have folders that are made in this one begin in places of the disk that are far apart, where it is ext4.

    For minutes ext4 gives nobody the inodes of deleted files, and looks at each again for every new file near by: a
    root that is made where a former one was deleted takes three times as long.
    """
    with suppress(VreError):  # other file systems have no such mark, and no need of it
        run(["chattr", "+T", folder])


def _build(path: Path, build: Build) -> None:
    """Build beside the final place and move there in one step: what is there is whole."""
    spread(path.parent)
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=path.parent))
    try:
        partial.chmod(0o755)
        build(partial)
        _remove(path)
        _write_manifest(path, _measure(partial))
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_manifest(path: Path, files: Mapping[str, Mapping[str, object]]) -> None:
    partial = path.parent / f"{PARTIAL}{path.name}.json"
    partial.write_text(json.dumps(files, indent=1, sort_keys=True))
    partial.replace(_manifest_path(path))


def _manifest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _manifest(path: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(_manifest_path(path).read_text())
    return found


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_symlink() or file.is_file())


def _measure(path: Path) -> dict[str, dict[str, object]]:
    """Return size, digest and whether it can be run, of every file below a folder."""
    return {str(file.relative_to(path)): _measure_file(file) for file in _files(path)}


def _measure_file(file: Path) -> dict[str, object]:
    if file.is_symlink():
        return {"link": str(file.readlink())}
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"size": file.stat().st_size, "sha256": digest, "executable": os.access(file, os.X_OK)}


def _whole(path: Path) -> bool:
    """Lengths only: a power cut after the move leaves short files, and digests of gigabytes take seconds."""
    if not path.is_dir() or not _manifest_path(path).is_file():
        return False
    return all(_same_size(path / file, then) for file, then in _manifest(path).items())


def _same_size(file: Path, then: Mapping[str, object]) -> bool:
    if "link" in then:
        return file.is_symlink()
    return file.is_file() and file.stat().st_size == then["size"]


def _changed(then: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    return [file for file in sorted({*then, *now}) if then.get(file) != now.get(file)]


def _difference(file: Path, then: object, now: object) -> str:
    if now is None:
        return f"{file} is missing"
    return f"{file} was added after the build" if then is None else f"{file} was changed after the build"


def _remove(path: Path) -> None:
    """The manifest goes first: what is only half removed is not taken for whole."""
    _manifest_path(path).unlink(missing_ok=True)
    if path.is_dir():
        shutil.rmtree(path)


def _clear_partial(folder: Path) -> None:
    """Remove what builds that were killed left. Only called with the folder's lock held."""
    for path in folder.glob(f"{PARTIAL}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
