"""The project's own plugin without machines: real handlers, but for what would be done on one.

What is checked, normalised, compared and replaced is the real handlers' own. Everything that would have been sent to a
machine is kept in the simulated cloud.
"""

import os
from collections.abc import Callable
from typing import Any

from pulumi.runtime.proto import provider_pb2 as proto

from tests.engine.simulated.noted import CloudError, noted
from tests.engine.simulated.store import Asked, Cloud, Thing
from vre.cluster import kubeadm as configuration
from vre.cluster import nodes
from vre.provider import crypto, door, files, images, kubeadm, machine, objects, registry, software
from vre.provider.faults import Fault
from vre.provider.handler import Context, Found, Handler, Props
from vre.provider.operations import Kept, Request
from vre.provider.server import Call, Console, Servicer, token
from vre.provider.values import plain, received

METHODS = {
    proto.CreateRequest: "create",
    proto.ReadRequest: "read",
    proto.UpdateRequest: "update",
    proto.DeleteRequest: "delete",
}


class Simulated(Handler):
    """In front of a real handler: what stands on the machine is what the simulated cloud holds."""

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Do nothing but answer as the real one does."""
        return self.identity(inputs), {**inputs, **self.told(inputs)}

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Look into the simulated cloud."""
        found = Cloud().find(self.token, resource_id)
        return Found(inputs=found.inputs, outputs=found.outputs) if found else None

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Do nothing but answer as the real one does."""
        return {**state, **inputs, **self.told(inputs)}

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Do nothing."""

    def identity(self, inputs: Props) -> str:
        """Return the id that the real handler gives."""
        raise NotImplementedError

    def told(self, inputs: Props) -> Props:
        """Return what the real handler learns on the machine."""
        return {}


class Machine(Simulated, machine.Machine):
    """A machine that is up at once."""

    def identity(self, inputs: Props) -> str:
        """Take the cloud's id."""
        return str(inputs["machine"])

    def told(self, inputs: Props) -> Props:
        """Say what runs on it."""
        return {"bootId": "3f2a9f3e-0000-4000-8000-000000000000", "release": "Debian 13", "ready": "not upgraded"}


class Files(Simulated, files.Files):
    """Files that are there at once."""

    def identity(self, inputs: Props) -> str:
        """Take the machine and the paths."""
        return f"{inputs['machine']}:{','.join(file['path'] for file in inputs['files'])}"

    def told(self, inputs: Props) -> Props:
        """Give the digests of what was written."""
        return {"digests": {file["path"]: files._expected(file)[0] for file in inputs["files"]}}


class Software(Simulated, software.Software):
    """Software that is set up at once."""

    def identity(self, inputs: Props) -> str:
        """Take the machine's id."""
        return str(inputs["machine"])

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Change nothing, as the real one."""
        return {**inputs, "identity": state["identity"]}


class Images(Simulated, images.Images):
    """Container images that are there at once."""

    def identity(self, inputs: Props) -> str:
        """Take the machine's id."""
        return str(inputs["machine"])


class ControlPlane(Simulated, kubeadm.ControlPlane):
    """A control plane that is up at once."""

    def identity(self, inputs: Props) -> str:
        """Take the node's name."""
        return str(configuration.read(inputs["config"])["InitConfiguration"]["nodeRegistration"]["name"])

    def told(self, inputs: Props) -> Props:
        """Give an authority and the version that is asked for."""
        _, made = crypto.Authority().create(Context(), {"commonName": "kubernetes", "validDays": 3650})
        version = configuration.read(inputs["config"])["ClusterConfiguration"]["kubernetesVersion"]
        authority = made["certificate"]
        return {"ca": authority, "caHash": nodes.authority_hash(authority), "version": version}

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Keep the authority."""
        return {**state, **inputs}


class Node(Simulated, kubeadm.Node):
    """A node that is one at once."""

    def identity(self, inputs: Props) -> str:
        """Take its name."""
        return str(inputs["name"])


class Worker(Simulated, kubeadm.Worker):
    """A worker that joins at once."""

    def identity(self, inputs: Props) -> str:
        """Take the node's name."""
        return str(configuration.read(inputs["config"])["JoinConfiguration"]["nodeRegistration"]["name"])

    def told(self, inputs: Props) -> Props:
        """Say that it has joined."""
        return {"joined": self.identity(inputs)}


