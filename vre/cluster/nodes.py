"""Nodes: how they join, whose certificates are signed, how they leave. Over the API."""

import base64
import hashlib
import secrets
import string
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from vre.cluster.api import Api, ApiError
from vre.errors import VreError
from vre.provider.handler import Context

Object = dict[str, Any]
TOKEN_LIFE = timedelta(minutes=15)
SIGNER = "kubernetes.io/kubelet-serving"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
USAGES = {"digital signature", "key encipherment", "server auth"}
TAINT = "node-role.kubernetes.io/control-plane"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine as the inventory has it: what its certificate may say, and nothing else."""

    name: str
    addresses: tuple[str, ...]


def authority_hash(certificate: str) -> str:
    """Return what a joining node knows the cluster's authority by: the hash of its public key."""
    key = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    return "sha256:" + hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def token(now: datetime | None = None) -> tuple[str, Object]:
    """Return a new join token and the Secret that makes the cluster accept it, for a quarter of an hour."""
    letters = string.ascii_lowercase + string.digits
    name, secret = ("".join(secrets.choice(letters) for _ in range(length)) for length in (6, 16))
    expires = (now or datetime.now(UTC)) + TOKEN_LIFE
    return f"{name}.{secret}", {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"bootstrap-token-{name}", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": name,
            "token-secret": secret,
            "expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
        },
    }


