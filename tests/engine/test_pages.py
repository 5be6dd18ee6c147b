"""What the page of a cloud says of changing each field, read from the page, against what the engine would do then."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engine.logins import ELSEWHERE, logged_in
from tests.engine.simulated import aws, aws_api, azure, gcp, openstack, openstack_compute
from tests.engine.simulated.lifecycle import Life, begin
from tests.oracle import aws as amazon
from tests.oracle import azure as arm
from tests.oracle import gcp as google
from vre.paths import project

HEAD = "what happens |\n|---|---|\n"
ANOTHER = "another vre"
LATER = ("for machines made from then on", "for new machines only", "nothing in the cloud")
COME_AND_GO = ("come and go", "come or go")
ANEW, STAYS = "(?:is|are) made anew", "(?:stays?|go on|do not notice)\\b"
IN_PLACE = ("in place", "grow in place", "grows in place")
CANNOT, REFUSES, REFUSED = "cannot move", "azure refuses", "smaller is refused"
SMALLER: dict[str, Any] = {
    "machines.*.disk": {"machines": {"control": {"disk": 30}}},
    "machines.*.data": {"machines": {"control": {"data": 10}}},
}
OWN_KEY = ".vre/id_ed25519.pub"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL bob"
GALLERY = "/subscriptions/0/resourceGroups/i/providers/Microsoft.Compute/galleries/g/images/own/versions/1.0.0"

Patch = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A cloud and its page. `nouns` are the words for things on the page, `touched` what a field changes in place.

    A thing is told by its type, or by `TYPE NAME`, where the name may have stars.
    """

    file: str
    plugin: str
    cloud: Patch
    nouns: Mapping[str, frozenset[str]]
    touched: Mapping[str, str]
    fields: Mapping[str, Patch]
    """The cloud's own fields, and those that are special there, each with another value."""
    parts: Patch = field(default_factory=dict)
    """What the stack file has to say on this cloud besides."""

    @property
    def own(self) -> frozenset[str]:
        """Machines and disks of every kind."""
        return frozenset(
            kind for word, kinds in self.nouns.items() if word.endswith(("machines", "disks")) for kind in kinds
        )

    @property
    def stack(self) -> dict[str, Any]:
        """The stack file that each field is changed in."""
        return {
            "name": "phenome",
            "cloud": dict(self.cloud),
            "access": {"keys": [OWN_KEY], "operators": ["203.0.113.0/24"]},
            "edge": {"provider": "direct", "domain": "example.org"},
            "machines": {"control": {"disk": 40, "data": 20}, "workers": {"count": 2}},
            **self.parts,
        }

    @property
    def changes(self) -> dict[str, Patch]:
        """Each field of the page, with another value."""
        operators: Patch = {"access": {"operators": ["198.51.100.0/25"]}}
        networks: Patch = {"edge": {"networks": ["198.51.100.0/24"]}}
        return {
            "access": operators,
            "access.operators": operators,
            "access.keys": {"access": {"keys": [OWN_KEY, KEY]}},
            "edge": networks,
            "edge.networks": networks,
            "outbound": {"outbound": {"resolvers": ["192.0.2.53/32"]}},
            "machines.*.size": {"machines": {"control": {"size": "medium"}}},
            "machines.*.disk": {"machines": {"control": {"disk": 60}}},
            "machines.*.data": {"machines": {"control": {"data": 40}}},
            "machines.workers.count": {"machines": {"workers": {"count": 3}}},
            "without": {"machines": {"workers": {"count": 1, "without": [1]}}},
            **self.fields,
        }


GOOGLE = Page(
    file="gcp.md",
    plugin="gcp",
    cloud={"provider": "gcp", "project": "phenome-1234", "region": "europe-west1"},
    nouns={
        "everything": frozenset(kind.token for kind in gcp.Google.kinds),
        "machines": frozenset({google.INSTANCE}),
        "disks": frozenset({gcp.DISK}),
        "subnet": frozenset({google.SUBNET}),
        "address": frozenset({gcp.ADDRESS}),
    },
    touched={
        "machines.*.size": google.INSTANCE,
        "machines.*.disk": gcp.DISK,
        "machines.*.data": gcp.DISK,
        "access.operators": google.FIREWALL,
        "edge": google.FIREWALL,
        "outbound": google.FIREWALL,
    },
    fields={
        "cloud.project": {"cloud": {"project": "phenome-5678"}},
        "cloud.region": {"cloud": {"region": "europe-west4"}},
        "cloud.zone": {"cloud": {"zone": "europe-west1-c"}},
        "cloud.network": {"cloud": {"network": "10.78.0.0/16"}},
        "cloud.image": {"cloud": {"image": "projects/phenome-1234/global/images/vre-13"}},
    },
)
AZURE = Page(
    file="azure.md",
    plugin="azure-native",
    cloud={"provider": "azure", "subscription": "00000000-0000-0000-0000-000000000000", "region": "westeurope"},
    nouns={
        "everything": frozenset(kind.token for kind in azure.Azure.kinds),
        "machines": frozenset({azure.MACHINE}),
        "disks": frozenset({azure.DISK}),
    },
    touched={
        "machines.*.size": azure.MACHINE,
        "machines.*.disk": azure.MACHINE,
        "machines.*.data": azure.DISK,
        "access": arm.FIREWALL,
        "edge.networks": arm.FIREWALL,
        "outbound": arm.FIREWALL,
    },
    fields={
        "cloud.region": {"cloud": {"region": "northeurope"}},
        "cloud.subscription": {"cloud": {"subscription": "00000000-0000-0000-0000-000000000001"}},
        "cloud.network": {"cloud": {"network": "10.78.0.0/16"}},
        "cloud.network6": {"cloud": {"network6": "fd76:7265:78::/64"}},
        "cloud.image": {"cloud": {"image": GALLERY}},
    },
)

