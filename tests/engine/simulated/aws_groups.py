"""AWS's security groups and their rules."""

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from tests.engine.simulated.aws_api import DEFAULT_GROUP, GROUP, VPC, Api, changed, ec2
from tests.engine.simulated.table import Call, CloudError, Kind
from vre.errors import Finding
from vre.provider.handler import Props

DESCRIPTION = re.compile(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{0,255}")
MOST = 60
"""Rules that a group may have, of each direction and family."""


class Group(Api):
    """A security group. The plugin takes away the rules that AWS gives it."""

    token = GROUP
    listing = ("describe_security_groups", "GroupIds", "SecurityGroups")
    named = "name"
    unique: ClassVar[tuple[str, ...]] = ("name", "vpcId")
    replace_on = frozenset({"name", "description", "vpcId"})
    refers: ClassVar = {"vpcId": VPC}

    def make(self, call: Call) -> Props:
        """Make it."""
        made = ec2(call).create_security_group(
            GroupName=call.inputs["name"], Description=call.inputs["description"], VpcId=call.inputs["vpcId"]
        )
        call.id = made["GroupId"]
        emptied(call)
        return {"arn": f"arn:aws:ec2:{call.config['region']}:123456789012:security-group/{call.id}"}

    def remove(self, call: Call) -> None:
        """Remove it."""
        ec2(call).delete_security_group(GroupId=call.id)


def group_rules(call: Call, group: str) -> list[dict[str, Any]]:
    """Return the rules of a group as EC2 has them."""
    pages = ec2(call).get_paginator("describe_security_group_rules")
    wanted = [{"Name": "group-id", "Values": [group]}]
    return [rule for page in pages.paginate(Filters=wanted) for rule in page["SecurityGroupRules"]]


def emptied(call: Call) -> None:
    """Take all rules from a group."""
    for rule in group_rules(call, call.id):
        revoke(call, rule["SecurityGroupRuleId"], inbound=not rule["IsEgress"])


def revoke(call: Call, rule: str, *, inbound: bool) -> None:
    """Take a rule from its group."""
    group = call.state.get("securityGroupId") or call.id
    word = "ingress" if inbound else "egress"
    getattr(ec2(call), f"revoke_security_group_{word}")(GroupId=group, SecurityGroupRuleIds=[rule])


class DefaultGroup(Group):
    """The group that every network has: taken over, emptied, and never removed."""

    token = DEFAULT_GROUP
    named = ""
    unique = ()
    replace_on = frozenset({"vpcId"})

    def make(self, call: Call) -> Props:
        """Find it, and empty it."""
        vpc = {"Name": "vpc-id", "Values": [call.inputs["vpcId"]]}
        wanted = [vpc, {"Name": "group-name", "Values": ["default"]}]
        call.id = ec2(call).describe_security_groups(Filters=wanted)["SecurityGroups"][0]["GroupId"]
        emptied(call)
        if call.inputs.get("ingress") or call.inputs.get("egress"):
            raise CloudError("the simulation knows it only without rules")
        return {}

    def remove(self, call: Call) -> None:
        """Leave it."""


class Rule(Api):
    """One rule of a group."""

    listing = ("describe_security_group_rules", "SecurityGroupRuleIds", "SecurityGroupRules")
    replace_on = frozenset({"securityGroupId"})
    refers: ClassVar = {"securityGroupId": GROUP, "referencedSecurityGroupId": GROUP}
    frees = frozenset({"securityGroupId"})
    ends: ClassVar = ("cidrIpv4", "cidrIpv6", "referencedSecurityGroupId")
    unique = ("securityGroupId", "ipProtocol", "fromPort", "toPort", *ends)
    inbound: ClassVar[bool]
    names: ClassVar = {
        "ipProtocol": "IpProtocol",
        "fromPort": "FromPort",
        "toPort": "ToPort",
        "cidrIpv4": "CidrIpv4",
        "cidrIpv6": "CidrIpv6",
        "description": "Description",
    }

    def check(self, inputs: Props) -> Iterator[Finding]:
        """Refuse a rule for nobody or several, and what AWS takes for no description."""
        if len([key for key in self.ends if inputs.get(key) is not None]) != 1:
            yield Finding(key="cidrIpv4", reason=f"exactly one of {', '.join(self.ends)} must be specified")
        text = inputs.get("description")
        if isinstance(text, str) and not DESCRIPTION.fullmatch(text):
            yield Finding(key="description", reason="InvalidParameterValue: invalid rule description")

    def make(self, call: Call) -> Props:
        """Make it."""
        group = call.inputs["securityGroupId"]
        self._room(call, group)
        word = "ingress" if self.inbound else "egress"
        authorize = getattr(ec2(call), f"authorize_security_group_{word}")
        made = authorize(GroupId=group, IpPermissions=[self._permission(call.inputs)])["SecurityGroupRules"][0]
        call.id = made["SecurityGroupRuleId"]
        return {"securityGroupRuleId": call.id}

    def _room(self, call: Call, group: str) -> None:
        family = "CidrIpv6" if call.inputs.get("cidrIpv6") else "CidrIpv4"
        every = [rule for rule in group_rules(call, group) if rule["IsEgress"] != self.inbound]
        same = [rule for rule in every if family in rule or "ReferencedGroupInfo" in rule]
        if len(same) >= MOST:
            raise CloudError(
                "api error RulesPerSecurityGroupLimitExceeded: The maximum number of rules per group has been reached."
            )

    def _permission(self, inputs: Props) -> dict[str, Any]:
        said = {"Description": inputs.get("description", "")}
        made: dict[str, Any] = {self.names[key]: inputs[key] for key in ("ipProtocol", "fromPort", "toPort")}
        if inputs.get("cidrIpv4"):
            return {**made, "IpRanges": [{"CidrIp": inputs["cidrIpv4"], **said}]}
        if inputs.get("cidrIpv6"):
            return {**made, "Ipv6Ranges": [{"CidrIpv6": inputs["cidrIpv6"], **said}]}
        return {**made, "UserIdGroupPairs": [{"GroupId": inputs["referencedSecurityGroupId"], **said}]}

    def seen(self, call: Call, real: Props) -> Props:
        """Return the rule as it is."""
        found = {key: real[name] for key, name in self.names.items() if name in real}
        other = real.get("ReferencedGroupInfo", {}).get("GroupId")
        return {**found, **({"referencedSecurityGroupId": other} if other else {})}

    def change(self, call: Call) -> Props:
        """Change it."""
        if any(changed(call, key) for key in (*self.names, "referencedSecurityGroupId")):
            rule = {self.names[key]: value for key, value in call.inputs.items() if key in self.names}
            if call.inputs.get("referencedSecurityGroupId"):
                rule["ReferencedGroupId"] = call.inputs["referencedSecurityGroupId"]
            ec2(call).modify_security_group_rules(
                GroupId=call.inputs["securityGroupId"],
                SecurityGroupRules=[{"SecurityGroupRuleId": call.id, "SecurityGroupRule": rule}],
            )
        return {}

    def remove(self, call: Call) -> None:
        """Remove it."""
        revoke(call, call.id, inbound=self.inbound)


class Ingress(Rule):
    """A rule for what comes in."""

    token = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
    inbound = True


class Egress(Rule):
    """A rule for what goes out."""

    token = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
    inbound = False


KINDS: tuple[type[Kind], ...] = (Group, DefaultGroup, Ingress, Egress)
