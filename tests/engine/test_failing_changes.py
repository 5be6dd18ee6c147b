"""Every step of a change, of a move and of the end goes wrong once: the next run goes on, nothing is twice or left.

The first creation is each cloud's own test.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine.logins import logged_in
from tests.engine.simulated import aws, aws_api, azure, gcp, openstack, openstack_compute
from tests.engine.simulated.lifecycle import Life, begin
from tests.engine.simulated.store import Entry, Fault
from tests.oracle import aws as amazon
from tests.oracle import azure as arm
from tests.oracle import gcp as google

STACK = """\
  vre:name: phenome
  vre:cloud: {CLOUD}
  vre:edge: {provider: direct, domain: example.org}
  vre:access: {operators: [OPERATORS], keys: [.vre/id_ed25519.pub]}
  vre:machines: {control: CONTROL, workers: {count: WORKERS}}
  vre:outbound: {resolvers: [192.0.2.53/32]}
"""
GROWN = {"OPERATORS": '198.51.100.0/25, "2001:db8::/32"', "CONTROL": "{size: medium, data: 20}", "WORKERS": "0"}


@dataclass(frozen=True, kw_only=True)
class Course:
    """What is launched, and which types of things go wrong on the way."""

    plugin: str
    cloud: str
    moved: str
    """Where machines and disks have to be anew."""
    updated: frozenset[str]
    """What a change of operators, size and data disk, and the end of all workers change in place,"""
    ended: frozenset[str]
    """and what that deletes."""
    replaced: frozenset[str]
    """What is anew after a move that brings the worker back."""
    ends: frozenset[str]
    """What is deleted at the end, by a call of its own."""


GOOGLE = Course(
    plugin="gcp",
    cloud="provider: gcp, project: phenome-1234, region: europe-west1",
    moved="provider: gcp, project: phenome-1234, region: europe-west1, zone: europe-west1-c",
    updated=frozenset({google.FIREWALL, gcp.DISK, google.INSTANCE}),
    ended=frozenset({google.INSTANCE, gcp.DISK, google.FIREWALL, google.NAT, gcp.ROUTER}),
    replaced=frozenset({google.INSTANCE, gcp.DISK}),
    ends=frozenset(kind.token for kind in gcp.Google.kinds),
)
AZURE = Course(
    plugin="azure-native",
    cloud="provider: azure, subscription: 00000000-0000-0000-0000-000000000000, region: westeurope",
    moved="provider: azure, subscription: 00000000-0000-0000-0000-000000000000, region: northeurope",
    updated=frozenset({arm.FIREWALL, arm.SUBNET, azure.DISK, azure.MACHINE}),
    ended=frozenset({azure.MACHINE, azure.DISK, arm.INTERFACE, arm.GROUP, azure.NAT, azure.ADDRESS}),
    # The worker's way out went with the first worker: it only comes back.
    replaced=frozenset(kind.token for kind in azure.Azure.kinds) - {azure.NAT},
    ends=frozenset(kind.token for kind in azure.Azure.kinds) - {azure.KEY, azure.GRANT},
)

AWS = Course(
    plugin="aws",
    cloud="provider: aws, region: eu-west-1",
    moved="provider: aws, region: eu-west-1, zone: eu-west-1b",
    updated=frozenset({amazon.INSTANCE, aws_api.VOLUME}),
    ended=frozenset(
        {amazon.INSTANCE, aws_api.VOLUME, amazon.CARD, amazon.GROUP, amazon.INGRESS, amazon.EGRESS, amazon.SUBNET,
         amazon.NAT, amazon.PUBLIC, amazon.EGRESS_ONLY, amazon.TABLE, amazon.ROUTE, amazon.SUBNET_ROUTES}
    ),
    replaced=frozenset(
        {amazon.SUBNET, amazon.CARD, amazon.INSTANCE, aws_api.VOLUME, aws_api.ATTACHMENT, amazon.LED,
         amazon.SUBNET_ROUTES}
    ),
    ends=frozenset(kind.token for kind in aws.Aws.kinds) - {aws_api.ATTACHMENT},
)  # fmt: skip
OPENSTACK = Course(
    plugin="openstack",
    cloud="provider: openstack, region: RegionOne, public: true, external-network: public, volume-type: LUKS",
    moved="provider: openstack, region: RegionOne, public: true, external-network: public, volume-type: LUKS,"
    " network: 10.78.0.0/16",
    updated=frozenset({openstack_compute.INSTANCE, openstack_compute.VOLUME}),
    ended=frozenset(
        {openstack_compute.INSTANCE, openstack_compute.VOLUME, openstack_compute.PORT, openstack.GROUP, openstack.RULE}
    ),
    replaced=frozenset(
        {openstack.NETWORK, openstack.SUBNET, openstack.INTERFACE, openstack_compute.PORT, openstack_compute.INSTANCE,
         openstack_compute.VOLUME}
    ),
    ends=frozenset(kind.token for kind in openstack.OpenStack.kinds),
)  # fmt: skip


def text(cloud: str, **changes: str) -> str:
    """Return what stands below `config:`."""
    made = STACK.replace("CLOUD", cloud)
    for word, value in {"OPERATORS": "203.0.113.0/24", "CONTROL": "{data: 10}", "WORKERS": "1", **changes}.items():
        made = made.replace(word, value)
    return made


def faults(course: Course, *methods: str) -> list[Fault]:
    """Have the first call of each type fail; what only changes or deletes loses its second answer, too."""
    ends = [("fail", method) for method in methods] + [("lose", each) for each in methods if each != "create"]
    return [Fault(what=what, method=each, plugin=course.plugin, once_per="type") for what, each in ends]  # type: ignore[arg-type]


def types(met: list[Entry], method: str, fault: str = "fail") -> set[str]:
    """Return the types at which calls of a method went wrong."""
    return {each.type for each in met if (each.method, each.fault) == (method, fault)}


@pytest.fixture(
    params=[
        pytest.param(GOOGLE, id="gcp"),
        pytest.param(AZURE, id="azure", marks=pytest.mark.drill),
        pytest.param(AWS, id="aws", marks=pytest.mark.drill),
        pytest.param(OPENSTACK, id="openstack", marks=pytest.mark.drill),
    ]
)
def course(request: pytest.FixtureRequest) -> Course:
    found: Course = request.param
    return found


@pytest.fixture
def life(course: Course, tmp_path: Path, pulumi_program: Path) -> Iterator[Life]:
    with logged_in(course.plugin, tmp_path) as env:
        made = begin(tmp_path / "clone", "phenome", text(course.cloud), [course.plugin], env=env)
        made.up()
        yield made


# The library of OpenStack says so of parts of its own that it uses itself.
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.timeout(7200)
def test_every_step_goes_wrong_once_and_the_next_run_goes_on(course: Course, life: Life) -> None:
    life.configure(text(course.cloud, **GROWN))
    met = life.fail_in_turn(*faults(course, "create", "update", "delete"))
    assert types(met, "update") == course.updated
    assert types(met, "delete") == course.ended
    life.whole()

    life.configure(text(course.moved, **{**GROWN, "WORKERS": "1"}))
    met = life.fail_in_turn(*faults(course, "create", "update", "delete"), go_on=False)
    assert course.replaced <= types(met, "create")
    assert course.replaced & course.ends <= types(met, "delete")
    life.whole()

    met = life.fail_in_turn(*faults(course, "delete"), action="destroy")
    assert types(met, "delete") == course.ends
    assert types(met, "delete", "lose") == course.ends
    life.gone()
