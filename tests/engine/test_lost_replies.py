"""The answer to the creation of each kind of thing is lost once: what `vre orphans` looks with finds just that.

The stand-ins for the REST interfaces show what the simulated cloud holds at that moment.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.engine.simulated import azure, azure_rest, gcp, gcp_rest
from tests.engine.simulated.lifecycle import Life, begin
from tests.engine.simulated.store import Cloud, Fault, Thing
from vre import orphans
from vre.config import Config
from vre.errors import VreError
from vre.load import load
from vre.orphans import Account
from vre.orphans import azure as azure_reader
from vre.orphans import gcp as gcp_reader
from vre.stackfile import parse

STACK = """\
  vre:name: phenome
  vre:cloud: {CLOUD}
  vre:edge: {provider: direct, domain: example.org}
  vre:access: {operators: [203.0.113.0/24], keys: [.vre/id_ed25519.pub]}
  vre:machines: {control: {data: 10}, workers: {count: 1}}
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A cloud, and how what stands there is looked at."""

    plugin: str
    cloud: str
    env: Mapping[str, str]
    kinds: frozenset[str]
    account: Callable[[Config, Cloud], Account]
    again: frozenset[str]
    """What is made anew over what was lost, as if nothing had been: it has no name of its own."""
    for_ever: frozenset[str] = frozenset()
    """What nobody can delete, costs nothing, and is not named."""

    @property
    def text(self) -> str:
        """What stands below `config:`."""
        return STACK.replace("CLOUD", self.cloud)

    def looked(self, life: Life) -> Account:
        """Return the account as it is now."""
        return self.account(load(parse(f"config:\n{self.text}", Path("stacks/Pulumi.phenome.yaml"))), life.cloud)


GOOGLE = Place(
    plugin="gcp",
    cloud="provider: gcp, project: phenome-1234, region: europe-west1",
    env={"GOOGLE_OAUTH_ACCESS_TOKEN": "a-login-of-the-tests"},
    kinds=frozenset(kind.token for kind in gcp.Google.kinds),
    account=lambda config, cloud: gcp_reader.Account(config, gcp_rest.Session(cloud=cloud)),
    again=frozenset({gcp.GRANT}),
    for_ever=frozenset({gcp.RING}),
)
AZURE = Place(
    plugin="azure-native",
    cloud="provider: azure, subscription: 00000000-0000-0000-0000-000000000000, region: westeurope",
    env=dict.fromkeys(azure.CREDENTIALS, "a-login-of-the-tests"),
    kinds=frozenset(kind.token for kind in azure.Azure.kinds),
    account=lambda config, cloud: azure_reader.Account(config, httpx.MockTransport(azure_rest.Manager(cloud=cloud))),
    again=frozenset({azure.GRANT}),
)


@pytest.fixture(params=[GOOGLE, AZURE], ids=lambda place: str(place.plugin))
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    found: Place = request.param
    for name, value in found.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(gcp_reader, "PAUSE", 0.0)
    monkeypatch.setattr(azure_reader, "PAUSE", 0.0)
    return found


def found(place: Place, life: Life) -> tuple[orphans.Thing, ...]:
    """Return what `vre orphans` names, and hold that it is all that was lost, and nothing else."""
    account = place.looked(life)
    named = orphans.unknown(account, account.standing(), life.engine.resources(life.stack))
    silent = place.again | place.for_ever
    lost = {each.id.casefold() for each in life.orphans() if each.type not in silent and each.plugin == place.plugin}
    assert {each.id.casefold() for each in named} == lost
    return named


def lost(life: Life) -> list[Thing]:
    return [each for each in life.orphans() if each.plugin != "vre"]


@pytest.mark.timeout(2400)
def test_whatever_was_lost_is_named_and_goes_and_the_next_run_goes_on(
    place: Place, tmp_path: Path, pulumi_program: Path
) -> None:
    life = begin(tmp_path / "clone", "phenome", place.text, [place.plugin], env=place.env)
    life.cloud.plan(Fault(what="lose", method="create", plugin=place.plugin, once_per="type"))
    for _ in place.kinds:
        if life.run("up", "--yes", "--skip-preview", "--continue-on-error").code == 0:
            break
        taken_away(place, life)
    assert {entry.type for entry in life.cloud.journal() if entry.fault == "lose"} == place.kinds
    life.preview("--expect-no-changes", "--refresh")
    assert found(place, life) == ()
    assert {each.type for each in life.orphans()} == place.for_ever
    life.succeeds("destroy", "--yes", "--skip-preview")
    assert found(place, life) == ()
    assert {each.type for each in lost(life)} == place.for_ever


def taken_away(place: Place, life: Life) -> None:
    """Delete everything that is named. A key in a vault goes with all of the stack, as the page says."""
    for each in found(place, life):
        if each.kind == "key" and place is AZURE:
            with pytest.raises(VreError, match="only with its vault"):
                place.looked(life).delete(each)
            life.succeeds("destroy", "--yes", "--skip-preview")
            break
        place.looked(life).delete(each)
    assert found(place, life) == ()
