"""Measure a launch against the same image set up by hand, and a no-change run against an empty program: `make bench`.

Ratios within one run, since machines differ. Writes docs/benchmarks.md, from what was measured and nothing else.
"""

import json
import os
import platform
import re
import secrets
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import paramiko
import yaml

from tests.checkout import Checkout, clone
from tests.machine.conftest import make_stack
from tests.machine.lab import NAMESPACE, Lab
from tests.machine.stack import Ended
from vre import image
from vre.artifacts.store import Store
from vre.cluster import network, objects
from vre.image.boot import boot
from vre.paths import project
from vre.progress import elapsed, step
from vre.provider.libvirt.connection import connect
from vre.provider.libvirt.domain import counter
from vre.services import Context
from vre.services.jupyter.service import JUPYTER
from vre.services.jupyter.settings import Jupyter
from vre.setup import hypervisor

RUNS = 3
LAUNCH_LIMIT, QUIET_LIMIT = 1.25, 3.0
ADDRESS, GATEWAY = "10.0.2.15", "10.0.2.2"
"""What QEMU's own network gives to its one guest."""
PODS = "10.244.0.0/24"
"""The range that the first machine of a cluster is given."""
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
EMPTY = "name: empty\nruntime: {name: python, options: {toolchain: pip, virtualenv: VENV}}\n"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds, all from one run on one machine."""

    launch: float
    by_hand: float
    service: float
    quiet: float
    empty: float
    accelerator: str
    parts: dict[str, float]

    @property
    def launch_ratio(self) -> float:
        """How long a launch takes, compared with the same by hand."""
        return self.launch / (self.by_hand + self.service)

    @property
    def quiet_ratio(self) -> float:
        """How long a run without changes takes, compared with an empty program."""
        return self.quiet / self.empty


def took(text: str) -> dict[str, float]:
    """Return the seconds that each resource took to be made, from what the engine printed. Pure."""
    found = re.findall(r"vre:(\w+:\w+) (\S+) created \((\d+(?:\.\d+)?)s\)", text)
    return {f"{kind} {name}": float(seconds) for kind, name, seconds in found}


def launch(lab: Lab, checkout: Checkout, uri: str) -> tuple[Ended, list[float], str]:
    """Launch a stack in the lab, run it again without changes, take it away."""
    stack = make_stack(lab, checkout, uri, print)
    ended = stack.do("up")
    accelerator = str(stack.outputs()["machines"][0].get("accelerator", ""))
    quiet = [stack.do("up", "--expect-no-changes").seconds for _ in range(RUNS)]
    stack.do("destroy")
    return ended, quiet, accelerator


def by_hand(folder: Path, khz: int) -> tuple[float, float]:
    """Boot the same image, run a bare `kubeadm init`, add the pod network and the name server; wait for its answer.

    Then apply the service. Return the seconds that the first took since power-on, and those that the service took then.
    """
    with step("the same image by hand") as report:
        built = image.build(Store(), report)
        with boot(built.path, folder, report, khz=khz) as guest, guest.connect() as shell:
            _patiently(shell, "cloud-init status --wait || true")
            # Nothing answers there, but kubeadm and the kubelet take the address that the default route has.
            _patiently(shell, f"ip route replace default via {GATEWAY}")
            _patiently(shell, f"tee {network.CONFLIST} > /dev/null", network.conflist(PODS))
            report("kubeadm init")
            _patiently(shell, "kubeadm init --config /dev/stdin", yaml.safe_dump_all(_bare(built.images)))
            _patiently(shell, f"{KUBECTL} taint nodes --all node-role.kubernetes.io/control-plane-")
            _apply(shell, [*objects.network(built.images, ADDRESS), *objects.dns(built.images, ADDRESS)])
            report("waiting for the name server")
            _available(shell, "kube-system", "coredns")
            cluster = time.monotonic()
            report("the service")
            _patiently(shell, f"mkdir -p {objects.FIRST}")
            _apply(shell, [*objects.namespace(objects.STORAGE, level="privileged"), *_service(built.images)])
            _available(shell, "jupyter", "proxy", "hub")
            return cluster - guest.begun, time.monotonic() - cluster


def _service(images: Mapping[str, str]) -> list[dict[str, object]]:
    settings = Jupyter(admin="researcher")
    words = {each.name: secrets.token_urlsafe(24) for each in JUPYTER.secrets(settings)}
    context = Context(host=ADDRESS, base="/jupyter/", images=images, api_servers=(ADDRESS,), secrets=words)
    return [*objects.storage(images, ADDRESS, node="boot-test"), *JUPYTER.objects(settings, context)]


def _apply(shell: paramiko.SSHClient, things: list[dict[str, object]]) -> None:
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": things})
    _patiently(shell, f"{KUBECTL} apply -f -", listed)


def _available(shell: paramiko.SSHClient, space: str, *deployments: str) -> None:
    # Not the condition Available: one pod that may be missing counts as there.
    for name in deployments:
        _patiently(shell, f"{KUBECTL} rollout status deployment/{name} --namespace {space} --timeout 600s")


def _bare(images: Mapping[str, str]) -> list[dict[str, object]]:
    tag = images["etcd"].split("@")[0].rsplit(":", 1)[1]
    version = "kubeadm.k8s.io/v1beta4"
    node = {"criSocket": "unix:///run/containerd/containerd.sock", "imagePullPolicy": "Never"}
    waiting = {"controlPlaneComponentHealthCheck": "15m0s", "kubeletHealthCheck": "15m0s"}
    return [
        {
            "apiVersion": version,
            "kind": "InitConfiguration",
            "nodeRegistration": node,
            "skipPhases": ["addon/coredns"],
            "timeouts": waiting,
        },
        {
            "apiVersion": version,
            "kind": "ClusterConfiguration",
            "kubernetesVersion": "v1.36.3",
            "imageRepository": "localhost/vre",
            "networking": {"podSubnet": "10.244.0.0/16"},
            "etcd": {"local": {"imageTag": tag}},
        },
        # The image has no iptables, which would be the default.
        {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "nftables"},
    ]


def _patiently(shell: paramiko.SSHClient, command: str, stdin: str = "") -> str:
    source, out, error = shell.exec_command(f"sudo -n sh -c {shlex.quote(command)}", timeout=1800)
    source.write(stdin)
    source.channel.shutdown_write()
    said = out.read().decode(errors="replace")
    if out.channel.recv_exit_status():
        raise RuntimeError(f"{command}: {said[-2000:]}{error.read().decode(errors='replace')[-2000:]}")
    return said


def empty(folder: Path) -> list[float]:
    """Run an empty Pulumi program without changes."""
    (folder / "state").mkdir(parents=True)
    (folder / "Pulumi.yaml").write_text(EMPTY.replace("VENV", str(project() / ".venv")))
    (folder / "__main__.py").write_text("import pulumi\n")
    env = {
        **os.environ,
        "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": "empty",
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }

    def run(*words: str) -> float:
        begun = time.monotonic()
        command = [str(Path(sys.prefix, "bin", "pulumi")), *words, "--non-interactive"]
        subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        return time.monotonic() - begun

    run("stack", "init", "empty")
    up = ("up", "--yes", "--skip-preview", "--stack", "empty")
    run(*up)
    return [run(*up) for _ in range(RUNS)]


def measure() -> Measured:
    """Measure everything, one after the other."""
    lab = Lab()
    lab.open()
    try:
        checkout = clone(lab.home / "clone")
        uri = hypervisor.ensure(checkout.state, print, netns=NAMESPACE)
        hand, service = by_hand(lab.home / "by-hand", counter(connect(uri)))
        nothing = empty(lab.home / "empty")
        ended, quiet, accelerator = launch(lab, checkout, uri)
        hypervisor.stop(checkout.state, grace=0)
    finally:
        lab.close()
    return Measured(
        launch=ended.seconds,
        by_hand=hand,
        service=service,
        quiet=statistics.median(quiet),
        empty=statistics.median(nothing),
        accelerator=accelerator,
        parts=took(ended.text),
    )


def page(found: Measured, *, where: str, when: str) -> str:
    """Return docs/benchmarks.md. Pure."""
    longest = sorted(found.parts.items(), key=lambda part: -part[1])[:12]
    rows = "".join(f"| {name} | {elapsed(seconds)} |\n" for name, seconds in longest)
    return f"""# Benchmarks

