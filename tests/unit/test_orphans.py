"""What was lost on a cloud: what counts as lost, how it is told, and that nothing else is ever deleted."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from typer.testing import CliRunner

from vre import engine, orphans
from vre.cli import launch, outputs, preparation
from vre.cli import orphans as command
from vre.cli.main import app
from vre.config import Config
from vre.errors import VreError
from vre.orphans import Resource, Thing

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO7pYHNTKlbjhJcKVYz4oTCdoBH/V1KdbSFHwMcjSSo2"
CONFIG = Config.model_validate({
    "name": "lab", "cloud": {"provider": "aws", "region": "eu-west-1"}, "access": {"keys": [KEY]},
    "edge": {"provider": "direct", "domain": "example.org"},
})  # fmt: skip
runner = CliRunner()


@dataclass(kw_only=True)
class Fake:
    """An account that holds a few things; `stuck` are those that it does not delete."""

    things: list[Thing]
    stuck: tuple[str, ...] = ()
    fault: str = ""
    deleted: list[str] = field(default_factory=list)
    order: Sequence[str] = ("machine", "disk", "rule", "group", "pair")
    plugin: str = "cloud"

    def standing(self) -> list[Thing]:
        if self.fault:
            raise VreError(self.fault)
        return list(self.things)

    def identity(self, resource: Resource) -> str:
        return str(resource.get("id", ""))

    def delete(self, thing: Thing) -> None:
        if thing.id in self.stuck:
            raise VreError("it is in use")
        self.deleted.append(thing.id)
        self.things.remove(thing)


MACHINE = Thing(kind="machine", id="i-1", name="vre-lab-control", words=("i-1",), loss="its system disk goes with it")
DISK = Thing(
    kind="disk", id="vol-1", name="vre-lab-control-data", words=("vol-1",), loss="30 GiB, and whatever is on it"
)
GROUP = Thing(kind="group", id="sg-1", words=("sg-1",))
RULE = Thing(kind="rule", id="sgr-1", words=("sgr-1",), within="sg-1")
PAIR = Thing(kind="pair", id="vre-lab")
EVERY = [PAIR, GROUP, RULE, DISK, MACHINE]


def resource(identity: str, kind: str = "cloud:ec2/thing:Thing", **outputs: Any) -> dict[str, Any]:
    urn = f"urn:pulumi:lab::vre::{kind}::thing"
    return {"urn": urn, "type": kind, "id": identity, "inputs": {}, "outputs": outputs}


def left(*resources: dict[str, Any]) -> list[str]:
    return [each.id for each in orphans.unknown(Fake(things=EVERY), EVERY, resources)]


def test_what_no_state_knows_comes_in_the_order_in_which_it_can_be_deleted() -> None:
    assert left() == ["i-1", "vol-1", "sgr-1", "sg-1", "vre-lab"]


@pytest.mark.parametrize(
    ("known", "gone"),
    [
        (resource("I-1"), {"i-1"}),
        (resource("other", disks=[{"volume": "vol-1"}]), {"vol-1"}),
        # Everything has the stack's name in it, so that a name is no proof.
        (resource("other", keyName="vre-lab", tags={"Name": "vre-lab"}), set()),
        (resource("vre-lab"), {"vre-lab"}),
        (resource("vre-lab", "vre:machine:Machine"), set()),
        ({"type": "cloud:ec2/thing:Thing", "urn": "u"}, set()),
    ],
)
def test_what_a_state_holds_or_mentions_is_never_lost(known: dict[str, Any], gone: set[str]) -> None:
    assert {each.id for each in EVERY} - set(left(known)) == gone


def test_parts_are_told_with_what_they_belong_to() -> None:
    assert orphans.whole([RULE, DISK]) == (RULE, DISK)
    assert orphans.whole(EVERY) == (PAIR, GROUP, DISK, MACHINE)
    assert "group sg-1; with 1 parts" in command.lines(EVERY)
    assert command.lines(EVERY, 1) == "\n  pair vre-lab\n  and 3 more"


def test_a_hypervisor_has_no_account_to_look_at() -> None:
    here = Config.model_validate({"cloud": {"provider": "libvirt"}, "access": {"keys": [KEY]}})
    assert orphans.account(here) is None
    assert orphans.find(here, list) == ()


def test_what_the_launch_needs_has_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name="boto3")

    monkeypatch.setattr(orphans, "import_module", missing)
    with pytest.raises(VreError, match="boto3 is not installed") as told:
        orphans.find(CONFIG, list)
    assert told.value.hint == "vre setup aws-packages"


@dataclass
class Desk:
    """A stack whose state and account are as a test wants them."""

    cloud: Fake
    state: list[dict[str, Any]]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    made = Desk(cloud=Fake(things=list(EVERY)), state=[resource("i-1")])
    monkeypatch.setattr(orphans, "account", lambda config: made.cloud)
    monkeypatch.setattr(outputs, "config", lambda stack: CONFIG)
    monkeypatch.setattr(outputs, "vre", lambda: "vre")
    monkeypatch.setattr(engine, "exists", lambda stack: True)
    monkeypatch.setattr(engine, "resources", lambda stack: made.state)
    monkeypatch.setattr(engine, "recover", lambda stack, report: False)
    yield made


def test_looking_deletes_nothing(desk: Desk) -> None:
    done = runner.invoke(app, ["orphans", "-s", "lab"])
    assert done.exit_code == 0
    assert "4 things on the cloud" in done.output
    assert "disk vre-lab-control-data vol-1; 30 GiB, and whatever is on it" in done.output
    assert "bears the same mark" in done.output
    assert "i-1" not in done.output
    assert "delete it: vre orphans -s lab --delete" in done.output
    assert desk.cloud.deleted == []


def test_on_a_hypervisor_nothing_is_lost(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "account", lambda config: None)
    done = runner.invoke(app, ["orphans", "-s", "lab", "--delete"])
    assert (done.exit_code, done.output) == (
        0,
        "stack lab stands on a hypervisor, where a launch adopts what it finds\n",
    )


def test_an_empty_state_is_told(desk: Desk) -> None:
    desk.state.clear()
    assert "the state here is empty" in runner.invoke(app, ["orphans", "-s", "lab"]).output


def test_nobody_is_asked_where_nobody_is(desk: Desk) -> None:
    done = runner.invoke(app, ["orphans", "-s", "lab", "--delete"])
    assert isinstance(done.exception, VreError)
    assert done.exception.hint == "vre orphans -s lab --delete --yes"
    assert desk.cloud.deleted == []


def test_only_what_is_lost_is_deleted(desk: Desk) -> None:
    done = runner.invoke(app, ["orphans", "-s", "lab", "--delete", "--yes"])
    assert done.exit_code == 0, done.output
    assert desk.cloud.deleted == ["vol-1", "sgr-1", "sg-1", "vre-lab"]
    assert [each.id for each in desk.cloud.things] == ["i-1"]
    assert "4 things are gone" in done.output
    assert "nothing stands on the cloud" in runner.invoke(app, ["orphans", "-s", "lab"]).output


def test_what_a_state_learns_meanwhile_is_let_be(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [[], [], [resource("vol-1"), resource("i-1")]]
    monkeypatch.setattr(engine, "resources", lambda stack: told.pop(0) if len(told) > 1 else told[0])
    assert runner.invoke(app, ["orphans", "-s", "lab", "--delete", "--yes"]).exit_code == 0
    assert desk.cloud.deleted == ["sgr-1", "sg-1", "vre-lab"]


def test_what_comes_after_the_question_was_not_asked_about(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    late = Thing(kind="disk", id="vol-2", words=("vol-2",))
    asked = [[PAIR], [PAIR, late], [late]]
    monkeypatch.setattr(desk.cloud, "standing", lambda: asked.pop(0))
    done = runner.invoke(app, ["orphans", "-s", "lab", "--delete", "--yes"])
    assert desk.cloud.deleted == ["vre-lab"]
    assert isinstance(done.exception, VreError)
    assert "disk vol-2" in done.exception.message


def test_a_run_that_is_at_work_is_waited_for_before_each_look(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def noted(word: str, answer: Callable[[], Any]) -> Any:
        done.append(word)
        return answer()

    listed = desk.cloud.standing
    monkeypatch.setattr(engine, "recover", lambda stack, report: noted("settled", bool))
    monkeypatch.setattr(desk.cloud, "standing", lambda: noted("cloud", listed))
    monkeypatch.setattr(engine, "resources", lambda stack: noted("state", lambda: desk.state))
    runner.invoke(app, ["orphans", "-s", "lab", "--delete", "--yes"])
    assert done[:3] == ["settled", "cloud", "state"]
    assert done[3:7] == ["state", "settled", "cloud", "state"]


def test_what_cannot_be_deleted_is_told_and_the_rest_goes(desk: Desk) -> None:
    desk.cloud.stuck = ("sg-1",)
    done = runner.invoke(app, ["orphans", "-s", "lab", "--delete", "--yes"])
    assert isinstance(done.exception, VreError)
    assert done.exception.message == "1 of them still stand:\n  group sg-1: it is in use"
    assert desk.cloud.deleted == ["vol-1", "sgr-1", "vre-lab"]


@pytest.fixture
def launching(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The same, with all else that `up` and `down` do taken out."""
    from vre import clouds
    from vre.cli import parts, reach, trust

    for place, name in (
        (preparation, "announce"), (preparation, "require"), (parts, "ensure"), (parts, "tidy"), (clouds, "room"),
        (engine, "version"), (engine, "ensure_stack"), (engine, "pulumi"), (engine, "forget_salt"),
    ):  # fmt: skip
        monkeypatch.setattr(place, name, lambda *words, **more: None)
    monkeypatch.setattr(preparation, "wanted", lambda stack: ())
    monkeypatch.setattr(trust, "installed", lambda stack: False)
    monkeypatch.setattr(reach, "known_hosts_file", lambda stack: type("Gone", (), {"unlink": lambda self, **_: None})())
    return desk


