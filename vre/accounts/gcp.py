"""Google Cloud: login, project, APIs, permissions, region, image, sizes and room; looked at apart from judging."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vre import yamltext
from vre.cloud import DEBIAN, Gcp
from vre.clouds.gcp import DEBIAN_IMAGE, REGIONS, SCSI_FAMILIES, SIZES, SMALLEST_DISK, refusals, rules, size, zone
from vre.clouds.rented import meant, nearest, unknown_region
from vre.clouds.site import Disk, Order
from vre.config import Config
from vre.errors import Finding, VreError
from vre.inventory import Machine, Plan
from vre.paths import project
from vre.plan import plan
from vre.policy import Policy

PAGE = "docs/clouds/gcp.md"
APIS = ("cloudkms.googleapis.com", "cloudresourcemanager.googleapis.com", "compute.googleapis.com")
COMPUTE = "https://compute.googleapis.com/compute/v1/projects"
PROJECTS = "https://cloudresourcemanager.googleapis.com/v1/projects"
SERVICES = "https://serviceusage.googleapis.com/v1/projects"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
PATIENCE = 30  # seconds for one answer
AT_ONCE = 100  # permissions that may be asked about in one call
SHARED_PROCESSORS = ("e2", "n1")
"""Families that have no quota of their own, but the one for processors."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image; `disk` is the least size of a disk in GiB."""

    name: str
    disk: int
    architecture: str = "X86_64"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found. `left` is what the quotas leave, by Google's names; what is not in it was not told.

    `machines` and `network` are what stands of the stack.
    """

    fault: str = ""
    project: bool = True
    disabled: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    zones: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    types: frozenset[str] = frozenset()
    image: Image | None = None
    left: Mapping[str, float] = field(default_factory=dict)
    machines: frozenset[str] = frozenset()
    network: bool = False


def judge(config: Config, facts: Facts) -> list[Finding]:
    """Return everything that stands in the way of a launch. Pure."""
    cloud = _cloud(config)
    if facts.fault:
        return [_finding("cloud.provider", facts.fault, f"gcloud auth application-default login ({PAGE})")]
    if not facts.project:
        reason = f"there is no project {cloud.project}, or this login may not see it"
        return [_finding("cloud.project", reason, "project: one of `gcloud projects list`")]
    if facts.disabled:
        enable = f"gcloud services enable {' '.join(facts.disabled)} --project {cloud.project}"
        return [_finding("cloud.project", f"{', '.join(facts.disabled)} switched off", enable)]
    placed = list(_place(cloud, facts))
    here = [] if placed else [*_image(config, cloud, facts), *_sizes(config, facts), *_room(config, facts)]
    return [*_permissions(cloud, facts), *placed, *here]


def _permissions(cloud: Gcp, facts: Facts) -> Iterator[Finding]:
    if facts.lacking:
        shown = ", ".join(facts.lacking[:5]) + (f" and {len(facts.lacking) - 5} more" * (len(facts.lacking) > 5))
        yield _finding("cloud.project", f"this login lacks {shown} in {cloud.project}", f"the role in {PAGE}")


def _place(cloud: Gcp, facts: Facts) -> Iterator[Finding]:
    if cloud.region not in facts.zones:
        yield unknown_region("Google", cloud.region, tuple(facts.zones) or REGIONS)
    elif zone(cloud) not in facts.zones[cloud.region]:
        there = ", ".join(facts.zones[cloud.region])
        reason = f"{cloud.region} has no zone {zone(cloud)}; there are: {there}"
        yield _finding("cloud.zone", reason, f"zone: {nearest(zone(cloud), facts.zones[cloud.region])}")


def _image(config: Config, cloud: Gcp, facts: Facts) -> Iterator[Finding]:
    if facts.image is None:
        wanted = DEBIAN_IMAGE if cloud.image == DEBIAN else cloud.image
        yield _finding("cloud.image", f"there is no image {wanted}, or this login may not use it", "image: debian")
        return
    if facts.image.architecture != "X86_64":
        yield _finding("cloud.image", f"{facts.image.name} is for {facts.image.architecture}", "image: debian")
    for group, disk in (("control", config.machines.control.disk), ("workers", config.machines.workers.disk)):
        if facts.image.disk > max(disk, SMALLEST_DISK) and (group == "control" or config.machines.workers.count):
            reason = f"{facts.image.name} needs a disk of {facts.image.disk} GiB, not {disk}"
            yield _finding(f"machines.{group}.disk", reason, f"disk: {facts.image.disk}")


def _sizes(config: Config, facts: Facts) -> Iterator[Finding]:
    stack = plan(config)
    for group, machines in (("control", (stack.control,)), ("workers", stack.workers[:1])):
        for each in machines:
            reason, example = _size(each, facts)
            if reason:
                yield _finding(f"machines.{group}.size", reason, example)


def _size(machine: Machine, facts: Facts) -> tuple[str, str]:
    """Return why a machine's size cannot be had, and what to write instead; nothing where it can."""
    try:
        name = size(machine)
    except VreError as error:
        return error.message, error.hint
    if name in facts.types:
        return "", ""
    usable = [each for each in facts.types if each.split("-")[0] in SCSI_FAMILIES]
    return f"the zone has no type {name}{meant(name, usable)}", f"size: {{type: {nearest(name, usable)}}}"


