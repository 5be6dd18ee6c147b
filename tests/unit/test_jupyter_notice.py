"""What users are told of a reboot: by which note, whom, and how often the cluster is asked for it."""

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

HUB = Path(__file__).resolve().parents[2] / "vre" / "services" / "jupyter" / "image" / "hub"
NOW = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)
NOTES = {"vre/reboot-at": "2026-11-21T18:05:00Z", "vre/reboot-why": "kernel a -> b", "vre/reboot-node": ""}


def ran(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to its end in a loop of its own: `asyncio.run` would drop the one that other tests have, unclosed."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


def load(name: str) -> Any:
    """Load a program of the hub, which is no part of our package."""
    spec = importlib.util.spec_from_file_location(name, HUB / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


notes = load("notes")


@pytest.mark.requirement("P-39")
def test_everybody_is_told_when_all_is_away() -> None:
    told = notes.told(NOTES, node="", now=NOW)
    assert told["at"] == "2026-11-21T18:05:00Z"
    assert told["text"].endswith("(kernel a -> b)")
    assert notes.told(NOTES, node="one", now=NOW) == told


def test_one_machine_of_several_concerns_its_users_only() -> None:
    one = {**NOTES, "vre/reboot-node": "one"}
    assert "your server stops" in notes.told(one, node="one", now=NOW)["text"]
    assert notes.told(one, node="two", now=NOW) == {}
    assert notes.told(one, node="", now=NOW) == {}


@pytest.mark.parametrize(
    "at",
    ["2026-11-21T18:00:00Z", "2026-11-21T17:59:59Z", "2026-11-21T18:05:00", "soon", "", "<b>2026-11-21T18:05:00Z</b>"],
)
def test_a_note_whose_time_is_over_or_none_says_nothing(at: str) -> None:
    assert notes.told({**NOTES, "vre/reboot-at": at}, node="", now=NOW) == {}


def test_without_a_note_nothing_is_said() -> None:
    assert notes.told({}, node="", now=NOW) == {}
    assert notes.told({"vre/holder": "one", "vre/heard": NOW.isoformat()}, node="one", now=NOW) == {}


def test_what_lab_shows_holds_the_advice_whatever_the_reason() -> None:
    long = {**NOTES, "vre/reboot-why": "x" * 10_000}
    for node in ("", "one"):
        text = notes.told({**long, "vre/reboot-node": node}, node=node, now=NOW)["text"]
        assert notes.SAVE in f"12:05 PM: {text}"[:140]
        assert len(text) < 400


class Api:
    """Stands in for the cluster's API: counts questions, answers when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: Mapping[str, str] | Exception = NOTES

    async def read(self) -> Mapping[str, str]:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_however_many_ask_the_api_is_asked_once_in_a_while() -> None:
    api, now, asked = Api(), 100.0, list[int]()
    kept = notes.Kept(api.read, pytest.fail, lambda: now)

    async def ask() -> None:
        nonlocal now
        for later in (0, notes.AGE - 1, 1):
            now += later
            assert await asyncio.gather(*(kept.notes() for _ in range(50))) == [NOTES] * 50
            asked.append(api.asked)

    ran(ask())
    assert asked == [1, 1, 2]


def test_an_api_that_does_not_answer_says_nothing_and_is_told_once() -> None:
    api, now, faults = Api(), 100.0, list[str]()
    kept = notes.Kept(api.read, lambda error: faults.append(str(error)), lambda: now)
    api.answer = OSError("no route")
    for _ in range(3):
        assert ran(kept.notes()) == {}
        now += notes.AGE
    assert (api.asked, faults) == (3, ["no route"])
    api.answer = NOTES
    assert ran(kept.notes()) == NOTES
    now += notes.AGE
    api.answer = OSError("gone again")
    assert ran(kept.notes()) == NOTES  # until its own time is over
    assert faults == ["no route", "gone again"]


# the hub's page


class Handler:
    """Stands in for JupyterHub's handler of pages."""

    def __init__(self, user: Any) -> None:
        self.current_user = user
        self.code, self.said, self.lines = 200, None, list[int]()

    def set_status(self, code: int) -> None:
        self.code = code

    def get_status(self) -> int:
        return self.code

    def set_header(self, name: str, value: str) -> None:
        pass

    def finish(self, said: Any) -> None:
        self.said = said

    def _log(self) -> None:
        self.lines.append(self.code)


@pytest.fixture
def notice(monkeypatch: pytest.MonkeyPatch) -> Any:
    def module(name: str, **values: Any) -> None:
        made = ModuleType(name)
        made.__dict__.update(values)
        monkeypatch.setitem(sys.modules, name, made)

    module("jupyterhub")
    module("jupyterhub.handlers", BaseHandler=Handler)
    module("kubespawner")
    module("kubespawner.clients", load_config=lambda: None, shared_client=None)
    monkeypatch.setitem(sys.modules, "notes", notes)
    return load("notice")


def page(notice: Any, user: Any) -> tuple[Any, Callable[[], None]]:
    api = Api()
    soon = datetime.now(UTC) + timedelta(minutes=5)
    api.answer = {**NOTES, "vre/reboot-at": soon.isoformat(), "vre/reboot-node": "one"}
    made = notice.Notice(user)
    made.initialize(notes.Kept(api.read, pytest.fail))
    ran(made.get())
    return made, made._log


def user_on(node: str) -> Any:
    pods = {"jupyter-users/jupyter-bob": {"spec": {"nodeName": node}}} if node else {}
    spawner = SimpleNamespace(
        namespace="jupyter-users", pod_name="jupyter-bob", pod_reflector=SimpleNamespace(pods=pods)
    )
    return SimpleNamespace(spawner=spawner)


def test_strangers_are_told_nothing(notice: Any) -> None:
    made, log = page(notice, None)
    assert (made.code, made.said) == (403, {})
    log()
    assert made.lines == [403]


def test_users_are_told_what_concerns_their_servers_machine_and_no_line_is_logged(notice: Any) -> None:
    made, log = page(notice, user_on("one"))
    assert "your server stops" in made.said["text"]
    log()
    assert (made.code, made.lines) == (200, [])
    assert page(notice, user_on("two"))[0].said == {}
    assert page(notice, user_on(""))[0].said == {}
    assert page(notice, SimpleNamespace(spawner=SimpleNamespace()))[0].said == {}


def test_the_hub_asks_for_what_it_may_read(notice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    async def answer(name: str, space: str, *, _request_timeout: float) -> Any:
        asked.append((name, space))
        return SimpleNamespace(metadata=SimpleNamespace(annotations=None))

    client = SimpleNamespace(read_namespaced_config_map=answer)
    monkeypatch.setattr(notice, "shared_client", lambda kind: client)
    assert ran(notice.read()) == {}
    assert asked == [("vre-patch", "kube-system")]
