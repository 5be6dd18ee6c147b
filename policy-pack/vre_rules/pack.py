"""The rules as the engine asks for them. The only part of the pack that knows pulumi-policy."""

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyConfigSchema,
    PolicyPack,
    ReportViolation,
    ResourceValidation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError

from vre_rules import addresses, credentials, disks, ingress, passwords
from vre_rules.resource import Part, Resource, Rule, look, plain

RULES = (*ingress.RULES, *disks.RULES, *passwords.RULES, *addresses.RULES, *credentials.RULES)


LOOK = 2.0
"""Seconds between two looks at whether the engine is there."""


def serve() -> None:
    """Answer the engine until it ends."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    PolicyPack(
        name="vre",
        policies=[*map(_each, RULES), _whole()],
        enforcement_level=EnforcementLevel.MANDATORY,
    )


def _end_with(engine: int) -> None:
    """End when the engine is gone: one that was killed did not say so, and the library waits for ever."""
    while os.getppid() == engine:
        time.sleep(LOOK)
    os._exit(0)


def _each(rule: Rule) -> Policy:
    """Return a rule as a policy of each resource. Never one that changes it: that would lay secrets open."""
    return ResourceValidationPolicy(
        name=rule.name, description=rule.description, config_schema=_schema(rule), validate=_validation(rule)
    )


def _validation(rule: Rule) -> ResourceValidation:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        look(rule, _seen(args, args.get_config()), lambda fault: report(fault, None))

    return validate


def _whole() -> Policy:
    """Return the one rule that has to see a whole stack: what an address is joined to stands in other resources."""

    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        for each in args.resources:
            if addresses.astray(each, lambda one: _seen(one, args.get_config())):
                report("it is joined to what does not have the tag of a machine that may have one", each.urn)

    rule = addresses.LINK
    return StackValidationPolicy(
        name=rule.name, description=rule.description, config_schema=_schema(rule), validate=validate
    )


def _seen(args: Any, config: Mapping[str, Any]) -> Resource:
    return Resource(type=args.resource_type, inputs=Part(plain(args.props, UnknownValueError)), config=config)


def _schema(rule: Rule) -> PolicyConfigSchema | None:
    if not rule.settings:
        return None
    return PolicyConfigSchema(properties={name: dict(setting) for name, setting in rule.settings.items()})
