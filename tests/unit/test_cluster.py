"""What kubeadm and the cluster are told: CIS settings, closed namespaces, restricted pods, one door."""

import base64
import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from vre.cluster import kubeadm, network, nodes, objects
from vre.cluster.objects import Certificate, Route
from vre.provider.kubeadm import START

IMAGES: defaultdict[str, str] = defaultdict(lambda: "localhost/vre/some:1")
API = "192.168.77.10"
JUPYTER = Route(path="/jupyter/", namespace="jupyter", service="proxy", port=8000)
SHOWN = Certificate(chain="CHAIN", private_key="KEY")
ALONE = kubeadm.Control(name="local-control", address=API, cluster="local")
SLOW = kubeadm.Control(name="local-control", address=API, cluster="local", slow=True, alone=False)


def everything(**given: Any) -> list[dict[str, Any]]:
    return objects.everything(IMAGES, API, SHOWN, [JUPYTER], node="control", **given)


def the(kind: str, name: str) -> dict[str, Any]:
    [found] = [each for each in everything() if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def arguments(part: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in part["extraArgs"]}


def pod_specs() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (each["metadata"]["name"], each["metadata"]["namespace"], each["spec"]["template"]["spec"])
        for each in everything()
        if each["kind"] in ("Deployment", "DaemonSet")
    ]


# kubeadm


@pytest.mark.parametrize(
    ("component", "name", "value"),
    [
        ("apiServer", "profiling", "false"),
        ("apiServer", "kubelet-certificate-authority", "/etc/kubernetes/pki/ca.crt"),
        ("apiServer", "service-account-extend-token-expiration", "false"),
        ("apiServer", "audit-log-maxage", "30"),
        ("apiServer", "audit-log-maxbackup", "10"),
        ("apiServer", "audit-log-maxsize", "100"),
        ("apiServer", "tls-min-version", "VersionTLS12"),
        ("controllerManager", "profiling", "false"),
        ("controllerManager", "terminated-pod-gc-threshold", "1000"),
        ("scheduler", "profiling", "false"),
    ],
)
@pytest.mark.requirement("C-19", "H-41")
def test_cis_settings(component: str, name: str, value: str) -> None:
    cluster = kubeadm.read(kubeadm.first(ALONE))["ClusterConfiguration"]
    assert arguments(cluster[component])[name] == value


@pytest.mark.requirement("H-18")
def test_admission_keeps_kubeadm_s_own_plugin_and_pulls_no_images() -> None:
    api = arguments(kubeadm.read(kubeadm.first(ALONE))["ClusterConfiguration"]["apiServer"])
    plugins = api["enable-admission-plugins"].split(",")
    assert "NodeRestriction" in plugins
    assert "AlwaysPullImages" not in plugins
    assert "authorization-config" not in api
    assert "anonymous-auth" not in api


def test_what_the_api_server_reads_is_mounted_and_written() -> None:
    api = kubeadm.read(kubeadm.first(ALONE))["ClusterConfiguration"]["apiServer"]
    mounted = {each["mountPath"] for each in api["extraVolumes"]}
    files = {each["path"]: each for each in kubeadm.files("a" * 44)}
    asked = [arguments(api)[name] for name in (
        "audit-policy-file", "encryption-provider-config", "authentication-config", "admission-control-config-file",
    )]  # fmt: skip
    for path in asked:
        assert path in files
        assert path.rsplit("/", 1)[0] in mounted
    assert arguments(api)["audit-log-path"].rsplit("/", 1)[0] in mounted
    assert {each["mode"] for each in files.values()} == {"0600"}


@pytest.mark.requirement("H-18", "P-01")
def test_anonymous_requests_reach_health_and_the_join_page_only() -> None:
    [text] = [each["content"] for each in kubeadm.files("k") if each["path"] == kubeadm.AUTHENTICATION]
    anonymous = yaml.safe_load(text)["anonymous"]
    assert [each["path"] for each in anonymous["conditions"]] == list(kubeadm.HEALTH)


