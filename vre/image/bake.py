"""Container images into the root's containerd, on this machine: seconds here, minutes inside an emulated guest."""

import json
import shutil
from pathlib import Path

from vre.artifacts.containers import Containers
from vre.artifacts.sandbox import inside
from vre.image import importer
from vre.progress import Report

NAMES = "usr/share/vre/images.json"
VOLATILE = ("io.containerd.runtime.v1.linux", "io.containerd.runtime.v2.task", "tmpmounts")


def bake(root: Path, containers: Containers, report: Report) -> dict[str, str]:
    """Import every image, unpacked, named by tag and by digest; return short name -> reference with tag and digest."""
    report(f"{len(containers.names)} container images into the root")
    inside(
        root,
        ["python3", "-", json.dumps(names(containers))],
        lend={str(importer.LAYOUT): containers.layout},
        stdin=Path(importer.__file__).read_text(),
    )
    for name in VOLATILE:
        shutil.rmtree(root / "var/lib/containerd" / name, ignore_errors=True)
    references = {short: f"{name}@{containers.digests[short]}" for short, name in containers.names.items()}
    target = root / NAMES
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(listing(references))
    return references


def names(containers: Containers) -> dict[str, list[str]]:
    """Return each image's full name and its other one: a pod that names a digest is looked up by that."""
    return {
        name: [f"{name.rpartition(':')[0]}@{containers.digests[short]}"] for short, name in containers.names.items()
    }


def listing(references: dict[str, str]) -> str:
    """Return the text of images.json."""
    return json.dumps(references, indent=1, sort_keys=True) + "\n"
