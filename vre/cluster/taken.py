"""What stands in a cluster for the container images that a launch names: newer ones, taken from the signed repository.

The control machine notes it on a ConfigMap before it changes any object (build/image/files/usr/lib/vre/rollout.py). A
launch names the images that its checkout has; without this it would take the cluster back to them.
"""

import json
from collections.abc import Mapping
from typing import Any

from vre.cluster.api import Api

PATH = "/api/v1/namespaces/kube-system/configmaps/vre-images"


def read(api: Api) -> Mapping[str, str]:
    """Return each former reference (name, tag and digest) -> the one that stands for it; empty where none does."""
    found = api.get(PATH)
    taken: dict[str, str] = json.loads(found["data"]["taken"]) if found and found.get("data") else {}
    return taken


def renewed(thing: Any, taken: Mapping[str, str]) -> Any:
    """Return an object, or a part of one, that names what stands for the images it names. Pure."""
    if isinstance(thing, Mapping):
        return {key: renewed(value, taken) for key, value in thing.items()}
    if isinstance(thing, list):
        return [renewed(each, taken) for each in thing]
    if isinstance(thing, str) and "@sha256:" in thing:
        for old, new in taken.items():
            thing = thing.replace(old, new)
    return thing
