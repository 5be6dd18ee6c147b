"""Whether a running stack is as closed as it should be: tried from here and looked at on the machines, now."""

import json
import socket
import ssl
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paramiko

from vre.cli import host, tls
from vre.cli.checks import Check, bad, good, looked, warning
from vre.cli.outputs import Node, Outputs
from vre.config import Config
from vre.errors import VreError
from vre.machine.ssh import LoginRefused, Shell, parse_key
from vre.policy import Policy

CLOSED = (2379, 2380, 6443, 10250, 10256, 10257, 10259, 30000)
"""Ports that a cluster opens by itself: to nobody outside it. 30000 stands for node ports."""
KUBECTL = ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"]
OWN = {"kube-system", "kube-public", "kube-node-lease"}
"""Kubernetes' own namespaces: only its operators may make pods there."""
TRIAL = "vre-audit-"
APPROVAL_ENDS_SOON = timedelta(days=60)
"""A committee takes its time to extend an approval."""
CANONICAL = "nft -f - && nft -s list table inet vre"


def look(there: Outputs, config: Config) -> list[Check]:
    """Return what was tried."""
    from vre import clouds

    policy = clouds.policy(config)
    found = []
    for node in there.machines:
        found += looked("doors", node.name, partial(ports, node))
        found += looked("logins", node.name, partial(logins, there, node))
        found += looked("firewall", node.name, partial(firewall, there, node, config, policy))
        found += looked(host.AREA, node.name, partial(host.look, there, node))
    found += looked("tls", "door", partial(door, there, proxied=config.edge.provider == "cloudflare"))
    found += looked("cluster", "policies", partial(cluster, there))
    found += looked("data", "approval", partial(approval, config, date.today()))
    return found + looked("here", "secrets", secrets)


def ports(node: Node) -> Iterator[Check]:
    """Knock at the ports that are for nodes only."""
    for address in node.addresses:
        answered = [port for port in CLOSED if answers(address, port)]
        name = f"{node.name} {address}"
        if answered:
            yield bad("doors", name, f"answers on {', '.join(map(str, answered))}", "vre audit shows the firewall, too")
        else:
            yield good("doors", name, f"closed from here: {', '.join(map(str, CLOSED))}")


def answers(address: str, port: int, *, timeout: float = 2.0) -> bool:
    """Say whether a TCP port lets us in."""
    try:
        with socket.create_connection((address, port), timeout=timeout):
            return True
    except OSError:
        return False


def logins(there: Outputs, node: Node) -> Iterator[Check]:
    """Ask for a login without a key, and for root's with one."""
    ways = login_ways(node)
    if ways == ["publickey"]:
        yield good("logins", node.name, "SSH takes keys only")
    else:
        yield bad("logins", node.name, f"SSH takes {', '.join(ways)}", "PasswordAuthentication no")
    try:
        with Shell(replace(there.connection(node), user="root")):
            yield bad("logins", f"{node.name} root", "root may log in", "PermitRootLogin no")
    except LoginRefused:
        yield good("logins", f"{node.name} root", "root may not log in")


def login_ways(node: Node) -> list[str]:
    """Return the ways to log in that a machine offers, having checked its host key."""
    try:
        with socket.create_connection((node.addresses[0], 22), timeout=20) as line:
            transport = paramiko.Transport(line)
            try:
                transport.start_client(timeout=20)
                if transport.get_remote_server_key() not in [parse_key(key) for key in node.host_keys]:
                    raise VreError(f"{node.name} shows a host key that is not pinned")
                transport.auth_none("vre")
            except paramiko.BadAuthenticationType as error:
                return list(error.allowed_types)
            finally:
                transport.close()
    except (OSError, paramiko.SSHException) as error:
        raise VreError(f"no SSH at {node.name}: {error}") from error
    return ["nothing at all: everybody is let in"]


def firewall(there: Outputs, node: Node, config: Config, policy: Policy) -> Iterator[Check]:
    """Compare the firewall that a machine has loaded with the one that the policy asks for."""
    from vre.clouds.site import rules
    from vre.plan import plan

    machine = next(each for each in plan(config).machines if each.name == node.name)
    with Shell(there.connection(node)) as shell:
        loaded = shell.run(["nft", "-s", "list", "table", "inet", "vre"], sudo=True)
        asked = shell.run(["unshare", "--net", "sh", "-c", CANONICAL], stdin=rules(config, policy, machine), sudo=True)
    if loaded.strip() == asked.strip():
        count = sum("accept" in line for line in loaded.splitlines())
        yield good("firewall", node.name, f"as the policy says ({count} rules let something through)")
    else:
        yield bad("firewall", node.name, "differs from the policy", f"pulumi up --refresh -s {there.stack} mends it")


def door(there: Outputs, *, proxied: bool) -> Iterator[Check]:
    """Try what a door must refuse: old TLS, and answers in the clear."""
    tls.shown(there.url, there.authority)
    yield good("tls", "chain", f"valid, from {'the stack' if there.authority else 'a public'}'s authority")
    old = [version.name for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1) if tls.speaks(there.url, version)]
    yield versions(old, proxied=proxied)
    yield plain(there.url)


