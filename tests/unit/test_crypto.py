"""Certificates, keys and passwords, verified by the library that will use them."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given, settings
from hypothesis import strategies as st

from vre.errors import VreError
from vre.provider import crypto
from vre.provider.crypto import Authority, Certificate, HostKey, Password, Request
from vre.provider.handler import UNKNOWN, Context, Props

CONTEXT = Context()
NAMES = ["vre.example.org", "jupyter-vre.example.org"]
ADDRESSES = ["192.168.77.10", "fd00:77::10"]


def made(handler: Any, **inputs: Any) -> tuple[Props, Props]:
    assert handler.check(inputs) == []
    whole = handler.normalise(inputs)
    return whole, handler.create(CONTEXT, whole)[1]


@pytest.fixture(scope="module")
def authority() -> Props:
    return made(Authority(), commonName="vre test")[1]


def leaf(authority: Props, **more: Any) -> tuple[Props, Props]:
    given_inputs = {"names": NAMES, "addresses": ADDRESSES, **more}
    return made(
        Certificate(),
        authorityCertificate=authority["certificate"],
        authorityKey=authority["privateKey"],
        **given_inputs,
    )


def verified(authority: Props, certificate: str, subject: x509.GeneralName) -> None:
    chain = x509.load_pem_x509_certificates(certificate.encode())
    store = Store(x509.load_pem_x509_certificates(authority["certificate"].encode()))
    assert isinstance(subject, x509.DNSName | x509.IPAddress)
    PolicyBuilder().store(store).build_server_verifier(subject).verify(chain[0], chain[1:])


@pytest.mark.parametrize("name", NAMES)
def test_certificate_verifies_for_each_name(authority: Props, name: str) -> None:
    _, state = leaf(authority)
    verified(authority, state["certificate"], x509.DNSName(name))
    with pytest.raises(x509.verification.VerificationError):
        verified(authority, state["certificate"], x509.DNSName("other.example.org"))


@pytest.mark.parametrize("address", ADDRESSES)
def test_certificate_verifies_for_each_address(authority: Props, address: str) -> None:
    _, state = leaf(authority)
    verified(authority, state["certificate"], x509.IPAddress(ip_address(address)))
    with pytest.raises(x509.verification.VerificationError):
        verified(authority, state["certificate"], x509.IPAddress(ip_address("203.0.113.99")))


def test_another_authority_does_not_verify_it(authority: Props) -> None:
    _, state = leaf(authority)
    other = made(Authority(), commonName="vre test")[1]
    with pytest.raises(x509.verification.VerificationError):
        verified(other, state["certificate"], x509.DNSName(NAMES[0]))


def test_openssl_takes_certificate_and_key_together(authority: Props, tmp_path: Path) -> None:
    _, state = leaf(authority)
    (tmp_path / "c.pem").write_text(state["certificate"])
    (tmp_path / "k.pem").write_text(state["privateKey"])
    (tmp_path / "other.pem").write_text(leaf(authority)[1]["privateKey"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    with pytest.raises(ssl.SSLError):
        server.load_cert_chain(tmp_path / "c.pem", tmp_path / "other.pem")


def test_certificate_is_for_servers_only_and_no_authority(authority: Props) -> None:
    _, state = leaf(authority)
    own = x509.load_pem_x509_certificate(state["certificate"].encode())
    assert not own.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_same_inputs_are_no_change(authority: Props) -> None:
    inputs, state = leaf(authority)
    changes = Certificate().diff(state, inputs)
    assert not changes.update | changes.replace


def test_a_new_name_issues_in_place(authority: Props) -> None:
    inputs, state = leaf(authority)
    wanted = {**inputs, "names": ["new.example.org"]}
    assert Certificate().diff(state, wanted).update == {"names"}
    assert Certificate().diff(state, wanted).replace == frozenset()
    renewed = Certificate().update(CONTEXT, "id", state, wanted)
    verified(authority, renewed["certificate"], x509.DNSName("new.example.org"))
    assert renewed["privateKey"] != state["privateKey"]


@pytest.mark.parametrize(("left", "due"), [(29, True), (31, False)])
def test_the_clock_renews(authority: Props, left: int, due: bool) -> None:
    inputs, state = leaf(authority)
    end = datetime.now(UTC) + timedelta(days=left)
    changes = Certificate().diff({**state, "notAfter": end.isoformat()}, inputs)
    assert changes.update == (frozenset({"notAfter"}) if due else frozenset())


def test_preview_of_a_renewal_knows_no_key(authority: Props) -> None:
    inputs, state = leaf(authority)
    shown = Certificate().preview(inputs, state)
    assert shown["privateKey"] is UNKNOWN
    assert shown["certificate"] is UNKNOWN


def test_certificate_never_outlives_its_authority() -> None:
    short = made(Authority(), commonName="short", validDays=10)[1]
    _, state = leaf(short, validDays=90)
    assert datetime.fromisoformat(state["notAfter"]) <= datetime.fromisoformat(short["notAfter"])


def test_authority_renews_with_the_same_key_so_that_old_leaves_stay_valid(authority: Props) -> None:
    _, old = leaf(authority)
    inputs = {"commonName": "vre test", "validDays": 3650}
    changes = Authority().diff({**authority, "notAfter": datetime.now(UTC).isoformat()}, inputs)
    assert changes.update == {"notAfter"}
    renewed = Authority().update(CONTEXT, "id", authority, inputs)
    assert renewed["privateKey"] == authority["privateKey"]
    verified(renewed, old["certificate"], x509.DNSName(NAMES[0]))


def test_authority_is_replaced_only_by_name(authority: Props) -> None:
    inputs = {"commonName": "vre test", "validDays": 3650}
    assert Authority().diff(authority, {**inputs, "commonName": "other"}).replace == {"commonName"}
    assert Authority().diff(authority, {**inputs, "validDays": 400}).replace == frozenset()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"names": [], "addresses": []}, "names"),
        ({"names": ["under_score.example.org"]}, "names"),
        ({"names": ["a b"]}, "names"),
        ({"addresses": ["300.1.1.1"]}, "addresses"),
        ({"validDays": 0}, "validDays"),
        ({"validDays": 826}, "validDays"),
        ({"validDays": 30, "renewBeforeDays": 30}, "renewBeforeDays"),
        ({"authorityCertificate": "nonsense"}, "authorityCertificate"),
    ],
)
def test_bad_certificates_are_refused(authority: Props, change: Props, key: str) -> None:
    inputs = {
        "authorityCertificate": authority["certificate"],
        "authorityKey": authority["privateKey"],
        "names": NAMES,
        **change,
    }
    assert [finding.key for finding in Certificate().check(inputs)] == [key]


def test_a_foreign_authority_key_is_refused_without_showing_it(authority: Props) -> None:
    other = made(Authority(), commonName="other")[1]
    inputs = {
        "authorityCertificate": authority["certificate"],
        "authorityKey": other["privateKey"],
        "names": NAMES,
    }
    findings = Certificate().check(inputs)
    assert [finding.key for finding in findings] == ["authorityKey"]
    assert "PRIVATE" not in str(findings[0])


def test_unknown_inputs_pass_the_check() -> None:
    inputs = {"authorityCertificate": UNKNOWN, "authorityKey": UNKNOWN, "names": UNKNOWN, "validDays": UNKNOWN}
    assert Certificate().check(inputs) == []
    assert Certificate().normalise(inputs)["renewBeforeDays"] == 30


def test_host_key_is_an_openssh_pair() -> None:
    _, state = made(HostKey())
    private = load_ssh_private_key(state["privateKey"].encode(), password=None)
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert line == state["publicKey"]
    assert line.startswith("ssh-ed25519 ")


@pytest.mark.requirement("P-37", "P-56")
@pytest.mark.parametrize(
    "weak", ["letmein123", "qwertyuiop", "12345678901234", "Phenome2026!", "aaaaaaaaaaaaaaaaaaaaaa"]
)
def test_weak_passwords_are_refused_without_showing_them(weak: str) -> None:
    findings = Password().check({"given": weak, "hints": ["phenome"]})
    assert [finding.key for finding in findings] == ["given"]
    assert weak not in str(findings[0])


@pytest.mark.requirement("P-37")
def test_a_password_with_a_hint_in_it_is_refused() -> None:
    strong = "violet-Kangaroo-77-marzipan-alice-comet"
    assert Password().check({"given": strong, "hints": ["bob"]}) == []
    assert len(Password().check({"given": strong, "hints": ["Alice"]})) == 1


def test_a_name_of_one_or_two_letters_makes_no_password_weak() -> None:
    strong = "violet-Kangaroo-77-marzipan-eve-comet"
    assert Password().check({"given": strong, "hints": ["a", "V", "om"]}) == []
    assert len(Password().check({"given": strong, "hints": ["a", "eve"]})) == 1


def test_a_strong_password_is_kept_as_given() -> None:
    inputs, state = made(Password(), given="violet-Kangaroo-77-marzipan-comet")
    assert state["password"] == inputs["given"]


@settings(deadline=None, max_examples=20)
@given(length=st.integers(min_value=crypto.SHORTEST, max_value=crypto.LONGEST))
def test_made_passwords_have_their_length_and_pass_their_own_test(length: int) -> None:
    _, state = made(Password(), length=length)
    assert len(state["password"]) == length
    assert crypto.weakness(state["password"], []) == []


def test_a_made_password_stays_until_something_asks_for_another() -> None:
    inputs, state = made(Password())
    handler = Password()
    assert handler.update(CONTEXT, "id", state, {**inputs, "hints": ["x"]})["password"] == state["password"]
    assert handler.update(CONTEXT, "id", state, {**inputs, "length": 30})["password"] != state["password"]
    given_state = {**inputs, "given": "violet-Kangaroo-77", "password": "violet-Kangaroo-77", "length": 18}
    assert handler.update(CONTEXT, "id", given_state, {**inputs, "length": 18})["password"] != "violet-Kangaroo-77"


@pytest.mark.parametrize("length", [15, 129, "20", 20.5, True])
def test_lengths_out_of_bounds_are_refused(length: Any) -> None:
    assert [finding.key for finding in Password().check({"length": length})] == ["length"]


def test_nothing_here_can_be_imported_and_reads_give_the_state_back() -> None:
    inputs, state = made(Password())
    found = Password().read(CONTEXT, "id", state)
    assert found is not None
    assert found.inputs == inputs
    assert found.outputs == state
    with pytest.raises(VreError, match="cannot be imported"):
        Password().read(CONTEXT, "id", {})


def test_private_keys_of_authority_and_leaf_load(authority: Props) -> None:
    _, state = leaf(authority)
    for pem in (authority["privateKey"], state["privateKey"]):
        assert load_pem_private_key(pem.encode(), password=None).key_size == 256  # type: ignore[union-attr]


def request(**more: Any) -> tuple[Props, Props]:
    return made(Request(), names=NAMES, **more)


def test_a_request_is_signed_by_its_key_for_its_names() -> None:
    _, state = request()
    asked = x509.load_pem_x509_csr(state["request"].encode())
    own: Any = load_pem_private_key(state["privateKey"].encode(), password=None)
    assert asked.is_signature_valid
    assert asked.public_key() == own.public_key()
    assert (
        asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
        == NAMES
    )


@pytest.mark.parametrize(("age", "due"), [(276, True), (274, False)])
def test_a_request_and_its_key_are_made_anew_with_age(age: int, due: bool) -> None:
    inputs, state = request()
    old = {**state, "made": (datetime.now(UTC) - timedelta(days=age)).isoformat()}
    assert Request().diff(old, inputs).update == (frozenset({"made"}) if due else frozenset())
    renewed = Request().update(CONTEXT, "id", old, inputs)
    assert renewed["privateKey"] != state["privateKey"]
    assert Request().diff(renewed, inputs).update == frozenset()


def test_another_name_is_asked_for_with_another_key_in_place() -> None:
    inputs, state = request()
    wanted = {**inputs, "names": ["new.example.org"]}
    assert Request().diff(state, wanted).update == {"names"}
    assert Request().preview(wanted, state)["request"] is UNKNOWN
    assert [finding.key for finding in Request().check({"names": ["not a name"], "renewAfterDays": 0})] == [
        "renewAfterDays",
        "names",
    ]


def test_a_name_too_long_for_a_subject_is_an_alternative_all_the_same() -> None:
    long = f"{'a' * 60}.{'b' * 60}.example.org"
    _, state = made(Request(), names=[long])
    asked = x509.load_pem_x509_csr(state["request"].encode())
    assert list(asked.subject) == []
    assert long in str(asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def test_a_clients_certificate_is_for_clients_only_and_alone(authority: Props) -> None:
    _, state = leaf(authority, usage="client", addresses=[])
    [own] = x509.load_pem_x509_certificates(state["certificate"].encode())
    usage = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    key: Any = load_pem_private_key(state["privateKey"].encode(), password=None)
    assert key.public_key() == own.public_key()
    assert own.subject.rfc4514_string() == f"CN={NAMES[0]}"
    store = Store(x509.load_pem_x509_certificates(authority["certificate"].encode()))
    PolicyBuilder().store(store).build_client_verifier().verify(own, [])


def test_another_use_is_refused_and_a_change_of_it_seen(authority: Props) -> None:
    inputs, state = leaf(authority)
    assert Certificate().diff(state, {**inputs, "usage": "client"}).update == {"usage"}
    assert [finding.key for finding in Certificate().check({**inputs, "usage": "both"})] == ["usage"]
