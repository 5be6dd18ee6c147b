"""`vre:cluster:Objects`: Kubernetes objects, applied together, pruned together, waited for."""

import base64
import binascii
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from vre.cluster import ready, taken
from vre.cluster.api import Api, ApiError, NoSuchKind
from vre.cluster.objects import identity, in_order
from vre.errors import Finding, VreError
from vre.machine.ssh import Connection, Shell, Unreachable, starred, wait
from vre.provider.handler import UNKNOWN, Context, Found, Handler, Partial, Props

TIMEOUT = 900
LOOKING = 30.0  # seconds that a look, or a removal, waits for the API server
EVERY = 2.0  # seconds between two looks
IN_VAIN = 30.0  # seconds for which a reason to give up must last
LINES = 15  # of each troubled pod's log
INVENTORY = {"apiVersion": "v1", "kind": "ConfigMap"}
REMADE = ("Job", "Deployment", "DaemonSet")
"""Kinds without data of their own: made anew when a field changes that cannot change in place."""
Identity = tuple[str, str, str, str]


class Objects(Handler):
    """A named set of objects. What leaves the set leaves the cluster; manual changes are found and put right."""

    token = "vre:cluster:Objects"  # noqa: S105 - a type
    # Not with its machine: to replace is to remove first, and a machine made again still has all data on its disks.
    replace_on: ClassVar[frozenset[str]] = frozenset({"name"})
    ignore: ClassVar[frozenset[str]] = frozenset({"connection", "timeout"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse objects without a kind or a name, doubles, and kinds that cannot be waited for."""
        found = []
        things = [each for each in _list(inputs.get("objects")) if isinstance(each, Mapping)]
        seen: set[Identity] = set()
        for index, thing in enumerate(things):
            try:
                key = identity(thing)
            except (KeyError, TypeError, AttributeError):
                found.append(Finding(key=f"objects[{index}]", reason="no apiVersion, kind or metadata.name"))
                continue
            if key in seen:
                found.append(Finding(key=f"objects[{index}]", reason=f"the second {ready.name(thing)}"))
            seen.add(key)
        kinds = [each.get("kind") for each in _list(inputs.get("ready")) if isinstance(each, Mapping)]
        unknown = [kind for kind in kinds if isinstance(kind, str) and kind not in ready.VERSIONS]
        found += [Finding(key="ready", reason=f"a {kind} cannot be waited for") for kind in unknown]
        return found

    def normalise(self, inputs: Props) -> Props:
        """Wait for nothing and for fifteen minutes when not told."""
        return {**inputs, "ready": inputs.get("ready") or [], "timeout": inputs.get("timeout") or TIMEOUT}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Apply the set; what an interrupted attempt left is taken over."""
        self._bring(context, inputs)
        return str(inputs["name"]), dict(inputs)

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Apply the new set and remove what is no longer in it."""
        self._bring(context, inputs)
        return dict(inputs)

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Look at every object; one that is missing or was changed by hand is left out, so that `up` puts it right."""
        if not state:
            raise VreError("a set of objects cannot be imported", hint="let `up` apply it: it takes over what is there")
        try:
            with Shell(Connection.read(state["connection"])) as shell, Api(shell, patience=LOOKING) as api:
                newer = taken.read(api)
                kept = [thing for thing in state["objects"] if _unchanged(api, taken.renewed(thing, newer))]
        except Unreachable as error:
            context.report(f"{error.message}; kept as last seen")
            kept = state["objects"]
        return Found(inputs={**state, "objects": kept}, outputs={**state, "objects": kept})

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Remove the set; with a machine that is gone, its cluster is, too."""
        try:
            with Shell(Connection.read(state["connection"])) as shell, Api(shell, patience=LOOKING) as api:
                context.report("removing objects")
                for thing in reversed(in_order([_stub(key) for key in _members(api, str(state["name"]))])):
                    api.delete(thing)
                api.delete(_inventory(str(state["name"])))
        except Unreachable as error:
            context.report(f"{error.message}; nothing to remove there")

    def _bring(self, context: Context, inputs: Props) -> None:
        things = in_order(inputs["objects"])
        hidden = secrets(things)
        try:
            with wait(Connection.read(inputs["connection"]), context, timeout=120) as shell, Api(shell) as api:
                newer = taken.read(api)
                things = [taken.renewed(thing, newer) for thing in things]
                apply(api, context, str(inputs["name"]), things)
                try:
                    until_ready(api, context, inputs["ready"], float(inputs.get("timeout") or TIMEOUT), things)
                except VreError as error:
                    if type(error) is not VreError:
                        raise
                    told = starred(error.message, hidden)
                    raise Partial(str(inputs["name"]), dict(inputs), told, hint=error.hint) from None
        except ApiError as error:
            raise VreError(starred(error.message, hidden), hint=error.hint) from None


def apply(api: Api, context: Context, name: str, things: Sequence[Props]) -> None:
    """Apply a set and remove from the cluster what was in it before and is not any more."""
    wanted = [identity(thing) for thing in things]
    before = _members(api, name)
    # Written down before anything is made: a kill at any moment leaves nothing that is not in the list.
    api.apply(_inventory(name, sorted({*before, *wanted})))
    for index, thing in enumerate(things):
        context.pause(0)
        context.report(f"applying {index + 1} of {len(things)}: {ready.name(thing)}")
        _apply(api, thing)
    for thing in reversed(in_order([_stub(key) for key in before if key not in wanted])):
        context.report(f"removing {ready.name(thing)}")
        api.delete(thing)
    if set(before) - set(wanted):
        api.apply(_inventory(name, sorted(wanted)))


def _apply(api: Api, thing: Props) -> None:
    try:
        api.apply(thing)
    except ApiError as error:
        if thing["kind"] not in REMADE or error.status != 422 or "immutable" not in error.message:
            raise
        api.delete(thing)
        api.apply(thing)


def until_ready(
    api: Api, context: Context, awaited: Sequence[Mapping[str, str]], timeout: float, things: Sequence[Props] = ()
) -> None:
    """Wait until every awaited object is up. Raises VreError with events and log lines of what is not."""
    stubs = [_awaited(each) for each in awaited]
    spaces = sorted({stub["metadata"]["namespace"] for stub in stubs if stub["metadata"].get("namespace")})
    deadline = time.monotonic() + timeout
    in_vain_since, waiting = None, stubs
    while True:
        # What is up is left in peace until everything seems to be: each question is work for a slow machine.
        waiting = _down(api, waiting) or _down(api, stubs)
        if not waiting:
            return
        pods = [pod for space in spaces for pod in api.items(f"/api/v1/namespaces/{space}/pods", resourceVersion="0")]
        short = [{"name": stub["metadata"]["name"]} for stub in waiting]
        context.report(ready.progress(short, len(stubs), pods))
        vain = ready.hopeless(pods)
        in_vain_since = (in_vain_since or time.monotonic()) if vain else None
        late = time.monotonic() > deadline
        if late or (in_vain_since and time.monotonic() - in_vain_since > IN_VAIN):
            raise VreError(
                _explain(api, waiting, pods, timeout, vain),
                hint="vre logs, or vre kubectl get pods -A; then: pulumi up",
            )
        context.pause(EVERY)


def _down(api: Api, stubs: Sequence[Props]) -> list[Props]:
    return [stub for stub in stubs if not _is_up(api, stub)]


def _is_up(api: Api, stub: Props) -> bool:
    found = api.get(api.path(stub))
    thing = {**stub, **found} if found is not None else None
    if ready.failed(thing):
        raise VreError(f"{ready.name(stub)} has failed", hint="vre logs")
    return ready.ready(thing)


def _explain(api: Api, waiting: Sequence[Props], pods: Sequence[Props], timeout: float, vain: str) -> str:
    names = ", ".join(ready.name(stub) for stub in waiting)
    lines = [f"not up: {names} ({vain or f'waited {timeout:.0f} s'})"]
    for pod in ready.troubled(pods)[:5]:
        lines += [f"  {line}" for line in ready.why(pod)]
        lines += [f"    {line}" for line in _last_words(api, pod)]
    return "\n".join(lines)


def _last_words(api: Api, pod: Mapping[str, Any]) -> list[str]:
    """Return warnings about a pod and the end of its log, as far as they can be had."""
    space, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    about = f"involvedObject.name={name},type=Warning"
    events = api.items(f"/api/v1/namespaces/{space}/events", fieldSelector=about)
    lines = [f"{event.get('reason')}: {event.get('message')}" for event in events[-3:]]
    for container in pod["spec"].get("containers", []):
        try:
            path = f"/api/v1/namespaces/{space}/pods/{name}/log"
            said = api.text(path, insist=False, container=container["name"], tailLines=str(LINES))
        except VreError:
            continue
        if not said.lstrip().startswith('{"kind":"Status"'):
            lines += [f"{container['name']}: {line}" for line in said.splitlines()]
    return lines


def _unchanged(api: Api, thing: Props) -> bool:
    """Say whether applying the object would change nothing."""
    try:
        live = api.get(api.path(thing))
        return live is not None and _bare(live) == _bare(api.apply(thing, dry_run=True))
    except NoSuchKind:
        return False


def _bare(thing: Props) -> Props:
    about = {
        key: value
        for key, value in thing["metadata"].items()
        if key not in ("managedFields", "resourceVersion", "generation")
    }
    return {**thing, "metadata": about}


def _inventory(name: str, members: Sequence[Identity] = ()) -> Props:
    about = {"name": f"vre-objects-{name}", "namespace": "kube-system"}
    return {**INVENTORY, "metadata": about, "data": {"members": json.dumps([list(key) for key in members])}}


def _members(api: Api, name: str) -> list[Identity]:
    found = api.get(api.path(_inventory(name)))
    listed = json.loads(found["data"]["members"]) if found else []
    return [(version, kind, space, each) for version, kind, space, each in listed]


def _stub(key: Identity) -> Props:
    version, kind, space, name = key
    return {"apiVersion": version, "kind": kind, "metadata": {"namespace": space, "name": name}}


def _awaited(each: Mapping[str, str]) -> Props:
    return _stub((ready.VERSIONS[each["kind"]], each["kind"], each.get("namespace", ""), each["name"]))


def secrets(things: Sequence[Props]) -> list[str]:
    """Return every secret text among the objects, so that no message shows one."""
    found: set[str] = set()
    for thing in things:
        if thing["kind"] == "Secret":
            found |= {str(value) for value in (thing.get("stringData") or {}).values()}
            found |= {_decoded(str(value)) for value in (thing.get("data") or {}).values()}
    return sorted((each for each in found if len(each) >= 4), key=len, reverse=True)


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) and value is not UNKNOWN else []
