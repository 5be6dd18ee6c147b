"""How a launched stack is: machines, cluster, services, certificates; looked at now, judged by pure functions."""

import json
import ssl
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from vre.cli import patched, tls
from vre.cli.checks import Check, bad, good, looked, warning
from vre.cli.outputs import Node, Outputs
from vre.errors import VreError
from vre.machine.ssh import Shell

KUBECTL = ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"]
EXPIRES_SOON = timedelta(days=14)


def look(there: Outputs) -> list[Check]:
    """Return what is found on every machine, in the cluster, at every door and in every certificate."""
    found = []
    for node in there.machines:
        found += looked("machines", node.name, partial(machine, there, node))
    found += looked("cluster", "API", partial(cluster, there))
    for name, url in {"front page": there.url, **there.services}.items():
        found += looked("services", name, partial(door, name, url, there.authority))
    found += looked("certificates", "door", partial(certificates, there, datetime.now(UTC)))
    return found


def unfinished(there: Outputs, *, hint: str) -> list[Check]:
    """Return what is found on the machines of a stack whose launch did not come to its end."""
    found = [bad("launch", there.stack, "did not come to its end", hint)]
    for node in there.machines:
        found += looked("machines", node.name, partial(machine, there, node))
    return found


def machine(there: Outputs, node: Node) -> Iterator[Check]:
    """Look at one machine over SSH."""
    with Shell(there.connection(node)) as shell:
        up = float(shell.run(["cat", "/proc/uptime"]).split()[0])
        kernel = shell.run(["uname", "-r"]).strip()
        yield good("machines", node.name, f"{node.role}, {node.addresses[0]}, kernel {kernel}, up {patched.age(up)}")
        failed = json.loads(shell.run(["systemctl", "list-units", "--failed", "--output", "json"]) or "[]")
        yield from units(node.name, failed)
        yield from patched.look(node.name, patched.noted(shell.run(["sh", "-c", patched.LOOK])), datetime.now(UTC))


def units(name: str, failed: Iterable[Mapping[str, Any]]) -> Iterator[Check]:
    """Judge the machine's units that failed. Pure."""
    names = [str(unit["unit"]) for unit in failed]
    if names:
        yield bad("machines", name, f"failed: {', '.join(names)}", f"vre ssh {name} -- systemctl status {names[0]}")


def cluster(there: Outputs) -> Iterator[Check]:
    """Look at nodes and pods, as the control machine sees them."""
    with Shell(there.connection(there.machine())) as shell:
        found = json.loads(shell.run([*KUBECTL, "get", "nodes,pods", "-A", "-o", "json"], sudo=True))
        expiry = json.loads(shell.run(["kubeadm", "certs", "check-expiration", "-o", "json"], sudo=True))
    yield from nodes(found["items"], {node.name for node in there.machines})
    yield from pods(found["items"])
    yield from cluster_certificates(expiry, datetime.now(UTC))


def nodes(items: Iterable[Mapping[str, Any]], wanted: set[str]) -> Iterator[Check]:
    """Judge the cluster's nodes: each machine is one, each is ready, none is a stranger. Pure."""
    there = {str(item["metadata"]["name"]): item for item in items if item["kind"] == "Node"}
    for name in sorted(wanted - set(there)):
        yield bad("cluster", name, "is no node of the cluster", f"vre logs kubelet -m {name}")
    for name in sorted(set(there) - wanted):
        yield bad("cluster", name, "a node that the stack does not know")
    for name in sorted(wanted & set(there)):
        state = there[name]["status"]
        version = state["nodeInfo"]["kubeletVersion"]
        ready: Mapping[str, Any] = next((each for each in state.get("conditions", []) if each["type"] == "Ready"), {})
        if ready.get("status") == "True":
            yield good("cluster", name, f"ready, Kubernetes {version}")
        else:
            yield bad("cluster", name, f"not ready: {ready.get('message', 'unknown')}", f"vre logs kubelet -m {name}")


def pods(items: Iterable[Mapping[str, Any]]) -> Iterator[Check]:
    """Judge the cluster's pods. Pure."""
    every = [item for item in items if item["kind"] == "Pod" and item["status"].get("phase") != "Succeeded"]
    waiting = [item for item in every if not _pod_ready(item)]
    for item in waiting:
        name = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
        yield bad("cluster", name, _pod_reason(item), f"vre logs {item['metadata']['name']}")
    if not waiting:
        yield good("cluster", "pods", f"all {len(every)} ready")


def _pod_ready(item: Mapping[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in item["status"].get("conditions", []))


def _pod_reason(item: Mapping[str, Any]) -> str:
    for container in item["status"].get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            return f"{waiting.get('reason', 'waiting')}: {waiting.get('message', '')}".rstrip(": ")
    return f"not ready ({item['status'].get('phase', 'unknown')})"


def cluster_certificates(told: Mapping[str, Any], now: datetime) -> Iterator[Check]:
    """Judge the cluster's own certificates. Pure."""
    dates = [each.get("expirationDate") for each in told.get("certificates", [])]
    ends = [datetime.fromisoformat(str(date)) for date in dates if date]
    if ends:
        yield expires("cluster", "own certificates", min(ends), now, hint="vre ssh -- sudo kubeadm certs renew all")


def door(name: str, url: str, authority: str) -> Iterator[Check]:
    """Ask one address over https, with the chain verified against the stack's authority."""
    import httpx

    context = ssl.create_default_context(cadata=authority)
    try:
        answer = httpx.get(url, verify=context, timeout=20, follow_redirects=True, trust_env=False)
    except httpx.HTTPError as error:
        raise VreError(
            f"{url}: {error or type(error).__name__}", hint="vre status shows the pods, vre logs traefik the door"
        ) from error
    told = f"{url} answers {answer.status_code} in {answer.elapsed.total_seconds():.1f} s"
    yield good("services", name, told) if answer.is_success else bad("services", name, told, "vre logs traefik")


def certificates(there: Outputs, now: datetime) -> Iterator[Check]:
    """Look at the certificate that the door shows, and at the authority that signed it."""
    yield expires(
        "certificates", "door", tls.shown(there.url, there.authority), now, hint=f"pulumi up -s {there.stack} renews it"
    )
    if there.authority:
        yield expires("certificates", "authority", tls.not_after(there.authority), now, hint="launch the stack anew")


def expires(area: str, name: str, end: datetime, now: datetime, *, hint: str) -> Check:
    """Judge when a certificate ends. Pure."""
    left = end - now
    told = f"until {end:%Y-%m-%d} ({left.days} days)"
    if left < timedelta(0):
        return bad(area, name, f"ended on {end:%Y-%m-%d}", hint)
    return warning(area, name, told, hint) if left < EXPIRES_SOON else good(area, name, told)
