"""Jupyter's objects: who reaches whom, what the hub may do, what a user's pod is."""

import json
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.policies import End, reaches
from tests.unit.test_services import CONTROL, context, kinds, made
from vre.errors import VreError
from vre.services import CATALOGUE, Object
from vre.services.jupyter.settings import Jupyter

TRAEFIK = End(space="ingress", labels={"app.kubernetes.io/name": "traefik"})
HUB = End(space="jupyter", labels={"app.kubernetes.io/name": "jupyter", "app.kubernetes.io/component": "hub"})
PROXY = End(space="jupyter", labels={"app.kubernetes.io/name": "jupyter", "app.kubernetes.io/component": "proxy"})
USER = End(space="jupyter-users", labels={"hub.jupyter.org/username": "bob"}, address="10.244.0.30")
NEIGHBOUR = End(space="jupyter-users", labels={"hub.jupyter.org/username": "carol"}, address="10.244.0.31")
DNS = End(space="kube-system", labels={"k8s-app": "kube-dns"}, address="10.244.0.2")
API = End(address=CONTROL)
METADATA = End(address="169.254.169.254")
OUTSIDE = End(address="192.0.2.80")
OTHER = End(space="galaxy", labels={"app.kubernetes.io/name": "traefik"})


def policies(**settings: Any) -> list[Object]:
    return kinds(made("jupyter", **settings), "NetworkPolicy")


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (TRAEFIK, PROXY, 8000),
        (PROXY, HUB, 8081),
        (PROXY, USER, 8888),
        (HUB, PROXY, 8001),
        (HUB, USER, 8888),
        (HUB, API, 6443),
        (USER, HUB, 8081),
    ],
)
def test_what_jupyter_needs_is_open(source: End, target: End, port: int) -> None:
    assert reaches(policies(), source, target, port)


@pytest.mark.requirement("C-12", "C-11", "O-01", "O-10")
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (USER, NEIGHBOUR),
        (USER, PROXY),
        (USER, API),
        (USER, METADATA),
        (USER, OUTSIDE),
        (USER, DNS),
        (USER, TRAEFIK),
        (TRAEFIK, HUB),
        (TRAEFIK, USER),
        (OTHER, PROXY),
        (OTHER, HUB),
        (OTHER, USER),
        (OUTSIDE, PROXY),
        (OUTSIDE, HUB),
        (OUTSIDE, USER),
        (PROXY, API),
        (PROXY, OUTSIDE),
        (HUB, OUTSIDE),
        (HUB, DNS),
    ],
)
def test_everything_else_is_closed(source: End, target: End) -> None:
    rules = policies()
    open_ports = [
        (protocol, port)
        for protocol in ("TCP", "UDP")
        for port in (22, 53, 80, 443, 2379, 6443, 8000, 8001, 8081, 8888, 10250, 33333)
        if reaches(rules, source, target, port, protocol=protocol)
    ]
    assert open_ports == []


def test_a_user_reaches_no_other_port_of_the_hub_and_traefik_none_of_the_proxy() -> None:
    rules = policies()
    assert [port for port in range(1, 65536) if reaches(rules, USER, HUB, port)] == [8081]
    assert [port for port in range(1, 65536) if reaches(rules, TRAEFIK, PROXY, port)] == [8000]


@pytest.mark.requirement("C-16")
def test_opened_egress_opens_that_network_and_nothing_inside_the_vre() -> None:
    rules = policies(egress=["192.0.2.0/24"])
    assert reaches(rules, USER, OUTSIDE, 443)
    assert reaches(rules, USER, OUTSIDE, 53, protocol="UDP")
    assert not reaches(rules, USER, End(address="198.51.100.1"), 443)
    everything = policies(egress=["0.0.0.0/0"])
    assert reaches(everything, USER, OUTSIDE, 443)
    for closed in (API, METADATA, NEIGHBOUR, End(address="10.96.0.1"), End(address="192.168.77.1")):
        assert not reaches(everything, USER, closed, 443)
    assert not reaches(everything, HUB, OUTSIDE, 443)


