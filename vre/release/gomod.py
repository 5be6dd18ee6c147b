"""What a go.mod says, read and written as text."""

import re

from univers.versions import GolangVersion

from vre.release.pins import Pin

KUBERNETES = "k8s.io/kubernetes"


def older(text: str, other: str) -> list[str]:
    """Return the modules that one go.mod has older than another, as `path@version` of the other. Pure."""
    own, wanted = required(text), required(other)
    shared = sorted(own.keys() & wanted.keys())
    return [f"{path}@{wanted[path]}" for path in shared if GolangVersion(own[path]) < GolangVersion(wanted[path])]


def required(text: str) -> dict[str, str]:
    """Return module -> version of a go.mod, of those that it does not replace. Pure."""
    others = {entry.split()[0] for entry in listed(text, "replace")}
    pairs = (entry.split()[:2] for entry in listed(text, "require"))
    return {path: version for path, version in pairs if path not in others}


def listed(text: str, word: str) -> list[str]:
    """Return the entries of a directive in go.mod, written on one line or in brackets. Pure."""
    blocks = re.findall(rf"^{word} \((.*?)^\)", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines + re.findall(rf"^{word} ([^(\n]+)$", text, re.MULTILINE) if line]


def raised(text: str, module: str, pin: Pin) -> str:
    """Return a go.mod with the program's module raised, and Kubernetes' own parts, whose releases go with it. Pure."""
    line = rf"^(\s*(?:require )?{re.escape(module)}) {re.escape(pin.pinned)}\b"
    after = re.sub(line, rf"\1 {pin.patch}", text, flags=re.MULTILINE)
    if module != KUBERNETES:
        return after
    return replaced(after, pin.pinned.replace("v1.", "v0.", 1), pin.patch.replace("v1.", "v0.", 1))


def replaced(text: str, old: str, new: str) -> str:
    """Return a text with a version exchanged wherever it stands by itself. Pure."""
    return re.sub(rf"(?<![\w.]){re.escape(old)}(?![\w.]|-)", new, text)
