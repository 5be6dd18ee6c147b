"""The frame of the simulated clouds, without the engine: it refuses what real ones refuse, and fails as it is told."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import provider_pb2 as proto

from tests.engine.simulated.machines import KEPT, find
from tests.engine.simulated.noted import CloudError
from tests.engine.simulated.schema import Sdk
from tests.engine.simulated.store import Asked, Cloud, Fault, Thing
from tests.engine.simulated.table import at, changes, covers
from tests.engine.simulated.toy import Toy
from tests.engine.simulated.work import Work
from vre.errors import VreError
from vre.provider import registry
from vre.provider.handler import UNKNOWN, Cancelled, Context
from vre.provider.operations import Kept
from vre.provider.values import Secret, plain, received, sent

NETWORK = "openstack:networking/network:Network"
SUBNET = "openstack:networking/subnet:Subnet"
KEYPAIR = "openstack:compute/keypair:Keypair"
INSTANCE = "openstack:compute/instance:Instance"
GET = "openstack:networking/getNetwork:getNetwork"


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:test::toy::{kind}::{name}"


class Desk:
    """A simulated cloud and what an engine would ask of it."""

    def __init__(self, path: Path) -> None:
        self.cloud = Cloud(path / "cloud.db")
        self.work = Work(Toy(), self.cloud)
        self.work.configure({"region": "RegionOne"})

    def refused(self, kind: str, **inputs: Any) -> list[str]:
        """Return what `check` says against inputs."""
        request = proto.CheckRequest(urn=urn(kind, "one"), type=kind, news=sent(inputs))
        return [failure.reason for failure in self.work.check(Context(), request).failures]

    def checked(self, kind: str, old: dict[str, Any], name: str = "one", **inputs: Any) -> dict[str, Any]:
        """Return inputs as the provider fills them in."""
        request = proto.CheckRequest(urn=urn(kind, name), type=kind, news=sent(inputs), olds=sent(old))
        made: dict[str, Any] = plain(received(self.work.check(Context(), request).inputs))
        return made

    def create(
        self, kind: str, called: str = "one", /, *, preview: bool = False, **inputs: Any
    ) -> proto.CreateResponse:
        """Make something."""
        request = proto.CreateRequest(urn=urn(kind, called), type=kind, properties=sent(inputs), preview=preview)
        return self.work.create(Context(), request)

    def delete(self, kind: str, identity: str) -> None:
        """Remove something."""
        self.work.delete(Context(), proto.DeleteRequest(urn=urn(kind, "one"), type=kind, id=identity))

    def diff(self, kind: str, old: dict[str, Any], new: dict[str, Any]) -> proto.DiffResponse:
        """Compare."""
        request = proto.DiffRequest(urn=urn(kind, "one"), type=kind, old_inputs=sent(old), news=sent(new))
        return self.work.diff(Context(), request)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize(
    ("kind", "inputs", "said"),
    [
        (NETWORK, {"nmae": "n"}, [f"{NETWORK}: nmae: unknown property"]),
        (SUBNET, {"cidr": "10.0.0.0/24"}, [f"{SUBNET}: networkId: missing required property"]),
        (NETWORK, {"mtu": "1500"}, [f"{NETWORK}: mtu: must be a whole number, not a text"]),
        (NETWORK, {"adminStateUp": 1}, [f"{NETWORK}: adminStateUp: must be true or false, not a number"]),
        (NETWORK, {"name": True}, [f"{NETWORK}: name: must be a text, not true or false"]),
        (NETWORK, {"tags": "a"}, [f"{NETWORK}: tags: must be a list, not a text"]),
        (NETWORK, {"tags": ["a", 1]}, [f"{NETWORK}: tags[1]: must be a text, not a number"]),
        (NETWORK, {"valueSpecs": {"a": 1}}, [f'{NETWORK}: valueSpecs["a"]: must be a text, not a number']),
        (NETWORK, {"segments": [{"networkTyp": "vlan"}]}, [f"{NETWORK}: segments[0].networkTyp: unknown property"]),
        (NETWORK, {"segments": [7]}, [f"{NETWORK}: segments[0]: must be an object, not a number"]),
        (SUBNET, {"networkId": "n", "cidr": "10.0.0.1/24"}, [f"{SUBNET}: cidr: 10.0.0.1/24 has host bits set"]),
        (SUBNET, {"networkId": UNKNOWN, "cidr": UNKNOWN, "tags": [UNKNOWN]}, []),
        (SUBNET, {"networkId": "n", "cidr": Secret("10.0.0.0/24"), "tags": None}, []),
    ],
)
def test_check_refuses_what_the_sdk_does_not_know(
    desk: Desk, kind: str, inputs: dict[str, Any], said: list[str]
) -> None:
    assert desk.refused(kind, **inputs) == said


@pytest.mark.parametrize(
    ("package", "kind", "required", "inputs", "outputs"),
    [
        ("pulumi_aws", "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
         {"ipProtocol", "securityGroupId"}, {"cidrIpv6", "referencedSecurityGroupId"}, {"arn"}),
        ("pulumi_gcp", "gcp:compute/firewall:Firewall", {"network"}, {"sourceRanges", "targetTags"}, {"selfLink"}),
        ("pulumi_azure_native", "azure-native:network:VirtualNetwork",
         {"resourceGroupName"}, {"addressSpace", "subnets"}, {"provisioningState"}),
        ("pulumi_openstack", "openstack:networking/secGroupRule:SecGroupRule",
         {"direction", "ethertype", "securityGroupId"}, {"remoteGroupId"}, {"tenantId"}),
    ],
)  # fmt: skip
def test_what_is_known_of_a_resource_is_read_off_the_sdk(
    package: str, kind: str, required: set[str], inputs: set[str], outputs: set[str]
) -> None:
    known = Sdk(package).resource(kind)
    assert known.inputs.required == required
    assert required | inputs <= known.inputs.fields.keys()
    assert outputs <= known.outputs
    with pytest.raises(LookupError, match="has no resource type"):
        Sdk(package).resource(f"{kind}s")


def test_what_is_required_inside_a_list_is_asked_for(desk: Desk) -> None:
    faults = Sdk("pulumi_openstack").resource(INSTANCE).faults({"blockDevices": [{"uuid": "u"}]})
    assert [(each.key, each.reason) for each in faults] == [("blockDevices[0].sourceType", "missing required property")]


def test_functions_are_checked_too(desk: Desk) -> None:
    call = desk.work.invoke
    assert call(Context(), GET, {"name": "public"})["id"] == "public-network-id"
    with pytest.raises(CloudError, match="no results"):
        call(Context(), GET, {"name": "other"})
    with pytest.raises(VreError, match="nmae: unknown property"):
        call(Context(), GET, {"nmae": "public"})
    known = Sdk("pulumi_azure_native").function("azure-native:network:getVirtualNetwork")
    assert known.inputs.required == {"resourceGroupName", "virtualNetworkName"}


def test_what_is_not_in_the_table_is_told_to_the_author(desk: Desk) -> None:
    with pytest.raises(VreError, match="the simulated openstack has no openstack:compute/instance:Instance"):
        desk.refused(INSTANCE)


def test_outputs_that_the_sdk_does_not_know_are_a_fault_of_the_simulation(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.engine.simulated.toy.Network.outputs", lambda self, call: {"tenantID": "x"})
    with pytest.raises(AssertionError, match="tenantID"):
        desk.create(NETWORK)


def test_names_are_made_up_once_and_kept(desk: Desk) -> None:
    made = desk.checked(NETWORK, {})
    assert made["name"].startswith("one-")
    assert desk.checked(NETWORK, made)["name"] == made["name"]
    assert desk.checked(NETWORK, {}, name="two")["name"].startswith("two-")


def test_secrets_stay_secret_and_a_preview_makes_nothing(desk: Desk) -> None:
    shown = received(desk.create(NETWORK, preview=True, name=UNKNOWN, description=Secret("hidden")).properties)
    assert shown["tenantId"] is UNKNOWN
    assert isinstance(shown["description"], Secret)
    assert desk.cloud.resources() == []
    made = received(desk.create(NETWORK, description=Secret("hidden")).properties)
    assert isinstance(made["description"], Secret)
    assert made["tenantId"] == "0" * 32
    assert desk.cloud.resources(NETWORK)[0].inputs == {"description": "hidden"}


def test_references_have_to_exist_and_keep_what_they_refer_to(desk: Desk) -> None:
    with pytest.raises(CloudError, match="networkId: no openstack:networking/network:Network 'net-1'"):
        desk.create(SUBNET, networkId="net-1", cidr="10.0.0.0/24")
    assert desk.cloud.resources() == []
    network = desk.create(NETWORK)
    subnet = desk.create(SUBNET, networkId=network.id, cidr="10.0.0.0/24")
    with pytest.raises(CloudError, match=f"{network.id} is in use by {subnet.id}"):
        desk.delete(NETWORK, network.id)
    desk.delete(SUBNET, subnet.id)
    desk.delete(NETWORK, network.id)
    desk.delete(NETWORK, network.id)
    assert desk.cloud.resources() == []


def test_others_may_be_referred_to_by_a_name_they_are_known_by(desk: Desk) -> None:
    desk.create(SUBNET, networkId="public", cidr="10.0.0.0/24")
    assert desk.cloud.referring(NETWORK, "public-network-id")[0].path == "networkId"


def test_names_that_must_be_unique_are(desk: Desk) -> None:
    desk.create(KEYPAIR, name="key")
    with pytest.raises(CloudError, match="key already exists"):
        desk.create(KEYPAIR, name="key")
    assert len(desk.cloud.resources(KEYPAIR)) == 1


@pytest.mark.parametrize(
    ("old", "new", "diffs", "replaces"),
    [
        ({"cidr": "a", "tags": ["x"]}, {"cidr": "a", "tags": ["x"]}, [], []),
        ({"cidr": "a", "tags": ["x"]}, {"cidr": "a", "tags": ["x", "y"]}, ["tags[1]"], []),
        ({"cidr": "a"}, {"cidr": "b", "description": "d"}, ["cidr", "description"], ["cidr"]),
        ({"networkId": "a"}, {"networkId": UNKNOWN}, ["networkId"], ["networkId"]),
        ({"networkId": "a", "cidr": "b"}, {"networkId": "a"}, ["cidr"], ["cidr"]),
    ],
)
def test_a_diff_says_what_changes_and_what_replaces(
    desk: Desk, old: dict[str, Any], new: dict[str, Any], diffs: list[str], replaces: list[str]
) -> None:
    found = desk.diff(SUBNET, old, new)
    assert sorted(found.detailedDiff) == diffs
    assert list(found.replaces) == replaces
    assert (found.changes == proto.DiffResponse.DIFF_SOME) == bool(diffs)


def test_what_keeps_its_name_goes_before_the_new_one_comes(desk: Desk) -> None:
    assert desk.diff(KEYPAIR, {"name": "k", "publicKey": "a"}, {"name": "k", "publicKey": "b"}).deleteBeforeReplace
    assert not desk.diff(KEYPAIR, {"name": "k", "publicKey": "a"}, {"name": "l", "publicKey": "b"}).deleteBeforeReplace


def test_paths_reach_into_lists() -> None:
    value = {"nics": [{"subnet": "a", "ips": ["1", "2"]}, {"subnet": "b"}]}
    assert list(at(value, "nics[*].subnet")) == [("nics[0].subnet", "a"), ("nics[1].subnet", "b")]
    assert list(at(value, "nics[1].ips[*]")) == []
    assert [path for path, _, _ in changes(value, {"nics": [{"subnet": "c", "ips": ["1"]}, {"subnet": "b"}]})] == [
        "nics[0].ips[1]", "nics[0].subnet",
    ]  # fmt: skip
    assert covers({"nics[*].subnet"}, "nics[3].subnet")
    assert covers({"nics[*].subnet"}, "nics[3]")
    assert covers({"nics"}, "nics[3].ips[0]")
    assert not covers({"nics[*].subnet"}, "nics[3].ips[0]")


def test_a_refresh_sees_what_was_changed_or_deleted_by_hand(desk: Desk) -> None:
    made = desk.create(NETWORK, description="ours")
    request = proto.ReadRequest(urn=urn(NETWORK, "one"), type=NETWORK, id=made.id, properties=made.properties)
    desk.cloud.change(NETWORK, made.id, description="theirs")
    found = desk.work.read(Context(), request)
    assert plain(received(found.inputs)) == {"description": "theirs"}
    assert plain(received(found.properties))["description"] == "theirs"
    desk.cloud.remove(NETWORK, made.id)
    assert desk.work.read(Context(), request).id == ""


def test_a_call_that_is_to_fail_makes_nothing(desk: Desk) -> None:
    desk.cloud.plan(Fault(what="fail", method="create", nth=2, message="quota exceeded"))
    desk.create(NETWORK, "one")
    with pytest.raises(CloudError, match="quota exceeded"):
        desk.create(NETWORK, "two")
    desk.create(NETWORK, "three")
    assert [each.name for each in desk.cloud.resources()] == ["one", "three"]
    assert [(each.name, each.fault, each.outcome) for each in desk.cloud.journal("create")] == [
        ("one", "", "done"), ("two", "fail", "failed: CloudError: quota exceeded"), ("three", "", "done"),
    ]  # fmt: skip


def test_a_lost_reply_leaves_what_was_made(desk: Desk) -> None:
    desk.cloud.plan(Fault(what="lose", type="openstack:networking/*"))
    with pytest.raises(CloudError, match="connection reset before the answer came"):
        desk.create(NETWORK)
    assert len(desk.cloud.resources()) == 1
    assert desk.cloud.journal()[-1].id == desk.cloud.resources()[0].id


def test_a_lost_reply_to_a_removal_leaves_nothing(desk: Desk) -> None:
    made = desk.create(NETWORK)
    desk.cloud.plan(Fault(what="lose", method="delete"))
    with pytest.raises(CloudError, match="connection reset"):
        desk.delete(NETWORK, made.id)
    assert desk.cloud.resources() == []


def test_what_is_half_made_is_kept_in_the_engines_state(desk: Desk) -> None:
    desk.cloud.plan(Fault(what="half"))
    with pytest.raises(Kept) as kept:
        desk.create(NETWORK)
    assert kept.value.detail.id == desk.cloud.resources()[0].id
    assert list(kept.value.detail.reasons) == ["it did not become ready"]


def test_a_throttled_call_is_tried_again_for_a_while(desk: Desk) -> None:
    desk.cloud.plan(Fault(what="throttle", method="create", times=2))
    desk.create(NETWORK)
    assert [each.outcome for each in desk.cloud.journal("create")] == ["throttled", "throttled", "done"]
    desk.cloud.plan(Fault(what="throttle", method="create", times=4))
    with pytest.raises(CloudError, match="rate exceeded, status 429"):
        desk.create(NETWORK)
    assert len(desk.cloud.resources()) == 1


@pytest.mark.parametrize(("what", "left"), [("hang", 0), ("stall", 1)])
def test_a_call_that_hangs_ends_when_it_is_cancelled(desk: Desk, what: Any, left: int) -> None:
    desk.cloud.plan(Fault(what=what))
    context = Context()
    context.cancelled.set()
    request = proto.CreateRequest(urn=urn(NETWORK, "one"), type=NETWORK, properties=Struct())
    with pytest.raises(Cancelled):
        desk.work.create(context, request)
    assert len(desk.cloud.resources()) == left


def test_the_first_call_of_each_type_or_resource_goes_wrong_once(desk: Desk) -> None:
    desk.cloud.plan(Fault(method="create", once_per="type"))
    assert [_fails(desk, name) for name in ("one", "one", "two")] == [True, False, False]
    desk.cloud.plan(Fault(method="create", once_per="name"))
    assert [_fails(desk, name) for name in ("one", "one", "two")] == [True, False, True]


def _fails(desk: Desk, name: str) -> bool:
    try:
        desk.create(NETWORK, name)
    except CloudError:
        return True
    return False


def test_previews_and_checks_meet_no_faults(desk: Desk) -> None:
    desk.cloud.plan(Fault(nth=1))
    assert desk.refused(NETWORK) == []
    desk.create(NETWORK, preview=True)
    assert [each.method for each in desk.cloud.journal(preview=True)] == ["check", "create"]
    with pytest.raises(CloudError, match="status 500"):
        desk.create(NETWORK)


def test_everything_outlives_the_plugin(desk: Desk, tmp_path: Path) -> None:
    made = desk.create(NETWORK)
    desk.cloud.begin(Asked(plugin="openstack", method="create", type=NETWORK, urn=urn(NETWORK, "killed")))
    again = Desk(tmp_path)
    assert [each.id for each in again.cloud.resources()] == [made.id]
    assert [each.outcome for each in again.cloud.journal()] == ["done", ""]
    assert len(again.cloud.resources(given=True)) == 2


def test_settings_of_the_provider_are_checked_and_may_be_refused(desk: Desk) -> None:
    assert [each.key for each in desk.work.check_config({"regoin": "x"})] == ["regoin"]
    assert desk.work.check_config({"insecure": "true", "version": "1.0"}) == []
    assert [each.key for each in desk.work.check_config({"insecure": "maybe"})] == ["insecure"]
    assert list(desk.work.diff_config({"region": "a"}, {"region": "b"}).replaces) == ["region"]
    changed = desk.work.diff_config({"userName": "a"}, {"userName": "b"})
    assert (list(changed.diffs), list(changed.replaces)) == (["userName"], [])
    assert desk.work.diff_config({"userName": "a"}, {"userName": "a"}).changes == proto.DiffResponse.DIFF_NONE
    with pytest.raises(CloudError, match="Authentication failed"):
        desk.work.configure({"password": "wrong"})


def test_every_resource_that_touches_a_machine_is_simulated() -> None:
    pure = {name for name in registry.MODULES if name.startswith(("vre:crypto:", "vre:libvirt:", "vre:cloud:"))}
    assert set(KEPT) == set(registry.MODULES) - pure
    for token in KEPT:
        real, handler = registry.handler(token), find(token)
        assert isinstance(handler, type(real))
        assert type(handler) is not type(real)
        assert (handler.replace_on, handler.ignore) == (real.replace_on, real.ignore)
        assert {"check", "normalise", "diff"}.isdisjoint(vars(type(handler)))


def test_what_lives_inside_a_machine_goes_with_it(desk: Desk) -> None:
    made = desk.create(NETWORK)
    for name, machine in (("one", made.id), ("other", "another")):
        desk.cloud.put(Thing(type="vre:machine:Files", id=name, inputs={"machine": machine}, outputs={}, plugin="vre"))
    desk.delete(NETWORK, made.id)
    assert [each.id for each in desk.cloud.resources()] == ["other"]


def test_a_simulated_door_answers_as_the_real_one_does(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRE_SIMULATED_CLOUD", str(desk.cloud.path))
    door = find("vre:service:Door")
    inputs = door.normalise({"url": "https://vre.example.org", "authority": "PEM"})
    identity, outputs = door.create(Context(), inputs)
    assert identity == "https://vre.example.org/"
    assert outputs["answered"]
    assert door.read(Context(), identity, outputs) is None
    desk.cloud.put(Thing(type=door.token, id=identity, inputs=inputs, outputs=outputs))
    found = door.read(Context(), identity, outputs)
    assert found is not None
    assert found.outputs == outputs
