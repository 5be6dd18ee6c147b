"""The base image by itself: what is in its containers' layers, and what it is once it has started."""

import hashlib
import json
import re
import shlex
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from tests.unit.test_cloudinit import BOOT
from vre import image
from vre.artifacts import containers, oci
from vre.artifacts.store import Store
from vre.image import boot, check, formats, recipe
from vre.machine import cloudinit
from vre.progress import silent
from vre.run import run

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
        with oci.opened(layout, layer) as tar:
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


def check_container_images(shell: Shell, built: image.Image) -> None:
    """Hold what the kubelet is told against what was baked in, by every name that it may ask for."""
    listed = json.loads(shell("sudo crictl images --output json"))["images"]
    tags = {tag for each in listed for tag in each["repoTags"]}
    digests = {digest for each in listed for digest in each["repoDigests"]}
    assert tags == {reference.partition("@")[0] for reference in built.images.values()}
    assert digests == {re.sub(r":[^:@]+@", "@", reference) for reference in built.images.values()}
    assert all(each["pinned"] for each in listed)
    asked = " ".join(built.images.values())
    shell(f"sudo sh -c 'for name in {asked}; do crictl inspecti --quiet $name > /dev/null || exit 1; done'")


def test_every_container_image_is_there_by_tag_and_by_digest(shell: Shell, built: image.Image) -> None:
    check_container_images(shell, built)
    assert json.loads(shell("cat /usr/share/vre/images.json")) == dict(built.images)


def test_container_images_stay_when_containerd_starts_anew(shell: Shell, built: image.Image) -> None:
    shell("sudo systemctl restart containerd.service")
    check_container_images(shell, built)


def test_container_images_have_no_compressed_layers(shell: Shell, built: image.Image) -> None:
    kept = shell("sudo find /var/lib/containerd/io.containerd.content.v1.content/blobs -type f -size +63k")
    assert kept == ""
    known = shell("sudo ctr --namespace k8s.io content ls --quiet").splitlines()
    assert len(known) == 2 * len(built.images)  # each one's manifest and configuration, and no record of more


@pytest.mark.requirement("H-02")
def test_a_container_starts_without_unpacking_anything(shell: Shell, built: image.Image) -> None:
    """Its layers are not there: what it starts from is its snapshots alone."""
    pod = {
        "metadata": {"name": "trial", "namespace": "default", "uid": "trial"},
        "log_directory": "/run/trial",
        "linux": {"cgroup_parent": "system.slice", "security_context": {"namespace_options": {"network": 2}}},
    }
    container = {
        "metadata": {"name": "trial"},
        "image": {"image": built.images["base"]},
        "command": ["/bin/sh", "-c", "cat /etc/debian_version; sleep 600"],
        "log_path": "log",
        "linux": {},
    }
    shell("sudo mkdir --parents /run/trial")
    for name, content in (("pod", pod), ("container", container)):
        shell(f"printf %s {shlex.quote(json.dumps(content))} | sudo tee /run/trial/{name}.json")
    shell("sudo crictl run --no-pull /run/trial/container.json /run/trial/pod.json")
    try:
        said = "until sudo test -s /run/trial/log; do sleep 1; done; sudo cat /run/trial/log"
        assert shell(f"timeout 60 sh -c '{said}'").split()[-1].startswith("13.")
    finally:
        shell("sudo crictl rmp --force $(sudo crictl pods --quiet --name trial)")


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
    rows = [row.split() for row in shell("lsblk --bytes --noheadings --raw --output TYPE,SIZE /dev/vda").splitlines()]
    disk = next(int(size) for kind, size in rows if kind == "disk")
    assert disk - sum(int(size) for kind, size in rows if kind == "part") < 8 * 1024**2
    assert int(shell("findmnt --noheadings --bytes --output SIZE /")) > 6 * 1024**3


def test_the_kernel_is_set_up_for_the_kubelet(shell: Shell) -> None:
    names = "net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables vm.overcommit_memory kernel.panic_on_oops"
    assert shell(f"sudo sysctl --values {names}").split() == ["1"] * 4


def test_it_has_one_host_key_and_an_identity_of_its_own(shell: Shell) -> None:
    assert shell("ls /etc/ssh/ssh_host_*_key").split() == ["/etc/ssh/ssh_host_ed25519_key"]
    assert len(shell("cat /etc/machine-id").strip()) == 32


@pytest.mark.requirement("P-38")
def test_it_upgrades_by_itself_every_day(shell: Shell) -> None:
    timers = json.loads(shell("systemctl list-timers --output json"))
    upgrading = {each["unit"] for each in timers if each["next"]} & {"apt-daily-upgrade.timer", "vre-patch.timer"}
    assert upgrading == {"vre-patch.timer"}


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


