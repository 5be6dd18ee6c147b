"""Bringing machines into a cluster: gone on with wherever it was interrupted, tokens for one join, faults explained."""

import base64
import hashlib
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from vre.cluster import kubeadm as configuration
from vre.cluster import nodes
from vre.cluster.objects import FIRST
from vre.errors import VreError
from vre.machine.ssh import Connection, File
from vre.provider import kubeadm
from vre.provider.handler import UNKNOWN, Context
from vre.provider.kubeadm import ControlPlane, Node, Worker, bring_up, joining, phase

CONFIG = configuration.joining("w", "192.168.77.20")


def authority() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


def admin(certificate: x509.Certificate) -> str:
    pem = certificate.public_bytes(Encoding.PEM)
    cluster = {"server": "https://192.168.77.10:6443", "certificate-authority-data": base64.b64encode(pem).decode()}
    return yaml.safe_dump({"clusters": [{"cluster": cluster}]})


class Shell:
    """A machine at a stage of joining: `kubeadm` ends well or not."""

    connection = Connection(address="192.168.77.20", host_keys=())

    def __init__(self, stage: str, *, ends: str = "done", log: Sequence[str] = ()) -> None:
        self.stage = stage
        self.ends = ends
        self.log = log
        self.did: list[str] = []
        self.files: dict[str, File] = {}

    def run(self, command: Sequence[str], *, line: Callable[[str], None] | None = None, **given: Any) -> str:
        if command[:3] == ["kubeadm", "reset", "--force"]:
            self.did.append("reset")
            self.stage = "new"
        elif command[:1] == ["sh"] and command[2] == kubeadm.START:
            self.did.append("start " + " ".join(command[4:]))
            self.stage = "running"
        elif command[:1] == ["sh"] and command[2] == kubeadm.FOLLOW:
            self.did.append("follow")
            for text in self.log:
                assert line is not None
                line(text)
            self.stage = self.ends
        elif command[:1] == ["sh"] and command[2] == kubeadm.FAULTS:
            return "container etcd:\nno space left on device\n"
        return f"{self.stage}\n"

    def exists(self, path: str) -> bool:
        assert path == kubeadm.DONE
        return self.stage == "done"

    def put(self, *files: File) -> None:
        self.files |= {file.path: file for file in files}


def up(shell: Shell, **given: Any) -> list[str]:
    command = ["kubeadm", "join", "--config", "x"]
    bring_up(shell, Context(**given), command, lambda: [File(path="/x", content=b"x")], CONFIG)  # type: ignore[arg-type]
    return shell.did


START = "start kubeadm join --config x"


@pytest.mark.requirement("P-45")
@pytest.mark.parametrize(
    ("stage", "did"),
    [
        ("new", [START, "follow"]),
        ("half", ["reset", START, "follow"]),
        ("running", ["follow"]),
        ("done", []),
    ],
)
def test_it_goes_on_from_wherever_it_was_interrupted(stage: str, did: list[str]) -> None:
    shell = Shell(stage)
    assert up(shell) == did
    assert ("/x" in shell.files) == (START in did)
    assert up(shell) == did, "a second time nothing is left to do"


def test_progress_is_what_kubeadm_is_doing() -> None:
    told: list[str] = []
    up(Shell("new", log=['[certs] Generating "ca" certificate and key', "", "free text"]), report=told.append)
    assert told == ['kubeadm: making certificates: Generating "ca" certificate and key']
    assert phase("[no-such-phase] x") == ""


def test_a_failure_tells_kubeadm_s_last_words_and_the_container_s() -> None:
    with pytest.raises(VreError) as caught:
        up(Shell("new", ends="half", log=["[etcd] Creating", "error: timed out"]))
    assert "error: timed out" in caught.value.message
    assert "no space left on device" in caught.value.message
    assert "pulumi up" in caught.value.hint


@pytest.mark.requirement("P-45")
def test_a_join_pins_the_authority_and_names_the_token_nowhere_else() -> None:
    certificate = authority()
    text = joining(CONFIG, admin(certificate), "abcdef.0123456789abcdef")
    told = yaml.safe_load(text)
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert told["kind"] == "JoinConfiguration"
    assert told["discovery"] == {
        "bootstrapToken": {
            "apiServerEndpoint": "192.168.77.10:6443",
            "token": "abcdef.0123456789abcdef",
            "caCertHashes": [f"sha256:{hashlib.sha256(public).hexdigest()}"],
        }
    }
    assert "unsafeSkipCAVerification" not in text
    assert told["nodeRegistration"]["name"] == "w"


