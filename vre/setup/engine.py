"""The Pulumi engine: one that is installed, an official release, or one built from its checksummed modules."""

import hashlib
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import httpx

from vre.artifacts import golang, versions
from vre.errors import VreError
from vre.progress import Report
from vre.run import run

LEAST, BELOW = (3, 259, 0), (4, 0, 0)  # the SDK is 3.259.0: an older engine may not know what it says
HOST = "pulumi-language-python"
PARTS = ("pulumi", HOST, "pulumi-language-python-exec", "pulumi-resource-pulumi-python")
RELEASES = "https://get.pulumi.com/releases/sdk"
CHECKSUMS = "https://github.com/pulumi/pulumi/releases/download"
PATIENCE = httpx.Timeout(5.0, read=30.0)  # s; where there is no way out this is all that is lost
PLATFORMS = {"amd64": "linux-x64", "arm64": "linux-arm64"}

Fill = Callable[[Path], None]


def ensure_engine(venv: Path, report: Report) -> Path:
    """Return the `pulumi` of a virtual environment, with an engine that fits behind it.

    Does nothing when one is there. Raises VreError when none can be had: not installed, not reachable, not built.
    """
    folder = venv / "lib" / "vre" / "engine"
    if not fits(version_of(folder / "pulumi")) or not (folder / HOST).exists():
        _settle(folder, venv, report)
    return _wrap(venv)


def fits(version: tuple[int, ...]) -> bool:
    """Tell whether an engine of this version serves the project."""
    return LEAST <= version < BELOW


def parse_version(text: str) -> tuple[int, ...]:
    """Return the three numbers in what `pulumi version` prints; empty when there are none."""
    found = re.search(r"v?(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else ()


def version_of(command: Path) -> tuple[int, ...]:
    """Return the version of an engine; empty when it is not there or does not start."""
    if not command.exists():
        return ()
    try:
        return parse_version(run([command, "version"], env={"PULUMI_SKIP_UPDATE_CHECK": "true"}, timeout=30))
    except VreError:
        return ()


def checksum(sums: str, archive: str) -> str:
    """Return the digest of one file of a `SHA512SUMS` listing. Raises VreError when it does not name the file."""
    for line in sums.splitlines():
        digest, _, name = line.partition(" ")
        if name.strip().lstrip("*").removeprefix("./") == archive and re.fullmatch(r"[0-9a-f]{128}", digest):
            return digest
    raise VreError(f"the release's checksums do not name {archive}")


def pinned() -> str:
    """Return the version that is fetched or built where no installed engine fits."""
    return versions.load().program("pulumi").version.removeprefix("v")


def wrapper() -> str:
    """Return the script that becomes `bin/pulumi` of the virtual environment."""
    return (resources.files("vre.setup") / "pulumi.sh").read_text()


def _settle(folder: Path, venv: Path, report: Report) -> None:
    report("looking for an installed Pulumi")
    found = _installed(venv)
    if found:
        report(f"using the installed {found / 'pulumi'}")
        _replace(folder, lambda partial: _link(found, partial))
    elif not _released(folder, report):
        report(f"building Pulumi {pinned()} from its modules")
        _replace(folder, lambda partial: _built(partial, report))


def _installed(venv: Path) -> Path | None:
    """Return the first folder of PATH, outside the environment, with an engine that fits and its Python host."""
    for place in os.environ.get("PATH", "").split(os.pathsep):
        folder = Path(place)
        # Resolved, since the shims of version managers start nothing once they are linked to from elsewhere.
        outside = bool(place) and not folder.resolve().is_relative_to(venv.resolve())
        if outside and (folder / HOST).exists() and fits(version_of((folder / "pulumi").resolve())):
            return folder
    return None


def _link(found: Path, partial: Path) -> None:
    for part in PARTS:
        if (found / part).exists():
            (partial / part).symlink_to((found / part).resolve())


def _released(folder: Path, report: Report) -> bool:
    """Take the vendor's release; tell whether that went well. No way out is ordinary, and only said.

    The archive's digest cannot be pinned here beforehand for every platform, so it is held against the vendor's list
    of checksums, which comes from another host than the archive: both would have to be changed.
    """
    base = os.environ.get("VRE_PULUMI_RELEASES", RELEASES)
    if not base:
        return False
    report(f"fetching Pulumi {pinned()}")
    try:
        _replace(folder, lambda partial: _unpack(base, partial))
    except (httpx.HTTPError, VreError, tarfile.TarError, OSError) as error:
        report(f"the release of Pulumi {pinned()} cannot be had ({_first_line(error)})")
        return False
    return True


def _unpack(base: str, partial: Path) -> None:
    version = pinned()
    archive = f"pulumi-v{version}-{PLATFORMS[golang.architecture()]}.tar.gz"
    with httpx.Client(timeout=PATIENCE, follow_redirects=True) as client, tempfile.TemporaryFile() as file:
        wanted = checksum(client.get(f"{CHECKSUMS}/v{version}/SHA512SUMS").raise_for_status().text, archive)
        digest = hashlib.sha512()
        with client.stream("GET", f"{base.rstrip('/')}/{archive}") as answer:
            for piece in answer.raise_for_status().iter_bytes():
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != wanted:
            raise VreError(f"{archive} is not what the release's checksums say")
        file.seek(0)
        with tarfile.open(fileobj=file) as tar:
            _extract(tar, partial)


def _extract(tar: tarfile.TarFile, partial: Path) -> None:
    """Take the parts this project needs, by name: nothing else of an archive lands on the disk."""
    for part in PARTS:
        name = f"pulumi/{part}"
        data = tar.extractfile(name) if name in tar.getnames() else None
        if data is None:
            raise VreError(f"the release has no {part}")
        with (partial / part).open("wb") as target:
            shutil.copyfileobj(data, target)
        (partial / part).chmod(0o755)


def _built(partial: Path, report: Report) -> None:
    built = golang.build_all(["pulumi", "pulumi-language-python"], report)
    for source in built.values():
        shutil.copytree(source, partial, dirs_exist_ok=True)
    (partial / "built-here").touch()  # the wrapper then lets the engine look for no plugins: there is no way out


def _replace(folder: Path, fill: Fill) -> None:
    """Fill a new folder and put it in the place of the old one, so that an interrupted set-up leaves no half engine."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".engine-") as place:
        partial = Path(place) / "engine"
        partial.mkdir()
        fill(partial)
        if not fits(version_of(partial / "pulumi")):
            raise VreError("the engine does not start", hint=f"try it: {partial / 'pulumi'} version")
        if folder.exists():
            folder.rename(Path(place) / "old")
        partial.rename(folder)


def _wrap(venv: Path) -> Path:
    command = venv / "bin" / "pulumi"
    if not command.is_symlink() and command.is_file() and command.read_text(errors="replace") == wrapper():
        return command
    partial = command.with_name(".pulumi-partial")
    partial.write_text(wrapper())
    partial.chmod(0o755)
    partial.replace(command)
    return command


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
