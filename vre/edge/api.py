"""Cloudflare's REST API, as far as its official Pulumi provider does not serve: one request at a time.

The token is read from the environment of whoever launches, and is in nothing that is returned, raised or kept.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from vre.errors import VreError

ADDRESS = "https://api.cloudflare.com/client/v4"
TOKEN = "CLOUDFLARE_API_TOKEN"  # noqa: S105 - a variable's name
BASE = "CLOUDFLARE_BASE_URL"
"""The variables that Cloudflare's own tools read."""
TIMEOUT = 30.0
ATTEMPTS = 4
PAUSE = 2.0
"""Seconds before another attempt, where the answer does not say how long."""
LONGEST_PAUSE = 60.0


class CloudflareError(VreError):
    """What Cloudflare refused, with its own words. `status` is HTTP's, 0 where there was no answer."""

    def __init__(self, message: str, *, hint: str = "", status: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.status = status


def address() -> str:
    """Return where the API is. Raises VreError for one that is neither https nor on this machine."""
    given = os.environ.get(BASE, "").rstrip("/") or ADDRESS
    parts = urlsplit(given)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise VreError(f"{BASE} is not https", hint=f"unset {BASE}")
    return given


def token() -> str:
    """Return the token. Raises VreError when there is none."""
    given = os.environ.get(TOKEN, "").strip()
    if not given:
        raise VreError(f"{TOKEN} is not set", hint="docs/clouds/cloudflare.md says which token is needed")
    return given


@dataclass(kw_only=True)
class Api:
    """A connection that carries the token; `pause` waits that many seconds.

    What is refused as too much is asked for again, and so is what got no answer, unless it might add a thing twice.
    """

    timeout: float = TIMEOUT
    pause: Callable[[float], None] = time.sleep
    _client: httpx.Client = field(init=False)

    def __enter__(self) -> Self:
        headers = {"Authorization": f"Bearer {token()}"}
        self._client = httpx.Client(base_url=address(), headers=headers, timeout=self.timeout)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, method: str, path: str, *, body: Any = None, query: dict[str, str] | None = None) -> Any:
        """Return the result of a request. Raises CloudflareError with what was refused."""
        adds = method == "POST"
        for left in reversed(range(ATTEMPTS)):
            try:
                answer = self._client.request(method, path, json=body, params=query)
            except httpx.HTTPError as error:
                if adds or not left:
                    raise CloudflareError(f"Cloudflare does not answer: {error or type(error).__name__}") from None
                self.pause(PAUSE)
                continue
            busy = answer.status_code == 429 or (answer.status_code >= 500 and not adds)
            if not left or not busy:
                return _result(method, path, answer)
            self.pause(_wait(answer))
        raise AssertionError("the last attempt returns or raises")


def _wait(answer: httpx.Response) -> float:
    told = answer.headers.get("Retry-After", "")
    return min(float(told), LONGEST_PAUSE) if told.isdigit() else PAUSE


def _result(method: str, path: str, answer: httpx.Response) -> Any:
    try:
        told = answer.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise CloudflareError(f"Cloudflare: {method} {path}: status {answer.status_code}", status=answer.status_code)
    if answer.is_success and told.get("success"):
        return told.get("result")
    reasons = "; ".join(f"{each.get('message')} ({each.get('code')})" for each in told.get("errors") or [])
    hint = f"{TOKEN}: docs/clouds/cloudflare.md lists its permissions" if answer.status_code in {401, 403} else ""
    raise CloudflareError(
        f"Cloudflare: {method} {path}: {reasons or f'status {answer.status_code}'}",
        hint=hint,
        status=answer.status_code,
    )
