"""`vre:cluster:ControlPlane` and `vre:cluster:Worker`: kubeadm on a machine, to be interrupted anywhere."""

import base64
import hashlib
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any, ClassVar

import yaml

from vre import yamltext
from vre.cluster import kubeadm, network, nodes
from vre.cluster.api import ADMIN, Api
from vre.cluster.objects import FIRST
from vre.errors import Finding, VreError
from vre.machine.ssh import Connection, File, Shell, Unreachable, wait
from vre.provider.handler import UNKNOWN, Context, Found, Handler, Props

CONFIG = "/etc/kubernetes/kubeadm.yaml"
JOIN = "/run/vre/join.yaml"
DONE = "/var/lib/vre/kubeadm-done"
LOG = "/var/log/vre-kubeadm.log"
UNIT = "vre-kubeadm"
HINT = f"vre ssh, then: sudo less {LOG}; sudo crictl ps -a. After that: pulumi up"
TOKEN = re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b")
LOOKING = 30.0  # seconds that a look, or a removal, waits for the API server
LONGEST = 3600.0  # seconds that kubeadm may take on the slowest machine
PHASES = {
    "preflight": "checking the machine",
    "certs": "making certificates",
    "kubeconfig": "making kubeconfigs",
    "etcd": "preparing etcd",
    "control-plane": "preparing the control plane",
    "kubelet-start": "starting the kubelet",
    "wait-control-plane": "waiting for the control plane",
    "kubelet-check": "waiting for the kubelet",
    "control-plane-check": "waiting for the control plane",
    "api-check": "waiting for the API server",
    "upload-config": "storing the configuration",
    "mark-control-plane": "marking the node",
    "bootstrap-token": "preparing for nodes to join",
    "kubelet-finalize": "giving the kubelet its certificate",
    "addons": "installing kube-proxy",
    "discovery": "asking the control plane",
    "kubelet-bootstrap": "waiting for the kubelet's certificate",
}

# Runs apart from the SSH connection, so that losing that loses nothing. The mark is the last thing made, and what it
# stands for is on the disk before it: files of the last seconds before a power cut may be empty afterwards.
START = f"""set -eu
systemctl reset-failed {UNIT} 2>/dev/null || true
mkdir -p /var/lib/vre {FIRST}
: > {LOG}; chmod 600 {LOG}
exec systemd-run --quiet --unit={UNIT} --property=StandardOutput=append:{LOG} --property=StandardError=append:{LOG} \\
  sh -c 'umask 077; "$@" && rm -f /etc/kubernetes/super-admin.conf {JOIN} && sync && echo "$0" > {DONE} && sync' \\
  "$0" "$@"
"""
FOLLOW = f"""pid=$(systemctl show --property=MainPID --value {UNIT})
[ "${{pid:-0}}" = 0 ] && exec cat {LOG}
exec tail --lines=+1 --follow --sleep-interval=0.5 --pid="$pid" {LOG}
"""
STAGE = f"""systemctl is-active --quiet {UNIT} && {{ echo running; exit; }}
[ -s {DONE} ] && {{ echo done; exit; }}
[ -n "$(ls -A /etc/kubernetes/manifests /etc/kubernetes/pki 2>/dev/null | grep -v :)" ] && {{ echo half; exit; }}
ls /etc/kubernetes/*.conf >/dev/null 2>&1 && echo half || echo new
"""
FAULTS = """for id in $(crictl ps -a --state Exited -q 2>/dev/null | head -n 3); do
echo "container $(crictl inspect -o go-template --template '{{.status.metadata.name}}' "$id"):"
crictl logs --tail 8 "$id" 2>&1
done; journalctl -u kubelet -n 8 --no-pager -o cat"""


