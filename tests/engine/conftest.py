"""The real engine on a clone of the project: state, passphrase and key of its own, and no hypervisor."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import Checkout, clone, environment
from vre.paths import project

PULUMI = Path(sys.prefix, "bin", "pulumi")


@dataclass(frozen=True, kw_only=True)
class Told:
    """How a command ended and what it said."""

    code: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The engine, run in a clone."""

    checkout: Checkout

    def run(self, *words: str | Path, env: Mapping[str, str] | None = None, stdin: str = "") -> Told:
        """Run a command in the clone to its end."""
        done = subprocess.run(
            [str(word) for word in words], cwd=self.checkout.path, env={**self.checkout.env, **(env or {})},
            input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False,
        )  # fmt: skip
        return Told(code=done.returncode, text=done.stdout)

    def pulumi(self, *words: str, env: Mapping[str, str] | None = None, stdin: str = "") -> Told:
        """Run the engine."""
        return self.run(PULUMI, *words, "--non-interactive", "--color", "never", env=env, stdin=stdin)

    def stack(self, name: str, config: str) -> None:
        """Make a stack with what stands below `config:` in its file."""
        self.checkout.stack(name, f"config:\n{config}")
        told = self.pulumi("stack", "init", name, "--secrets-provider", "passphrase")
        assert told.code == 0, told.text

    def preview(self, name: str, *flags: str, env: Mapping[str, str] | None = None) -> Told:
        """Preview a stack."""
        return self.pulumi("preview", "--stack", name, *flags, env=env)

    def resources(self, name: str) -> list[dict[str, Any]]:
        """Return what stands in a stack's state."""
        told = self.pulumi("stack", "export", "--stack", name)
        assert told.code == 0, told.text
        return list((json.loads(told.text).get("deployment") or {}).get("resources") or [])


def small(folder: Path, name: str, program: str) -> Checkout:
    """Write a program of a few lines that has the project's own plugin, with a state of its own beside it."""
    place, state = folder / "program", folder / "state"
    place.mkdir()
    (state / "state").mkdir(parents=True)
    (state / "passphrase").write_text("a passphrase of the tests, worth nothing")
    plugin = {"name": "vre", "path": str(project() / "vre" / "provider")}
    settings = {"name": name, "runtime": "python", "plugins": {"providers": [plugin]}}
    (place / "Pulumi.yaml").write_text(json.dumps(settings))
    (place / "__main__.py").write_text(program)
    return Checkout(path=place, env=environment(project(), state))


@pytest.fixture(scope="session")
def pulumi_program() -> Path:
    """The engine that set-up puts into the environment."""
    if not PULUMI.exists():
        pytest.fail("there is no engine in this environment; run: make setup", pytrace=False)
    return PULUMI


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A clone for all tests of this folder."""
    return clone(tmp_path_factory.mktemp("engine") / "clone")


@pytest.fixture(scope="session")
def engine(checkout: Checkout, pulumi_program: Path) -> Engine:
    """The engine in that clone."""
    return Engine(checkout=checkout)


@pytest.fixture
def own_engine(tmp_path: Path, pulumi_program: Path) -> Engine:
    """The engine in a clone of this test's own, which it may change."""
    return Engine(checkout=clone(tmp_path / "clone"))
