"""What stands in the way of a launch on Azure is found before it, each fault with its remedy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.oracle.configs import KEY, case
from tests.oracle.told import Props
from tests.unit.test_oracle_azure import CLOUD, EVERYTHING
from vre import clouds
from vre.accounts import azure as account
from vre.accounts.azure import Facts, Size, judge, required
from vre.clouds.azure import REGIONS, SIZES
from vre.errors import Finding

TOKEN = "a-token-nobody-may-see-7731"
SECRET = "a-secret-nobody-may-see-4512"
STACK = case(
    {**EVERYTHING, "machines": {"control": {"size": "medium"}, "workers": {"count": 2, "size": "small"}}}
).config
SOUND = Facts(
    keys=(KEY,),
    allowed=((tuple(required()), ()),),
    regions=REGIONS,
    sizes={
        each.name: Size(family="standardDSv5Family", cpus=each.cpus, encrypts=True, trusted=True, open=True)
        for each in SIZES
    },
    quota={"standardDSv5Family": (0, 10), "cores": (2, 10)},
)


def findings(facts: Facts = SOUND, **more: Any) -> list[Finding]:
    return judge(STACK, replace(facts, **more))


def test_a_sound_account_is_no_finding() -> None:
    assert findings() == []


@pytest.mark.parametrize(
    ("more", "key", "words"),
    [
        ({"fault": "there are no credentials"}, "cloud.subscription", ("there are no credentials", "az login")),
        ({"regions": ("westeurope2",)}, "cloud.region", ("no region westeurope", "westeurope2")),
        ({"keys": ("ecdsa-sha2-nistp256 AAAA",)}, "access.keys", ("Ed25519", "ssh-keygen")),
        (
            {"unregistered": ("Microsoft.KeyVault",)},
            "cloud.subscription",
            ("Microsoft.KeyVault", "az provider register"),
        ),
        ({"encryption": False}, "cloud.subscription", ("encryption at host", "az feature register")),
        ({"image": False}, "cloud.image", ("no such image", "debian")),
        ({"allowed": ((("*/read",), ()),)}, "cloud.subscription", ("resourceGroups/write", "permissions.json")),
        ({"allowed": ((("*",), ("Microsoft.KeyVault/*",)),)}, "cloud.subscription", ("KeyVault", "permissions.json")),
        ({"quota": {"cores": (4, 10)}}, "machines.workers.count", ("8 processors of cores", "6 of 10 are left")),
        ({"quota": {"standardDSv5Family": (3, 10)}}, "machines.workers.count", ("standardDSv5Family", "7 of 10")),
    ],
)
def test_each_fault_is_found_with_its_remedy(more: Props, key: str, words: tuple[str, ...]) -> None:
    [found] = findings(**more)
    assert found.key == f"vre:{key}"
    assert all(word in str(found) for word in words), str(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, ("no size of this region", "size: {type: Standard_D")),
        ({"open": False}, ("may not use", "another region")),
        ({"encrypts": False}, ("encryption at host",)),
        ({"trusted": False}, ("trusted launch",)),
    ],
)
def test_a_size_that_does_not_serve_is_named(change: Props | None, words: tuple[str, ...]) -> None:
    name = "Standard_D4s_v5"
    changed = {name: replace(SOUND.sizes[name], **change)} if change else {}
    [found] = findings(sizes={**{key: each for key, each in SOUND.sizes.items() if key != name}, **changed})
    assert found.key == "vre:machines.control.size"
    assert all(word in str(found) for word in words), str(found)


def test_machines_that_stand_need_no_more_room() -> None:
    standing = frozenset({"vre-oracle-control", "vre-oracle-worker-1", "vre-oracle-worker-2"})
    assert findings(quota={"cores": (10, 10)}, standing=standing) == []


def test_a_network_that_holds_an_address_of_azures_own_is_refused() -> None:
    cloud = {**CLOUD, "network": "168.63.0.0/16"}
    [found] = judge(case({**EVERYTHING, "cloud": cloud}).config, SOUND)
    assert found.key == "vre:cloud.network"


OWN = f"/subscriptions/{CLOUD['subscription']}/resourceGroups/i/providers/Microsoft.Compute"


def test_a_managed_image_is_refused_since_trusted_launch_takes_none() -> None:
    managed = case({**EVERYTHING, "cloud": {**CLOUD, "image": f"{OWN}/images/own"}}).config
    for found in (judge(managed, SOUND), clouds.faults(managed)):
        assert [each.key for each in found] == ["vre:cloud.image"]
        assert "gallery" in found[0].reason
        assert "/galleries/GALLERY/images/" in found[0].example
    gallery = case({**EVERYTHING, "cloud": {**CLOUD, "image": f"{OWN}/galleries/g/images/own/versions/1.0.0"}}).config
    assert (judge(gallery, replace(SOUND, quota={})), clouds.faults(gallery)) == ([], [])


PAGES: dict[str, Any] = {
    "": {"state": "Enabled"},
    "/locations": {"value": [{"name": "westeurope"}], "nextLink": "https://management.azure.com/more"},
    "/providers/Microsoft.Authorization/permissions": {"value": [{"actions": ["*"], "notActions": []}]},
    "/providers/Microsoft.Compute/skus": {"value": [
        {"name": "Standard_D4s_v5", "resourceType": "virtualMachines", "family": "standardDSv5Family",
         "capabilities": [{"name": "vCPUs", "value": "4"}, {"name": "EncryptionAtHostSupported", "value": "True"},
                          {"name": "HyperVGenerations", "value": "V1,V2"}], "restrictions": []},
        {"name": "Standard_D2ls_v5", "resourceType": "virtualMachines", "family": "standardDLSv5Family",
         "capabilities": [{"name": "vCPUs", "value": "2"}], "restrictions": [{"type": "Location"}]},
        {"name": "Premium_LRS", "resourceType": "disks"},
    ]},
    "/providers/Microsoft.Compute/locations/westeurope/usages": {"value": [
        {"name": {"value": "cores"}, "currentValue": 1, "limit": 10}]},
    "/providers": {"value": [{"namespace": "Microsoft.Compute", "registrationState": "Registered"}]},
    "/providers/Microsoft.Features/providers/Microsoft.Compute/features/EncryptionAtHost":
        {"properties": {"state": "NotRegistered"}},
    "/resourceGroups/vre-oracle/providers/Microsoft.Compute/virtualMachines":
        {"value": [{"name": "vre-oracle-control"}]},
}  # fmt: skip


def azure(request: httpx.Request) -> httpx.Response:
    if request.url.host == "login.microsoftonline.com":
        good = SECRET.encode() in request.content
        answer = {"access_token": TOKEN} if good else {"error_description": "AADSTS7000215: Invalid secret."}
        return httpx.Response(200 if good else 401, json=answer)
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    if request.url.path == "/more":
        return httpx.Response(200, json={"value": [{"name": "northeurope"}]})
    page = PAGES.get(request.url.path.removeprefix(f"/subscriptions/{CLOUD['subscription']}"))
    return httpx.Response(200, json=page) if page else httpx.Response(404, json={"error": {"code": "NotFound"}})


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ARM_TENANT_ID": "t", "ARM_CLIENT_ID": "c", "ARM_CLIENT_SECRET": SECRET}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("credentials")
def test_what_azure_says_is_read() -> None:
    facts = account.probe(STACK, httpx.MockTransport(azure))
    assert facts.fault == ""
    assert facts.regions == ("westeurope", "northeurope")
    assert facts.sizes["Standard_D4s_v5"] == Size(
        family="standardDSv5Family", cpus=4, encrypts=True, trusted=True, open=True
    )
    assert facts.sizes["Standard_D2ls_v5"].open is False
    assert set(facts.sizes) == {"Standard_D4s_v5", "Standard_D2ls_v5"}
    assert facts.quota == {"cores": (1, 10)}
    assert facts.unregistered == ("Microsoft.KeyVault", "Microsoft.Network")
    assert (facts.encryption, facts.image) == (False, False)
    assert facts.standing == {"vre-oracle-control"}
    assert TOKEN not in repr(facts)


@pytest.mark.usefixtures("credentials")
def test_refused_credentials_are_told_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARM_CLIENT_SECRET", "wrong-secret-9921")
    facts = account.probe(STACK, httpx.MockTransport(azure))
    assert "AADSTS7000215" in facts.fault
    assert "wrong-secret-9921" not in " ".join(map(str, judge(STACK, facts)))


@pytest.mark.usefixtures("credentials")
def test_another_host_is_never_shown_the_token() -> None:
    def elsewhere(request: httpx.Request) -> httpx.Response:
        assert request.url.host in {"login.microsoftonline.com", "management.azure.com"}
        if request.url.path.endswith("/locations"):
            return httpx.Response(200, json={"value": [], "nextLink": "https://example.org/more"})
        return azure(request)

    assert "another host" in account.probe(STACK, httpx.MockTransport(elsewhere)).fault


def test_nobody_logged_in_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ARM_CLIENT_ID", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no credentials" in account.probe(STACK, httpx.MockTransport(azure)).fault
