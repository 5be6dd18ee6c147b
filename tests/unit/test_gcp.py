"""Google Cloud: what is refused before anything is made, what machines are told, and what is looked at before."""

import subprocess
from typing import Any

import pytest

from tests.engine.simulated import gcp as simulated
from tests.oracle import gcp
from tests.oracle.configs import KEY, Case, case
from tests.oracle.declared import declared
from tests.oracle.told import Resource
from tests.unit.test_oracle_gcp import CALLS, CLOUD, answer
from vre import clouds
from vre.accounts import gcp as account
from vre.accounts.gcp import Facts, Google, Image, judge, look, needed
from vre.clouds.gcp import REGIONS, SCSI_FAMILIES, SIZES, rules, size
from vre.clouds.site import Disk, Order
from vre.config import SHAPES, Config
from vre.machine.cloudinit import Boot, HostKey, render
from vre.paths import project
from vre.plan import plan

ACCESS = {"keys": [KEY], "operators": ["203.0.113.0/24"]}
EDGE = {"provider": "direct", "domain": "example.org"}


def config(**more: Any) -> Config:
    cloud = {**CLOUD, **more.pop("cloud", {})}
    return Config.model_validate({"name": "phenome", "cloud": cloud, "access": ACCESS, "edge": EDGE, **more})


def stack(**more: Any) -> Case:
    return case({"cloud": CLOUD, "edge": EDGE, **more}, vpn=("192.0.2.0/24",))


def machines(**more: Any) -> list[Resource]:
    told = declared(stack(cloud={**CLOUD, **more}, machines={"workers": {"count": 1}}), answer, CALLS)
    return [each for each in told if each.type == gcp.INSTANCE]


def facts(**more: Any) -> Facts:
    every = {
        "zones": {"europe-west1": ("europe-west1-b", "europe-west1-c"), "europe-west4": ("europe-west4-a",)},
        "types": frozenset(each.name for each in SIZES),
        "image": Image(name="debian-13-trixie-v20261110", disk=10),
        "left": {"CPUS": 24, "CPUS_ALL_REGIONS": 32, "SSD_TOTAL_GB": 500, "FIREWALLS": 100, "IN_USE_ADDRESSES": 8},
    }
    return Facts(**{**every, **more})


def said(asked: Config, found: Facts) -> list[str]:
    return [f"{each.key}: {each.reason} -> {each.example}" for each in judge(asked, found)]


def test_sizes_are_sorted_families_that_work_and_hold_every_portable_size() -> None:
    assert {each.name.split("-")[0] for each in SIZES} <= set(SCSI_FAMILIES)
    chosen = {}
    for word in SHAPES:
        chosen[word] = size(plan(config(machines={"control": {"size": word}})).control)
    assert chosen == {"small": "e2-standard-2", "medium": "e2-standard-4", "large": "e2-standard-16"}
    largest = config(machines={"control": {"size": {"cpus": 128, "memory": 2048}}})
    assert size(plan(largest).control) == "m1-ultramem-160"


@pytest.mark.parametrize(
    ("changed", "key", "wanted"),
    [
        ({"cloud": {"region": "europe-wst1"}}, "cloud.region", "region: europe-west1"),
        ({"cloud": {"zone": "us-east1-b"}}, "cloud.zone", "zone: europe-west1-b"),
        (
            {"machines": {"control": {"size": {"type": "c3-standard-4"}}}},
            "machines.control.size",
            "no family whose disks",
        ),
        (
            {"machines": {"workers": {"count": 3, "size": {"type": "n4-standard-2"}}}},
            "machines.workers.size",
            "no family whose disks",
        ),
    ],
)
def test_what_google_does_not_have_is_refused_by_its_key(changed: dict[str, Any], key: str, wanted: str) -> None:
    [found] = clouds.faults(config(**changed))
    assert found.key == f"vre:{key}"
    assert wanted in str(found)


def test_all_that_google_does_not_have_is_told_at_once() -> None:
    wrong = config(cloud={"region": "europe-wst1"}, machines={"control": {"size": {"type": "c3-standard-4"}}})
    assert [each.key for each in clouds.faults(wrong)] == ["vre:cloud.region", "vre:machines.control.size"]
    assert clouds.faults(config(cloud={"zone": "europe-west1-d"})) == []


@pytest.mark.requirement("P-43")
def test_machines_have_no_credentials_nobody_elses_keys_and_no_console() -> None:
    for each in machines():
        assert "serviceAccount" not in each.inputs
        metadata = each.inputs["metadata"]
        assert set(metadata) == {
            "user-data", "startup-script", "block-project-ssh-keys", "enable-oslogin", "serial-port-enable"
        }  # fmt: skip
        assert metadata["block-project-ssh-keys"] == "TRUE"
        assert (metadata["enable-oslogin"], metadata["serial-port-enable"]) == ("FALSE", "FALSE")
        assert set(each.inputs["shieldedInstanceConfig"].values()) == {True}


