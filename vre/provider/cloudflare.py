"""`vre:cloudflare:Rule`: one rule of a zone that others have rules in, too.

The official provider's Ruleset owns all rules that a phase of a zone has: a second VRE in the zone could not be made,
and destroying one would take the others' rules with it. Here each rule is added, changed and removed alone.
https://developers.cloudflare.com/ruleset-engine/rulesets-api/
"""

import re
from typing import Any, ClassVar

from vre.edge.api import Api, CloudflareError
from vre.errors import Finding, VreError
from vre.provider.handler import Context, Found, Handler, Props, Unknown

REF = re.compile(r"[a-z0-9-]{1,60}")


class Rule(Handler):
    """A rule, found again by its reference: made twice it is still one."""

    token = "vre:cloudflare:Rule"  # noqa: S105 - a type
    replace_on: ClassVar[frozenset[str]] = frozenset({"zone", "phase", "ref"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse what is no rule."""
        ref, rule = inputs.get("ref"), inputs.get("rule")
        found = []
        if not isinstance(ref, Unknown) and not (isinstance(ref, str) and REF.fullmatch(ref)):
            found.append(Finding(key="ref", reason="1 to 60 of a-z, 0-9 and hyphens", example="vre-phenome-strict"))
        if not isinstance(rule, Unknown) and not {"action", "expression"} <= set(rule or {}):
            found.append(Finding(key="rule", reason="has an action and an expression"))
        return found

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Add it; or change the one that an interrupted launch has left."""
        return f"{inputs['zone']}/{inputs['phase']}/{inputs['ref']}", self._put(context, inputs)

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Change it in place; add it where it is gone."""
        return self._put(context, inputs)

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Look at it; what others have added to it (such as its last change) is none of ours."""
        if not state:
            raise VreError(f"{self.token} cannot be imported", hint="declare a new one")
        with Api(pause=context.pause) as api:
            _, rule = _find(api, state["zone"], state["phase"], state["ref"])
        if rule is None:
            return None
        now = {**state, "rule": _like(state["rule"], rule)}
        return Found(inputs=now, outputs=now)

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Remove it, and it alone. The zone's list of rules stays, if need be empty: others may just be adding one."""
        with Api(pause=context.pause) as api:
            ruleset, rule = _find(api, state["zone"], state["phase"], state["ref"])
            if rule is not None:
                _unless_gone(api, "DELETE", f"/zones/{state['zone']}/rulesets/{ruleset}/rules/{rule['id']}")

    def _put(self, context: Context, inputs: Props) -> Props:
        zone, phase, ref = inputs["zone"], inputs["phase"], inputs["ref"]
        body = {**inputs["rule"], "ref": ref}
        with Api(pause=context.pause) as api:
            ruleset, rule = _find(api, zone, phase, ref)
            if rule is not None:
                api.ask("PATCH", f"/zones/{zone}/rulesets/{ruleset}/rules/{rule['id']}", body=body)
            else:
                where = ruleset or _entry(api, zone, phase)
                api.ask("POST", f"/zones/{zone}/rulesets/{where}/rules", body=body)
        return dict(inputs)


def _find(api: Api, zone: str, phase: str, ref: str) -> tuple[str, Props | None]:
    """Return the id of the zone's list of rules of a phase, and our rule in it; empty where there is none."""
    entry = _unless_gone(api, "GET", f"/zones/{zone}/rulesets/phases/{phase}/entrypoint")
    if not entry:
        return "", None
    ours = [rule for rule in entry.get("rules") or [] if rule.get("ref") == ref]
    return str(entry["id"]), ours[0] if ours else None


def _entry(api: Api, zone: str, phase: str) -> str:
    """Make the zone's list of rules of a phase. Another launch may do so at the same moment: then it is there."""
    body = {"name": "default", "kind": "zone", "phase": phase, "rules": []}
    try:
        return str(api.ask("POST", f"/zones/{zone}/rulesets", body=body)["id"])
    except CloudflareError:
        entry = _unless_gone(api, "GET", f"/zones/{zone}/rulesets/phases/{phase}/entrypoint")
        if not entry:
            raise
        return str(entry["id"])


def _unless_gone(api: Api, method: str, path: str) -> Any:
    try:
        return api.ask(method, path)
    except CloudflareError as error:
        if error.status == 404:
            return None
        raise


def _like(wanted: Any, found: Any) -> Any:
    """Return what was found of what was asked for: the API adds keys of its own."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return {key: _like(value, found.get(key)) for key, value in wanted.items()}
    return found
