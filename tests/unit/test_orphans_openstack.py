"""What stands on OpenStack with a stack's tags: who is told from whom, and how each thing is deleted."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.test_openstack import config
from vre import orphans
from vre.orphans import openstack as reader
from vre.orphans.openstack import ORDER, Account

TAGS = ["managed-by=vre", "vre=oracle"]
META = {"managed-by": "vre", "vre": "oracle"}


def thing(identity: str, name: str | None = None, **more: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"id": identity, "name": name, "tags": [], "description": "", **more})


EVERY: dict[str, list[Any]] = {
    "servers": [thing("s-1", "vre-oracle-control", metadata=META), thing("s-2", metadata={**META, "vre": "oracle-2"})],
    "keypairs": [thing("vre-oracle", "vre-oracle"), thing("vre-oracle-2", "vre-oracle-2")],
    "volumes": [thing("v-1", "vre-oracle-control-data", metadata=META, size=30), thing("v-2", metadata=None, size=1)],
    "ips": [
        thing("ip-1", floating_ip_address="203.0.113.7", description="VRE machine oracle-control"),
        thing("ip-2", floating_ip_address="203.0.113.8", description="VRE machine oracle-2-control"),
    ],
    "ports": [thing("p-1", "vre-oracle-worker-12"), thing("p-2", "vre-oracle-2-control"), thing("p-3", "")],
    "security_groups": [thing("g-1", "vre-oracle-nodes", tags=TAGS), thing("g-2", "vre-oracle-2-nodes")],
    "routers": [thing("r-1", "anything", tags=TAGS), thing("r-2", "vre-oracle", tags=["vre=other"])],
    "subnets": [thing("n-4", "vre-oracle-ipv4"), thing("n-9", "vre-oracle-ipv9")],
    "networks": [thing("w-1", "vre-oracle"), thing("w-2", "vre-oracle-2"), thing("w-3", "vre-oracle", tags=["vre=x"])],
}
RULE = thing("rule-1", direction="ingress", protocol="tcp", remote_ip_prefix="192.0.2.0/24")


class Api:
    """A cloud that answers as the SDK does, and notes what is deleted."""

    current_project_id = "project"

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.compute = self.network = self.block_storage = self

    def __getattr__(self, name: str) -> Any:
        if name in EVERY:
            return lambda **wanted: [] if name == "ports" and "device_id" in wanted else list(EVERY[name])
        return lambda *words, **more: self.asked.append((name, *words))

    def security_group_rules(self, security_group_id: str) -> list[Any]:
        return [RULE] if security_group_id == "g-1" else []


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    import openstack

    monkeypatch.setattr(openstack, "connect", lambda **_: Api())
    everywhere = {(each, "RegionOne") for each in ("compute", "network", "block-storage")}
    monkeypatch.setattr(reader, "catalogue", lambda api: everywhere)
    yield Account(config())


def test_only_what_is_the_stacks_own_is_named(account: Account) -> None:
    found = {each.kind: each for each in account.standing()}
    assert {kind: each.id for kind, each in found.items()} == {
        "machine": "s-1", "key pair": "vre-oracle", "disk": "v-1", "public address": "ip-1", "port": "p-1",
        "security group": "g-1", "firewall rule": "rule-1", "router": "r-1", "subnet": "n-4", "network": "w-1",
    }  # fmt: skip
    assert len(account.standing()) == len(found)
    assert found["disk"].loss.startswith("30 GiB")
    assert str(found["firewall rule"]) == "firewall rule vre-oracle-nodes ingress tcp 192.0.2.0/24 rule-1"
    assert found["firewall rule"].within == "g-1"


def test_a_region_without_a_service_has_nothing_of_it(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "catalogue", lambda api: {("block-storage", "RegionOne"), ("compute", "RegionTwo")})
    assert [each.kind for each in account.standing()] == ["disk"]


def test_what_is_deleted_goes_in_an_order_that_neutron_takes(account: Account) -> None:
    found = orphans.unknown(account, account.standing(), [])
    assert [each.kind for each in found] == [kind for kind in ORDER if kind != "router interface"]
    for each in found:
        account.delete(each)
    deleted = [words for words in account.api.asked if words[0].startswith("delete")]
    assert deleted == [
        ("delete_server", "s-1"), ("delete_volume", "v-1"), ("delete_ip", "ip-1"), ("delete_port", "p-1"),
        ("delete_security_group_rule", "rule-1"), ("delete_security_group", "g-1"), ("delete_router", "r-1"),
        ("delete_subnet", "n-4"), ("delete_network", "w-1"), ("delete_keypair", "vre-oracle"),
    ]  # fmt: skip
