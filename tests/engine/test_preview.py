"""What a preview of the default stack is like: it works with nothing launched, shows no secret, and stays small."""

import json
import subprocess
import sys

import pytest

from tests.engine.conftest import Engine
from tests.engine.simulated import search
from vre.paths import project

SECRET = "a-long-password-for-the-tests-48215"
STACK = """\
  vre:name: seen
  vre:cloud: {provider: libvirt}
  vre:access: {keys: [.vre/id_ed25519.pub]}
  vre:machines: {workers: {count: 1}}
  vre:services:
    jupyter: {admin: researcher}
"""
HEAVY = ("pulumi_aws", "pulumi_gcp", "pulumi_azure_native", "pulumi_openstack", "pulumi_cloudflare", "boto3")
MEMORY = 250 * 1024  # KiB; the SDK alone takes 50 MiB, a cloud's would add as much again


def _have_stack(engine: Engine) -> None:
    """Have the stack `seen`, which the first test that wants it makes."""
    if not (engine.checkout.path / "stacks" / "Pulumi.seen.yaml").exists():
        engine.stack("seen", STACK)


def test_the_default_stack_can_be_previewed_with_nothing_launched(engine: Engine) -> None:
    told = engine.pulumi("stack", "init", "local", "--secrets-provider", "passphrase")
    assert told.code == 0, told.text
    told = engine.preview("local")
    assert told.code == 0, told.text
    for kind in ("libvirt:Network", "libvirt:Domain", "machine:Machine", "cluster:ControlPlane", "service:Door"):
        assert f"vre:{kind}" in told.text
    for output in ("url", "services", "user", "password", "authority", "machines"):
        assert f"{output}" in told.text
    assert engine.resources("local") == []


@pytest.mark.requirement("P-37", "P-44")
def test_a_given_password_is_shown_nowhere(engine: Engine) -> None:
    engine.stack("seen", STACK)
    path = "vre:services.jupyter.password"
    told = engine.pulumi("config", "set", "--stack", "seen", "--secret", "--path", path, stdin=SECRET)
    assert told.code == 0, told.text
    for flags in ((), ("--diff", "--show-reads", "--show-sames"), ("--json",)):
        told = engine.preview("seen", *flags)
        assert told.code == 0, told.text
        assert SECRET not in told.text
        assert "PRIVATE KEY" not in told.text
    kept = [engine.checkout.path / "stacks", engine.checkout.state]
    files = [file for folder in kept for file in folder.rglob("*") if file.is_file()]
    assert any(engine.checkout.logs in file.parents for file in files)
    assert [file for file in files if search.inside(SECRET, file.read_bytes())] == []


def test_a_second_machine_is_in_the_preview(engine: Engine) -> None:
    _have_stack(engine)
    told = engine.preview("seen", "--json")
    kinds = [step["newState"]["type"] for step in json.loads(told.text)["steps"]]
    assert kinds.count("vre:libvirt:Domain") == 2
    assert kinds.count("vre:cluster:Worker") == 1


def test_what_the_sdk_tells_its_own_developers_is_sent_when_asked_for(engine: Engine) -> None:
    _have_stack(engine)
    quiet = engine.preview("seen", "--debug")
    told = engine.pulumi("preview", "--stack", "seen", "--debug", env={"VRE_DEBUG": "1"})
    assert (quiet.code, told.code) == (0, 0), told.text
    assert "resource registration prepared" not in quiet.text
    assert "resource registration prepared" in told.text


def test_no_sdk_of_another_cloud_is_imported() -> None:
    program = "import sys, vre.launch, vre.clouds.libvirt; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], cwd=project(), capture_output=True, text=True, check=True)
    assert "pulumi" in told.stdout.split()
    assert [name for name in HEAVY if name in told.stdout.split()] == []


def test_the_program_stays_small() -> None:
    # Not getrusage: a child's highest figure there starts from what its parent had when it was forked.
    program = "import vre.launch, vre.clouds.libvirt; print(open('/proc/self/status').read())"
    told = subprocess.run([sys.executable, "-c", program], cwd=project(), capture_output=True, text=True, check=True)
    highest = next(line for line in told.stdout.splitlines() if line.startswith("VmHWM:"))
    assert 0 < int(highest.split()[1]) < MEMORY


def test_the_plugin_imports_nothing_that_builds() -> None:
    program = "import sys; from vre.provider import registry as r; [r.handler(each) for each in r.MODULES]; "
    words = [sys.executable, "-c", program + "print(*sys.modules)"]
    told = subprocess.run(words, cwd=project(), capture_output=True, text=True, check=True)
    assert "vre.provider.software" in told.stdout.split()
    assert [name for name in ("vre.image", "vre.packages", "vre.artifacts.golang") if name in told.stdout.split()] == []
