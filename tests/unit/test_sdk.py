"""Clouds' SDKs are imported without what is not used, and what is used is what the whole SDK would give."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from vre.paths import project
from vre.sdk import places

CLOUDS = {
    "vre/clouds/aws.py": (r"\baws\.(\w+)\.(\w+)", "pulumi_aws"),
    "vre/clouds/azure.py": (r"\b(authorization|compute|keyvault|resources|networks)\.(\w+)", "pulumi_azure_native"),
    "vre/clouds/gcp.py": (r"\bgcp\.(\w+)\.(\w+)", "pulumi_gcp"),
    "vre/clouds/openstack.py": (r"\bopenstack\.(\w+)\.(\w+)", "pulumi_openstack"),
    "vre/edge/cloudflare.py": (r"(?:\bpulumi_cloudflare|self\._sdk)(\.)(\w+)", "pulumi_cloudflare"),
}
LOOKED_UP = """
import importlib, json, sys, typing
import pulumi
from pulumi import _types
from vre import sdk
slim, names = json.loads(sys.argv[1])
if slim:
    sdk.slim()
found = {}

def said(one):
    if isinstance(one, type):
        shown = f"{one.__module__}.{one.__name__}"
        if shown in found:
            return shown
        found[shown] = {}
        if _types.is_input_type(one):
            found[shown] = {key: said(each) for key, each in _types.input_type_types(one).items()}
        elif _types.is_output_type(one):
            found[shown] = {key: said(each) for key, each in _types.output_type_types(one).items()}
        elif issubclass(one, pulumi.Resource):
            inside = vars(sys.modules[one.__module__])
            said(inside.get(f"{one.__name__}InitArgs") or inside[f"{one.__name__}Args"])
            found[shown] = {key: said(each) for key, each in _types.resource_types(one).items()}
            found[shown]["token"] = one.pulumi_type
        return shown
    parts = [said(each) for each in typing.get_args(one)]
    return f"{typing.get_origin(one) or one.__module__ + '.' + one.__name__}{parts}"

for package, name in names:
    found[f"{package}.{name}"] = said(getattr(importlib.import_module(package), name))
inner = [name for name, one in sys.modules.items() if name.startswith("pulumi_") and type(one).__name__ == "module"]
whole = [name for name in inner if "__whole__" in vars(sys.modules[name])]
small = [vars(sys.modules[name]) for name in inner if name.endswith(("._inputs", ".outputs"))]
classes = sum(isinstance(each, type) for inside in small for each in inside.values())
print(json.dumps([found, whole, len(inner), classes]))
"""


def used(file: str) -> list[tuple[str, str]]:
    """Return package and name of whatever a module of ours uses of an SDK."""
    pattern, root = CLOUDS[file]
    pairs = set(re.findall(pattern, (project() / file).read_text()))
    packages = {
        (f"{root}.{part.replace('networks', 'network')}" if part != "." else root, name) for part, name in pairs
    }
    return sorted(each for each in packages if each[1][0].isupper() or each[1].startswith("get_"))


def looked_up(names: list[tuple[str, str]], *, slim: bool) -> tuple[dict[str, Any], list[str], int, int]:
    """Look names up in a process of their own: what each is, which packages were run whole; how many modules,
    and small classes, there are then.

    With what each is come the types of all that it takes and gives, as deep as they go, as Pulumi sees them.
    """
    words = [sys.executable, "-c", LOOKED_UP, json.dumps([slim, names])]
    told = subprocess.run(words, cwd=project(), check=True, capture_output=True, text=True).stdout
    found, whole, modules, classes = json.loads(told)
    return found, whole, modules, classes


@pytest.mark.parametrize("file", CLOUDS)
def test_what_is_used_is_the_same_and_nothing_else_is_imported(file: str) -> None:
    names = used(file)
    assert len(names) >= 5
    some, run_whole, few, few_classes = looked_up(names, slim=True)
    every, _, many, many_classes = looked_up(names, slim=False)
    assert some == every
    assert run_whole == []
    assert few < many / 2
    assert few_classes < many_classes / 2


def test_a_name_that_its_spelling_does_not_tell_is_found_all_the_same() -> None:
    odd = ("pulumi_openstack.networking", "AwaitableGetNetworkResult")
    some, run_whole, *_ = looked_up([odd], slim=True)
    every, *_ = looked_up([odd], slim=False)
    assert some == every
    assert run_whole == ["pulumi_openstack.networking"]


def test_a_name_that_is_nowhere_is_an_error_of_the_usual_kind() -> None:
    with pytest.raises(subprocess.CalledProcessError) as raised:
        looked_up([("pulumi_openstack.compute", "Instanze")], slim=True)
    assert "AttributeError: module 'pulumi_openstack.compute' has no attribute 'Instanze'" in raised.value.stderr


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("RouterNat", "router_nat"),
        ("CryptoKeyIAMMember", "crypto_key_iam_member"),
        ("InstanceBootDiskArgs", "_inputs"),
        ("get_ami_output", "get_ami"),
        ("GetAmiResult", "get_ami"),
        ("outputs", "outputs"),
    ],
)
def test_where_a_name_is_by_its_spelling(name: str, first: str) -> None:
    assert next(places(name)) == first
