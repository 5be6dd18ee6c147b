"""`vre packages`: our programs as Debian packages, and our container images, in a signed repository."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from vre.progress import step


def packages(
    *,
    to: Annotated[
        Path | None, typer.Option("--to", help="The repository's folder; .vre/packages/repository otherwise")
    ] = None,
    tested: Annotated[
        Path | None, typer.Option(help="Build nothing: announce the moment of Debian's archive of a tested release")
    ] = None,
) -> None:
    """Publish programs and container images, signed"""
    from vre import packages as built
    from vre import paths
    from vre.artifacts import containers as container_images
    from vre.artifacts.store import Store
    from vre.packages import containers, repository
    from vre.setup.packages import ensure_packages

    home = paths.state() / "packages"
    target = to or home / "repository"
    if tested:
        _announce(tested, target, home)
        return
    with step("packages") as report:
        ensure_packages(["image"], report)
        folder = built.build(Store(), report)
        programs = [file for file in folder.glob("*.deb") if not file.name.startswith(f"{containers.NAME}_")]
        with tempfile.TemporaryDirectory(prefix="vre-packages-") as work:
            report("container images")
            images = containers.publish(container_images.build(Store(), report), target, Path(work))
            report("listing and signing")
            key = repository.publish(sorted([*programs, *images]), target, home)
        containers.clear(target)
    print(f"{target}: let a web server show this folder over https, and name it in the stack file (patches.repository)")
    print(f"{key}: the public key that machines check it with")


def _announce(release: Path, target: Path, home: Path) -> None:
    from vre.packages import announcement
    from vre.release import envelope

    with step("announcing"):
        keys = envelope.trusted(os.environ.get(envelope.KEY_VARIABLE, ""))
        moment = announcement.announce(release, target, home, keys)
    print(f"{target / announcement.NAME}: machines take Debian's archive as it was at {moment}")
