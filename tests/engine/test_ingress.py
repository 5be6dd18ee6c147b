"""The real ingress on loopback, told what it is told in a cluster: who is served, and who is not."""

import contextlib
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.engine.simulated.cloudflare import sign
from vre.artifacts import golang
from vre.cluster import objects
from vre.provider import crypto
from vre.provider.handler import Context, Props

HOST = "jupyter-phenome.example.org"
NAMES = ["phenome.example.org", HOST]


class Page(BaseHTTPRequestHandler):
    """What stands behind the ingress."""

    served: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Answer."""
        Page.served.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class Ingress:
    """A running ingress: its ports, and who may show what."""

    http: int
    https: int
    folder: Path
    authority: Props

    def ask(
        self,
        certificate: Props | None = None,
        *,
        host: str = HOST,
        visitor: str = "192.0.2.1",
        source: str = "127.0.0.1",
        more: Mapping[str, str] | None = None,
    ) -> int:
        """Return the status of an answer. Raises httpx.TransportError where there is none."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # who is served is the question here, not by whom
        if certificate:
            both = self.folder / "client.pem"
            both.write_text(certificate["certificate"] + certificate["privateKey"])
            context.load_cert_chain(both)
        headers = {"Host": host, "CF-Connecting-IP": visitor, **(more or {})}
        way = httpx.HTTPTransport(verify=context, trust_env=False, local_address=source)
        with httpx.Client(transport=way, trust_env=False, timeout=20) as client:
            url = f"https://127.0.0.1:{self.https}/tree"
            return client.get(url, headers=headers, extensions={"sni_hostname": host}).status_code


def made(handler: Any, **inputs: Any) -> Props:
    whole = handler.normalise(inputs)
    outputs: Props = handler.create(Context(), whole)[1]
    return outputs


