"""Every port of both protocols and both families, from every side: what the policy says, and nothing else.

All of it with a node port and a host port opened in the cluster, which is the harder case: without them there is only
less that could answer. How a scan is made so that silence means something: scan.py.
"""

import json
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from tests.machine.conftest import NAME, OPERATOR, STRANGER, Launch
from tests.machine.lab import Host, Lab, port_of
from tests.machine.scan import EVERY, Scan, Sight, nmap
from tests.machine.stack import Say, Stack
from vre import clouds
from vre.config import Config
from vre.load import load
from vre.policy import Policy, Protocol, Role, reaches
from vre.stackfile import read

NODE_PORT, HOST_PORT = 31777, 8088
FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).status)"
GATEWAYS = ("192.168.77.1", "fd76:7265:77::1")
SIDES = {"outside": OPERATOR, "hypervisor": GATEWAYS, "stranger": STRANGER}
FAMILIES = ("ipv4", "ipv6")


@pytest.fixture(scope="module")
def policy(stack: Stack) -> Policy:
    config: Config = load(read(stack.checkout.path / "stacks" / f"Pulumi.{NAME}.yaml"))
    return clouds.policy(config)


@pytest.fixture(scope="module")
def opened(site: Launch, say: Say) -> Iterator[None]:
    """A pod that listens, opened to the world by a node port and a host port, as a careless administrator would."""
    say("opening a node port and a host port in the cluster")
    image = next(
        each["image"]
        for pod in site.control.objects("pods", "--namespace", "jupyter")
        for each in pod["spec"]["containers"]
        if "jupyterhub" in each["image"]
    )
    site.control.kubectl(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": _open(image)})
    )
    site.control.kubectl("wait", "--namespace", "careless", "pod/web", "--for=condition=Ready", "--timeout=180s")
    yield
    site.control.kubectl("delete", "namespace", "careless", "--wait=false")


def _open(image: str) -> list[dict[str, object]]:
    host_ports = [{"containerPort": 8080, "hostPort": HOST_PORT, "protocol": each} for each in ("TCP", "UDP")]
    node_ports = [
        {"name": each.lower(), "protocol": each, "port": 80, "targetPort": 8080, "nodePort": NODE_PORT}
        for each in ("TCP", "UDP")
    ]
    web = {
        "name": "web",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["/opt/jupyterhub/bin/python", "-m", "http.server", "8080", "--directory", "/etc"],
        "ports": host_ports,
        "readinessProbe": {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 2, "timeoutSeconds": 20},
    }
    careless = {"name": "web", "namespace": "careless", "labels": {"app": "web"}}
    ports = {"type": "NodePort", "selector": {"app": "web"}, "ports": node_ports}
    level = {"pod-security.kubernetes.io/enforce": "privileged"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "careless", "labels": level}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": careless, "spec": {"containers": [web]}},
        {"apiVersion": "v1", "kind": "Service", "metadata": careless, "spec": ports},
    ]


def scan(request: pytest.FixtureRequest, lab: Lab, site: Launch, say: Say, side: str, family: int) -> Scan:
    scanner: Host = lab.hypervisor if side == "hypervisor" else request.getfixturevalue(side)
    return Scan(
        scanner=scanner,
        machine=site.control,
        address=site.outputs["machines"][0]["addresses"][family],
        source=SIDES[side][family],
        hypervisor=lab.hypervisor,
        port="" if side == "hypervisor" else port_of(scanner),
        say=say,
    )


def allowed(policy: Policy, side: str, family: int, protocol: Protocol) -> frozenset[int]:
    source = ip_address(SIDES[side][family])
    return frozenset(port for port in EVERY if reaches(policy, source, Role.CONTROL, protocol, port))


def believable(sight: Sight, side: str, may: frozenset[int]) -> None:
    """A scan proves something only when every probe was really sent.

    From the hypervisor all arrive; from elsewhere the network's own filter lets no more come than the policy does.
    """
    assert sight.sent == frozenset(EVERY)
    if side == "hypervisor":
        assert sight.arrived == frozenset(EVERY)
    else:
        assert sight.arrived <= may


@pytest.mark.requirement("P-16", "P-17", "P-46", "H-35", "C-17")
@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("family", [0, 1], ids=FAMILIES)
@pytest.mark.parametrize("side", SIDES)
def test_tcp(
    request: pytest.FixtureRequest, lab: Lab, site: Launch, policy: Policy, say: Say, side: str, family: int
) -> None:
    sight = scan(request, lab, site, say, side, family).tcp()
    may = allowed(policy, side, family, Protocol.TCP)
    believable(sight, side, may)
    assert may == (frozenset() if side == "stranger" else {22, 80, 443})
    assert sight.answered == may
    assert sight.passed <= may
    assert sight.refused <= may


@pytest.mark.requirement("P-16", "P-17", "H-35", "C-17")
@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("family", [0, 1], ids=FAMILIES)
@pytest.mark.parametrize("side", SIDES)
def test_udp(
    request: pytest.FixtureRequest, lab: Lab, site: Launch, policy: Policy, say: Say, side: str, family: int
) -> None:
    sight = scan(request, lab, site, say, side, family).udp()
    may = allowed(policy, side, family, Protocol.UDP)
    believable(sight, side, may)
    assert may == frozenset()
    assert sight.passed == may


@pytest.mark.requirement("P-17")
@pytest.mark.usefixtures("opened")
def test_what_was_opened_in_the_cluster_does_answer_inside(site: Launch) -> None:
    """Else the scans would prove nothing about it."""
    pod = site.control.objects("pod", "web", "--namespace", "careless")[0]["status"]["podIP"]
    for place in (f"{pod}:8080", f"{site.control.address}:{HOST_PORT}", f"{site.control.address}:{NODE_PORT}"):
        done = site.control.result("python3", "-c", FETCH, f"http://{place}/")
        assert done.stdout.strip() == "200", f"{place}: {done.stderr}"


@pytest.mark.requirement("P-17", "P-46")
@pytest.mark.parametrize("port", [6443, 10250, 2379, 2380, 10257, 10259, 44, 10249])
def test_the_clusters_own_ports_do_not_answer(outside: Host, lab: Lab, site: Launch, port: int) -> None:
    if port in {6443, 10250}:
        assert f":{port} " in site.control.root("ss", "-lntH"), "else it proves nothing"
    for host in (outside, lab.hypervisor):
        assert nmap(host, site.control.address, [port]) == {port: "filtered"}


@pytest.mark.requirement("P-17")
def test_nothing_of_the_machine_answers_beyond_the_hypervisor(lab: Lab, site: Launch, say: Say) -> None:
    """From another network, routed through the hypervisor: a NAT network leads out, not in."""
    beyond = lab.host("vre-beyond")
    command = lab.hypervisor.run
    command("ip", "link", "add", "vre-beyond-p", "type", "veth", "peer", "name", "eth0", "netns", "vre-beyond")
    command("ip", "address", "add", "198.18.7.1/24", "dev", "vre-beyond-p")
    command("ip", "link", "set", "vre-beyond-p", "up")
    beyond.run("ip", "address", "add", "198.18.7.2/24", "dev", "eth0")
    beyond.run("ip", "link", "set", "eth0", "up")
    beyond.run("ip", "route", "add", "default", "via", "198.18.7.1")
    say("scan from beyond the hypervisor")
    states = nmap(beyond, site.control.address, EVERY, retries=0)
    assert set(states) == set(EVERY)
    assert [port for port, state in states.items() if state == "open"] == []
