"""Cloud-init's own opinion of a configuration, asked of the very cloud-init that will read it."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vre.artifacts import debian
from vre.artifacts.sandbox import inside
from vre.artifacts.store import Store
from vre.errors import Finding, Refused, VreError
from vre.image import debian_root
from vre.progress import Report, silent

KINDS = {"user-data": "cloud-config", "network-config": "network-config"}


@contextmanager
def unpacked(store: Store, report: Report = silent) -> Iterator[Path]:
    """Unpack the Debian part of the base image (built first where it is not there) for as long as it is wanted."""
    archive = debian_root(store, report)
    folder = Path(tempfile.mkdtemp(prefix="check-", dir=store.root))
    try:
        debian.unpack(archive, folder / "root")
        yield folder / "root"
    finally:
        shutil.rmtree(folder)


def check_cloud_config(root: Path, files: Mapping[str, str]) -> None:
    """Check the texts of user-data and network-config against the schema of cloud-init in `root`.

    Raises Refused with every fault, each with the name of its file.
    """
    findings = [
        finding for name, text in sorted(files.items()) if name in KINDS for finding in _faults(root, name, text)
    ]
    if findings:
        raise Refused(findings)


def _faults(root: Path, name: str, text: str) -> list[Finding]:
    with tempfile.NamedTemporaryFile("w", prefix="check-", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        place = f"/run/{name}"
        command = ["cloud-init", "schema", "--schema-type", KINDS[name], "--config-file", place]
        try:
            inside(root, command, lend={place: Path(file.name)})
        except VreError as error:
            return [Finding(key=name, reason=error.message)]
    return []
