"""What the CIS Kubernetes Benchmark 1.12 asks of a cluster's settings, each with where kubeadm is told of it.

An answer is a regular expression. One that only nothing fits stands for what kubeadm or Kubernetes does by itself: the
rule then says that it is not overridden.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

API, CONTROLLERS, SCHEDULER = "apiServer", "controllerManager", "scheduler"
KUBELET, PROXY = "KubeletConfiguration", "KubeProxyConfiguration"
STRONG = "(TLS_ECDHE_(ECDSA|RSA)_WITH_AES_(128_GCM_SHA256|256_GCM_SHA384),?)+"
LEFT = ""
"""Not set: what is there without being asked for is what is wanted."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: its number, what it asks, of which component, the setting, the answer as a regular expression."""

    id: str
    what: str
    of: str
    setting: str
    wanted: str


def _rules(of: str, *rows: tuple[str, str, str, str]) -> list[Rule]:
    return [Rule(id=id, what=what, of=of, setting=setting, wanted=wanted) for id, what, setting, wanted in rows]


def _has(*plugins: str) -> str:
    return "".join(rf"(?=(.*,)?{plugin}(,|$))" for plugin in plugins) + ".+"


RULES = (
    *_rules(
        API,
        ("1.2.2", "no file of tokens", "token-auth-file", LEFT),
        (
            "1.2.3",
            "services take no addresses from outside",
            "enable-admission-plugins",
            _has("DenyServiceExternalIPs"),
        ),
        ("1.2.5", "kubelets are known by an authority", "kubelet-certificate-authority", r"/\S+"),
        ("1.2.6", "not everything is allowed", "authorization-mode", LEFT),
        ("1.2.7", "nodes are judged as nodes", "authorization-mode", LEFT),
        ("1.2.8", "everybody else by roles", "authorization-mode", LEFT),
        ("1.2.9", "events are limited", "enable-admission-plugins", _has("EventRateLimit")),
        ("1.2.10", "admission refuses what it should", "enable-admission-plugins", r"(?!.*AlwaysAdmit).+"),
        ("1.2.12", "service accounts are admitted as such", "disable-admission-plugins", LEFT),
        ("1.2.13", "namespaces that go take nothing new", "disable-admission-plugins", LEFT),
        ("1.2.14", "a node changes itself alone", "enable-admission-plugins", _has("NodeRestriction")),
        ("1.2.15", "no profiling", "profiling", "false"),
        ("1.2.16", "requests are audited", "audit-log-path", r"/\S+"),
        ("1.2.17", "audit logs are kept for 30 days", "audit-log-maxage", r"3\d|[4-9]\d|\d{3,}"),
        ("1.2.18", "and ten of them", "audit-log-maxbackup", r"\d{2,}"),
        ("1.2.19", "of 100 MB", "audit-log-maxsize", r"\d{3,}"),
        ("1.2.21", "a token ends with its account", "service-account-lookup", LEFT),
        ("1.2.27", "secrets are encrypted in etcd", "encryption-provider-config", r"/\S+"),
        ("1.2.29", "strong ciphers", "tls-cipher-suites", STRONG),
        ("1.2.30", "tokens do not live longer than they say", "service-account-extend-token-expiration", "false"),
        ("3.2.1", "there is an audit policy", "audit-policy-file", r"/\S+"),
    ),
    *_rules(
        CONTROLLERS,
        ("1.3.1", "ended pods are cleared away", "terminated-pod-gc-threshold", r"[1-9]\d*"),
        ("1.3.2", "no profiling", "profiling", "false"),
        ("1.3.7", "it listens on loopback", "bind-address", LEFT),
    ),
    *_rules(
        SCHEDULER,
        ("1.4.1", "no profiling", "profiling", "false"),
        ("1.4.2", "it listens on loopback", "bind-address", LEFT),
    ),
    *_rules(
        KUBELET,
        ("4.2.4", "no port for reading", "readOnlyPort", "0"),
        ("4.2.5", "idle streams end", "streamingConnectionIdleTimeout", r"[1-9]\w*"),
        ("4.2.6", "it keeps its packet filter", "makeIPTablesUtilChains", "True"),
        ("4.2.8", "events are told", "eventRecordQPS", r"[1-9]\d*"),
        ("4.2.10", "its certificate is renewed", "rotateCertificates", "True"),
        ("4.2.12", "strong ciphers", "tlsCipherSuites", STRONG),
        ("4.2.13", "the processes of a pod are limited", "podPidsLimit", r"[1-9]\d*"),
        ("4.2.14", "seccomp filters what pods ask of the kernel", "seccompDefault", "True"),
    ),
    *_rules(PROXY, ("4.3.1", "its figures are for the machine alone", "metricsBindAddress", r"127\.0\.0\.1:\d+")),
)
NOT_KEPT = {
    "1.2.11": "images are pulled at every start: they come with the machine, and there is no registry",
    "1.2.20": "a time-out of requests of our own: Kubernetes' minute is kept",
    "5.4.2": "secrets outside the cluster: they are encrypted in etcd; what opens them is on the machine that launches",
    "5.5.1": "a webhook that judges images: machines have signed images alone and pull none",
}
"""Rules that are not kept, with what they ask and why."""


def given(rule: Rule, told: Mapping[str, Any]) -> str:
    """Return what kubeadm is told of a rule's setting, nothing where it is not set. Pure."""
    if rule.of in (KUBELET, PROXY):
        value = told[rule.of].get(rule.setting, "")
        return ",".join(map(str, value)) if isinstance(value, list) else str(value)
    arguments: Iterable[Mapping[str, str]] = told["ClusterConfiguration"][rule.of]["extraArgs"]
    return next((each["value"] for each in arguments if each["name"] == rule.setting), "")


def kept(rule: Rule, told: Mapping[str, Any]) -> bool:
    """Say whether what kubeadm is told keeps a rule. Pure."""
    return re.fullmatch(rule.wanted, given(rule, told)) is not None
