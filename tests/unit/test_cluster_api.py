"""The API server's answers while it starts: asked again, for as long as there is patience, and no longer."""

from collections.abc import Iterator

import pytest

from vre.cluster.api import Api, ApiError
from vre.machine.ssh import Connection, Shell, Unreachable

FORBIDDEN = (403, b'{"message": "pods is forbidden: User \\"kubernetes-admin\\" cannot list resource"}')
NO_PATH = (403, b'{"message": "forbidden: User \\"kubernetes-admin\\" cannot get path \\"/version\\""}')
STARTING = (503, b"starting")
FINE = (200, b'{"kind": "List"}')
Answer = tuple[int, bytes] | Exception


class Answering(Api):
    """An API whose server answers as it is told to, the last answer for ever."""

    def __init__(self, *answers: Answer, patience: float = 60) -> None:
        shell = Shell(Connection(address="192.0.2.1", host_keys=()))
        super().__init__(shell, patience=patience, pause=0)
        self.answers: Iterator[Answer] = iter(answers)
        self.last: Answer = FINE
        self.asked = 0

    def _once(self, method: str, target: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        self.asked += 1
        self.last = next(self.answers, self.last)
        if isinstance(self.last, Exception):
            raise self.last
        return self.last


@pytest.mark.parametrize("first", [FORBIDDEN, NO_PATH, STARTING, ConnectionResetError(), Unreachable("no tunnel")])
def test_a_server_that_is_starting_is_asked_again(first: Answer) -> None:
    api = Answering(first, first, FINE)
    assert api.request("GET", "/api") == {"kind": "List"}
    assert api.asked == 3


def test_patience_ends() -> None:
    api = Answering(STARTING, patience=0)
    with pytest.raises(ApiError) as caught:
        api.request("GET", "/api")
    assert (caught.value.status, api.asked) == (503, 1)
    with pytest.raises(Unreachable, match="does not answer: gone"):
        Answering(ConnectionError("gone"), patience=0).request("GET", "/api")


def test_what_is_refused_is_not_asked_again() -> None:
    api = Answering((403, b'{"message": "violates PodSecurity"}'))
    with pytest.raises(ApiError, match="violates PodSecurity"):
        api.request("GET", "/api")
    assert api.asked == 1


def test_a_look_that_does_not_insist_takes_the_first_answer() -> None:
    api = Answering(STARTING, FINE)
    assert api.text("/logs", insist=False) == "starting"
    assert api.asked == 1