def versions(old: Sequence[str], *, proxied: bool) -> Check:
    """Judge which old versions of TLS a door speaks; of a zone at Cloudflare its owner decides that. Pure."""
    if not old:
        return good("tls", "versions", "TLS 1.2 and newer only")
    told = f"speaks {', '.join(old)}"
    if proxied:
        hint = "raise the zone's Minimum TLS Version (SSL/TLS, Edge Certificates), if its other sites allow it"
        return warning("tls", "versions", f"{told}, and refuses every request by it", hint)
    return bad("tls", "versions", told)


def plain(url: str) -> Check:
    """Ask in the clear: nothing but the way to https may come back."""
    import httpx

    address = f"http://{urlsplit(url).netloc}/"
    try:
        answer = httpx.get(address, timeout=20, trust_env=False)
    except httpx.HTTPError:
        return good("tls", "http", "does not answer")
    if answer.is_redirect and answer.headers.get("location", "").startswith("https://"):
        return good("tls", "http", "answers only a redirect to https")
    return bad("tls", "http", f"answers {answer.status_code} in the clear")


def cluster(there: Outputs) -> Iterator[Check]:
    """Look at the network policies of every namespace, and try a privileged pod in each."""
    with Shell(there.connection(there.machine())) as shell:
        told = shell.run([*KUBECTL, "get", "namespaces,networkpolicies", "-A", "-o", "json"], sudo=True)
        items = json.loads(told)["items"]
        spaces = [str(item["metadata"]["name"]) for item in items if item["kind"] == "Namespace"]
        pods = json.dumps({"apiVersion": "v1", "kind": "List", "items": [_privileged(space) for space in spaces]})
        # Nothing is made, and most of it is refused: that is no failure here.
        trial = ["sh", "-c", '"$@" || true', "sh", *KUBECTL, "create", "--dry-run=server", "--validate=false"]
        admitted = shell.run([*trial, "-o", "name", "-f", "-"], stdin=pods, sudo=True)
    yield default_deny(items)
    yield pod_security(items, {line.removeprefix(f"pod/{TRIAL}") for line in admitted.split()})


def _privileged(space: str) -> dict[str, Any]:
    container = {"name": "trial", "image": "none", "securityContext": {"privileged": True}}
    spec = {"hostPID": True, "hostNetwork": True, "containers": [container]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{TRIAL}{space}", "namespace": space},
        "spec": spec,
    }


def default_deny(items: Iterable[Mapping[str, Any]]) -> Check:
    """Judge whether every namespace refuses what no policy names. Pure."""
    every = list(items)
    spaces = {item["metadata"]["name"] for item in every if item["kind"] == "Namespace"}
    denied = {
        item["metadata"]["namespace"]
        for item in every
        if item["kind"] == "NetworkPolicy"
        and not item["spec"].get("podSelector")
        and {"Ingress", "Egress"} <= set(item["spec"].get("policyTypes", []))
        and not item["spec"].get("ingress")
        and not item["spec"].get("egress")
    }
    open_ = sorted(spaces - denied)
    if open_:
        return bad(
            "cluster",
            "default deny",
            f"not in {', '.join(open_)}",
            "a NetworkPolicy that selects all pods and allows nothing",
        )
    return good("cluster", "default deny", f"in all {len(spaces)} namespaces")


def pod_security(items: Iterable[Mapping[str, Any]], admitted: set[str]) -> Check:
    """Judge where a privileged pod was admitted: only where the namespace says so, or is Kubernetes' own. Pure."""
    label = "pod-security.kubernetes.io/enforce"
    labels = {
        item["metadata"]["name"]: item["metadata"].get("labels", {}).get(label, "")
        for item in items
        if item["kind"] == "Namespace"
    }
    wrong = sorted(name for name in admitted & set(labels) if labels[name] != "privileged" and name not in OWN)
    if wrong:
        return bad("cluster", "pod security", f"takes privileged pods: {', '.join(wrong)}", f"the label {label}")
    rest = ", ".join(sorted(admitted & set(labels))) or "none"
    return good("cluster", "pod security", f"privileged pods are refused; namespaces that take them: {rest}")


def approval(config: Config, today: date) -> Iterator[Check]:
    """Judge how long the ethics approval of the data is still valid. Pure."""
    given = config.data.approval
    if not given:
        return
    told = f"{given.reference} of {given.body}, until {given.until}"
    if today > given.until:
        yield bad("data", "approval", f"ended: {told}", "take the results out, then vre down; or write its extension")
    elif given.until - today < APPROVAL_ENDS_SOON:
        yield warning("data", "approval", f"ends soon: {told}", "ask for its extension, or plan the end")
    else:
        yield good("data", "approval", told)


def secrets() -> Iterator[Check]:
    """Look at who may read what opens everything: passphrase, key, state."""
    from vre.paths import state

    loose = [path for path in _private(state()) if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if loose:
        yield bad("here", "secrets", f"others can read {', '.join(str(path) for path in loose)}", "chmod go= them")
    else:
        yield good("here", "secrets", "passphrase, key and state are the owner's alone")


def _private(folder: Path) -> list[Path]:
    return [path for path in (folder / "passphrase", folder / "id_ed25519", folder / "state") if path.exists()]
