"""Which packages a root has, for whoever has to answer for them."""

import json
from pathlib import Path

from vre.artifacts.sandbox import inside

FIELDS = {
    "name": "${Package}",
    "version": "${Version}",
    "architecture": "${Architecture}",
    "source": "${source:Package}",
    "source_version": "${source:Version}",
}


def packages(root: Path) -> str:
    """Return the text of packages.json: every installed package, asked of the root's own dpkg."""
    form = "\t".join(("${db:Status-Status}", *FIELDS.values())) + "\n"
    return text(inside(root, ["dpkg-query", "--show", f"--showformat={form}"]))


def text(listed: str) -> str:
    """Return what dpkg-query listed as a JSON list, sorted by name. Pure."""
    rows = [line.split("\t") for line in listed.splitlines()]
    found = [dict(zip(FIELDS, words, strict=True)) for state, *words in rows if state == "installed"]
    found.sort(key=lambda each: (each["name"], each["architecture"]))
    return json.dumps(found, indent=1) + "\n"
