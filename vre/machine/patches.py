"""What a machine is told about its daily upgrade: when it may reboot, and where packages come from. Pure."""

import json

from vre.config import Patches

SETTINGS = "/etc/vre/patch.json"
SOURCES = "/etc/apt/sources.list.d/vre.sources"
ARCHIVE = "/etc/vre/archive.json"
KEY = "/etc/apt/keyrings/vre.asc"


def settings(patches: Patches, *, name: str, alone: bool, upgrade: bool) -> str:
    """Return what /usr/lib/vre/patch.py reads.

    `alone`: there is no other machine to drain to. Without `upgrade` there is no mirror that the machine could reach.
    """
    told = {
        "window": patches.window,
        "zone": patches.zone,
        "reboot": patches.reboot,
        "name": name,
        "alone": alone,
        "upgrade": upgrade,
    }
    return json.dumps(told, indent=1, sort_keys=True) + "\n"


def sources(patches: Patches) -> str:
    """Return where our own packages come from in apt's deb822 form; empty when from nowhere."""
    if patches.repository is None:
        return ""
    return f"Types: deb\nURIs: {patches.repository.rstrip('/')}/\nSuites: ./\nSigned-By: {KEY}\n"


def archive(patches: Patches) -> str:
    """Return what /usr/lib/vre/tested.py reads: which state of Debian's archive is wanted, and who says so."""
    told: dict[str, str] = {"from": patches.takes}
    if patches.takes == "tested":
        told |= {"repository": patches.repository or "", "archive": patches.archive or ""}
    return json.dumps(told, indent=1, sort_keys=True) + "\n"


def files(patches: Patches, key: str, *, name: str, alone: bool, upgrade: bool) -> dict[str, str]:
    """Return each file's content by its path. `key` is the repository's public key, where there is a repository."""
    made = {
        SETTINGS: settings(patches, name=name, alone=alone, upgrade=upgrade),
        ARCHIVE: archive(patches),
    }
    return {**made, SOURCES: sources(patches), KEY: key} if patches.repository else made
