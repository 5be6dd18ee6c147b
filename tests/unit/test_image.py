"""The base image: its recipe, the files laid into it, its disk, and booting it by hand."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from vre import image, paths
from vre.artifacts import versions
from vre.artifacts.containers import Containers
from vre.artifacts.store import Store
from vre.cluster import kubeadm
from vre.errors import VreError
from vre.image import bake, boot, disk, recipe, root
from vre.machine import cloudinit

RECIPE = recipe.load()


def text(name: str) -> str:
    return (RECIPE.files / name).read_text()


def settings(name: str) -> dict[str, str]:
    """Return the words of a `name value` or `name = value` file."""
    lines = [line for line in text(name).splitlines() if line and line[0] not in "#["]
    return {key: value.strip() for key, value in (re.split(r"\s*=\s*|\s+", line, maxsplit=1) for line in lines)}


# the files


def test_sshd_takes_keys_only_and_nobody_as_root() -> None:
    found = settings("etc/ssh/sshd_config.d/10-vre.conf")
    wanted = {"PermitRootLogin": "no", "PasswordAuthentication": "no", "KbdInteractiveAuthentication": "no"}
    assert found.items() >= {**wanted, "AuthenticationMethods": "publickey", "PermitEmptyPasswords": "no"}.items()


def test_sshd_speaks_no_old_algorithm() -> None:
    found = settings("etc/ssh/sshd_config.d/10-vre.conf")
    offered = ",".join(found[name] for name in ("KexAlgorithms", "Ciphers", "MACs", "HostKeyAlgorithms"))
    assert re.findall(r"sha1\b|cbc|3des|md5|ssh-rsa|ssh-dss|nistp|diffie", offered) == []


@pytest.mark.requirement("P-38")
def test_every_24_hours_it_upgrades_in_one_way() -> None:
    timer = settings("usr/lib/systemd/system/vre-patch.timer")
    assert (timer["OnCalendar"], timer["RandomizedDelaySec"], timer["Persistent"]) == ("daily", "24h", "true")
    assert {"vre-patch.timer", "vre-patch-resume.service"} <= set(RECIPE.enable)
    assert 'APT::Periodic::Enable "0";' in text("etc/apt/apt.conf.d/50vre")
    assert {"apt-daily.timer", "apt-daily-upgrade.timer"} <= set(RECIPE.mask)
    program = settings("usr/lib/systemd/system/vre-patch.service")["ExecStart"].split()[-1]
    assert (RECIPE.files / program.lstrip("/")).is_file()


@pytest.mark.requirement("P-11")
def test_patch_levels_of_kubernetes_flow_and_minor_versions_do_not() -> None:
    minor = versions.load().program("kubernetes").version.removeprefix("v").rpartition(".")[0]
    records = [block.splitlines() for block in text("etc/apt/preferences.d/vre").split("\n\n")]
    named = [{line.partition(": ")[0]: line.partition(": ")[2] for line in lines} for lines in records]
    assert [each["Package"] for each in named] == ["kubeadm kubectl kubelet"] * 2
    assert (named[0]["Pin"], named[0]["Pin-Priority"]) == (f"version {minor}.*", "500")
    assert (named[1]["Pin"], named[1]["Pin-Priority"]) == ("release *", "-1")


def test_the_kernel_is_set_up_as_the_kubelet_and_hardening_want() -> None:
    found = settings("etc/sysctl.d/90-vre.conf")
    kubelet = {"vm.overcommit_memory": "1", "vm.panic_on_oom": "0", "kernel.panic": "10", "kernel.panic_on_oops": "1"}
    keys = {"kernel.keys.root_maxkeys": "1000000", "kernel.keys.root_maxbytes": "25000000"}
    routing = {"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"}
    assert found.items() >= {**kubelet, **keys, **routing, "kernel.randomize_va_space": "2"}.items()


def test_what_bridged_packets_need_is_loaded_before_the_kernel_is_set_up() -> None:
    assert "br_netfilter" in text("etc/modules-load.d/vre.conf").splitlines()


def test_the_kubelets_unit_is_for_root_only() -> None:
    assert RECIPE.modes["etc/systemd/system/kubelet.service.d/10-kubeadm.conf"] == 0o600
    assert RECIPE.modes["etc/systemd/system/kubelet.service"] == 0o600


def test_the_kubelet_waits_for_kubeadm() -> None:
    assert "ConditionPathExists=/var/lib/kubelet/config.yaml" in text("etc/systemd/system/kubelet.service")


def test_no_getty_takes_the_serial_line_from_the_log() -> None:
    assert "serial-getty@ttyS0.service" in RECIPE.mask
    assert "console=ttyS0" in text("etc/kernel/cmdline")


def test_cloud_init_writes_accounts_and_files_and_lets_nobody_in_by_password() -> None:
    settings = yaml.safe_load(text("etc/cloud/cloud.cfg.d/90-vre.cfg"))
    assert {"write_files", "users_groups", "ssh", "bootcmd"} <= set(settings["cloud_init_modules"])
    assert {"runcmd"} <= set(settings["cloud_config_modules"])
    assert {"scripts_user"} <= set(settings["cloud_final_modules"])
    assert settings["ssh_pwauth"] is False
    assert settings["disable_root"] is True
    assert settings["users"] == []


def test_no_key_and_no_password_is_laid_into_the_image() -> None:
    texts = [path.read_text() for path in (*recipe.laid(RECIPE), *recipe.packaged(RECIPE))]
    assert texts
    assert not [each for each in texts if re.search(r"PRIVATE KEY|(?i:password|token)\s*[=:]\s*\S{6,}", each)]


def test_what_python_keeps_beside_its_programs_is_not_laid_in(tmp_path: Path) -> None:
    (tmp_path / "usr/__pycache__").mkdir(parents=True)
    (tmp_path / "usr/__pycache__/patch.cpython-311.pyc").touch()
    (tmp_path / "usr/patch.py").touch()
    assert recipe.packaged(replace(RECIPE, files=tmp_path)) == [tmp_path / "usr/patch.py"]


def test_what_a_launch_writes_and_what_starts_a_disk_is_in_no_package() -> None:
    laid, packaged = (
        {str(path.relative_to(RECIPE.files)) for path in each}
        for each in (recipe.laid(RECIPE), recipe.packaged(RECIPE))
    )
    assert not laid & packaged
    assert {"etc/fstab", "etc/hosts", "etc/kernel/cmdline", cloudinit.RESOLVED.lstrip("/")} <= laid
    assert {"etc/sysctl.d/90-vre.conf", "etc/ssh/sshd_config.d/10-vre.conf", "usr/lib/vre/patch.py"} <= packaged
    assert not [name for name in laid if name.startswith("usr/")]


@pytest.mark.requirement("H-26")
def test_every_log_is_rotated_and_ends_with_its_period() -> None:
    journal = settings("etc/systemd/journald.conf.d/vre.conf")
    assert (journal["Storage"], journal["MaxRetentionSec"], journal["Compress"]) == ("persistent", "90day", "yes")
    audit = settings("etc/audit/auditd.conf")
    assert audit["max_log_file_action"] == "ROTATE"
    sudo = text("etc/logrotate.d/vre")
    assert {"weekly", "rotate 13", "maxsize 10M"} <= {line.strip() for line in sudo.splitlines()}
    assert "/var/log/sudo.log {" in sudo
    assert "logrotate" in RECIPE.packages


@pytest.mark.requirement("H-26", "H-30")
def test_all_logs_together_fit_on_their_partition() -> None:
    """The journal, the machine's audit, sudo's, the API's; of the last, gzip leaves less than a tenth once rotated."""
    mebibytes = {"M": 1, "G": 1024}
    journal = settings("etc/systemd/journald.conf.d/vre.conf")["SystemMaxUse"]
    audit = settings("etc/audit/auditd.conf")
    api = kubeadm.read(kubeadm.first(kubeadm.Control(name="a", address="192.0.2.1", cluster="a")))
    limits = {each["name"]: each["value"] for each in api["ClusterConfiguration"]["apiServer"]["extraArgs"]}
    assert limits["audit-log-compress"] == "true"
    written, kept = int(limits["audit-log-maxsize"]), int(limits["audit-log-maxbackup"])
    everything = (
        int(journal[:-1]) * mebibytes[journal[-1]]
        + int(audit["max_log_file"]) * int(audit["num_logs"])
        + 14 * 10  # sudo's, the one that is written and thirteen before it
        + written + kept * written / 10
    )  # fmt: skip
    assert everything < disk.Sizes().log


