"""Publishing to an OpenStack: the real client, against a stand-in for keystone and glance."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.unit import releases
from tests.unit.releases import ID, KEY, OTHER
from vre.cli.main import app
from vre.errors import Refused, VreError
from vre.progress import silent
from vre.release import envelope, glance

# The client's warnings are about itself: what of it will go in its next releases.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
KEYS = [KEY.public_key]
PASSWORD = "CANARY-PASSWORD"


class Cloud(http.server.ThreadingHTTPServer):
    """What is in the image service, and how often something was uploaded."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.images: dict[str, dict[str, Any]] = {}
        self.uploads = 0
        self.damage = b""
        self.refuse = ""

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(http.server.BaseHTTPRequestHandler):
    """The few requests that an upload makes."""

    server: Cloud

    def log_message(self, *words: object) -> None:
        """Say nothing."""

    def answer(self, code: int, body: Any = None, **headers: str) -> None:
        text = json.dumps(body).encode() if body is not None else b""
        self.send_response(code)
        for key, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        url = self.server.url
        if path.rstrip("/") in ("/identity/v3", "/identity"):
            links = [{"rel": "self", "href": f"{url}/identity/v3/"}]
            self.answer(200, {"version": {"id": "v3.14", "status": "stable", "links": links}})
        elif path in ("/image", "/image/", "/image/v2", "/image/v2/"):
            links = [{"rel": "self", "href": f"{url}/image/v2/"}]
            self.answer(200, {"versions": [{"id": "v2.16", "status": "CURRENT", "links": links}]})
        elif path == "/image/v2/images":
            name = dict(each.split("=") for each in query.split("&") if each).get("name")
            self.answer(200, {"images": [each for each in self.server.images.values() if each["name"] == name]})
        elif path.startswith("/image/v2/images/") and path.split("/")[4] in self.server.images:
            self.answer(200, self.server.images[path.split("/")[4]])
        else:
            self.answer(404, {})

    def do_POST(self) -> None:
        told = json.loads(self.body())
        if self.path == "/identity/v3/auth/tokens":
            ends = [{"interface": "public", "region_id": "one", "region": "one", "url": f"{self.server.url}/image"}]
            catalog = [{"type": "image", "name": "glance", "id": "g", "endpoints": ends}]
            token = {"expires_at": "2999-01-01T00:00:00.000000Z", "issued_at": "2026-01-01T00:00:00.000000Z",
                     "catalog": catalog, "methods": ["password"], "user": {"id": "u", "name": "u"},
                     "project": {"id": "p", "name": "p"}}  # fmt: skip
            self.answer(201, {"token": token}, X_Subject_Token="t")
        elif self.server.refuse:
            self.answer(403, {"message": self.server.refuse})
        else:
            made = {**told, "id": f"i-{len(self.server.images)}-{self.server.uploads}", "status": "queued"}
            self.server.images[made["id"]] = made
            self.answer(201, made)

    def do_PUT(self) -> None:
        content = self.body() + self.server.damage
        self.server.uploads += 1
        image = self.server.images[self.path.split("/")[4]]
        image |= {"status": "active", "os_hash_algo": "sha512", "os_hash_value": hashlib.sha512(content).hexdigest()}
        self.answer(204)

    def do_DELETE(self) -> None:
        del self.server.images[self.path.split("/")[4]]
        self.answer(204)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    for key, value in {
        "AUTH_URL": f"{made.url}/identity/v3", "USERNAME": "u", "PASSWORD": PASSWORD, "PROJECT_NAME": "p",
        "USER_DOMAIN_NAME": "Default", "PROJECT_DOMAIN_NAME": "Default", "REGION_NAME": "one",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"OS_{key}", value)
    monkeypatch.chdir(tmp_path)
    yield made
    made.shutdown()
    made.server_close()


def published(tmp_path: Path, name: str = ID) -> str:
    return glance.publish(tmp_path / "dist" / name, "openstack://", KEYS, silent)


def test_a_release_is_uploaded_once_and_found_again(cloud: Cloud, tmp_path: Path) -> None:
    for name in (ID, OTHER):
        releases.release(tmp_path / "dist", name, content=name.encode())
    first = published(tmp_path)
    assert published(tmp_path) == first
    assert cloud.uploads == 1
    image = cloud.images[first]
    assert (image["name"], image["vre_release"], image["disk_format"]) == (f"vre-{ID}", ID, "qcow2")
    assert (image["visibility"], image["min_disk"], image["architecture"]) == ("private", 8, "x86_64")
    assert published(tmp_path, OTHER) != first
    assert cloud.uploads == 2


def test_what_an_interrupted_upload_left_is_taken_away(cloud: Cloud, tmp_path: Path) -> None:
    releases.release(tmp_path / "dist")
    first = published(tmp_path)
    cloud.images[first]["status"] = "queued"
    second = published(tmp_path)
    assert set(cloud.images) == {second}
    cloud.images["theirs"] = {"id": "theirs", "name": f"vre-{ID}", "status": "queued"}
    published(tmp_path)
    assert set(cloud.images) == {second, "theirs"}


def test_other_bytes_than_were_sent_do_not_stay(cloud: Cloud, tmp_path: Path) -> None:
    releases.release(tmp_path / "dist")
    cloud.damage = b"!"
    with pytest.raises(VreError, match="did not store what was sent") as caught:
        published(tmp_path)
    assert "--format raw" in caught.value.hint
    assert cloud.images == {}


def test_an_altered_release_is_not_uploaded(cloud: Cloud, tmp_path: Path) -> None:
    (releases.release(tmp_path / "dist") / "disk.qcow2").write_bytes(b"a dusk\n")
    with pytest.raises(Refused):
        published(tmp_path)
    assert cloud.images == {}


def test_what_the_cloud_refuses_is_told_without_the_password(cloud: Cloud, tmp_path: Path) -> None:
    releases.release(tmp_path / "dist")
    cloud.refuse = "you may not upload here"
    with pytest.raises(VreError, match="may not upload here") as caught:
        published(tmp_path)
    assert PASSWORD not in str(caught.value)
    assert "OS_CLOUD" in caught.value.hint


def test_a_cloud_that_nobody_described_is_named(tmp_path: Path, cloud: Cloud) -> None:
    releases.release(tmp_path / "dist")
    with pytest.raises(VreError, match="nowhere"):
        glance.publish(tmp_path / "dist" / ID, "openstack://nowhere", KEYS, silent)


def test_the_command_prints_what_a_stack_file_names(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envelope, "trusted", lambda *_: KEYS)
    releases.release(tmp_path / "dist")
    done = CliRunner().invoke(app, ["image", "publish", ID, "--to", "openstack://"])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() in cloud.images