@pytest.mark.parametrize("network", ["10.244.0.0/24", "192.168.77.10/32", "169.254.169.254/32"])
def test_the_inside_of_the_vre_is_never_opened(network: str) -> None:
    with pytest.raises(VreError, match="pods never reach"):
        made("jupyter", egress=[network])


def rights(objects: list[Object]) -> dict[str, set[tuple[str, str, tuple[str, ...]]]]:
    """Return what the hub may do in each namespace: resource, verb, names (none: all)."""
    made: dict[str, set[tuple[str, str, tuple[str, ...]]]] = {}
    for role in kinds(objects, "Role"):
        about = role["metadata"]
        (binding,) = (each for each in kinds(objects, "RoleBinding") if each["metadata"] == about)
        assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": about["name"]}
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "hub", "namespace": "jupyter"}]
        made[about["namespace"]] = {
            (resource, verb, tuple(rule.get("resourceNames", ())))
            for rule in role["rules"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
    assert len(kinds(objects, "RoleBinding")) == len(made)
    return made


@pytest.mark.requirement("P-50", "H-19")
def test_the_hub_may_handle_pods_and_homes_of_users_read_one_note_and_no_more() -> None:
    reading = ("get", "list", "watch")
    handling = (*reading, "create", "delete")
    assert rights(made("jupyter")) == {
        "jupyter-users": {
            *((resource, verb, ()) for resource in ("pods", "persistentvolumeclaims") for verb in handling),
            *(("events", verb, ()) for verb in reading),
        },
        "kube-system": {("configmaps", "get", ("vre-patch",))},
    }


@pytest.mark.requirement("H-19")
def test_only_the_hub_has_a_key_to_the_cluster() -> None:
    keys = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]["automountServiceAccountToken"]
        for each in kinds(made("jupyter"), "Deployment")
    }
    assert keys == {"hub": True, "proxy": False}


@pytest.mark.requirement("P-77")
def test_users_together_cannot_take_more_than_was_planned() -> None:
    (quota,) = kinds(made("jupyter", servers=4, memory="2Gi", cpus=0.5), "ResourceQuota")
    assert quota["metadata"]["namespace"] == "jupyter-users"
    assert quota["spec"]["hard"]["pods"] == "4"
    assert quota["spec"]["hard"]["limits.memory"] == "8192Mi"
    assert quota["spec"]["hard"]["limits.cpu"] == "2.0"


def test_a_changed_setting_replaces_the_hub_and_not_the_proxy() -> None:
    def marks(**settings: Any) -> dict[str, str]:
        return {
            each["metadata"]["name"]: each["spec"]["template"]["metadata"]["annotations"]["vre/config"]
            for each in kinds(made("jupyter", **settings), "Deployment")
        }

    before, after = marks(), marks(idle_minutes=30)
    assert before["hub"] != after["hub"]
    assert before["proxy"] == after["proxy"]
    assert marks() == before


def test_addresses_are_fixed_and_told_to_those_who_need_them() -> None:
    objects = made("jupyter")
    fixed = {each["metadata"]["name"]: each["spec"].get("clusterIP") for each in kinds(objects, "Service")}
    assert fixed == {"hub": "10.96.0.80", "proxy-api": "10.96.0.81", "proxy": None}
    told = settings_file(objects)
    assert told["hub"] == "http://10.96.0.80:8081"
    assert told["proxy"] == "http://10.96.0.81:8001"
    assert "password" not in told


def test_the_service_answers_below_its_path_or_at_its_own_name() -> None:
    service, chosen = CATALOGUE["jupyter"], Jupyter()
    around = context(service, chosen, host="jupyter-vre.example.org", base="/")
    assert settings_file(service.objects(chosen, around))["base"] == service.route(around).path == "/"
    assert service.outputs(chosen, around)["url"] == "https://jupyter-vre.example.org/"
    assert service.outputs(chosen, around)["passwords"] == {"admin": "secret of password-admin"}
    assert service.check(around).path == "/hub/login"


