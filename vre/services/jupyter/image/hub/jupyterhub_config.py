"""JupyterHub as a service of a VRE. Settings and secrets come from mounted files, nothing from the environment."""

import json
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent  # noqa: F821, RUF100 (traitlets sets it)
sys.path.insert(0, str(HERE))

from accounts import Accounts  # noqa: E402

HOME = "/home/jovyan"
CULLER_SCOPES = ["list:users", "read:users:activity", "read:servers", "delete:servers"]


def hub(c: Any, told: dict[str, Any]) -> None:
    """Configure the hub itself: addresses, database, sessions, overload."""
    c.JupyterHub.base_url = told["base"]
    c.JupyterHub.hub_bind_url = "http://0.0.0.0:8081"
    c.JupyterHub.hub_connect_url = told["hub"]
    c.JupyterHub.db_url = f"sqlite:///{told['state']}/jupyterhub.sqlite"
    c.JupyterHub.upgrade_db = True
    c.JupyterHub.cookie_secret_file = f"{told['state']}/cookie_secret"
    c.JupyterHub.cookie_max_age_days = told["session_hours"] / 24
    c.JupyterHub.tornado_settings = {"cookie_options": {"secure": True}, "slow_spawn_timeout": 0}
    c.JupyterHub.active_server_limit = told["servers"]
    c.JupyterHub.concurrent_spawn_limit = 4
    c.JupyterHub.cleanup_servers = False  # users' work goes on while the hub restarts
    c.JupyterHub.init_spawners_timeout = 1
    c.JupyterHub.allow_named_servers = False
    c.JupyterHub.template_paths = [str(HERE / "templates")]


def proxy(c: Any, told: dict[str, Any]) -> None:
    """Configure the proxy, which runs in a pod of its own."""
    c.JupyterHub.cleanup_proxy = False
    c.ConfigurableHTTPProxy.should_start = False
    c.ConfigurableHTTPProxy.api_url = told["proxy"]
    c.ConfigurableHTTPProxy.auth_token = Path(told["token"]).read_text().strip()


def accounts(c: Any, told: dict[str, Any]) -> None:
    """Configure who may log in: closed accounts, a lock after five wrong passwords, sessions checked every 30 s."""
    c.JupyterHub.authenticator_class = Accounts
    c.Accounts.folder = told["accounts"]
    c.Accounts.settled = f"{told['state']}/settled.json"
    c.Accounts.admin_users = {told["admin"]}
    c.Accounts.allowed_users = {told["admin"], *told["users"]}
    c.Accounts.allow_existing_users = True
    c.Accounts.blocked_users = set(told["blocked"])
    c.Accounts.username_pattern = r"^[a-z0-9][a-z0-9._-]{0,39}$"
    c.Accounts.enable_signup = False
    c.Accounts.check_common_password = True
    c.Accounts.minimum_password_length = 12
    c.Accounts.allowed_failed_logins = 5
    c.Accounts.seconds_before_next_try = 600
    c.Accounts.auth_refresh_age = 30
    c.Accounts.auth_refresh_strict = True
    c.Accounts.refresh_pre_spawn = True


def culler(c: Any, told: dict[str, Any]) -> None:
    """Stop idle servers, with no more rights than that needs."""
    idle = told["idle_minutes"] * 60
    command = [
        sys.executable,
        "-m",
        "jupyterhub_idle_culler",
        f"--timeout={idle}",
        f"--cull-every={min(idle // 2, 600)}",
        f"--url=http://127.0.0.1:8081{told['base']}hub/api",
    ]
    c.JupyterHub.services = [{"name": "culler", "command": command}]
    c.JupyterHub.load_roles = [{"name": "culler", "scopes": CULLER_SCOPES, "services": ["culler"]}]


def servers(c: Any, told: dict[str, Any]) -> None:
    """Configure one user's server: what runs, how much it may use, where its home lies."""
    c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
    c.Spawner.start_timeout = 600
    c.Spawner.http_timeout = 300
    c.Spawner.default_url = "/lab"
    c.Spawner.cpu_limit = told["cpus"]
    c.Spawner.cpu_guarantee = min(0.05, told["cpus"])
    c.Spawner.mem_limit = told["memory"].removesuffix("i")
    c.Spawner.mem_guarantee = "128M"
    c.Spawner.environment = {
        "HOME": HOME,
        "JUPYTER_RUNTIME_DIR": "/tmp/runtime",  # noqa: S108 (the pod's own)
        "PATH": "/opt/jupyter/bin:/usr/local/bin:/usr/bin:/bin",
        "SHELL": "/bin/bash",
        "USER": "jovyan",
    }
    k = c.KubeSpawner
    k.namespace = told["namespace"]
    k.image = told["image"]
    k.image_pull_policy = "Never"
    k.cmd = ["/opt/jupyter/bin/jupyterhub-singleuser"]
    k.working_dir = HOME
    k.port = 8888
    k.delete_pvc = True  # a home goes with its account: the next user of that name must not find it
    k.k8s_api_request_timeout = 60
    k.k8s_api_request_retry_timeout = 180
    k.extra_resource_limits = {"ephemeral-storage": "512Mi"}
    k.extra_resource_guarantees = {"ephemeral-storage": "32Mi"}
    _home(k, told)
    _confine(k, told)


def _home(k: Any, told: dict[str, Any]) -> None:
    k.storage_pvc_ensure = True
    k.storage_class = told["storage_class"]
    k.storage_capacity = told["disk"]
    k.storage_access_modes = ["ReadWriteOnce"]
    notebook = told["notebook"]
    items = [{"key": name, "path": path} for name, path in notebook["files"].items()]
    k.volumes = [
        {"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}},
        {"name": "config", "configMap": {"name": "notebook", "items": items}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
    ]
    k.volume_mounts = [
        {"name": "home", "mountPath": HOME},
        {"name": "config", "mountPath": notebook["folder"], "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
    ]


def _confine(k: Any, told: dict[str, Any]) -> None:
    """Pod Security `restricted`, and no way to names or to the cluster."""
    k.uid = k.gid = k.fs_gid = told["uid"]
    k.automount_service_account_token = False
    k.allow_privilege_escalation = False
    k.pod_security_context = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    k.container_security_context = {
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    k.extra_container_config = {"command": ["/usr/bin/catatonit", "--"]}
    servers = [str(each).split("/")[0] for each in told["resolvers"]] or ["127.0.0.1"]
    k.extra_pod_config = {"enableServiceLinks": False, "dnsPolicy": "None", "dnsConfig": {"nameservers": servers}}


def configure(c: Any) -> None:
    """Configure everything."""
    os.umask(0o077)
    told = json.loads((HERE / "settings.json").read_text())
    for part in (hub, proxy, accounts, culler, servers):
        part(c, told)


configure(get_config())  # noqa: F821 (traitlets sets it)
