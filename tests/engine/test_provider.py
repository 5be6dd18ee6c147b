"""The plugin under the real engine: every step of a resource's life, and what a person sees when something fails."""

import json
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import PULUMI, Engine, Told, small
from vre.paths import project

NAME = "vre-plugin"
SECRET = "correct-horse-battery"
PROGRAM = """
import json
from pathlib import Path
import pulumi
from vre import resources

for item in json.loads(Path("things.json").read_text()):
    props = {{"folder": {folder!r}, **item["props"]}}
    if "secret" in item:
        props["token"] = pulumi.Output.secret(item["secret"])
    opts = pulumi.ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create=item.get("timeout")))
    thing = pulumi.CustomResource("vre:test:Thing", item["name"], {{**props, "made": None, "count": None}}, opts)
    pulumi.export(item["name"], thing.count)
"""
CRYPTO = """
import pulumi
from vre import resources

authority = resources.Authority("authority", common_name="engine test", valid_days=400)
leaf = resources.Certificate("leaf", authority_certificate=authority.certificate, authority_key=authority.private_key,
                             names=["vre.example.org"])
key = resources.HostKey("key")
password = resources.Password("password", hints=["researcher"])
given = resources.Password("given", given=pulumi.Output.secret("violet-Kangaroo-77-marzipan"))
pulumi.export("certificate", leaf.certificate)
pulumi.export("public", key.public_key)
pulumi.export("private", key.private_key)
pulumi.export("password", password.password)
"""


class Project(Engine):
    """The engine on a program of this test's own, with the plugin of this checkout."""

    def write(self, *things: dict[str, Any]) -> None:
        """Say which things there should be."""
        (self.checkout.path / "things.json").write_text(json.dumps(things))

    def up(self, *flags: str) -> Told:
        """Bring the stack up."""
        return self.pulumi("up", "--yes", "--skip-preview", "--stack", "test", *flags)

    def things(self, kind: str = "vre:test:Thing") -> dict[str, dict[str, Any]]:
        """Return what stands in the state, by name."""
        found = [each for each in self.resources("test") if each["type"] == kind]
        return {each["urn"].split("::")[-1]: each for each in found}

    @property
    def folder(self) -> Path:
        """Where things are made."""
        return self.checkout.path / "made"

    def state_text(self) -> str:
        """Return everything that the engine keeps, old checkpoints and history too."""
        files = [file for file in self.checkout.backend.rglob("*") if file.is_file()]
        return "\n".join(file.read_text(errors="replace") for file in files)


@pytest.fixture
def stack(tmp_path: Path, pulumi_program: Path) -> Project:
    folder = tmp_path / "program" / "made"
    checkout = small(tmp_path, NAME, PROGRAM.format(folder=str(folder)))
    folder.mkdir()
    made = Project(checkout=replace(checkout, env={**checkout.env, "VRE_TEST_HANDLERS": "tests.engine.provider_fakes"}))
    told = made.pulumi("stack", "init", "test", "--secrets-provider", "passphrase")
    assert told.code == 0, told.text
    return made


def thing(name: str = "thing", **props: Any) -> dict[str, Any]:
    return {"name": name, "props": {"name": name, **props}}


def secret_thing(**props: Any) -> dict[str, Any]:
    return {**thing(**props), "secret": SECRET}


def succeeds(told: Told) -> str:
    assert told.code == 0, told.text
    return told.text


def fails(told: Told) -> str:
    assert told.code != 0, told.text
    return told.text


@pytest.mark.timeout(300)
def test_a_thing_is_made_kept_changed_replaced_and_removed(stack: Project) -> None:
    stack.write(secret_thing(size=1))
    text = succeeds(stack.up())
    assert "painting thing with" in text
    assert json.loads((stack.folder / "thing").read_text())["token"] == SECRET
    assert "3" in succeeds(stack.pulumi("stack", "output", "thing", "--stack", "test"))

    assert "2 unchanged" in succeeds(stack.up("--expect-no-changes"))

    stack.write(secret_thing(size=2))
    assert "~ 1 updated" in succeeds(stack.up())
    assert json.loads((stack.folder / "thing").read_text())["size"] == 2

    changed = secret_thing(size=2)
    changed["props"]["name"] = "other"
    stack.write(changed)
    preview = succeeds(stack.preview("test", "--diff"))
    assert "replace" in preview
    assert SECRET not in preview
    succeeds(stack.up())
    assert [file.name for file in stack.folder.iterdir()] == ["other"]

    assert "deleted" in succeeds(stack.pulumi("destroy", "--yes", "--skip-preview", "--stack", "test"))
    assert list(stack.folder.iterdir()) == []


