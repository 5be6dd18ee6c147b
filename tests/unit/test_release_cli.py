"""`vre image ...`: what it prints, how it ends, and that its help is like every other command's."""

import hashlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.unit import releases
from tests.unit.releases import ID, KEY, OTHER
from tests.unit.test_release_vulnerabilities import WORST, record
from vre.cli import image, parts
from vre.cli.main import app
from vre.errors import Refused, VreError
from vre.paths import project
from vre.release import bill, build, envelope, manifest, pins, raising
from vre.release.manifest import File
from vre.release.pins import Pin

runner = CliRunner()


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State of the test's own, and the key that signs the small releases."""
    monkeypatch.setenv("VRE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(envelope, "signer", lambda *_: KEY)
    monkeypatch.setattr(envelope, "trusted", lambda *_: [KEY.public_key])
    monkeypatch.chdir(tmp_path)


def ran(*words: str) -> str:
    done = runner.invoke(app, ["image", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def fault(*words: str) -> VreError:
    done = runner.invoke(app, ["image", *words])
    assert isinstance(done.exception, VreError), done.output
    return done.exception


@pytest.mark.parametrize("command", image.app.registered_commands, ids=lambda each: str(each.callback.__name__))
def test_help_begins_with_a_verb(command: Any) -> None:
    about = command.callback.__doc__.strip()
    assert about[0].isupper()
    assert len(about) <= 60
    assert not about.endswith(".")
    assert runner.invoke(app, ["image", command.name or command.callback.__name__, "--help"]).exit_code == 0


WITHOUT = """
import sys
from vre.cli import main, parts

def install(wanted):
    sys.exit(" ".join(wanted))

sys.modules[sys.argv.pop(1)] = None
parts.ensure = install
main.app(sys.argv[1:])
"""
"""The command line on a machine that does not have one module; it says what it would install."""


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (("build",), "spdx_tools"),
        (("pins",), "univers"),
        (("pins",), "uv"),
        (("vulnerabilities", ID, "--database", "x"), "univers"),
        (("vulnerabilities", ID, "--database", "x"), "cvss"),
        (("publish", ID, "--to", "openstack://"), "openstack"),
    ],
)
def test_what_launches_do_without_is_installed_when_it_is_asked_for(words: tuple[str, ...], module: str) -> None:
    assert find_spec(module)
    command = [sys.executable, "-c", WITHOUT, module, "image", *words]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    wanted = "openstack" if module == "openstack" else "release"
    assert told.stderr == f"{wanted}-packages\n"
    assert wanted in {part.name.removesuffix("-packages") for part in parts.PARTS}


def test_a_launch_needs_nothing_of_what_only_releases_are_made_with() -> None:
    program = "import sys, vre.launch, vre.release.taken, vre.cli.main; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], cwd=project(), capture_output=True, text=True, check=True)
    loaded = told.stdout.split()
    assert "securesystemslib" in loaded
    assert {"spdx_tools", "univers", "cvss"} & set(loaded) == set()


def test_a_release_goes_the_whole_way(tmp_path: Path) -> None:
    for name in (ID, OTHER):
        releases.test_result(releases.release(tmp_path / "dist", name))
        assert ran("publish", name, "--to", "target").strip().endswith(f"target/releases/{name}")
        assert ran("promote", name, "--to", "target").startswith(f"current {name}\n")
    assert ran("rollback", "--to", "target") == f"current {ID}\nprevious none\nnumber 3\n"
    listed = json.loads(ran("list", "--channel", "target", "--json"))
    assert (listed["serial"], listed["current"]["id"], listed["previous"]) == (3, ID, None)
    assert ID in ran("list", "--channel", "target")
    assert "is what was signed" in ran("verify", ID)
    assert ran("prune", "--to", "target") == ""
    assert ran("prune", "--keep", "0", "--to", "target") == f"{OTHER}\n"


def test_a_checkout_has_a_channel_of_its_own(tmp_path: Path) -> None:
    releases.test_result(releases.release(tmp_path / "dist"))
    ran("publish", ID)
    ran("promote", ID)
    assert json.loads(ran("list", "--json"))["current"]["id"] == ID
    assert (tmp_path / "state" / "images" / "channel.json.dsse").is_file()


def test_what_is_not_there_is_told_with_what_is(tmp_path: Path) -> None:
    releases.release(tmp_path / "dist")
    assert ID in fault("publish", "nothing", "--to", "target").hint
    assert "a folder" in fault("publish", ID, "--to", "s3://bucket").hint
    assert "qcow2" in fault("build", "--format", "floppy").hint
    assert "is anything published there?" in fault("list", "--channel", "/nowhere").hint


def test_an_altered_release_is_refused_by_every_command(tmp_path: Path) -> None:
    folder = releases.release(tmp_path / "dist")
    (folder / "disk.qcow2").write_bytes(b"A disk\n")
    for words in (("verify", ID), ("publish", ID, "--to", "target"), ("test", ID)):
        assert isinstance(fault(*words), Refused)


@pytest.mark.requirement("H-22")
def test_pins_that_are_behind_are_shown_and_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        Pin(kind="Go", name="etcd", pinned="v3.6.14", patch="v3.6.16", newest="v3.7.3"),
        Pin(kind="Go", name="traefik", pinned="v3.6.6", patch="v3.6.6", newest="v3.6.6"),
        Pin(kind="Go", name="flannel", pinned="v0.28.4", patch="v0.28.4", newest="v0.28.4", fault="404"),
    ]
    monkeypatch.setattr(pins, "look", lambda _: found)
    changed = [Path(each.name) for each in found if each.behind]
    monkeypatch.setattr(raising, "raised", lambda *_: (changed, []))
    checks = {each["name"]: each for each in json.loads(ran("pins", "--json"))["checks"]}
    assert checks["etcd"]["found"] == "v3.6.14; the newest is v3.7.3; its newest patch is v3.6.16"
    assert [checks[name]["state"] for name in ("etcd", "traefik", "flannel")] == ["warning", "good", "warning"]
    assert "could not be asked: 404" in checks["flannel"]["found"]
    assert ran("pins", "--raise") == "etcd\n"
    monkeypatch.setattr(raising, "raised", lambda *_: (changed, [VreError("flannel stays as it was: 403")]))
    assert "flannel stays as it was: 403" in str(fault("pins", "--raise"))


