"""A stack's own resources declared by a program that is a list of them: what a preview takes without code of ours.

`bare` makes that program, from what stands in the state.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.engine.simulated.lifecycle import Life
from vre.provider.values import SECRET, SIGNATURE

PROGRAM = """
import json
import pathlib

import pulumi

made = {}
for urn, kind, name, custom, inputs, parent, provider, version in json.loads(pathlib.Path("bare.json").read_text()):
    more = {"parent": made[parent]} if parent in made else {}
    if kind.startswith("pulumi:providers:"):
        made[urn] = pulumi.ProviderResource(kind.split(":")[2], name, inputs, pulumi.ResourceOptions(**more))
    elif custom:
        more.update({"provider": made[provider]} if provider in made else {"version": version})
        made[urn] = pulumi.CustomResource(kind, name, inputs, pulumi.ResourceOptions(**more))
    else:
        made[urn] = pulumi.ComponentResource(kind, name, None, pulumi.ResourceOptions(**more))
"""
Row = tuple[str, str, str, bool, Any, str, str, str | None]


def bare(life: Life) -> str:
    """Return a program that declares the same as that of a stack that is up, and previews no change."""
    place = life.engine.checkout.path
    told = life.succeeds("stack", "export", "--show-secrets")
    rows = listed(json.loads(told)["deployment"]["resources"])
    (place / "bare.json").write_text(json.dumps(rows))
    return PROGRAM


def listed(resources: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return what the program declares, of a state's resources in their order. Pure.

    Default providers are made by the engine, which tells them apart by their version.
    """
    return [
        (
            each["urn"],
            each["type"],
            each["urn"].rpartition("::")[2],
            bool(each.get("custom")),
            _plain(each.get("inputs", {})),
            each.get("parent", ""),
            each.get("provider", "").rpartition("::")[0],
            _version(each.get("provider", "")),
        )
        for each in resources
        if each["type"] != "pulumi:pulumi:Stack" and not _default(each)
    ]


def _default(each: Mapping[str, Any]) -> bool:
    return each["type"].startswith("pulumi:providers:") and "::default" in each["urn"]


def _version(provider: str) -> str | None:
    name = provider.rpartition("::")[0].rpartition("::")[2]
    return ".".join(name.split("_")[1:4]) or None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.get(SIGNATURE) == SECRET:
            return json.loads(value["plaintext"])
        return {name: _plain(each) for name, each in value.items() if name != "__defaults"}
    return [_plain(each) for each in value] if isinstance(value, list) else value
