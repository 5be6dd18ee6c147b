"""What stands on Azure with a stack's tags: by the shapes of the documented answers of its Resource Manager."""

from typing import Any

import httpx
import pytest

from tests.unit.test_accounts_azure import SECRET, STACK, TOKEN
from tests.unit.test_oracle_azure import CLOUD
from vre import orphans
from vre.errors import VreError
from vre.orphans import azure as reader
from vre.orphans.azure import Account

SUBSCRIPTION = f"/subscriptions/{CLOUD['subscription']}"
GROUP = f"{SUBSCRIPTION}/resourceGroups/vre-oracle"
TAGS = {"managed-by": "vre", "vre": "oracle"}


def item(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"id": f"{GROUP}/providers/{kind}/{name}", "name": name, "type": kind, "tags": TAGS, **more}


NETWORK = item("Microsoft.Network/virtualNetworks", "vre-oracle")
VAULT = item("Microsoft.KeyVault/vaults", "vre-oracle-1a2b")
EVERY = [
    NETWORK, VAULT,
    item("Microsoft.Compute/virtualMachines", "vre-oracle-control"),
    item("Microsoft.Compute/disks", "vre-oracle-control-system", managedBy="/x/vre-oracle-control"),
    item("Microsoft.Compute/disks", "vre-oracle-control-data", managedBy="/x/vre-oracle-control"),
    item("Microsoft.Compute/disks", "somebodys", tags={"vre": "oracle"}),
    item("Microsoft.Network/unheardOf", "vre-oracle"),
    item("Microsoft.Network/publicIPAddresses", "vre-oracle"),
]  # fmt: skip
PARTS = {
    f"{NETWORK['id']}/subnets": [{"id": f"{NETWORK['id']}/subnets/machines", "name": "machines"}],
    f"{VAULT['id']}/keys": [{"id": f"{VAULT['id']}/keys/disks", "name": "disks"}],
}


class Cloud:
    """A subscription: what is deleted is gone, and a vault takes its keys along."""

    def __init__(self) -> None:
        self.there = {GROUP: {"id": GROUP, "name": "vre-oracle", "tags": TAGS}, **{each["id"]: each for each in EVERY}}
        self.there |= {each["id"]: each for parts in PARTS.values() for each in parts}
        self.deleted: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "login.microsoftonline.com":
            return httpx.Response(200, json={"access_token": TOKEN})
        path = request.url.path
        if request.method == "DELETE":
            self.deleted.append(path)
            self.there = {own: each for own, each in self.there.items() if not own.startswith(path)}
            return httpx.Response(202)
        if path == f"{GROUP}/resources":
            return httpx.Response(200, json={"value": [each for each in EVERY if each["id"] in self.there]})
        if path in PARTS:
            return httpx.Response(200, json={"value": PARTS[path]})
        found = self.there.get(path)
        return httpx.Response(200, json=found) if found else httpx.Response(404, json={"error": {"code": "NotFound"}})


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    for name, value in {"ARM_TENANT_ID": "t", "ARM_CLIENT_ID": "c", "ARM_CLIENT_SECRET": SECRET}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(reader, "PAUSE", 0.0)
    return Cloud()


def kinds(found: Any) -> dict[str, str]:
    return {each.kind: each.name for each in found}


def test_what_has_the_stacks_tags_is_named_with_its_parts(cloud: Cloud) -> None:
    found = Account(STACK, httpx.MockTransport(cloud)).standing()
    assert kinds(found) == {
        "network": "vre-oracle", "subnet": "machines", "key vault": "vre-oracle-1a2b", "key": "disks",
        "machine": "vre-oracle-control", "disk": "vre-oracle-control-data", "public address": "vre-oracle",
        "resource group": "vre-oracle",
    }  # fmt: skip
    assert len(found) == 8
    assert {each.kind for each in found if each.loss} == {"disk", "machine", "key vault"}
    assert TOKEN not in repr(found)


def test_a_state_knows_ids_in_any_case_and_what_its_things_only_name_may_be_lost(cloud: Cloud) -> None:
    account = Account(STACK, httpx.MockTransport(cloud))
    subnet = f"{NETWORK['id']}/subnets/machines"
    state = [{"type": "azure-native:network:VirtualNetwork", "id": NETWORK["id"].upper(),
              "outputs": {"subnets": [{"id": subnet}]}}]  # fmt: skip
    left = kinds(orphans.unknown(account, account.standing(), state))
    assert "network" not in left
    assert "subnet" in left


def test_everything_is_deleted_and_what_is_anothers_keeps_the_group(cloud: Cloud) -> None:
    account = Account(STACK, httpx.MockTransport(cloud))
    found = orphans.unknown(account, account.standing(), [])
    for each in found[:-1]:
        account.delete(each)
    assert [path.rpartition("/")[2] for path in cloud.deleted] == [
        "vre-oracle-control", "machines", "vre-oracle", "vre-oracle", "vre-oracle-control-data", "vre-oracle-1a2b",
    ]  # fmt: skip
    with pytest.raises(VreError, match=r"the resource group is not empty: .*somebodys"):
        account.delete(found[-1])
    assert GROUP not in cloud.deleted


def test_a_key_goes_only_with_its_vault(cloud: Cloud) -> None:
    account = Account(STACK, httpx.MockTransport(cloud))
    key = next(each for each in account.standing() if each.kind == "key")
    with pytest.raises(VreError, match="only with its vault"):
        account.delete(key)
    assert cloud.deleted == []


def test_without_the_group_nothing_stands(cloud: Cloud) -> None:
    cloud.there.clear()
    assert Account(STACK, httpx.MockTransport(cloud)).standing() == []


def test_what_is_refused_is_told(cloud: Cloud) -> None:
    def locked(request: httpx.Request) -> httpx.Response:
        error = {"error": {"code": "ScopeLocked", "message": "it is locked"}}
        return httpx.Response(409, json=error) if request.method == "DELETE" else cloud(request)

    account = Account(STACK, httpx.MockTransport(locked))
    with pytest.raises(VreError, match="refuses to delete vre-oracle-control: ScopeLocked: it is locked"):
        account.delete(orphans.unknown(account, account.standing(), [])[0])
