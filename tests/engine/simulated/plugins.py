"""Simulated clouds in place of the official plugins, in a clone of the checkout."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import yaml

from tests.checkout import Checkout
from tests.engine.simulated.store import ENVIRONMENT, Cloud
from vre.paths import project

TABLES = {
    "aws": "tests.engine.simulated.aws",
    "gcp": "tests.engine.simulated.gcp",
    "azure-native": "tests.engine.simulated.azure",
    "openstack": "tests.engine.simulated.openstack",
    "cloudflare": "tests.engine.simulated.cloudflare",
}
"""Where the table of each simulated cloud is, by its plugin's name."""
EXECUTABLE = """\
#!/bin/sh
PYTHONPATH={project} exec {python} -P -W ignore -m tests.engine.simulated {module} "$@"
"""


def simulated(checkout: Checkout, modules: Mapping[str, str], *, machines: bool = True) -> tuple[Checkout, Cloud]:
    """Have the engine take these plugins (name to module of the table) in a clone, and return it with its cloud.

    With `machines`, what the project's own plugin does on machines is simulated, too.
    """
    own = {"vre": "tests.engine.simulated.machines"} if machines else {}
    wanted = {**own, **modules}
    cloud = Cloud(checkout.state / "simulated" / "cloud.db")
    cloud.path.chmod(0o600)
    file = checkout.path / "Pulumi.yaml"
    settings = yaml.safe_load(file.read_text())
    kept = [each for each in settings["plugins"]["providers"] if each["name"] not in wanted]
    others = [{"name": name, "path": str(_folder(checkout, name, module))} for name, module in wanted.items()]
    settings["plugins"]["providers"] = [*kept, *others]
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    return replace(checkout, env={**checkout.env, ENVIRONMENT: str(cloud.path)}), cloud


def _folder(checkout: Checkout, name: str, module: str) -> Path:
    assert import_module(module).PROVIDER.name == name
    folder = checkout.state / "simulated" / name
    folder.mkdir(parents=True)
    program = folder / f"pulumi-resource-{name}"
    program.write_text(EXECUTABLE.format(project=project(), python=sys.executable, module=module))
    program.chmod(0o700)
    return folder
