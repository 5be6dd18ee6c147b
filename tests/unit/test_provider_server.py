"""The plugin's protocol, without an engine: requests to the servicer's coroutines, answers looked at."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto import engine_pb2, status_pb2
from pulumi.runtime.proto import provider_pb2 as proto

from tests.engine import provider_fakes
from vre.provider import server
from vre.provider.handler import UNKNOWN
from vre.provider.server import Servicer
from vre.provider.values import Secret, received, sent

URN = "urn:pulumi:dev::vre::vre:test:Thing::thing"
TOKEN = "correct-horse-battery"


class Aborted(Exception):
    def __init__(self, code: grpc.StatusCode, message: str, trailer: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.trailer = code, message, trailer


class Caller:
    """What gRPC hands to a servicer, as far as it is used."""

    async def abort(self, code: grpc.StatusCode, message: str, trailer: Any = ()) -> None:
        raise Aborted(code, message, trailer)


class Display:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

        self.warnings: list[tuple[str, str]] = []

    def status(self, urn: str, message: str) -> None:
        self.lines.append((urn, message))

    def warning(self, urn: str, message: str) -> None:
        self.warnings.append((urn, message))


@pytest.fixture
def display() -> Display:
    return Display()


@pytest.fixture
def servicer(display: Display) -> Servicer:
    return Servicer(console=display, find=lambda token: provider_fakes.Thing())


def done(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def create(servicer: Servicer, inputs: dict[str, Any], **more: Any) -> Any:
    return done(servicer.Create(proto.CreateRequest(urn=URN, properties=sent(inputs), **more), Caller()))


def kept(error: Aborted) -> proto.ErrorResourceInitFailed:
    status = status_pb2.Status.FromString(dict(error.trailer)["grpc-status-details-bin"])
    detail = proto.ErrorResourceInitFailed()
    assert status.details[0].Unpack(detail)
    return detail


def test_handshake_and_configure_accept_secrets_and_previews(servicer: Servicer) -> None:
    hands = done(servicer.Handshake(proto.ProviderHandshakeRequest(), Caller()))
    answer = done(servicer.Configure(proto.ConfigureRequest(), Caller()))
    assert hands.accept_secrets
    assert answer.acceptSecrets
    assert answer.supportsPreview


def test_check_fills_in_and_keeps_secrets(servicer: Servicer) -> None:
    news = sent({"name": "a", "token": Secret(TOKEN), "nested": {"deep": [Secret(TOKEN), "open"]}})
    answer = done(servicer.Check(proto.CheckRequest(urn=URN, news=news), Caller()))
    inputs = received(answer.inputs)
    assert inputs["size"] == 1
    assert inputs["token"] == Secret(TOKEN)
    assert inputs["nested"] == {"deep": [Secret(TOKEN), "open"]}


def test_check_turns_findings_into_failures(servicer: Servicer) -> None:
    answer = done(servicer.Check(proto.CheckRequest(urn=URN, news=sent({"colour": "green"})), Caller()))
    assert [(failure.property, failure.reason) for failure in answer.failures] == [
        ("colour", "green is taken; for example: blue")
    ]


def test_check_that_fails_shows_no_secret(servicer: Servicer) -> None:
    news = sent({"fail": "check-raises", "token": Secret(TOKEN)})
    with pytest.raises(Aborted) as caught:
        done(servicer.Check(proto.CheckRequest(urn=URN, news=news), Caller()))
    assert "ValueError: cannot check ****" in caught.value.message
    assert TOKEN not in caught.value.message


def test_create_returns_inputs_and_outputs_with_secrets_marked(servicer: Servicer, tmp_path: Path) -> None:
    answer = create(servicer, {"folder": str(tmp_path), "name": "a", "token": Secret(TOKEN), "size": 2})
    outputs = received(answer.properties)
    assert answer.id == "a"
    assert outputs["token"] == Secret(TOKEN)
    assert outputs["made"] == Secret("made-of-a")
    assert outputs["count"] == 3
    assert type(outputs["size"]) is int


def test_preview_creates_nothing_and_marks_the_unknown(servicer: Servicer, tmp_path: Path) -> None:
    inputs = {"folder": str(tmp_path), "name": UNKNOWN, "token": Secret(UNKNOWN)}
    outputs = received(create(servicer, inputs, preview=True).properties)
    assert outputs["name"] is UNKNOWN
    assert outputs["made"] == Secret(UNKNOWN)
    assert outputs["token"] == Secret(UNKNOWN)
    assert list(tmp_path.iterdir()) == []


def test_progress_reaches_the_display_without_secrets(servicer: Servicer, display: Display, tmp_path: Path) -> None:
    create(servicer, {"folder": str(tmp_path), "name": "a", "token": Secret(TOKEN)})
    assert display.lines == [(URN, "painting a with ****")]


def test_warnings_stay_and_show_no_secret(servicer: Servicer, display: Display, tmp_path: Path) -> None:
    create(servicer, {"folder": str(tmp_path), "name": "a", "token": Secret(TOKEN), "warn": True})
    assert display.warnings == [(URN, "**** does not cover well")]


class Stub:
    """The engine's end of its console."""

    def __init__(self) -> None:
        self.logged: list[engine_pb2.LogRequest] = []

    def Log(self, line: engine_pb2.LogRequest, **_: Any) -> None:
        self.logged.append(line)