@pytest.mark.requirement("H-33")
def test_secrets_are_encrypted_in_etcd_by_a_key_of_32_bytes() -> None:
    key = kubeadm.encryption_key("some generated password")
    assert len(base64.b64decode(key)) == 32
    assert key != kubeadm.encryption_key("another")
    text = kubeadm.encryption("some generated password")
    assert [each["content"] for each in kubeadm.files(text) if each["path"] == kubeadm.ENCRYPTION] == [text]
    [resource] = yaml.safe_load(text)["resources"]
    assert resource["providers"][0]["secretbox"]["keys"][0]["secret"] == key
    # The benchmark looks at the line that follows `providers:`.
    lines = text.splitlines()
    assert "secretbox" in lines[[line.strip() for line in lines].index("providers:") + 1]


@pytest.mark.requirement("H-14")
def test_pods_are_restricted_where_nothing_else_is_said() -> None:
    [text] = [each["content"] for each in kubeadm.files("k") if each["path"] == kubeadm.ADMISSION]
    [security] = [each for each in yaml.safe_load(text)["plugins"] if each["name"] == "PodSecurity"]
    assert security["configuration"]["defaults"]["enforce"] == "restricted"
    assert security["configuration"]["exemptions"] == {"namespaces": ["kube-system"]}


def test_the_audit_log_holds_no_secret_s_content() -> None:
    [text] = [each["content"] for each in kubeadm.files("k") if each["path"] == kubeadm.AUDIT]
    rules = yaml.safe_load(text)["rules"]
    first = next(
        rule for rule in rules for group in rule.get("resources", []) if "secrets" in group.get("resources", [])
    )
    assert first["level"] == "Metadata"
    bodies = [index for index, rule in enumerate(rules) if rule["level"] in ("Request", "RequestResponse")]
    assert rules.index(first) < min(bodies)


@pytest.mark.requirement("H-10")
def test_kubelets_ask_the_cluster_for_their_certificate_and_keep_their_images() -> None:
    kubelet = kubeadm.kubelet()
    assert kubelet["serverTLSBootstrap"] is True
    assert kubelet["seccompDefault"] is True
    assert kubelet["protectKernelDefaults"] is True
    assert kubelet["readOnlyPort"] == 0
    assert 0 < kubelet["podPidsLimit"] <= 4096
    assert kubelet["imageGCHighThresholdPercent"] == 100


@pytest.mark.requirement("P-45")
def test_a_control_plane_alone_takes_work_and_one_with_workers_only_what_has_its_volume_there() -> None:
    for control, effects in ((ALONE, []), (SLOW, ["PreferNoSchedule"])):
        told = kubeadm.read(kubeadm.first(control))["InitConfiguration"]
        assert [taint["effect"] for taint in told["nodeRegistration"]["taints"]] == effects


def test_a_volume_is_there_before_anything_asks_for_one() -> None:
    ordered = [each["kind"] for each in objects.in_order(everything())]
    assert ordered.index("PersistentVolume") < ordered.index("StorageClass") < ordered.index("Deployment")
    volume = the("PersistentVolume", "first")
    assert volume["spec"]["local"] == {"path": objects.FIRST}
    assert f"mkdir -p /var/lib/vre {objects.FIRST}\n" in START


def test_a_slow_machine_gets_more_time() -> None:
    fast, slow = (kubeadm.read(kubeadm.first(control)) for control in (ALONE, SLOW))
    assert arguments(slow["ClusterConfiguration"]["etcd"]["local"]) == {
        "heartbeat-interval": "500",
        "election-timeout": "5000",
    }
    assert fast["ClusterConfiguration"]["etcd"]["local"]["extraArgs"] == []
    assert slow["InitConfiguration"]["timeouts"] != fast["InitConfiguration"]["timeouts"]
    assert arguments(slow["ClusterConfiguration"]["controllerManager"])["node-monitor-grace-period"] == "3m0s"


def test_no_image_is_pulled_and_the_proxy_is_nftables() -> None:
    told = kubeadm.read(kubeadm.first(ALONE))
    assert told["InitConfiguration"]["nodeRegistration"]["imagePullPolicy"] == "Never"
    assert told["ClusterConfiguration"]["imageRepository"] == "localhost/vre"
    assert told["KubeProxyConfiguration"]["mode"] == "nftables"


