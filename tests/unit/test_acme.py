"""ACME without an authority: the stack file's words, waiting for name servers, dynamic updates, what is said before."""

import base64
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dns.exception
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update
import pytest

from vre.accounts import acme as account
from vre.accounts import modules
from vre.accounts.acme import Facts, judge
from vre.acme import dynamic, records
from vre.cli import edge, outputs, parts, preparation
from vre.cli.checks import State
from vre.config import Config
from vre.conflicts import conflicts
from vre.errors import VreError
from vre.fields import server
from vre.provider.acme import AcmeCertificate
from vre.provider.handler import Context

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL alice"
TERMS = {"accepted-by": "Alice Example", "on": "2026-11-21"}
SECRET = base64.b64encode(b"a key of the tests, worth nothing").decode()
HOST = "_acme-challenge.phenome.example.org"


def config(domain: str | None = "example.org", **acme: Any) -> Config:
    return Config.model_validate(
        {
            "name": "phenome",
            "cloud": {"provider": "libvirt"},
            "access": {"keys": [KEY]},
            "edge": {"provider": "direct", "domain": domain, "acme": {"terms": TERMS, **acme}},
            "services": {"jupyter": {}},
        }
    )


def test_nothing_is_ordered_without_a_domain_or_without_terms() -> None:
    assert conflicts(config()) == []
    [finding] = conflicts(config(domain=None))
    assert finding.key == "edge.domain"
    with pytest.raises(ValueError, match="terms"):
        config(terms=None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("directory", "http://acme.example.org/directory"),
        ("contact", "operators"),
        ("contact", "a@example.org,b@example.org"),
        ("server", "ns.example.org/zone"),
        ("server", "192.0.2.53:"),
        ("server", "192.0.2.53:99999"),
        ("server", ""),
    ],
)
def test_words_that_cannot_be_are_refused(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=key):
        config(**{key: value})


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("ns.example.org:5353", ("ns.example.org", 5353)),
        ("[2001:db8::53]:54", ("2001:db8::53", 54)),
    ],
)
def test_a_name_server_is_an_address_or_a_name(text: str, reached: tuple[str, int]) -> None:
    assert server(text) == reached
    assert config(server=text).edge.acme.server == text  # type: ignore[union-attr]


def test_the_authority_is_looked_at_before_a_launch_where_one_is_asked() -> None:
    assert modules(config()) == (account.__name__,)


@pytest.mark.parametrize(
    ("facts", "key", "said"),
    [
        (Facts(fault="no answer"), "edge.acme.directory", "no answer"),
        (Facts(external=True), "edge.acme.directory", "made elsewhere"),
        (Facts(zone_fault="lacks DNS: Edit"), "edge.domain", "lacks DNS: Edit"),
        (
            Facts(identities=("a.example",), allowed={"phenome.example.org": (("issue", "other.example"),)}),
            "edge.domain",
            "only others issue",
        ),
        (Facts(identities=("a.example",), allowed={"x": (("issue", ";"),)}), "edge.domain", "only others issue"),
        (
            Facts(identities=("a.example",), allowed={"x": (("issue", "a.example; validationmethods=http-01"),)}),
            "edge.domain",
            "only others issue",
        ),
    ],
)
def test_each_thing_in_the_way_is_said_with_its_key(facts: Facts, key: str, said: str) -> None:
    [finding] = judge(config(), facts)
    assert finding.key == f"vre:{key}"
    assert said in finding.reason
    assert finding.example


@pytest.mark.parametrize(
    "allowed",
    [
        (),
        (("issue", "a.example"),),
        (("issue", "other.example"), ("issue", "a.example; validationmethods=dns-01,http-01")),
        (("iodef", "mailto:x@example.org"),),
    ],
)
def test_what_lets_the_authority_issue_is_no_fault(allowed: account.Allowed) -> None:
    assert judge(config(), Facts(identities=("a.example",), allowed={"x": allowed})) == []


@pytest.mark.parametrize(("until", "state"), [("2026-12-31", State.GOOD), ("2026-12-01", State.WARNING)])
def test_the_daily_look_warns_when_up_should_have_renewed(until: str, state: State) -> None:
    found = edge.public(f"{until}T00:00:00+00:00", date(2026, 11, 21), hint="vre up")
    assert found.state == state
    assert "days" in found.found


def test_a_certificate_that_ended_is_bad() -> None:
    assert edge.public("2026-11-21", date(2026, 11, 21), hint="vre up").state == State.BAD


@dataclass(kw_only=True)
class Zone:
    """A name server with one zone, which takes signed updates and shows what it has `late` questions after."""

    port: int = 0
    late: int = 0
    texts: dict[str, list[str]] = field(default_factory=dict)
    asked: int = 0

    def answer(self, wire: bytes) -> bytes:
        """Answer a question, or take an update."""
        keyring = {dns.name.from_text("vre."): dns.tsig.Key("vre.", SECRET, "hmac-sha256.")}
        try:
            message = dns.message.from_wire(wire, keyring=keyring)
        except dns.exception.DNSException:
            refused = dns.message.make_response(dns.message.from_wire(wire, keyring=False))
            refused.set_rcode(dns.rcode.NOTAUTH)
            return refused.to_wire()
        answer = dns.message.make_response(message)
        if isinstance(message, dns.update.UpdateMessage):
            answer.set_rcode(self._change(message))
        else:
            self._show(message, answer)
        return answer.to_wire()

    def _change(self, message: dns.update.UpdateMessage) -> dns.rcode.Rcode:
        if not message.had_tsig or str(message.zone[0].name) != "example.org.":
            return dns.rcode.REFUSED
        for each in message.update:
            name = str(each.name).rstrip(".")
            if len(each) == 0:
                self.texts.pop(name, None)
            else:
                self.texts.setdefault(name, []).extend(record.strings[0].decode() for record in each)
        return dns.rcode.NOERROR

    def _show(self, message: dns.message.Message, answer: dns.message.Message) -> None:
        [question] = message.question
        if question.rdtype == dns.rdatatype.SOA:
            start = "ns.example.org. a.example.org. 1 2 3 4 5"
            answer.authority.append(dns.rrset.from_text("example.org.", 60, "IN", "SOA", start))
            return
        self.asked += 1
        if self.asked > self.late:
            for text in self.texts.get(str(question.name).rstrip("."), []):
                answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", "TXT", f'"{text}"'))


