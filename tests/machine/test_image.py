"""The base image by itself: what is in its containers' layers, and what it is once it has started."""

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from tests.unit.test_cloudinit import BOOT
from vre import image
from vre.artifacts import containers, oci
from vre.artifacts.store import Store
from vre.image import boot, check
from vre.machine import cloudinit
from vre.progress import silent

FOUND_BY_NAME = re.compile(r"(^|/)(pip\.conf|\.npmrc|npmrc|\.netrc|id_(rsa|ed25519)|auth\.json|\.git-credentials)$")


class Shell:
    """Commands on the booted guest."""

    def __init__(self, client: paramiko.SSHClient, guest: boot.Guest) -> None:
        self.client = client
        self.guest = guest

    def __call__(self, command: str) -> str:
        _, out, error = self.client.exec_command(command, timeout=600)
        said = out.read().decode()
        assert out.channel.recv_exit_status() == 0, said + error.read().decode()
        return said


@pytest.fixture(scope="module")
def built() -> image.Image:
    return image.build(Store(), silent)


@pytest.fixture(scope="module")
def shell(built: image.Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Boot the image once, with an account and a host key and nothing else."""
    with boot.boot(built.path, tmp_path_factory.mktemp("boot"), silent) as guest, guest.connect() as client:
        shell = Shell(client, guest)
        shell("cloud-init status --wait")
        yield shell


# the containers' layers


@pytest.fixture(scope="module")
def members() -> list[tuple[str, tarfile.TarInfo]]:
    """Return every entry of every layer, each layer once."""
    layout = containers.build(Store(), silent).layout
    manifests = [
        oci.read(layout, each["digest"]) for each in json.loads((layout / "index.json").read_text())["manifests"]
    ]
    layers = {layer["digest"] for manifest in manifests for layer in manifest["layers"]}
    found = []
    for layer in layers:
        with tarfile.open(layout / "blobs" / layer.replace(":", "/")) as tar:
            found += [(entry.name.removeprefix("./"), entry) for entry in tar]
    assert len(found) > 10000
    return found


@pytest.mark.requirement("H-41")
def test_no_container_image_holds_a_setuid_file(members: list[tuple[str, tarfile.TarInfo]]) -> None:
    assert [name for name, entry in members if entry.isfile() and entry.mode & 0o6000] == []


@pytest.mark.requirement("H-41")
def test_no_setting_of_the_machine_that_built_it_stays_in_a_layer(members: list[tuple[str, tarfile.TarInfo]]) -> None:
    own = [name for name, entry in members if FOUND_BY_NAME.search(name)]
    assert own == []
    assert [name for name, entry in members if name in {"etc/resolv.conf", "etc/hostname"} and entry.size] == []


# what cloud-init thinks


def test_what_a_machine_is_told_is_valid_to_its_own_cloud_init() -> None:
    seed = cloudinit.render(BOOT)
    with check.unpacked(Store()) as root:
        check.check_cloud_config(root, seed.files())


# the started machine


def test_it_starts_with_no_unit_failed(shell: Shell) -> None:
    assert shell("systemctl list-units --failed --plain --no-legend") == ""


def test_every_container_image_is_there_by_tag_and_by_digest(shell: Shell, built: image.Image) -> None:
    listed = json.loads(shell("sudo crictl images --output json"))["images"]
    tags = {tag for each in listed for tag in each["repoTags"]}
    digests = {digest for each in listed for digest in each["repoDigests"]}
    assert tags == {reference.partition("@")[0] for reference in built.images.values()}
    assert digests == {re.sub(r":[^:@]+@", "@", reference) for reference in built.images.values()}
    assert all(each["pinned"] for each in listed)
    assert json.loads(shell("cat /usr/share/vre/images.json")) == dict(built.images)


def test_a_container_starts_without_unpacking_anything(shell: Shell) -> None:
    """Each image has its top snapshot: `ctr run` would have to make it first."""
    count = len(shell("sudo ctr --namespace k8s.io snapshots ls | tail -n +2").splitlines())
    assert count >= len(json.loads(shell("cat /usr/share/vre/images.json")))


@pytest.mark.requirement("P-36")
def test_it_takes_no_password(shell: Shell) -> None:
    transport = paramiko.Transport(("127.0.0.1", shell.guest.port))
    try:
        transport.start_client(timeout=60)
        with pytest.raises(paramiko.BadAuthenticationType) as refused:
            transport.auth_password(boot.USER, "anything at all")
        assert refused.value.allowed_types == ["publickey"]
    finally:
        transport.close()


def test_its_root_took_what_the_disk_offers(shell: Shell) -> None:
    assert int(shell("findmnt --noheadings --bytes --output SIZE /")) > 11 * 1024**3


def test_the_kernel_is_set_up_for_the_kubelet(shell: Shell) -> None:
    names = "net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables vm.overcommit_memory kernel.panic_on_oops"
    assert shell(f"sudo sysctl --values {names}").split() == ["1"] * 4


def test_it_has_one_host_key_and_an_identity_of_its_own(shell: Shell) -> None:
    assert shell("ls /etc/ssh/ssh_host_*_key").split() == ["/etc/ssh/ssh_host_ed25519_key"]
    assert len(shell("cat /etc/machine-id").strip()) == 32


def test_it_upgrades_by_itself_every_day(shell: Shell) -> None:
    timers = json.loads(shell("systemctl list-timers --output json"))
    assert {"apt-daily.timer", "apt-daily-upgrade.timer"} <= {each["unit"] for each in timers if each["next"]}


def test_a_new_kernel_lands_where_the_machine_starts_from(shell: Shell) -> None:
    version = shell("uname -r").strip()
    entry = f"/efi/loader/entries/vre-{version}.conf"
    before = shell(f"sudo cat {entry}")
    shell(f"sudo rm -r {entry} /efi/vre/{version}")
    shell(f"sudo /etc/kernel/postinst.d/zz-systemd-boot {version} /boot/vmlinuz-{version}")
    assert shell(f"sudo cat {entry}") == before
    for word in ("linux", "initrd"):
        path = Path("/efi") / next(line.split()[1] for line in before.splitlines() if line.startswith(word)).lstrip("/")
        assert int(shell(f"sudo stat --format %s {path}")) > 1024**2