FIRST_KEY: Patch = {"access": {"keys": [KEY, OWN_KEY]}}
AWS = Page(
    file="aws.md",
    plugin="aws",
    cloud={"provider": "aws", "region": "eu-west-1"},
    nouns={
        "everything": frozenset(kind.token for kind in aws.Aws.kinds),
        "machines": frozenset({amazon.INSTANCE}),
        "disks": frozenset({aws_api.VOLUME}),
        "subnets": frozenset({amazon.SUBNET}),
        "address": frozenset({f"{amazon.PUBLIC} phenome-control-address"}),
        "key pair": frozenset({aws_api.PAIR}),
    },
    touched={
        "machines.*.size": amazon.INSTANCE,
        "machines.*.disk": amazon.INSTANCE,
        "machines.*.data": aws_api.VOLUME,
        "access.operators": amazon.INGRESS,
        "edge.networks": amazon.INGRESS,
        "outbound": amazon.EGRESS,
    },
    fields={
        "access.keys": FIRST_KEY,
        "cloud.region": {"cloud": {"region": "eu-west-2"}},
        "cloud.zone": {"cloud": {"zone": "eu-west-1b"}},
        "cloud.network": {"cloud": {"network": "10.78.0.0/16"}},
        "cloud.image": {"cloud": {"image": "ami-0123456789abcdef0"}},
    },
)
OPENSTACK = Page(
    file="openstack.md",
    plugin="openstack",
    cloud={
        "provider": "openstack",
        "region": "RegionOne",
        "public": True,
        "external-network": "public",
        "volume-type": "LUKS",
    },
    parts={"outbound": {"resolvers": ["192.0.2.52/32"], "time": ["192.0.2.122/32"]}},
    nouns={
        "everything": frozenset(kind.token for kind in openstack.OpenStack.kinds),
        "network": frozenset({openstack.NETWORK}),
        "ports": frozenset({openstack_compute.PORT}),
        "machines": frozenset({openstack_compute.INSTANCE}),
        "system disks": frozenset({f"{openstack_compute.VOLUME} *-system"}),
        "data disks": frozenset({f"{openstack_compute.VOLUME} *-data"}),
        "address": frozenset({openstack.FLOATING}),
        "key pair": frozenset({openstack_compute.KEYPAIR}),
    },
    touched={
        "machines.*.size": openstack_compute.INSTANCE,
        "machines.*.disk": f"{openstack_compute.VOLUME} *-system",
        "machines.*.data": f"{openstack_compute.VOLUME} *-data",
        "cloud.volume-type": openstack_compute.VOLUME,
        "access.operators": openstack.RULE,
        "edge": openstack.RULE,
        "outbound": openstack.RULE,
        "outbound.resolvers": openstack.SUBNET,
    },
    fields={
        "access.keys": FIRST_KEY,
        "outbound": {"outbound": {"time": ["192.0.2.123/32"]}},
        "outbound.resolvers": {"outbound": {"resolvers": ["192.0.2.53/32"]}},
        "cloud.region": {"cloud": {"region": "RegionTwo"}},
        "cloud.network": {"cloud": {"network": "10.78.0.0/16"}},
        "cloud.network6": {"cloud": {"network6": "fd76:7265:78::/64"}},
        "cloud.external-network": {"cloud": {"external-network": ELSEWHERE}},
        "cloud.image": {"cloud": {"image": "Ubuntu"}},
        "cloud.volume-type": {"cloud": {"volume-type": "standard"}},
        "cloud.public": {"cloud": {"public": False}},
    },
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a page's table: fields, and what the page says of them."""

    keys: tuple[str, ...]
    says: str

    def named(self, page: Page, verb: str) -> frozenset[str]:
        """Return the types of what the page says something of: `are made anew`, `stay`."""
        parts = " ".join(re.findall(rf"([^;:.]*?) {verb}", self.says))
        words = [word for word in page.nouns if re.search(rf"\b{word}\b", parts)]
        return frozenset(kind for word in words for kind in page.nouns[word])


def rows(page: Page) -> Iterator[Row]:
    """Yield the rows of the table."""
    text = (project() / "docs" / "clouds" / page.file).read_text()
    assert text.count(HEAD) == 1
    for line in text.partition(HEAD)[2].partition("\n\n")[0].splitlines():
        _, fields, says, _ = line.split("|")
        yield Row(keys=tuple(re.findall(r"`([^`]+)`", fields)), says=says.strip().casefold())


def text(page: Page, patch: Patch) -> str:
    """Return what stands below `config:`."""
    values = {f"vre:{key}": value for key, value in _over(page.stack, patch).items()}
    return "".join(f"  {line}\n" for line in yaml.safe_dump(values, sort_keys=False).splitlines())


def _over(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {key: _over(old.get(key), new[key]) if key in new else old[key] for key in [*old, *(new.keys() - old)]}
    return new


@pytest.fixture(
    params=[
        pytest.param(GOOGLE, id="gcp"),
        pytest.param(AZURE, id="azure"),
        pytest.param(AWS, id="aws", marks=pytest.mark.drill),
        pytest.param(OPENSTACK, id="openstack", marks=pytest.mark.drill),
    ]
)
def page(request: pytest.FixtureRequest) -> Page:
    found: Page = request.param
    return found


@pytest.fixture
def life(page: Page, tmp_path: Path, pulumi_program: Path) -> Iterator[Life]:
    with logged_in(page.plugin, tmp_path) as env:
        made = begin(tmp_path / "clone", "phenome", text(page, {}), [page.plugin], env=env)
        made.up()
        yield made


def names(life: Life, kinds: frozenset[str]) -> set[str]:
    """Return what stands, of these kinds, as `TYPE NAME`."""
    patterns = [kind if " " in kind else f"{kind} *" for kind in kinds]
    every = [f"{each.type} {each.name}" for each in life.cloud.resources()]
    return {each for each in every if any(fnmatchcase(each, pattern) for pattern in patterns)}


@pytest.mark.requirement("O-09")
# The library of OpenStack says so of parts of its own that it uses itself.
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.timeout(3600)
def test_each_field_does_what_the_page_says(page: Page, life: Life) -> None:
    table = list(rows(page))
    assert len(table) > 7
    for row in table:
        for key in row.keys:
            if not row.says.startswith(ANOTHER):
                life.configure(text(page, page.changes[key]))
                keeps_its_word(page, life, row, key)


def keeps_its_word(page: Page, life: Life, row: Row, key: str) -> None:
    """Hold that what would be done when a field changes is what the row says."""
    planned = life.planned_by_type(page.plugin)
    told = f"{key}: {row.says}: {planned}"
    own = names(life, page.own)
    anew, stays = row.named(page, ANEW), row.named(page, STAYS)
    flows = any(word in row.says for word in COME_AND_GO)
    if anew:
        assert {planned.get(name) for name in names(life, anew)} == {"replace"}, told
    elif row.says.startswith(LATER):
        assert planned == {}, told
    elif flows and not row.says.startswith(IN_PLACE):
        workers = {name for name in planned if " phenome-worker-" in name}
        assert {planned[name] for name in workers} <= {"create", "delete"}, told
        assert workers, told
        assert not {name for name in own if "control" in name} & planned.keys(), told
    elif CANNOT not in row.says:
        assert row.says.startswith(IN_PLACE), told
        in_place(planned, own, told)
        if key in page.touched:
            changed = {name for name, action in planned.items() if action == "update" or (flows and action == "delete")}
            assert changed & names(life, frozenset({page.touched[key]})), told
        else:
            assert planned == {}, told
    assert not names(life, stays) & planned.keys(), told
    if REFUSES in row.says:
        refused(page, life)
    if REFUSED in row.says:
        life.configure(text(page, SMALLER[key]))
        refused(page, life)


def in_place(planned: Mapping[str, str], own: set[str], told: str) -> None:
    """Hold that no machine and no disk comes, goes or is made anew, and nothing else is made anew either."""
    assert {planned[name] for name in own & planned.keys()} <= {"update"}, told
    assert "replace" not in planned.values(), told


def refused(page: Page, life: Life) -> None:
    """Hold that it is refused, and that the stack is whole again with what it was before."""
    life.fails("up", "--yes", "--skip-preview")
    life.configure(text(page, {}))
    life.up("--refresh")
    life.whole()