@pytest.mark.requirement("P-51")
@pytest.mark.parametrize("wanted", [True, False])
def test_the_terminal_is_there_only_when_it_is_wanted(wanted: bool) -> None:
    server = json.loads(notebook(terminal=wanted)["jupyter_server_config.json"])["ServerApp"]
    assert server["terminals_enabled"] is wanted
    assert server["jpserver_extensions"]["jupyter_server_terminals"] is wanted


def notebook(**settings: Any) -> dict[str, str]:
    (config,) = (
        each for each in kinds(made("jupyter", **settings), "ConfigMap") if each["metadata"]["name"] == "notebook"
    )
    assert config["metadata"]["namespace"] == "jupyter-users"
    data: dict[str, str] = config["data"]
    return data


class Recorded(defaultdict[str, Any]):
    """Stands in for the configuration object: remembers what was set on each class."""

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def settings_file(objects: list[Object]) -> dict[str, Any]:
    config = next(each for each in kinds(objects, "ConfigMap") if each["metadata"]["name"] == "hub")
    loaded: dict[str, Any] = json.loads(config["data"]["settings.json"])
    return loaded


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the hub's configuration as the hub does, on what the ConfigMap holds."""

    def run(**settings: Any) -> Recorded:
        objects = made("jupyter", **settings)
        config = next(each for each in kinds(objects, "ConfigMap") if each["metadata"]["name"] == "hub")
        token = tmp_path / "token"
        token.write_text("secret\n")
        told = {**json.loads(config["data"]["settings.json"]), "token": str(token)}
        (tmp_path / "settings.json").write_text(json.dumps(told))
        file = tmp_path / "jupyterhub_config.py"
        file.write_text(config["data"]["jupyterhub_config.py"])
        accounts = ModuleType("accounts")
        accounts.Accounts = object  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "accounts", accounts)
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setattr("os.umask", lambda mask: mask)
        recorded = Recorded(Recorded)
        exec(compile(file.read_text(), file, "exec"), {"__file__": str(file), "get_config": lambda: recorded})
        return recorded

    return run


