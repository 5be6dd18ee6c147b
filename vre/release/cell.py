"""A researcher's first minute without a browser: log in to Jupyter at the door, start a server, run a cell.

https://jupyterhub.readthedocs.io/en/stable/reference/rest-api.html,
https://jupyter-server.readthedocs.io/en/stable/developers/rest-api.html and
https://jupyter-client.readthedocs.io/en/stable/messaging.html
"""

import json
import re
import ssl
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Origin

from vre.errors import VreError
from vre.progress import Report

STEP = 3.0
TIMEOUT = 120.0
"""Seconds that one answer may take: an emulated machine is slow."""


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where Jupyter is, who comes, and the authority (PEM) that vouches for it; empty: the usual ones."""

    url: str
    user: str
    password: str
    authority: str = ""


def run_cell(door: Door, code: str, *, patience: float, report: Report) -> str:
    """Return what a cell prints, run through the door.

    Waits `patience` seconds for the server and for the cell, each. Raises VreError with what did not work.
    """
    trust = ssl.create_default_context(cadata=door.authority or None)
    url, user = door.url.rstrip("/"), door.user
    try:
        with httpx.Client(verify=trust, timeout=TIMEOUT, follow_redirects=True, trust_env=False) as client:
            report("logging in")
            _log_in(client, url, user, door.password)
            report("the user's server starts")
            home = f"{url}/user/{user}"
            _start(client, url, home, user, time.monotonic() + patience)
            report("a cell runs")
            headers = {"X-XSRFToken": _token(client, f"/user/{user}/")}
            kernel = client.post(f"{home}/api/kernels", headers=headers, json={}).raise_for_status().json()["id"]
            return _executed(client, f"{home}/api/kernels/{kernel}/channels", code, trust, patience)
    except (httpx.HTTPError, OSError, WebSocketException) as error:
        raise VreError(f"Jupyter at {url}: {error or type(error).__name__}") from error


def _log_in(client: httpx.Client, url: str, user: str, password: str) -> None:
    page = client.get(f"{url}/hub/login").raise_for_status()
    form = {"username": user, "password": password, "_xsrf": _field(page.text)}
    answer = client.post(f"{url}/hub/login", data=form)
    if answer.url.path.endswith("/login"):
        raise VreError(f"Jupyter at {url} does not let {user} in")


def _field(page: str) -> str:
    """Return the value that a form of the hub has to send back."""
    found = re.search(r'name="_xsrf"\s+value="([^"]*)"', page)
    return found.group(1) if found else ""


def _start(client: httpx.Client, url: str, home: str, user: str, deadline: float) -> None:
    """Ask for the user's server until it answers: asking is what starts it."""
    page = client.get(f"{url}/hub/spawn/{user}")
    if "<form" in page.text and page.url.path.endswith(f"/spawn/{user}"):
        client.post(str(page.url), data={"_xsrf": _field(page.text)})
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError, ValueError, KeyError):
            answer = client.get(f"{home}/api/status", follow_redirects=False)
            if answer.is_redirect and "/oauth2/authorize" in answer.headers["location"]:
                client.get(f"{home}/lab")  # the server knows the user only after a visit that leads over the hub
            elif answer.status_code == httpx.codes.OK and "kernels" in answer.json():
                client.get(f"{home}/lab")
                return
            elif answer.status_code == httpx.codes.FORBIDDEN:
                client.get(f"{home}/lab")
        time.sleep(STEP)
    raise VreError(f"the server of {user} did not start", hint="vre logs tells more")


def _token(client: httpx.Client, path: str) -> str:
    """Return the token against forged requests that belongs to a path."""
    fits = [each for each in client.cookies.jar if each.name == "_xsrf" and each.path.endswith(path)]
    return str(fits[-1].value) if fits else ""


def _executed(client: httpx.Client, url: str, code: str, trust: ssl.SSLContext, patience: float) -> str:
    """Send a cell to a kernel and return what it prints, once the kernel says that it is done."""
    session, asked = uuid.uuid4().hex, uuid.uuid4().hex
    request = httpx.Request("GET", url)
    client.cookies.set_cookie_header(request)
    place = f"wss{url.removeprefix('https')}?session_id={session}"
    with connect(
        place, ssl=trust, additional_headers={"Cookie": request.headers["cookie"]}, open_timeout=TIMEOUT,
        origin=Origin(f"https://{urlsplit(url).netloc}"), proxy=None, max_size=2**20,
    ) as line:  # fmt: skip
        line.send(json.dumps(_request(code, session, asked)))
        printed, deadline = "", time.monotonic() + patience
        while time.monotonic() < deadline:
            told = json.loads(line.recv(timeout=max(deadline - time.monotonic(), 0.1)))
            if told["parent_header"].get("msg_id") != asked:
                continue
            content = told["content"]
            if told["msg_type"] == "stream":
                printed += content["text"]
            elif told["msg_type"] == "error":
                raise VreError(f"the cell failed: {content['ename']}: {content['evalue']}")
            elif told["msg_type"] == "status" and content["execution_state"] == "idle":
                return printed
    raise VreError("the cell did not end")


def _request(code: str, session: str, asked: str) -> dict[str, Any]:
    header = {"msg_id": asked, "msg_type": "execute_request", "username": "", "session": session, "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
    return {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }
