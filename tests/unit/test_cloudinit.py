"""What a machine is told at its first boot: templates that are YAML by themselves, values that cannot break out."""

import base64
import io
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pycdlib
import pytest
import yaml

from vre.machine import seed
from vre.machine.cloudinit import Boot, HostKey, Seed, data_mount, first_boot, hosts, render
from vre.paths import project

TEMPLATES = sorted((project() / "cloud-init").glob("*.yaml"))
BOOT = Boot(
    name="local-control",
    mac="52:54:00:AB:CD:EF",
    addresses=("192.168.77.10/24", "fd76::10/64"),
    keys=("ssh-ed25519 AAAA alice", "ssh-ed25519 BBBB bob"),
    host_key=HostKey(public="ssh-ed25519 CCCC", private="-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END-----\n"),
    firewall='table inet vre { # "quoted" \\ back\n}\n',
    gateways=("192.168.77.1", "fd76::1"),
    resolvers=("192.168.77.1",),
    nodes={"local-control": ("192.168.77.10", "fd76::10"), "local-worker-1": ("192.168.77.20",)},
    data_device="/dev/disk/by-id/virtio-vre-data",
)


def user_data(boot: Boot = BOOT) -> dict[str, Any]:
    text = render(boot).user_data
    assert text.startswith("#cloud-config\n")
    made: dict[str, Any] = yaml.safe_load(text)
    return made


def written(boot: Boot = BOOT) -> dict[str, str]:
    return {file["path"]: file["content"] for file in user_data(boot)["write_files"]}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_is_yaml_by_itself(template: Any) -> None:
    assert isinstance(yaml.safe_load(template.read_text()), dict)


@pytest.mark.requirement("P-36", "H-29")
def test_operators_get_in_with_keys_and_nobody_with_a_password() -> None:
    made = user_data()
    [user] = made["users"]
    assert user["name"] == "vre"
    assert user["ssh_authorized_keys"] == list(BOOT.keys)
    assert user["lock_passwd"] is True
    assert "passwd" not in user
    assert made["ssh_pwauth"] is False
    assert made["disable_root"] is True


def test_the_machine_has_the_first_host_key_and_makes_none() -> None:
    made = user_data()
    assert made["ssh_keys"] == {"ed25519_private": BOOT.host_key.private, "ed25519_public": BOOT.host_key.public}
    assert made["ssh_genkeytypes"] == ["ed25519"]  # the kind that is given: nothing is left to make
    assert made["ssh_deletekeys"] is True


@pytest.mark.requirement("C-17")
def test_the_firewall_is_loaded_before_sshd_and_at_every_boot() -> None:
    made = user_data()
    assert written()["/etc/vre/firewall.nft"] == BOOT.firewall
    assert ["nft", "-f", "/etc/vre/firewall.nft"] in made["bootcmd"]
    modules = made["cloud_init_modules"]
    assert modules.index("write_files") < modules.index("bootcmd") < modules.index("ssh")
    unit = written()["/etc/systemd/system/vre-firewall.service"]
    assert "Before=network-pre.target" in unit
    assert "RequiredBy=systemd-networkd.service" in unit


@pytest.mark.requirement("P-32", "P-97")
def test_everything_is_upgraded_at_first_boot_unless_there_is_no_mirror() -> None:
    script = "/usr/local/sbin/vre-first-boot"
    assert user_data()["runcmd"] == [[script]]
    assert "full-upgrade" in written()[script]
    assert "full-upgrade" not in written(replace(BOOT, upgrade=False))[script]


@pytest.mark.parametrize("upgrade", [True, False])
@pytest.mark.parametrize("device", ["", "/dev/vdb"])
def test_the_first_boot_script_is_a_script(upgrade: bool, device: str) -> None:
    script = written(replace(BOOT, upgrade=upgrade, data_device=device))["/usr/local/sbin/vre-first-boot"]
    assert subprocess.run(["sh", "-n"], input=script.encode(), check=False).returncode == 0
    assert ("var-lib-vre-data.mount" in script) == bool(device)


def test_a_step_that_fails_names_itself_and_warns_whoever_logs_in(tmp_path: Any) -> None:
    script = written()["/usr/local/sbin/vre-first-boot"]
    local = script.replace("/var/lib/vre", str(tmp_path)).replace("/run/vre", str(tmp_path))
    local = local.replace("/etc/motd", str(tmp_path / "motd")).replace("try systemctl daemon-reload", "try false --why")
    local = local.replace("\nsync\n", "\n")
    local = local.replace("/dev/console", str(tmp_path / "console"))
    done = subprocess.run(["sh"], input=local.encode(), capture_output=True, check=False)
    assert done.returncode == 1
    assert "exit code 1: false --why" in (tmp_path / "failed").read_text()
    assert "WARNING" in (tmp_path / "motd").read_text()
    assert "false --why" in (tmp_path / "console").read_text()


