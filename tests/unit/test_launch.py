"""The composition of a launch, with the engine mocked: which resources, in which places, with which secrets."""

import json
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pulumi
import pytest
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks

from vre import image, launch
from vre.image import Image

SECRET = "4dabf18193072939515e22adb298388d"


def secret(value: str) -> dict[str, str]:
    """Return a secret as the plugin sends it."""
    return {SECRET: "1b47061264138c4ac30d75fd1eb44270", "value": value}


COMPUTED: dict[str, dict[str, Any]] = {
    "vre:crypto:HostKey": {"publicKey": "ssh-ed25519 AAAA", "privateKey": secret("CANARY-HOST-KEY")},
    "vre:crypto:Password": {"password": secret("CANARY-PASSWORD")},
    "vre:crypto:Authority": {
        "certificate": "CERTIFICATE",
        "privateKey": secret("CANARY-AUTHORITY"),
        "notAfter": "2036",
    },
    "vre:crypto:Certificate": {"certificate": "CHAIN", "privateKey": secret("CANARY-CERTIFICATE"), "notAfter": "2027"},
    "vre:libvirt:Volume": {"path": "/pool/volume"},
    "vre:libvirt:Domain": {"uuid": "u-1", "accelerator": "tcg", "running": True},
    "vre:libvirt:Secret": {"uuid": "s-1"},
}


class Recorder(Mocks):
    """Answers as the plugin would, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.seen: list[MockResourceArgs] = []

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        """Make a resource of what was asked and what the plugin computes."""
        self.seen.append(args)
        return f"{args.name}-id", {**args.inputs, **COMPUTED.get(args.typ, {})}

    def call(self, args: MockCallArgs) -> NoReturn:
        """Answer no call: the program makes none."""
        raise AssertionError(args.token)


class Every(dict[str, str]):
    """An image's reference for every name."""

    def __missing__(self, name: str) -> str:
        return f"localhost/vre/{name}:v1.36.3@sha256:00"


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Recorder]:
    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    (tmp_path / "id_ed25519.pub").write_text(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL alice\n"
    )
    built = Image(
        path=tmp_path / "disk.qcow2", images=Every(), id="image-1", packages=tmp_path / "packages.json", layout=tmp_path
    )
    monkeypatch.setattr(image, "build", lambda *_: built)
    made = Recorder()
    pulumi.runtime.set_mocks(made, project="vre", stack="local")
    yield made


def launched() -> None:
    """Run the program to its end, with all that it waits for."""

    async def run() -> None:
        launch.launch()

    finished: Callable[[Callable[[], Coroutine[Any, Any, None]]], Callable[[], None]] = pulumi.runtime.test
    finished(run)()


def by_type(recorder: Recorder) -> dict[str, list[MockResourceArgs]]:
    found: dict[str, list[MockResourceArgs]] = {}
    for args in recorder.seen:
        found.setdefault(args.typ, []).append(args)
    return found


@pytest.mark.requirement("P-05", "P-06", "P-45")
def test_a_launch_makes_one_closed_machine_a_cluster_and_a_service(recorder: Recorder) -> None:
    launched()
    found = by_type(recorder)
    assert [args.inputs["name"] for args in found["vre:libvirt:Domain"]] == ["vre-local-control"]
    interface = found["vre:libvirt:Domain"][0].inputs["interfaces"][0]
    assert interface["filter"] == found["vre:libvirt:Filter"][0].inputs["name"]
    data = next(args for args in found["vre:libvirt:Volume"] if args.name.endswith("-data"))
    assert data.inputs["encryption"] == {"secret": "s-1"}
    assert {args.inputs["name"] for args in found["vre:cluster:Objects"]} == {"cluster", "jupyter"}
    assert found["vre:service:Door"][0].inputs["path"] == "/jupyter/hub/login"


def test_each_machine_keeps_the_container_images_that_are_here(recorder: Recorder, tmp_path: Path) -> None:
    launched()
    [held] = by_type(recorder)["vre:machine:Images"]
    assert (held.name, held.inputs["machine"]) == ("local-control", "u-1")
    assert held.inputs["layout"] == str(tmp_path)


@pytest.mark.requirement("P-43", "P-44")
def test_every_secret_stays_marked_wherever_it_goes(recorder: Recorder) -> None:
    launched()
    bare = [(args.typ, args.name) for args in recorder.seen if "CANARY" in json.dumps(_shown(args.inputs), default=str)]
    assert bare == []
    assert any("CANARY-PASSWORD" in json.dumps(args.inputs, default=str) for args in recorder.seen)


def _shown(value: Any) -> Any:
    """Return what is in the open: secrets taken out."""
    if isinstance(value, dict):
        return "****" if SECRET in value else {key: _shown(each) for key, each in value.items()}
    return [_shown(each) for each in value] if isinstance(value, list) else value