Written by `make bench` on {when}: {where}, machines run by {found.accelerator or "an unknown accelerator"}.
Ratios are within this one run; times on another machine are others. What is built once (programs, images) was there.

| what | measured | at most |
|---|---|---|
| `pulumi up` until every service answered at its door | {elapsed(found.launch)} | |
| the same image by hand: power-on, bare `kubeadm init`, pods' network, name server | {elapsed(found.by_hand)} | |
| the service's own start on that cluster, applied by hand | {elapsed(found.service)} | |
| **launch, compared with by hand plus the service's start** | **{found.launch_ratio:.2f}** | {LAUNCH_LIMIT} |
| `pulumi up` without changes (median of {RUNS}) | {found.quiet:.1f} s | |
| an empty Pulumi Python program without changes (median of {RUNS}) | {found.empty:.1f} s | |
| **no-change run, compared with an empty program** | **{found.quiet_ratio:.2f}** | {QUIET_LIMIT} |

The two machines are alike: processors, memory, image, and what the emulated kernel is told about its clock. A launch
does more than the run by hand: it uploads the disk, formats an encrypted one, brings every package up to date,
sets up the firewalls, the ingress, network policies, storage, and checks every service through the front door.

## Where a launch spends its time

Things are made side by side, so the parts add up to more than the whole.

| part | time |
|---|---|
{rows}"""


def main(measured: Callable[[], Measured] = measure) -> int:
    """Measure, write the page, and say by the exit code whether the limits hold."""
    found = measured()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    where = f"{os.cpu_count()} processors, {memory:.0f} GiB of memory, Linux {platform.release().split('-')[0]}"
    target = project() / "docs" / "benchmarks.md"
    target.write_text(page(found, where=where, when=datetime.now(UTC).strftime("%Y-%m-%d")))
    sys.stdout.write(target.read_text())
    return int(found.launch_ratio > LAUNCH_LIMIT or found.quiet_ratio > QUIET_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
