"""`vre status` and `vre audit`: what is well, what is not, and that a look sees what it should."""

import datetime
import ipaddress
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL

from vre.cli import audit, patched, status, tls
from vre.cli.checks import Check, State
from vre.cli.outputs import Node
from vre.config import Config
from vre.errors import VreError
from vre.setup import secrets

NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=UTC)


def states(found: Iterator[Check]) -> dict[str, State]:
    return {check.name: check.state for check in found}


def node(name: str, *, ready: str = "True") -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready, "message": "network plugin is not ready"}]
    version = {"kubeletVersion": "v1.36.3"}
    return {"kind": "Node", "metadata": {"name": name}, "status": {"conditions": conditions, "nodeInfo": version}}


def pod(name: str, *, ready: str = "True", phase: str = "Running", **state: Any) -> dict[str, Any]:
    body = {"phase": phase, "conditions": [{"type": "Ready", "status": ready}], "containerStatuses": [{"state": state}]}
    return {"kind": "Pod", "metadata": {"namespace": "jupyter", "name": name}, "status": body}


@pytest.mark.requirement("H-08")
def test_each_machine_is_a_ready_node_and_none_is_a_stranger() -> None:
    assert states(status.nodes([node("a")], {"a"})) == {"a": State.GOOD}
    found = list(status.nodes([node("a", ready="False"), node("stranger")], {"a", "b"}))
    assert {check.name: check.found for check in found} == {
        "b": "is no node of the cluster",
        "stranger": "a node that the stack does not know",
        "a": "not ready: network plugin is not ready",
    }
    assert {check.state for check in found} == {State.BAD}


def test_pods_that_wait_say_why() -> None:
    assert states(status.pods([pod("hub"), pod("job", phase="Succeeded", ready="False"), node("a")])) == {
        "pods": State.GOOD
    }
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    [check] = status.pods([pod("hub", ready="False", waiting=waiting)])
    assert (check.state, check.found) == (State.BAD, "CrashLoopBackOff: back-off 10s")
    [pending] = status.pods([pod("hub", ready="False", phase="Pending")])
    assert pending.found == "not ready (Pending)"


def test_failed_units_are_named() -> None:
    assert list(status.units("a", [])) == []
    [check] = status.units("a", [{"unit": "kubelet.service"}])
    assert (check.state, check.found) == (State.BAD, "failed: kubelet.service")


@pytest.mark.parametrize(("days", "state"), [(400, State.GOOD), (13, State.WARNING), (-1, State.BAD)])
def test_when_certificates_end(days: int, state: State) -> None:
    assert status.expires("certificates", "door", NOW + timedelta(days=days), NOW, hint="x").state == state


def test_the_first_of_the_clusters_certificates_decides() -> None:
    dates = ("2027-11-21T12:00:00Z", "2026-11-22T12:00:00Z", None)
    told = {"certificates": [{"expirationDate": date} for date in dates]}
    [check] = status.cluster_certificates(told, NOW)
    assert (check.state, check.found) == (State.WARNING, "until 2026-11-22 (1 days)")


@pytest.mark.parametrize(("seconds", "told"), [(5, "5 s"), (150, "2 min"), (7200, "2 h"), (200000, "2 d")])
def test_ages_are_told_in_their_largest_unit(seconds: float, told: str) -> None:
    assert patched.age(seconds) == told