class Objects(Simulated, objects.Objects):
    """Objects that are ready at once."""

    def identity(self, inputs: Props) -> str:
        """Take the set's name."""
        return str(inputs["name"])


class Door(Simulated, door.Door):
    """A door that answers at once."""

    def identity(self, inputs: Props) -> str:
        """Take the address."""
        return f"{inputs['url']}{inputs['path']}"

    def told(self, inputs: Props) -> Props:
        """Say when it answered."""
        return {"answered": "2026-01-01T00:00:00+00:00"}


SIMULATED: dict[str, type[Handler]] = {
    each.token: each for each in (Machine, Files, Software, Images, ControlPlane, Node, Worker, Objects, Door)
}
RULE = "vre:cloudflare:Rule"
KEPT = (*SIMULATED, RULE)


def find(name: str) -> Handler:
    """Return the handler of a resource type, the simulated one where there is one."""
    # Where a stand-in for Cloudflare's REST API answers (cloudflare.py), the rules are the real handler's.
    if name == RULE and not os.environ.get("CLOUDFLARE_BASE_URL"):
        from tests.engine.simulated.rules import Rule  # with the API's client, only where there are rules

        return Rule()
    return SIMULATED[name]() if name in SIMULATED else registry.handler(name)


class Recorder(Servicer):
    """The project's own plugin, with a journal, and with what is planned to go wrong."""

    name = "vre"

    def __init__(self, *, console: Console | None = None) -> None:
        super().__init__(console=console, find=find)
        self._cloud = Cloud()

    def _work(self, request: Request, call: Call, work: Callable[[Handler, Context], Any]) -> Any:
        method = METHODS.get(type(request))
        if method is None:
            return super()._work(request, call, work)
        try:
            return self._noted(method, request, call, work)
        except BaseException as error:
            return call.fault(error)

    def _noted(self, method: str, request: Any, call: Call, work: Callable[[Handler, Context], Any]) -> Any:
        kind, inputs = token(request), plain(received(_given(request)))
        asked = Asked(
            plugin="vre", method=method, type=kind, urn=request.urn, id=getattr(request, "id", ""),
            preview=getattr(request, "preview", False), told=inputs,
        )  # fmt: skip
        with noted(self._cloud, asked, call.context, lambda what: CloudError(f"{kind}: {method}: {what}")) as note:
            done = super()._work(request, call, work)
            if isinstance(done, Fault):
                note.outcome = f"failed: {done.message}"
            if isinstance(done, Fault) or asked.preview:
                return done
            self._keep(method, request, done, inputs)
            note.lose(kind)
            if note.half and method in ("create", "update"):
                made = proto.ErrorResourceInitFailed(id=_identity(request, done), properties=done.properties)
                made.reasons.append(note.half)
                raise Kept(made)
        return done

    def _keep(self, method: str, request: Any, done: Any, inputs: Props) -> None:
        kind = token(request)
        if method == "delete":
            self._cloud.remove(kind, request.id)
        elif method in ("create", "update") and kind in KEPT:
            outputs = plain(received(done.properties))
            identity = _identity(request, done)
            self._cloud.put(
                Thing(type=kind, id=identity, urn=request.urn, plugin="vre", inputs=inputs, outputs=outputs)
            )


def _given(request: Any) -> Any:
    return request.news if isinstance(request, proto.UpdateRequest) else request.properties


def _identity(request: Any, done: Any) -> str:
    return str(getattr(done, "id", "") or request.id)


PROVIDER = Recorder