def test_a_failed_launch_tells_what_it_left(launching: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(action: str, stack: str) -> None:
        raise VreError("up failed", hint="go on")

    monkeypatch.setattr(launch, "change", failing)
    done = runner.invoke(app, ["up", "-s", "lab"])
    assert isinstance(done.exception, VreError)
    assert done.exception.message == "up failed"
    assert done.exception.hint.startswith("go on\n  left on the cloud, and not in the state: 4 things\n")
    assert done.exception.hint.endswith("first: vre orphans -s lab --delete")
    launching.cloud.fault = "no way to the cloud"
    hint = runner.invoke(app, ["up", "-s", "lab"]).exception
    assert isinstance(hint, VreError)
    assert "could not be seen: no way to the cloud" in hint.hint
    launching.cloud.fault, launching.cloud.things = "", []
    hint = runner.invoke(app, ["up", "-s", "lab"]).exception
    assert isinstance(hint, VreError)
    assert hint.hint == "go on"


def test_a_launch_after_one_that_was_cut_off_tells_what_that_left(
    launching: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reached(Exception):
        pass

    def reached(action: str, stack: str) -> None:
        raise Reached

    monkeypatch.setattr(launch, "change", reached)
    assert "left on the cloud" not in runner.invoke(app, ["up", "-s", "lab"]).output
    monkeypatch.setattr(engine, "recover", lambda stack, report: True)
    done = runner.invoke(app, ["up", "-s", "lab"])
    assert isinstance(done.exception, Reached)
    assert "the last run was cut off; left on the cloud, and not in the state: 4 things" in done.output


def test_the_end_of_a_stack_is_not_well_while_something_stands(
    launching: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "change", lambda action, stack: launching.state.clear())
    done = runner.invoke(app, ["down", "-s", "lab", "--yes"])
    assert isinstance(done.exception, VreError)
    assert "stack lab is gone" in done.output
    assert done.exception.message.startswith("left of stack lab on the cloud, where it may cost: 5 things\n")
    assert done.exception.hint == "vre orphans -s lab --delete"
    launching.cloud.fault = "no way"
    unseen = runner.invoke(app, ["down", "-s", "lab", "--yes"])
    assert isinstance(unseen.exception, VreError)
    assert "could not be seen: no way" in unseen.exception.message
    launching.cloud.fault, launching.cloud.things = "", []
    assert runner.invoke(app, ["down", "-s", "lab", "--yes"]).exit_code == 0


def test_the_end_of_a_stack_that_never_had_to_do_with_a_cloud_looks_at_none(
    launching: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its file cannot be read any more: there is no account to ask for."""
    monkeypatch.setattr(launch, "change", lambda action, stack: None)
    launching.state[:] = [resource("d", "vre:libvirt:Domain")]
    launching.cloud.fault = "no way"
    assert runner.invoke(app, ["down", "-s", "lab", "--yes"]).exit_code == 0


def test_the_check_before_a_launch_names_what_is_left(desk: Desk) -> None:
    [found] = preparation._orphans("lab")
    assert (found.state, found.name) == ("warning", "left over")
    assert "disk vre-lab-control-data vol-1" in found.found
    assert "vre orphans -s lab --delete" in found.hint
    desk.cloud.things = [MACHINE]
    assert list(preparation._orphans("lab")) == []
