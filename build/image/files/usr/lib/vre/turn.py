"""One machine of the cluster at a time: its turn, cordoned and drained, back again. With the kubelet's own credentials.

Runs on machines with the standard library only. What a node may do: read and cordon itself, list and evict its own
pods (Node authorizer, NodeRestriction). It may not touch a Lease that is not its heartbeat, so the turn is noted on a
ConfigMap that a Role of ours lets nodes change: who has it, and when it was last heard of. Every change names the
version that was read, so of two that take it at once one is refused.
"""

import base64
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import patching

KUBECONFIG = Path("/etc/kubernetes/kubelet.conf")
ROTATED = Path("/var/lib/kubelet/pki/kubelet-client-current.pem")
LOCK = "/api/v1/namespaces/kube-system/configmaps/vre-patch"
AGAIN = 5.0  # seconds between two looks
MERGE = "application/merge-patch+json"
Say = Callable[[str], None]


class ApiError(Exception):
    """The API server refused; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Unreachable(Exception):
    """The API server does not answer."""


class TooLong(Exception):
    """What was waited for did not come; says what it was."""


@dataclass(frozen=True, kw_only=True)
class Api:
    """The cluster's API as this node sees it."""

    server: str
    context: ssl.SSLContext | None = None
    timeout: float = 60.0

    def request(self, method: str, path: str, body: Any = None, *, content: str = "application/json") -> dict[str, Any]:
        """Return the answer. Raises ApiError when it is a refusal, Unreachable when there is none."""
        asked = urllib.request.Request(  # noqa: S310 - the address in the kubelet's own settings
            self.server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": content, "Accept": "application/json"},
        )
        try:
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.context)
            )
            with opener.open(asked, timeout=self.timeout) as answer:
                made: dict[str, Any] = json.load(answer)
                return made
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, error.read().decode(errors="replace")[:300]) from error
        except (OSError, ValueError) as error:
            raise Unreachable(str(error)) from error


def api(scratch: Path, kubeconfig: Path = KUBECONFIG, rotated: Path = ROTATED) -> Api | None:
    """Return the way to the API that the kubelet has, or None on a machine that is in no cluster.

    The certificate that the kubelet has renewed comes before the one in its settings, which is that of the first year.
    Raises Unreachable when they cannot be read.
    """
    if not kubeconfig.exists():
        return None
    try:
        return _api(scratch, kubeconfig.read_text(), rotated)
    except (OSError, ValueError) as error:
        raise Unreachable(f"the kubelet's credentials cannot be read: {error}") from error


def _api(scratch: Path, told: str, rotated: Path) -> Api:
    server = _told(told, "server")
    if not server.startswith("https:"):
        return Api(server=server)
    context = ssl.create_default_context(cadata=_data(told, "certificate-authority-data").decode())
    if rotated.exists():
        context.load_cert_chain(rotated)
    else:
        pair = scratch / "kubelet.pem"
        pair.touch(mode=0o600)
        pair.write_bytes(_data(told, "client-certificate-data") + _data(told, "client-key-data"))
        try:
            context.load_cert_chain(pair)
        finally:
            pair.unlink()
    return Api(server=server, context=context)


def _told(text: str, key: str) -> str:
    found = re.search(rf"^\s*(?:- )?{key}: *[\"']?([^\s\"']+)", text, re.MULTILINE)
    if found is None:
        raise Unreachable(f"{KUBECONFIG} has no {key}")
    return found[1]


def _data(text: str, key: str) -> bytes:
    return base64.b64decode(_told(text, key)) + b"\n"


