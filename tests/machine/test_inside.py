"""What may not be reached: the machine by the wrong key, and everything else by a user's work."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.conftest import NAME, OPERATOR, Launch
from tests.machine.lab import Host, Lab
from tests.machine.ledger import end
from tests.machine.stack import Stack
from vre.paths import project

METADATA = "169.254.169.254"
GATEWAY = "192.168.77.1"
IMPOSTOR_PORT = 2222
WAY_OUT = 8000
PROBE = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

QUESTION = "12340100000100000000000007636f6e74726f6c0570726f6f6608696e7465726e616c0000010001"

def probe(target):
    kind, host, port = target
    try:
        if kind == "name":
            socket.getaddrinfo(host, port)
            return "reached"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as way:
            way.settimeout(8)
            way.connect((host, port))
            if kind == "udp":
                way.send(bytes.fromhex(QUESTION))
                way.recv(512)
        return "reached"
    except OSError as error:
        return type(error).__name__

targets = json.loads(sys.argv[1])
with ThreadPoolExecutor(8) as pool:
    print(json.dumps({" ".join(map(str, each)): how for each, how in zip(targets, pool.map(probe, targets))}))
"""
Target = tuple[str, str, int]
CONFINEMENT = """
import json, subprocess
from pathlib import Path

def crictl(*words):
    return subprocess.run(["crictl", *words], capture_output=True, text=True, check=True).stdout

def look(container):
    told = json.loads(crictl("inspect", container))
    process = Path("/proc", str(told["info"]["pid"]))
    status = dict(line.split(":\\t") for line in (process / "status").read_text().splitlines() if ":\\t" in line)
    profile = (process / "attr/apparmor/current").read_text().strip()
    return told["status"]["metadata"]["name"], [status["Seccomp"], profile]

print(json.dumps(dict(map(look, crictl("ps", "--quiet").split()))))
"""
PRIVILEGED = {"kube-proxy"}
"""Writes the kernel's rules for services and its settings."""
LISTENING = {
    *(("tcp", port) for port in (22, 80, 443)),
    *(("tcp", port) for port in (2379, 2380, 6443, 10250)),  # etcd, the API and the kubelet: the firewall's to close
    ("udp", 51820),  # WireGuard, for other machines
}


