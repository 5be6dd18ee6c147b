"""What every resource of the plugin `vre` is, for a Pulumi program."""

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi import ResourceOptions


class Out:
    """An output under its Python name; `wire` is the name that the plugin gives it."""

    def __init__(self, wire: str) -> None:
        self.wire = wire

    def __get__(self, instance: object | None, owner: type) -> Any:
        return self if instance is None else vars(instance)[self.wire]


def out(wire: str) -> Any:
    """Declare an output."""
    return Out(wire)


def outputs(resource: type) -> dict[str, str]:
    """Return the declared outputs of a resource class: Python name to the wire's."""
    return {name: value.wire for name, value in vars(resource).items() if isinstance(value, Out)}


class Resource(pulumi.CustomResource):
    """A resource of the plugin `vre`; `TYPE` is its type, `SECRETS` are outputs that are always secret."""

    TYPE = ""
    SECRETS: tuple[str, ...] = ()

    def __init__(self, name: str, props: Mapping[str, Any], opts: ResourceOptions | None) -> None:
        own = ResourceOptions(additional_secret_outputs=list(self.SECRETS))
        computed = dict.fromkeys(outputs(type(self)).values())
        super().__init__(self.TYPE, name, {**computed, **props}, ResourceOptions.merge(own, opts))
