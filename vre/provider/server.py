"""The plugin's gRPC server: takes the engine's requests to the handlers, and brings progress, results and faults back.

On the raw protocol rather than on `pulumi.provider.experimental`, which cannot keep partial failures, cannot return
unknowns in a preview and shows tracebacks. Handlers block, so each call runs in a thread; the event loop stays free
for Cancel.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto import (
    ResourceProviderServicer,
    add_ResourceProviderServicer_to_server,
    engine_pb2,
    engine_pb2_grpc,
    plugin_pb2,
)
from pulumi.runtime.proto import provider_pb2 as proto

from vre import __version__
from vre.provider import operations, registry
from vre.provider.faults import Fault, fault
from vre.provider.handler import Context, Handler
from vre.provider.operations import Request, everything
from vre.provider.values import secret_texts, starred

Response = TypeVar("Response")
THREADS = 16  # calls at a time; the engine's own limit is 4 for each processor core
LARGEST = 400 * 1024 * 1024  # bytes of one message, as in the engine and the SDK
OPTIONS = [("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", LARGEST)]
PATIENCE = 5.0  # seconds for one progress message; the engine may be gone


class Console(Protocol):
    """Where progress goes."""

    def status(self, urn: str, message: str) -> None:
        """Show what a resource is doing now."""

    def warning(self, urn: str, message: str) -> None:
        """Show what somebody should know of a resource, and keep it."""


class EngineConsole:
    """The engine's own display."""

    def __init__(self, address: str) -> None:
        self._stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address, options=OPTIONS))

    def status(self, urn: str, message: str) -> None:
        """Show a line beside the resource, replaced by the next."""
        self._log(engine_pb2.LogRequest(severity=engine_pb2.INFO, urn=urn, message=message, ephemeral=True))

    def warning(self, urn: str, message: str) -> None:
        """Show a line among the diagnostics, which stays."""
        self._log(engine_pb2.LogRequest(severity=engine_pb2.WARNING, urn=urn, message=message))

    def _log(self, line: engine_pb2.LogRequest) -> None:
        try:
            self._stub.Log(line, timeout=PATIENCE)
        except grpc.RpcError:
            return  # no display, no progress: not a reason to fail


class Call:
    """One request while it runs: its secrets, its progress, and how to stop it."""

    def __init__(self, request: Request, console: Console | None, *, timeout: float) -> None:
        self.secrets = frozenset().union(*(secret_texts(values) for values in everything(request)))
        self.timeout = timeout
        self.expired = False
        self.doing = ""
        self._urn = request.urn
        self._console = console
        self.context = Context(report=self._report, warn=self._warn, cancelled=threading.Event(), timeout=timeout)

    def _report(self, message: str) -> None:
        shown = starred(message, self.secrets)
        if shown != self.doing and self._console:
            self._console.status(self._urn, shown)
        self.doing = shown

    def _warn(self, message: str) -> None:
        if self._console:
            self._console.warning(self._urn, starred(message, self.secrets))

    def expire(self) -> None:
        """Stop the call because its time is over."""
        self.expired = True
        self.context.cancelled.set()

    def fault(self, error: BaseException) -> Fault:
        """Return what the engine is told of an error."""
        return fault(error, secrets=self.secrets, timeout=self.timeout, expired=self.expired, doing=self.doing)


