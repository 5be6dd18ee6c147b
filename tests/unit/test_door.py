"""The door: an answer counts only when its certificate is the stack's own."""

import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from vre.errors import VreError
from vre.provider.door import Door, ask
from vre.provider.handler import Context


class Page(BaseHTTPRequestHandler):
    seen: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        Page.seen.append((self.headers["Host"], self.path))
        self.send_response(200 if self.path == "/jupyter/" else 503)
        self.end_headers()
        self.wfile.write(b"Sign In")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def certificate(folder: Path) -> tuple[str, Path]:
    """Make an authority that is its own server certificate, for one name and the loopback address."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vre.example.org")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("vre.example.org"), x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = made.public_bytes(Encoding.PEM)
    both = folder / "both.pem"
    both.write_bytes(text + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return text.decode(), both


@pytest.fixture
def door(tmp_path: Path) -> Iterator[dict[str, Any]]:
    authority, both = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Page.seen.clear()
    given = {"url": f"https://127.0.0.1:{server.server_port}", "path": "/jupyter/", "authority": authority}
    yield Door().normalise(given)
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.mark.requirement("P-06")
def test_a_door_that_answers_is_open(door: dict[str, Any]) -> None:
    name, outputs = Door().create(Context(), door)
    assert name == f"{door['url']}/jupyter/"
    assert datetime.fromisoformat(outputs["answered"])
    assert Door().read(Context(), name, outputs) is not None


def test_the_text_and_the_status_count(door: dict[str, Any]) -> None:
    assert ask({**door, "expect": {"status": 200, "text": "Sign In"}}, timeout=5) == ""
    assert "does not hold 'Welcome'" in ask({**door, "expect": {"status": 200, "text": "Welcome"}}, timeout=5)
    assert "answered 503 instead of 200" in ask({**door, "path": "/other"}, timeout=5)


@pytest.mark.requirement("P-14")
def test_another_authority_s_certificate_is_no_answer(door: dict[str, Any], tmp_path: Path) -> None:
    other, _ = certificate(tmp_path)
    assert "no answer" in ask({**door, "authority": other}, timeout=5)
    assert "no answer" in ask({**door, "authority": ""}, timeout=5)
    assert Page.seen == []


def test_a_name_is_asked_for_at_an_address(door: dict[str, Any]) -> None:
    port = door["url"].rsplit(":", 1)[1]
    given = {**door, "url": f"https://vre.example.org:{port}", "address": "127.0.0.1"}
    assert ask(given, timeout=5) == ""
    assert Page.seen == [(f"vre.example.org:{port}", "/jupyter/")]
    assert "no answer" in ask({**given, "url": f"https://else.example.org:{port}"}, timeout=5)


def test_a_closed_door_is_told_with_what_to_do(door: dict[str, Any]) -> None:
    told: list[str] = []
    with pytest.raises(VreError, match="answered 503") as caught:
        Door().create(Context(report=told.append), {**door, "path": "/other", "timeout": 0})
    assert "vre status" in caught.value.hint
    assert Door().read(Context(report=told.append), "x", {**door, "path": "/other"}) is None
    assert told == ["answered 503 instead of 200"]


def test_plain_http_is_refused() -> None:
    [finding] = Door().check({"url": "http://192.0.2.1"})
    assert finding.key == "url"
    assert Door().check({"url": "https://192.0.2.1"}) == []


def test_a_name_that_is_not_in_dns_yet_is_waited_for(door: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    port = door["url"].rsplit(":", 1)[1]
    real, asked = socket.getaddrinfo, []

    def resolve(host: Any, *words: Any, **more: Any) -> Any:
        if host not in {"vre.example.org", b"vre.example.org"}:
            return real(host, *words, **more)
        asked.append(host)
        if len(asked) < 3:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real("127.0.0.1", *words, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr("vre.provider.door.EVERY", 0.0)
    told: list[str] = []
    given = {**door, "url": f"https://vre.example.org:{port}", "address": ""}
    Door().create(Context(report=told.append), given)
    assert len(asked) == 3
    assert Page.seen == [(f"vre.example.org:{port}", "/jupyter/")]
    assert {line.split(" (")[0] for line in told} == {"vre.example.org is not in DNS here yet"}
