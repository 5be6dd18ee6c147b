"""A real authority that speaks ACME, on loopback: Pebble, and the name server that it asks, whose answers tests set."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from vre.artifacts import golang
from vre.provider.crypto import Authority, Certificate
from vre.provider.handler import Context

DAYS = 90


@dataclass(frozen=True, kw_only=True)
class Pebble:
    """Where they answer: the directory, the port of DNS, and how both are told things. `trust` is a file (PEM)."""

    directory: str
    management: str
    names: str
    port: int
    trust: Path

    def root(self) -> str:
        """Return the root (PEM) of what it issues; another at each start."""
        return httpx.get(f"{self.management}/roots/0", verify=False).text

    def tell(self, what: str, host: str, text: str) -> None:
        """Have a name show a text (`set`), or none (`clear`)."""
        body = {"host": f"{host}.", **({"value": text} if what == "set" else {})}
        httpx.post(f"{self.names}/{what}-txt", json=body).raise_for_status()

    @contextmanager
    def allowing(self, host: str, *authorities: str) -> Iterator[None]:
        """Have a name allow authorities alone (CAA) as long as the context lasts."""
        policies = [{"tag": "issue", "value": each} for each in authorities]
        httpx.post(f"{self.names}/add-caa", json={"host": f"{host}.", "policies": policies}).raise_for_status()
        try:
            yield
        finally:
            httpx.post(f"{self.names}/clear-caa", json={"host": f"{host}."}).raise_for_status()

    def asked(self, host: str) -> list[dict[str, Any]]:
        """Return the questions that were asked about a name."""
        return list(httpx.post(f"{self.names}/dns-request-history", json={"host": host}).json())


@contextmanager
def running(folder: Path) -> Iterator[Pebble]:
    """Run both as long as the context lasts."""
    programs = golang.program("pebble")
    acme, management, names, port = (_free() for _ in range(4))
    trust = _certified(folder)
    config = {
        "listenAddress": f"127.0.0.1:{acme}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(folder / "pebble.crt"),
        "privateKey": str(folder / "pebble.key"),
        "httpPort": 1,
        "tlsPort": 1,
        "retryAfter": {"authz": 1, "order": 1},
        "caaIdentities": ["pebble.letsencrypt.org"],
        "profiles": {"default": {"description": "tests", "validityPeriod": DAYS * 24 * 3600}},
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
    closed = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""]
    answering: list[str | Path] = [programs / "pebble-challtestsrv", "-dnsserver", f"127.0.0.1:{port}", *closed]
    # By itself it sleeps, refuses good nonces and forgets proofs, all by chance.
    env = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
    with (
        (folder / "pebble.log").open("w") as log,
        subprocess.Popen([*answering, "-management", f"127.0.0.1:{names}"], stdout=log, stderr=log) as server,
        subprocess.Popen(
            [programs / "pebble", "-strict", "-config", folder / "pebble.json", "-dnsserver", f"127.0.0.1:{port}"],
            stdout=log,
            stderr=log,
            env=env,
        ) as authority,
    ):
        made = Pebble(
            directory=f"https://127.0.0.1:{acme}/dir",
            management=f"https://127.0.0.1:{management}",
            names=f"http://127.0.0.1:{names}",
            port=port,
            trust=trust,
        )
        try:
            for each in (acme, management, names):
                _listens(each, folder / "pebble.log")
            yield made
        finally:
            authority.kill()
            server.kill()


def _certified(folder: Path) -> Path:
    """Give the authority's own door a certificate; return the file of what signed it."""
    top = Authority().create(Context(), {"commonName": "tests", "validDays": 2})[1]
    asked = {"names": ["localhost"], "addresses": ["127.0.0.1"], "validDays": 1}
    signer = {"authorityCertificate": top["certificate"], "authorityKey": top["privateKey"]}
    own = Certificate().create(Context(), {**asked, **signer})[1]
    (folder / "pebble.crt").write_text(own["certificate"])
    (folder / "pebble.key").write_text(own["privateKey"])
    (folder / "trust.pem").write_text(top["certificate"])
    return folder / "trust.pem"


def _free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _listens(port: int, log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nothing listens at {port}: {log.read_text()[-2000:]}")
