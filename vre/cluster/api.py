"""The Kubernetes API of a cluster, over SSH: its port is reached from nowhere else.

Requests leave from here, so a slow machine starts no client for each of them.
"""

import base64
import http.client
import json
import os
import ssl
import tempfile
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

from vre import yamltext
from vre.cluster import tunnel
from vre.errors import VreError
from vre.machine.ssh import Shell, Unreachable

Object = dict[str, Any]
PORT = 6443
ADMIN = "/etc/kubernetes/admin.conf"
OWNER = "vre"
PATIENCE = 240.0
"""Seconds for which a server that does not answer is asked again: a slow machine takes minutes to start it anew."""
PAUSE = 2.0
BUSY = (429, 500, 502, 503, 504)
"""Answers of an API server that is starting, or has too much to do: asked again."""
BROKEN = (http.client.HTTPException, OSError, Unreachable)
"""Ways in which a connection ends: made anew, and asked again."""


class ApiError(VreError):
    """The API server refused. `status` is HTTP's, `reason` Kubernetes' own word."""

    def __init__(self, message: str, *, status: int, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Api:
    """A connection to one cluster. A context manager; not to be shared between threads."""

    def __init__(self, shell: Shell, *, config: str = "", patience: float = PATIENCE, pause: float = PAUSE) -> None:
        """Prepare. `patience` seconds a request is tried again, with a `pause` between two tries."""
        self.shell = shell
        self.config = config
        self.patience = patience
        self.pause = pause
        self.connection: http.client.HTTPConnection | None = None
        self.tls: ssl.SSLContext | None = None
        self.kinds: dict[str, dict[str, tuple[str, bool]]] = {}

    def __enter__(self) -> Self:
        self.tls = _context(yamltext.load(self.config or self.shell.read(ADMIN)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def get(self, path: str, **query: str) -> Object | None:
        """Return what is at a path, or None."""
        try:
            return self.request("GET", path, query=query)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str, **query: str) -> list[Object]:
        """Return the items of a list; none when there is no such list."""
        found = self.get(path, **query)
        return list(found.get("items", [])) if found else []

    def text(self, path: str, *, insist: bool = True, **query: str) -> str:
        """Return a path's answer as plain text; without `insist` whatever the first answer is."""
        return self._exchange("GET", path, b"", "", query, insist=insist)[1].decode(errors="replace")

    def apply(self, thing: Object, *, dry_run: bool = False) -> Object:
        """Make an object what it should be (server-side apply). What others set on it stays."""
        query = {"fieldManager": OWNER, "force": "true", "fieldValidation": "Strict"} | (
            {"dryRun": "All"} if dry_run else {}
        )
        body = plain(thing)
        return self.request("PATCH", self.path(thing), body, content="application/apply-patch+yaml", query=query)

    def delete(self, thing: Mapping[str, Any], *, wait: float = 60.0) -> None:
        """Remove an object and wait up to `wait` seconds until it is gone. Not there, or no such kind: done already."""
        try:
            path = self.path(thing)
            self.request("DELETE", path, {"propagationPolicy": "Background"})
        except NoSuchKind:
            return
        except ApiError as error:
            if error.status == 404:
                return
            raise
        until = time.monotonic() + wait
        while self.get(path) is not None and time.monotonic() < until:
            time.sleep(self.pause / 2)

    def path(self, thing: Mapping[str, Any]) -> str:
        """Return where an object is. Raises NoSuchKind."""
        about = thing.get("metadata") or {}
        plural, namespaced = self.kind(str(thing["apiVersion"]), str(thing["kind"]))
        place = f"/namespaces/{quote(about.get('namespace') or 'default')}" if namespaced else ""
        return f"{_root(str(thing['apiVersion']))}{place}/{plural}/{quote(str(about['name']))}"

    def kind(self, version: str, kind: str) -> tuple[str, bool]:
        """Return a kind's name in paths, and whether it lives in namespaces. Raises NoSuchKind."""
        if kind not in self.kinds.get(version, {}):
            found = self.get(_root(version)) or {}
            self.kinds[version] = {
                each["kind"]: (each["name"], bool(each["namespaced"]))
                for each in found.get("resources", [])
                if "/" not in each["name"]
            }
        if kind not in self.kinds[version]:
            raise NoSuchKind(f"this cluster has no {kind} ({version})", status=404, reason="NoSuchKind")
        return self.kinds[version][kind]

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        """Ask and return the answer. A server that is starting or busy is asked again. Raises ApiError, Unreachable."""
        data = json.dumps(body).encode() if body is not None else b""
        status, answer = self._exchange(method, path, data, content if body is not None else "", query or {})
        try:
            made: Object = json.loads(answer or b"{}")
        except ValueError:
            made = {"message": answer.decode(errors="replace")[:500]}
        if status >= 400:
            told = made.get("message") or f"HTTP {status}"
            raise ApiError(f"{method} {path}: {told}", status=status, reason=str(made.get("reason", "")))
        return made

    def _exchange(
        self, method: str, path: str, data: bytes, content: str, query: Mapping[str, str], *, insist: bool = True
    ) -> tuple[int, bytes]:
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": "application/json, */*", **({"Content-Type": content} if content else {})}
        tries = Retrying(
            stop=stop_after_delay(self.patience if insist else 0),
            wait=wait_fixed(self.pause),
            retry=retry_if_exception_type(BROKEN) | retry_if_result(_starting),
            retry_error_callback=self._given_up,
        )
        answer: tuple[int, bytes] = tries(self._once, method, target, data or None, headers)
        return answer

    def _once(self, method: str, target: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            connection = self._connected()
            connection.request(method, target, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except BROKEN:
            self.close()
            raise

    def _given_up(self, state: RetryCallState) -> tuple[int, bytes]:
        """Return the last answer, whatever it says. Raises Unreachable when there was none."""
        last = state.outcome
        error = last.exception() if last else None
        if last and error is None:
            answer: tuple[int, bytes] = last.result()
            return answer
        raise Unreachable(
            f"the Kubernetes API of {self.shell.connection} does not answer: {error or type(error).__name__}",
            hint="vre ssh, then: sudo crictl ps -a; sudo journalctl -u kubelet -n 50",
        ) from error

    def _connected(self) -> http.client.HTTPConnection:
        if self.connection is None:
            if self.tls is None:
                raise Unreachable("not connected")
            stream = tunnel.connect(self.shell, PORT)
            stream.settimeout(90)
            made = http.client.HTTPConnection("kubernetes", timeout=90)
            try:
                made.sock = self.tls.wrap_socket(stream, server_hostname="kubernetes")
            except BaseException:
                stream.close()
                raise
            self.connection = made
        return self.connection


def _starting(answer: tuple[int, bytes]) -> bool:
    """Say whether an answer is that of a server that is not quite there: to the administrator nothing is forbidden."""
    status, text = answer
    return status in BUSY or (status == 403 and b"forbidden: User" in text)


class NoSuchKind(ApiError):
    """The cluster does not know this kind of object."""


def plain(thing: Object) -> Object:
    """Return an object whose Secret values are in `data` alone: with `stringData`, removed keys would stay."""
    if "stringData" not in thing:
        return thing
    rest = {key: value for key, value in thing.items() if key != "stringData"}
    coded = {key: base64.b64encode(str(value).encode()).decode() for key, value in thing["stringData"].items()}
    return {**rest, "data": {**thing.get("data", {}), **coded}}


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _context(config: Mapping[str, Any]) -> ssl.SSLContext:
    """Return TLS settings from a kubeconfig. The key is in a file for an instant, as Python takes no other."""
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    made = ssl.create_default_context(cadata=authority)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    chain = b"\n".join(base64.b64decode(user[part]) for part in ("client-certificate-data", "client-key-data"))
    handle, name = tempfile.mkstemp(prefix="vre-")
    try:
        with os.fdopen(handle, "wb") as sink:
            sink.write(chain)
        made.load_cert_chain(name)
    finally:
        os.unlink(name)  # noqa: PTH108
    return made
