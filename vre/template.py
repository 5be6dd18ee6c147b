"""Templates that stay readable as what they make: values stand in double quotes, logic in comment lines (`#% if`).

A YAML template is YAML by itself, a script a script, so editors and checkers read them as they are.
"""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render_template(file: Path, /, **values: Any) -> str:
    """Return a template's text with its values. Every text is escaped for the double quotes that it stands in."""
    environment = Environment(  # noqa: S701 - nothing here is HTML, and every value is escaped for where it goes
        loader=FileSystemLoader(file.parent),
        line_statement_prefix="#%",
        line_comment_prefix="##",
        undefined=StrictUndefined,
        finalize=_escaped,
        keep_trailing_newline=True,
    )
    return environment.get_template(file.name).render(**values)


def _escaped(value: object) -> object:
    """Return text as it may stand between double quotes, in YAML as in JSON."""
    return json.dumps(value)[1:-1] if isinstance(value, str) else value
