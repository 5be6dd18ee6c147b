"""The objects that every cluster of ours has, beside its services. Pure: every function returns plain objects.

`images` maps an image's name (`coredns`) to its full reference. `api` is the IPv4 address of the control plane's
machine: our own parts talk to the API there, so that nothing waits for services' addresses to work.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vre import yamltext
from vre.cluster import kubeadm
from vre.machine.nftables import QUEUE
from vre.policy import PODS
from vre.template import render_template

Object = dict[str, Any]
Images = Mapping[str, str]
STORAGE = "storage"
INGRESS = "ingress"
TRAEFIK = {"app.kubernetes.io/name": "traefik"}
DATA = "/var/lib/vre/data/volumes"
FIRST = f"{DATA}/first"
ROUTES = "/etc/routes"
CLIENTS = "clients.crt"
VISITOR = "CF-Connecting-IP"
"""The header in which Cloudflare says who asks; a visitor's own of that name never gets through it."""
STANDARD_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
READY = (
    {"kind": "DaemonSet", "name": "kube-proxy", "namespace": "kube-system"},
    {"kind": "DaemonSet", "name": "flannel", "namespace": "kube-system"},
    {"kind": "DaemonSet", "name": "network-policies", "namespace": "kube-system"},
    {"kind": "Deployment", "name": "coredns", "namespace": "kube-system"},
    {"kind": "Deployment", "name": "local-path", "namespace": STORAGE},
    {"kind": "DaemonSet", "name": "traefik", "namespace": INGRESS},
)
"""What must be up before the cluster counts as ready."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """Requests to a path of a host (empty: any) go to a port of a Kubernetes service, which is its pods' port, too."""

    path: str
    namespace: str
    service: str
    port: int
    host: str = ""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What the door shows: a chain (leaf first) and its private key, both PEM.

    Only put into a Secret as they are: anything that whoever applies the objects understands may stand for them.
    """

    chain: Any
    private_key: Any
    until: Any = ""
    """When it ends. Another end is another certificate, for which Traefik starts anew: it reads its files only once."""
    clients: Any = None
    """The authority (PEM) of whose certificates clients must show one; None where anybody may come."""


def everything(
    images: Images,
    api: str,
    certificate: Certificate,
    routes: Sequence[Route],
    *,
    node: str,
    resolvers: Sequence[str] = (),
    home: str = "",
) -> list[Object]:
    """Return all of it: policies, storage, name server, ingress, network. The order is the one to apply in.

    What others wait for comes first: nothing reaches the API before policies are enforced, services wait for volumes.
    """
    return [
        *namespace(STORAGE, level="privileged"),
        *namespace(INGRESS, level="privileged", dns=True),
        *closed(),
        *_manifest("patch.yaml"),
        *policies(images, api),
        *storage(images, api, node=node),
        *dns(images, api, resolvers=resolvers),
        *ingress(images, certificate, routes, home=home),
        *network(images, api),
    ]


def namespace(name: str, *, level: str = "restricted", dns: bool = False) -> list[Object]:
    """Return a namespace that is closed on all sides; with `dns` its pods may ask the cluster's name server.

    `level` is its Pod Security level: `privileged` only where pods are the machine's own or map its ports.
    """
    return _manifest("namespace.yaml", name=name, level=level, dns=dns)


def closed() -> list[Object]:
    """Return the policies that close the namespaces every cluster has."""
    return _manifest("closed.yaml", names=list(STANDARD_NAMESPACES))


def network(images: Images, api: str) -> list[Object]:
    """Return flannel: encrypted routes between the machines."""
    settings = json.dumps(
        {
            "Network": PODS,
            "EnableIPv4": True,
            "EnableNFTables": True,
            "Backend": {"Type": "wireguard", "ListenPort": 51820, "ListenPortV6": 51821},
        },
        indent=2,
    )
    return _manifest("flannel.yaml", image=images["flannel"], api=api, settings=settings, digest=_digest(settings))


def policies(images: Images, api: str) -> list[Object]:
    """Return what enforces network policies on every machine."""
    return _manifest("policies.yaml", image=images["kube-network-policies"], api=api, queue=QUEUE)


def dns(images: Images, api: str, *, resolvers: Sequence[str] = ()) -> list[Object]:
    """Return the cluster's name server. Without `resolvers` it knows the cluster's names only: names are a way out."""
    text = corefile(resolvers)
    return _manifest(
        "dns.yaml",
        image=images["coredns"],
        api=api,
        address=kubeadm.DNS,
        corefile=text,
        digest=_digest(text),
        resolvers=list(resolvers),
    )


def corefile(resolvers: Sequence[str]) -> str:
    """Return CoreDNS's settings."""
    forward = f"    forward . {' '.join(resolvers)}\n" if resolvers else ""
    return (
        ".:53 {\n    errors\n    health\n    ready\n"
        "    kubernetes cluster.local in-addr.arpa ip6.arpa {\n        pods insecure\n        ttl 30\n    }\n"
        f"{forward}    cache 30\n    loadbalance\n}}\n"
    )