def space(name: str, **labels: str) -> dict[str, Any]:
    return {"kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def deny(namespace: str, **spec: Any) -> dict[str, Any]:
    usual = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return {"kind": "NetworkPolicy", "metadata": {"namespace": namespace}, "spec": {**usual, **spec}}


@pytest.mark.parametrize(
    ("policy", "state"),
    [
        (deny("a"), State.GOOD),
        (deny("b"), State.BAD),
        (deny("a", podSelector={"matchLabels": {"x": "y"}}), State.BAD),
        (deny("a", policyTypes=["Ingress"]), State.BAD),
        (deny("a", egress=[{}]), State.BAD),
        (deny("a", ingress=[{}]), State.BAD),
    ],
)
def test_a_namespace_without_default_deny_is_bad(policy: dict[str, Any], state: State) -> None:
    assert audit.default_deny([space("a"), policy]).state == state


@pytest.mark.parametrize(
    ("admitted", "state"),
    [(set(), State.GOOD), ({"network", "kube-system"}, State.GOOD), ({"jupyter"}, State.BAD), ({"plain"}, State.BAD)],
)
def test_privileged_pods_are_for_namespaces_that_say_so(admitted: set[str], state: State) -> None:
    label = "pod-security.kubernetes.io/enforce"
    levels = {"jupyter": "restricted", "network": "privileged"}
    spaces = [space(each, **{label: level}) for each, level in levels.items()] + [space("plain"), space("kube-system")]
    assert audit.pod_security(spaces, admitted).state == state


def test_an_open_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert audit.answers("127.0.0.1", port)
    assert not audit.answers("127.0.0.1", port)


def test_ports_for_nodes_only_are_bad_when_they_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Node(name="a", role="control", addresses=("192.0.2.1", "2001:db8::1"), host_keys=())
    monkeypatch.setattr(audit, "answers", lambda address, port: (address, port) == ("2001:db8::1", 6443))
    found = list(audit.ports(machine))
    assert [(check.state, check.found[:15]) for check in found] == [
        (State.GOOD, "closed from her"),
        (State.BAD, "answers on 6443"),
    ]


@pytest.mark.requirement("P-83")
@pytest.mark.parametrize(
    ("today", "state", "said"),
    [
        ("2028-01-01", State.GOOD, "2026/117 of Committee, until 2028-12-31"),
        ("2028-11-30", State.WARNING, "ends soon"),
        ("2028-12-31", State.WARNING, "ends soon"),
        ("2029-01-01", State.BAD, "ended"),
    ],
)
def test_how_long_the_ethics_approval_is_valid(today: str, state: State, said: str) -> None:
    approval = {"body": "Committee", "reference": "2026/117", "until": "2028-12-31"}
    whole = {"name": "a", "cloud": {"provider": "libvirt"}, "access": {"keys": ["a.pub"]}}
    config = Config.model_validate({**whole, "data": {"class": "sensitive", "approval": approval}})
    [check] = audit.approval(config, datetime.date.fromisoformat(today))
    assert check.state == state
    assert said in check.found
    assert list(audit.approval(Config.model_validate(whole), datetime.date(2029, 1, 1))) == []


def test_secrets_that_others_can_read_are_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    (tmp_path / "passphrase").touch(mode=0o600)
    assert states(audit.secrets()) == {"secrets": State.GOOD}
    (tmp_path / "id_ed25519").touch(mode=0o600)
    (tmp_path / "id_ed25519").chmod(0o640)
    assert states(audit.secrets()) == {"secrets": State.BAD}


def certificate(signer: Any, names: list[Any], *, issuer: Any = None, days: int = 90) -> tuple[Any, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test" if issuer else "authority")])
    begin = datetime.datetime.now(UTC) - timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer or name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days + 1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer or key, hashes.SHA256()), key


@contextmanager
def door(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A TLS server on loopback; yields its address and the authority that signed its certificate."""
    authority, authority_key = certificate(None, [])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    leaf, key = certificate(authority_key, [address], issuer=authority.subject, days=30)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "door.pem").write_bytes(leaf.public_bytes(pem) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "door.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with serving(context) as port:
        yield f"https://127.0.0.1:{port}/", authority.public_bytes(pem).decode()


class Answer(BaseHTTPRequestHandler):
    """Answers what its server says."""

    def do_GET(self) -> None:
        code, location = getattr(self.server, "answer", (200, ""))
        self.send_response(code)
        if location:
            self.send_header("Location", location)
        self.end_headers()

    def log_message(self, *words: Any) -> None:
        return


class Quiet(HTTPServer):
    def handle_error(self, *words: Any) -> None:
        return


@contextmanager
def serving(context: ssl.SSLContext | None, answer: tuple[int, str] = (200, "")) -> Iterator[int]:
    server = Quiet(("127.0.0.1", 0), Answer)
    server.answer = answer  # type: ignore[attr-defined]
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_door_is_known_by_its_authority_only(tmp_path: Path) -> None:
    with door(tmp_path) as (url, authority):
        assert 28 <= (tls.shown(url, authority) - datetime.datetime.now(UTC)).days <= 30
        [check] = status.door("jupyter", url, authority)
        assert check.state == State.GOOD
        stranger, _ = certificate(None, [])
        pem = stranger.public_bytes(serialization.Encoding.PEM).decode()
        with pytest.raises(VreError, match="CERTIFICATE_VERIFY_FAILED"):
            tls.shown(url, pem)
        with pytest.raises(VreError, match="CERTIFICATE_VERIFY_FAILED"):
            list(status.door("jupyter", url, pem))


def test_old_tls_is_seen_where_it_is_spoken(tmp_path: Path) -> None:
    with door(tmp_path) as (url, _):
        assert tls.speaks(url, ssl.TLSVersion.TLSv1_2)
        assert not tls.speaks(url, ssl.TLSVersion.TLSv1_1)


def test_a_door_that_is_shut_says_so() -> None:
    with pytest.raises(VreError, match=r"no TLS at 127\.0\.0\.1:1"):
        tls.shown("https://127.0.0.1:1/", certificate(None, [])[0].public_bytes(serialization.Encoding.PEM).decode())


def test_an_authority_that_is_none_is_refused() -> None:
    with pytest.raises(VreError, match="is no certificate"):
        tls.not_after("hello")


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ((308, "https://vre/"), State.GOOD),
        ((302, "http://vre/"), State.BAD),
        ((200, ""), State.BAD),
        ((404, ""), State.BAD),
    ],
)
def test_an_answer_in_the_clear_is_bad(answer: tuple[int, str], state: State) -> None:
    with serving(None, answer) as port:
        assert audit.plain(f"https://127.0.0.1:{port}/").state == state


def test_a_service_that_fails_is_bad() -> None:
    with serving(None, (502, "")) as port:
        authority = certificate(None, [])[0].public_bytes(serialization.Encoding.PEM).decode()
        [check] = status.door("jupyter", f"http://127.0.0.1:{port}/", authority)
        assert check.state == State.BAD
        assert "answers 502" in check.found


class Logins(paramiko.ServerInterface):
    """An SSH server that offers these ways to log in, or lets everybody in."""

    def __init__(self, ways: str) -> None:
        self.ways = ways

    def get_allowed_auths(self, username: str) -> str:
        return self.ways

    def check_auth_none(self, username: str) -> int:
        return AUTH_FAILED if self.ways else AUTH_SUCCESSFUL


@contextmanager
def ssh_server(ways: str) -> Iterator[tuple[int, str]]:
    with tempfile.TemporaryDirectory() as folder:
        key = paramiko.Ed25519Key.from_private_key_file(str(secrets.ensure_key(Path(folder))))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            transport = paramiko.Transport(connection)
            transport.add_server_key(key)
            # Whoever knocks may be gone as soon as it has seen the key.
            with suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=Logins(ways))
                transport.join(10)
            transport.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], f"ssh-ed25519 {key.get_base64()}"
        thread.join(15)


@pytest.mark.parametrize(
    ("ways", "found"),
    [
        ("publickey", ["publickey"]),
        ("publickey,password", ["publickey", "password"]),
        ("", ["nothing at all: everybody is let in"]),
    ],
)
def test_ways_to_log_in_are_seen(monkeypatch: pytest.MonkeyPatch, ways: str, found: list[str]) -> None:
    with ssh_server(ways) as (port, key):
        reached(monkeypatch, port)
        assert audit.login_ways(Node(name="a", role="control", addresses=("127.0.0.1",), host_keys=(key,))) == found


def test_a_stranger_is_not_asked_for_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    with ssh_server("publickey") as (port, _):
        reached(monkeypatch, port)
        other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO7pYHNTKlbjhJcKVYz4oTCdoBH/V1KdbSFHwMcjSSo2"
        with pytest.raises(VreError, match="not pinned"):
            audit.login_ways(Node(name="a", role="control", addresses=("127.0.0.1",), host_keys=(other,)))


def reached(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Lead what knocks at a machine's port 22 to a port of this test."""
    connect = socket.create_connection
    monkeypatch.setattr(
        "vre.cli.audit.socket.create_connection", lambda place, **words: connect((place[0], port), **words)
    )
