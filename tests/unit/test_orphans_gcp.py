"""What stands on Google Cloud with a stack's labels: by the shapes of the documented answers of its interfaces."""

from typing import Any

import pytest

from tests.unit.test_gcp import config
from vre import orphans
from vre.errors import VreError
from vre.orphans import gcp as reader
from vre.orphans.gcp import ORDER, Account

PROJECT, REGION = "projects/phenome-1234", "regions/europe-west1"
RING = f"{PROJECT}/locations/europe-west1/keyRings/vre-phenome-1a2b3c4"
LABELS = {"managed-by": "vre", "vre": "phenome"}
OWN = "https://www.googleapis.com/compute/v1/projects/phenome-1234/global/networks/vre-phenome"


def key(name: str, state: str = "ENABLED") -> dict[str, Any]:
    return {"name": f"{RING}/cryptoKeys/{name}", "labels": LABELS, "primary": {"state": state}}


ANSWERS: dict[str, Any] = {
    "/zones/europe-west1-b/instances": {"items": [{"name": "vre-phenome-control", "labels": LABELS}]},
    "/zones/europe-west1-b/disks": lambda page: (
        {"items": [{"name": "theirs", "labels": {"vre": "phenome"}, "sizeGb": "9"}]} if page
        else {"items": [{"name": "vre-phenome-control-data", "labels": LABELS, "sizeGb": "30"}], "nextPageToken": "2"}
    ),
    f"/{REGION}/addresses": {"items": [{"name": "vre-phenome-control", "labels": LABELS}]},
    "/global/firewalls": {"items": [
        {"name": "vre-phenome-in-refused-v4", "network": OWN}, {"name": "vre-phenome-2-x", "network": f"{OWN}-2"},
    ]},
    f"/{REGION}/routers/vre-phenome": {"name": "vre-phenome", "nats": [{"name": "vre-phenome"}, {"name": "theirs"}]},
    f"/{REGION}/subnetworks/vre-phenome": {"name": "vre-phenome"},
    "/global/networks/vre-phenome": {"name": "vre-phenome"},
    "/keyRings": {"keyRings": [{"name": RING}, {"name": f"{PROJECT}/locations/europe-west1/keyRings/theirs"}]},
    f"{RING}/cryptoKeys": {"cryptoKeys": [key("vre-phenome-disks-1"), key("vre-phenome-disks-0", "DESTROYED")]},
    "/cryptoKeyVersions": {"cryptoKeyVersions": [
        {"name": f"{RING}/cryptoKeys/vre-phenome-disks-1/cryptoKeyVersions/1", "state": "ENABLED"},
        {"name": f"{RING}/cryptoKeys/vre-phenome-disks-1/cryptoKeyVersions/0", "state": "DESTROYED"},
    ]},
    "/operations/1": {"status": "DONE"},
}  # fmt: skip


class Reply:
    def __init__(self, status: int, body: Any) -> None:
        self.status_code, self.body = status, body

    def json(self) -> Any:
        return self.body


class Google:
    """Google's interfaces, answering by the end of the address; `refused` is what it says to every order."""

    def __init__(self, refused: str = "") -> None:
        self.refused = refused
        self.ordered: list[tuple[str, str, Any]] = []

    def request(self, method: str, url: str, *, timeout: int, **more: Any) -> Reply:
        if method != "GET":
            self.ordered.append((method, url.partition("/v1/")[2], more.get("json")))
            wrong = {"error": {"message": self.refused}}
            return Reply(400, wrong) if self.refused else Reply(200, {"selfLink": "https://x/operations/1"})
        for end, body in ANSWERS.items():
            if url.endswith(end):
                return Reply(200, body(more["params"].get("pageToken")) if callable(body) else body)
        return Reply(404, {})


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "PAUSE", 0.0)


def test_what_has_the_stacks_labels_or_is_in_its_network_is_named() -> None:
    found = Account(config(), Google()).standing()
    assert {each.kind for each in found} == set(ORDER)
    one = {each.kind: each for each in found}
    assert len(found) == len(one)
    assert one["disk"].id == f"{PROJECT}/zones/europe-west1-b/disks/vre-phenome-control-data"
    assert one["disk"].loss.startswith("30 GiB")
    assert one["NAT"].id == "phenome-1234/europe-west1/vre-phenome/vre-phenome"
    assert one["key"].id.endswith("/vre-phenome-disks-1")


def test_what_a_state_has_is_not_lost() -> None:
    account = Account(config(), Google())
    disk, secret = (
        f"{PROJECT}/zones/europe-west1-b/disks/vre-phenome-control-data",
        key("vre-phenome-disks-1")["name"],
    )
    state: list[dict[str, Any]] = [
        {"type": "gcp:compute/disk:Disk", "id": disk, "inputs": {"diskEncryptionKey": {"kmsKeySelfLink": secret}}},
        {"type": "gcp:compute/network:Network", "id": f"{PROJECT}/global/networks/vre-phenome"},
    ]
    left = {each.kind for each in orphans.unknown(account, account.standing(), state)}
    assert set(ORDER) - left == {"disk", "key", "network"}


def test_each_is_deleted_by_its_own_address_and_anothers_nat_stays() -> None:
    google = Google()
    account = Account(config(), google)
    for each in orphans.unknown(account, account.standing(), []):
        account.delete(each)
    place = f"{PROJECT}/{REGION}"
    assert google.ordered == [
        ("DELETE", f"{PROJECT}/zones/europe-west1-b/instances/vre-phenome-control", None),
        ("DELETE", f"{PROJECT}/zones/europe-west1-b/disks/vre-phenome-control-data", None),
        ("DELETE", f"{place}/addresses/vre-phenome-control", None),
        ("DELETE", f"{PROJECT}/global/firewalls/vre-phenome-in-refused-v4", None),
        ("PATCH", f"{place}/routers/vre-phenome", {"nats": [{"name": "theirs"}]}),
        ("DELETE", f"{place}/routers/vre-phenome", None),
        ("DELETE", f"{place}/subnetworks/vre-phenome", None),
        ("DELETE", f"{PROJECT}/global/networks/vre-phenome", None),
        ("POST", f"{RING}/cryptoKeys/vre-phenome-disks-1/cryptoKeyVersions/1:destroy", {}),
    ]


@pytest.mark.parametrize("end", ["refused", "failed"])
def test_what_google_does_not_do_is_told(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {"status": "DONE", "error": {"errors": [{"message": "it is in use"}]}}
    monkeypatch.setitem(ANSWERS, "/operations/1", failed)
    account = Account(config(), Google("it is in use" if end == "refused" else ""))
    with pytest.raises(VreError, match="it is in use"):
        account.delete(account.standing()[0])