class Servicer(ResourceProviderServicer):
    """Answers the engine."""

    def __init__(
        self,
        *,
        console: Console | None = None,
        find: Callable[[str], Handler] = registry.handler,
    ) -> None:
        self._console = console
        self._find = find
        self._threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="vre")
        self._running: set[Call] = set()
        self._cancelled = False

    async def Handshake(self, request: proto.ProviderHandshakeRequest, context: Any) -> proto.ProviderHandshakeResponse:
        """Say what this plugin understands."""
        self._connect(request.engine_address)
        return proto.ProviderHandshakeResponse(accept_secrets=True)

    async def Attach(self, request: plugin_pb2.PluginAttach, context: Any) -> Empty:
        """Serve an engine that found this plugin running already (PULUMI_DEBUG_PROVIDERS=vre:PORT)."""
        self._connect(request.address)
        return Empty()

    def _connect(self, address: str) -> None:
        if address and self._console is None:
            self._console = EngineConsole(address)

    async def GetPluginInfo(self, request: Empty, context: Any) -> plugin_pb2.PluginInfo:
        """Say which version this is."""
        return plugin_pb2.PluginInfo(version=__version__)

    async def GetSchema(self, request: proto.GetSchemaRequest, context: Any) -> proto.GetSchemaResponse:
        """Describe every resource, for `pulumi import` and for documentation."""
        from vre.provider.schema import schema_text

        return proto.GetSchemaResponse(schema=schema_text())

    async def Configure(self, request: proto.ConfigureRequest, context: Any) -> proto.ConfigureResponse:
        """Agree on the protocol; the plugin itself has no settings."""
        return proto.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    async def CheckConfig(self, request: proto.CheckRequest, context: Any) -> proto.CheckResponse:
        """Take the provider's settings as they are."""
        return proto.CheckResponse(inputs=request.news)

    async def DiffConfig(self, request: proto.DiffRequest, context: Any) -> proto.DiffResponse:
        """See no change in settings: there are none, and a new plugin version replaces nothing."""
        return proto.DiffResponse(changes=proto.DiffResponse.DIFF_NONE)

    async def Cancel(self, request: Empty, context: Any) -> Empty:
        """Stop everything that runs, and whatever still comes."""
        self._cancelled = True
        for call in tuple(self._running):
            call.context.cancelled.set()
        return Empty()

    async def Check(self, request: proto.CheckRequest, context: Any) -> proto.CheckResponse:
        """Refuse bad inputs."""
        return await self._answer(request, context, lambda handler, _: operations.check(handler, request))

    async def Diff(self, request: proto.DiffRequest, context: Any) -> proto.DiffResponse:
        """Compare."""
        return await self._answer(request, context, lambda handler, _: operations.diff(handler, request))

    async def Create(self, request: proto.CreateRequest, context: Any) -> proto.CreateResponse:
        """Make."""
        return await self._answer(request, context, lambda handler, call: operations.create(handler, call, request))

    async def Read(self, request: proto.ReadRequest, context: Any) -> proto.ReadResponse:
        """Look."""
        return await self._answer(request, context, lambda handler, call: operations.read(handler, call, request))

    async def Update(self, request: proto.UpdateRequest, context: Any) -> proto.UpdateResponse:
        """Change."""
        return await self._answer(request, context, lambda handler, call: operations.update(handler, call, request))

    async def Delete(self, request: proto.DeleteRequest, context: Any) -> Empty:
        """Remove."""
        return await self._answer(request, context, lambda handler, call: operations.delete(handler, call, request))

    async def _answer(self, request: Request, context: Any, work: Callable[[Handler, Context], Response]) -> Response:
        call = Call(request, self._console, timeout=getattr(request, "timeout", 0.0))
        if self._cancelled:
            call.context.cancelled.set()
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(call.timeout, call.expire) if call.timeout > 0 else None
        self._running.add(call)
        try:
            done = await loop.run_in_executor(self._threads, self._work, request, call, work)
        finally:
            self._running.discard(call)
            if alarm:
                alarm.cancel()
        if isinstance(done, Fault):
            await context.abort(done.code, done.message, done.trailer())
            raise AssertionError("abort raises")
        return done

    def _work(self, request: Request, call: Call, work: Callable[[Handler, Context], Response]) -> Response | Fault:
        try:
            return work(self._find(token(request)), call.context)
        except BaseException as error:  # whatever it is, the other calls go on
            return call.fault(error)


def token(request: Request) -> str:
    """Return the resource type of a request, from its URN where an older engine does not name it."""
    return str(request.type or request.urn.split("::")[2].split("$")[-1])


async def serve(engine: str, make: Callable[..., Servicer] = Servicer) -> None:
    """Serve what `make` makes until the engine ends this process or is gone. Prints the port, as the engine expects."""
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # how the engine ends its plugins; it takes 5 s if we do not hear
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    server = grpc.aio.server(options=OPTIONS)
    servicer = make(console=EngineConsole(engine) if engine else None)
    add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    sys.stdout = sys.stderr  # a stray print of a library is no message to the engine
    await _until(over, orphaned=bool(engine))
    await servicer.Cancel(Empty(), None)
    await server.stop(grace=PATIENCE)


async def _until(over: asyncio.Event, *, orphaned: bool) -> None:
    parent = os.getppid()
    while not over.is_set() and not (orphaned and os.getppid() != parent):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), timeout=1)


def main(engine: str, make: Callable[..., Servicer] = Servicer) -> None:
    """Run the plugin for the engine at an address (empty: wait to be attached to)."""
    asyncio.run(serve(engine, make))
    os._exit(0)  # threads that still block are not waited for
