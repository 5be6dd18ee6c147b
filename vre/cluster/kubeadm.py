"""What kubeadm and the control plane are told: one YAML text for the first machine, one for each that joins. Pure."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from vre import yamltext
from vre.policy import PODS, SERVICES

DNS = "10.96.0.10"
SOCKET = "unix:///run/containerd/containerd.sock"
REGISTRY = "localhost/vre"
CIPHERS = (
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
)
AUDIT = "/etc/kubernetes/audit/policy.yaml"
ADMISSION = "/etc/kubernetes/admission/admission.yaml"
EVENTS = "/etc/kubernetes/admission/events.yaml"
AUTHENTICATION = "/etc/kubernetes/admission/authentication.yaml"
ENCRYPTION = "/etc/kubernetes/enc/encryption.yaml"
PATCHES = "/etc/kubernetes/patches"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
ASKED_EACH_SECOND = ("etcd", "kube-apiserver", "kube-scheduler")
"""Whose readiness the kubelet asks for every second as kubeadm sets it up; nothing waits for the answer."""
AUDIT_LOG = "/var/log/kubernetes/audit/audit.log"
HEALTH = ("/livez", "/readyz", "/healthz", "/api/v1/namespaces/kube-public/configmaps/cluster-info")
"""All that is answered without a certificate: probes, and what a joining node checks the token against."""
UNLABELLED = ("kube-system",)
"""Namespaces whose pods are the machine's own: packet filters, the pod network, the control plane."""
Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Versions:
    """The control plane's versions, as the images are tagged."""

    kubernetes: str = "v1.36.3"
    etcd: str = "3.6.8-0"


@dataclass(frozen=True, kw_only=True)
class Control:
    """The machine with the control plane.

    `alone` when there are no workers, so that it takes workloads itself. `slow` where the processor is emulated: leases
    and timeouts are longer.
    """

    name: str
    address: str
    cluster: str
    alone: bool = True
    slow: bool = False
    versions: Versions = Versions()


def versions(images: Mapping[str, str]) -> Versions:
    """Return the versions that the control plane's images (name, `:`, tag, `@`, digest) are tagged with."""
    tags = {name: images[name].partition("@")[0].rpartition(":")[2] for name in ("kube-apiserver", "etcd")}
    return Versions(kubernetes=tags["kube-apiserver"], etcd=tags["etcd"])


def kept(config: str, live: str) -> str:
    """Return a configuration with the versions that a machine's own has, where those are newer patch levels. Pure.

    The machine took them from the signed repository (build/image/files/usr/lib/vre/controlplane.py); a launch from an
    older checkout does not take it back.
    """
    told, found = read(config), read(live)
    wanted, there = told["ClusterConfiguration"], found["ClusterConfiguration"]
    if newer(there["kubernetesVersion"], wanted["kubernetesVersion"]):
        wanted["kubernetesVersion"] = there["kubernetesVersion"]
    etcd, its = wanted["etcd"]["local"], there["etcd"]["local"]
    if newer(its["imageTag"], etcd["imageTag"]):
        etcd["imageTag"] = its["imageTag"]
    return _text(*told.values())


def newer(one: str, other: str) -> bool:
    """Say whether a version is a higher patch level of the same minor version as another. Pure."""
    numbers = [[int(each) for each in re.findall(r"\d+", version)] for version in (one, other)]
    return numbers[0][:2] == numbers[1][:2] and numbers[0] > numbers[1]


def first(control: Control) -> str:
    """Return the configuration of `kubeadm init`."""
    return _text(_init(control), _cluster(control), kubelet(slow=control.slow), _proxy())


def joining(name: str, address: str, *, slow: bool = False) -> str:
    """Return the configuration of `kubeadm join`, but for the token and the authority's hash: those are made for it."""
    return _text(
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "JoinConfiguration",
            "nodeRegistration": _node(name, address),
            "timeouts": _timeouts(slow=slow),
        }
    )


def _init(control: Control) -> Document:
    # With workers it takes only what has its volume here from the time when there were none.
    taint = {"key": "node-role.kubernetes.io/control-plane", "effect": "PreferNoSchedule"}
    return {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": control.address},
        "nodeRegistration": {**_node(control.name, control.address), "taints": [] if control.alone else [taint]},
        "bootstrapTokens": [
            {
                "ttl": "15m0s",
                "usages": ["signing", "authentication"],
                "groups": ["system:bootstrappers:kubeadm:default-node-token"],
            }
        ],
        # CoreDNS is among our own objects; nobody reads the join command. Rotation of the kubelet's certificate works
        # without a change to its kubeconfig, which would restart it in the middle of asking for its other one.
        "skipPhases": ["addon/coredns", "show-join-command", "kubelet-finalize"],
        "timeouts": _timeouts(slow=control.slow),
        **({"patches": {"directory": PATCHES}} if control.slow else {}),
    }


