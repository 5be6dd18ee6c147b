"""A whole launch from a release that is no one's current one yet: in a copy of the project, with state of its own."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import SSlibKey

from vre import atomic, paths
from vre.errors import VreError
from vre.progress import Report
from vre.release import channel, envelope
from vre.release.cell import Door, run_cell
from vre.release.channel import Channel, Pointer
from vre.release.verify import Release
from vre.run import run
from vre.setup.secrets import ensure_image_key, ensure_key, ensure_passphrase

NAME = "image-test"
CACHES = ("__pycache__", "*.egg-info", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis")
LEFT_BEHIND = (".git", ".venv", ".vre", "dist", *CACHES)
STACK = f"""config:
  vre:name: {NAME}
  vre:cloud:
    {{provider: libvirt, network: 192.168.94.0/24, network6: "fd76:7265:94::/64", image: current, mode: MODE}}
  vre:access: {{keys: [.vre/id_ed25519.pub]}}
  vre:machines: {{control: {{size: {{cpus: 2, memory: 3}}, disk: 10, data: 2}}}}
  vre:services: {{jupyter: {{admin: researcher}}}}
"""
"""Like stack `local`, smaller, and on a network of its own. MODE is `mode`'s word."""
PATIENCE = 1800.0
"""Seconds that a user's server and a cell may take, each: the machine may be an emulated one."""
LONGEST = 5400.0


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A copy of the project with state of its own, and the environment in which its commands run."""

    path: Path
    env: Mapping[str, str]

    @property
    def state(self) -> Path:
        """Where it keeps what `vre.paths.state` keeps."""
        return Path(self.env["VRE_STATE"])

    @property
    def backend(self) -> Path:
        """Where the engine keeps its state."""
        return Path(self.env["PULUMI_BACKEND_URL"].removeprefix("file://"))

    @property
    def logs(self) -> Path:
        """Where the engine keeps the logs of its own runs."""
        return Path(self.env["PULUMI_HOME"]) / "logs"

    def stack(self, name: str, text: str) -> Path:
        """Write a stack file."""
        file = self.path / "stacks" / f"Pulumi.{name}.yaml"
        file.write_text(text)
        return file

    def vre(self, *words: str, log: Path) -> None:
        """Run our command; what it says goes to `log`. Raises VreError with the end of that when it fails."""
        command = [sys.executable, "-m", "vre.cli.main", *words]
        run(command, cwd=self.path, env=self.env, timeout=LONGEST, output=log, hint=f"all of it: {log}")


def clone(target: Path) -> Checkout:
    """Copy what makes up the project to `target`; its Python environment is shared."""
    source = paths.project()
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_BEHIND), dirs_exist_ok=True, symlinks=True)
    (target / ".venv").symlink_to(source / ".venv")
    state = target / ".vre"
    (state / "state").mkdir(parents=True)
    state.chmod(0o700)
    (state / "state").chmod(0o700)
    for file in (target / "stacks").glob("Pulumi.*.yaml"):
        # What the engine noted there belongs to the stacks of the checkout.
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if not line.startswith("encryptionsalt:")))
    ensure_passphrase(state)
    ensure_key(state)
    return Checkout(path=target, env=environment(target, state))


def environment(target: Path, state: Path) -> dict[str, str]:
    """Return a closed environment: nothing of whoever runs the tests leads a launch elsewhere."""
    names = ("HOME", "LANG", "TERM", "VRE_CACHE", "XDG_CACHE_HOME")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    folders = [f"{sys.prefix}/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    return {
        **kept,
        "PATH": ":".join(folders),
        "PYTHONPATH": str(target),
        "VRE_STATE": str(state),
        "PULUMI_HOME": str(state / "engine"),
        "PULUMI_BACKEND_URL": f"file://{state / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(state / "passphrase"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }


def stack(release: Release) -> str:
    """Return the stack file that a release is tried with.

    Where it was made from one moment of Debian's archive, its machine reaches no mirror: what is announced as tested
    must not have been tested together with anything newer.
    """
    return STACK.replace("MODE", "isolated" if release.manifest.moment else "nat")


def offered(checkout: Checkout, release: Release, keys: list[SSlibKey]) -> None:
    """Make a release the current one of a copy's own channel, signed by the copy's own key, and trust its signer."""
    home = checkout.state / "images"
    (home / channel.RELEASES).mkdir(parents=True)
    (home / channel.RELEASES / release.manifest.id).symlink_to(release.folder.resolve())
    pointer = Pointer(id=release.manifest.id, manifest=hashlib.sha256(release.told).hexdigest())
    signer = envelope.signer(str(ensure_image_key(checkout.state)))
    now = channel.promoted(Channel(), pointer, datetime.now(UTC))
    atomic.write(home / channel.FILE, envelope.sealed(channel.text(now), channel.KIND, signer))
    for number, key in enumerate(keys):
        atomic.write(checkout.path / "build" / "trusted" / f"{number}.pub", envelope.pem(key))


@contextmanager
def launched(release: Release, keys: list[SSlibKey], folder: Path, report: Report) -> Iterator[Mapping[str, Any]]:
    """Launch a stack from a release in a copy of the project below `folder`, give its outputs, and take it down.

    What a killed run left there is taken down first. What its commands said is in launch.log there. Raises VreError
    with what failed; the stack is taken down then, too.
    """
    _tidy(folder)
    checkout, log = clone(folder / "project"), folder / "launch.log"
    offered(checkout, release, keys)
    checkout.stack(NAME, stack(release))
    try:
        report("the stack is launched")
        checkout.vre("up", "-s", NAME, log=log)
        told = run(
            [Path(sys.prefix, "bin", "pulumi"), "stack", "output", "--json", "--show-secrets", "--stack", NAME],
            cwd=checkout.path, env=checkout.env,
        )  # fmt: skip
        outputs: Mapping[str, Any] = json.loads(told)
        yield outputs
    except BaseException:
        with suppress(VreError):  # what failed first is what is told
            checkout.vre("down", "-s", NAME, "--yes", log=log)
        raise
    report("the stack is taken down")
    checkout.vre("down", "-s", NAME, "--yes", log=log)


def nodes(folder: Path) -> str:
    """Return the nodes of the stack that is launched below a folder, as kubectl tells them in JSON. Raises VreError."""
    checkout = _there(folder)
    command = [sys.executable, "-m", "vre.cli.main", "kubectl", "-s", NAME, "get", "nodes", "--output", "json"]
    return run(command, cwd=checkout.path, env=checkout.env, timeout=PATIENCE)


def _there(folder: Path) -> Checkout:
    """Return the copy of the project that was made below a folder."""
    path = folder / "project"
    return Checkout(path=path, env=environment(path, path / ".vre"))


def _tidy(folder: Path) -> None:
    """Take down what a run that was killed left running."""
    left = _there(folder)
    if (left.path / "stacks" / f"Pulumi.{NAME}.yaml").exists():
        left.vre("down", "-s", NAME, "--yes", log=folder / "launch.log")
    shutil.rmtree(folder, ignore_errors=True)


def cell(outputs: Mapping[str, Any], report: Report) -> str:
    """Return what a cell says that was run through the door of a launched stack. Raises VreError with what failed."""
    user = str(outputs["user"])
    door = Door(
        url=str(outputs["services"]["jupyter"]), user=user, password=str(outputs["password"]),
        authority=str(outputs["authority"]),
    )  # fmt: skip
    return run_cell(door, "print(6 * 7)", patience=PATIENCE, report=report)