def objection(request: Mapping[str, Any], node: Node) -> str:
    """Return why a kubelet's request for a serving certificate is not to be signed; nothing when it is in order."""
    spec = request["spec"]
    user = f"system:node:{node.name}"
    if spec.get("signerName") != SIGNER or spec.get("username") != user:
        return "asked by somebody else, or for something else"
    if "system:nodes" not in spec.get("groups", []) or not set(spec.get("usages", [])) <= USAGES:
        return "asks for more than serving"
    try:
        asked = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
    except ValueError as error:
        return f"cannot be read: {error}"
    names = [attribute.value for attribute in asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [user] or not asked.is_signature_valid:
        return f"is not signed by {user}"
    return _foreign(asked, node)


def _foreign(asked: x509.CertificateSigningRequest, node: Node) -> str:
    """Return which names in a request are not the node's own."""
    try:
        names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "names no address"
    own = {ip_address(address) for address in node.addresses}
    foreign = [
        str(name.value)
        for name in names
        if not (isinstance(name, x509.DNSName) and name.value == node.name)
        and not (isinstance(name, x509.IPAddress) and name.value in own)
    ]
    return f"names what is not this machine's: {', '.join(foreign)}" if foreign else ""


def certify(api: Api, context: Context, node: Node, *, timeout: float = 300.0) -> None:
    """Sign the serving certificates that a node's kubelet asks for, until it is reached with one.

    A kubelet that was restarted asks again. Raises VreError when none is in order, or it does not use it.
    """
    last = ""
    for _ in range(int(timeout)):
        faults = [_sign(api, request, node) for request in api.items(REQUESTS) if _serving(request, node)]
        if _answers(api, node):  # also with a certificate of long ago, whose request the cluster has forgotten
            return
        last = next((fault for fault in faults if fault), "")
        context.report(f"waiting for {node.name} to ask for its certificate{f' ({last})' if last else ''}")
        context.pause(1.0)
    raise VreError(
        f"no certificate for the kubelet of {node.name}: {last or 'it asked for none'}",
        hint="vre ssh, then: sudo journalctl -u kubelet -n 50",
    )


def _answers(api: Api, node: Node) -> bool:
    """Say whether the API server reaches the kubelet, whose certificate it verifies."""
    return api.text(f"/api/v1/nodes/{node.name}/proxy/healthz", insist=False) == "ok"


def _serving(request: Mapping[str, Any], node: Node) -> bool:
    spec = request["spec"]
    return bool(spec.get("username") == f"system:node:{node.name}" and spec.get("signerName") == SIGNER)


def _sign(api: Api, request: Object, node: Node) -> str:
    """Approve a request that is in order; return what is wrong with any other."""
    fault = objection(request, node)
    if not fault and not _decided(request):
        approve(api, request)
    return fault


def _decided(request: Mapping[str, Any]) -> bool:
    return bool((request.get("status") or {}).get("conditions"))


def approve(api: Api, request: Object) -> None:
    """Approve one request for a certificate."""
    condition = {"type": "Approved", "status": "True", "reason": "Inventory", "message": "names match the inventory"}
    status = {**(request.get("status") or {}), "conditions": [condition]}
    api.request("PUT", f"{REQUESTS}/{request['metadata']['name']}/approval", {**request, "status": status})


def pod_range(api: Api, context: Context, name: str, *, timeout: float = 300.0) -> str:
    """Return the range of a node's pods, once the cluster has given it one. Raises VreError when it does not."""
    for _ in range(int(timeout)):
        node = api.get(f"/api/v1/nodes/{name}")
        if node and node["spec"].get("podCIDR"):
            return str(node["spec"]["podCIDR"])
        context.report(f"waiting for {name} to be known")
        context.pause(1.0)
    raise VreError(f"the cluster does not know the node {name}", hint="vre ssh, then: sudo journalctl -u kubelet -n 50")


def until_ready(api: Api, context: Context, name: str, *, timeout: float = 600.0) -> None:
    """Wait until a node takes work. Raises VreError with the node's own reason."""
    told = "unknown"
    for _ in range(int(timeout)):
        ready = _readiness(api, name)
        if ready.get("status") == "True":
            return
        told = str(ready.get("message", "unknown"))
        context.report(f"waiting for node {name}: {told[:80]}")
        context.pause(1.0)
    raise VreError(f"node {name} is not ready: {told}", hint="vre ssh, then: sudo journalctl -u kubelet -n 50")


def taint(api: Api, name: str, taints: Sequence[Mapping[str, str]]) -> None:
    """Give the control plane's node the taint that keeps workloads off, or take it away."""
    node = api.get(f"/api/v1/nodes/{name}")
    if node is None:
        return
    before = node["spec"].get("taints") or []
    after = [each for each in before if each["key"] != TAINT] + [dict(each) for each in taints]
    if after != before:
        _merge(api, f"/api/v1/nodes/{name}", {"spec": {"taints": after or None}})


def leave(api: Api, context: Context, name: str, *, timeout: float = 180.0) -> None:
    """Take a node out of the cluster: no new pods, those there asked to go, the node removed. Not there: done.

    Pods that are still there after `timeout` seconds, or on a machine that is not heard of any more, are named, and end
    with the machine.
    """
    if api.get(f"/api/v1/nodes/{name}") is None:
        return
    _merge(api, f"/api/v1/nodes/{name}", {"spec": {"unschedulable": True}})
    end = time.monotonic() + timeout
    while pods := _movable(api.items("/api/v1/pods", fieldSelector=f"spec.nodeName={name}")):
        told = f"{len(pods)} pods left: {', '.join(sorted(pod['metadata']['name'] for pod in pods))}"
        asked = all("deletionTimestamp" in pod["metadata"] for pod in pods)
        # Unknown: the kubelet was not heard of for so long that the cluster has given the node up.
        if time.monotonic() > end or (asked and _readiness(api, name).get("status") == "Unknown"):
            context.report(f"draining {name}: {told}; they end with the machine")
            break
        context.report(f"draining {name}: {told}")
        for pod in pods:
            if "deletionTimestamp" not in pod["metadata"]:
                _evict(api, pod)
        context.pause(2.0)
    api.delete({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})


def _readiness(api: Api, name: str) -> Mapping[str, Any]:
    """Return what the cluster has of a node's readiness; nothing where it has none."""
    conditions = ((api.get(f"/api/v1/nodes/{name}") or {}).get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == "Ready"), {})


def _movable(pods: Collection[Object]) -> list[Object]:
    """Return the pods that run elsewhere when they are asked to go."""

    def stays(pod: Object) -> bool:
        about = pod["metadata"]
        daemons = any(owner["kind"] == "DaemonSet" for owner in about.get("ownerReferences") or [])
        return daemons or "kubernetes.io/config.mirror" in (about.get("annotations") or {})

    return [pod for pod in pods if not stays(pod) and pod["status"].get("phase") not in ("Succeeded", "Failed")]


def _evict(api: Api, pod: Object) -> None:
    about = {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}
    path = f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}/eviction"
    try:
        api.request("POST", path, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": about})
    except ApiError as error:
        if error.status not in (404, 409, 429):  # gone already, or a budget says: not now
            raise


def _merge(api: Api, path: str, patch: Object) -> None:
    api.request("PATCH", path, patch, content="application/merge-patch+json")