def _node(name: str, address: str) -> Document:
    return {
        "name": name,
        "criSocket": SOCKET,
        "imagePullPolicy": "Never",
        "kubeletExtraArgs": [{"name": "node-ip", "value": address}],
    }


def _timeouts(*, slow: bool) -> Document:
    wait = "15m0s" if slow else "4m0s"
    return {
        "controlPlaneComponentHealthCheck": wait,
        "kubeletHealthCheck": wait,
        "kubernetesAPICall": wait,
        "etcdAPICall": "5m0s" if slow else "2m0s",
        "tlsBootstrap": "10m0s" if slow else "5m0s",
        "discovery": "10m0s" if slow else "5m0s",
    }


def _cluster(control: Control) -> Document:
    # Go's garbage is collected half as often where time is dearer than memory.
    settings = {"extraEnvs": [{"name": "GOGC", "value": "200"}]} if control.slow else {}
    return {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": control.cluster,
        "kubernetesVersion": control.versions.kubernetes,
        "imageRepository": REGISTRY,
        "controlPlaneEndpoint": f"{control.address}:6443",
        "certificateValidityPeriod": "26280h0m0s",
        # Far quicker than RSA to make and to shake hands with.
        "encryptionAlgorithm": "ECDSA-P256",
        "networking": {"podSubnet": PODS, "serviceSubnet": SERVICES},
        "etcd": {
            "local": {"imageTag": control.versions.etcd, "extraArgs": _arguments(_etcd(slow=control.slow)), **settings}
        },
        "apiServer": {"extraArgs": _arguments(_api()), "extraVolumes": _volumes(), **settings},
        "controllerManager": {"extraArgs": _arguments(_controllers(slow=control.slow)), **settings},
        "scheduler": {"extraArgs": _arguments({"profiling": "false", "leader-elect": "false"}), **settings},
    }


def _api() -> dict[str, str]:
    return {
        "profiling": "false",
        "kubelet-certificate-authority": "/etc/kubernetes/pki/ca.crt",
        "service-account-extend-token-expiration": "false",
        "audit-policy-file": AUDIT,
        "audit-log-path": AUDIT_LOG,
        "audit-log-maxage": "30",
        "audit-log-maxbackup": "10",
        "audit-log-maxsize": "100",
        # As they are, eleven of them are more than /var/log holds.
        "audit-log-compress": "true",
        "encryption-provider-config": ENCRYPTION,
        "authentication-config": AUTHENTICATION,
        # AlwaysPullImages stays off: the images are on the machine, there is no registry.
        "enable-admission-plugins": "NodeRestriction,EventRateLimit,DenyServiceExternalIPs",
        "admission-control-config-file": ADMISSION,
        "tls-min-version": "VersionTLS12",
        "tls-cipher-suites": ",".join(CIPHERS),
    }


def _controllers(*, slow: bool) -> dict[str, str]:
    # There is one control plane machine, so nobody to elect, and no lease to lose when it is slow.
    grace = {"node-monitor-grace-period": "3m0s"} if slow else {}
    return {"profiling": "false", "terminated-pod-gc-threshold": "1000", "leader-elect": "false", **grace}


def _etcd(*, slow: bool) -> dict[str, str]:
    return {"heartbeat-interval": "500", "election-timeout": "5000"} if slow else {}


def _arguments(given: dict[str, str]) -> list[Document]:
    return [{"name": name, "value": value} for name, value in given.items()]


def _volumes() -> list[Document]:
    read = {
        "audit-policy": "/etc/kubernetes/audit",
        "admission": "/etc/kubernetes/admission",
        "enc": "/etc/kubernetes/enc",
    }
    made = [
        {"name": name, "hostPath": path, "mountPath": path, "readOnly": True, "pathType": "DirectoryOrCreate"}
        for name, path in read.items()
    ]
    log = "/var/log/kubernetes/audit"
    return [*made, {"name": "audit-log", "hostPath": log, "mountPath": log, "pathType": "DirectoryOrCreate"}]


