"""YAML that needs no line numbers: the project's own tables and templates, and what programs wrote.

Read by libyaml where PyYAML has it, which is many times as fast as PyYAML's own reader.
"""

from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text: str) -> Any:
    """Return what one document says. Raises yaml.YAMLError when it is none."""
    return yaml.load(text, Loader=LOADER)  # noqa: S506 - either is a safe one


def load_all(text: str) -> list[Any]:
    """Return what each document says, without the empty ones. Raises yaml.YAMLError when one is none."""
    return [each for each in yaml.load_all(text, Loader=LOADER) if each]