@pytest.mark.requirement("P-50", "P-57", "H-01", "H-06", "P-24", "H-10")
def test_a_users_pod_is_restricted(configured: Any) -> None:
    spawner = configured().KubeSpawner
    assert spawner.uid == spawner.gid == spawner.fs_gid == 1000
    assert spawner.automount_service_account_token is False
    assert spawner.allow_privilege_escalation is False
    assert spawner.container_security_context == {
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spawner.pod_security_context["runAsNonRoot"] is True
    assert spawner.image_pull_policy == "Never"
    assert spawner.namespace == "jupyter-users"


def test_a_users_pod_gets_every_file_of_its_configuration_and_lab_finds_its_extension(configured: Any) -> None:
    spawner, data = configured().KubeSpawner, notebook()
    (volume,) = (each["configMap"] for each in spawner.volumes if "configMap" in each)
    (mount,) = (each for each in spawner.volume_mounts if each["name"] == "config")
    assert mount == {"name": "config", "mountPath": "/opt/jupyter/etc/jupyter", "readOnly": True}
    assert volume["name"] == "notebook"
    placed = {f"{mount['mountPath']}/{item['path']}": data[item["key"]] for item in volume["items"]}
    assert len(placed) == len(volume["items"]) == len(data)
    server = json.loads(placed["/opt/jupyter/etc/jupyter/jupyter_server_config.json"])
    (extensions,) = server["LabApp"]["extra_labextensions_path"]
    package = json.loads(placed[f"{extensions}/vre-notice/package.json"])
    built = package["jupyterlab"]["_build"]
    program = placed[f"{extensions}/{package['name']}/{built['load']}"]
    assert f'_JUPYTERLAB["{package["name"]}"]' in program
    assert "innerHTML" not in program
    assert "/opt/jupyter/etc/jupyter/labconfig/page_config.json" in placed


def test_the_hub_is_given_every_program_that_its_configuration_imports() -> None:
    config = next(each for each in kinds(made("jupyter"), "ConfigMap") if each["metadata"]["name"] == "hub")["data"]
    own = {name.removesuffix(".py") for name in config if name.endswith(".py")}
    folder = Path(__file__).resolve().parents[2] / "vre" / "services" / "jupyter" / "image" / "hub"
    assert own == {each.stem for each in folder.glob("*.py")}
    assert {"accounts", "notes", "notice"} <= own


@pytest.mark.requirement("P-77")
def test_a_users_pod_has_limits(configured: Any) -> None:
    config = configured(cpus=2, memory="1536Mi", disk="5Gi")
    assert config.Spawner.cpu_limit == 2
    assert config.Spawner.mem_limit == "1536M"
    assert config.KubeSpawner.storage_capacity == "5Gi"
    assert config.KubeSpawner.extra_resource_limits["ephemeral-storage"]
    assert config.JupyterHub.active_server_limit == 20


def test_a_users_pod_asks_no_name_server_unless_one_is_named(configured: Any) -> None:
    closed = configured().KubeSpawner.extra_pod_config
    assert closed == {"enableServiceLinks": False, "dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]}}
    opened = configured(egress=["192.0.2.0/24"], resolvers=["192.0.2.53/32"]).KubeSpawner.extra_pod_config
    assert opened["dnsConfig"] == {"nameservers": ["192.0.2.53"]}


@pytest.mark.requirement("P-68")
def test_accounts_are_closed_and_sessions_end(configured: Any) -> None:
    config = configured(admin="alice", users=["bob"], blocked=["mallory"], session_hours=6)
    assert config.Accounts.enable_signup is False
    assert config.Accounts.admin_users == {"alice"}
    assert config.Accounts.allowed_users == {"alice", "bob"}
    assert config.Accounts.blocked_users == {"mallory"}
    assert config.Accounts.allowed_failed_logins == 5
    assert config.Accounts.seconds_before_next_try == 600
    assert config.JupyterHub.cookie_max_age_days == 0.25
    assert config.JupyterHub.tornado_settings["cookie_options"]["secure"] is True


def test_idle_servers_are_stopped_with_few_rights(configured: Any) -> None:
    config = configured(idle_minutes=30)
    (service,) = config.JupyterHub.services
    (role,) = config.JupyterHub.load_roles
    assert "--timeout=1800" in service["command"]
    assert "--url=http://127.0.0.1:8081/jupyter/hub/api" in service["command"]
    assert role["services"] == [service["name"]]
    assert set(role["scopes"]) == {"list:users", "read:users:activity", "read:servers", "delete:servers"}


@pytest.mark.parametrize("folder", ["hub", "notebook"])
def test_requirements_are_hashed_and_name_no_source(folder: str) -> None:
    image = Path(__file__).resolve().parents[2] / "vre" / "services" / "jupyter" / "image"
    lock = (image / folder / "requirements.txt").read_text()
    pins = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(pins) > 50
    assert all("==" in pin and pin.endswith("\\") for pin in pins)
    assert "://" not in lock
    assert lock.count("--hash=sha256:") >= len(pins)


def test_the_proxys_lock_is_whole_and_names_no_source() -> None:
    image = Path(__file__).resolve().parents[2] / "vre" / "services" / "jupyter" / "image"
    packages = json.loads((image / "proxy" / "package-lock.json").read_text())["packages"]
    assert packages["node_modules/configurable-http-proxy"]["version"] == "5.3.0"
    assert [name for name, each in packages.items() if name and "integrity" not in each] == []
    assert [name for name, each in packages.items() if "resolved" in each] == []
