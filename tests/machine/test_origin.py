"""The origin behind a proxy, on a real machine: who is not in its networks, or has not its certificate, is refused.

Cloudflare cannot come here. The host at an operator's address stands in for its networks, an authority of this test's
own for the one whose certificate Cloudflare shows. The ingress is told what `edge: cloudflare` tells it, and afterwards
what it was told before.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.machine.conftest import Launch
from tests.machine.lab import Host
from tests.machine.stack import Machine, Say
from vre.cluster import objects
from vre.provider import crypto
from vre.provider.handler import Context, Props

TIMED_OUT = 28
"""What curl ends with when nobody answers."""
RESTARTED = "kubectl.kubernetes.io/restartedAt"


def made(handler: Any, **inputs: Any) -> Props:
    outputs: Props = handler.create(Context(), handler.normalise(inputs))[1]
    return outputs


@dataclass(frozen=True, kw_only=True)
class Origin:
    """An ingress that demands a certificate, and files that hold some."""

    url: str
    trust: Path
    folder: Path

    def certificate(self, name: str, authority: Props) -> Path:
        """Have a client's certificate signed; return the file with it and its key."""
        issued = made(
            crypto.Certificate(), authorityCertificate=authority["certificate"], authorityKey=authority["privateKey"],
            names=["phenome.example.org"], usage="client",
        )  # fmt: skip
        file = self.folder / f"{name}.pem"
        file.write_text(issued["certificate"] + issued["privateKey"])
        return file

    def ask(self, host: Host, certificate: Path | None = None) -> tuple[int, str]:
        """Ask from a host; return curl's exit code and the status, 000 for none."""
        shown = ("--cert", certificate) if certificate else ()
        flags = ("-s", "-o", "/dev/null", "-m", "20", "-w", "%{http_code}", "--cacert", self.trust)
        done = host.result("curl", *flags, *shown, self.url)
        return done.returncode, done.stdout


def patch(control: Machine, kind: str, name: str, change: dict[str, Any]) -> None:
    control.kubectl("patch", kind, name, "-n", objects.INGRESS, "--type", "merge", "-p", json.dumps(change))


def restart(control: Machine, at: str | None) -> None:
    metadata = {"annotations": {RESTARTED: at}}
    patch(control, "daemonset", "traefik", {"spec": {"template": {"metadata": metadata}}})
    control.kubectl("rollout", "status", "daemonset/traefik", "-n", objects.INGRESS, "--timeout=600s")


def demanded(routes: str) -> str:
    """Return the ingress's own settings with what is demanded behind Cloudflare."""
    shown = objects.Certificate(chain="", private_key="", clients="")
    told = next(
        each["data"]["routes.yaml"]
        for each in objects.ingress({"traefik": ""}, shown, [])
        if each["kind"] == "ConfigMap"
    )
    asked, now = yaml.safe_load(told), yaml.safe_load(routes)
    now["tls"]["options"] = asked["tls"]["options"]
    now["http"]["middlewares"]["rate"] = asked["http"]["middlewares"]["rate"]
    return yaml.safe_dump(now)


@pytest.fixture(scope="module")
def authority() -> Props:
    return made(crypto.Authority(), commonName="VRE phenome edge")


@pytest.fixture(scope="module")
def origin(site: Launch, authority: Props, say: Say, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    say("having the ingress demand a certificate, as behind Cloudflare")
    control, folder = site.control, tmp_path_factory.mktemp("origin")
    [settings] = control.objects("configmap", "traefik", "--namespace", objects.INGRESS)
    before = settings["data"]["routes.yaml"]
    assert "clientAuth" not in before
    trust = folder / "authority.crt"
    trust.write_text(site.outputs["authority"])
    try:
        patch(control, "secret", "certificate", {"stringData": {objects.CLIENTS: authority["certificate"]}})
        patch(control, "configmap", "traefik", {"data": {"routes.yaml": demanded(before)}})
        restart(control, "2026-01-01T00:00:00Z")
        yield Origin(url=site.outputs["services"]["jupyter"] + "hub/login", trust=trust, folder=folder)
    finally:
        patch(control, "configmap", "traefik", {"data": {"routes.yaml": before}})
        patch(control, "secret", "certificate", {"data": {objects.CLIENTS: None}})
        restart(control, None)


@pytest.mark.requirement("P-20", "P-100")
def test_the_proxy_is_served_with_its_certificate_only(origin: Origin, outside: Host, authority: Props) -> None:
    assert origin.ask(outside, origin.certificate("right", authority)) == (0, "200")
    code, status = origin.ask(outside)
    assert (code not in {0, TIMED_OUT}, status) == (True, "000")
    another = made(crypto.Authority(), commonName="VRE phenome edge")
    code, status = origin.ask(outside, origin.certificate("wrong", another))
    assert (code not in {0, TIMED_OUT}, status) == (True, "000")


@pytest.mark.requirement("P-100")
def test_who_is_not_in_the_proxys_networks_is_not_even_heard(origin: Origin, stranger: Host, authority: Props) -> None:
    assert origin.ask(stranger, origin.certificate("taken", authority)) == (TIMED_OUT, "000")