def test_the_engine_replaces_progress_and_keeps_warnings() -> None:
    console, stub = server.EngineConsole("127.0.0.1:1"), Stub()
    console._stub = stub  # type: ignore[assignment]
    console.status(URN, "painting")
    console.warning(URN, "it is slow")
    told = [(line.severity, line.urn, line.message, line.ephemeral) for line in stub.logged]
    assert told == [(engine_pb2.INFO, URN, "painting", True), (engine_pb2.WARNING, URN, "it is slow", False)]


@pytest.mark.parametrize(
    ("fail", "code", "said"),
    [
        ("error", grpc.StatusCode.FAILED_PRECONDITION, "no paint left for ****\n  buy some"),
        ("unexpected", grpc.StatusCode.ABORTED, "unexpected RuntimeError: login with '****' failed\n"),
        ("exit", grpc.StatusCode.ABORTED, "unexpected SystemExit: 3\n"),
    ],
)
def test_failures_are_told_in_words(
    servicer: Servicer, tmp_path: Path, fail: str, code: grpc.StatusCode, said: str
) -> None:
    with pytest.raises(Aborted) as caught:
        create(servicer, {"folder": str(tmp_path), "name": "a", "token": Secret(TOKEN), "fail": fail})
    assert caught.value.code is code
    assert said in caught.value.message
    assert TOKEN not in caught.value.message
    assert "Traceback" not in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_traceback_goes_to_a_private_file_without_secrets(
    servicer: Servicer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VRE_STATE", str(tmp_path / "state"))
    inputs = {"folder": str(tmp_path), "name": "a", "token": Secret(TOKEN), "fail": "unexpected"}
    with pytest.raises(Aborted):
        create(servicer, inputs)
    assert not (tmp_path / "state").exists()
    monkeypatch.setenv("VRE_DEBUG", "1")
    with pytest.raises(Aborted):
        create(servicer, inputs)
    log = tmp_path / "state" / "debug.log"
    assert "Traceback" in log.read_text()
    assert TOKEN not in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_partial_create_is_kept_with_its_reason(servicer: Servicer, tmp_path: Path) -> None:
    with pytest.raises(Aborted) as caught:
        create(servicer, {"folder": str(tmp_path), "name": "a", "token": Secret(TOKEN), "fail": "partial"})
    detail = kept(caught.value)
    assert detail.id == "a"
    assert list(detail.reasons) == ["half of it is there\n  run it again"]
    assert received(detail.properties)["token"] == Secret(TOKEN)


def test_partial_update_is_kept(servicer: Servicer, tmp_path: Path) -> None:
    inputs = {"folder": str(tmp_path), "name": "a", "fail": "partial"}
    request = proto.UpdateRequest(urn=URN, id="a", olds=sent({**inputs, "made": Secret("m")}), news=sent(inputs))
    with pytest.raises(Aborted) as caught:
        done(servicer.Update(request, Caller()))
    assert received(kept(caught.value).properties)["made"] == Secret("m")


def diff(servicer: Servicer, olds: dict[str, Any], news: dict[str, Any], **more: Any) -> Any:
    request = proto.DiffRequest(urn=URN, id="a", olds=sent(olds), old_inputs=sent(olds), news=sent(news), **more)
    return done(servicer.Diff(request, Caller()))


def test_diff_sees_no_change_where_only_marks_or_the_way_there_changed(servicer: Servicer) -> None:
    answer = diff(servicer, {"name": "a", "token": "t", "folder": "/x"}, {"name": "a", "token": Secret("t")})
    assert answer.changes == proto.DiffResponse.DIFF_NONE
    assert answer.diffs == []


def test_diff_tells_update_add_and_delete(servicer: Servicer) -> None:
    answer = diff(servicer, {"name": "a", "size": 1, "colour": "red"}, {"name": "a", "size": 2, "shape": "round"})
    kinds = {key: proto.PropertyDiff.Kind.Name(value.kind) for key, value in answer.detailedDiff.items()}
    assert answer.changes == proto.DiffResponse.DIFF_SOME
    assert kinds == {"size": "UPDATE", "shape": "ADD", "colour": "DELETE"}
    assert answer.replaces == []
    assert not answer.deleteBeforeReplace


def test_diff_replaces_and_deletes_first(servicer: Servicer) -> None:
    answer = diff(servicer, {"name": "a"}, {"name": "b"})
    assert answer.replaces == ["name"]
    assert answer.deleteBeforeReplace
    assert answer.detailedDiff["name"].kind == proto.PropertyDiff.UPDATE_REPLACE


def test_diff_counts_an_unknown_as_a_change_unless_ignored(servicer: Servicer) -> None:
    assert diff(servicer, {"name": "a", "size": 1}, {"name": "a", "size": UNKNOWN}).diffs == ["size"]
    answer = diff(servicer, {"name": "a", "size": 1}, {"name": "a", "size": 2}, ignoreChanges=["size"])
    assert answer.changes == proto.DiffResponse.DIFF_NONE


def read(servicer: Servicer, resource_id: str, state: dict[str, Any], inputs: dict[str, Any]) -> Any:
    request = proto.ReadRequest(urn=URN, id=resource_id, properties=sent(state), inputs=sent(inputs))
    return done(servicer.Read(request, Caller()))


def test_read_refreshes_with_secrets_and_the_way_there_kept(servicer: Servicer, tmp_path: Path) -> None:
    inputs = {"folder": str(tmp_path), "name": "a", "token": Secret(TOKEN)}
    state = received(create(servicer, inputs).properties)
    answer = read(servicer, "a", state, inputs)
    assert received(answer.inputs) == inputs
    assert received(answer.properties)["made"] == Secret("made-of-a")


def test_read_of_what_is_gone_says_so(servicer: Servicer, tmp_path: Path) -> None:
    assert read(servicer, "a", {"folder": str(tmp_path), "name": "a"}, {}).id == ""


def test_read_without_a_state_imports(servicer: Servicer, tmp_path: Path) -> None:
    create(servicer, {"folder": str(tmp_path), "name": "a", "size": 7})
    answer = read(servicer, str(tmp_path / "a"), {}, {})
    assert received(answer.inputs) == {"name": "a", "size": 7}


def test_delete_twice_is_success(servicer: Servicer, tmp_path: Path) -> None:
    state = received(create(servicer, {"folder": str(tmp_path), "name": "a"}).properties)
    request = proto.DeleteRequest(urn=URN, id="a", properties=sent(state))
    for _ in range(2):
        done(servicer.Delete(request, Caller()))
        assert list(tmp_path.iterdir()) == []


async def _cancelled_while_running(servicer: Servicer, request: proto.CreateRequest) -> None:
    running = asyncio.ensure_future(servicer.Create(request, Caller()))
    while not provider_fakes.STARTED.is_set():
        await asyncio.sleep(0.01)
    await servicer.Cancel(Empty(), Caller())
    await running


@pytest.mark.timeout(30)
def test_cancel_stops_what_runs_and_what_comes(servicer: Servicer, tmp_path: Path) -> None:
    provider_fakes.STARTED.clear()
    request = proto.CreateRequest(urn=URN, properties=sent({"folder": str(tmp_path), "name": "a", "fail": "slow"}))
    with pytest.raises(Aborted) as caught:
        asyncio.run(_cancelled_while_running(servicer, request))
    assert caught.value.code is grpc.StatusCode.CANCELLED
    with pytest.raises(Aborted):
        done(servicer.Create(request, Caller()))


@pytest.mark.timeout(30)
def test_timeout_says_what_it_waited_for(servicer: Servicer, tmp_path: Path) -> None:
    with pytest.raises(Aborted) as caught:
        create(servicer, {"folder": str(tmp_path), "name": "a", "fail": "slow"}, timeout=0.2)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "while: painting a with nothing" in caught.value.message
    assert "customTimeouts" in caught.value.message


@pytest.mark.timeout(30)
def test_calls_run_side_by_side(tmp_path: Path) -> None:
    servicer = Servicer(find=lambda token: provider_fakes.Thing())
    slow = proto.CreateRequest(urn=URN, properties=sent({"folder": str(tmp_path), "name": "s", "fail": "slow"}))
    quick = proto.CreateRequest(urn=URN, properties=sent({"folder": str(tmp_path), "name": "q"}))

    async def both() -> str:
        running = asyncio.ensure_future(servicer.Create(slow, Caller()))
        answer = await servicer.Create(quick, Caller())
        await servicer.Cancel(Empty(), Caller())
        with pytest.raises(Aborted):
            await running
        return str(answer.id)

    assert asyncio.run(both()) == "q"


def test_type_comes_from_the_request_or_its_urn() -> None:
    assert server.token(proto.CheckRequest(urn="urn:pulumi:s::p::a:b:Parent$vre:test:Thing::n")) == "vre:test:Thing"
    assert server.token(proto.CheckRequest(urn="urn:x", type="vre:test:Thing")) == "vre:test:Thing"


def test_unknown_type_is_named() -> None:
    with pytest.raises(Aborted, match="no such resource type: vre:test:Nothing"):
        request = proto.CheckRequest(urn="urn:pulumi:s::p::vre:test:Nothing::n")
        done(Servicer().Check(request, Caller()))
