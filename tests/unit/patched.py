"""A machine and a cluster that are not real, for the program that upgrades a machine."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import host
import patch
import patching
import pytest
import turn
import upgrade
from alone import alone

RUNTIME = "Inst containerd [1] (2 Debian:13/stable [amd64])\n"
KERNEL = "NEEDRESTART-KCUR: a\nNEEDRESTART-KEXP: b\nNEEDRESTART-KSTA: 3\n"
UPGRADABLE = "Inst curl [1] (2 Debian:13/stable [amd64])\n"
FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >> {log}
[ ! -e {folder}/fails ] || case "$(basename "$0") $*" in *$(cat {folder}/fails)*) echo "E: said"; exit 100 ;; esac
case "$(basename "$0") $*" in
*--simulate*) [ -e {log}.installed ] || cat {folder}/upgradable ;;
*" upgrade --with-new-pkgs") touch {log}.installed ;;
"needrestart "*) cat {folder}/needrestart ;;
"apt-cache "*) printf 'runc:\\n  Installed: 1\\n  Candidate: 1\\n  Version table:\\n     2 -1\\n *** 1 100\\n' ;;
"dpkg-query "*)
    echo "containerd 1.7.24"
    [ -e {log}.installed ] && grep -q libc6 {folder}/upgradable && echo "libc6 2" || echo "libc6 1" ;;
esac
exit 0
"""
COMMANDS = ("apt-cache", "apt-get", "dpkg", "dpkg-query", "needrestart", "python3", "systemctl", "systemd-run", "wall")


class Cluster:
    """An API server for one lock, one node and its pods."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}
        self.version = 1
        self.node: dict[str, Any] = {"spec": {}, "status": {"nodeInfo": {"bootID": "one"}, "conditions": []}}
        self.pods: list[dict[str, Any]] = []
        self.stubborn = False
        self.becomes_ready_after: tuple[str, Path] | None = None  # words in a log
        self.no_events = False
        self.no_notes = False  # of a reboot: a turn can be taken
        self.loses = 0  # so many changes of the node are made, and not answered
        self.asked: list[str] = []
        self.set_ready("one")

    def set_ready(self, boot: str) -> None:
        self.node["status"] = {"nodeInfo": {"bootID": boot}, "conditions": [{"type": "Ready", "status": "True"}]}

    def _logged(self) -> str:
        log = self.becomes_ready_after[1] if self.becomes_ready_after else Path("nowhere")
        lines = log.read_text().splitlines() if log.exists() else []
        return "\n".join(line for line in lines if "--simulate" not in line)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.becomes_ready_after and self.becomes_ready_after[0] in self._logged():
            self.set_ready("one")
        self.asked.append(f"{method} {path.split('?')[0]}")
        if path.endswith("/configmaps/vre-patch"):
            if method == "PUT":
                if body["metadata"]["resourceVersion"] != str(self.version):
                    return 409, {}
                if self.no_notes and body["metadata"]["annotations"].get("vre/reboot-at"):
                    return 403, {}
                self.version += 1
                self.notes = body["metadata"]["annotations"]
            return 200, {"metadata": {"resourceVersion": str(self.version), "annotations": self.notes}}
        if path.endswith("/eviction"):
            if self.stubborn:
                return 429, {"message": "the budget needs 1"}
            self.pods = [pod for pod in self.pods if pod["metadata"]["name"] not in path]
            return 201, {}
        if path.endswith("/events") and self.no_events:
            return 403, {}
        if path.startswith("/api/v1/pods?"):
            return 200, {"items": self.pods}
        if method == "PATCH":
            self.node["spec"].update(body["spec"])
            if self.loses:
                self.loses -= 1
                return 504, {}
        return (200, self.node) if "/nodes/" in path else (201, {})


class Machine:
    """A folder that stands for a machine."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.log = root / "log"
        self.write("proc/sys/kernel/random/boot_id", "one\n")
        self.write("dev/console", "")
        self.write("upgradable", UPGRADABLE)
        self.write("needrestart", "")
        self.settings(window="00:00-24:00", name="one")
        for name in COMMANDS:
            self.write(f"bin/{name}", FAKE.format(log=self.log, folder=root))
            (root / "bin" / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{root}/bin:/usr/bin:/bin")
        monkeypatch.setattr(upgrade, "ROOM", 0)
        self.now = datetime(2026, 11, 21, 18, tzinfo=UTC)
        self.slept = timedelta()
        self.when_asleep: Callable[[], object] = lambda: None  # called as each wait begins
        monkeypatch.setattr(host, "clock", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self._sleep)
        monkeypatch.setattr(turn.Node, "__init__", self._node(turn.Node.__init__))
        monkeypatch.setattr(os, "sync", lambda: None)

    def _node(self, make: Any) -> Any:
        def init(node: Any, **values: Any) -> None:
            make(node, **{**values, "clock": lambda: self.now, "pause": self._sleep})

        return init

    def _sleep(self, seconds: float) -> None:
        self.when_asleep()
        self.now += timedelta(seconds=seconds)
        self.slept += timedelta(seconds=seconds)

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def settings(self, **values: Any) -> None:
        self.write("etc/vre/patch.json", json.dumps(values))

    def run(self) -> int:
        """Run with the disposition of signals left alone."""
        places = host.Places(root=self.root)
        with alone(places.scratch):
            return patch.Patch(host.Host(places)).run()

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "var/lib/vre/patch.json").read_text())
        return found

    @property
    def ran(self) -> list[str]:
        return self.log.read_text().splitlines()

    def did(self, *words: str) -> bool:
        return any(all(word in line for word in words) for line in self.ran)


@pytest.fixture
def cluster(machine: Machine) -> Iterator[Cluster]:
    made = Cluster()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            code, said = made.answer(self.command, self.path, body)
            text = json.dumps(said).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PUT = do_POST = do_PATCH = _do

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    machine.write(
        "etc/kubernetes/kubelet.conf", f"clusters:\n- cluster:\n    server: http://127.0.0.1:{server.server_port}\n"
    )
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def upgraded(machine: Machine) -> bool:
    return any(line.startswith("apt-get") and line.endswith(" upgrade --with-new-pkgs") and "--simulate" not in line
               for line in machine.ran)  # fmt: skip


def worker(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "status": {"phase": "Running"}}


def server(user: str) -> dict[str, Any]:
    made = worker(user)
    made["metadata"]["labels"] = {patching.USER: user}
    return made