def _room(config: Config, facts: Facts) -> Iterator[Finding]:
    for quota, wanted in needed(config, facts).items():
        left = facts.left.get(quota)
        if left is not None and wanted > left:
            reason = f"the quota {quota} leaves {left:g}, {wanted} are needed"
            yield _finding(
                "cloud.region", reason, f"ask for more: https://console.cloud.google.com/iam-admin/quotas ({PAGE})"
            )


def needed(config: Config, facts: Facts) -> dict[str, int]:
    """Return what a launch takes of each quota, beyond what stands. GiB of disk."""
    stack = plan(config)
    coming = [each for each in stack.machines if each.name not in facts.machines]
    made = {
        "INSTANCES": len(coming),
        "SSD_TOTAL_GB": sum(max(disk, SMALLEST_DISK) for each in coming for disk in (each.disk, each.data)),
        "STATIC_ADDRESSES": int(stack.control in coming),
        "IN_USE_ADDRESSES": int(stack.control in coming),
        **_processors(coming),
    }
    return made if facts.network else {**made, **_network(config, stack)}


def _processors(coming: Iterable[Machine]) -> dict[str, int]:
    made: dict[str, int] = {}
    for each in coming:
        try:
            name = size(each)
        except VreError:
            continue
        family = name.split("-")[0]
        cpus = next((known.cpus for known in SIZES if known.name == name), 0)
        own = "CPUS" if family in SHARED_PROCESSORS else f"{family.upper()}_CPUS"
        for quota in (own, "CPUS_ALL_REGIONS"):
            made[quota] = made.get(quota, 0) + cpus
    return made


def _network(config: Config, stack: Plan) -> dict[str, int]:
    from vre import clouds

    policy: Policy = clouds.policy(config)
    order = Order(config=config, plan=stack, policy=policy, image=Disk(path="", id=""))
    firewalls = len(refusals(config.name)) + sum(len(rules(order, role)) for role in stack.roles)
    return {"NETWORKS": 1, "SUBNETWORKS": 1, "ROUTERS": int(bool(stack.workers)), "FIREWALLS": firewalls}


def _finding(key: str, reason: str, example: str) -> Finding:
    return Finding(key=f"vre:{key}", reason=reason, example=example)


def permissions() -> tuple[str, ...]:
    """Return what a launch calls: the least role, as the page about this cloud gives it."""
    role = yamltext.load((project() / "docs" / "clouds" / "gcp-permissions.yaml").read_text())
    return tuple(role["includedPermissions"])


def probe(config: Config) -> Facts:
    """Look, logged in by the environment as the launch will be. Nothing is made."""
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    cloud = _cloud(config)
    try:
        return look(Google(session(os.environ)), config, cloud)
    except (GoogleAuthError, RequestException, ValueError) as error:
        return Facts(fault=" ".join(str(error).split()))