def kubelet(*, slow: bool = False) -> Document:
    """Return the settings of every node's kubelet."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
        "containerRuntimeEndpoint": SOCKET,
        "clusterDNS": [DNS],
        "serverTLSBootstrap": True,
        "rotateCertificates": True,
        "readOnlyPort": 0,
        "protectKernelDefaults": True,
        "makeIPTablesUtilChains": True,
        "eventRecordQPS": 5,
        "streamingConnectionIdleTimeout": "5m0s",
        "podPidsLimit": 1024,
        "seccompDefault": True,
        "tlsMinVersion": "VersionTLS12",
        "tlsCipherSuites": list(CIPHERS),
        "nodeLeaseDurationSeconds": 120 if slow else 40,
        "runtimeRequestTimeout": "10m0s" if slow else "2m0s",
        # What fails because something else is still starting is soon tried again.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "4s"},
        # The images are part of the machine and cannot be pulled again: never collected.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "5%", "nodefs.inodesFree": "5%"},
    }


def _proxy() -> Document:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "metricsBindAddress": "127.0.0.1:10249",
        "healthzBindAddress": "127.0.0.1:10256",
    }


def encryption_key(secret: str) -> str:
    """Return the key for Secrets in etcd (32 bytes, base64) that belongs to a stack's secret text."""
    return base64.b64encode(hashlib.sha256(secret.encode()).digest()).decode()


def encryption(secret: str) -> str:
    """Return the text that has Secrets encrypted in etcd, by the key of a stack's secret text."""
    return _text(_encryption(encryption_key(secret)))


def files(encrypting: Any) -> list[dict[str, Any]]:
    """Return what the API server reads at its start, as files of `vre:machine:Files`.

    `encrypting` is what `encryption` returns, or whatever stands for it: it is put in as it is, and alone is secret.
    """
    contents = {
        AUDIT: _text(_audit()),
        ADMISSION: _text(_admission()),
        EVENTS: _text(_events()),
        AUTHENTICATION: _text(_authentication()),
        ENCRYPTION: encrypting,
        **{f"{PATCHES}/{name}+strategic.yaml": _text(_patient(name)) for name in COMPONENTS},
    }
    return [{"path": path, "mode": "0600", "owner": "root", "content": text} for path, text in contents.items()]


def _patient(name: str) -> Document:
    """Return the patch for slow machines: being slow is no reason to be killed, and each probe is a TLS handshake."""
    alive = {"periodSeconds": 30, "timeoutSeconds": 60, "failureThreshold": 20}
    ready = {"readinessProbe": {"periodSeconds": 15}} if name in ASKED_EACH_SECOND else {}
    return {"spec": {"containers": [{"name": name, "livenessProbe": alive, **ready}]}}


def _audit() -> Document:
    secret = [
        {"group": "", "resources": ["secrets", "configmaps", "serviceaccounts/token"]},
        {"group": "authentication.k8s.io", "resources": ["tokenreviews"]},
    ]
    streams = ["pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy", "nodes/proxy"]
    written = [
        {"group": group} for group in ("", "apps", "batch", "networking.k8s.io", "rbac.authorization.k8s.io", "policy")
    ]
    watched = ["get", "list", "watch"]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": True,
        "rules": [
            {"level": "None", "nonResourceURLs": ["/livez*", "/readyz*", "/healthz*", "/version", "/openapi*"]},
            {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
            {"level": "None", "resources": [{"group": "", "resources": ["events"]}]},
            {"level": "Metadata", "resources": secret},
            {"level": "Metadata", "resources": [{"group": "", "resources": streams}]},
            {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"], "verbs": watched},
            {"level": "None", "users": ["system:kube-scheduler", "system:kube-controller-manager"], "verbs": watched},
            {"level": "Metadata", "resources": [{"group": "", "resources": ["nodes/status", "pods/status"]}]},
            {
                "level": "Request",
                "verbs": ["create", "update", "patch", "delete", "deletecollection"],
                "resources": written,
            },
            {"level": "Metadata"},
        ],
    }


def _admission() -> Document:
    level = {"enforce": "restricted", "enforce-version": "latest", "warn": "restricted", "warn-version": "latest"}
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [
            {"name": "EventRateLimit", "path": EVENTS},
            {
                "name": "PodSecurity",
                "configuration": {
                    "apiVersion": "pod-security.admission.config.k8s.io/v1",
                    "kind": "PodSecurityConfiguration",
                    "defaults": level,
                    "exemptions": {"namespaces": list(UNLABELLED)},
                },
            },
        ],
    }


def _events() -> Document:
    return {
        "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1",
        "kind": "Configuration",
        "limits": [
            {"type": "Server", "qps": 100, "burst": 500},
            {"type": "Namespace", "qps": 50, "burst": 200, "cacheSize": 1000},
        ],
    }


def _authentication() -> Document:
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "anonymous": {"enabled": True, "conditions": [{"path": path} for path in HEALTH]},
    }


def _encryption(key: str) -> Document:
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [
            {
                "resources": ["secrets"],
                "providers": [{"secretbox": {"keys": [{"name": "key1", "secret": key}]}}, {"identity": {}}],
            }
        ],
    }


def _text(*documents: Document) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False, width=160)


def read(config: str) -> dict[str, Document]:
    """Return a configuration's documents by kind."""
    documents: Sequence[Document] = yamltext.load_all(config)
    return {str(document["kind"]): document for document in documents}
