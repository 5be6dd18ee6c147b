"""One simulated call from request to response: types by the SDK, references and names, faults, then the kind itself."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import provider_pb2 as proto

from tests.engine.simulated.noted import CloudError, Note, noted
from tests.engine.simulated.schema import Described, Sdk
from tests.engine.simulated.store import Asked, Cloud, Reference, Thing
from tests.engine.simulated.table import Call, Kind, Provider, at, changes, covers
from vre.errors import Finding, VreError
from vre.provider.handler import UNKNOWN, Context, Props
from vre.provider.operations import Kept
from vre.provider.values import marked, plain, received, sent


class Work:
    """A provider at work on its cloud."""

    def __init__(self, provider: Provider, cloud: Cloud) -> None:
        self.provider = provider
        self.cloud = cloud
        self.sdk = Sdk(provider.sdk)
        self.config: Props = {}
        self._kinds = {kind.token: kind() for kind in provider.kinds}

    def kind(self, token: str) -> Kind:
        """Return a resource type. Raises VreError for one that is not in the table."""
        if token not in self._kinds:
            raise VreError(f"the simulated {self.provider.name} has no {token}", hint="add it to its table of kinds")
        return self._kinds[token]

    def configure(self, given: Props) -> None:
        """Take the provider's settings, and put what is there anyway into the cloud."""
        self.config = _decoded(given, self.sdk.settings())
        self.provider.configure(self.config)
        for thing in self.provider.given(self.config):
            if self.cloud.find(thing.type, thing.id) is None:
                self._put(Thing(**{**vars(thing), "given": True, "plugin": self.provider.name}))

    def check_config(self, given: Props) -> list[Finding]:
        """Return what is wrong with the provider's settings."""
        return self.sdk.settings().faults(_decoded(given, self.sdk.settings()))

    def diff_config(self, old: Props, new: Props) -> proto.DiffResponse:
        """Say which of its settings changed, and which of these need everything anew."""
        found = [path for path, _, _ in changes(old, new)]
        return proto.DiffResponse(
            changes=proto.DiffResponse.DIFF_SOME if found else proto.DiffResponse.DIFF_NONE,
            replaces=[path for path in found if covers(self.provider.replace_on, path)],
            diffs=found,
        )

    def check(self, context: Context, request: proto.CheckRequest) -> proto.CheckResponse:
        """Refuse what the SDK's types do not allow, or what the provider refuses by itself."""
        kind = self.kind(_token(request))
        given = received(request.news)
        inputs = plain(given)
        findings = self.sdk.resource(kind.token).faults(inputs) or list(kind.check(inputs))
        self._note(Asked(plugin=self.provider.name, method="check", type=kind.token, urn=request.urn, preview=True))
        if findings:
            return proto.CheckResponse(failures=[_failure(kind.token, each) for each in findings])
        call = self._call(context, request, inputs=inputs, old_inputs=plain(received(request.olds)))
        filled = {**kind.defaults(call), **_named(kind, call), **inputs}
        return proto.CheckResponse(inputs=sent(marked(filled, like=[given])))

    def diff(self, context: Context, request: proto.DiffRequest) -> proto.DiffResponse:
        """Compare the inputs as they were with those that are wanted."""
        kind = self.kind(_token(request))
        old, new = plain(received(request.old_inputs)), plain(received(request.news))
        ignored = frozenset(request.ignoreChanges)
        found = [each for each in changes(old, new) if not (ignored and covers(ignored, each[0]))]
        replaces = sorted({_top(path) for path, _, _ in found if covers(kind.replace_on, path)})
        same_name = bool(kind.named) and old.get(kind.named) == new.get(kind.named)
        return proto.DiffResponse(
            changes=proto.DiffResponse.DIFF_SOME if found else proto.DiffResponse.DIFF_NONE,
            replaces=replaces,
            diffs=sorted({_top(path) for path, _, _ in found}),
            deleteBeforeReplace=bool(replaces) and (kind.delete_first or same_name),
            hasDetailedDiff=True,
            detailedDiff={path: _detail(kind, path, before, after) for path, before, after in found},
        )

    def create(self, context: Context, request: proto.CreateRequest) -> proto.CreateResponse:
        """Make it; in a preview say that its outputs are not known."""
        kind = self.kind(_token(request))
        given = received(request.properties)
        call = self._call(context, request, inputs=plain(given))
        names = self.sdk.resource(kind.token).outputs
        with self._noted(call, "create", kind.token, told=call.inputs, preview=request.preview) as note:
            if request.preview:
                return proto.CreateResponse(properties=self._outputs(kind, dict.fromkeys(names, UNKNOWN), [given]))
            self._references(kind, call)
            self._free_name(kind, call)
            outputs = self._whole(kind, {**dict.fromkeys(names), **call.inputs, **kind.create(call)})
            self._made(kind, call, outputs, note, [given])
        return proto.CreateResponse(id=call.id, properties=self._outputs(kind, outputs, [given]))

    def update(self, context: Context, request: proto.UpdateRequest) -> proto.UpdateResponse:
        """Change it in place."""
        kind = self.kind(_token(request))
        new, old = received(request.news), received(request.olds)
        call = self._call(context, request, inputs=plain(new), state=plain(old), id=request.id)
        call.old_inputs = plain(received(request.old_inputs))
        gone = dict.fromkeys(call.old_inputs.keys() - call.inputs.keys())
        outputs = {**call.state, **gone, **call.inputs}
        with self._noted(call, "update", kind.token, told=call.inputs, preview=request.preview) as note:
            if request.preview:
                return proto.UpdateResponse(properties=self._outputs(kind, outputs, [new, old]))
            if self.cloud.find(kind.token, call.id) is None:
                raise self.provider.missing("id", kind.token, call.id)
            self._references(kind, call)
            outputs = self._whole(kind, {**outputs, **kind.update(call)})
            self._made(kind, call, outputs, note, [new, old])
        return proto.UpdateResponse(properties=self._outputs(kind, outputs, [new, old]))

    def read(self, context: Context, request: proto.ReadRequest) -> proto.ReadResponse:
        """Look at it: for a refresh, an import, or a `get` of the program."""
        kind = self.kind(_token(request))
        like = [received(request.inputs), received(request.properties)]
        call = self._call(context, request, inputs=plain(like[0]), state=plain(like[1]), id=request.id)
        with self._noted(call, "read", kind.token):
            found = kind.read(call)
        if found is None:
            # Whoever took it away by hand did so behind the simulation's back.
            self.cloud.remove(kind.token, request.id)
            return proto.ReadResponse()
        inputs = sent(marked(found.inputs, like=like, names=kind.secret_outputs))
        return proto.ReadResponse(id=request.id, properties=self._outputs(kind, found.outputs, like), inputs=inputs)

    def delete(self, context: Context, request: proto.DeleteRequest) -> Empty:
        """Remove it, unless something refers to it. What is gone already is no fault."""
        kind = self.kind(_token(request))
        call = self._call(context, request, state=plain(received(request.properties)), id=request.id)
        with self._noted(call, "delete", kind.token) as note:
            found = self.cloud.find(kind.token, request.id)
            if found is not None:
                users = list(self._users(found))
                if users:
                    raise self.provider.in_use(found, users)
                kind.delete(call)
                self.cloud.remove(kind.token, request.id)
            note.lose(kind.token)
        return Empty()

    def invoke(self, context: Context, token: str, args: Props) -> Props:
        """Answer a data source. Raises VreError."""
        if token not in self.provider.functions:
            raise VreError(
                f"the simulated {self.provider.name} has no {token}", hint="add it to its table of functions"
            )
        known = self.sdk.function(token)
        wrong = known.faults(args)
        if wrong:
            raise VreError("; ".join(_failure(token, each).reason for each in wrong))
        call = Call(provider=self.provider, cloud=self.cloud, context=context, config=self.config, inputs=args)
        with self._noted(call, "invoke", token, told=args):
            answer = self.provider.functions[token](call)
        return _known(token, answer, known.outputs | {"id"})

    def _call(self, context: Context, request: Any, **more: Any) -> Call:
        return Call(
            provider=self.provider, cloud=self.cloud, context=context, config=self.config, urn=request.urn, **more
        )

    def _noted(
        self, call: Call, method: str, token: str, *, told: Mapping[str, Any] | None = None, preview: bool = False
    ) -> AbstractContextManager[Note]:
        asked = Asked(
            plugin=self.provider.name, method=method, type=token, urn=call.urn, id=call.id, preview=preview,
            told=told or {},
        )  # fmt: skip

        def refusal(what: str) -> CloudError:
            says = self.provider.failed if what == "fail" else self.provider.throttled
            return says(method, token)

        return noted(self.cloud, asked, call.context, refusal)

    def _made(self, kind: Kind, call: Call, outputs: Props, note: Note, like: list[Props]) -> None:
        """Keep what was made; then the reply may be lost, or say that it is not whole."""
        note.id = call.id
        self._put(
            Thing(
                type=kind.token,
                id=call.id,
                urn=call.urn,
                plugin=self.provider.name,
                inputs=call.inputs,
                outputs=outputs,
            ),
            self._references(kind, call),
        )
        note.lose(kind.token)
        if note.half:
            properties = self._outputs(kind, outputs, like)
            raise Kept(proto.ErrorResourceInitFailed(id=call.id, properties=properties, reasons=[note.half]))

    def _references(self, kind: Kind, call: Call) -> list[Reference]:
        """Return what a thing refers to. Raises what the cloud says when it is not there."""
        found = []
        for path, tokens, value in kind.references(call.inputs):
            other = next((each for token in tokens if (each := self.cloud.find(token, value))), None)
            if other is None:
                raise self.provider.missing(path, tokens[0], value)
            if not covers(kind.frees, path):
                found.append(Reference(type=other.type, id=other.id, path=path))
        return found

    def _users(self, thing: Thing) -> Iterator[Thing]:
        for each in self.cloud.referring(thing.type, thing.id):
            found = self.cloud.find(each.type, each.id)
            if found is not None and found.id != thing.id:
                yield found

    def _free_name(self, kind: Kind, call: Call) -> None:
        other = self.cloud.find(kind.token, _key(kind, call.inputs)) if kind.unique else None
        if other is not None:
            raise self.provider.exists(kind, other)

    def _put(self, thing: Thing, refers: list[Reference] | None = None) -> None:
        kind = self._kinds.get(thing.type)
        names = [value for path in kind.known_by for _, value in at(thing.outputs, path)] if kind else []
        own = [_key(kind, thing.inputs)] if kind and kind.unique else []
        self.cloud.put(thing, names=[*map(str, names), *own], refers=refers or [])

    def _whole(self, kind: Kind, outputs: Props) -> Props:
        known = self.sdk.resource(kind.token)
        return _known(kind.token, outputs, known.outputs | known.inputs.fields.keys())

    def _outputs(self, kind: Kind, outputs: Props, like: list[Props]) -> Struct:
        whole = {**outputs, **{key: plain(value) for each in reversed(like) for key, value in each.items()}}
        shown = whole if any(value is UNKNOWN for value in outputs.values()) else outputs
        return sent(marked(shown, like=like, names=kind.secret_outputs))

    def _note(self, asked: Asked) -> None:
        number, _ = self.cloud.begin(asked)
        self.cloud.end(number)


