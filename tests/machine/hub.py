"""Jupyter without a cluster: hub, proxy and users' servers as processes in a network namespace, from the same inputs.

Whatever the manifest mounts into the pods is laid out in a folder; only the spawner is another one.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from vre.errors import VreError
from vre.provider.crypto import Authority, Certificate
from vre.provider.handler import Context as Call
from vre.run import run
from vre.services import CATALOGUE, Context, Object
from vre.services.jupyter.settings import Jupyter

SPACE = "vre-hub"
DOOR = "10.99.0.1"
URL = f"https://{DOOR}/jupyter/"
INPUTS = Path(__file__).resolve().parents[2] / "vre" / "services" / "jupyter" / "image"
OVERRIDE = """
load_subconfig("{folder}/hub-config/jupyterhub_config.py")
c.JupyterHub.spawner_class = "jupyterhub.spawner.SimpleLocalProcessSpawner"
c.SimpleLocalProcessSpawner.home_dir_template = "{folder}/homes/{{username}}"
c.Spawner.ip = "127.0.0.1"
c.Spawner.cmd = ["{folder}/notebook/bin/jupyterhub-singleuser", "--allow-root"]
c.Spawner.environment = {{"PATH": "{folder}/notebook/bin:/usr/bin:/bin", "SHELL": "/bin/bash"}}
"""


@dataclass(kw_only=True)
class Stack:
    """What runs: its folder, the authority of its certificate (PEM), its processes by name."""

    folder: Path
    authority: str = ""
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def log(self, name: str) -> str:
        """Return what a process said so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def start(self, name: str, command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> None:
        """Start a process in the namespace."""
        words = ["ip", "netns", "exec", SPACE, *map(str, command)]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(words, cwd=cwd, env=env, stdout=log, stderr=subprocess.STDOUT)

    def stop(self, name: str) -> None:
        """End a process."""
        process = self.running.pop(name)
        process.terminate()
        process.wait(timeout=60)

    def note(self, annotations: Mapping[str, str]) -> None:
        """Put the ConfigMap on which machines note their reboots where the cluster's API would have it."""
        file = self.folder / "api" / "api" / "v1" / "namespaces" / "kube-system" / "configmaps" / "vre-patch"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"metadata": {"name": "vre-patch", "annotations": dict(annotations)}}))

    def status(self, path: str) -> int:
        """Return the HTTP status of a path at the door, 0 without an answer."""
        asked: list[str | Path] = [
            "curl",
            "--silent",
            "--cacert",
            self.folder / "authority.pem",
            "--output",
            "/dev/null",
        ]
        try:
            shown = run(["ip", "netns", "exec", SPACE, *asked, "--write-out", "%{http_code}", URL + path])
        except VreError:
            return 0
        return int(shown)

    def wait(self, path: str, *, seconds: float = 180) -> None:
        """Wait until a path answers 200. Raises TimeoutError with the end of the hub's log."""
        end = time.monotonic() + seconds
        while self.status(path) != 200:
            if time.monotonic() > end:
                raise TimeoutError(self.log("hub")[-3000:])
            time.sleep(1)