def test_a_new_kernel_lands_in_grubs_list(shell: Shell) -> None:
    version = shell("uname -r").strip()
    before = shell("sudo cat /efi/grub/grub.cfg")
    assert f"linux /vre/{version}/linux " in before
    shell("sudo rm -r /efi/grub")
    shell(f"sudo /etc/kernel/postinst.d/zz-systemd-boot {version} /boot/vmlinuz-{version}")
    assert shell("sudo cat /efi/grub/grub.cfg") == before


def test_a_newer_loader_lands_where_the_machine_starts_from(shell: Shell) -> None:
    def same(installed: str, started: str) -> bool:
        return shell(f"sudo cmp /usr/lib/{installed}.signed /efi/EFI/{started} && echo same").strip() == "same"

    shell("sudo rm /efi/EFI/BOOT/BOOTX64.efi /efi/EFI/debian/shimx64.efi")
    shell("sudo /var/lib/dpkg/info/systemd-boot.postinst triggered /usr/lib/shim")
    assert same("shim/shimx64.efi", "BOOT/BOOTX64.efi")
    assert same("shim/shimx64.efi", "debian/shimx64.efi")
    shell("sudo bootctl update --graceful")
    assert same("systemd/boot/efi/systemd-bootx64.efi", "systemd/systemd-bootx64.efi")
    assert same("shim/shimx64.efi", "BOOT/BOOTX64.efi")


@pytest.mark.requirement("H-23", "H-30")
def test_logs_and_containers_have_partitions_of_their_own(shell: Shell) -> None:
    for place, wanted in (
        ("/var/log", {"nodev", "nosuid", "noexec"}),
        ("/var/lib/containerd", {"nodev", "nosuid"}),
        ("/tmp", {"nodev", "nosuid", "noexec"}),
    ):
        mounted, options = shell(f"findmnt --noheadings --output TARGET,OPTIONS --target {place}").split()
        assert (mounted, wanted - set(options.split(","))) == (place, set())


@pytest.mark.requirement("H-23")
def test_there_is_room_for_a_newer_set_of_container_images(shell: Shell) -> None:
    used, free = shell("df --block-size 1 --output=used,avail /var/lib/containerd | tail -n 1").split()
    assert int(free) > 0.8 * int(used)


def test_no_network_was_asked_who_the_machine_is(shell: Shell) -> None:
    assert shell("cloud-id").strip() == "nocloud"
    assert shell("test ! -e /run/cloud-init/cloud.cfg || cat /run/cloud-init/cloud.cfg") == ""


@pytest.mark.drill
def test_container_images_are_there_after_a_reboot(shell: Shell, built: image.Image) -> None:
    before = shell("cat /proc/sys/kernel/random/boot_id")
    shell("sudo systemd-run --on-active=1 systemctl reboot")
    shell.client.close()
    time.sleep(20)
    shell.client = shell.guest.connect(timeout=time.monotonic() - shell.guest.begun + 600)
    assert shell("cat /proc/sys/kernel/random/boot_id") != before
    shell("timeout 120 sh -c 'until sudo crictl info > /dev/null; do sleep 1; done'")
    check_container_images(shell, built)


# other firmware


@pytest.mark.drill
@pytest.mark.parametrize(("firmware", "said"), [("bios", ""), ("secure", "SecureBoot enabled")])
def test_it_starts_with_every_firmware(built: image.Image, tmp_path: Path, firmware: str, said: str) -> None:
    with boot.boot(built.path, tmp_path, silent, firmware=firmware) as guest, guest.connect() as client:
        shell = Shell(client, guest)
        shell("cloud-init status --wait")
        assert shell("systemctl list-units --failed --plain --no-legend") == ""
        assert shell("mokutil --sb-state || true").strip() == said or not said
        assert shell("test -d /sys/firmware/efi && echo uefi || echo bios").strip() == ("uefi" if said else "bios")
        # What the hypervisor hands to the kernel gets there by either loader.
        assert "highres=off" in shell("cat /proc/cmdline")


# the forms of the whole disk


@pytest.mark.drill
@pytest.mark.parametrize(("name", "kind"), [("raw", "raw"), ("gcp", "raw"), ("azure", "vpc")])
def test_the_whole_disk_comes_back_from_each_form(built: image.Image, tmp_path: Path, name: str, kind: str) -> None:
    made = formats.write(name, built.path, tmp_path, silent)
    if name == "gcp":
        run(["tar", "--extract", "--file", made, "--directory", tmp_path])
        made = tmp_path / "disk.raw"
    assert "identical" in run(["qemu-img", "compare", "-f", kind, "-F", "qcow2", made, built.path])


# the same inputs


@pytest.mark.drill
def test_two_builds_of_the_same_inputs_are_bit_identical(tmp_path: Path) -> None:
    wanted = recipe.load()
    parts = image.gather(Store(), silent, wanted)
    digests = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        image.assemble(folder, wanted, parts, "the same inputs", silent)
        found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        digests.append(found)
        shutil.rmtree(folder)
    assert digests[0] == digests[1]
    assert set(digests[0]) == {image.DISK, image.IMAGES, image.PACKAGES}
