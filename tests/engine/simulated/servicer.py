"""A simulated cloud's plugin on the engine's own protocol, on the server of the project's own plugin."""

import asyncio
from collections.abc import Callable
from typing import Any

from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto import plugin_pb2
from pulumi.runtime.proto import provider_pb2 as proto

from tests.engine.simulated.store import Cloud
from tests.engine.simulated.table import Provider
from tests.engine.simulated.work import Work
from vre.provider.faults import Fault
from vre.provider.handler import Context
from vre.provider.server import Call, Console, Servicer
from vre.provider.values import plain, received, sent


class Simulator(Servicer):
    """Answers the engine for one simulated cloud."""

    def __init__(self, provider: Provider, *, console: Console | None = None, cloud: Cloud | None = None) -> None:
        self.work = Work(provider, cloud or Cloud())
        # What a handler is to the project's own plugin, a kind is here; its work is done by `self.work`.
        find: Any = self.work.kind
        super().__init__(console=console, find=find)

    async def GetPluginInfo(self, request: Empty, context: Any) -> plugin_pb2.PluginInfo:
        """Give the version of the SDK, so that the engine sees that they fit."""
        return plugin_pb2.PluginInfo(version=self.work.sdk.version)

    async def GetSchema(self, request: proto.GetSchemaRequest, context: Any) -> proto.GetSchemaResponse:
        """Have none: the SDK is generated already."""
        return proto.GetSchemaResponse(schema="{}")

    async def CheckConfig(self, request: proto.CheckRequest, context: Any) -> proto.CheckResponse:
        """Refuse settings that the SDK does not know."""
        found = self.work.check_config(plain(received(request.news)))
        failures = [proto.CheckFailure(property=each.key, reason=f"{each.key}: {each.reason}") for each in found]
        return proto.CheckResponse(inputs=request.news, failures=failures)

    async def DiffConfig(self, request: proto.DiffRequest, context: Any) -> proto.DiffResponse:
        """Say what changes, and whether everything has to be made anew."""
        return self.work.diff_config(plain(received(request.old_inputs)), plain(received(request.news)))

    async def Configure(self, request: proto.ConfigureRequest, context: Any) -> proto.ConfigureResponse:
        """Take the settings. What the cloud refuses, such as credentials, is told here."""
        done = await self._in_thread(lambda _: self.work.configure(plain(received(request.args))))
        if isinstance(done, Fault):
            await context.abort(done.code, done.message)
        return proto.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    async def Invoke(self, request: proto.InvokeRequest, context: Any) -> proto.InvokeResponse:
        """Answer a data source."""
        args = plain(received(request.args))
        done = await self._in_thread(lambda call: self.work.invoke(call, request.tok, args))
        if isinstance(done, Fault):
            await context.abort(done.code, done.message)
        answer: dict[str, Any] = {"return": sent(done)}  # a word of Python's own
        return proto.InvokeResponse(**answer)

    async def Check(self, request: proto.CheckRequest, context: Any) -> proto.CheckResponse:
        """Refuse bad inputs."""
        return await self._answer(request, context, lambda _, call: self.work.check(call, request))

    async def Diff(self, request: proto.DiffRequest, context: Any) -> proto.DiffResponse:
        """Compare."""
        return await self._answer(request, context, lambda _, call: self.work.diff(call, request))

    async def Create(self, request: proto.CreateRequest, context: Any) -> proto.CreateResponse:
        """Make."""
        return await self._answer(request, context, lambda _, call: self.work.create(call, request))

    async def Read(self, request: proto.ReadRequest, context: Any) -> proto.ReadResponse:
        """Look."""
        return await self._answer(request, context, lambda _, call: self.work.read(call, request))

    async def Update(self, request: proto.UpdateRequest, context: Any) -> proto.UpdateResponse:
        """Change."""
        return await self._answer(request, context, lambda _, call: self.work.update(call, request))

    async def Delete(self, request: proto.DeleteRequest, context: Any) -> Empty:
        """Remove."""
        return await self._answer(request, context, lambda _, call: self.work.delete(call, request))

    async def _in_thread(self, work: Callable[[Context], Any]) -> Any:
        """Run what belongs to no resource; what it raises comes back as a fault."""
        call = Call(proto.CheckRequest(), self._console, timeout=0.0)
        self._running.add(call)

        def run() -> Any:
            try:
                return work(call.context)
            except BaseException as error:
                return call.fault(error)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        finally:
            self._running.discard(call)
