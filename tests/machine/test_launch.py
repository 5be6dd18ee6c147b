"""A launch ends when the environment is usable, says so, and shows no secret to anybody."""

import json
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.machine.conftest import NAME, Launch
from tests.machine.lab import Host, Lab
from tests.machine.secrets import canaries, holding
from tests.machine.stack import Stack


def get(host: Host, url: str, *options: str) -> tuple[int, str, str]:
    """Ask for a page; return curl's exit code, the status and where it redirects to."""
    shown = "%{http_code} %{redirect_url}"
    done = host.result("curl", "-s", "-o", "/dev/null", "-m", "60", "-w", shown, *options, url)
    status, _, to = done.stdout.partition(" ")
    return done.returncode, status, to


@pytest.fixture(scope="module")
def trust(lab: Lab, site: Launch) -> tuple[str, str]:
    file = lab.home / "authority.pem"
    file.write_text(site.outputs["authority"])
    return "--cacert", str(file)


@pytest.mark.requirement("P-06")
def test_the_outputs_are_complete(site: Launch) -> None:
    outputs = site.outputs
    assert {"url", "services", "user", "password", "authority", "machines"} <= set(outputs)
    assert outputs["user"] == "researcher"
    assert len(outputs["password"]) >= 16
    assert outputs["authority"].startswith("-----BEGIN CERTIFICATE-----")
    assert set(outputs["services"]) == {"jupyter"}
    machine = outputs["machines"][0]
    assert (machine["name"], machine["role"]) == (f"{NAME}-control", "control")
    assert len(machine["addresses"]) == 2
    assert machine["hostKey"].startswith("ssh-ed25519 ")


@pytest.mark.requirement("P-06", "P-14", "P-15", "P-02")
def test_every_address_answers_with_a_valid_chain(site: Launch, outside: Host, trust: tuple[str, str]) -> None:
    for url in (site.outputs["url"], *site.outputs["services"].values()):
        code, status, _ = get(outside, url, *trust, "-L")
        assert (code, status) == (0, "200"), url
        code, _, _ = get(outside, url)
        assert code == 60, f"{url} is trusted without its authority"


@pytest.mark.requirement("P-14", "P-16")
def test_it_answers_over_ipv6_too(site: Launch, outside: Host, trust: tuple[str, str]) -> None:
    """By the address in the certificate, on the way of the other family, as a name with both would be."""
    url = site.outputs["services"]["jupyter"]
    six = next(address for address in site.outputs["machines"][0]["addresses"] if ":" in address)
    for port in (80, 443):
        there = f"::[{six}]:{port}"
        code, status, _ = get(
            outside, url.replace("https:", "http:") if port == 80 else url, "--connect-to", there, *trust
        )
        assert (code, status[:1]) == (0, "3"), port


@pytest.mark.requirement("P-14", "P-15")
@pytest.mark.parametrize("request_", [(), ("-X", "POST", "-d", "a=b"), ("-H", "Host: other.example")])
def test_http_only_redirects(site: Launch, outside: Host, request_: tuple[str, ...]) -> None:
    place = urlsplit(site.outputs["services"]["jupyter"])
    code, status, to = get(outside, f"http://{place.netloc}{place.path}", *request_)
    assert code == 0
    assert status in {"301", "302", "307", "308"}
    assert to.startswith("https://")


@pytest.mark.requirement("P-14")
def test_old_tls_is_refused(site: Launch, outside: Host, trust: tuple[str, str]) -> None:
    url = site.outputs["services"]["jupyter"]
    code, _, _ = get(outside, url, *trust, "--tls-max", "1.1")
    assert code == 35
    code, _, _ = get(outside, url, *trust, "--tlsv1.3")
    assert code == 0


@pytest.mark.requirement("P-44")
def test_no_secret_is_written_down_here(site: Launch, stack: Stack, lab: Lab) -> None:
    wanted = site.canaries()
    assert len(wanted) > 6
    assert site.outputs["password"] in wanted
    assert any("authority" in name for name in site.secrets())
    disks = (lab.home / "pool", stack.checkout.state / "hypervisor")
    files = [file for file in lab.home.rglob("*") if file.is_file() and not any(disk in file.parents for disk in disks)]
    assert any(stack.checkout.backend in file.parents for file in files)
    assert holding(files, wanted) == {}


