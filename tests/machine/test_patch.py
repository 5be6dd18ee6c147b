"""A machine patches itself from a repository beside it: at first boot, by the timer, after what goes wrong."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import paramiko
import pytest

from tests.machine.repository import Repository, serving
from tests.unit.test_cloudinit import BOOT
from vre import image
from vre.artifacts.store import Store
from vre.image import boot, recipe
from vre.machine import cloudinit, patches
from vre.packages import deb, repository
from vre.packages import machine as own
from vre.progress import silent

STATE = "/var/lib/vre/patch.json"
RUN = "sudo systemctl start vre-patch.service"
NOW = json.dumps({"window": "00:00-24:00"})


@dataclass(kw_only=True)
class Machine:
    """The booted guest, over a connection that is made anew after a reboot."""

    guest: boot.Guest
    client: paramiko.SSHClient | None = field(default=None)

    def __call__(self, command: str, *, stdin: str = "") -> str:
        code, said = self.result(command, stdin=stdin)
        assert code == 0, f"{command}: {said}"
        return said

    def result(self, command: str, *, stdin: str = "") -> tuple[int, str]:
        if self.client is None:
            self.client = replace(self.guest, begun=time.monotonic()).connect()
        into, out, _ = self.client.exec_command(f"({command}) 2>&1", timeout=900)
        into.write(stdin)
        into.channel.shutdown_write()
        said = out.read().decode()
        return out.channel.recv_exit_status(), said

    def write(self, path: str, text: str) -> None:
        self(f"sudo mkdir -p $(dirname {path}) && sudo tee {path} > /dev/null", stdin=text)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(f"cat /run/vre/patch.json 2> /dev/null || cat {STATE}"))
        return found

    def version(self, package: str) -> str:
        return self(f"dpkg-query --show --showformat '${{Version}} ${{db:Status-Status}}' {package}")

    def boot_id(self) -> str:
        return self("cat /proc/sys/kernel/random/boot_id")

    def restarted(self, how: str) -> None:
        """Have it start anew, in whatever way, and wait until it is there."""
        before = self.boot_id()
        assert self.client is not None
        self.client.exec_command(how)
        self.wait(lambda: self.boot_id() != before)

    def wait(self, done: Callable[[], bool], *, timeout: float = 600) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                if done():
                    return
            except (OSError, EOFError, paramiko.SSHException, AssertionError, ValueError):
                if self.client is not None:
                    self.client.close()
                self.client = None
            assert time.monotonic() < deadline, self.guest.console.read_text(errors="replace")[-3000:]
            time.sleep(2)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    # What QEMU calls the machine that it runs on.
    with serving(tmp_path_factory.mktemp("packages"), "10.0.2.2") as made:
        made.publish("1")
        yield made


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, packages: Repository) -> Iterator[Machine]:
    """Boot the image; its only repository is ours, and the package in it is installed."""
    built = image.build(Store(), silent)
    with boot.boot(built.path, tmp_path_factory.mktemp("boot"), silent, open_network=True) as guest:
        made = Machine(guest=guest)
        made("cloud-init status --wait")
        made("sudo rm /etc/apt/sources.list.d/*")
        for name, text in packages.files().items():
            made.write(name, text)
        made.write(patches.SETTINGS, NOW)
        made("sudo apt-get -q update && sudo apt-get -q -y install vre-probe")
        yield made


@pytest.mark.requirement("P-32")
def test_an_outdated_package_is_upgraded_by_the_first_boot(machine: Machine, packages: Repository) -> None:
    packages.publish("2")
    machine.write("/run/first-boot", cloudinit.first_boot(replace(BOOT, data_device="")))
    machine("sudo sh /run/first-boot")
    assert machine.version("vre-probe") == "2 installed"
    assert machine("cat /var/lib/vre/upgraded").startswith("20")


@pytest.mark.requirement("P-38")
def test_an_outdated_package_is_upgraded_by_the_timer(machine: Machine, packages: Repository) -> None:
    packages.publish("3")
    machine.write(
        "/run/systemd/system/vre-patch.timer.d/now.conf",
        "[Timer]\nOnCalendar=\nOnActiveSec=1s\nRandomizedDelaySec=0\nFixedRandomDelay=false\nAccuracySec=1s\n",
    )
    machine("sudo systemctl daemon-reload && sudo systemctl restart vre-patch.timer")
    machine.wait(lambda: machine.version("vre-probe") == "3 installed")
    machine.wait(lambda: bool(machine.state().get("patched")))
    machine("sudo rm -r /run/systemd/system/vre-patch.timer.d && sudo systemctl daemon-reload")
    machine("sudo systemctl restart vre-patch.timer")
    found = machine.state()
    assert found["changed"]["packages"] == ["vre-probe 2 -> 3"]
    assert found["pending"] == []
    assert "reboot" not in found
    assert {"kernel", "containerd", "runc", "kubelet"} <= found["components"].keys()


def test_a_broken_repository_is_named_and_changes_nothing(machine: Machine, packages: Repository) -> None:
    packages.publish("4")
    with packages.broken():
        code, _ = machine.result(RUN)
        first, said = machine.result("sudo sh /run/first-boot")
    assert (code != 0, first) == (True, 1)
    assert "first boot: exit code 100: apt-get" in said
    assert "first boot: exit code 100: apt-get" in machine.guest.console.read_text(errors="replace")
    machine("sudo rm /var/lib/vre/failed /etc/motd")
    assert "apt-get" in machine.state()["failure"]["command"]
    assert " update" in machine.state()["failure"]["command"]
    assert machine.version("vre-probe") == "3 installed"
    assert "could not be patched" in machine("cat /etc/motd.d/vre-patch")
    assert "daily upgrade: exit code 100" in machine.guest.console.read_text(errors="replace")
    assert machine.result("systemctl is-active vre-patch-again.timer")[1].strip() == "active"


def test_a_full_disk_is_named_and_changes_nothing(machine: Machine, packages: Repository) -> None:
    packages.publish("5")
    free = int(machine("df --output=avail --block-size=1 / | tail -n 1"))
    machine(f"sudo fallocate --length {free} /var/tmp/full; true")
    machine("sudo dd if=/dev/zero of=/var/tmp/rest bs=1M status=none; true")
    code, _ = machine.result(RUN)
    assert code != 0
    assert "no room" in machine.state()["failure"]["said"]
    assert machine.version("vre-probe") == "3 installed"
    machine("sudo rm /var/tmp/full /var/tmp/rest")
    machine(RUN)
    assert machine.version("vre-probe") == "5 installed"
    assert "failure" not in machine.state()
    assert machine.result("ls /etc/motd.d/vre-patch /run/vre/patch.json")[0] != 0


def test_a_power_cut_in_the_middle_of_an_upgrade_is_made_good_at_the_next_start(
    machine: Machine, packages: Repository
) -> None:
    slow = "[ -e /run/once ] || sleep 600"
    packages.publish("6", after=slow)
    machine(f"{RUN} --no-block")
    machine.wait(lambda: "sleep 600" in machine("sudo ps -eo args"))
    machine("sudo touch /var/lib/vre/marked && sync")
    assert machine.version("vre-probe") != "6 installed"
    machine.write("/etc/tmpfiles.d/once.conf", "f /run/once\n")
    machine("sync")
    # No unmount, no flush: as if the plug was pulled.
    machine.restarted("sudo sh -c 'echo b > /proc/sysrq-trigger'")
    machine.wait(lambda: machine.version("vre-probe") == "6 installed")
    machine.wait(lambda: not machine.state().get("failure") and machine.result("ls /var/lib/vre/patch-resume")[0] != 0)
    assert machine("sudo dpkg --audit") == ""


@pytest.mark.requirement("P-39")
def test_a_wanted_reboot_happens_inside_the_window_and_is_over_with_it(machine: Machine) -> None:
    closed = f"{(int(machine('date --utc +%H')) + 2) % 24:02}"
    machine.write(patches.SETTINGS, json.dumps({"window": f"{closed}:00-{closed}:30"}))
    machine.write("/run/reboot-required", "")
    machine(RUN)
    before = machine.boot_id()
    assert machine.state()["reboot"]["why"] == ["asked for"]
    assert f" {closed}:" in machine("systemctl show --property=TimersCalendar vre-patch-again.timer")
    machine.write(patches.SETTINGS, NOW)
    machine.restarted(RUN)
    assert machine.boot_id() != before
    machine.wait(lambda: "reboot" not in machine.state())
    assert machine("systemctl list-units --failed --plain --no-legend") == ""


def test_the_service_that_upgrades_lives_through_the_upgrade_of_its_own_unit(
    machine: Machine, packages: Repository, tmp_path: Path
) -> None:
    present = own.package(recipe.load())
    assert present is not None
    files = {
        "usr/lib/systemd/system/vre-patch.service": "Nice=10\n",
        "usr/lib/vre/patch.py": "import sys\n",
    }
    mended = {name: tmp_path / Path(name).name for name in files}
    for name, line in files.items():
        text = present.files[name].read_text()
        assert line in text
        mended[name].write_text(text.replace(line, f"{line}# mended\n"))
    newer = replace(present, version=str(int(present.version) + 1), files={**present.files, **mended})
    served, keys = packages.folder / "served", packages.folder / "keys"
    repository.publish([deb.write(newer, tmp_path)], served, keys)
    machine(RUN)
    assert machine.version(own.NAME) == f"{newer.version} installed"
    assert any(each.startswith(f"{own.NAME} ") for each in machine.state()["changed"]["packages"])
    assert "failure" not in machine.state()
    assert machine("systemctl show --property=NeedDaemonReload vre-patch.service") == "NeedDaemonReload=no\n"
    assert "# mended" in machine("systemctl cat vre-patch.service")
    assert machine("systemctl is-active vre-patch.timer") == "active\n"
    machine(RUN)
    assert machine("systemctl list-units --failed --plain --no-legend") == ""


def test_our_own_programs_are_packages_and_upgrade_like_all_others(machine: Machine, packages: Repository) -> None:
    present = machine.version("kubelet").split()[0]
    assert machine("dpkg --search /usr/bin/kubelet").startswith("kubelet:")
    patch = int(present.split("-")[0].rsplit(".", 1)[1]) + 1
    packages.publish(f"1.36.{patch}-1", name="kubelet")
    packages.publish("1.37.0-1", name="kubelet")
    machine(RUN)
    assert machine.version("kubelet") == f"1.36.{patch}-1 installed"
    assert machine.state()["components"]["kubelet"] == f"1.36.{patch}-1"