@pytest.fixture(scope="module")
def listening(lab: Lab, outside: Host) -> Iterator[None]:
    """Something to reach: a metadata service beside the gateway, a server on another host of the network."""
    lab.hypervisor.run("ip", "address", "replace", f"{METADATA}/32", "dev", "lo")
    servers = [
        subprocess.Popen(
            host.words(sys.executable, "-m", "http.server", str(port), "--bind", address, "--directory", "/sys/kernel"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for host, address, port in ((lab.hypervisor, METADATA, 80), (outside, OPERATOR[0], WAY_OUT))
    ]  # fmt: skip
    time.sleep(1)
    yield
    end([server.pid for server in servers])
    for server in servers:
        server.wait()


def reached(site: Launch, namespace: str, pod: str, python: str, targets: list[Target]) -> list[str]:
    """Return which of the targets a pod gets an answer from."""
    command = ("exec", "--namespace", namespace, pod, "--", python, "-c", PROBE, json.dumps(targets))
    found = json.loads(site.control.kubectl(*command))
    assert len(found) == len(targets)
    return [target for target, how in found.items() if how == "reached"]


def _outside_targets() -> list[Target]:
    return [
        ("tcp", METADATA, 80),
        ("tcp", "fd00:ec2::254", 80),
        ("tcp", OPERATOR[0], WAY_OUT),
        ("tcp", GATEWAY, 53),
        ("udp", GATEWAY, 53),
        ("name", f"{NAME}-control.{NAME}.internal", 80),
    ]


@pytest.mark.usefixtures("listening")
def test_there_is_something_to_reach(lab: Lab, outside: Host, site: Launch) -> None:
    """Else it would prove nothing that pods do not reach it."""
    assert _get(outside, f"http://{METADATA}/") == "200"
    assert _get(lab.hypervisor, f"http://{OPERATOR[0]}:{WAY_OUT}/") == "200"
    name = f"{NAME}-control.{NAME}.internal"
    assert site.control.result("getent", "ahostsv4", name).stdout.startswith(site.control.address)


def _get(host: Host, url: str) -> str:
    return host.result("curl", "-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code}", url).stdout


@pytest.mark.requirement("C-16", "P-43")
@pytest.mark.usefixtures("listening")
def test_the_hub_reaches_nothing_outside(site: Launch) -> None:
    python = "/opt/jupyterhub/bin/python"
    api = ("tcp", site.control.address, 6443)
    assert reached(site, "jupyter", "deploy/hub", python, [*_outside_targets(), api]) == [" ".join(map(str, api))]


@pytest.mark.requirement("C-11", "C-16", "O-10")
@pytest.mark.usefixtures("listening")
def test_a_users_work_reaches_nothing_but_the_hub(site: Launch, notebook: str) -> None:
    inside: list[Target] = [
        ("tcp", "10.96.0.1", 443),
        ("tcp", site.control.address, 6443),
        ("tcp", site.control.address, 10250),
        ("tcp", site.control.address, 22),
        ("tcp", site.control.address, 443),
        ("tcp", "10.96.0.81", 8001),
        ("tcp", "10.96.0.10", 53),
        ("udp", "10.96.0.10", 53),
    ]
    others = [
        ("tcp", pod["status"]["podIP"], 8000)
        for pod in site.control.objects("pods", "--all-namespaces")
        if not pod["spec"].get("hostNetwork") and pod["metadata"]["name"] != notebook
    ]
    hub: Target = ("tcp", "10.96.0.80", 8081)
    targets = [*_outside_targets(), *inside, *others, hub]
    assert reached(site, "jupyter-users", notebook, "/opt/jupyter/bin/python", targets) == ["tcp 10.96.0.80 8081"]


@pytest.mark.requirement("P-50", "P-51", "C-11", "H-39")
def test_a_users_pod_has_no_rights(site: Launch, notebook: str) -> None:
    command = ("exec", "--namespace", "jupyter-users", notebook, "--", "cat", "/proc/self/status")
    status = dict(line.split(":", 1) for line in site.control.kubectl(*command).splitlines() if ":" in line)
    assert int(status["CapEff"], 16) == 0
    assert int(status["CapBnd"], 16) == 0
    assert status["Seccomp"].strip() == "2"
    assert status["NoNewPrivs"].strip() == "1"
    assert "0" not in status["Uid"].split()
    mounts = site.control.kubectl("exec", "--namespace", "jupyter-users", notebook, "--", "cat", "/proc/self/mounts")
    assert "serviceaccount" not in mounts


@pytest.mark.requirement("H-13", "H-10")
def test_every_container_is_confined_but_the_one_that_cannot_be(site: Launch) -> None:
    """Seccomp filters what it asks of the kernel (CIS Kubernetes 4.2.14), and AppArmor's profile is enforced."""
    found: dict[str, list[str]] = json.loads(site.control.root("python3", "-", stdin=CONFINEMENT))
    confined = {name for name, how in found.items() if how == ["2", "cri-containerd.apparmor.d (enforce)"]}
    assert {"hub", "proxy", "traefik", "coredns", "etcd", "kube-apiserver", "flannel"} <= confined
    assert set(found) - confined == PRIVILEGED


@pytest.mark.requirement("H-35")
def test_nothing_listens_that_is_not_meant_to(site: Launch) -> None:
    lines = [line.split() for line in site.control.root("ss", "-lntuH").splitlines()]
    ways = {(protocol, *address.rsplit(":", 1)) for protocol, _, _, _, address, *_ in lines}
    found = {(protocol, int(port)) for protocol, address, port in ways if not address.startswith(("127.", "[::1]"))}
    assert found == LISTENING


@pytest.mark.requirement("P-36")
@pytest.mark.parametrize("user", ["vre", "root"])
def test_ssh_takes_no_password(site: Launch, user: str) -> None:
    methods = "-oPreferredAuthentications=password,keyboard-interactive"
    command = [*site.control.ssh(methods, "-oPubkeyAuthentication=no")[:-1], f"{user}@{site.control.address}", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


@pytest.mark.requirement("P-36", "H-29", "H-38")
def test_ssh_takes_no_root_and_no_other_key(site: Launch, tmp_path: Path) -> None:
    root = [*site.control.ssh()[:-1], f"root@{site.control.address}", "true"]
    assert subprocess.run(root, capture_output=True, check=False).returncode == 255
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    other = [*site.control.ssh(key=tmp_path / "key"), "true"]
    assert subprocess.run(other, capture_output=True, check=False).returncode == 255
    own = [*site.control.ssh(), "true"]
    assert subprocess.run(own, capture_output=True, check=False).returncode == 0


@pytest.fixture
def impostor(lab: Lab, site: Launch, tmp_path: Path) -> Iterator[Path]:
    """Somebody else answers at the machine's address. Yields the file in which it writes down who came."""
    log = tmp_path / "impostor.log"
    log.touch()
    words = lab.hypervisor.words(sys.executable, "-m", "tests.machine.impostor", GATEWAY, str(IMPOSTOR_PORT), log)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=project()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        rule = f"ip daddr {site.control.address} tcp dport 22 dnat to {GATEWAY}:{IMPOSTOR_PORT}"
        chain = "chain output { type nat hook output priority -150; policy accept; " + rule + "; }"
        lab.hypervisor.result("nft", "-f", "-", stdin=f"table ip vre_impostor {{\n{chain}\n}}\n").check_returncode()
        yield log
        lab.hypervisor.run("nft", "delete", "table", "ip", "vre_impostor")
        end([process.pid])


OWN_LAYER = """
import sys
from vre.machine.ssh import Connection, HostKeyRefused, Shell
connection = Connection(address=sys.argv[1], host_keys=(sys.argv[2],), identity=sys.argv[3])
try:
    Shell(connection).open()
except HostKeyRefused as error:
    print("refused", error)
"""


@pytest.mark.requirement("P-36")
def test_a_changed_host_key_is_refused(site: Launch, stack: Stack, impostor: Path) -> None:
    identity = stack.checkout.state / "id_ed25519"
    key = site.outputs["machines"][0]["hostKey"]
    own = stack.command(sys.executable, "-c", OWN_LAYER, site.control.address, key, identity)
    assert own.text.startswith("refused"), own.text
    shell = stack.vre("ssh", "-s", NAME, "--", "true")
    assert shell.code != 0
    assert "host key" in shell.text.lower()
    status = stack.vre("status", "-s", NAME, "--json")
    assert status.code != 0
    came = impostor.read_text().splitlines()
    assert came.count("somebody came") >= 2
    assert set(came) == {"somebody came"}, "a login was tried"