def environments(folder: Path) -> None:
    """Install hub, notebook and proxy from their locks."""
    uv = shutil.which("uv") or Path(sys.executable).with_name("uv")
    for name in ("hub", "notebook"):
        python = folder / name / "bin" / "python"
        run([uv, "venv", "--quiet", "--no-python-downloads", "--python", _python(), folder / name])
        lock = INPUTS / name / "requirements.txt"
        run([uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", python, "-r", lock])
    proxy = folder / "proxy"
    proxy.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(INPUTS / "proxy" / name, proxy / name)
    run(["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=proxy)


def _python() -> str:
    """Return the Python that the images have, or where to look for it."""
    ours = sorted((Path.home() / ".pyenv" / "versions").glob("3.13*/bin/python3.13"))
    return str(ours[-1]) if ours else "3.13"


@contextmanager
def jupyter(folder: Path, settings: Jupyter, passwords: Mapping[str, str]) -> Iterator[Stack]:
    """Run Jupyter behind a TLS door, with the environments in `folder`, until the test ends."""
    stack = Stack(folder=folder)
    run(["ip", "netns", "add", SPACE])
    try:
        for words in (
            ["link", "set", "lo", "up"],
            *(["addr", "add", f"{each}/32", "dev", "lo"] for each in _addresses()),
        ):
            run(["ip", "-n", SPACE, *words])
        stack.authority = _certificate(folder)
        _run_proxy(stack)
        _run_api(stack)
        run_hub(stack, settings, passwords)
        yield stack
    finally:
        for name in reversed(list(stack.running)):
            stack.stop(name)
        _end_servers()
        run(["ip", "netns", "delete", SPACE])


def run_hub(stack: Stack, settings: Jupyter, passwords: Mapping[str, str]) -> None:
    """Lay out what the hub's pod mounts, and start the hub or start it again."""
    if "hub" in stack.running:
        stack.stop("hub")
    _lay_out(stack.folder, settings, passwords)
    config = stack.folder / "override.py"
    config.write_text(OVERRIDE.format(folder=stack.folder))
    state = stack.folder / "state"
    env = {"HOME": str(state), "USER": "jupyterhub", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    program = stack.folder / "hub" / "bin" / "jupyterhub"
    stack.start("hub", [program, "--config", config], cwd=state, env=env)
    stack.wait("hub/login")


def _end_servers() -> None:
    """End what the hub leaves running on purpose: everything left in a namespace that is ours alone."""
    for pid in run(["ip", "netns", "pids", SPACE]).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _addresses() -> tuple[str, ...]:
    return (DOOR, "10.96.0.80", "10.96.0.81")


def _objects(settings: Jupyter, passwords: Mapping[str, str]) -> list[Object]:
    service = CATALOGUE["jupyter"]
    secrets = {f"password-{user}": password for user, password in passwords.items()}
    context = Context(
        host=DOOR,
        base="/jupyter/",
        images={name: name for name in service.images},
        api_servers=("10.99.0.2",),
        secrets={**secrets, "proxy-token": "t" * 48},
    )
    return service.objects(settings, context)


def _lay_out(folder: Path, settings: Jupyter, passwords: Mapping[str, str]) -> None:
    made = {(each["kind"], each["metadata"]["name"]): each for each in _objects(settings, passwords)}
    config = dict(made["ConfigMap", "hub"]["data"])
    here = {"accounts": f"{folder}/accounts", "state": f"{folder}/state", "token": f"{folder}/token/token"}
    told = json.loads(config["settings.json"])
    config["settings.json"] = json.dumps({**told, **here})
    page = config.pop("page.html")
    _write(folder / "hub-config", config)
    _write(folder / "hub-config" / "templates", {"page.html": page})
    _write(folder / "accounts", made["Secret", "accounts"]["stringData"])
    _write(folder / "token", made["Secret", "proxy"]["stringData"])
    _mount(folder / "notebook" / "etc" / "jupyter", made["ConfigMap", "notebook"]["data"], told["notebook"])
    for name in ("state", "homes"):
        (folder / name).mkdir(exist_ok=True)


def _write(folder: Path, files: Mapping[str, str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def _mount(folder: Path, data: Mapping[str, str], told: Mapping[str, Any]) -> None:
    """Lay a ConfigMap out as the kubelet does: what is seen are links into a folder that is exchanged as a whole."""
    shutil.rmtree(folder)
    for name, path in told["files"].items():
        file = folder / "..2026_11_21" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(data[name].replace(told["folder"], str(folder)))
    (folder / "..data").symlink_to("..2026_11_21")
    for top in {path.split("/")[0] for path in told["files"].values()}:
        (folder / top).symlink_to(f"..data/{top}")


def _run_api(stack: Stack) -> None:
    """Start what stands in for the cluster's API, a file server; the hub finds it where kubectl would."""
    stack.note({})
    words = ["-m", "http.server", "--bind", "127.0.0.1", "--directory", f"{stack.folder}/api", "6443"]
    stack.start("api", [sys.executable, *words], cwd=stack.folder, env={})
    here = {"server": "http://127.0.0.1:6443"}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "c", "cluster": here}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    file = stack.folder / "state" / ".kube" / "config"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(config))


def _run_proxy(stack: Stack) -> None:
    """Start the proxy as its pod does, and before it another one that stands in for the ingress with its TLS."""
    folder = stack.folder
    command = next(
        each["spec"]["template"]["spec"]["containers"][0]["command"]
        for each in _objects(Jupyter(), {"admin": "x"})
        if each["kind"] == "Deployment" and each["metadata"]["name"] == "proxy"
    )
    options = command[command.index("--ip") :]
    name = "configurable-http-proxy"
    program = ["/usr/bin/env", "node", f"{folder}/proxy/node_modules/{name}/bin/{name}"]
    path = {"PATH": f"{Path(shutil.which('node') or '/usr/bin/node').parent}:/usr/bin:/bin"}
    stack.start("proxy", [*program, *options], cwd=folder, env={**path, "CONFIGPROXY_AUTH_TOKEN": "t" * 48})
    tls = ["--ssl-key", f"{folder}/door.key", "--ssl-cert", f"{folder}/door.pem", "--ip", DOOR, "--port", "443"]
    inner = ["--api-port", "9001", "--default-target", "http://127.0.0.1:8000"]
    stack.start("door", [*program, *tls, *inner], cwd=folder, env=path)


def _certificate(folder: Path) -> str:
    authority, certificate = Authority(), Certificate()
    _, root = authority.create(Call(), authority.normalise({"commonName": "VRE test", "validDays": 30}))
    asked = {"authorityCertificate": root["certificate"], "authorityKey": root["privateKey"], "addresses": [DOOR]}
    _, leaf = certificate.create(Call(), certificate.normalise(asked))
    for name, text in (("authority.pem", root["certificate"]), ("door.pem", leaf["certificate"])):
        (folder / name).write_text(text)
    with _private(folder / "door.key") as file:
        file.write(leaf["privateKey"])
    return str(root["certificate"])


def _private(path: Path) -> IO[str]:
    path.touch(mode=0o600)
    return path.open("w")
