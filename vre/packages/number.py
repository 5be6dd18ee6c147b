"""The version of a package that no program gives one: a number in a file, which grows when the package is another."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from vre import yamltext
from vre.errors import VreError

TEXT = """# Made by `make generate`: a number that grows when the package {} is another, and what has this one.
number: {}
digest: {}
"""


@dataclass(frozen=True, kw_only=True)
class Stated:
    """The package's version, and the digest of what has it."""

    number: int
    digest: str


def stated(file: Path) -> Stated:
    """Return the version that is written down. Raises VreError when it cannot be read."""
    try:
        told = yamltext.load(file.read_text())
        return Stated(number=int(told["number"]), digest=str(told["digest"]))
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise VreError(
            f"{file}: {error!r}", hint="take it from where the project came from, then make generate"
        ) from error


def text(name: str, before: Stated, digest: str) -> str:
    """Return what the file has to say of the package `name`: the next number when it is another than before. Pure."""
    number = before.number if digest == before.digest else before.number + 1
    return TEXT.format(name, number, digest)
