"""`vre:service:Door`: an https address that answers, its certificate verified: the proof that a launch is usable."""

import socket
import ssl
import time
from datetime import UTC, datetime
from typing import Any, ClassVar

import httpx

from vre.errors import Finding, VreError
from vre.provider.handler import UNKNOWN, Context, Found, Handler, Props

TIMEOUT = 600
EVERY = 2.0


class Door(Handler):
    """A request that must be answered as expected. Asked again whenever anything about it changes."""

    token = "vre:service:Door"  # noqa: S105 - a type
    ignore: ClassVar[frozenset[str]] = frozenset({"timeout"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse what is not https."""
        url = inputs.get("url")
        if isinstance(url, str) and not url.startswith("https://"):
            return [Finding(key="url", reason=f"not https: {url}", example="https://192.168.77.10")]
        return []

    def normalise(self, inputs: Props) -> Props:
        """Ask for `/`, expect 200, wait ten minutes when not told."""
        defaults = {"path": "/", "expect": {"status": 200}, "timeout": TIMEOUT, "address": ""}
        return {**defaults, **{key: value for key, value in inputs.items() if value is not None}}

    def preview(self, inputs: Props, state: Props) -> Props:
        """Say that the answer is to come."""
        return {**state, **inputs, "answered": UNKNOWN}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Wait for the answer."""
        return f"{inputs['url']}{inputs['path']}", self._wait(context, inputs)

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Ask again."""
        return self._wait(context, inputs)

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Ask once; a door that does not answer is gone, and the next `up` waits for it anew."""
        fault = ask(state, timeout=20)
        if fault:
            context.report(fault)
            return None
        inputs = {key: value for key, value in state.items() if key != "answered"}
        return Found(inputs=inputs, outputs=dict(state))

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Nothing was made."""

    def _wait(self, context: Context, inputs: Props) -> Props:
        deadline = time.monotonic() + float(inputs["timeout"])
        while True:
            fault = ask(inputs, timeout=30)
            if not fault:
                return {**inputs, "answered": datetime.now(UTC).isoformat(timespec="seconds")}
            if time.monotonic() > deadline:
                raise VreError(
                    f"{inputs['url']}{inputs['path']}: {fault}",
                    hint="vre status shows what is up; vre logs what it said; then: pulumi up",
                )
            context.report(fault)
            context.pause(EVERY)


def ask(inputs: Props, *, timeout: float) -> str:
    """Ask once; return what is wrong with the answer, or nothing. The chain is always verified."""
    url, headers, extensions = _target(inputs)
    try:
        with httpx.Client(verify=_trust(inputs.get("authority")), timeout=timeout, trust_env=False) as client:
            answer = client.get(url, headers=headers, extensions=extensions)
    except httpx.HTTPError as error:
        return _unknown(url) if _is_unknown(error) else f"no answer: {error}"
    expected = inputs.get("expect") or {}
    status, text = int(expected.get("status") or 200), str(expected.get("text") or "")
    if answer.status_code != status:
        return f"answered {answer.status_code} instead of {status}"
    return "" if text in answer.text else f"the answer does not hold {text!r}"


def _is_unknown(error: BaseException | None) -> bool:
    """Say whether it is the name that was not found, whatever the libraries between have made of that."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return True
        error = error.__cause__ or error.__context__
    return False


def _unknown(url: httpx.URL) -> str:
    return f"{url.host} is not in DNS here yet (a resolver that was asked too early says so for up to half an hour)"


def _target(inputs: Props) -> tuple[httpx.URL, dict[str, str], dict[str, Any]]:
    """Return where to connect: to the address when one is given, asking for the name all the same."""
    url = httpx.URL(inputs["url"]).join(inputs["path"])
    if not inputs.get("address"):
        return url, {}, {}
    return url.copy_with(host=inputs["address"]), {"Host": url.netloc.decode()}, {"sni_hostname": url.host}


def _trust(authority: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=str(authority)) if authority else ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
