"""The AWS account: credentials, permissions, region, zone, sizes, quotas; looked at (`probe`) apart from judging."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import boto3
from botocore.config import Config as Patience
from botocore.exceptions import BotoCoreError, ClientError

from vre import clouds
from vre.cloud import DEBIAN, Aws
from vre.clouds.aws import DEBIAN_NAME, DEBIAN_OWNER, SIZES, faults
from vre.clouds.rented import flows, meant, native, nearest, size_key
from vre.config import Config
from vre.errors import Finding
from vre.plan import plan

PAGE = "docs/clouds/aws.md"
PATIENCE = Patience(connect_timeout=10, read_timeout=30, retries={"max_attempts": 3})
NETWORKS, ADDRESSES, RULES = "networks (VPCs)", "public addresses (Elastic IPs)", "rules of a security group"
QUOTAS = {NETWORKS: ("vpc", "L-F678F1CE"), ADDRESSES: ("ec2", "L-0263D0A3"), RULES: ("vpc", "L-0EA8095F")}
MOST_RULES = 60
"""Of each direction and family, where the quota is not told."""
PROCESSORS = {
    "standard": "L-1216C47A", "dl": "L-6E869C2A", "f": "L-74FC7D96", "g": "L-DB2E81BA", "inf": "L-1945791B",
    "p": "L-417A185B", "trn": "L-2C3B7624", "u": "L-43DA4232", "vt": "L-DB2E81BA", "x": "L-7295265B",
}  # fmt: skip
"""Which quota the processors of a family count against (https://docs.aws.amazon.com/general/latest/gr/ec2-service.html)."""
TRIED: dict[str, tuple[str, dict[str, Any]]] = {
    "ec2:CreateVpc": ("create_vpc", {"CidrBlock": "10.77.0.0/16"}),
    "ec2:AllocateAddress": ("allocate_address", {"Domain": "vpc"}),
    "ec2:ImportKeyPair": ("import_key_pair", {"KeyName": "vre-check", "PublicKeyMaterial": b"ssh-ed25519 AAAA"}),
    "ec2:CreateInternetGateway": ("create_internet_gateway", {}),
}
"""What AWS is asked whether it would do; it does nothing of it."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """A size as the region has it."""

    cpus: int
    intel: bool
    nitro: bool


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found. `quota` is what is used and what is allowed; `standing` the stack's machines that are there.

    `offered` are the sizes of the zone, `denied` what these credentials may not do.
    """

    fault: str = ""
    enabled: bool = True
    zones: tuple[str, ...] = ()
    offered: frozenset[str] = frozenset()
    sizes: Mapping[str, Size] = field(default_factory=dict)
    image: str = "x86_64"
    denied: tuple[str, ...] = ()
    quota: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    standing: frozenset[str] = frozenset()
    network: bool = False


def probe(config: Config) -> Facts:
    """Look, with the credentials that the environment gives the launch, too. Nothing is made."""
    stack = plan(config)
    if list(faults(config, stack)):
        return Facts(fault="not looked at: what is wrong with the stack file comes first")
    try:
        return _look(config, boto3.session.Session(region_name=_cloud(config).region))
    except ClientError as error:
        return Facts(fault=_words(error))
    except BotoCoreError as error:
        return Facts(fault=f"no way to AWS: {error}")


def _words(error: ClientError) -> str:
    said = error.response.get("Error", {})
    return f"AWS refuses {error.operation_name}: {said.get('Code', '')}"


def _look(config: Config, session: Any) -> Facts:
    def service(name: str) -> Any:
        return session.client(name, config=PATIENCE)

    cloud = _cloud(config)
    service("sts").get_caller_identity()
    ec2 = service("ec2")
    regions = {each["RegionName"]: each for each in ec2.describe_regions(AllRegions=True)["Regions"]}
    if regions.get(cloud.region, {}).get("OptInStatus") == "not-opted-in":
        return Facts(enabled=False)
    zones = sorted(_zones(ec2))
    wanted = sorted({native(SIZES, machine) for machine in plan(config).machines})
    running = list(_running(ec2))
    owned = {"Name": "tag:vre", "Values": [config.name]}
    vpcs = ec2.describe_vpcs()["Vpcs"]
    used = {NETWORKS: len(vpcs), ADDRESSES: len(ec2.describe_addresses()["Addresses"])}
    for each in running:
        options = each.get("CpuOptions") or {}
        count = options.get("CoreCount", 1) * options.get("ThreadsPerCore", 2)
        used[family(each["InstanceType"])] = used.get(family(each["InstanceType"]), 0) + count
    return Facts(
        zones=tuple(zones),
        offered=frozenset(_offered(ec2, cloud.zone or zones[0])),
        sizes=_sizes(ec2, wanted),
        image=_architecture(ec2, cloud),
        denied=tuple(name for name, (method, words) in TRIED.items() if _denied(ec2, method, words)),
        quota=_quota(service("service-quotas"), used, {family(name) for name in wanted}),
        standing=frozenset(_names(each for each in running if _tag(each, "vre") == config.name)),
        network=bool(ec2.describe_vpcs(Filters=[owned])["Vpcs"]),
    )


def _zones(ec2: Any) -> Iterator[str]:
    wanted = [{"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]}]
    return (each["ZoneName"] for each in ec2.describe_availability_zones(Filters=wanted)["AvailabilityZones"])


def _running(ec2: Any) -> Iterator[Any]:
    wanted = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    for page in ec2.get_paginator("describe_instances").paginate(Filters=wanted):
        for group in page["Reservations"]:
            yield from group["Instances"]


def _tag(thing: Mapping[str, Any], key: str) -> str:
    return next((str(each["Value"]) for each in thing.get("Tags", ()) if each["Key"] == key), "")


def _names(things: Iterator[Any]) -> Iterator[str]:
    return (_tag(each, "Name") for each in things)


def _offered(ec2: Any, zone: str) -> Iterator[str]:
    pages = ec2.get_paginator("describe_instance_type_offerings")
    wanted = [{"Name": "location", "Values": [zone]}]
    for page in pages.paginate(LocationType="availability-zone", Filters=wanted):
        yield from (each["InstanceType"] for each in page["InstanceTypeOfferings"])


def _sizes(ec2: Any, wanted: list[str]) -> dict[str, Size]:
    """Return what the region knows of sizes; a filter, since one unknown name would spoil a plain question."""
    found = ec2.describe_instance_types(Filters=[{"Name": "instance-type", "Values": wanted}])["InstanceTypes"]
    return {
        each["InstanceType"]: Size(
            cpus=each["VCpuInfo"]["DefaultVCpus"],
            intel="x86_64" in each["ProcessorInfo"]["SupportedArchitectures"],
            nitro=each.get("Hypervisor") == "nitro",
        )
        for each in found
    }


def _architecture(ec2: Any, cloud: Aws) -> str:
    """Return the image's architecture, nothing where there is no such image."""
    named = {"Owners": [DEBIAN_OWNER], "Filters": [{"Name": "name", "Values": [DEBIAN_NAME]}]}
    try:
        found = ec2.describe_images(**(named if cloud.image == DEBIAN else {"ImageIds": [cloud.image]}))["Images"]
    except ClientError as error:
        if error.response["Error"]["Code"].startswith("InvalidAMIID"):
            return ""
        raise
    return str(found[0]["Architecture"]) if found else ""


def _denied(ec2: Any, method: str, words: Mapping[str, Any]) -> bool:
    try:
        getattr(ec2, method)(DryRun=True, **words)
    except ClientError as error:
        return bool(error.response["Error"]["Code"] == "UnauthorizedOperation")
    return False


def _quota(quotas: Any, used: Mapping[str, int], families: set[str]) -> dict[str, tuple[int, int]]:
    """Return use and limit of what a launch takes; nothing of what these credentials may not see."""
    wanted = {**QUOTAS, **{name: ("ec2", PROCESSORS[name]) for name in families}}
    found = {}
    for name, (service, code) in wanted.items():
        try:
            limit = quotas.get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"]
        except ClientError:
            continue
        found[name] = (used.get(name, 0), int(limit))
    return found


def family(size: str) -> str:
    """Return the family whose quota a size counts against: by the letters that its name begins with."""
    special = [name for name in PROCESSORS if name != "standard" and size.startswith(name)]
    return max(special, key=len, default="standard")


def judge(config: Config, facts: Facts) -> list[Finding]:
    """Return everything that stands in the way of a launch on AWS. Pure."""
    found = list(faults(config, plan(config)))
    if not found:
        found = list(_account(config, facts))
    return list(dict.fromkeys(found))


def _account(config: Config, facts: Facts) -> Iterator[Finding]:
    cloud = _cloud(config)
    if facts.fault:
        yield _finding("cloud.provider", facts.fault, f"aws sts get-caller-identity; {PAGE}")
        return
    if not facts.enabled:
        hint = f"aws account enable-region --region-name {cloud.region}"
        yield _finding("cloud.region", f"{cloud.region} is not enabled in this account", hint)
        return
    if cloud.zone and cloud.zone not in facts.zones:
        near = nearest(cloud.zone, facts.zones)
        yield _finding("cloud.zone", f"{cloud.region} has no zone {cloud.zone} for this account", f"zone: {near}")
    if facts.image != "x86_64":
        reason = f"the image is for {facts.image}" if facts.image else "there is no such image in this region"
        yield _finding("cloud.image", reason, "image: debian")
    if facts.denied:
        reason = f"these credentials may not do {', '.join(facts.denied)}"
        yield _finding("cloud.provider", reason, "docs/clouds/aws-permissions.json has the least that is needed")
    yield from _sizes_of(config, facts)
    yield from _room(config, facts)
    yield from _rules(config, facts)


def _sizes_of(config: Config, facts: Facts) -> Iterator[Finding]:
    for machine in plan(config).machines:
        name, key = native(SIZES, machine), size_key(machine)
        size = facts.sizes.get(name)
        if size is None:
            known = facts.offered | {each.name for each in SIZES}
            reason = f"AWS has no size {name} in this region{meant(name, known)}"
            yield _finding(key, reason, f"size: {{type: {nearest(name, known)}}}")
        elif not size.intel:
            yield _finding(key, f"{name} has an ARM processor; the images are for x86_64", "size: {type: m6i.xlarge}")
        elif not size.nitro:
            yield _finding(key, f"{name} is not on the Nitro hypervisor", "size: {type: m6i.xlarge}")
        elif name not in facts.offered:
            where = _cloud(config).zone or next(iter(facts.zones), "the first zone")
            others = ", ".join(zone for zone in facts.zones if zone != where)
            yield _finding(key, f"{name} is not offered in {where}", f"zone: one of {others}")


def _room(config: Config, facts: Facts) -> Iterator[Finding]:
    """Yield what would go beyond a quota. What stands already counts as used."""
    stack = plan(config)
    coming = [machine for machine in stack.machines if f"vre-{machine.name}" not in facts.standing]
    needed = {} if facts.network else {NETWORKS: 1, ADDRESSES: 2 if stack.workers else 1}
    for machine in coming:
        name = native(SIZES, machine)
        cpus = facts.sizes[name].cpus if name in facts.sizes else machine.cpus
        needed[family(name)] = needed.get(family(name), 0) + cpus
    for what, count in needed.items():
        used, limit = facts.quota.get(what, (0, count))
        if used + count > limit:
            named = what if what in QUOTAS else f"processors of {what} sizes"
            code = QUOTAS[what][1] if what in QUOTAS else PROCESSORS[what]
            reason = f"{count} {named} needed, {max(0, limit - used)} of {limit} left"
            key = "cloud.region" if what in QUOTAS else "machines.workers.count"
            yield _finding(
                key, reason, f"ask for more of quota {code} in Service Quotas, or take away what is not used"
            )


def _rules(config: Config, facts: Facts) -> Iterator[Finding]:
    """Yield where a security group would have more rules than it takes, counted by direction and family.

    A rule that names a group counts in both (https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html).
    """
    _, limit = facts.quota.get(RULES, (0, MOST_RULES))
    policy, roles = clouds.policy(config), plan(config).roles
    for role, inbound, version in product(sorted(roles), (True, False), (4, 6)):
        same = [flow for flow in flows(policy, role) if flow.inbound == inbound]
        count = sum(len(roles) if flow.network is None else flow.network.version == version for flow in same)
        if count > limit:
            key, way = ("access.operators", "into") if inbound else ("outbound.networks", "out of")
            reason = (
                f"{count} rules of IPv{version} lead {way} machines of the role {role}, a security group takes {limit}"
            )
            hint = f"fewer, wider networks, in edge.networks too; or ask for more of quota {QUOTAS[RULES][1]}"
            yield _finding(key, reason, hint)


def _finding(key: str, reason: str, example: str) -> Finding:
    return Finding(key=f"vre:{key}", reason=reason, example=example)


def _cloud(config: Config) -> Aws:
    if not isinstance(config.cloud, Aws):
        raise TypeError(f"not an AWS stack: {config.cloud.provider}")
    return config.cloud
