"""Bad input through the real engine: every fault in our words, no traceback, nothing touched, a non-zero exit."""

import sys
from pathlib import Path

import pytest

from tests.checkout import Checkout
from tests.engine.conftest import Engine, Told

FAULTY = """\
  vre:name: Bad Name
  vre:cloud: {provider: libvirt, netwrok: 192.168.78.0/24}
  vre:access: {keys: [.vre/id_ed25519.pub], operators: [0.0.0.0/0]}
  vre:machines:
    control: {size: {cpus: 2, memory: 0.5}, disk: 2}
  vre:servces: {}
"""
GOOD = """\
  vre:name: {name}
  vre:cloud: {{provider: libvirt}}
  vre:access: {{keys: [.vre/id_ed25519.pub]}}
  vre:services:
    jupyter: {{admin: researcher}}
"""
NOISE = ("Traceback", 'File "', "KeyboardInterrupt", "pydantic")


def without_noise(told: Told) -> None:
    assert [word for word in NOISE if word in told.text] == [], told.text


def test_every_fault_is_shown_with_line_reason_and_example(engine: Engine) -> None:
    engine.stack("faulty", FAULTY)
    for action in ("preview", "up"):
        told = engine.pulumi(action, "--stack", "faulty", *(["--yes"] if action == "up" else []))
        assert told.code != 0
        without_noise(told)
        for part in (
            "stacks/Pulumi.faulty.yaml:2: vre:name:",
            "did you mean network?",
            "0.0.0.0/0 is everybody",
            "stacks/Pulumi.faulty.yaml:6: vre:machines.control.size",
            "vre:machines.control.disk",
            "did you mean services?",
            "for example:",
            "nothing was changed",
        ):
            assert part in told.text, f"{part} is missing in:\n{told.text}"
    assert [each["type"] for each in engine.resources("faulty")] in ([], ["pulumi:pulumi:Stack"])


def test_our_own_command_says_the_same(engine: Engine) -> None:
    engine.checkout.stack("faulty-too", f"config:\n{FAULTY}")
    for words in (("check", "-s", "faulty-too"), ("up", "-s", "faulty-too")):
        told = engine.run(Path(sys.prefix, "bin", "vre"), *words)
        assert told.code != 0
        without_noise(told)
        assert "did you mean network?" in told.text
        assert "0.0.0.0/0 is everybody" in told.text


def test_a_missing_stack_is_no_traceback(engine: Engine) -> None:
    told = engine.run(Path(sys.prefix, "bin", "vre"), "check", "-s", "nowhere")
    assert told.code != 0
    without_noise(told)
    assert "no such stack file" in told.text


def test_a_private_key_is_refused_and_not_repeated(engine: Engine) -> None:
    private = (engine.checkout.state / "id_ed25519").read_text()
    body = private.splitlines()[2]
    lines = "".join(f"      {line}\n" for line in private.splitlines())
    given = f"  vre:cloud: {{provider: libvirt}}\n  vre:access:\n    keys:\n    - |\n{lines}"
    engine.stack("private", given)
    told = engine.preview("private")
    assert told.code != 0
    without_noise(told)
    assert "PRIVATE key" in told.text
    assert body not in told.text


@pytest.mark.requirement("P-37")
@pytest.mark.parametrize("password", ["password1", "researcher2026", "aaaaaaaaaaaaaaaaaaaa", "qwertyuiop123"])
def test_a_weak_password_is_refused_before_any_resource(engine: Engine, password: str) -> None:
    name = f"weak{password[:1]}"
    engine.stack(name, GOOD.format(name=name))
    path = "vre:services.jupyter.password"
    told = engine.pulumi("config", "set", "--stack", name, "--secret", "--path", path, stdin=password)
    assert told.code == 0, told.text
    assert password not in (engine.checkout.path / "stacks" / f"Pulumi.{name}.yaml").read_text()
    told = engine.pulumi("up", "--stack", name, "--yes")
    assert told.code != 0
    without_noise(told)
    assert "password" in told.text
    assert password not in told.text
    made = [each["type"] for each in engine.resources(name) if "libvirt" in each["type"]]
    assert made == []


def test_a_wrong_passphrase_is_refused(engine: Engine) -> None:
    engine.stack("sealed", GOOD.format(name="sealed"))
    told = engine.pulumi("config", "set", "--stack", "sealed", "--secret", "vre:sealed", stdin="to be kept")
    assert told.code == 0, told.text
    other = {"PULUMI_CONFIG_PASSPHRASE": "another one", "PULUMI_CONFIG_PASSPHRASE_FILE": ""}
    told = engine.preview("sealed", env=other)
    assert told.code != 0
    without_noise(told)
    assert "incorrect passphrase" in told.text
    told = engine.run(Path(sys.prefix, "bin", "vre"), "status", "-s", "sealed", env=other)
    assert told.code != 0
    without_noise(told)
    assert "another one" not in told.text


def test_an_engine_that_is_too_old_is_refused(own_engine: Engine) -> None:
    project = own_engine.checkout.path / "Pulumi.yaml"
    own_engine.stack("old", GOOD.format(name="old"))
    text = project.read_text()
    assert 'requiredPulumiVersion: ">=3.259.0"' in text
    project.write_text(text.replace(">=3.259.0", ">=9.0.0"))
    told = own_engine.preview("old")
    assert told.code != 0
    without_noise(told)
    assert "9.0.0" in told.text


def test_a_passphrase_that_others_can_read_is_refused(own_engine: Engine) -> None:
    own_engine.stack("open", GOOD.format(name="open"))
    (own_engine.checkout.state / "passphrase").chmod(0o644)
    closed = {name: value for name, value in own_engine.checkout.env.items() if "PASSPHRASE" not in name}
    engine = Engine(checkout=Checkout(path=own_engine.checkout.path, env=closed))
    told = engine.run(Path(sys.prefix, "bin", "vre"), "check", "-s", "open")
    assert told.code != 0
    assert "chmod 600" in told.text
