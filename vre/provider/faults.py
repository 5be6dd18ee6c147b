"""What the engine is told when something goes wrong: words for a person, never a secret, never a traceback."""

import os
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message
from pulumi.runtime.proto import provider_pb2 as proto
from pulumi.runtime.proto import status_pb2

from vre import paths
from vre.errors import VreError
from vre.progress import elapsed
from vre.provider.handler import Cancelled
from vre.provider.operations import Kept
from vre.provider.values import starred


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A gRPC status, and with it the resource to keep in state, if there is one."""

    code: grpc.StatusCode
    message: str
    detail: Message | None = None

    def trailer(self) -> tuple[tuple[str, bytes], ...]:
        """Return the metadata that carries the detail."""
        if self.detail is None:
            return ()
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        status.details.add().Pack(self.detail)
        return (("grpc-status-details-bin", status.SerializeToString()),)


def fault(error: BaseException, *, secrets: Iterable[str], timeout: float, expired: bool, doing: str) -> Fault:
    """Turn what a handler raised into what the engine is told.

    `expired` says that the call ran out of its `timeout` (seconds), `doing` what it reported last.
    """
    hidden = list(secrets)
    match error:
        case Kept():
            return _kept(error, hidden)
        case Cancelled() if expired:
            message = f"took longer than {elapsed(timeout)}{', while: ' + doing if doing else ''}"
            hint = "allow it more time with customTimeouts, or look at what it waited for; then run it again"
            return Fault(code=grpc.StatusCode.DEADLINE_EXCEEDED, message=starred(f"{message}\n  {hint}", hidden))
        case Cancelled():
            return Fault(code=grpc.StatusCode.CANCELLED, message=starred(str(error), hidden))
        case VreError():
            return Fault(code=grpc.StatusCode.FAILED_PRECONDITION, message=starred(str(error), hidden))
        case _:
            _remember(error, hidden)
            return Fault(code=grpc.StatusCode.ABORTED, message=_unexpected(error, hidden))


def _kept(error: Kept, hidden: list[str]) -> Fault:
    detail = proto.ErrorResourceInitFailed()
    detail.CopyFrom(error.detail)
    reasons = [starred(reason, hidden) for reason in error.detail.reasons]
    del detail.reasons[:]
    detail.reasons.extend(reasons)
    return Fault(code=grpc.StatusCode.FAILED_PRECONDITION, message=reasons[0], detail=detail)


def _unexpected(error: BaseException, hidden: list[str]) -> str:
    text = " ".join(str(error).split())
    said = starred(f"{type(error).__name__}: {text}", hidden)
    return f"unexpected {said}\n  this is a fault of the plugin; with VRE_DEBUG=1 the next run writes where to {_log()}"


def _log() -> Any:
    return paths.state() / "debug.log"


def _remember(error: BaseException, hidden: list[str]) -> None:
    if not os.environ.get("VRE_DEBUG"):
        return
    text = starred("".join(traceback.format_exception(error)), hidden)
    _log().parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(_log(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "a") as file:
        file.write(text + "\n")