@pytest.mark.requirement("P-44")
def test_no_secret_was_on_a_command_line(site: Launch) -> None:
    seen = site.arguments
    assert any("pulumi-resource-vre" in line or "vre.provider" in line for line in seen)
    assert any("qemu-system" in line for line in seen)
    wanted = site.canaries()
    assert [line for line in seen for mark in wanted if mark in line] == []


@pytest.mark.requirement("P-43", "H-33", "H-36")
def test_no_secret_lies_open_on_the_machine(site: Launch) -> None:
    places = ("/var/lib/cloud", "/var/log", "/etc", "/home", "/root", "/opt", "/var/lib/etcd", "/var/lib/vre")
    # The key of the first contact is in what the machine was told at its first boot, and was replaced since.
    kept = {name: text for name, text in site.secrets().items() if "first-host-key" not in name}
    assert len(kept) < len(site.secrets())
    wanted = "".join(f"{each}\n" for each in canaries(kept.values()))
    done = site.control.result(
        "sudo", "-n", "grep", "-rlaF", "--devices=skip", "-f", "-", *places, stdin=wanted, timeout=900
    )
    assert done.returncode in {0, 1}, done.stderr
    # The machine's own host key has to be there, and no other secret, nor that one elsewhere.
    assert set(done.stdout.split()) <= {"/etc/ssh/ssh_host_ed25519_key"}


@pytest.mark.requirement("P-44")
def test_what_holds_secrets_is_closed_to_others(stack: Stack, site: Launch) -> None:
    for name in ("id_ed25519", "passphrase"):
        assert (stack.checkout.state / name).stat().st_mode & 0o077 == 0
    for disk in stack.of("libvirt:Volume"):
        assert Path(disk["outputs"]["path"]).stat().st_mode & 0o007 == 0


@pytest.mark.requirement("P-45")
def test_kubeadm_made_the_cluster(site: Launch) -> None:
    config = site.control.objects("configmap", "kubeadm-config", "--namespace", "kube-system")[0]
    assert "v1.36" in config["data"]["ClusterConfiguration"]


@pytest.mark.requirement("P-31", "P-03", "P-97")
def test_every_pod_runs_and_none_was_pulled_from_elsewhere(site: Launch) -> None:
    pods = site.control.objects("pods", "--all-namespaces")
    assert pods
    phases = {pod["metadata"]["name"]: pod["status"]["phase"] for pod in pods}
    assert set(phases.values()) == {"Running"}, phases
    images = {each["image"] for pod in pods for each in pod["spec"]["containers"]}
    assert [image for image in images if not image.startswith("localhost/vre/")] == []


def test_the_clock_of_the_machine_is_right(site: Launch) -> None:
    """An emulated processor's clock may run several times too fast, and with it every time-out of the cluster."""
    assert abs(float(site.control.result("date", "+%s").stdout) - time.time()) < 60


@pytest.mark.requirement("H-32")
def test_every_namespace_denies_by_default(site: Launch) -> None:
    namespaces = {each["metadata"]["name"] for each in site.control.objects("namespaces")}
    denying = {
        each["metadata"]["namespace"]
        for each in site.control.objects("networkpolicies", "--all-namespaces")
        if each["spec"]["podSelector"] == {} and set(each["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    }
    used = {each["metadata"]["namespace"] for each in site.control.objects("pods", "--all-namespaces")}
    assert (used & namespaces) - denying - {"kube-system"} == set()


def test_a_second_up_changes_nothing(site: Launch, stack: Stack) -> None:
    stack.do("up", "--expect-no-changes")


@pytest.mark.requirement("C-09")
def test_the_commands_see_a_healthy_stack(site: Launch, stack: Stack) -> None:
    for command in ("status", "audit", "check"):
        ended = stack.vre(command, "-s", NAME, "--json")
        assert ended.code == 0, ended.text
        assert json.loads(ended.text[ended.text.index("{") :])


@pytest.mark.requirement("P-47")
def test_kubectl_works_with_the_key_and_not_without(site: Launch, stack: Stack) -> None:
    ended = stack.vre("kubectl", "-s", NAME, "get", "nodes", "--output", "name")
    assert ended.code == 0, ended.text
    assert f"node/{NAME}-control" in ended.text
    key = stack.checkout.state / "id_ed25519"
    away = key.with_name("away")
    key.rename(away)
    try:
        ended = stack.vre("kubectl", "-s", NAME, "get", "nodes", "--output", "name")
    finally:
        away.rename(key)
    assert ended.code != 0
    assert "Traceback" not in ended.text
