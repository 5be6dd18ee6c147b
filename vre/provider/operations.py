"""What each request of the engine means for a handler: request in, response out, no network, no threads."""

from collections.abc import Iterable, Set

from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import provider_pb2 as proto

from vre.errors import Finding, Refused, VreError
from vre.provider.handler import Changes, Context, Found, Handler, Partial, Props
from vre.provider.values import marked, plain, received, sent

Request = (
    proto.CheckRequest
    | proto.DiffRequest
    | proto.CreateRequest
    | proto.ReadRequest
    | proto.UpdateRequest
    | proto.DeleteRequest
)
STRUCTS = ("olds", "news", "old_inputs", "properties", "inputs")


class Kept(Exception):
    """A resource that exists but is not whole, as the engine keeps it in state."""

    def __init__(self, detail: proto.ErrorResourceInitFailed) -> None:
        super().__init__(detail.id)
        self.detail = detail


def everything(request: Request) -> list[Props]:
    """Return every set of marked values that a request carries, for finding the secrets in it."""
    fields = request.DESCRIPTOR.fields_by_name
    return [received(getattr(request, name)) for name in STRUCTS if name in fields]


def check(handler: Handler, request: proto.CheckRequest) -> proto.CheckResponse:
    """Refuse bad inputs, or fill in what is missing."""
    given = received(request.news)
    inputs = plain(given)
    try:
        findings = handler.check(inputs)
        filled = inputs if findings else handler.normalise(inputs)
    except Refused as refused:
        findings = list(refused.findings)
    except VreError as error:
        return proto.CheckResponse(failures=[proto.CheckFailure(reason=str(error))])
    if findings:
        return proto.CheckResponse(failures=[_failure(finding) for finding in findings])
    return proto.CheckResponse(inputs=sent(marked(filled, like=[given])))


def _failure(finding: Finding) -> proto.CheckFailure:
    example = f"; for example: {finding.example}" if finding.example else ""
    return proto.CheckFailure(property=finding.key, reason=f"{finding.reason}{example}")


def diff(handler: Handler, request: proto.DiffRequest) -> proto.DiffResponse:
    """Say what changes in place and what needs a new resource."""
    state, inputs = plain(received(request.olds)), plain(received(request.news))
    found = handler.diff(state, inputs)
    removed = (request.old_inputs.fields.keys() & state.keys()) - inputs.keys() - handler.ignore
    ignored = set(request.ignoreChanges)
    changes = Changes(
        update=frozenset(found.update | (removed - handler.replace_on)) - ignored,
        replace=frozenset(found.replace | (removed & handler.replace_on)) - ignored,
        delete_first=found.delete_first,
    )
    return _diff_response(changes, state.keys(), removed)


def _diff_response(changes: Changes, old: Set[str], removed: Set[str]) -> proto.DiffResponse:
    every = sorted(changes.update | changes.replace)
    return proto.DiffResponse(
        changes=proto.DiffResponse.DIFF_SOME if every else proto.DiffResponse.DIFF_NONE,
        replaces=sorted(changes.replace),
        diffs=every,
        deleteBeforeReplace=bool(changes.replace) and changes.delete_first,
        hasDetailedDiff=True,
        detailedDiff={key: proto.PropertyDiff(kind=_kind(key, changes, old, removed)) for key in every},
    )


def _kind(key: str, changes: Changes, old: Set[str], removed: Set[str]) -> proto.PropertyDiff.Kind.ValueType:
    change = "DELETE" if key in removed else "UPDATE" if key in old else "ADD"
    return proto.PropertyDiff.Kind.Value(f"{change}_REPLACE" if key in changes.replace else change)


def create(handler: Handler, context: Context, request: proto.CreateRequest) -> proto.CreateResponse:
    """Make the resource, or say in a preview what is known of it."""
    given = received(request.properties)
    inputs = plain(given)
    if request.preview:
        return proto.CreateResponse(properties=_outputs(handler, handler.preview(inputs, {}), [given]))
    try:
        resource_id, outputs = handler.create(context, inputs)
    except Partial as partial:
        raise _kept(handler, partial, {**inputs, **partial.outputs}, [given]) from partial
    return proto.CreateResponse(id=resource_id, properties=_outputs(handler, {**inputs, **outputs}, [given]))


def update(handler: Handler, context: Context, request: proto.UpdateRequest) -> proto.UpdateResponse:
    """Change the resource in place, or say in a preview what it will be."""
    old, new = received(request.olds), received(request.news)
    state, inputs = plain(old), plain(new)
    if request.preview:
        return proto.UpdateResponse(properties=_outputs(handler, handler.preview(inputs, state), [new, old]))
    try:
        outputs = handler.update(context, request.id, state, inputs)
    except Partial as partial:
        raise _kept(handler, partial, {**state, **partial.outputs}, [new, old]) from partial
    return proto.UpdateResponse(properties=_outputs(handler, {**inputs, **outputs}, [new, old]))


def read(handler: Handler, context: Context, request: proto.ReadRequest) -> proto.ReadResponse:
    """Look at the real thing: for a refresh, or for an import (then the request has no state)."""
    old_state, old_inputs = received(request.properties), received(request.inputs)
    like = [old_inputs, old_state]
    try:
        found = handler.read(context, request.id, plain(old_state))
    except Partial as partial:
        outputs = {**plain(old_state), **partial.outputs}
        raise _kept(handler, partial, outputs, like, inputs=request.inputs) from partial
    if found is None:
        return proto.ReadResponse()
    found = _with_ignored(handler, found, plain(old_inputs))
    return proto.ReadResponse(
        id=request.id,
        properties=_outputs(handler, {**found.inputs, **found.outputs}, like),
        inputs=sent(marked(found.inputs, like=like, names=handler.secret_outputs)),
    )


def _with_ignored(handler: Handler, found: Found, old_inputs: Props) -> Found:
    """How a thing was reached cannot be seen by looking at it: keep it."""
    kept = {key: old_inputs[key] for key in handler.ignore & old_inputs.keys()}
    return Found(inputs={**kept, **found.inputs}, outputs={**kept, **found.outputs})


def delete(handler: Handler, context: Context, request: proto.DeleteRequest) -> Empty:
    """Remove the resource."""
    handler.delete(context, request.id, plain(received(request.properties)))
    return Empty()


def _outputs(handler: Handler, outputs: Props, like: Iterable[Props]) -> Struct:
    return sent(marked(outputs, like=like, names=handler.secret_outputs))


def _kept(
    handler: Handler, partial: Partial, outputs: Props, like: Iterable[Props], *, inputs: Struct | None = None
) -> Kept:
    return Kept(
        proto.ErrorResourceInitFailed(
            id=partial.resource_id,
            properties=_outputs(handler, outputs, like),
            reasons=[str(partial)],
            inputs=inputs,
        )
    )