def storage(images: Images, api: str, *, node: str) -> list[Object]:
    """Return the storage class `local`, the default one: volumes are folders of the machine's data disk.

    `node` is the control plane's machine, which has the first volume.
    """
    settings = json.dumps({"nodePathMap": [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [DATA]}]})
    helper = _text("helper-pod.yaml", image=images["base"])
    return _manifest(
        "storage.yaml",
        image=images["local-path-provisioner"],
        helper_image=images["base"],
        api=api,
        settings=settings,
        helper=helper,
        digest=_digest(settings, helper),
        node=node,
        first=FIRST,
    )


def ingress(images: Images, certificate: Certificate, routes: Sequence[Route], *, home: str = "") -> list[Object]:
    """Return Traefik: the one door, on ports 80 and 443 of the control plane's machine.

    It reads its routes from a file and holds no key to the cluster. `home` is the path, or the whole address, that `/`
    leads to where no service answers it.
    """
    static, dynamic = (
        yaml.safe_dump(_static(), sort_keys=False),
        yaml.safe_dump(_dynamic(routes, home, demanding=certificate.clients is not None), sort_keys=False),
    )
    made = _manifest(
        "ingress.yaml",
        image=images["traefik"],
        static=static,
        routes=dynamic,
        digest=_digest(static),
    )
    for each in made:
        if each["kind"] == "DaemonSet":
            each["spec"]["template"]["metadata"]["annotations"]["vre/certificate-until"] = certificate.until
    return [_secret(certificate), *made, _web(routes)]


def _secret(certificate: Certificate) -> Object:
    demanded = {} if certificate.clients is None else {CLIENTS: certificate.clients}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "certificate", "namespace": INGRESS},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": certificate.chain, "tls.key": certificate.private_key, **demanded},
    }


def _static() -> Object:
    """What Traefik is: its ports, its limits; no dashboard, no calls home."""
    timeouts = {"readTimeout": "1h", "writeTimeout": "0s", "idleTimeout": "3m"}
    limits = {"respondingTimeouts": timeouts, "keepAliveMaxTime": "1h"}
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "ERROR"},
        "entryPoints": {
            "web": {
                "address": ":8000",
                "http": {"redirections": {"entryPoint": {"to": ":443", "scheme": "https", "permanent": True}}},
            },
            "websecure": {
                "address": ":8443",
                "transport": limits,
                "http": {"tls": {}, "middlewares": ["headers@file", "rate@file"], "maxHeaderBytes": 65536},
            },
            "ping": {"address": ":8082"},
        },
        "ping": {"entryPoint": "ping"},
        "providers": {"file": {"directory": ROUTES, "watch": True}},
    }


