"""The names under which the engine looks for a resource that had another type before."""

import re

from pulumi import Alias, Input, ResourceOptions, ResourceTransformationArgs, ResourceTransformationResult

DATED = re.compile(r"azure-native:\w+/v\d{8}")
"""How the SDK begins a type that is of the interface of one day."""


def undated(args: ResourceTransformationArgs) -> ResourceTransformationResult:
    """Leave out those of another day's interface: no stack of ours has ever had a resource of such a type.

    Azure's SDK gives a resource up to sixty, and they would be most of the time and memory of a large stack.
    """
    options = ResourceOptions.merge(args.opts, None)
    options.aliases = [each for each in options.aliases or () if not _dated(each)]
    return ResourceTransformationResult(props=args.props, opts=options)


def _dated(alias: Input[str | Alias]) -> bool:
    return isinstance(alias, Alias) and isinstance(alias.type_, str) and DATED.match(alias.type_) is not None
