"""Newer container images for a standing machine: what the package vre-images lists, and the machine lacks, is fetched.

The package comes from the signed repository, and apt takes no older one. Its list names every image with its digest;
what has these digests lies beside the packages, in the folder `blobs`, each file named by its own. So nothing is taken
that the repository's key did not sign, whoever serves it.

Run by patch.py after every upgrade, and by a launch. Python's standard library only.
"""

import contextlib
import hashlib
import json
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import patching
import places
import renew
import tested
from alone import alone

NAME = "vre-images"
LAYOUT = '{"imageLayoutVersion":"1.0.0"}'
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
"""What a manifest is that does not say it itself (OCI image specification, descriptors)."""
CALLED = "io.containerd.image.name"
"""The annotation from which containerd's import takes an image's name."""
LONGEST = 100  # former lists that are remembered
SPARE = 300 * 1024**2
"""Bytes that stay free on the disk while images are fetched."""
Say = Callable[[str], None]


class Unfit(Exception):
    """What the list names cannot be had, or is not what it names."""


class Places(places.Places):
    """Where things are."""

    WHERE: ClassVar[Mapping[str, str]] = {
        "made": "usr/share/vre/images.json",
        "listed": "usr/share/vre/listed.json",
        "noted": "var/lib/vre/containers.json",
        "sources": "etc/apt/sources.list.d/vre.sources",
        "scratch": "var/cache/vre",
        "running": "run/vre",
    }


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What the machine remembers: all that it had, the oldest first, short name -> reference; the list it has whole."""

    lists: tuple[Mapping[str, str], ...] = ()
    settled: str = ""

    @property
    def former(self) -> frozenset[str]:
        """References of all images that were on a list."""
        return frozenset(each for one in self.lists for each in one.values())


def load(places: Places) -> Noted:
    """Return what is remembered; at first that is what the machine was made with."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(places.noted.read_text())
        return Noted(lists=tuple(told["lists"]), settled=str(told["settled"]))
    made = json.loads(places.made.read_text()) if places.made.exists() else {}
    return Noted(lists=(made,), settled=digest(made)) if made else Noted()


def digest(images: Mapping[str, str]) -> str:
    """Return what tells two lists apart."""
    return hashlib.sha256(json.dumps(images, sort_keys=True).encode()).hexdigest()


def settle(places: Places, say: Say) -> bool:
    """Bring the machine what the package lists. Returns whether there was something. Raises Unfit."""
    listed = read(places)
    noted = load(places)
    if not listed or noted.settled == digest(listed):
        return False
    try:
        there = _there()
        now = present(noted.lists[-1] if noted.lists else {}, there, noted.former)
        wanted = held(listed, now)
        # Noted first: whatever breaks off here, these are known as the machine's own from then on.
        lists = (*noted.lists, *(each for each in (now, wanted) if each not in noted.lists[-1:]))[-LONGEST:]
        keep(places, Noted(lists=lists, settled=noted.settled))
        lacking = missing(wanted, there)
        if lacking:
            say(f"newer container images: {', '.join(sorted(lacking))}")
            _bring(places, lacking, say)
    except SystemExit as error:  # renew is a program, too
        raise Unfit(str(error.code)) from error
    keep(places, Noted(lists=lists, settled=digest(listed)))
    return bool(lacking)


def read(places: Places) -> dict[str, str]:
    """Return the package's list, empty where there is no such package."""
    listed: dict[str, str] = json.loads(places.listed.read_text()) if places.listed.exists() else {}
    return listed


def keep(places: Places, noted: Noted) -> None:
    """Remember."""
    told = {"lists": list(noted.lists), "settled": noted.settled}
    tested.write(places.noted, json.dumps(told, indent=1, sort_keys=True) + "\n")


def present(last: Mapping[str, str], there: Mapping[str, str], former: Collection[str]) -> dict[str, str]:
    """Return what the machine has now, short name -> reference: by its last list, or by a launch since. Pure."""
    brought = {
        _called(name): f"{name}@{found}" for name, found in there.items() if "@" not in name
        and f"{name}@{found}" not in former
    }  # fmt: skip
    return {short: brought.get(_called(each.partition("@")[0]), each) for short, each in last.items()}