@contextmanager
def answering(zone: Zone) -> Iterator[Zone]:
    """Answer on loopback, over UDP and TCP at the same port."""

    class Packet(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request[1].sendto(zone.answer(self.request[0]), self.client_address)

    class Stream(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            wire = zone.answer(self.rfile.read(int.from_bytes(self.rfile.read(2), "big")))
            self.wfile.write(len(wire).to_bytes(2, "big") + wire)

    with (
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), Stream) as tcp,
        socketserver.ThreadingUDPServer(tcp.server_address[:2], Packet) as udp,
    ):
        zone.port = tcp.server_address[1]
        for each in (tcp, udp):
            threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield zone
        finally:
            tcp.shutdown()
            udp.shutdown()


def writer(zone: Zone, key: str = f"vre:{SECRET}") -> dynamic.Dynamic:
    return dynamic.Dynamic(f"127.0.0.1:{zone.port}", {dynamic.KEY: key})


def test_a_signed_update_adds_and_removes_a_text() -> None:
    with answering(Zone()) as zone:
        one = writer(zone)
        one.check(HOST)
        one.put(HOST, "proof")
        assert zone.texts == {HOST: ["proof"]}
        assert records.texts(HOST, ("127.0.0.1", zone.port)) == ("proof",)
        one.clear(HOST)
        one.clear(HOST)
        assert zone.texts == {}


def test_another_key_and_another_zone_are_refused_without_showing_the_key() -> None:
    other = base64.b64encode(b"another key of the tests, as long").decode()
    with answering(Zone()) as zone:
        for key in (f"other:{other}", f"vre:{other}"):
            with pytest.raises(VreError) as caught:
                writer(zone, key).check(HOST)
            assert other not in str(caught.value)
        assert zone.texts == {}


@pytest.mark.parametrize("text", ["", "alone", "md9:vre:AAAA", "vre:%%%", "a:b:c:d"])
def test_what_is_no_key_is_said_without_showing_it(text: str) -> None:
    with pytest.raises(VreError, match="VRE_DNS_KEY") as caught:
        dynamic.key(text)
    assert not text or text not in str(caught.value)


def test_the_authority_looks_only_when_the_name_server_shows_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "EVERY", 0.01)
    with answering(Zone(late=3)) as zone:
        with records.shown(writer(zone), {HOST: "proof"}, Context()):
            assert zone.asked == 4
            assert zone.texts == {HOST: ["proof"]}
        assert zone.texts == {}


@pytest.mark.parametrize("error", [VreError("no"), KeyboardInterrupt(), RuntimeError()])
def test_a_text_goes_whatever_happens(error: BaseException) -> None:
    with answering(Zone()) as zone:
        with pytest.raises(type(error)), records.shown(writer(zone), {HOST: "proof"}, Context()):
            raise error
        assert zone.texts == {}


def test_a_name_server_that_is_slow_for_too_long_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "EVERY", 0.01)
    monkeypatch.setattr(records, "SHOWN_SECONDS", 0.1)
    with answering(Zone(late=1_000_000)) as zone:
        with pytest.raises(VreError, match="does not show"), records.shown(writer(zone), {HOST: "proof"}, Context()):
            raise AssertionError("never shown")
        assert zone.texts == {}


def test_name_servers_that_do_not_answer_here_do_not_stop_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        deaf = ("127.0.0.1", silent.getsockname()[1])
        monkeypatch.setattr(records, "EVERY", 0.01)
        monkeypatch.setattr(records, "PATIENCE", 0.05)
        monkeypatch.setattr(records, "BLIND_SECONDS", 0.1)
        with answering(Zone()) as zone:
            one = writer(zone)
            monkeypatch.setattr(one, "servers", lambda host: [deaf])
            with records.shown(one, {HOST: "proof"}, Context()):
                assert zone.texts == {HOST: ["proof"]}


def test_packages_that_are_not_installed_are_named_with_what_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "josepy", None)
    monkeypatch.delitem(sys.modules, "vre.acme.order", raising=False)
    with pytest.raises(VreError, match="packages for acme are not installed") as caught:
        AcmeCertificate().create(Context(), {"directory": "https://acme.example.org/directory"})
    assert "vre setup acme-packages" in caught.value.hint


@pytest.mark.parametrize("public", [True, False])
def test_a_launch_installs_them_where_a_public_authority_is_asked_and_nowhere_else(
    public: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config() if public else Config.model_validate({"cloud": {"provider": "libvirt"}, "access": {"keys": [KEY]}})
    monkeypatch.setattr(outputs, "config", lambda stack: asked)
    usual = tuple(part.name for part in parts.PARTS if part.usual)
    assert preparation.wanted("local") == ((*usual, "acme-packages") if public else ())
