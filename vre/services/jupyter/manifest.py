"""Jupyter's Kubernetes objects, from its settings. Pure."""

import hashlib
import json
from importlib.resources import files
from typing import Any

from vre.services.contract import Context, Object
from vre.services.jupyter import notebook
from vre.services.jupyter.names import (
    DOOR_PORT,
    HUB,
    HUB_PORT,
    PROXY,
    PROXY_API_PORT,
    SPACE,
    UID,
    USERS,
    hub_address,
    proxy_address,
)
from vre.services.jupyter.network import policies
from vre.services.jupyter.settings import Jupyter, mebibytes
from vre.services.kubernetes import container_security, namespace, pod_security, thing

STATE = "/srv/jupyterhub"
ACCOUNTS = "/run/secrets/accounts"
TOKEN = "/run/secrets/proxy"  # noqa: S105 (a folder)
CONFIG = "/etc/jupyterhub"
CHECKSUM = "vre/config"
NOTES = "vre-patch"
"""The ConfigMap on which machines note that they are about to reboot (`vre/cluster/manifests/patch.yaml`)."""


def objects(settings: Jupyter, context: Context) -> list[Object]:
    """Return every object of the service, in the order in which they are best applied."""
    return [
        namespace(SPACE),
        namespace(USERS),
        *policies(settings, context),
        _quota(settings),
        *_rights(),
        _accounts(settings, context),
        _token(context),
        _hub_config(settings, context),
        _proxy_config(),
        notebook.config(settings),
        _hub_volume(context),
        *_services(context),
        _hub(settings, context),
        _proxy(context),
    ]


def _quota(settings: Jupyter) -> Object:
    """Users together can start no more pods than servers may run, and none without limits."""
    hard = {
        "pods": str(settings.servers),
        "limits.cpu": str(round(settings.servers * settings.cpus, 3)),
        "limits.memory": f"{settings.servers * mebibytes(settings.memory)}Mi",
        "services": "0",
        "secrets": "0",
    }
    return thing("v1", "ResourceQuota", "servers", USERS, spec={"hard": hard})


def _rights() -> list[Object]:
    """The hub handles users' pods and homes, sees their events, and reads what machines note before they reboot.

    Nothing else: no secret, no other object of the cluster, and nothing in its own namespace.
    """
    return [
        thing("v1", "ServiceAccount", "hub", SPACE, automountServiceAccountToken=False),
        *_right(
            "hub", USERS,
            _rule("pods", "persistentvolumeclaims", verbs=["get", "list", "watch", "create", "delete"]),
            _rule("events", verbs=["get", "list", "watch"]),
        ),
        *_right("jupyter-notice", "kube-system", {**_rule("configmaps", verbs=["get"]), "resourceNames": [NOTES]}),
    ]  # fmt: skip


def _rule(*resources: str, verbs: list[str]) -> Object:
    return {"apiGroups": [""], "resources": list(resources), "verbs": verbs}


def _right(name: str, space: str, *rules: Object) -> list[Object]:
    """Return a role in a namespace, and that it is the hub's."""
    group = "rbac.authorization.k8s.io"
    return [
        thing(f"{group}/v1", "Role", name, space, rules=list(rules)),
        thing(
            f"{group}/v1", "RoleBinding", name, space,
            subjects=[{"kind": "ServiceAccount", "name": "hub", "namespace": SPACE}],
            roleRef={"apiGroup": group, "kind": "Role", "name": name},
        ),
    ]  # fmt: skip


def _accounts(settings: Jupyter, context: Context) -> Object:
    values = {name: context.secrets[secret_name(name)] for name in (settings.admin, *settings.users)}
    return thing("v1", "Secret", "accounts", SPACE, type="Opaque", stringData=values)


def secret_name(user: str) -> str:
    """Return the name under which a user's password is asked for."""
    return f"password-{user}"


def _token(context: Context) -> Object:
    return thing("v1", "Secret", "proxy", SPACE, type="Opaque", stringData={"token": context.secrets["proxy-token"]})


def _hub_config(settings: Jupyter, context: Context) -> Object:
    told = {
        **settings.model_dump(mode="json", exclude={"password"}),
        "accounts": ACCOUNTS,
        "base": context.base,
        "hub": f"http://{hub_address(context)}:{HUB_PORT}",
        "image": context.images["jupyter-notebook"],
        "namespace": USERS,
        "notebook": {"folder": notebook.FOLDER, "files": notebook.FILES},
        "proxy": f"http://{proxy_address(context)}:{PROXY_API_PORT}",
        "state": STATE,
        "storage_class": context.storage_class,
        "token": f"{TOKEN}/token",
        "uid": UID,
    }
    data = {
        "accounts.py": _source("hub/accounts.py"),
        "jupyterhub_config.py": _source("hub/jupyterhub_config.py"),
        "notes.py": _source("hub/notes.py"),
        "notice.py": _source("hub/notice.py"),
        "page.html": _source("hub/page.html"),
        "settings.json": json.dumps(told, indent=2, sort_keys=True),
    }
    return thing("v1", "ConfigMap", "hub", SPACE, data=data)


def _proxy_config() -> Object:
    return thing("v1", "ConfigMap", "proxy", SPACE, data={"token.cjs": _source("proxy/token.cjs")})


def _hub_volume(context: Context) -> Object:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": context.storage_class,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return thing("v1", "PersistentVolumeClaim", "hub", SPACE, spec=spec)