def held(listed: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return what a list means for a machine: newer patch levels, no other minor version, and nothing older. Pure.

    Another minor version may want other settings, which a launch knows. What is no longer listed stays.
    """
    newer = {
        short: each
        for short, each in listed.items()
        if short not in now or patching.follows(_tag(now[short]), _tag(each))
    }
    return {**now, **newer}


def missing(wanted: Mapping[str, str], there: Mapping[str, str]) -> dict[str, str]:
    """Return those of the wanted images that are not there under both of their names. Pure."""
    return {
        short: each
        for short, each in wanted.items()
        if {there.get(name) for name in renew.both(each)} != {each.partition("@")[2]}
    }


def _called(name: str) -> str:
    """Return an image's name without its tag."""
    return name.rpartition(":")[0]


def _tag(reference: str) -> str:
    return reference.partition("@")[0].rpartition(":")[2]


def _there() -> dict[str, str]:
    """Return name -> digest of every image that was brought to the end."""
    lines = [line.split() for line in renew.ctr("images", "ls").splitlines()[1:] if renew.PINNED in line]
    return {words[0]: words[2] for words in lines if len(words) > 2}


def _bring(places: Places, images: Mapping[str, str], say: Say) -> None:
    repository = address(places)
    folder = places.scratch / "blobs"
    shutil.rmtree(folder, ignore_errors=True)  # a rest of an earlier one would be gone on with
    tested.for_apt(folder)
    archive = places.scratch / "images.tar"
    try:
        entries = [_fetch(repository, folder, reference, say) for reference in images.values()]
        _pack(folder, entries, archive)
        names = dict(renew.both(reference) for reference in images.values())
        renew.main(names, (), str(archive))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        archive.unlink(missing_ok=True)


def address(places: Places) -> str:
    """Return the repository's address. Raises Unfit where there is none."""
    told = places.sources.read_text() if places.sources.exists() else ""
    found = re.search(r"^URIs: *(\S+?)/*$", told, re.MULTILINE)
    if found is None:
        raise Unfit("newer container images are wanted, and no repository is named that has them")
    return found[1]


def _fetch(repository: str, folder: Path, reference: str, say: Say) -> dict[str, Any]:
    """Fetch all that one image is; return its entry in the layout."""
    name, _, wanted = reference.partition("@")
    manifest = _blob(repository, folder, wanted)
    told = json.loads(manifest.read_bytes())
    parts = [told["config"], *told["layers"]]
    lacking = [each for each in parts if not (folder / _file(each["digest"])).exists()]
    size = sum(int(each["size"]) for each in lacking)
    free = shutil.disk_usage(folder).free
    # Each part is there twice for a moment, in a file of its own and in the archive.
    if free < size + max((int(each["size"]) for each in parts), default=0) + SPARE:
        raise Unfit(f"{name}: {size // 1024**2} MiB are to be fetched, and {free // 1024**2} MiB are free")
    say(f"fetching {name}, {-(-size // 1024**2)} MiB")
    for each in lacking:
        _blob(repository, folder, each["digest"])
    about = {"mediaType": told.get("mediaType", MANIFEST), "digest": wanted, "size": manifest.stat().st_size}
    return {**about, "annotations": {CALLED: name}}


def _blob(repository: str, folder: Path, wanted: str) -> Path:
    """Fetch what has a digest, through apt, which has a way out. Raises Unfit when what comes has another."""
    file = folder / _file(wanted)
    if file.exists():
        return file
    part = file.with_suffix(".part")
    try:
        tested.run(*tested.FETCH, f"{repository}/blobs/{_file(wanted)}", str(part))
    except tested.Untrusted as error:
        raise Unfit(str(error)) from error
    whole = shutil.copyfile(part, file.with_suffix(".whole"))  # of a repository on this machine apt makes a link
    part.unlink()
    with whole.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if f"sha256:{found}" != wanted:
        whole.unlink()
        raise Unfit(f"{repository}/blobs/{_file(wanted)} is another file than its name says")
    return whole.rename(file)


def _file(wanted: str) -> str:
    found = re.fullmatch(r"sha256:([0-9a-f]{64})", wanted)
    if found is None:
        raise Unfit(f"{wanted} is no digest")
    return found[1]


def _pack(folder: Path, entries: list[dict[str, Any]], archive: Path) -> None:
    """Write the fetched images as an OCI layout; each part goes as it is written, for the room."""
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    with tarfile.open(archive, "w") as out:
        for name, content in (("oci-layout", LAYOUT.encode()), ("index.json", index)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, BytesIO(content))
        for file in sorted(folder.iterdir()):
            out.add(file, arcname=f"blobs/sha256/{file.name}")
            file.unlink()


def standing(places: Places) -> dict[str, str]:
    """Return what stands for former images, by the list that the machine has whole; nothing before it has it."""
    return replaced(_settled(places))


def whole(places: Places) -> Mapping[str, str]:
    """Return the newest images, short name -> reference, once the machine has them all; nothing before."""
    lists = _settled(places).lists
    return lists[-1] if lists else {}


def _settled(places: Places) -> Noted:
    """Return what is remembered, once the machine has the newest list whole; nothing before."""
    noted = load(places)
    return noted if noted.settled == digest(read(places)) else Noted()


def replaced(noted: Noted) -> dict[str, str]:
    """Return each former reference -> the one that stands for it now. Pure."""
    wanted = noted.lists[-1] if noted.lists else {}
    return {
        each: wanted[short]
        for one in noted.lists
        for short, each in one.items()
        if short in wanted and each not in wanted.values()
    }


def main(root: Path = Path("/")) -> int:
    """Take the newest list, and what it names: for a machine that came to a cluster whose pods are made from that."""
    places = Places(root=root)
    try:
        with alone(places.running):
            if places.sources.exists():
                for words in (("update",), ("--yes", "--only-upgrade", "install", NAME)):
                    tested.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", *words)
            settle(places, lambda text: print(text, flush=True))
    except (Unfit, tested.Untrusted) as error:
        print(f"newer container images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
