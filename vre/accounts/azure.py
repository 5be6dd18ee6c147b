"""The Azure subscription: credentials, permissions, region, sizes, quota; looked at (`probe`) apart from judging."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx

from vre.cloud import DEBIAN, Azure
from vre.clouds.azure import GALLERY, IMAGE, KEY_TYPES, REGIONS, SIZES, usable
from vre.clouds.rented import meant, native, nearest, unknown_region
from vre.config import Config
from vre.errors import Finding, VreError
from vre.inventory import Machine
from vre.paths import project
from vre.plan import plan

MANAGEMENT = "https://management.azure.com"
LOGIN = "https://login.microsoftonline.com"
TIMEOUT = 30.0
PAGE = "docs/clouds/azure.md"
NAMESPACES = ("Microsoft.Compute", "Microsoft.KeyVault", "Microsoft.Network")
RESERVED = tuple(
    map(ip_network, ("127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"))
)
"""What no network may hold (https://learn.microsoft.com/azure/virtual-network/virtual-networks-faq)."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """A size in the region: `family` is what its quota is counted by, `open` whether the subscription may use it."""

    family: str
    cpus: int
    encrypts: bool
    trusted: bool
    open: bool


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found. `quota` is what is used and what is allowed, of processors, by family; `cores` is all of them.

    `allowed` are actions and those taken out of them again, for each role that whoever launches has. `standing` are the
    names of the stack's machines that are there already.
    """

    fault: str = ""
    keys: tuple[str, ...] = ()
    allowed: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    regions: tuple[str, ...] = ()
    sizes: Mapping[str, Size] = field(default_factory=dict)
    quota: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    unregistered: tuple[str, ...] = ()
    encryption: bool = True
    image: bool = True
    standing: frozenset[str] = frozenset()


def probe(config: Config, transport: httpx.BaseTransport | None = None) -> Facts:
    """Look, with the credentials of the environment. Nothing is made."""
    from vre import access

    own = tuple(access.keys(config)) if not access.check(config) else ()
    try:
        with httpx.Client(timeout=TIMEOUT, transport=transport) as client:
            return _look(Api(client, _cloud(config).subscription, login(client)), config, own)
    except VreError as error:
        return Facts(fault=error.message, keys=own)
    except httpx.HTTPError as error:
        return Facts(fault=f"Azure does not answer: {type(error).__name__}", keys=own)


@dataclass(frozen=True)
class Api:
    """Azure Resource Manager below one subscription. The token is in nothing that is returned or raised."""

    client: httpx.Client
    subscription: str
    token: str

    def get(self, path: str, version: str, **query: str) -> Any:
        """Return an answer, or nothing where there is no such thing. Raises VreError for what is refused."""
        whole = path if path.startswith("/subscriptions/") else f"/subscriptions/{self.subscription}{path}"
        words = {"api-version": version, **{f"${key}": value for key, value in query.items()}}
        said = self._asked(MANAGEMENT + whole, words)
        if said.status_code == httpx.codes.NOT_FOUND:
            return None
        if said.is_error:
            raise VreError(f"Azure refuses to show {path or 'the subscription'}: {_words(said)}")
        return said.json()

    def delete(self, path: str, version: str) -> None:
        """Begin to delete something. Raises VreError for what is refused."""
        words = {"api-version": version}
        said = self.client.delete(MANAGEMENT + path, params=words, headers={"Authorization": f"Bearer {self.token}"})
        if said.is_error and said.status_code != httpx.codes.NOT_FOUND:
            raise VreError(f"Azure refuses to delete {path.rpartition('/')[2]}: {_words(said)}")

    def _asked(self, url: str, words: Mapping[str, str]) -> httpx.Response:
        if not url.startswith(f"{MANAGEMENT}/"):
            raise VreError("Azure leads to another host for the rest of a list")
        return self.client.get(url, params=dict(words) or None, headers={"Authorization": f"Bearer {self.token}"})

    def list(self, path: str, version: str, **query: str) -> list[Any]:
        """Return every item of a list."""
        page = self.get(path, version, **query) or {}
        items = list(page.get("value") or [])
        while page.get("nextLink"):
            page = self._asked(str(page["nextLink"]), {}).json()
            items += page.get("value") or []
        return items


def _words(said: httpx.Response) -> str:
    try:
        error = said.json()["error"]
        return f"{error['code']}: {error['message']}" if isinstance(error, dict) else str(error)
    except (ValueError, KeyError, TypeError):
        return f"status {said.status_code}"


def login(client: httpx.Client) -> str:
    """Return a token for whoever the environment says, in the ways of the provider. Raises VreError for nobody."""
    tenant, own = os.environ.get("ARM_TENANT_ID"), os.environ.get("ARM_CLIENT_ID")
    proof = _proof()
    if not (tenant and own and proof):
        return _logged_in()
    form = {"grant_type": "client_credentials", "client_id": own, "scope": f"{MANAGEMENT}/.default", **proof}
    said = client.post(f"{LOGIN}/{tenant}/oauth2/v2.0/token", data=form)
    if said.is_error:
        code = str(said.json().get("error_description", "")).split(":")[0] if said.content else ""
        raise VreError(f"the credentials ARM_CLIENT_ID, ARM_CLIENT_SECRET, ARM_TENANT_ID are refused ({code})")
    return str(said.json()["access_token"])


def _proof() -> dict[str, str]:
    """Return what shows who one is: a secret, or the token of whoever runs this job."""
    if secret := os.environ.get("ARM_CLIENT_SECRET"):
        return {"client_secret": secret}
    file = os.environ.get("ARM_OIDC_TOKEN_FILE_PATH")
    given = os.environ.get("ARM_OIDC_TOKEN") or (Path(file).read_text().strip() if file else "")
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    return {"client_assertion_type": kind, "client_assertion": given} if given else {}


def _logged_in() -> str:
    from vre.run import run

    try:
        command = ["az", "account", "get-access-token", "--resource", MANAGEMENT, "--output", "json"]
        return str(json.loads(run(command, timeout=60))["accessToken"])
    except VreError as error:
        raise VreError(
            "there are no credentials: ARM_CLIENT_ID is not set, and `az login` has not been done"
        ) from error


def _look(api: Api, config: Config, own: tuple[str, ...]) -> Facts:
    if api.get("", "2022-12-01") is None:
        return Facts(fault=f"there is no subscription {api.subscription} for these credentials", keys=own)
    cloud = _cloud(config)
    place = f"/providers/Microsoft.Compute/locations/{cloud.region}"
    regions = tuple(str(each["name"]) for each in api.list("/locations", "2022-12-01"))
    roles = api.list("/providers/Microsoft.Authorization/permissions", "2022-04-01")
    known, here = cloud.region in regions, f"location eq '{cloud.region}'"
    feature = api.get(
        "/providers/Microsoft.Features/providers/Microsoft.Compute/features/EncryptionAtHost", "2021-07-01"
    )
    group = f"/resourceGroups/vre-{config.name}/providers/Microsoft.Compute/virtualMachines"
    return Facts(
        keys=own,
        allowed=tuple((tuple(each["actions"]), tuple(each.get("notActions") or ())) for each in roles),
        regions=regions,
        sizes=_sizes(api.list("/providers/Microsoft.Compute/skus", "2021-07-01", filter=here)) if known else {},
        quota=_quota(api.list(f"{place}/usages", "2024-07-01")) if known else {},
        unregistered=tuple(_unregistered(api.list("/providers", "2021-04-01"))),
        encryption=bool(feature) and feature["properties"]["state"] == "Registered",
        image=_has_image(api, cloud, place) if known else True,
        standing=frozenset(str(each["name"]) for each in api.list(group, "2024-07-01")),
    )


def _sizes(told: Iterable[Any]) -> dict[str, Size]:
    made = {}
    for each in told:
        if each.get("resourceType") == "virtualMachines":
            able = {one["name"]: one["value"] for one in each.get("capabilities") or ()}
            made[str(each["name"])] = Size(
                family=str(each.get("family") or ""),
                cpus=int(able.get("vCPUs") or 0),
                encrypts=able.get("EncryptionAtHostSupported") == "True",
                trusted="V2" in able.get("HyperVGenerations", "") and able.get("TrustedLaunchDisabled") != "True",
                open=not any(one.get("type") == "Location" for one in each.get("restrictions") or ()),
            )
    return made


def _quota(told: Iterable[Any]) -> dict[str, tuple[int, int]]:
    return {str(each["name"]["value"]): (int(each["currentValue"]), int(each["limit"])) for each in told}


def _unregistered(told: Iterable[Any]) -> Iterator[str]:
    states = {str(each["namespace"]): each.get("registrationState") for each in told}
    return (name for name in NAMESPACES if states.get(name) != "Registered")


def _has_image(api: Api, cloud: Azure, place: str) -> bool:
    if not usable(cloud.image):
        return True  # what is wrong with it is told without asking
    if cloud.image != DEBIAN:
        return api.get(cloud.image, "2024-03-03") is not None
    path = f"{place}/publishers/{IMAGE['publisher']}/artifacttypes/vmimage/offers/{IMAGE['offer']}/skus/{IMAGE['sku']}"
    found = api.get(f"{path}/versions", "2024-07-01", top="1")
    return bool(found)


def judge(config: Config, facts: Facts) -> list[Finding]:
    """Return everything that stands in the way of a launch on Azure. Pure, but for the file of permissions."""
    found = [*_offline(config, facts)]
    if facts.fault:
        example = f"az login, or ARM_CLIENT_ID, ARM_CLIENT_SECRET and ARM_TENANT_ID: {PAGE}"
        return list(dict.fromkeys([*found, _finding("cloud.subscription", facts.fault, example)]))
    return list(dict.fromkeys([*found, *_account(facts), *_machines(config, facts)]))


def _offline(config: Config, facts: Facts) -> Iterator[Finding]:
    """Yield what needs no subscription to be seen."""
    cloud = _cloud(config)
    regions = facts.regions or REGIONS
    if cloud.region not in regions:
        yield unknown_region("Azure", cloud.region, regions)
    if not usable(cloud.image):
        yield _finding("cloud.image", "trusted launch starts from an image of a gallery only", f"image: {GALLERY}")
    for each in RESERVED:
        if ip_network(cloud.network).overlaps(each):
            yield _finding("cloud.network", f"{cloud.network} holds {each}, which is Azure's own", "10.77.0.0/16")
    if facts.keys and not any(key.startswith(KEY_TYPES) for key in facts.keys):
        yield _finding("access.keys", "Azure takes Ed25519 and RSA keys only", "one more: ssh-keygen -t ed25519")
    for machine in plan(config).machines:
        try:
            native(SIZES, machine)
        except VreError as error:
            yield _finding(_size_key(machine), error.message, error.hint)


def _account(facts: Facts) -> Iterator[Finding]:
    missing = [action for action in required() if not _may(action, facts.allowed)]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        reason = f"these credentials may not {', '.join(missing[:3])}{more}"
        yield _finding("cloud.subscription", reason, "the role in docs/clouds/azure-permissions.json")
    for name in facts.unregistered:
        reason = f"{name} is not registered in the subscription"
        yield _finding("cloud.subscription", reason, f"az provider register --wait --namespace {name}")
    if not facts.encryption:
        reason = "encryption at host is not switched on in the subscription"
        command = "az feature register --namespace Microsoft.Compute --name EncryptionAtHost"
        yield _finding("cloud.subscription", reason, command)
    if not facts.image:
        yield _finding("cloud.image", "there is no such image in this region", "image: debian")


def _machines(config: Config, facts: Facts) -> Iterator[Finding]:
    """Yield what is wrong with sizes, and with the room that is left for machines that do not stand yet."""
    wanted: dict[str, int] = {}
    for machine in plan(config).machines:
        name = _native(machine)
        size = facts.sizes.get(name)
        key = _size_key(machine)
        if not facts.sizes or not name:
            continue
        if size is None:
            reason = f"{name} is no size of this region{meant(name, facts.sizes)}"
            yield _finding(key, reason, f"size: {{type: {nearest(name, facts.sizes)}}}")
            continue
        if not size.open:
            yield _finding(key, f"the subscription may not use {name} in this region", "ask support, or another region")
        if not (size.encrypts and size.trusted):
            reason = f"{name} knows no {'trusted launch' if size.encrypts else 'encryption at host'}"
            yield _finding(key, reason, f"size: {{type: {SIZES[0].name}}}")
        if f"vre-{machine.name}" not in facts.standing:
            for family in (size.family, "cores"):
                wanted[family] = wanted.get(family, 0) + size.cpus
    for family, count in wanted.items():
        used, limit = facts.quota.get(family, (0, count))
        if used + count > limit:
            reason = f"{count} processors of {family} are needed, {limit - used} of {limit} are left"
            yield _finding("machines.workers.count", reason, "fewer, or ask for more: portal, Quotas")


def _native(machine: Machine) -> str:
    try:
        return native(SIZES, machine)
    except VreError:
        return ""


def _size_key(machine: Machine) -> str:
    return f"machines.{'control' if machine.role == 'control' else 'workers'}.size"


def required() -> list[str]:
    """Return every action that a launch needs, as the role in the docs names them."""
    return list(json.loads((project() / "docs" / "clouds" / "azure-permissions.json").read_text())["Actions"])


def _may(action: str, allowed: Iterable[tuple[tuple[str, ...], tuple[str, ...]]]) -> bool:
    """Say whether one of the roles allows an action. A star stands for anything; letters have no case."""

    def named(patterns: Iterable[str]) -> bool:
        return any(fnmatchcase(action.lower(), each.lower()) for each in patterns)

    return any(named(actions) and not named(taken) for actions, taken in allowed)


def _finding(key: str, reason: str, example: str) -> Finding:
    return Finding(key=f"vre:{key}", reason=reason, example=example)


def _cloud(config: Config) -> Azure:
    if not isinstance(config.cloud, Azure):
        raise TypeError(f"not an Azure stack: {config.cloud.provider}")
    return config.cloud