def _token(request: Any) -> str:
    return str(request.type or request.urn.split("::")[2].split("$")[-1])


def _top(path: str) -> str:
    return path.split(".")[0].split("[")[0]


def _key(kind: Kind, inputs: Props) -> str:
    """Return what no two may have in common, as one of the names that a thing is known by."""
    return "=" + repr([inputs.get(name) for name in kind.unique])


def _named(kind: Kind, call: Call) -> Props:
    """Return the name that the plugin makes up, or made up before."""
    if not kind.named or call.inputs.get(kind.named) is not None:
        return {}
    return {kind.named: call.old_inputs.get(kind.named) or f"{call.name}-{secrets.token_hex(4)[:7]}"}


def _detail(kind: Kind, path: str, before: Any, after: Any) -> proto.PropertyDiff:
    change = "ADD" if before is None else "DELETE" if after is None else "UPDATE"
    word = f"{change}_REPLACE" if covers(kind.replace_on, path) else change
    return proto.PropertyDiff(kind=proto.PropertyDiff.Kind.Value(word), inputDiff=True)


def _failure(token: str, finding: Finding) -> proto.CheckFailure:
    return proto.CheckFailure(property=finding.key, reason=f"{token}: {finding.key}: {finding.reason}")


def _known(token: str, outputs: Props, names: frozenset[str]) -> Props:
    """Return the outputs. A name that the SDK does not have is a fault of the simulation."""
    unknown = sorted(outputs.keys() - names)
    if unknown:
        raise AssertionError(f"the simulated {token} gives outputs that the SDK does not know: {', '.join(unknown)}")
    return outputs


def _decoded(given: Props, known: Described) -> Props:
    """Return a provider's settings with their types: on the wire all are texts, in JSON where they are not texts."""
    made = {}
    for key, value in given.items():
        if key in ("version", "pluginDownloadURL") or key.startswith("__"):
            continue
        made[key] = known.inputs.decoded(key, value)
    return made
