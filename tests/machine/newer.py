"""Container images that are newer than those of an image: each with one more layer, and another tag where wanted."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from vre import image
from vre.artifacts import oci


def newer(
    built: image.Image, folder: Path, tags: Mapping[str, str], layer: Mapping[str, bytes | Path]
) -> dict[str, str]:
    """Write a layout in which these images (short name -> tag) have that layer, too, and those tags.

    `layer` is path -> content. Returns all references.
    """
    index = json.loads((built.layout / "index.json").read_text())
    layouts = {}
    for short, reference in built.images.items():
        name, _, digest = reference.partition("@")
        single = folder / short
        shutil.copytree(built.layout, single, ignore=shutil.ignore_patterns("index.json", "blobs"))
        for blob in oci.blobs(built.layout, digest):
            target = single / "blobs" / blob.replace(":", "/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(built.layout / "blobs" / blob.replace(":", "/"), target)
        [entry] = [each for each in index["manifests"] if each["digest"] == digest]
        entry = {**entry, "annotations": {"org.opencontainers.image.ref.name": oci.TAG}}
        (single / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        if short in tags:
            archive = folder / "layer.tar"
            oci.pack(archive, layer)
            oci.add_layer(single, archive, "newer")
            name = f"{name.rpartition(':')[0]}:{tags[short]}"
        layouts[name] = single
    digests = oci.gather(layouts, folder / "layout")
    return {short: f"{name}@{digests[name]}" for short, name in zip(built.images, layouts, strict=True)}