@pytest.mark.requirement("P-32")
@pytest.mark.parametrize("broken", ["", "update", "full-upgrade"])
@pytest.mark.parametrize("changed", [True, False])
def test_the_first_boot_reboots_into_what_it_upgraded_and_is_resumed_when_it_did_not_end(
    tmp_path: Path, broken: str, changed: bool
) -> None:
    log = tmp_path / "log"
    for name in ("systemctl", "systemd-run", "apt-get", "dpkg-query", "sync"):
        says = f"cat {log}" if name == "dpkg-query" and changed else "true"
        fails = f'case "$*" in *{broken}) exit 100 ;; esac' if broken and name == "apt-get" else ""
        (tmp_path / name).write_text(f'#!/bin/sh\n{says}\necho "{name} $*" >> {log}\n{fails}\nexit 0\n')
        (tmp_path / name).chmod(0o755)
    log.touch()
    script = written(replace(BOOT, data_device=""))["/usr/local/sbin/vre-first-boot"]
    for place in ("/var/lib/vre", "/run/vre", "/etc/motd", "/dev/console"):
        script = script.replace(place, f"{tmp_path}/at{place}")
    for folder in ("var/lib", "run", "etc", "dev"):
        (tmp_path / "at" / folder).mkdir(parents=True)
    done = subprocess.run(["sh"], input=script.encode(), check=False, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    state = tmp_path / "at/var/lib/vre"
    assert done.returncode == (1 if broken else 0)
    assert (state / "patch-resume").exists() == bool(broken)
    assert (state / "upgraded").exists() == (not broken)
    assert ("systemctl reboot" in log.read_text()) == (changed and not broken)


def test_a_first_boot_that_power_breaks_off_is_ended_by_the_daily_upgrade(tmp_path: Path) -> None:
    (tmp_path / "sync").write_text("#!/bin/sh\nkill $PPID\n")  # as good as lost power
    (tmp_path / "sync").chmod(0o755)
    script = written()["/usr/local/sbin/vre-first-boot"].replace("/var/lib/vre", f"{tmp_path}/state")
    script = script.replace("/run/vre", f"{tmp_path}/run")
    done = subprocess.run(["sh"], input=script.encode(), check=False, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert done.returncode != 0
    assert (tmp_path / "state/patch-resume").exists()


@pytest.mark.requirement("P-42")
def test_the_data_disk_is_found_by_its_serial_and_holds_no_programs_of_root() -> None:
    assert data_mount("/dev/disk/by-id/virtio-vre-data") == written()["/etc/fstab"]
    device, place, kind, options, *_ = written()["/etc/fstab"].split()
    assert (device, place, kind) == ("/dev/disk/by-id/virtio-vre-data", "/var/lib/vre/data", "ext4")
    assert {"nosuid", "nodev"} <= set(options.split(","))
    assert "/etc/fstab" not in written(replace(BOOT, data_device=""))


def test_the_network_is_matched_by_address_of_the_card() -> None:
    made = yaml.safe_load(render(BOOT).network_config)
    card = made["ethernets"]["stack"]
    assert made["version"] == 2
    assert card["match"] == {"macaddress": "52:54:00:ab:cd:ef"}
    assert card["addresses"] == list(BOOT.addresses)
    assert card["routes"] == [{"to": "0.0.0.0/0", "via": "192.168.77.1"}, {"to": "::/0", "via": "fd76::1"}]
    assert card["nameservers"] == {"addresses": ["192.168.77.1"]}
    alone = yaml.safe_load(render(replace(BOOT, gateways=(), resolvers=())).network_config)["ethernets"]["stack"]
    assert "routes" not in alone
    assert "nameservers" not in alone


def test_another_first_host_key_is_another_instance() -> None:
    one = yaml.safe_load(render(BOOT).meta_data)
    other = replace(BOOT, host_key=HostKey(public="ssh-ed25519 DDDD", private="x"))
    assert one["local-hostname"] == BOOT.name
    assert one == yaml.safe_load(render(BOOT).meta_data)
    assert one["instance-id"] != yaml.safe_load(render(other).meta_data)["instance-id"]


def test_machines_know_each_other_by_name() -> None:
    assert "192.168.77.20 local-worker-1" in hosts(BOOT.nodes).splitlines()
    assert written()["/etc/hosts"] == hosts(BOOT.nodes)


def test_a_mirror_and_time_servers_are_named_only_when_given() -> None:
    paths = written(replace(BOOT, mirror="http://192.0.2.1/debian", time_servers=("192.0.2.2",)))
    sources = paths["/etc/apt/sources.list.d/debian.sources"]
    assert "URIs: http://192.0.2.1/debian\n" in sources
    assert "URIs: http://192.0.2.1/debian-security\n" in sources
    assert paths["/etc/systemd/timesyncd.conf.d/vre.conf"] == "[Time]\nNTP=192.0.2.2\n"
    assert not {"/etc/apt/sources.list.d/debian.sources", "/etc/systemd/timesyncd.conf.d/vre.conf"} & set(written())


def test_the_first_upgrade_takes_what_was_tested_where_the_machine_can_read_what_that_is() -> None:
    settle, update = "try python3 -B /usr/lib/vre/tested.py", "try apt-get --quiet --error-on=any update"
    lines = first_boot(replace(BOOT, tested=True)).splitlines()
    assert lines.index(settle) < lines.index(update)
    for boot in (BOOT, replace(BOOT, tested=True, packages=["nftables"]), replace(BOOT, tested=True, upgrade=False)):
        assert settle not in first_boot(boot)


def test_more_files_are_written_where_they_are_wanted() -> None:
    files = {"/etc/apt/sources.list.d/vre.sources": "Types: deb\nURIs: https://packages.example.org/\n"}
    assert written(replace(BOOT, files=files)).items() >= files.items()
    assert not files.keys() & written().keys()


@pytest.mark.parametrize("text", ['"', "\\", "\n", "{{ 7 * 7 }}", "#% if", "é", "a: b", "%", "\x7f"])
def test_no_value_breaks_out_of_its_place(text: str) -> None:
    made = user_data(replace(BOOT, keys=(f"ssh-ed25519 AAAA {text} x",), firewall=text))
    assert made["users"][0]["ssh_authorized_keys"] == [f"ssh-ed25519 AAAA {text} x"]
    assert {file["path"]: file["content"] for file in made["write_files"]}["/etc/vre/firewall.nft"] == text


def test_the_only_secret_is_the_first_host_key() -> None:
    text = "".join(render(BOOT).files().values())
    assert text.count("PRIVATE KEY") == 1


def test_the_seed_is_an_image_that_holds_the_three_files() -> None:
    given = Seed(user_data="#cloud-config\n", network_config="version: 2\n", meta_data="instance-id: x\n")
    image = pycdlib.PyCdlib()
    image.open_fp(io.BytesIO(base64.b64decode(seed.encoded(given))))
    assert image.pvd.volume_identifier.strip() == b"CIDATA"
    for name, text in given.files().items():
        found = io.BytesIO()
        image.get_file_from_iso_fp(found, joliet_path=f"/{name}")
        assert found.getvalue().decode() == text


def test_the_same_seed_is_the_same_image_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Seed(user_data="a", network_config="b", meta_data="c")
    first = seed.iso(given)
    for name in ("dates", "headervd", "pycdlib"):
        monkeypatch.setattr(f"pycdlib.{name}.time.time", lambda: 1e9)
    assert seed.iso(given) == first


@pytest.mark.parametrize(
    ("said", "source"), [("tsc: PIT calibration deviates from HPET: 704313 2445429", "hpet"), ("", "tsc")]
)
def test_a_mismeasured_clock_is_put_right_at_every_boot(tmp_path: Any, said: str, source: str) -> None:
    assert ["/usr/local/sbin/vre-clock"] in user_data()["bootcmd"]
    for name, text in (("dmesg", f"echo '{said}'"), ("date", f'echo "$@" > {tmp_path}/set')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "current_clocksource").write_text("tsc")
    (tmp_path / "since_epoch").write_text("1790000000\n")
    script = written()["/usr/local/sbin/vre-clock"]
    script = script.replace("/sys/devices/system/clocksource/clocksource0", str(tmp_path))
    script = script.replace("/sys/class/rtc/rtc0", str(tmp_path))
    subprocess.run(["sh"], input=script.encode(), check=False, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert (tmp_path / "current_clocksource").read_text().strip() == source
    assert (tmp_path / "set").exists() == bool(said)