@pytest.mark.timeout(300)
def test_a_refresh_sees_drift_and_the_next_up_puts_it_right(stack: Project) -> None:
    stack.write(thing(size=1), thing("gone"))
    succeeds(stack.up())
    file = stack.folder / "thing"
    file.write_text(json.dumps({**json.loads(file.read_text()), "size": 9}))
    (stack.folder / "gone").unlink()
    text = succeeds(stack.pulumi("refresh", "--yes", "--skip-preview", "--stack", "test"))
    assert stack.things()["thing"]["outputs"]["size"] == 9, text
    assert set(stack.things()) == {"thing"}
    succeeds(stack.up())
    assert json.loads(file.read_text())["size"] == 1
    assert (stack.folder / "gone").exists()
    assert "3 unchanged" in succeeds(stack.up("--refresh", "--expect-no-changes"))


@pytest.mark.timeout(300)
def test_what_is_there_already_can_be_imported(stack: Project) -> None:
    stack.write()
    succeeds(stack.up())
    there = stack.folder / "thing"
    there.write_text(json.dumps({"name": "thing", "size": 4, "folder": str(stack.folder)}))
    words = ("import", "vre:test:Thing", "thing", str(there), "--yes", "--skip-preview", "--generate-code=false")
    succeeds(stack.pulumi(*words, "--protect=false", "--stack", "test"))
    assert stack.things()["thing"]["inputs"]["size"] == 4


@pytest.mark.timeout(300)
def test_bad_inputs_are_told_before_anything_is_made(stack: Project) -> None:
    stack.write(thing("good"), thing("bad", colour="green"))
    text = fails(stack.preview("test"))
    assert "green is taken; for example: blue" in text
    assert list(stack.folder.iterdir()) == []


@pytest.mark.timeout(300)
def test_a_half_made_thing_is_kept_with_its_reason_and_finished_by_the_next_up(stack: Project) -> None:
    stack.write(secret_thing(fail="partial"))
    text = fails(stack.up())
    assert "half of it is there" in text
    kept = stack.things()["thing"]
    assert "half of it is there" in kept["initErrors"][0]
    assert SECRET not in json.dumps(kept)
    stack.write(secret_thing())
    succeeds(stack.up())
    assert "initErrors" not in stack.things()["thing"]
    assert len(stack.resources("test")) == len({each["urn"] for each in stack.resources("test")})


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("fail", "said"),
    [("error", "no paint left for ****"), ("unexpected", "unexpected RuntimeError: login with '****' failed")],
)
def test_failures_are_words_without_secrets_or_tracebacks(stack: Project, fail: str, said: str) -> None:
    stack.write(secret_thing(fail=fail))
    text = fails(stack.up())
    assert said in text
    assert SECRET not in text
    assert "provider/server.py" not in text
    assert stack.things() == {}


@pytest.mark.timeout(300)
def test_a_timeout_says_what_was_waited_for(stack: Project) -> None:
    stack.write({**thing(fail="slow"), "timeout": "1s"})
    text = fails(stack.up())
    assert "took longer than 1 s, while: painting thing" in text


@pytest.mark.timeout(120)
def test_ctrl_c_stops_at_once_and_the_next_up_goes_on(stack: Project) -> None:
    stack.write(thing(fail="slow"))
    words = [str(PULUMI), "up", "--yes", "--skip-preview", "--stack", "test", "--non-interactive", "--color", "never"]
    running = subprocess.Popen(
        words, cwd=stack.checkout.path, env=dict(stack.checkout.env), stdout=subprocess.PIPE, text=True
    )
    while not (stack.folder / "slow").exists():
        assert running.poll() is None
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    text, _ = running.communicate(timeout=60)
    assert running.returncode != 0
    assert "the next `pulumi up` goes on" in text
    (stack.folder / "slow").unlink()
    stack.write(thing())
    succeeds(stack.up())
    assert (stack.folder / "thing").exists()


@pytest.mark.requirement("P-44")
@pytest.mark.timeout(300)
def test_keys_and_passwords_never_stand_in_the_state_in_clear(stack: Project) -> None:
    (stack.checkout.path / "__main__.py").write_text(CRYPTO)
    text = succeeds(stack.up())
    shown = succeeds(stack.pulumi("stack", "output", "--json", "--show-secrets", "--stack", "test"))
    outputs = json.loads(shown[shown.index("{") :])
    kept = stack.state_text()
    private = [line for line in outputs["private"].splitlines() if "KEY" not in line]
    for secret in (outputs["password"], private[1], "violet-Kangaroo-77-marzipan"):
        assert secret not in kept
        assert secret not in text
    assert "PRIVATE KEY" not in kept
    assert outputs["public"] in kept
    assert "6 unchanged" in succeeds(stack.up("--refresh", "--expect-no-changes"))
    succeeds(stack.pulumi("destroy", "--yes", "--skip-preview", "--stack", "test"))


@pytest.mark.timeout(300)
def test_the_schema_names_every_resource(stack: Project) -> None:
    words = ("package", "get-schema", str(project() / "vre" / "provider" / "pulumi-resource-vre"))
    text = succeeds(stack.run(PULUMI, *words))
    schema = json.loads(text[text.index("{") :])
    assert "vre:libvirt:Domain" in schema["resources"]
    assert schema["resources"]["vre:crypto:HostKey"]["properties"]["privateKey"]["secret"]