def client(authority: Props, **more: Any) -> Props:
    return made(
        crypto.Certificate(), authorityCertificate=authority["certificate"], authorityKey=authority["privateKey"],
        **{"names": NAMES, "usage": "client", **more},
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def settings(folder: Path, backend: int, clients: str | None) -> tuple[int, int]:
    """Write what a cluster's ingress would be given, with this machine's ports and folder; return http and https."""
    asked = made(crypto.Request(), names=NAMES)
    key: Any = load_pem_private_key(asked["privateKey"].encode(), password=None)
    chain = sign(key.public_key(), NAMES, datetime.now(UTC) + timedelta(days=1))
    shown = objects.Certificate(chain=chain, private_key=asked["privateKey"], clients=clients)
    route = objects.Route(path="/", namespace="jupyter", service="proxy", port=8000, host=HOST)
    things = objects.ingress({"traefik": "traefik"}, shown, [route])
    [texts] = [thing["data"] for thing in things if thing["kind"] == "ConfigMap"]
    [secret] = [thing["stringData"] for thing in things if thing["kind"] == "Secret"]
    static, routes = yaml.safe_load(texts["traefik.yaml"]), texts["routes.yaml"].replace(objects.ROUTES, str(folder))
    ports = {name: free_port() for name in static["entryPoints"]}
    for name, port in ports.items():
        static["entryPoints"][name]["address"] = f"127.0.0.1:{port}"
    static["providers"]["file"]["directory"] = str(folder)
    dynamic = yaml.safe_load(routes)
    dynamic["http"]["services"]["jupyter-proxy"]["loadBalancer"]["servers"] = [{"url": f"http://127.0.0.1:{backend}"}]
    dynamic["http"]["middlewares"]["rate"]["rateLimit"].update(average=1, period="1m", burst=8)
    for name, text in {**secret, "routes.yaml": yaml.safe_dump(dynamic)}.items():
        (folder / name).write_text(text)
    (folder.parent / "traefik.yaml").write_text(yaml.safe_dump(static))
    return ports["web"], ports["websecure"]


def ingress(tmp_path: Path, *, demanding: bool) -> Iterator[Ingress]:
    program = golang.current()["traefik"] / "traefik"
    if not program.exists():
        pytest.fail("the ingress is not built; run: make setup", pytrace=False)
    authority = made(crypto.Authority(), commonName="VRE phenome edge")
    (tmp_path / "routes").mkdir()
    backend = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=backend.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    Page.served.clear()
    clients = authority["certificate"] if demanding else None
    http, https = settings(tmp_path / "routes", backend.server_port, clients)
    process = subprocess.Popen([program, f"--configfile={tmp_path / 'traefik.yaml'}"], cwd=tmp_path, env={})
    try:
        await_certificate(https, process)
        yield Ingress(http=http, https=https, folder=tmp_path, authority=authority)
    finally:
        process.terminate()
        process.wait(20)
        backend.shutdown()
        backend.server_close()


def await_certificate(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until it has read what it is told: before that it shows a certificate of its own, or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for _ in range(600):
        assert process.poll() is None, "it ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            with context.wrap_socket(plain, server_hostname=HOST) as wrapped:
                shown = wrapped.getpeercert(binary_form=True)
            if shown and HOST.encode() in shown:
                return
        time.sleep(0.1)
    raise AssertionError("it does not show its certificate")


@pytest.fixture
def demanding(tmp_path: Path) -> Iterator[Ingress]:
    yield from ingress(tmp_path, demanding=True)


@pytest.fixture
def direct(tmp_path: Path) -> Iterator[Ingress]:
    yield from ingress(tmp_path, demanding=False)


def refused(door: Ingress, certificate: Props | None, **more: Any) -> None:
    with pytest.raises(httpx.TransportError):
        door.ask(certificate, **more)


@pytest.mark.requirement("P-20", "P-100")
def test_only_who_shows_the_right_certificate_is_served(demanding: Ingress) -> None:
    authority = demanding.authority
    other = made(crypto.Authority(), commonName="VRE phenome edge")
    refused(demanding, None)
    refused(demanding, None, host="something.example.com")
    refused(demanding, client(other))
    refused(demanding, client(authority, usage="server"))
    assert Page.served == []
    assert demanding.ask(client(authority)) == 200
    assert Page.served == ["/tree"]


@pytest.mark.requirement("P-15")
def test_in_the_clear_there_is_only_the_way_to_https(demanding: Ingress) -> None:
    answer = httpx.get(f"http://127.0.0.1:{demanding.http}/tree", headers={"Host": HOST}, trust_env=False)
    assert answer.is_redirect
    assert answer.headers["location"].startswith(f"https://{HOST}")
    assert Page.served == []


@pytest.mark.requirement("P-78")
def test_one_visitor_behind_the_proxy_does_not_use_up_what_others_may(demanding: Ingress) -> None:
    certificate = client(demanding.authority)
    answers = [demanding.ask(certificate, visitor="192.0.2.1") for _ in range(12)]
    assert answers[0] == 200
    assert answers[-1] == 429
    assert demanding.ask(certificate, visitor="192.0.2.2") == 200


@pytest.mark.requirement("P-78")
def test_without_a_proxy_nobody_escapes_the_limit_by_a_header(direct: Ingress) -> None:
    answers = [direct.ask(visitor=f"192.0.2.{number}") for number in range(12)]
    assert answers[0] == 200
    assert answers[-1] == 429


@pytest.mark.requirement("P-77", "P-78")
def test_who_floods_the_door_is_refused_and_others_are_served_meanwhile(direct: Ingress) -> None:
    """From one address as many requests at once as come through; from another, in the midst of them, a single one."""
    with ThreadPoolExecutor(8) as pool:
        flood = [pool.submit(direct.ask, source="127.0.0.2") for _ in range(80)]
        other = [direct.ask(source="127.0.0.3") for _ in range(3)]
        answers = [each.result() for each in flood]
    assert other == [200, 200, 200]
    assert set(answers) == {200, 429}
    # At most what may come at once, and what a minute more allows.
    assert answers.count(200) < 20
    assert len(Page.served) == answers.count(200) + len(other), "what is refused reaches no service"


@pytest.mark.requirement("P-77", "P-69")
def test_headers_without_end_reach_no_service(direct: Ingress) -> None:
    """Ten, none of which is too long by itself: what stands behind would take them."""
    assert direct.ask(more={f"X-Long-{number}": "x" * 10_000 for number in range(10)}) == 431
    assert Page.served == []
    assert direct.ask(more={"X-Long": "x" * 10_000}) == 200


def test_what_the_ingress_demands_is_in_its_settings_alone_where_somebody_stands_in_front() -> None:
    plain = objects.ingress({"traefik": "t"}, objects.Certificate(chain="c", private_key="k"), [])
    assert "clientAuth" not in json.dumps(plain)
