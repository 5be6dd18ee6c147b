"""Runs as root on a standing machine: newer container images into the containerd that runs there, pods untouched.

Only the standard library: `containers.py` calls it, and a launch sends it, so that it is there whatever a machine has.
Reads one argument, as JSON: `names`, each image's full name -> its name with digest; `keep`, names of earlier images
that pods may still be made from; `sent`, where an OCI layout lies as a tar file with the images that the machine does
not have. Can be run again; ends non-zero with what failed, and takes the tar file away. The label comes last: an image
that has it was brought to the end.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/containerd/config.toml")
NOTED = Path("/var/lib/vre/containers.json")
KEPT = 2
"""So many of the machine's lists are never cleared away, whoever brings other images: the last, which says what is to
be there, and the one before, which pods are made from until then."""
PATIENCE = "30"  # seconds in which a container may end in order, as the kubelet gives the control plane's
PINNED = "io.cri-containerd.pinned=pinned"  # the kubelet's clean-up leaves these alone: they cannot be pulled again


def run(*words: str) -> str:
    """Run one command; end with what it said when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)[:200]}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def ctr(*words: str) -> str:
    """Run one ctr command in the kubelet's namespace."""
    return run("ctr", "--namespace", "k8s.io", *words)


def listed(kind: str, *words: str) -> list[dict[str, Any]]:
    """Return what the kubelet's interface to containerd lists: `images` or `containers`."""
    found: list[dict[str, Any]] = json.loads(run("crictl", *words, "--output", "json"))[kind]
    return found


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, flush=True)


def unused(
    images: Iterable[Mapping[str, Any]], containers: Iterable[Mapping[str, Any]], keep: Collection[str]
) -> list[str]:
    """Return the names of images of ours that nobody wants kept and no container is made from any more. Pure."""
    used = {each["imageRef"] for each in containers} | {each["image"]["image"] for each in containers}
    ours = {name.rpartition("/")[0] for name in keep}
    called = [({*image["repoTags"], *image["repoDigests"]}, image["id"]) for image in images]
    left = [names for names, identity in called if not {*used, *keep} & {*names, identity}]
    return sorted(name for names in left for name in names if name.rpartition("/")[0] in ours)


def sandboxes(settings: str) -> set[str]:
    """Return the images that every pod begins with, by containerd's settings. No container is made from them. Pure."""
    return set(re.findall(r"^\s*sandbox(?:_image)?\s*=\s*[\"']([^\"']+)", settings, re.MULTILINE))


def behind(
    images: Iterable[Mapping[str, Any]], containers: Iterable[Mapping[str, Any]], names: Mapping[str, str]
) -> list[str]:
    """Return the running containers whose pods name an image by tag alone, and that tag is another image now. Pure.

    Those are the control plane's and kube-proxy's. The kubelet starts a container that has ended anew, from what the
    tag says then. Pods that name a digest are changed by what made them.
    """
    now = {tag: {image["id"], *image["repoDigests"]} for image in images for tag in image["repoTags"] if tag in names}
    return [
        each["id"]
        for each in containers
        if each["imageRef"] not in now.get(str(each["image"].get("userSpecifiedImage")), {each["imageRef"]})
    ]


def of_lists() -> set[str]:
    """Return both names of every image on the machine's last lists (containers.py)."""
    lists = json.loads(NOTED.read_text())["lists"][-KEPT:] if NOTED.exists() else []
    return {each for one in lists for reference in one.values() for each in both(reference)}


def both(reference: str) -> tuple[str, str]:
    """Return the two names of an image given as name, tag and digest: by its tag, and by its digest. Pure."""
    name, _, digest = reference.partition("@")
    return name, f"{name.rpartition(':')[0]}@{digest}"


def main(names: Mapping[str, str], keep: Collection[str], sent: str) -> None:
    """Make room, import, give every image its names, have the control plane started from them."""
    keep = {*names, *keep, *sandboxes(CONFIG.read_text()), *of_lists()}
    for name in unused(listed("images", "images"), listed("containers", "ps", "--all"), keep):
        ctr("images", "remove", "--sync", name)
    say("importing container images")
    ctr("images", "import", "--local", "--discard-unpacked-layers", sent)
    os.sync()  # a name or a container of an image whose files a power cut then leaves empty would stay so
    for name, other in names.items():
        ctr("images", "tag", "--force", name, other)
    for container in behind(listed("images", "images"), listed("containers", "ps"), names):
        say("starting the cluster's own containers anew")
        run("crictl", "stop", "--timeout", PATIENCE, container)
    for each in (*names, *names.values()):
        ctr("images", "label", each, PINNED)
    ctr("content", "prune", "references")  # at once, not when containerd next finds the time


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    try:
        main(**task)
    finally:
        Path(task["sent"]).unlink(missing_ok=True)
