"""Channels: who may move them, what an interrupted or old one looks like, and how they are read."""

import datetime as dt
import http.server
import shutil
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from tests.unit import releases
from tests.unit.releases import ID, KEY, OTHER, STRANGER, WANTED
from vre import engine, launch, paths
from vre.cli import outputs, parts, preparation
from vre.cloud import Libvirt
from vre.errors import Refused, VreError
from vre.load import load
from vre.progress import silent
from vre.provider.crypto import Authority, Certificate
from vre.provider.handler import Context
from vre.release import channel, envelope, files, place, publish, reading, taken
from vre.release.channel import Channel, Pointer
from vre.stackfile import parse

KEYS = [KEY.public_key]
NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State and cache of the test's own."""
    monkeypatch.setenv("VRE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("VRE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A target with two published, tested releases."""
    for name in (ID, OTHER):
        folder = releases.release(tmp_path / "dist", name)
        releases.test_result(folder)
        publish.publish(folder, tmp_path / "target", KEYS, silent)
    return tmp_path / "target"


def promote(target: Path, name: str) -> Channel:
    return publish.promote(target, name, KEY, KEYS, silent)


def names(found: Channel) -> tuple[str, str]:
    return (found.current.id if found.current else "", found.previous.id if found.previous else "")


@pytest.mark.requirement("H-03")
def test_releases_are_promoted_and_rolled_back(target: Path) -> None:
    assert names(promote(target, ID)) == (ID, "")
    assert names(promote(target, OTHER)) == (OTHER, ID)
    after = publish.roll_back(target, KEY, KEYS, silent)
    assert names(after) == (ID, "")
    assert [(move.serial, move.action, move.id) for move in after.history] == [
        (1, "promote", ID),
        (2, "promote", OTHER),
        (3, "rollback", ID),
    ]
    assert publish.now(target, KEYS) == after
    with pytest.raises(VreError, match="no release to go back to"):
        publish.roll_back(target, KEY, KEYS, silent)


def test_promoting_the_current_release_again_moves_nothing(target: Path) -> None:
    before = promote(target, ID)
    assert promote(target, ID) == before


pointers = st.sampled_from([Pointer(id=letter * 32, manifest=letter * 64) for letter in "abcd"])


@given(moves=st.lists(pointers | st.none(), max_size=12))
def test_the_number_only_grows_and_no_release_is_named_twice(moves: list[Pointer | None]) -> None:
    now = Channel()
    for move in moves:
        before = now
        try:
            now = channel.promoted(now, move, NOW) if move else channel.rolled_back(now, NOW)
        except VreError:
            assert now.previous is None
            continue
        assert now.serial == before.serial + (now != before)
        assert move is None or now.current == move
        line = [each for each in (now.current, now.previous, *now.older) if each]
        assert len(set(line)) == len(line)
    assert channel.parse(channel.text(now)) == now


@pytest.mark.parametrize(
    ("passed", "failed", "key", "reason"),
    [
        ((), (), KEY, "did not pass"),
        (("launch",), ("port scan",), KEY, "did not pass its test: port scan"),
        (("boot",), (), KEY, "without a launch"),
        (("launch",), (), STRANGER, "not trusted"),
    ],
)
def test_a_test_that_did_not_pass_never_promotes(
    target: Path, passed: tuple[str, ...], failed: tuple[str, ...], key: CryptoSigner, reason: str
) -> None:
    folder = target / channel.RELEASES / ID
    releases.test_result(folder, passed=passed, failed=failed, key=key)
    with pytest.raises(VreError, match=reason):
        promote(target, ID)
    assert not (target / channel.FILE).exists()


@pytest.mark.requirement("P-34")
def test_a_release_without_a_test_is_never_promoted(target: Path) -> None:
    (target / channel.RELEASES / ID / files.TEST).unlink()
    with pytest.raises(VreError, match="was not tested"):
        promote(target, ID)
    shutil.copy(target / channel.RELEASES / OTHER / files.TEST, target / channel.RELEASES / ID / files.TEST)
    with pytest.raises(VreError, match="another release"):
        promote(target, ID)


def test_a_release_that_is_not_published_is_named(target: Path) -> None:
    with pytest.raises(VreError, match="is not published") as refused:
        promote(target, "a" * 32)
    assert ID in refused.value.hint


def test_a_published_release_that_was_altered_is_not_promoted(target: Path) -> None:
    (target / channel.RELEASES / ID / "disk.qcow2").write_bytes(b"A disk\n")
    with pytest.raises(Refused, match=r"disk\.qcow2: was altered"):
        promote(target, ID)


def test_an_altered_release_is_not_published(tmp_path: Path) -> None:
    folder = releases.release(tmp_path / "dist")
    (folder / "disk.qcow2").write_bytes(b"A disk\n")
    with pytest.raises(Refused):
        publish.publish(folder, tmp_path / "target", KEYS, silent)
    assert not (tmp_path / "target").exists()


def test_a_result_that_comes_later_is_added(tmp_path: Path) -> None:
    folder, target = releases.release(tmp_path / "dist"), tmp_path / "target"
    there = publish.publish(folder, target, KEYS, silent).folder
    before = {path.name for path in there.iterdir()}
    releases.test_result(folder)
    publish.publish(folder, target, KEYS, silent)
    assert {path.name for path in there.iterdir()} - before == {files.TEST}


def test_another_release_never_takes_an_ids_place(tmp_path: Path) -> None:
    target = tmp_path / "target"
    publish.publish(releases.release(tmp_path / "one"), target, KEYS, silent)
    with pytest.raises(VreError, match="is published already"):
        publish.publish(releases.release(tmp_path / "other", content=b"another\n"), target, KEYS, silent)
    assert (target / channel.RELEASES / ID / "disk.qcow2").read_bytes() == b"a disk\n"


def test_the_same_disks_described_in_another_way_are_nothing_new(tmp_path: Path) -> None:
    target = tmp_path / "target"
    there = publish.publish(releases.release(tmp_path / "one"), target, KEYS, silent).folder
    before = {path.name: path.read_bytes() for path in there.iterdir()}
    other = releases.release(tmp_path / "other", architecture="arm64")
    releases.test_result(other)
    assert publish.publish(other, target, KEYS, silent).manifest.architecture == "amd64"
    assert {path.name: path.read_bytes() for path in there.iterdir()} == before


@pytest.mark.parametrize("at", range(1, 7))
def test_an_interrupted_publish_leaves_nothing_half_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    folder, target = releases.release(tmp_path / "dist"), tmp_path / "target"
    calls = []

    def cut(path: Path) -> None:
        calls.append(path)
        if len(calls) == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(publish, "_flush", cut)
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)  # killed: nothing is tidied
        with pytest.raises(KeyboardInterrupt):
            publish.publish(folder, target, KEYS, silent)
    assert publish.published(target) == []
    publish.publish(folder, target, KEYS, silent)
    assert publish.published(target) == [ID]
    assert [path.name for path in (target / channel.RELEASES).iterdir()] == [ID]


def test_a_target_that_nothing_is_published_to_is_refused_with_those_that_there_are() -> None:
    for address in ("s3://bucket", "https://images.example.org", "glance:x://y", "file://host/path"):
        with pytest.raises(VreError, match="not published to") as refused:
            place.folder(address)
        assert "a folder" in refused.value.hint
    for address in ("s3://bucket", "http://images.example.org"):
        with pytest.raises(VreError, match="not read from"):
            place.at(address)


# reading


def test_an_old_channel_cannot_be_played_back(target: Path) -> None:
    promote(target, ID)
    old = (target / channel.FILE).read_bytes()
    promote(target, OTHER)
    (target / channel.FILE).write_bytes(old)
    with pytest.raises(VreError, match="number 1, and was number 2 before: it was played back"):
        reading.channel_at(place.at(str(target)), KEYS)
    with pytest.raises(VreError, match="played back"):
        promote(target, ID)
    (target / channel.FILE).unlink()
    with pytest.raises(VreError, match="played back"):
        promote(target, ID)


def test_two_channels_with_one_number_are_noticed(target: Path) -> None:
    promote(target, ID)
    forged = channel.promoted(Channel(), Pointer(id=OTHER, manifest="a" * 64), NOW)
    (target / channel.FILE).write_bytes(envelope.sealed(channel.text(forged), channel.KIND, KEY))
    with pytest.raises(VreError, match="two channels number 1"):
        reading.channel_at(place.at(str(target)), KEYS)


def test_a_channel_that_a_stranger_signed_is_refused(target: Path) -> None:
    forged = channel.promoted(Channel(), Pointer(id=OTHER, manifest="a" * 64), NOW)
    (target / channel.FILE).write_bytes(envelope.sealed(channel.text(forged), channel.KIND, STRANGER))
    with pytest.raises(VreError, match=r"channel\.json\.dsse is signed by a key that is not trusted"):
        reading.channel_at(place.at(str(target)), KEYS)


@given(place=st.integers(0, 2000), bits=st.integers(1, 255))
def test_any_byte_of_a_channel_that_is_flipped_is_refused(place: int, bits: int) -> None:
    now = channel.promoted(Channel(), Pointer(id=ID, manifest="a" * 64), NOW)
    text = bytearray(envelope.sealed(channel.text(now), channel.KIND, KEY))
    text[place % len(text)] ^= bits
    with pytest.raises(VreError):
        envelope.opened(bytes(text), channel.KIND, KEYS)


def test_words_and_ids_stand_for_releases(target: Path) -> None:
    promote(target, ID)
    now = promote(target, OTHER)
    assert now.find("current").id == OTHER
    assert now.find("previous").id == now.find(ID).id == ID
    with pytest.raises(VreError, match="has no " + "a" * 32):
        now.find("a" * 32)
    with pytest.raises(VreError, match="has no current"):
        Channel().find("current")


@dataclass(frozen=True)
class Server:
    """A web server that serves a folder by https."""

    url: str
    authority: str
    asked: list[str]


@pytest.fixture
def server(target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    authority, certificate = Authority(), Certificate()
    _, root = authority.create(Context(), authority.normalise({"commonName": "images", "validDays": 30}))
    wanted = {"authorityCertificate": root["certificate"], "authorityKey": root["privateKey"], "names": ["localhost"]}
    _, leaf = certificate.create(Context(), certificate.normalise(wanted))
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            asked.append(self.path)

    (tmp_path / "leaf.pem").write_text(leaf["certificate"] + leaf["privateKey"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "leaf.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(target))) as running:
        running.socket = context.wrap_socket(running.socket, server_side=True)
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        (tmp_path / "root.pem").write_text(root["certificate"])
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
        yield Server(f"https://localhost:{running.server_address[1]}", root["certificate"], asked)
        running.shutdown()


def test_a_release_is_taken_by_https_once(server: Server, target: Path) -> None:
    promote(target, ID)
    there = place.at(server.url)
    pointer = reading.channel_at(there, KEYS).find("current")
    wanted = replace(WANTED, architecture="amd64", format="qcow2")
    found = reading.take(there, pointer, wanted, silent)
    assert found.disk("qcow2").read_bytes() == b"a disk\n"
    before = len(server.asked)
    assert reading.take(there, pointer, wanted, silent) == found
    assert len(server.asked) == before


def test_an_altered_file_in_the_cache_is_taken_again(server: Server, target: Path) -> None:
    promote(target, ID)
    there = place.at(server.url)
    pointer = reading.channel_at(there, KEYS).find("current")
    wanted = replace(WANTED, format="qcow2")
    found = reading.take(there, pointer, wanted, silent)
    found.disk("qcow2").write_bytes(b"A disk\n")
    assert reading.take(there, pointer, wanted, silent).disk("qcow2").read_bytes() == b"a disk\n"


@pytest.mark.parametrize("content", [b"A disk\n", b"a disk, and more", b""])
def test_what_is_served_otherwise_than_signed_is_not_taken(server: Server, target: Path, content: bytes) -> None:
    promote(target, ID)
    (target / channel.RELEASES / ID / "disk.qcow2").write_bytes(content)
    there = place.at(server.url)
    with pytest.raises(VreError):
        reading.take(there, reading.channel_at(there, KEYS).find("current"), replace(WANTED, format="qcow2"), silent)
    assert [path.name for path in (paths.cache() / "releases").iterdir()] == [".lock"]


def test_a_release_other_than_the_channel_names_is_not_taken(server: Server, target: Path, tmp_path: Path) -> None:
    promote(target, ID)
    shutil.rmtree(target / channel.RELEASES / ID)
    another = releases.release(tmp_path / "another", content=b"signed by the same key, but not promoted\n")
    shutil.copytree(another, target / channel.RELEASES / ID)
    there = place.at(server.url)
    pointer = reading.channel_at(there, KEYS).find("current")
    with pytest.raises(VreError, match="not the one that the channel names"):
        reading.take(there, pointer, replace(WANTED, format="qcow2"), silent)


def test_an_answer_without_end_is_cut_off(server: Server, target: Path) -> None:
    (target / channel.FILE).write_bytes(b"x" * (reading.LIMIT + 1))
    for there in (place.at(server.url), place.at(str(target))):
        with pytest.raises(VreError, match="has more than"):
            reading.channel_at(there, KEYS)


def test_a_server_that_is_not_who_it_says_is_not_believed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(VreError, match="does not answer"):
        reading.channel_at(place.at(server.url), KEYS)


def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = httpx.MockTransport(lambda _: httpx.Response(302, headers={"location": "http://elsewhere.example/"}))
    client = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **words: client(transport=elsewhere, **words))
    with pytest.raises(VreError, match="answers 302"):
        place.at("https://images.example.org/").read("x", 10)


# what a stack asks for


@pytest.fixture
def stands(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The resources in the state of a stack, none at first."""
    state: list[dict[str, Any]] = []
    monkeypatch.setattr(engine, "resources", lambda _: state)
    monkeypatch.setattr(envelope, "trusted", lambda *_: KEYS)
    return state


def standing_on(image: str) -> dict[str, Any]:
    kind = "vre:libvirt:Volume"
    return {"type": kind, "urn": f"urn:x::vre::{kind}::local-control-system", "outputs": {"sourceId": image}}


def asked(target: Path, image: str) -> taken.Taken:
    return taken.take(Libvirt(provider="libvirt", image=image, channel=str(target)), "local", silent)


@pytest.mark.requirement("H-03")
def test_a_stack_takes_the_release_that_its_word_stands_for(target: Path, stands: list[dict[str, Any]]) -> None:
    promote(target, ID)
    promote(target, OTHER)
    found = [asked(target, word) for word in ("current", "previous", ID)]
    assert [each.id for each in found] == [OTHER, ID, ID]
    assert found[0].images == {"pause": f"localhost/vre/pause:3@sha256:{'a' * 64}"}
    assert found[0].path.read_bytes() == b"a disk\n"
    assert Path(paths.cache()) in found[0].path.parents


def test_a_launch_trusts_the_key_that_the_environment_names(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(target, ID)
    config: Any = SimpleNamespace(cloud=Libvirt(provider="libvirt", image="current", channel=str(target)))
    monkeypatch.setattr(engine, "resources", lambda _: [])
    monkeypatch.setattr("pulumi.get_stack", lambda: "local")
    monkeypatch.setattr("pulumi.log.info", lambda *_, **__: None)
    with pytest.raises(VreError, match="a key that is not trusted"):
        launch._image(config)
    (tmp_path / "institute.pub").write_bytes(envelope.pem(KEY.public_key))
    monkeypatch.setenv(envelope.KEY_VARIABLE, str(tmp_path / "institute.pub"))
    assert launch._image(config).id == ID


def test_a_stack_that_stands_goes_on_with_its_own_image(target: Path, stands: list[dict[str, Any]]) -> None:
    promote(target, ID)
    stands.append(standing_on(ID))
    promote(target, OTHER)
    assert asked(target, "current").id == ID
    stands[:] = [standing_on("a" * 32)]
    with pytest.raises(VreError, match=r"stands on image a{32}, which the channel does not have"):
        asked(target, "current")


@pytest.mark.parametrize("architecture", ["arm64"])
def test_a_release_for_another_architecture_is_not_launched(
    tmp_path: Path, stands: list[dict[str, Any]], architecture: str
) -> None:
    folder = releases.release(tmp_path / "dist", architecture=architecture)
    releases.test_result(folder)
    publish.publish(folder, tmp_path / "target", KEYS, silent)
    promote(tmp_path / "target", ID)
    with pytest.raises(Refused, match="is for arm64, this machine is amd64"):
        asked(tmp_path / "target", "current")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("image: newest", "is current, previous, or the id"),
        ("image: current, channel: http://images.example.org", "by its whole path, or https"),
        ("image: current, channel: images", "by its whole path, or https"),
        ("channel: /srv/images", "nothing is taken from the channel"),
    ],
)
def test_words_that_name_no_release_are_refused_with_an_example(words: str, reason: str) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO7pYHNTKlbjhJcKVYz4oTCdoBH/V1KdbSFHwMcjSSo2"
    text = f"config:\n  vre:cloud: {{provider: libvirt, {words}}}\n  vre:access: {{keys: [{key} alice]}}\n"
    with pytest.raises(Refused) as refused:
        load(parse(text, Path("stacks/Pulumi.x.yaml")))
    [finding] = refused.value.findings
    assert reason in finding.reason
    assert finding.example
    assert finding.where == "stacks/Pulumi.x.yaml:2"


def test_what_a_launch_from_a_release_needs_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO7pYHNTKlbjhJcKVYz4oTCdoBH/V1KdbSFHwMcjSSo2"
    text = f"config:\n  vre:cloud: {{provider: libvirt, image: current}}\n  vre:access: {{keys: [{key} alice]}}\n"
    monkeypatch.setattr(outputs, "config", lambda _: load(parse(text, Path("x"))))
    assert {"image", "programs"} & set(preparation.wanted("x")) == set()
    assert {part.name for part in parts.PARTS} >= set(preparation.wanted("x"))