def test_only_the_control_plane_has_public_addresses_and_workers_have_a_way_out() -> None:
    [control], [worker] = ([each for each in machines() if word in each.name] for word in ("control", "worker"))
    [inner], [outer] = worker.inputs["networkInterfaces"], control.inputs["networkInterfaces"]
    assert set(inner) == {"subnetwork", "networkIp", "stackType"}
    assert outer["accessConfigs"] == [{"natIp": "192.0.2.10", "networkTier": "PREMIUM"}]
    alone = declared(stack(), answer, CALLS)
    assert not [each for each in alone if each.type in (gcp.NAT, simulated.ROUTER)]


def test_an_image_of_ours_has_cloud_init_and_a_signed_loader() -> None:
    for each in machines(image="vre-13"):
        assert "startup-script" not in each.inputs["metadata"]
        assert each.inputs["shieldedInstanceConfig"] == {
            "enableSecureBoot": True, "enableVtpm": True, "enableIntegrityMonitoring": True
        }  # fmt: skip


def test_googles_agent_makes_way_for_cloud_init() -> None:
    [script, *_] = {each.inputs["metadata"]["startup-script"] for each in machines()}
    checked = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    inner = script.split("/bin/sh -c '")[1].split("'\n")[0]
    assert subprocess.run(["sh", "-n", "-c", inner], check=False).returncode == 0
    order = [script.index(word) for word in ("stop ssh", "install cloud-init", "purge", "systemctl reboot")]
    assert order == sorted(order)


@pytest.mark.requirement("P-18")
def test_names_are_short_and_unique_for_the_longest_stack_name() -> None:
    longest = "a" * 20
    whole = stack(name=longest, machines={"workers": {"count": 100}})
    order = Order(config=whole.config, plan=whole.plan, policy=whole.policy, image=Disk(path="", id=""))
    names = [each["name"] for role in whole.plan.roles for each in rules(order, role)]
    names += [f"vre-{each.name}-system" for each in whole.plan.machines]
    assert len(names) == len(set(names))
    assert [each for each in names if not simulated.NAME.fullmatch(each)] == []


def test_the_largest_user_data_fits() -> None:
    whole = stack(name="a" * 20, machines={"workers": {"count": 100}})
    boot = Boot(
        name="a" * 30, mac="", addresses=(), keys=[KEY] * 20, host_key=HostKey(public="p" * 100, private="p" * 500),
        firewall="f" * 30000, nodes={each.name: [each.ipv4] for each in whole.plan.machines},
    )  # fmt: skip
    assert len(render(boot).user_data.encode()) < simulated.METADATA


def test_a_good_account_has_no_findings() -> None:
    assert judge(config(machines={"workers": {"count": 2}}), facts()) == []