def test_the_authority_s_hash_is_the_one_openssl_gives(tmp_path: Path) -> None:
    certificate = authority()
    (tmp_path / "ca.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    command = "openssl x509 -pubkey -noout -in ca.crt | openssl pkey -pubin -outform der | openssl dgst -sha256 -hex"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    pem = certificate.public_bytes(Encoding.PEM).decode()
    assert nodes.authority_hash(pem) == "sha256:" + done.stdout.split("= ")[1].strip()


@pytest.mark.parametrize("script", ["START", "FOLLOW", "STAGE", "FAULTS"])
def test_what_runs_on_the_machine_is_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=getattr(kubeadm, script), text=True, capture_output=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


def test_what_kubeadm_made_is_on_the_disk_before_the_mark_that_says_so(tmp_path: Path) -> None:
    for name, does in {
        "systemctl": "exit 0",
        "systemd-run": 'while [ "$1" != sh ]; do shift; done; exec "$@"',
        "sync": f"[ -s {tmp_path}/done ] && echo after >> {tmp_path}/log || echo before >> {tmp_path}/log",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    script = kubeadm.START
    places = {kubeadm.DONE: "done", kubeadm.LOG: "log.kubeadm", FIRST: "first", kubeadm.JOIN: "join"}
    for place, here in {**places, "/var/lib/vre": "vre", "/etc/kubernetes": "kubernetes"}.items():
        script = script.replace(place, f"{tmp_path}/{here}")
    command = ["sh", "-c", script, "digest", "true"]
    subprocess.run(command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, check=True)
    assert (tmp_path / "log").read_text().split() == ["before", "after"]
    assert (tmp_path / "done").read_text() == "digest\n"


def stage(tmp_path: Path, *, active: bool = False) -> str:
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\nexit {0 if active else 3}\n")
    (tmp_path / "systemctl").chmod(0o755)
    script = kubeadm.STAGE.replace("/etc/kubernetes", f"{tmp_path}/etc").replace(kubeadm.DONE, f"{tmp_path}/done")
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_stage_is_read_from_what_kubeadm_left(tmp_path: Path) -> None:
    for folder in ("manifests", "pki", "audit"):
        (tmp_path / "etc" / folder).mkdir(parents=True)
    (tmp_path / "etc" / "audit" / "policy.yaml").write_text("ours, from before")
    assert stage(tmp_path) == "new"
    (tmp_path / "etc" / "pki" / "ca.crt").write_text("x")
    assert stage(tmp_path) == "half"
    (tmp_path / "etc" / "pki" / "ca.crt").unlink()
    (tmp_path / "etc" / "kubelet.conf").write_text("x")
    assert stage(tmp_path) == "half"
    assert stage(tmp_path, active=True) == "running"
    (tmp_path / "done").write_text("digest\n")
    assert stage(tmp_path) == "done"
    assert stage(tmp_path, active=True) == "running"


def test_a_configuration_of_the_wrong_kind_is_refused() -> None:
    assert ControlPlane().check({"config": CONFIG})
    assert Worker().check({"config": CONFIG}) == []
    assert Worker().check({"config": "a: ["})
    assert Worker().check({"config": object()}) == []


def test_a_new_version_is_not_forced_onto_a_running_cluster() -> None:
    old, new = (
        configuration.first(
            configuration.Control(
                name="c", address="192.168.77.10", cluster="x", versions=configuration.Versions(kubernetes=version)
            )
        )
        for version in ("v1.36.3", "v1.37.0")
    )
    with pytest.raises(VreError, match=r"runs v1\.36\.3; v1\.37\.0"):
        ControlPlane().update(Context(), "c", {"config": old}, {"config": new})


def test_a_patch_level_is_written_into_a_running_control_plane() -> None:
    images = {"kube-apiserver": "localhost/vre/kube-apiserver:v1.36.4@sha256:1", "etcd": "localhost/vre/etcd:3.6.8-0@x"}
    assert configuration.versions(images) == configuration.Versions(kubernetes="v1.36.4", etcd="3.6.8-0")
    old, new = (
        configuration.read(
            configuration.first(
                configuration.Control(name="c", address="192.168.77.10", cluster="x", versions=versions)
            )
        )
        for versions in (configuration.Versions(), configuration.versions(images))
    )
    assert kubeadm._phases(old, new) == [
        ["etcd", "local"],
        ["control-plane", "all"],
        ["addon", "kube-proxy"],
        ["upload-config", "all"],
    ]
    assert ["addon", "kube-proxy"] not in kubeadm._phases(new, new)


def test_how_to_reach_a_machine_is_no_change() -> None:
    state = {"machine": "m", "connection": {"address": "a"}, "config": CONFIG}
    changed = ControlPlane().diff(state, {**state, "connection": {"address": "b"}})
    assert not changed.update | changed.replace
    assert ControlPlane().diff(state, {**state, "machine": "n"}).replace == {"machine"}


def test_a_node_is_kept_while_its_cluster_cannot_be_asked_and_goes_with_its_machine() -> None:
    nobody = {"address": "127.0.0.1", "port": 1, "hostKeys": []}
    state = {"machine": "m", "connection": nobody, "name": "c", "addresses": ["192.168.77.10"]}
    seen = Node().read(Context(), "c", state)
    assert seen is not None
    assert (seen.inputs, seen.outputs) == (state, state)
    assert Node().diff(state, {**state, "machine": "n"}).replace == {"machine"}
    assert Node().diff(state, {**state, "addresses": ["192.168.77.11"]}).update == {"addresses"}


def test_a_preview_does_not_pretend_to_know_what_is_made() -> None:
    inputs = {"machine": "m", "config": CONFIG}
    new = ControlPlane().preview(inputs, {})
    assert new == {**inputs, "ca": UNKNOWN, "caHash": UNKNOWN, "version": UNKNOWN}
    assert ControlPlane().preview(inputs, {**inputs, "ca": "pem"})["ca"] == "pem"
    assert Worker().preview(inputs, {})["joined"] is UNKNOWN


def test_no_token_is_shown_in_progress_or_failures() -> None:
    told: list[str] = []
    line = "[bootstrap-token] Using token: pbx61d.wf6w3uq19rust06m"
    with pytest.raises(VreError) as caught:
        up(Shell("new", ends="half", log=[line]), report=told.append)
    assert told == ["kubeadm: preparing for nodes to join: Using token: ****"]
    assert "wf6w3uq19rust06m" not in str(caught.value)