def _dynamic(routes: Sequence[Route], home: str, *, demanding: bool) -> Object:
    """What Traefik does: the certificate, what every answer carries, and where requests go.

    `demanding`: whoever comes must show a certificate, whatever the name that is asked for.
    """
    routers = {f"{route.namespace}-{route.service}": _router(route) for route in routes}
    services = {
        f"{route.namespace}-{route.service}": {"loadBalancer": {"servers": [{"url": _url(route)}]}} for route in routes
    }
    middlewares: Object = {"headers": _headers(), "rate": {"rateLimit": _limit(demanding=demanding)}}
    if home:
        routers["home"] = {
            "rule": "Path(`/`)",
            "entryPoints": ["websecure"],
            "service": "noop@internal",
            "middlewares": ["home"],
        }
        whole = home if home.startswith("https://") else f"${{1}}{home}"
        middlewares["home"] = {"redirectRegex": {"regex": "^(https://[^/]+)/$", "replacement": whole}}
    return {
        "tls": {
            "options": {
                "default": {
                    "minVersion": "VersionTLS12",
                    "cipherSuites": list(kubeadm.CIPHERS),
                    "curvePreferences": ["X25519MLKEM768", "X25519", "CurveP256", "CurveP384"],
                    **(_demand() if demanding else {}),
                }
            },
            "stores": {
                "default": {
                    "defaultCertificate": {
                        "certFile": f"{ROUTES}/tls.crt",
                        "keyFile": f"{ROUTES}/tls.key",
                    }
                }
            },
        },
        "http": {"routers": routers, "services": services, "middlewares": middlewares},
    }


def _headers() -> Object:
    return {
        "headers": {
            "stsSeconds": 31536000,
            "contentTypeNosniff": True,
            "customFrameOptionsValue": "SAMEORIGIN",
            "referrerPolicy": "same-origin",
            "permissionsPolicy": "camera=(), microphone=(), geolocation=()",
            "customResponseHeaders": {"Server": "", "X-Powered-By": ""},
        }
    }


def _demand() -> Object:
    return {"clientAuth": {"caFiles": [f"{ROUTES}/{CLIENTS}"], "clientAuthType": "RequireAndVerifyClientCert"}}


def _limit(*, demanding: bool) -> Object:
    """How many requests one visitor may make; behind a proxy each comes from it, and it alone can say from whom."""
    by = {"sourceCriterion": {"requestHeaderName": VISITOR}} if demanding else {}
    return {"average": 200, "burst": 1000, "period": "1s", **by}


def _router(route: Route) -> Object:
    path = route.path.rstrip("/")
    host = [f"Host(`{route.host}`)"] if route.host else []
    below = [f"(Path(`{path}`) || PathPrefix(`{path}/`))"] if path else ([] if host else ["PathPrefix(`/`)"])
    return {
        "rule": " && ".join([*host, *below]),
        "entryPoints": ["websecure"],
        "service": f"{route.namespace}-{route.service}",
    }


def _url(route: Route) -> str:
    return f"http://{route.service}.{route.namespace}.svc.cluster.local:{route.port}"


def _web(routes: Sequence[Route]) -> Object:
    """Who reaches the door is the machine's firewall's question: it sees the addresses before they are mapped."""
    backends = sorted({(route.namespace, route.port) for route in routes})
    egress = [
        {
            "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}],
            "ports": [{"protocol": "TCP", "port": port}],
        }
        for name, port in backends
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web", "namespace": INGRESS},
        "spec": {
            "podSelector": {"matchLabels": TRAEFIK},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"protocol": "TCP", "port": 8000}, {"protocol": "TCP", "port": 8443}]}],
            "egress": egress,
        },
    }


def _manifest(file: str, /, **values: Any) -> list[Object]:
    return yamltext.load_all(_text(file, **values))


def _text(file: str, /, **values: Any) -> str:
    return render_template(Path(__file__).parent / "manifests" / file, **values)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def identity(thing: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return what makes an object that object: API version, kind, namespace, name."""
    about = thing.get("metadata", {})
    return str(thing["apiVersion"]), str(thing["kind"]), str(about.get("namespace", "")), str(about["name"])


def in_order(things: Iterable[Object]) -> list[Object]:
    """Return objects with what others need first: namespaces, then definitions and volumes, then the rest."""
    first = {
        "Namespace": 0,
        "CustomResourceDefinition": 1,
        "PersistentVolume": 1,
        "StorageClass": 2,
        "ServiceAccount": 2,
    }
    return sorted(things, key=lambda thing: first.get(thing["kind"], 3))