@pytest.mark.requirement("P-74")
def test_the_first_token_does_not_outlive_the_launch() -> None:
    [token] = kubeadm.read(kubeadm.first(ALONE))["InitConfiguration"]["bootstrapTokens"]
    assert token["ttl"] == "15m0s"
    assert "token" not in token


def test_a_join_says_nothing_secret_by_itself() -> None:
    told = kubeadm.read(kubeadm.joining("local-worker-1", "192.168.77.20"))["JoinConfiguration"]
    assert "discovery" not in told
    assert told["nodeRegistration"]["kubeletExtraArgs"] == [{"name": "node-ip", "value": "192.168.77.20"}]


# network, objects


def test_the_pod_network_is_a_bridge_with_mapped_ports() -> None:
    made = json.loads(network.conflist("10.244.3.0/24"))
    bridge, ports = made["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.3.0/24"}]]
    assert bridge["bridge"] == "cni0"
    assert bridge["ipMasq"] is False
    assert ports["capabilities"] == {"portMappings": True}
    assert ports["backend"] == "nftables"


@pytest.mark.requirement("H-32", "C-12")
def test_every_namespace_is_closed_by_default() -> None:
    made = everything()
    spaces = {each["metadata"]["name"] for each in made if each["kind"] == "Namespace"} | set(
        objects.STANDARD_NAMESPACES
    )
    closed = {
        each["metadata"]["namespace"]
        for each in made
        if each["kind"] == "NetworkPolicy" and each["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    assert closed == spaces


@pytest.mark.requirement("P-57", "H-13", "H-01", "H-06", "P-24")
@pytest.mark.parametrize(
    ("name", "space", "spec"), pod_specs(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_pods_have_no_more_than_they_need(name: str, space: str, spec: dict[str, Any]) -> None:
    assert not spec.get("hostPID")
    assert not spec.get("hostIPC")
    for container in spec["containers"]:
        about = container["securityContext"]
        assert container["imagePullPolicy"] == "Never"
        assert about["allowPrivilegeEscalation"] is False
        assert about["readOnlyRootFilesystem"] is True
        assert "ALL" in about["capabilities"]["drop"]
        assert "privileged" not in about
        assert "memory" in container["resources"]["requests"]
        if space != "kube-system" or not spec.get("hostNetwork"):
            assert "add" not in about["capabilities"]
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    on_the_machine = {"flannel", "network-policies"}
    assert bool(spec.get("hostNetwork")) == (name in on_the_machine)


@pytest.mark.requirement("H-19")
def test_no_role_grants_everything() -> None:
    for each in everything():
        for rule in each.get("rules", []):
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
            assert "secrets" not in rule["resources"]


def test_what_is_waited_for_is_what_is_applied() -> None:
    applied = {(each["kind"], each["metadata"]["name"], each["metadata"].get("namespace")) for each in everything()}
    awaited = {(each["kind"], each["name"], each["namespace"]) for each in objects.READY}
    assert awaited - applied == {("DaemonSet", "kube-proxy", "kube-system")}
    running = {key for key in applied if key[0] in ("Deployment", "DaemonSet")}
    assert running <= awaited


def test_no_object_is_there_twice_and_namespaces_come_first() -> None:
    ordered = objects.in_order(everything())
    assert len({objects.identity(each) for each in ordered}) == len(ordered)
    kinds = [each["kind"] for each in ordered]
    assert set(kinds[: kinds.count("Namespace")]) == {"Namespace"}


@pytest.mark.requirement("C-16")
def test_names_outside_are_looked_up_only_when_a_resolver_is_given() -> None:
    assert "forward" not in objects.corefile(())
    assert "forward . 192.0.2.53" in objects.corefile(("192.0.2.53",))
    [policy] = [each for each in everything() if each["metadata"]["name"] == "name-server"]
    assert len(policy["spec"]["egress"]) == 1
    [opened] = [each for each in everything(resolvers=["192.0.2.53"]) if each["metadata"]["name"] == "name-server"]
    assert opened["spec"]["egress"][1]["to"] == [{"ipBlock": {"cidr": "192.0.2.53/32"}}]


def test_a_changed_corefile_restarts_the_name_server() -> None:
    def mark(made: list[dict[str, Any]]) -> str:
        [found] = [each for each in made if each["kind"] == "Deployment" and each["metadata"]["name"] == "coredns"]
        return str(found["spec"]["template"]["metadata"]["annotations"]["vre/settings"])

    assert mark(everything()) != mark(everything(resolvers=["192.0.2.53"]))


# the door


def routes(**given: Any) -> dict[str, Any]:
    made = objects.ingress(IMAGES, SHOWN, [JUPYTER], **given)
    [settings] = [each for each in made if each["kind"] == "ConfigMap"]
    return dict(yaml.safe_load(settings["data"]["routes.yaml"]))


@pytest.mark.requirement("P-14", "P-15")
def test_plain_http_is_answered_by_a_redirect_alone() -> None:
    static = yaml.safe_load(the("ConfigMap", "traefik")["data"]["traefik.yaml"])
    redirect = static["entryPoints"]["web"]["http"]["redirections"]["entryPoint"]
    assert redirect == {"to": ":443", "scheme": "https", "permanent": True}
    for router in routes()["http"]["routers"].values():
        assert router["entryPoints"] == ["websecure"]


@pytest.mark.requirement("P-78", "P-69")
def test_every_answer_is_limited_and_carries_security_headers() -> None:
    static = yaml.safe_load(the("ConfigMap", "traefik")["data"]["traefik.yaml"])
    https = static["entryPoints"]["websecure"]["http"]
    middlewares = routes()["http"]["middlewares"]
    assert {name.removesuffix("@file") for name in https["middlewares"]} <= set(middlewares)
    assert middlewares["headers"]["headers"]["stsSeconds"] >= 31536000
    assert middlewares["rate"]["rateLimit"]["average"] > 0
    assert routes()["tls"]["options"]["default"]["minVersion"] == "VersionTLS12"
    assert "api" not in static


def test_the_door_holds_no_key_to_the_cluster() -> None:
    spec = the("DaemonSet", "traefik")["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in spec
    ports = {port["hostPort"]: port["containerPort"] for port in spec["containers"][0]["ports"]}
    assert ports == {80: 8000, 443: 8443}


def test_a_route_leads_to_its_service_and_no_further() -> None:
    made = routes()["http"]
    assert made["routers"]["jupyter-proxy"]["rule"] == "(Path(`/jupyter`) || PathPrefix(`/jupyter/`))"
    [server] = made["services"]["jupyter-proxy"]["loadBalancer"]["servers"]
    assert server == {"url": "http://proxy.jupyter.svc.cluster.local:8000"}
    [policy] = [each for each in everything() if each["metadata"]["name"] == "web"]
    [egress] = policy["spec"]["egress"]
    assert egress["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "jupyter"}}}]
    assert egress["ports"] == [{"protocol": "TCP", "port": 8000}]


@pytest.mark.parametrize(
    ("path", "host", "rule"),
    [
        ("/", "", "PathPrefix(`/`)"),
        ("/", "jupyter-a.example.org", "Host(`jupyter-a.example.org`)"),
        ("/x/", "a.example.org", "Host(`a.example.org`) && (Path(`/x`) || PathPrefix(`/x/`))"),
    ],
)
def test_rules_of_routes(path: str, host: str, rule: str) -> None:
    route = Route(path=path, host=host, namespace="a", service="b", port=1)
    made = objects.ingress(IMAGES, SHOWN, [route])
    [settings] = [each for each in made if each["kind"] == "ConfigMap"]
    assert yaml.safe_load(settings["data"]["routes.yaml"])["http"]["routers"]["a-b"]["rule"] == rule


def test_home_leads_to_a_path_and_is_off_without_one() -> None:
    assert "home" not in routes()["http"]["routers"]
    made = routes(home="/jupyter/")["http"]
    assert made["routers"]["home"]["rule"] == "Path(`/`)"
    assert made["middlewares"]["home"]["redirectRegex"]["replacement"] == "${1}/jupyter/"


def test_the_certificate_is_passed_on_as_it_is() -> None:
    chain, key = object(), object()
    made = objects.ingress(IMAGES, Certificate(chain=chain, private_key=key), [])
    [secret] = [each for each in made if each["kind"] == "Secret"]
    assert secret["stringData"]["tls.crt"] is chain
    assert secret["stringData"]["tls.key"] is key


# nodes


def request(
    name: str = "w",
    addresses: tuple[str, ...] = ("192.168.77.20",),
    *,
    names: tuple[str, ...] = ("w",),
    user: str = "",
    signer: str = nodes.SIGNER,
    usages: tuple[str, ...] = ("digital signature", "server auth"),
) -> dict[str, Any]:
    subject = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}"),
    ])  # fmt: skip
    asked = x509.SubjectAlternativeName(
        [*(x509.DNSName(each) for each in names), *(x509.IPAddress(ip_address(each)) for each in addresses)]
    )
    signed = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(asked, critical=False)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    return {
        "metadata": {"name": "csr-1"},
        "spec": {
            "signerName": signer,
            "username": user or f"system:node:{name}",
            "groups": ["system:nodes", "system:authenticated"],
            "usages": list(usages),
            "request": base64.b64encode(signed.public_bytes(Encoding.PEM)).decode(),
        },
    }


NODE = nodes.Node(name="w", addresses=("192.168.77.20", "fd76::20"))


@pytest.mark.requirement("H-17")
def test_a_kubelet_s_own_names_are_signed() -> None:
    assert nodes.objection(request(), NODE) == ""
    assert nodes.objection(request(addresses=("192.168.77.20", "fd76:0::20")), NODE) == ""


@pytest.mark.requirement("H-17")
@pytest.mark.parametrize(
    "bad",
    [
        request(addresses=("192.168.77.10",)),
        request(addresses=("192.168.77.20", "192.168.77.10")),
        request(names=("w", "kubernetes.default")),
        request("other", names=("other",)),
        request(user="system:node:other"),
        request(user="system:admin"),
        request(signer="kubernetes.io/kube-apiserver-client"),
        request(usages=("client auth",)),
        {"metadata": {}, "spec": {**request()["spec"], "request": base64.b64encode(b"junk").decode()}},
        {"metadata": {}, "spec": {**request()["spec"], "groups": ["system:authenticated"]}},
    ],
)
def test_a_request_for_anything_else_is_not_signed(bad: dict[str, Any]) -> None:
    assert nodes.objection(bad, NODE)


@pytest.mark.requirement("P-74")
def test_a_join_token_lives_a_quarter_of_an_hour() -> None:
    now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    token, secret = nodes.token(now)
    values = secret["stringData"]
    assert token == f"{values['token-id']}.{values['token-secret']}"
    assert datetime.fromisoformat(values["expiration"]) - now == timedelta(minutes=15)
    assert secret["type"] == "bootstrap.kubernetes.io/token"
    assert nodes.token()[0] != token


def test_slow_machines_are_not_killed_for_being_slow() -> None:
    written = {
        each["path"]: yaml.safe_load(each["content"]) for each in kubeadm.files("k") if "patches" in each["path"]
    }
    assert len(written) == 4
    for path, patch in written.items():
        [container] = patch["spec"]["containers"]
        assert path == f"{kubeadm.PATCHES}/{container['name']}+strategic.yaml"
        assert container["livenessProbe"]["timeoutSeconds"] >= 60
    assert kubeadm.read(kubeadm.first(SLOW))["InitConfiguration"]["patches"] == {"directory": kubeadm.PATCHES}
    assert "patches" not in kubeadm.read(kubeadm.first(ALONE))["InitConfiguration"]


def test_another_certificate_starts_the_door_anew() -> None:
    def annotations(until: str) -> dict[str, str]:
        made = objects.ingress(IMAGES, Certificate(chain="CHAIN", private_key="KEY", until=until), [])
        door = next(each for each in made if each["kind"] == "DaemonSet")
        return dict(door["spec"]["template"]["metadata"]["annotations"])

    assert annotations("2027-01-01") != annotations("2027-04-01")
    assert annotations("2027-01-01") == annotations("2027-01-01")