@pytest.mark.requirement("P-60", "H-22")
@pytest.mark.parametrize(("severity", "code"), [(WORST, 1), (WORST.replace("C:H/I:H/A:H", "C:L/I:N/A:N"), 0)])
def test_only_an_urgent_vulnerability_ends_with_one(tmp_path: Path, severity: str, code: int) -> None:
    from tests.unit.test_release_build import INSIDE

    home = tmp_path / "dist" / ID
    home.mkdir(parents=True)
    text = bill.text(ID, INSIDE)
    (home / manifest.BILL).write_bytes(text)
    lines = {manifest.BILL: File(sha256=hashlib.sha256(text).hexdigest(), size=len(text))}
    build.sign(home, releases.described(files=lines), text, KEY)
    known = record(
        "Go",
        "golang.org/x/net",
        {"introduced": "0"},
        {"fixed": "0.51.0"},
        severity=[{"type": "CVSS_V3", "score": severity}],
    )
    (tmp_path / "osv").mkdir()
    (tmp_path / "osv" / "1.json").write_text(json.dumps(known))
    done = runner.invoke(app, ["image", "vulnerabilities", ID, "--database", "osv", "--json"])
    [check] = json.loads(done.stdout)["checks"]
    assert done.exit_code == code
    assert check["name"] == "golang.org/x/net 0.50.0"
    assert "CVE-2026-1" in check["found"]
    assert "mended in 0.51.0" in check["found"]
