"""Templates that stay readable as what they make: values stand in double quotes, logic in comment lines (`#% if`).

A YAML template is YAML by itself, a script a script, so editors and checkers read them as they are.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render_template(file: Path, /, **values: Any) -> str:
    """Return a template's text with its values. Every text is escaped for the double quotes that it stands in."""
    return _environment(file.parent).get_template(file.name).render(**values)


@cache
def _environment(folder: Path) -> Environment:
    """Return what reads the templates of a folder: kept, since it keeps what it has compiled."""
    return Environment(  # noqa: S701 - nothing here is HTML, and every value is escaped for where it goes
        loader=FileSystemLoader(folder),
        line_statement_prefix="#%",
        line_comment_prefix="##",
        undefined=StrictUndefined,
        finalize=_escaped,
        keep_trailing_newline=True,
    )


def _escaped(value: object) -> object:
    """Return text as it may stand between double quotes, in YAML as in JSON."""
    return json.dumps(value)[1:-1] if isinstance(value, str) else value