def test_etcd_has_an_account_of_its_own_for_its_data() -> None:
    assert "etcd" in RECIPE.accounts
    assert RECIPE.folders["var/lib/etcd"] == recipe.Folder(mode=0o700, owner="etcd")


# the recipe


def copied(tmp_path: Path, change: dict[str, object]) -> Path:
    folder = paths.project() / "build" / "image"
    table = yaml.safe_load((folder / "image.yaml").read_text()) | change
    (tmp_path / "files").mkdir()
    for name in RECIPE.modes:
        target = tmp_path / "files" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text(name))
    (tmp_path / "image.yaml").write_text(yaml.safe_dump(table))
    return tmp_path


def test_a_recipe_is_read_from_where_it_is_told(tmp_path: Path) -> None:
    assert recipe.load(copied(tmp_path, {"packages": ["one"]})).packages == ("one",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"packages": None}, "TypeError"),
        ({"folders": {"a": {}}}, "mode"),
        ({"modes": {"no/such/file": "0600"}}, "no/such/file"),
        ({"modes": {"etc/systemd/system/kubelet.service": "9"}}, "ValueError"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    with pytest.raises(VreError, match=said):
        recipe.load(copied(tmp_path, change))


def test_files_are_laid_in_with_their_modes(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "hosts").write_text("from Debian")
    root.lay(tmp_path, RECIPE)
    modes = {
        str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()
    }
    wanted = {name: mode for name, mode in RECIPE.modes.items() if not RECIPE.in_package(name)}
    assert {name: mode for name, mode in modes.items() if mode != 0o644} == wanted
    assert (tmp_path / "etc/hosts").read_text() == text("etc/hosts")


# containers in it


BUILT = Containers(
    layout=Path("layout"), names={"pause": "localhost/vre/pause:3"}, digests={"pause": "sha256:aa"}, key="k"
)


def test_containerd_knows_each_image_by_its_tag_and_by_its_digest() -> None:
    assert bake.names(BUILT) == {"localhost/vre/pause:3": ["localhost/vre/pause@sha256:aa"]}


# an image in the store


def stored(tmp_path: Path) -> image.Image:
    def make(folder: Path) -> None:
        (folder / image.DISK).write_bytes(b"disk")
        (folder / image.IMAGES).write_text("{}")

    path = Store(tmp_path).get("image", {}, make)
    return image.Image(path=path / image.DISK, images={}, id=path.name, packages=path / image.PACKAGES, layout=path)


def test_an_image_that_was_changed_after_the_build_is_not_verified(tmp_path: Path) -> None:
    built = stored(tmp_path)
    built.path.write_bytes(b"risk")
    with pytest.raises(VreError, match=r"disk\.qcow2 was changed"):
        image.verify(built, Store(tmp_path))


# booting by hand


def test_a_guest_booted_by_hand_reaches_nothing_and_is_reached_on_loopback_only() -> None:
    words = boot.qemu(Path("folder"), port=2222, memory=1024, open_network=False)
    network = next(word for word in words if word.startswith("user,"))
    assert "restrict=on" in network
    assert "hostfwd=tcp:127.0.0.1:2222-:22" in network


def test_its_user_data_is_cloud_config_with_one_account_and_the_host_key() -> None:
    host, person = boot.new_key(), boot.new_key()
    text = boot.user_data(host, person, {"packages": ["x"]})
    assert text.startswith("#cloud-config\n")
    read = yaml.safe_load(text)
    assert read == json.loads(text.partition("\n")[2])
    assert [user["name"] for user in read["users"]] == ["vre"]
    assert read["users"][0]["ssh_authorized_keys"] == [person.public]
    assert read["ssh_keys"]["ed25519_private"] == host.private
    assert host.private != person.private
