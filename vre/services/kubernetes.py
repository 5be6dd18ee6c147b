"""Kubernetes objects that services have in common, safe by default. Pure."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from vre.errors import VreError
from vre.services.contract import Object

METADATA = ("169.254.0.0/16", "168.63.129.16/32", "fe80::/10", "fd00:ec2::254/128")
"""Link-local networks and the metadata services of clouds: no pod has business there."""


def thing(api: str, kind: str, name: str, namespace: str = "", **rest: Any) -> Object:
    """Return an object with its head filled in."""
    metadata: Object = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}


def namespace(name: str, *, level: str = "restricted") -> Object:
    """Return a namespace that enforces a Pod Security level."""
    made = thing("v1", "Namespace", name)
    modes = ("enforce", "audit", "warn")
    made["metadata"]["labels"] = {f"pod-security.kubernetes.io/{mode}": level for mode in modes}
    return made


def labels(app: str, component: str) -> dict[str, str]:
    """Return the labels by which a component's pods are known."""
    return {"app.kubernetes.io/name": app, "app.kubernetes.io/component": component}


def pod_security(user: int) -> Object:
    """Return the security context of a pod that runs as `user`, never as root."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Object:
    """Return the security context of a container that can gain nothing and write nothing but its volumes."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def default_deny(space: str) -> Object:
    """Return the policy that closes a namespace both ways: whatever no other policy names is refused."""
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return thing("networking.k8s.io/v1", "NetworkPolicy", "default-deny", space, spec=spec)


def allow(
    name: str,
    space: str,
    pods: Mapping[str, str],
    *,
    ingress: Sequence[Object] = (),
    egress: Sequence[Object] = (),
) -> Object:
    """Return a policy that lets some flows of some pods through (all pods of the namespace without labels)."""
    spec: Object = {"podSelector": {"matchLabels": dict(pods)} if pods else {}, "policyTypes": []}
    if ingress:
        spec["policyTypes"].append("Ingress")
        spec["ingress"] = list(ingress)
    if egress:
        spec["policyTypes"].append("Egress")
        spec["egress"] = list(egress)
    return thing("networking.k8s.io/v1", "NetworkPolicy", name, space, spec=spec)


def peer(space: str, pods: Mapping[str, str] | None = None) -> Object:
    """Return the pods of another namespace (all of them without labels) as a policy's peer."""
    chosen: Object = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space}}}
    return {**chosen, "podSelector": {"matchLabels": dict(pods)}} if pods else chosen


def block(network: str, private: Sequence[str] = ()) -> Object:
    """Return a network as a policy's peer, without the parts that are nobody's business.

    Raises VreError when nothing would be left: the network lies inside one that stays closed.
    """
    outer = ip_network(network)
    closed = [ip_network(each) for each in dict.fromkeys([*private, *METADATA])]
    same = [each for each in closed if each.version == outer.version and each.overlaps(outer)]
    inside = [each for each in same if each.prefixlen <= outer.prefixlen]
    if inside:
        raise VreError(
            f"{network} lies inside {inside[0]}, which pods never reach",
            hint="name a network outside the VRE, under egress:",
        )
    return {"ipBlock": {"cidr": network, **({"except": [str(each) for each in same]} if same else {})}}


def ports(*numbers: int, protocols: Sequence[str] = ("TCP",)) -> list[Object]:
    """Return the ports of a policy's flow."""
    return [{"protocol": protocol, "port": number} for number in numbers for protocol in protocols]
