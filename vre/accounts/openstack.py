"""OpenStack: login, region, network outside, image, flavours, encryption and room; looked at apart from judging."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vre import clouds
from vre.cloud import DEBIAN, OpenStack
from vre.clouds.openstack import DEBIAN_NAME, NAMED_BY_ID
from vre.clouds.rented import Type, flows, meant, nearest
from vre.config import Config
from vre.errors import Finding
from vre.inventory import Machine, Plan
from vre.plan import plan

PAGE = "docs/clouds/openstack.md"
SERVICES = ("compute", "network", "image", "block-storage")
BLOCK_STORAGE = {"block-storage", "block-store", "volume", "volumev3"}
"""What catalogues call it (https://service-types.openstack.org)."""
UNLIMITED = -1


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that can be used; `disk` is the least size of a disk in GiB, `bits` what processor it is for."""

    id: str
    name: str
    public: bool
    disk: int = 0
    architecture: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found. `left` is what the quotas leave, by the quota's name; what is not in it was not told.

    `types` are the volume types, each with whether it encrypts (None: only administrators are told). `machines` and
    `network` are what stands of the stack, `bare` its disks that are not encrypted.
    """

    fault: str = ""
    regions: tuple[str, ...] = ()
    services: tuple[str, ...] = SERVICES
    outside: tuple[str, ...] = ()
    images: tuple[Image, ...] = ()
    flavors: tuple[Type, ...] = ()
    types: Mapping[str, bool | None] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    machines: frozenset[str] = frozenset()
    network: bool = False
    bare: tuple[str, ...] = ()


def judge(config: Config, facts: Facts) -> list[Finding]:
    """Return everything that stands in the way of a launch. Pure."""
    cloud = _cloud(config)
    if facts.fault:
        return [_finding("cloud.provider", facts.fault, f"export OS_CLOUD=NAME ({PAGE})")]
    if cloud.region not in facts.regions:
        return [_unknown("cloud.region", "region", cloud.region, facts.regions)]
    lacking = [each for each in SERVICES if each not in facts.services]
    if lacking:
        reason = f"{cloud.region} has no {', no '.join(lacking)} service that this login may use"
        return [_finding("cloud.region", reason, "another region or project")]
    return [
        *_outside(cloud, facts),
        *_image(config, cloud, facts),
        *_sizes(config, facts),
        *_encryption(cloud, facts),
        *_room(config, facts),
    ]


def _outside(cloud: OpenStack, facts: Facts) -> Iterator[Finding]:
    if cloud.external_network not in facts.outside:
        yield _unknown("cloud.external-network", "network that leads outside", cloud.external_network, facts.outside)


def _image(config: Config, cloud: OpenStack, facts: Facts) -> Iterator[Finding]:
    found = [each for each in facts.images if _is_wanted(cloud.image, each)]
    if not found and cloud.image == DEBIAN:
        others = ", ".join(sorted(each.name for each in facts.images if "debian" in each.name.lower())[:5])
        reason = f"no public image is named as Debian 13; with Debian in their names are: {others or 'none'}"
        yield _finding("cloud.image", reason, "image: the name or id of one of Debian 13")
    elif not found:
        yield _unknown("cloud.image", "image", cloud.image, [each.name for each in facts.images])
    for each in found:
        if each.architecture not in ("", "x86_64"):
            yield _finding("cloud.image", f"{each.name} is for {each.architecture}", "image: one for x86_64")
        yield from _small(config, each)


def _small(config: Config, image: Image) -> Iterator[Finding]:
    for group, disk in (("control", config.machines.control.disk), ("workers", config.machines.workers.disk)):
        if image.disk > disk and (group == "control" or config.machines.workers.count):
            reason = f"{image.name} needs a disk of {image.disk} GiB, not {disk}"
            yield _finding(f"machines.{group}.disk", reason, f"disk: {image.disk}")


def _is_wanted(wanted: str, image: Image) -> bool:
    if wanted == DEBIAN:
        return image.public and re.match(DEBIAN_NAME, image.name) is not None
    return wanted == (image.id if NAMED_BY_ID.fullmatch(wanted) else image.name)


def _sizes(config: Config, facts: Facts) -> Iterator[Finding]:
    stack = plan(config)
    for group, machines in (("control", (stack.control,)), ("workers", stack.workers[:1])):
        for machine in machines:
            reason, example = _size(machine, facts.flavors)
            if reason:
                yield _finding(f"machines.{group}.size", reason, example)


def _size(machine: Machine, flavors: Sequence[Type]) -> tuple[str, str]:
    """Return why a machine's size cannot be had, and what to write instead; nothing where it can."""
    if machine.native:
        return _named(machine.native, [each.name for each in flavors])
    numbers = f"{machine.cpus} processors and {machine.memory / 1024:g} GiB"
    just = [each.name for each in flavors if (each.cpus, each.memory * 1024) == (machine.cpus, machine.memory)]
    if len(just) == 1:
        return "", ""
    if just:
        return f"several flavours have {numbers}: {', '.join(sorted(just))}", f"size: {{type: {min(just)}}}"
    best = min(_large_enough(machine, flavors), key=lambda each: (each.memory, each.cpus, each.name), default=None)
    if best is None:
        return f"no flavour has {numbers} or more", "size: {cpus: 2, memory: 4}"
    return (
        f"no flavour has just {numbers}; the smallest that holds it has {best.cpus} and {best.memory:g}",
        f"size: {{type: {best.name}}}",
    )


def _named(name: str, names: Sequence[str]) -> tuple[str, str]:
    if name in names:
        return "", ""
    return f"no flavour {name}{meant(name, names)}", f"size: {{type: {nearest(name, names)}}}"


def _large_enough(machine: Machine, flavors: Sequence[Type]) -> list[Type]:
    return [each for each in flavors if each.cpus >= machine.cpus and each.memory * 1024 >= machine.memory]


def _encryption(cloud: OpenStack, facts: Facts) -> Iterator[Finding]:
    wanted = cloud.volume_type
    if not wanted:
        return
    if wanted not in facts.types:
        yield _unknown("cloud.volume-type", "volume type", wanted, facts.types)
    elif facts.types[wanted] is False:
        others = [name for name, encrypts in facts.types.items() if encrypts]
        remedy = f"volume-type: {others[0]}" if others else "ask the cloud's operator for a type that encrypts (LUKS)"
        yield _finding("cloud.volume-type", f"disks of type {wanted} are not encrypted", remedy)
    for name in facts.bare:
        reason = f"disk {name} is not encrypted, although type {wanted} was asked for"
        yield _finding("cloud.volume-type", reason, "another type; save the data, destroy the VRE and launch it anew")


def _room(config: Config, facts: Facts) -> Iterator[Finding]:
    for quota, wanted in needed(config, facts).items():
        left = facts.left.get(quota, UNLIMITED)
        if left != UNLIMITED and wanted > left:
            word = quota.replace("_", " ")
            reason = f"the quota leaves {left} {word}, {wanted} are needed"
            yield _finding("cloud.provider", reason, f"ask the cloud's operator for a higher quota of {word}")


def needed(config: Config, facts: Facts) -> dict[str, int]:
    """Return what a launch takes of each quota, beyond what stands. GiB of disk, MiB of memory."""
    stack = plan(config)
    coming = [each for each in stack.machines if each.name not in facts.machines]
    control = any(each == stack.control for each in coming)
    sizes = [_flavor(each, facts.flavors) for each in coming]
    made = {
        "instances": len(coming),
        "cores": sum(each.cpus for each in sizes),
        "ram": sum(round(each.memory * 1024) for each in sizes),
        "volumes": 2 * len(coming),
        "gigabytes": sum(each.disk + each.data for each in coming),
        "port": len(coming),
        "floatingip": int(control),
    }
    whole = {"network": 1, "subnet": 2, "router": 1, "security_group": len(stack.roles) + 1,
             "security_group_rule": _rules(config, stack)}  # fmt: skip
    # The router's own ports count, too.
    return made if facts.network else {**made, **whole, "port": made["port"] + 1}


def _flavor(machine: Machine, flavors: Sequence[Type]) -> Type:
    asked = Type(name="", cpus=machine.cpus, memory=machine.memory / 1024)
    return next((each for each in flavors if each.name == machine.native), asked)


def _rules(config: Config, stack: Plan) -> int:
    policy = clouds.policy(config)
    every = [flow for role in stack.roles for flow in flows(policy, role)]
    return sum(1 if flow.network else 2 for flow in every)


def _unknown(key: str, kind: str, wanted: str, known: Mapping[str, Any] | Sequence[str]) -> Finding:
    there = sorted(known)
    near = nearest(wanted, there) if there else "ask the operator of the cloud"
    reason = f"there is no {kind} {wanted}{meant(wanted, there)}"
    return _finding(key, reason, f"{key.rpartition('.')[2]}: {near}")


def _finding(key: str, reason: str, example: str) -> Finding:
    return Finding(key=f"vre:{key}", reason=reason, example=example)


def probe(config: Config) -> Facts:
    """Look, logged in by the environment or clouds.yaml as the launch will be. Nothing is made."""
    import openstack
    from keystoneauth1.exceptions import ClientException
    from openstack.exceptions import SDKException

    cloud = _cloud(config)
    try:
        connection = openstack.connect(region_name=cloud.region)
        found = catalogue(connection)
        regions = tuple(sorted({region for _, region in found}))
        here = tuple(each for each in SERVICES if (each, cloud.region) in found)
        if here != SERVICES:
            return Facts(regions=regions, services=here)
        return _look(connection, config, regions)
    except (SDKException, ClientException) as error:
        return Facts(fault=" ".join(str(error).split()))


def catalogue(connection: Any) -> set[tuple[str, str]]:
    """Return every service, by its usual name, with each region that it is in."""
    access = connection.session.auth.get_access(connection.session)
    entries = access.service_catalog.catalog
    return {(_usual(str(each["type"])), str(end["region_id"])) for each in entries for end in each["endpoints"]}


def _usual(kind: str) -> str:
    return "block-storage" if kind in BLOCK_STORAGE else kind


def _look(connection: Any, config: Config, regions: tuple[str, ...]) -> Facts:
    name = config.name
    own = [each for each in connection.block_storage.volumes() if (each.metadata or {}).get("vre") == name]
    servers = [each for each in connection.compute.servers() if (each.metadata or {}).get("vre") == name]
    return Facts(
        regions=regions,
        outside=tuple(str(each.name) for each in connection.network.networks(is_router_external=True)),
        images=tuple(_described(each) for each in connection.image.images(status="active")),
        flavors=tuple(
            Type(name=str(each.name), cpus=int(each.vcpus), memory=each.ram / 1024)
            for each in connection.compute.flavors()
        ),
        types=_types(connection, _cloud(config).volume_type),
        left=_left(connection),
        machines=frozenset(str(each.name).removeprefix("vre-") for each in servers),
        network=any(connection.network.networks(name=f"vre-{name}", tags=f"vre={name}")),
        bare=tuple(sorted(str(each.name) for each in own if not each.is_encrypted)),
    )


def _described(image: Any) -> Image:
    return Image(
        id=str(image.id),
        name=str(image.name),
        public=image.visibility == "public",
        disk=int(image.min_disk or 0),
        architecture=str(image.architecture or ""),
    )


def _types(connection: Any, wanted: str) -> dict[str, bool | None]:
    """Return the volume types; whether the one that is wanted encrypts, where this login is told."""
    from openstack.exceptions import ForbiddenException, NotFoundException

    found: dict[str, bool | None] = {}
    for each in connection.block_storage.types():
        found[str(each.name)] = None
        if each.name == wanted:
            try:
                found[wanted] = bool(connection.block_storage.get_type_encryption(each).provider)
            except NotFoundException:
                found[wanted] = False
            except ForbiddenException:
                continue
    return found


def _left(connection: Any) -> dict[str, int]:
    """Return what the quotas leave; those that this login may not see are left out."""
    from openstack.exceptions import ForbiddenException, NotFoundException

    compute = connection.compute.get_limits().absolute
    storage = connection.block_storage.get_limits().absolute
    pairs = {
        "instances": (compute.instances, compute.instances_used),
        "cores": (compute.total_cores, compute.total_cores_used),
        "ram": (compute.total_ram, compute.total_ram_used),
        "volumes": (storage.max_total_volumes, storage.total_volumes_used),
        "gigabytes": (storage.max_total_volume_gigabytes, storage.total_gigabytes_used),
    }
    try:
        network = connection.network.get_quota(connection.current_project_id, details=True).to_dict()
    except (ForbiddenException, NotFoundException):
        network = {}
    pairs |= {
        name: (each["limit"], each["used"] + each["reserved"])
        for name, each in network.items()
        if isinstance(each, Mapping) and each.keys() >= {"limit", "used", "reserved"}
    }
    return {name: _rest(*pair) for name, pair in pairs.items() if None not in pair}


def _rest(limit: int, used: int) -> int:
    return UNLIMITED if limit < 0 else max(0, limit - used)


def _cloud(config: Config) -> OpenStack:
    if not isinstance(config.cloud, OpenStack):
        raise TypeError(f"not an OpenStack stack: {config.cloud.provider}")
    return config.cloud
