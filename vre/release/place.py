"""Where releases are read from: a folder, or what an institution serves by https."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import httpx

from vre.errors import VreError
from vre.progress import Report, silent

TIMEOUT = 30.0
"""Seconds without a byte after which a server is given up."""
CHUNK = 1024**2
KNOWN = "a folder, or https://..."


class Place(Protocol):
    """What a channel and its releases can be read from."""

    @property
    def address(self) -> str:
        """Where it is."""

    def read(self, name: str, limit: int) -> bytes:
        """Return a small file. Raises VreError when it is not there or has more than `limit` bytes."""

    def fetch(self, name: str, target: Path, size: int, report: Report = silent) -> None:
        """Copy a file of exactly `size` bytes to `target`. Raises VreError, and then leaves nothing there."""


def at(address: str) -> Place:
    """Return the place that an address means. Raises VreError for one that nothing is read from."""
    scheme = urlsplit(address).scheme
    if scheme == "https":
        return Https(address=address.rstrip("/"))
    if "://" in address and scheme != "file":
        raise VreError(f"images are not read from {address}", hint=f"there are: {KNOWN}")
    return Folder(address=str(folder(address)))


def folder(address: str) -> Path:
    """Return the folder that releases are published to. Raises VreError for an address that is none."""
    if "://" in address and not address.startswith("file:///"):
        raise VreError(f"images are not published to {address}", hint="there are: a folder (a path, or file:///path)")
    return Path(address.removeprefix("file://")).expanduser().resolve()


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder on this machine, or on a share that is mounted."""

    address: str

    def read(self, name: str, limit: int) -> bytes:
        """Return a small file."""
        path = folder(self.address) / name
        try:
            with path.open("rb") as stream:
                content = stream.read(limit + 1)
        except OSError as error:
            raise VreError(f"{path} cannot be read: {error.strerror}", hint="is anything published there?") from None
        return _limited(content, limit, str(path))

    def fetch(self, name: str, target: Path, size: int, report: Report = silent) -> None:
        """Copy a file."""
        path = folder(self.address) / name
        if not path.is_file() or path.stat().st_size != size:
            raise VreError(f"{path} is missing, or has not the size that its manifest says")
        report(f"copying {path.name}")
        shutil.copyfile(path, target)


@dataclass(frozen=True, kw_only=True)
class Https:
    """A web server. Nothing that it says is believed: signatures are checked against keys that are known here."""

    address: str

    def read(self, name: str, limit: int) -> bytes:
        """Return a small file."""
        content = b""
        with _chunks(f"{self.address}/{name}") as chunks:
            for chunk in chunks:
                content = _limited(content + chunk, limit, f"{self.address}/{name}")
        return content

    def fetch(self, name: str, target: Path, size: int, report: Report = silent) -> None:
        """Download a file; no byte more than wanted is taken."""
        got = 0
        try:
            with _chunks(f"{self.address}/{name}") as chunks, target.open("wb") as out:
                for chunk in chunks:
                    got += len(chunk)
                    if got > size:
                        break
                    out.write(chunk)
                    report(f"{name.rpartition('/')[2]}: {100 * got // max(size, 1)} %")
            if got != size:
                raise VreError(f"{self.address}/{name} has not the {size} bytes that its manifest says")
        except BaseException:
            target.unlink(missing_ok=True)
            raise


@contextmanager
def _chunks(url: str) -> Iterator[Iterator[bytes]]:
    """Give an answer piece by piece, as it was sent: what unpacks itself could have no end."""
    try:
        with (
            httpx.Client(timeout=TIMEOUT, follow_redirects=False) as client,
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise VreError(f"{url} answers {answer.status_code}", hint="is anything published there?")
            yield answer.iter_raw(CHUNK)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise VreError(f"{url} does not answer: {error or type(error).__name__}") from None


def _limited(content: bytes, limit: int, where: str) -> bytes:
    if len(content) > limit:
        raise VreError(f"{where} has more than {limit} bytes")
    return content
