"""A signed repository on this machine's loopback, where tests publish packages that were outdated until then."""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vre.config import Patches
from vre.machine import patches
from vre.packages import deb, repository

PLACE = "https://packages.example.org/"


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Packages that are published here. `host` is this machine as whoever fetches them sees it.

    `askers` says as which account each path was asked for last, where that was on this machine.
    """

    folder: Path
    host: str
    port: int
    askers: Mapping[str, int]

    def publish(self, version: str, *, name: str = "vre-probe", after: str = "") -> None:
        """Publish a package of one program that says its version."""
        work = self.folder / "work"
        work.mkdir()
        (work / "program").write_text(f"#!/bin/sh\necho Kubernetes v{version.partition('-')[0]}\n")
        package = deb.Package(
            name=name, version=version, architecture="all", files={f"usr/bin/{name}": work / "program"},
            description="outdated on purpose", homepage="https://example.org", after=after,
        )  # fmt: skip
        repository.publish([deb.write(package, work)], self.folder / "served", self.folder / "keys")
        shutil.rmtree(work)

    @contextmanager
    def broken(self) -> Iterator[None]:
        """Serve for a while what was not signed."""
        lists = list((self.folder / "served").glob("Packages*"))
        right = {file: file.read_bytes() for file in lists}
        for file in lists:
            file.write_bytes(b"Package: vre-probe\n")
        yield
        for file, text in right.items():
            file.write_bytes(text)

    def files(self) -> dict[str, str]:
        """Return what a machine is told of the repository, by path."""
        key = (self.folder / "keys" / repository.KEY).read_text()
        told = patches.files(Patches(repository=PLACE), key, name="probe", alone=True, upgrade=True)
        return {
            patches.SOURCES: told[patches.SOURCES].replace(PLACE, f"http://{self.host}:{self.port}/"),
            patches.KEY: told[patches.KEY],
        }


def account(port: int) -> int:
    """Return as which account a connection of this machine was made, by its local port; -1 when it is not from here."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return next((int(each[7]) for each in lines if int(each[1].rpartition(":")[2], 16) == port), -1)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Tells nobody what was fetched, and hands out what there is: two versions may be published within one second."""

    def __init__(self, *args: Any, askers: dict[str, int], **more: Any) -> None:
        self.askers = askers
        super().__init__(*args, **more)

    def send_head(self) -> Any:
        """Forget what the other side has already."""
        self.askers[self.path] = account(self.client_address[1])
        del self.headers["If-Modified-Since"]
        return super().send_head()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path, host: str) -> Iterator[Repository]:
    """Serve a new repository for as long as it is wanted."""
    (folder / "served").mkdir()
    askers: dict[str, int] = {}
    handler = functools.partial(Quiet, directory=str(folder / "served"), askers=askers)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Repository(folder=folder, host=host, port=server.server_port, askers=askers)
        server.shutdown()
