"""An archive like Debian's with its states by moment, and a word on which was tested, served on the loopback."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.machine.repository import Repository
from vre.packages import announcement, deb, repository
from vre.run import run

SUITES = {"debian": ("trixie", "trixie-updates"), "debian-security": ("trixie-security",)}
KEYRING = "usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Moments of an archive, below the folder that the repository serves."""

    beside: Repository

    @property
    def keys(self) -> Path:
        """Where this archive's own key lies: not the repository's."""
        return self.beside.folder / "debian-keys"

    @property
    def settings(self) -> dict[str, str]:
        """What a machine is told: everything by http, from this machine."""
        here = f"http://{self.beside.host}:{self.beside.port}"
        return {"from": "tested", "repository": here, "archive": f"{here}/{{archive}}/{{moment}}/"}

    def publish(self, moment: str, version: str) -> None:
        """Make a moment at which there is one package, in one version, in the suite of security fixes alone."""
        for archive, suites in SUITES.items():
            for suite in suites:
                there = self.beside.folder / "served" / archive / moment
                if suite.endswith("-security"):
                    self._package(there, version)
                self._list(there, suite)

    def announce(self, moment: str, *, keys: Path | None = None) -> None:
        """Say which moment was tested, as `vre packages --tested` does once it has looked at the release."""
        text = announcement.statement(moment, datetime.now(UTC))
        home = keys or self.beside.folder / "keys"
        repository.ensure_key(home)
        self.served.write_text(repository.sign(text, home))

    @property
    def served(self) -> Path:
        """The statement as it is served."""
        return self.beside.folder / "served" / announcement.NAME

    def trusted_by(self, root: Path) -> None:
        """Have a root take this archive for Debian's."""
        key = repository.ensure_key(self.keys)
        (root / KEYRING).unlink()
        run(["gpg", "--batch", "--homedir", self.keys / "gnupg", "--dearmor", "--output", root / KEYRING, key])

    def _package(self, there: Path, version: str) -> None:
        work = self.beside.folder / "archive-work"
        pool = there / "pool"
        for folder in (work, pool):
            folder.mkdir(parents=True)
        (work / "program").write_text(f"#!/bin/sh\necho {version}\n")
        package = deb.Package(
            name="debian-probe", version=version, architecture="all", files={"usr/bin/debian-probe": work / "program"},
            description="stands for one of Debian's", homepage="https://example.org",
        )  # fmt: skip
        shutil.move(deb.write(package, work), pool)
        shutil.rmtree(work)

    def _list(self, there: Path, suite: str) -> None:
        place = there / "dists" / suite
        listed = place / "main" / "binary-amd64" / "Packages"
        listed.parent.mkdir(parents=True)
        (there / "pool").mkdir(exist_ok=True)
        text = run(["apt-ftparchive", "packages", "pool"], cwd=there) if suite.endswith("-security") else ""
        listed.write_text(text)
        words = ["Origin=Debian", f"Suite={suite}", f"Codename={suite}", "Components=main", "Architectures=amd64"]
        options = [part for word in words for part in ("-o", f"APT::FTPArchive::Release::{word}")]
        # By Debian's word an old state has expired: it is taken all the same.
        options += ["-o", "APT::FTPArchive::Release::ValidTime=1"]
        release = run(["apt-ftparchive", *options, "release", place])
        repository.ensure_key(self.keys)
        (place / "InRelease").write_text(repository.sign(release, self.keys))