@pytest.mark.parametrize(
    ("changed", "found", "wanted"),
    [
        ({}, {"fault": "Your default credentials were not found."}, "vre:cloud.provider: Your default credentials"),
        ({}, {"project": False}, "vre:cloud.project: there is no project phenome-1234"),
        ({}, {"disabled": ("cloudkms.googleapis.com",)}, "-> gcloud services enable cloudkms.googleapis.com"),
        ({}, {"lacking": ("compute.disks.create",)}, "lacks compute.disks.create in phenome-1234"),
        ({"cloud": {"region": "europe-west11"}}, {}, "-> region: europe-west1"),
        ({"cloud": {"zone": "europe-west1-a"}}, {}, "no zone europe-west1-a; there are: europe-west1-b"),
        ({"cloud": {"image": "vre-12"}}, {"image": None}, "vre:cloud.image: there is no image vre-12"),
        ({}, {"image": Image(name="arm", disk=10, architecture="ARM64")}, "arm is for ARM64"),
        ({}, {"image": Image(name="big", disk=50)}, "vre:machines.control.disk: big needs a disk of 50 GiB, not 12"),
        ({"machines": {"control": {"size": {"type": "e2-standard-3"}}}}, {}, "-> size: {type: e2-standard-"),
        ({"machines": {"control": {"size": {"type": "c3-standard-4"}}}}, {}, "of no family whose disks"),
        ({"machines": {"workers": {"count": 2, "size": "large"}}}, {}, "the quota CPUS leaves 24, 34 are needed"),
        ({"machines": {"control": {"data": 600}}}, {}, "the quota SSD_TOTAL_GB leaves 500, 612 are needed"),
        ({}, {"left": {"FIREWALLS": 5}}, "the quota FIREWALLS leaves 5"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(changed: dict[str, Any], found: dict[str, Any], wanted: str) -> None:
    [finding] = [each for each in said(config(**changed), facts(**found)) if wanted in each]
    assert "-> " in finding
    assert not finding.endswith("-> ")


def test_what_stands_already_needs_no_room() -> None:
    asked = config(machines={"workers": {"count": 1}})
    standing = facts(machines=frozenset(each.name for each in plan(asked).machines), network=True)
    assert set(needed(asked, standing).values()) == {0}


class Session:
    """Google's REST interfaces, answering by the end of the address."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    def request(self, method: str, url: str, **more: Any) -> Any:
        for end, body in self.answers.items():
            if url.endswith(end):
                return Reply(body(more) if callable(body) else body)
        return Reply(None)


class Reply:
    def __init__(self, body: Any) -> None:
        self.status_code = 404 if body is None else 200
        self.body = body

    def raise_for_status(self) -> None:
        assert self.status_code < 400

    def json(self) -> Any:
        return self.body


def on(*names: str) -> dict[str, Any]:
    return {"services": [{"name": f"projects/1/services/{each}", "state": "ENABLED"} for each in names]}


ANSWERS: dict[str, Any] = {
    "v1/projects/phenome-1234": {
        "projectNumber": "123456789012", "quotas": [{"metric": "FIREWALLS", "limit": 100, "usage": 9}]
    },
    "services:batchGet": on(*account.APIS),
    ":testIamPermissions": lambda more: {"permissions": [one for one in more["json"]["permissions"] if "kms" in one]},
    "/regions": {"items": [
        {"name": "europe-west1", "zones": ["https://x/zones/europe-west1-b"],
         "quotas": [{"metric": "CPUS", "limit": 24.0, "usage": 20.0}]},
        {"name": "us-east1", "quotas": [{"metric": "CPUS", "limit": 1.0, "usage": 0.0}]},
    ]},
    "/machineTypes": lambda more: (
        {"items": [{"name": "e2-standard-4"}]} if "pageToken" in more["params"]
        else {"items": [{"name": "e2-standard-2"}], "nextPageToken": "more"}
    ),
    "/instances": {"items": [{"name": "vre-phenome-control"}]},
    "/networks/vre-phenome": {"name": "vre-phenome"},
    "projects/debian-cloud/global/images/family/debian-13": {"name": "debian-13-v1", "diskSizeGb": "10"},
}  # fmt: skip


def test_what_google_answers_is_read() -> None:
    asked = config()
    found = look(Google(Session(ANSWERS)), asked, account._cloud(asked))
    assert found.zones == {"europe-west1": ("europe-west1-b",), "us-east1": ()}
    assert sorted(found.types) == ["e2-standard-2", "e2-standard-4"]
    assert found.image == Image(name="debian-13-v1", disk=10)
    assert found.left == {"FIREWALLS": 91, "CPUS": 4.0}
    assert sorted(found.machines) == ["phenome-control"]
    assert found.network
    assert "compute.disks.create" in found.lacking
    assert not [each for each in found.lacking if "kms" in each]


def test_a_project_or_an_interface_that_is_not_there_is_said_at_once() -> None:
    asked = config()
    cloud = account._cloud(asked)
    assert look(Google(Session({})), asked, cloud) == Facts(project=False)
    without = {**ANSWERS, "services:batchGet": on("compute.googleapis.com")}
    disabled = look(Google(Session(without)), asked, cloud).disabled
    assert disabled == ("cloudkms.googleapis.com", "cloudresourcemanager.googleapis.com")


def test_without_credentials_a_finding_says_how_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "os", type("os", (), {"environ": {"GOOGLE_CREDENTIALS": "/nowhere"}}))
    found = account.probe(config())
    assert "/nowhere" in found.fault
    assert "gcloud auth application-default login" in said(config(), found)[0]


def test_credentials_are_found_where_the_plugin_finds_them() -> None:
    assert account.session({"GOOGLE_OAUTH_ACCESS_TOKEN": "ya29.token"}).credentials.token == "ya29.token"
    user = '{"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}'
    assert account.session({"GOOGLE_CREDENTIALS": user}).credentials.refresh_token == "r"


PROBED = {
    "cloudkms.cryptoKeys.list", "cloudkms.keyRings.list", "compute.addresses.list", "compute.disks.list",
    "compute.firewalls.list", "compute.images.get", "compute.images.getFromFamily", "compute.instances.list",
    "compute.machineTypes.list", "compute.projects.get", "compute.regions.get", "compute.regions.list",
    "resourcemanager.projects.get", "serviceusage.services.get", "compute.networks.get",
}  # fmt: skip


@pytest.mark.requirement("P-43")
def test_the_role_is_what_is_called_and_nothing_else() -> None:
    called = {each for methods in simulated.CALLS.values() for names in methods.values() for each in names}
    assert set(account.permissions()) == called | PROBED
    assert list(account.permissions()) == sorted(account.permissions())


def test_the_page_names_every_file_and_interface() -> None:
    page = (project() / "docs" / "clouds" / "gcp.md").read_text()
    for word in (*account.APIS, "gcp-permissions.yaml", "Pulumi.gcp.yaml", *SCSI_FAMILIES):
        assert word in page


def test_a_region_is_refused_by_the_nearest_name() -> None:
    assert "region: europe-west1" in said(config(cloud={"region": "europe-west11"}), facts(zones={}))[0]
    assert len(set(REGIONS)) == len(REGIONS)