def _services(context: Context) -> list[Object]:
    return [
        _service("hub", HUB, HUB_PORT, address=hub_address(context)),
        _service("proxy-api", PROXY, PROXY_API_PORT, address=proxy_address(context)),
        _service("proxy", PROXY, DOOR_PORT),
    ]


def _service(name: str, pods: dict[str, str], port: int, *, address: str = "") -> Object:
    spec = {
        "type": "ClusterIP",
        "selector": pods,
        "ports": [{"name": "http", "protocol": "TCP", "port": port, "targetPort": port}],
        **({"clusterIP": address} if address else {}),
    }
    return thing("v1", "Service", name, SPACE, spec=spec)


def _hub(settings: Jupyter, context: Context) -> Object:
    config = _hub_config(settings, context)["data"]
    health = {"path": f"{context.base}hub/health", "port": HUB_PORT}
    container = {
        "name": "hub",
        "image": context.images["jupyterhub"],
        "command": ["/opt/jupyterhub/bin/jupyterhub", "--config", f"{CONFIG}/jupyterhub_config.py"],
        "workingDir": STATE,
        "env": [{"name": "HOME", "value": STATE}, {"name": "USER", "value": "jupyterhub"}],
        "resources": {"requests": {"cpu": "50m", "memory": "192Mi"}, "limits": {"cpu": "2", "memory": "768Mi"}},
        **_probes(health),
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG, "readOnly": True},
            {"name": "accounts", "mountPath": ACCOUNTS, "readOnly": True},
            {"name": "token", "mountPath": TOKEN, "readOnly": True},
            {"name": "state", "mountPath": STATE},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (the pod's own)
        ],
    }
    volumes = [
        {"name": "config", "configMap": {"name": "hub", "items": _items(config, page_html="templates/page.html")}},
        {"name": "accounts", "secret": {"secretName": "accounts", "defaultMode": 0o440}},
        {"name": "token", "secret": {"secretName": "proxy", "defaultMode": 0o440}},
        {"name": "state", "persistentVolumeClaim": {"claimName": "hub"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    pod = {"serviceAccountName": "hub", "automountServiceAccountToken": True, "volumes": volumes}
    return _deployment("hub", HUB, container, pod, config=config)


def _items(data: dict[str, str], **moved: str) -> list[Object]:
    """Return the files of a ConfigMap as a volume lays them out; `moved` ones (a dot is _) go elsewhere."""
    return [{"key": name, "path": moved.get(name.replace(".", "_"), name)} for name in sorted(data)]


def _proxy(context: Context) -> Object:
    hub = f"http://{hub_address(context)}:{HUB_PORT}"
    options = {
        "--ip": "0.0.0.0",  # noqa: S104 (the pod's own address; the policies say who reaches it)
        "--port": str(DOOR_PORT),
        "--api-ip": "0.0.0.0",  # noqa: S104
        "--api-port": str(PROXY_API_PORT),
        "--default-target": hub,
        "--error-target": f"{hub}{context.base}hub/error",
        "--log-level": "warn",
    }
    program = "/opt/proxy/node_modules/configurable-http-proxy/bin/configurable-http-proxy"
    container = {
        "name": "proxy",
        "image": context.images["jupyter-proxy"],
        "command": ["/usr/bin/node", "--require", "/etc/proxy/token.cjs", program, *sum(options.items(), ())],
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
        **_probes({"path": "/_chp_healthz", "port": DOOR_PORT}),
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/proxy", "readOnly": True},
            {"name": "token", "mountPath": TOKEN, "readOnly": True},
        ],
    }
    volumes = [
        {"name": "config", "configMap": {"name": "proxy"}},
        {"name": "token", "secret": {"secretName": "proxy", "defaultMode": 0o440}},
    ]
    pod = {"automountServiceAccountToken": False, "volumes": volumes}
    return _deployment("proxy", PROXY, container, pod, config=_proxy_config()["data"])


def _probes(request: Object) -> Object:
    """Probes that wait for a slow, emulated machine: ten minutes to start, two and a half without an answer."""
    return {
        "startupProbe": {"httpGet": request, "periodSeconds": 5, "timeoutSeconds": 10, "failureThreshold": 120},
        "readinessProbe": {"httpGet": request, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 3},
        "livenessProbe": {"httpGet": request, "periodSeconds": 30, "timeoutSeconds": 20, "failureThreshold": 5},
    }


def _deployment(name: str, pods: dict[str, str], container: Object, pod: Object, *, config: Any) -> Object:
    """Return a deployment of one pod that is replaced, never doubled, when its configuration changes."""
    whole = {"imagePullPolicy": "Never", "securityContext": container_security(), **container}
    template = {
        "metadata": {"labels": pods, "annotations": {CHECKSUM: _digest(config)}},
        "spec": {
            "enableServiceLinks": False,
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["127.0.0.1"]},
            "securityContext": pod_security(UID),
            "terminationGracePeriodSeconds": 30,
            "containers": [whole],
            **pod,
        },
    }
    spec = {
        "replicas": 1,
        "progressDeadlineSeconds": 1200,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": pods},
        "template": template,
    }
    return thing("apps/v1", "Deployment", name, SPACE, spec=spec)


def _digest(config: Any) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def _source(name: str) -> str:
    return files("vre.services.jupyter").joinpath("image", *name.split("/")).read_text()