class ControlPlane(Handler):
    """The first machine of a cluster."""

    token = "vre:cluster:ControlPlane"  # noqa: S105 - a type
    replace_on: ClassVar[frozenset[str]] = frozenset({"machine"})
    ignore: ClassVar[frozenset[str]] = frozenset({"connection"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse what is no configuration of `kubeadm init`."""
        return _check(inputs, "InitConfiguration", "ClusterConfiguration")

    def preview(self, inputs: Props, state: Props) -> Props:
        """Say that the cluster's authority is made with it, and stays."""
        return {**dict.fromkeys(("ca", "caHash", "version"), UNKNOWN), **state, **inputs}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Set the cluster up, or go on where an earlier attempt stopped."""
        told = kubeadm.read(inputs["config"])
        first = str(next(ip_network(told["ClusterConfiguration"]["networking"]["podSubnet"]).subnets(new_prefix=24)))
        files = [
            File(path=CONFIG, content=inputs["config"].encode(), mode="0600"),
            # The first node always gets the first range; so the pod network is there before the cluster.
            File(path=network.CONFLIST, content=network.conflist(first).encode()),
        ]
        with wait(Connection.read(inputs["connection"]), context, timeout=120) as shell:
            bring_up(shell, context, ["kubeadm", "init", "--config", CONFIG], lambda: files, inputs["config"])
            with Api(shell) as api:
                return told["InitConfiguration"]["nodeRegistration"]["name"], self._outputs(inputs, shell, api)

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Look whether the cluster is still there."""
        try:
            with Shell(Connection.read(state["connection"])) as shell:
                if not shell.exists(DONE):
                    return None
        except Unreachable as error:
            context.report(f"{error.message}; kept as last seen")
        inputs = {key: state[key] for key in ("machine", "connection", "config") if key in state}
        return Found(inputs=inputs, outputs=dict(state))

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Change settings and patch level in place. Raises VreError for another minor version.

        What counts is what the machine has: it takes patch levels by itself, and is not taken back.
        """
        before, after = (kubeadm.read(each["config"]) for each in (state, inputs))
        old, new = (each["ClusterConfiguration"]["kubernetesVersion"] for each in (before, after))
        if old.rpartition(".")[0] != new.rpartition(".")[0]:
            raise VreError(
                f"the cluster runs {old}; {new} is not brought to a running one yet",
                hint="launch a new stack beside it",
            )
        with wait(Connection.read(inputs["connection"]), context, timeout=120) as shell:
            live = shell.read(CONFIG)
            wanted = kubeadm.kept(inputs["config"], live)
            shell.put(File(path=CONFIG, content=wanted.encode(), mode="0600"))
            for phase in _phases(kubeadm.read(live), kubeadm.read(wanted)):
                context.report(f"kubeadm: {' '.join(phase)}")
                command = ["kubeadm", "init", "phase", *phase, "--config", CONFIG]
                shell.run(command, sudo=True, timeout=600, context=context, hint=HINT)
            with Api(shell) as api:
                node = after["InitConfiguration"]["nodeRegistration"]
                nodes.taint(api, node["name"], node.get("taints") or [])
                return self._outputs(inputs, shell, api)

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """The cluster ends with its machine."""

    def _outputs(self, inputs: Props, shell: Shell, api: Api) -> Props:
        authority = authority_of(shell.read(ADMIN))
        version = api.request("GET", "/version")["gitVersion"]
        return {**inputs, "ca": authority, "caHash": nodes.authority_hash(authority), "version": version}


class Node(Handler):
    """The first machine as a node of its own cluster. Apart from its control plane: objects are applied meanwhile."""

    token = "vre:cluster:Node"  # noqa: S105 - a type
    replace_on: ClassVar[frozenset[str]] = frozenset({"machine", "name"})
    ignore: ClassVar[frozenset[str]] = frozenset({"connection"})

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Sign the kubelet's serving certificate, and give the machine its range of pods' addresses."""
        node = nodes.Node(name=str(inputs["name"]), addresses=tuple(inputs["addresses"]))
        with wait(Connection.read(inputs["connection"]), context, timeout=120) as shell, Api(shell) as api:
            nodes.certify(api, context, node)
            _place_network(shell, api, context, node.name)
        return node.name, dict(inputs)

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Look whether the cluster still has the node."""
        return _known(context, state["connection"], resource_id, state)

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Sign for the new addresses."""
        return self.create(context, inputs)[1]

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """The node ends with its cluster."""


class Worker(Handler):
    """A machine that joins a cluster, and leaves it in good order."""

    token = "vre:cluster:Worker"  # noqa: S105 - a type
    replace_on: ClassVar[frozenset[str]] = frozenset({"machine", "name"})
    ignore: ClassVar[frozenset[str]] = frozenset({"connection", "control"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse what is no configuration of `kubeadm join`."""
        return _check(inputs, "JoinConfiguration")

    def preview(self, inputs: Props, state: Props) -> Props:
        """Say that it is to join."""
        return {"joined": UNKNOWN, **state, **inputs}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Join, or go on where an earlier attempt stopped. The token is made for this one join."""
        told = kubeadm.read(inputs["config"])["JoinConfiguration"]
        node = _node(told, str(inputs["connection"]["address"]))
        with (
            wait(Connection.read(inputs["control"]), context, timeout=120) as control,
            Api(control) as api,
            wait(Connection.read(inputs["connection"]), context, timeout=120) as shell,
        ):
            made, secret = nodes.token()

            def files() -> list[File]:
                api.apply(secret)
                text = joining(inputs["config"], control.read(ADMIN), made)
                return [File(path=JOIN, content=text.encode(), mode="0600")]

            try:
                bring_up(shell, context, ["kubeadm", "join", "--config", JOIN], files, inputs["config"])
            finally:
                api.delete(secret, wait=0)
            _place_network(shell, api, context, node.name)
            nodes.certify(api, context, node)
            nodes.until_ready(api, context, node.name)
        return node.name, {**inputs, "joined": node.name}

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Look whether the cluster still has the node."""
        return _known(context, state["control"], resource_id, state)

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Settings of a node act at its next join; nothing is done to a running one."""
        return {**inputs, "joined": resource_id}

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Drain the node, take it out of the cluster, clear the machine as far as it can be reached."""
        try:
            with Shell(Connection.read(state["control"])) as shell, Api(shell, patience=LOOKING) as api:
                nodes.leave(api, context, resource_id)
        except Unreachable as error:
            context.report(f"{error.message}; no cluster to leave")
        try:
            with Shell(Connection.read(state["connection"])) as shell:
                context.report("clearing the machine")
                _reset(shell)
        except Unreachable as error:
            context.report(f"{error.message}; nothing to clear there")


def bring_up(shell: Shell, context: Context, command: list[str], files: Callable[[], list[File]], config: str) -> None:
    """Run kubeadm to its end: begin, follow what runs already, or clear away a half-made attempt first.

    `files` is asked only when there is something to begin. Raises VreError with kubeadm's last words and those of the
    containers that ended.
    """
    stage = shell.run(["sh", "-c", STAGE], sudo=True).strip()
    if stage == "done":
        return
    if stage == "half":
        context.report("clearing an attempt that did not end")
        _reset(shell)
    if stage != "running":
        shell.put(*files())
        digest = hashlib.sha256(config.encode()).hexdigest()
        shell.run(["sh", "-c", START, digest, *command], sudo=True)
    lines: list[str] = []

    def line(text: str) -> None:
        lines.append(TOKEN.sub("****", text))
        if told := phase(lines[-1]):
            context.report(told)

    shell.run(["sh", "-c", FOLLOW], sudo=True, timeout=LONGEST, context=context, line=line)
    # The unit ends an instant after kubeadm's last word.
    for _ in range(20):
        if shell.exists(DONE):
            return
        if shell.run(["sh", "-c", STAGE], sudo=True).strip() != "running":
            break
        context.pause(0.5)
    if shell.exists(DONE):
        return
    tail = "\n    ".join([each for each in lines if each.strip()][-12:])
    said = shell.run(["sh", "-c", FAULTS], sudo=True, timeout=120).strip().replace("\n", "\n    ")
    raise VreError(f"{' '.join(command[:2])} failed on {shell.connection}:\n    {tail}\n    {said}", hint=HINT)


def phase(line: str) -> str:
    """Return what a line of kubeadm's output says is being done; nothing when it says nothing new."""
    if not line.startswith("[") or "]" not in line:
        return ""
    name, _, rest = line[1:].partition("]")
    if name == "preflight" and "Running" not in rest:
        return ""
    return f"kubeadm: {PHASES[name]}: {rest.strip()[:70]}" if name in PHASES else ""


def joining(config: str, admin: str, made: str) -> str:
    """Return the whole configuration of a join: the token, and the authority pinned by its hash."""
    cluster = yamltext.load(admin)["clusters"][0]["cluster"]
    told = kubeadm.read(config)
    told["JoinConfiguration"]["discovery"] = {
        "bootstrapToken": {
            "apiServerEndpoint": cluster["server"].removeprefix("https://"),
            "token": made,
            "caCertHashes": [nodes.authority_hash(authority_of(admin))],
        }
    }
    return yaml.safe_dump_all(told.values(), sort_keys=False)


def authority_of(admin: str) -> str:
    """Return the cluster's authority (PEM) from a kubeconfig."""
    cluster = yamltext.load(admin)["clusters"][0]["cluster"]
    return base64.b64decode(cluster["certificate-authority-data"]).decode()


def _known(context: Context, control: Props, name: str, state: Props) -> Found | None:
    """Return a node's resource as it stands while its cluster knows it, or cannot be asked."""
    try:
        with Shell(Connection.read(control)) as shell, Api(shell, patience=LOOKING) as api:
            if api.get(f"/api/v1/nodes/{name}") is None:
                return None
    except Unreachable as error:
        context.report(f"{error.message}; kept as last seen")
    return Found(inputs={key: value for key, value in state.items() if key != "joined"}, outputs=dict(state))


def _place_network(shell: Shell, api: Api, context: Context, name: str) -> None:
    text = network.conflist(nodes.pod_range(api, context, name))
    shell.put(File(path=network.CONFLIST, content=text.encode()))


def _reset(shell: Shell) -> None:
    shell.run(["kubeadm", "reset", "--force", "--cleanup-tmp-dir"], sudo=True, timeout=600, hint=HINT)
    shell.run(["rm", "-f", DONE, network.CONFLIST, JOIN], sudo=True)


def _phases(before: dict[str, Any], after: dict[str, Any]) -> list[list[str]]:
    """Return what kubeadm is to do again for a change of settings."""
    made = []
    if before["ClusterConfiguration"] != after["ClusterConfiguration"]:
        made += [["etcd", "local"], ["control-plane", "all"]]
    if before["ClusterConfiguration"]["kubernetesVersion"] != after["ClusterConfiguration"]["kubernetesVersion"]:
        made += [["addon", "kube-proxy"]]
    if before.get("KubeletConfiguration") != after.get("KubeletConfiguration"):
        made += [["kubelet-start"]]
    return [*made, ["upload-config", "all"]]


def _node(told: Props, address: str) -> nodes.Node:
    """Return the node as the configuration has it: its name, and the address its kubelet is given."""
    about = told["nodeRegistration"]
    given = [each["value"] for each in about.get("kubeletExtraArgs") or [] if each["name"] == "node-ip"]
    return nodes.Node(name=about["name"], addresses=tuple(given) or (address,))


def _check(inputs: Props, *kinds: str) -> list[Finding]:
    config = inputs.get("config")
    if not isinstance(config, str):
        return []
    try:
        told = kubeadm.read(config)
    except (yaml.YAMLError, KeyError, TypeError) as error:
        return [Finding(key="config", reason=f"not kubeadm's YAML: {error}")]
    return [Finding(key="config", reason=f"no {kind}") for kind in kinds if kind not in told]