@dataclass(kw_only=True)
class Node:
    """This machine as a node. `clock` and `pause` are the world's, but in tests."""

    name: str
    api: Api
    boot: str
    say: Say
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    pause: Callable[[float], None] = time.sleep

    def take(self, deadline: datetime) -> None:
        """Take the turn, waiting for others. Raises TooLong when another machine has it to the end."""
        while True:
            other = self._try()
            if not other:
                return
            if self.clock() >= deadline:
                raise TooLong(f"it is the turn of {other}")
            self.say(f"waiting: it is the turn of {other}")
            self.pause(AGAIN)

    def keep(self) -> None:
        """Say that it is still this machine's turn."""
        self._try()

    def give_back(self) -> None:
        """End the turn."""
        lock = self.api.request("GET", LOCK)
        if _notes(lock).get("vre/holder") == self.name:
            self._hold(lock, "")

    def _try(self) -> str:
        """Take the turn, or renew it; return who has it instead."""
        lock = self.api.request("GET", LOCK)
        other = patching.held(lock, self.name, self.clock())
        if other:
            return other
        try:
            self._hold(lock, self.name)
        except ApiError as error:
            if error.status != 409:
                raise
            return "a machine that was quicker"
        return ""

    def announce(self, at: datetime, why: str, *, others: bool) -> None:
        """Note for users when work on this machine ends, and why. With `others` that is this machine's users only.

        Jupyter's hub reads it. A note whose time is over says nothing, so none is taken back.
        """
        told = {
            "vre/reboot-at": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "vre/reboot-why": why,
            "vre/reboot-node": self.name if others else "",
        }
        self._note(self.api.request("GET", LOCK), told)

    def has_users(self) -> bool:
        """Say whether somebody's server runs on this machine."""
        return patching.at_work(self._pods())

    def _hold(self, lock: Mapping[str, Any], holder: str) -> None:
        self._note(lock, {"vre/holder": holder, "vre/heard": self.clock().isoformat()})

    def _note(self, lock: Mapping[str, Any], told: Mapping[str, str]) -> None:
        notes = {**_notes(lock), **told}
        self.api.request("PUT", LOCK, {**lock, "metadata": {**lock["metadata"], "annotations": notes}})

    def cordoned(self) -> bool:
        """Return whether it takes no more pods, by us or by somebody else."""
        return bool(self._node().get("spec", {}).get("unschedulable"))

    def cordon(self) -> None:
        """Take no more pods."""
        self._merge({"spec": {"unschedulable": True}})

    def uncordon(self) -> None:
        """Take pods again."""
        self._merge({"spec": {"unschedulable": None}})

    def drain(self, deadline: datetime) -> None:
        """Ask every pod to go and wait until it has; budgets are kept. Raises TooLong with those that stay."""
        while True:
            left = patching.movable(self._pods())
            if not left:
                return
            refused = [told for told in (self._evict(pod) for pod in left) if told]
            if self.clock() >= deadline:
                names = [f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in left]
                raise TooLong(f"pods that stay: {', '.join(names)}{f' ({refused[0]})' if refused else ''}")
            self.say(f"draining: {len(left)} pods left")
            self.keep()
            self.pause(AGAIN)

    def until_ready(self, deadline: datetime) -> None:
        """Wait until this node is ready in this boot. Raises TooLong. The turn is kept meanwhile."""
        why = "the API does not answer"
        while self.clock() < deadline:
            try:
                if patching.ready(self._node(), self.boot):
                    return
                why = "the node is not ready"
                self.keep()
            except (ApiError, Unreachable) as error:
                why = f"the API does not answer: {error}"
            self.say(f"waiting: {why}")
            self.pause(AGAIN)
        raise TooLong(why)

    def event(self, reason: str, message: str) -> None:
        """Note on the node, for everybody who looks at it, what is being done."""
        now = self.clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        about = {"kind": "Node", "name": self.name, "uid": self.name, "apiVersion": "v1"}
        self.api.request(
            "POST",
            "/api/v1/namespaces/default/events",
            {
                "apiVersion": "v1", "kind": "Event", "type": "Normal", "reason": reason, "message": message,
                "metadata": {"generateName": f"{self.name}.", "namespace": "default"}, "involvedObject": about,
                "firstTimestamp": now, "lastTimestamp": now, "count": 1, "source": {"component": "vre-patch"},
            },
        )  # fmt: skip

    def _pods(self) -> list[dict[str, Any]]:
        return list(self.api.request("GET", f"/api/v1/pods?fieldSelector=spec.nodeName={self.name}")["items"])

    def _node(self) -> dict[str, Any]:
        return self.api.request("GET", f"/api/v1/nodes/{self.name}")

    def _merge(self, patch: Mapping[str, Any]) -> None:
        self.api.request("PATCH", f"/api/v1/nodes/{self.name}", patch, content=MERGE)

    def _evict(self, pod: Mapping[str, Any]) -> str:
        """Ask a pod to go; return why it may not now."""
        about = {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}
        if pod["metadata"].get("deletionTimestamp"):
            return ""
        path = f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}/eviction"
        try:
            self.api.request("POST", path, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": about})
        except ApiError as error:
            if error.status == 404:
                return ""
            if error.status in (409, 429, 500):
                return str(error)
            raise
        return ""


def _notes(lock: Mapping[str, Any]) -> dict[str, str]:
    return dict((lock.get("metadata") or {}).get("annotations") or {})
