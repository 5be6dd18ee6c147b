"""The catalogue: what holds for every service, whatever it is."""

import re
from typing import Any

import pytest
from pydantic import BaseModel

from vre.errors import VreError
from vre.services import CATALOGUE, Context, Object, Service
from vre.services.kubernetes import allow, block, default_deny, namespace

SERVICES = sorted(CATALOGUE)
CONTROL = "192.168.77.10"


def context(service: Service[Any], settings: BaseModel, **other: Any) -> Context:
    names = [request.name for request in service.secrets(settings)]
    given: dict[str, Any] = {
        "host": "vre.example.org",
        "base": f"/{service.name}/",
        "images": {name: f"localhost/vre/{name}:1" for name in service.images},
        "api_servers": (CONTROL,),
        "private": ("192.168.77.0/24", "10.244.0.0/16", "10.96.0.0/16"),
        "secrets": {name: f"secret of {name}" for name in names},
    }
    return Context(**{**given, **other})


def made(name: str, **settings: Any) -> list[Object]:
    service = CATALOGUE[name]
    chosen = service.settings.model_validate(settings)
    return service.objects(chosen, context(service, chosen))


def kinds(objects: list[Object], kind: str) -> list[Object]:
    return [each for each in objects if each["kind"] == kind]


def pod_specs(objects: list[Object]) -> list[Object]:
    return [each["spec"]["template"]["spec"] for each in kinds(objects, "Deployment")]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_stays_in_its_own_namespaces(name: str) -> None:
    objects = made(name)
    spaces = {each["metadata"]["name"] for each in kinds(objects, "Namespace")}
    assert spaces == set(CATALOGUE[name].namespaces)
    elsewhere = [
        each for each in objects if each["kind"] != "Namespace" and each["metadata"]["namespace"] not in spaces
    ]
    assert {each["kind"] for each in elsewhere} <= {"Role", "RoleBinding"}
    for rule in (rule for role in kinds(elsewhere, "Role") for rule in role["rules"]):
        assert rule["verbs"] == ["get"]
        assert len(rule["resources"]) == len(rule["resourceNames"]) == 1


@pytest.mark.parametrize("name", SERVICES)
def test_every_namespace_is_restricted_and_closed_both_ways(name: str) -> None:
    objects = made(name)
    for each in kinds(objects, "Namespace"):
        assert each["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    closed = [each for each in kinds(objects, "NetworkPolicy") if each["metadata"]["name"] == "default-deny"]
    assert {each["metadata"]["namespace"] for each in closed} == set(CATALOGUE[name].namespaces)
    assert all(each["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} for each in closed)


@pytest.mark.requirement("P-50", "P-57", "H-01", "H-06", "P-24")
@pytest.mark.parametrize("name", SERVICES)
def test_no_container_is_root_or_can_become_it(name: str) -> None:
    specs = pod_specs(made(name))
    assert specs
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["privileged"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}
            assert set(container["resources"]["limits"]) >= {"cpu", "memory"}


@pytest.mark.requirement("P-03", "P-97")
@pytest.mark.parametrize("name", SERVICES)
def test_images_are_ours_and_never_pulled(name: str) -> None:
    for spec in pod_specs(made(name)):
        for container in spec["containers"]:
            assert container["image"].startswith("localhost/vre/")
            assert container["imagePullPolicy"] == "Never"


@pytest.mark.requirement("P-44")
@pytest.mark.parametrize("name", SERVICES)
def test_secret_values_are_in_secrets_only_and_reach_pods_as_files(name: str) -> None:
    objects = made(name)
    others = [each for each in objects if each["kind"] != "Secret"]
    assert "secret of" not in str(others)
    assert "secretKeyRef" not in str(objects)
    assert "secret of" in str(kinds(objects, "Secret"))


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_waited_for_exists(name: str) -> None:
    there = {(each["kind"], each["metadata"]["name"], each["metadata"].get("namespace", "")) for each in made(name)}
    assert {(each["kind"], each["name"], each["namespace"]) for each in CATALOGUE[name].ready} <= there


@pytest.mark.parametrize("name", SERVICES)
def test_the_route_leads_to_a_port_that_exists(name: str) -> None:
    service = CATALOGUE[name]
    chosen = service.settings()
    around = context(service, chosen)
    route = service.route(around)
    target = next(
        each for each in kinds(service.objects(chosen, around), "Service")
        if (each["metadata"]["namespace"], each["metadata"]["name"]) == (route.namespace, route.service)
    )  # fmt: skip
    assert route.port in {port["port"] for port in target["spec"]["ports"]}
    assert service.check(around).path.startswith(route.path)


@pytest.mark.requirement("H-19")
@pytest.mark.parametrize("name", SERVICES)
def test_nobody_has_rights_beyond_named_things_in_a_namespace(name: str) -> None:
    objects = made(name)
    assert not kinds(objects, "ClusterRole") + kinds(objects, "ClusterRoleBinding")
    for role in kinds(objects, "Role"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            assert "secrets" not in rule["resources"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_setting_is_described(name: str) -> None:
    fields = CATALOGUE[name].settings.model_fields
    assert fields
    assert [key for key, field in fields.items() if not field.description] == []


@pytest.mark.parametrize("name", SERVICES)
def test_objects_are_named_once(name: str) -> None:
    heads = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in made(name)]
    assert len(heads) == len(set(heads))
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", head[2]) for head in heads)


def test_a_network_is_opened_without_its_private_parts() -> None:
    opened = block("0.0.0.0/0", ["10.244.0.0/16", "fd00::/8"])
    closed = ["10.244.0.0/16", "169.254.0.0/16", "168.63.129.16/32"]
    assert opened == {"ipBlock": {"cidr": "0.0.0.0/0", "except": closed}}
    assert block("192.0.2.0/24", ["10.244.0.0/16"]) == {"ipBlock": {"cidr": "192.0.2.0/24"}}


@pytest.mark.parametrize("network", ["169.254.169.254/32", "10.244.3.0/24", "10.244.0.0/16"])
def test_a_private_network_is_never_opened(network: str) -> None:
    with pytest.raises(VreError, match="which pods never reach"):
        block(network, ["10.244.0.0/16"])


def test_a_policy_names_only_the_directions_it_opens() -> None:
    assert allow("x", "y", {}, egress=[{}])["spec"]["policyTypes"] == ["Egress"]
    assert default_deny("y")["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert namespace("z", level="baseline")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "baseline"