class Google:
    """Google's REST interfaces, for questions only."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def ask(self, url: str, **more: Any) -> dict[str, Any] | None:
        """Return an answer; None when there is no such thing or it may not be seen. Raises RequestException."""
        method = "POST" if "json" in more else "GET"
        answer = self.session.request(method, url, timeout=PATIENCE, **more)
        if answer.status_code in (403, 404):
            return None
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


def look(google: Google, config: Config, cloud: Gcp) -> Facts:
    """Ask everything, in the order in which it can be known."""
    if google.ask(f"{PROJECTS}/{cloud.project}") is None:
        return Facts(project=False)
    disabled = _disabled(google, cloud)
    if disabled:
        return Facts(disabled=disabled)
    regions = google.ask(f"{COMPUTE}/{cloud.project}/regions") or {}
    items = {str(each["name"]): each for each in regions.get("items", ())}
    whole = google.ask(f"{COMPUTE}/{cloud.project}") or {}
    here = items.get(cloud.region, {})
    zones = {name: tuple(url.rpartition("/")[2] for url in each.get("zones", ())) for name, each in items.items()}
    standing = _list(google, cloud, "instances", {"filter": f"labels.vre={config.name}"})
    network = google.ask(f"{COMPUTE}/{cloud.project}/global/networks/vre-{config.name}")
    return Facts(
        lacking=_lacking(google, cloud),
        zones=zones,
        types=frozenset(_list(google, cloud, "machineTypes", {"maxResults": 500})),
        image=_described(google, cloud),
        left={
            each["metric"]: each["limit"] - each["usage"] for part in (whole, here) for each in part.get("quotas", ())
        },
        machines=frozenset(name.removeprefix("vre-") for name in standing),
        network=network is not None,
    )


def _disabled(google: Google, cloud: Gcp) -> tuple[str, ...]:
    names = [f"projects/{cloud.project}/services/{each}" for each in APIS]
    found = google.ask(f"{SERVICES}/{cloud.project}/services:batchGet", params={"names": names})
    if found is None:
        return ()
    on = {str(each["name"]).rpartition("/")[2] for each in found.get("services", ()) if each.get("state") == "ENABLED"}
    return tuple(each for each in APIS if each not in on)


def _lacking(google: Google, cloud: Gcp) -> tuple[str, ...]:
    wanted = permissions()
    granted: set[str] = set()
    for first in range(0, len(wanted), AT_ONCE):
        part = {"permissions": wanted[first : first + AT_ONCE]}
        found = google.ask(f"{PROJECTS}/{cloud.project}:testIamPermissions", json=part) or {}
        granted.update(found.get("permissions", ()))
    return tuple(each for each in wanted if each not in granted)


def _list(google: Google, cloud: Gcp, kind: str, params: Mapping[str, Any]) -> list[str]:
    """Return the names of all things of a kind in the zone."""
    names: list[str] = []
    page = ""
    while True:
        more = {**params, **({"pageToken": page} if page else {})}
        found = google.ask(f"{COMPUTE}/{cloud.project}/zones/{zone(cloud)}/{kind}", params=more) or {}
        names += [str(each["name"]) for each in found.get("items", ())]
        page = str(found.get("nextPageToken", ""))
        if not page:
            return names


def _described(google: Google, cloud: Gcp) -> Image | None:
    path = DEBIAN_IMAGE if cloud.image == DEBIAN else cloud.image
    full = path if path.startswith("projects/") else f"projects/{cloud.project}/global/images/{path}"
    found = google.ask(f"{COMPUTE.removesuffix('projects')}{full}")
    if found is None:
        return None
    return Image(
        name=str(found["name"]), disk=int(found["diskSizeGb"]), architecture=str(found.get("architecture", "X86_64"))
    )


def session(environment: Mapping[str, str]) -> Any:
    """Return an HTTP session that is logged in as the engine's plugin will be. Raises GoogleAuthError, ValueError."""
    import google.auth
    from google.auth.transport.requests import AuthorizedSession
    from google.oauth2.credentials import Credentials

    given, token = environment.get("GOOGLE_CREDENTIALS", ""), environment.get("GOOGLE_OAUTH_ACCESS_TOKEN", "")
    if token:
        found: Any = Credentials(token)  # type: ignore[no-untyped-call]
    elif given.lstrip().startswith("{"):
        found, _ = google.auth.load_credentials_from_dict(json.loads(given), scopes=[SCOPE])  # type: ignore[no-untyped-call]
    elif given:
        found, _ = google.auth.load_credentials_from_file(given, scopes=[SCOPE])  # type: ignore[no-untyped-call]
    else:
        found, _ = google.auth.default(scopes=[SCOPE])
    return AuthorizedSession(found)  # type: ignore[no-untyped-call]


def _cloud(config: Config) -> Gcp:
    if not isinstance(config.cloud, Gcp):
        raise TypeError(f"not a Google Cloud stack: {config.cloud.provider}")
    return config.cloud
