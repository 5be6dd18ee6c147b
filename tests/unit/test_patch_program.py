"""The program that upgrades a machine, run in a folder of its own against commands and a cluster that are not real."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import containers
import controlplane
import host
import member
import patch
import pytest
import rollout
import upgrade

from tests.unit import patched
from tests.unit.patched import KERNEL, RUNTIME, Cluster, Machine, server, upgraded, worker

machine, cluster = patched.machine, patched.cluster


@pytest.mark.requirement("P-38")
def test_what_is_outdated_is_upgraded_and_noted(machine: Machine) -> None:
    assert machine.run() == 0
    assert upgraded(machine)
    assert machine.state["changed"]["packages"] == ["curl 1 -> 2"]
    assert machine.state["patched"] == machine.now.isoformat(timespec="seconds")
    assert machine.state["pending"] == []
    assert machine.state["components"]["containerd"] == "1.7.24"
    assert machine.state["behind"] == {"runc": "2"}
    assert not machine.did("systemctl", "reboot")
    assert not (machine.root / "var/lib/vre/patch-resume").exists()


def test_what_was_installed_is_on_the_disk_before_it_goes_on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sync", lambda: machine.log.write_text(f"{machine.log.read_text()}sync\n"))
    assert machine.run() == 0
    [synced] = [index for index, line in enumerate(machine.ran) if line == "sync"]
    assert machine.ran[synced - 1].endswith("confold upgrade --with-new-pkgs")


def test_it_lives_through_its_own_upgrade(machine: Machine) -> None:
    """The package that it is in is upgraded by it: what comes after that is still done by the one that began."""
    program = machine.root / "vre"
    shutil.copytree(Path(patch.__file__).parent, program, ignore=shutil.ignore_patterns("__pycache__"))
    fake = machine.root / "bin" / "apt-get"
    spoil = f'for file in {program}/*.py; do echo "raise SystemExit(3)" > "$file.new"; mv "$file.new" "$file"; done'
    head, rest = fake.read_text().split("\n", 1)
    fake.write_text(f'{head}\ncase "$*" in *--simulate*) ;; *" upgrade "*) {spoil} ;; esac\n{rest}')
    machine.settings(reboot="by-hand")
    machine.write("needrestart", KERNEL)
    root = f"pathlib.Path({str(machine.root)!r})"
    run = f"import sys, pathlib, patch, upgrade; upgrade.ROOM = 0; sys.exit(patch.main({root}))"
    done = subprocess.run([sys.executable, "-B", "-c", run], cwd=program, check=False)
    assert (done.returncode, "SystemExit" in (program / "patch.py").read_text()) == (0, True)
    assert machine.state["changed"]["packages"] == ["curl 1 -> 2"]
    assert machine.state["reboot"]["why"] == ["kernel a -> b"]


def test_nothing_outdated_changes_nothing(machine: Machine) -> None:
    machine.write("upgradable", "")
    assert machine.run() == 0
    assert not upgraded(machine)
    assert "changed" not in machine.state


def test_what_a_lost_power_left_half_done_comes_first(machine: Machine) -> None:
    machine.run()
    configured = next(index for index, line in enumerate(machine.ran) if "--configure" in line)
    assert configured < next(index for index, line in enumerate(machine.ran) if " update" in line)


@pytest.mark.parametrize("command", ["tested.py", "update", "confold upgrade", "--configure", "needrestart -b"])
def test_a_failure_names_its_command_everywhere_and_is_tried_again(machine: Machine, command: str) -> None:
    machine.write("fails", command.replace(" ", "?"))
    assert machine.run() == 1
    fault = machine.state["failure"]
    assert command in fault["command"]
    assert (fault["code"], fault["said"]) == (100, "E: said")
    for place in ("etc/motd.d/vre-patch", "dev/console"):
        assert fault["command"] in (machine.root / place).read_text()
    assert machine.did("systemd-run", "--unit=vre-patch-again", "2026-11-21 19:00:00 UTC")
    assert not machine.did("systemctl", "reboot")
    (machine.root / "fails").unlink()
    assert machine.run() == 0
    assert "failure" not in machine.state
    assert not (machine.root / "etc/motd.d/vre-patch").exists()


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("var/lib/vre", "", "NotADirectory"),
        ("etc/vre/patch.json", "", "JSONDecodeError"),
        ("etc/vre/patch.json", '{"window": "00:00-24:00", "zone": "Nowhere/Nothing"}', "ZoneInfoNotFound"),
        ("etc/kubernetes/kubelet.conf", "server: https://a\ncertificate-authority-data: YQ==\n", "Unreachable"),
    ],
)
def test_what_nobody_foresaw_is_told_and_tried_again_too(machine: Machine, path: str, text: str, said: str) -> None:
    machine.write("needrestart", KERNEL)
    machine.write(path, text)
    assert machine.run() == 1
    assert said in host.load(host.Places(root=machine.root))["failure"]["command"]
    for place in ("etc/motd.d/vre-patch", "dev/console"):
        assert said in (machine.root / place).read_text()
    assert machine.did("systemd-run", "--unit=vre-patch-again", "2026-11-21 19:00:00 UTC")
    assert "systemctl reboot" not in machine.ran


def test_credentials_that_cannot_be_read_do_not_keep_a_runtime_away(machine: Machine) -> None:
    machine.write("upgradable", RUNTIME)
    machine.write("etc/kubernetes/kubelet.conf", "server: https://a\ncertificate-authority-data: YQ==\n")
    assert machine.run() == 0
    assert upgraded(machine)


@pytest.mark.requirement("P-35")
def test_which_state_of_the_archive_was_tested_is_settled_before_apt_looks(machine: Machine) -> None:
    assert machine.run() == 0
    [settled] = [index for index, line in enumerate(machine.ran) if line == f"python3 -B {upgrade.TESTED}"]
    assert settled < next(index for index, line in enumerate(machine.ran) if line.endswith(" update"))
    machine.log.unlink()
    machine.write("fails", "tested.py")
    assert machine.run() == 1
    assert not machine.did("apt-get", " update")
    assert not upgraded(machine)


def test_a_full_disk_is_told_before_anything_is_unpacked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "ROOM", 1 << 60)
    assert machine.run() == 1
    assert "no room" in machine.state["failure"]["said"]
    assert not upgraded(machine)


def test_the_state_is_kept_in_memory_where_the_disk_takes_nothing(machine: Machine) -> None:
    machine.write("var/lib/vre/patch.new/x", "")  # a folder where the file would be written
    assert machine.run() == 0
    assert json.loads((machine.root / "run/vre/patch.json").read_text())["pending"] == []
    assert host.load(host.Places(root=machine.root))["pending"] == []
    (machine.root / "var/lib/vre/patch.new/x").unlink()
    (machine.root / "var/lib/vre/patch.new").rmdir()
    assert machine.run() == 0
    assert not (machine.root / "run/vre/patch.json").exists()
    assert machine.state["pending"] == []


@pytest.mark.requirement("P-97")
def test_without_a_mirror_nothing_is_asked_for(machine: Machine) -> None:
    machine.settings(upgrade=False, window="00:00-24:00")
    assert machine.run() == 0
    assert not machine.did("apt-get")


# reboots


def test_a_new_libc_is_rebooted_into_also_when_the_run_that_brought_it_failed(machine: Machine) -> None:
    machine.write("upgradable", "Inst libc6 [1] (2 Debian:13/stable [amd64])\n")
    machine.write("fails", "autoremove")
    assert machine.run() == 1
    assert upgraded(machine)
    (machine.root / "fails").unlink()
    assert machine.run() == 0
    assert machine.state["reboot"]["why"] == ["libc6 1 -> 2"]
    assert machine.ran[-1] == "systemctl reboot"
    machine.write("proc/sys/kernel/random/boot_id", "two\n")
    assert machine.run() == 0
    assert "reboot" not in machine.state


@pytest.mark.requirement("P-39")
def test_a_machine_alone_warns_and_reboots_inside_its_window(machine: Machine, cluster: Cluster) -> None:
    machine.settings(window="00:00-24:00", alone=True)
    machine.write("needrestart", KERNEL)
    cluster.pods = [worker("a")]
    assert machine.run() == 0
    assert machine.did("wall", "kernel a -> b")
    assert machine.slept == member.NOTICE
    assert machine.ran[-1] == "systemctl reboot"
    assert machine.state["rebooted"]["why"] == ["kernel a -> b"]
    assert (machine.root / "var/lib/vre/patch-resume").exists()
    assert cluster.pods == [worker("a")]  # it starts again with the machine
    assert "unschedulable" not in cluster.node["spec"]
    assert "vre/holder" not in cluster.notes


@pytest.mark.requirement("P-39")
def test_a_machine_alone_has_users_told_in_jupyter_before_it_waits(machine: Machine, cluster: Cluster) -> None:
    machine.settings(window="00:00-24:00", name="one", alone=True)
    machine.write("needrestart", KERNEL)
    seen: list[dict[str, str]] = []
    machine.when_asleep = lambda: seen.append(dict(cluster.notes))
    begun = machine.now
    assert machine.run() == 0
    told = {"vre/reboot-at": "2026-11-21T18:05:00Z", "vre/reboot-why": "kernel a -> b", "vre/reboot-node": ""}
    assert seen == [told]
    assert machine.now == begun + timedelta(minutes=5)
    assert machine.ran[-1] == "systemctl reboot"


@pytest.mark.parametrize("alone", [True, False])
def test_a_note_that_is_refused_keeps_nobody_from_a_reboot_and_is_told(
    machine: Machine, cluster: Cluster, capsys: pytest.CaptureFixture[str], alone: bool
) -> None:
    machine.settings(window="00:00-24:00", name="one", alone=alone)
    machine.write("needrestart", KERNEL)
    cluster.pods, cluster.no_notes = [server("bob")], True
    assert machine.run() == 0
    assert "users are not told in Jupyter: 403" in capsys.readouterr().out
    assert machine.did("wall") == alone
    assert machine.ran[-1] == "systemctl reboot"


def test_a_machine_alone_whose_api_does_not_answer_reboots_all_the_same(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.settings(window="00:00-24:00", name="one", alone=True)
    machine.write("needrestart", KERNEL)
    machine.write("etc/kubernetes/kubelet.conf", "    server: http://127.0.0.1:9\n")
    assert machine.run() == 0
    assert "users are not told in Jupyter" in capsys.readouterr().out
    assert machine.slept == member.NOTICE
    assert machine.ran[-1] == "systemctl reboot"


@pytest.mark.parametrize("alone", [True, False])
def test_an_event_that_is_refused_keeps_nobody_from_a_reboot(machine: Machine, cluster: Cluster, alone: bool) -> None:
    machine.settings(window="00:00-24:00", name="one", alone=alone)
    machine.write("needrestart", KERNEL)
    cluster.no_events = True
    assert machine.run() == 0
    assert machine.ran[-1] == "systemctl reboot"


def test_a_runtime_that_breaks_a_machine_alone_is_a_failure(machine: Machine, cluster: Cluster) -> None:
    machine.settings(window="00:00-24:00", name="one", alone=True)
    machine.write("upgradable", RUNTIME)
    cluster.node["status"]["conditions"] = []
    assert machine.run() == 1
    assert upgraded(machine)
    assert "not ready" in machine.state["failure"]["said"]
    cluster.set_ready("one")
    assert machine.run() == 0


def test_a_call_that_failed_does_not_block_the_next(machine: Machine) -> None:
    machine.settings(window="02:00-05:00")
    machine.write("needrestart", KERNEL)
    assert machine.run() == 0
    [forgotten] = [index for index, line in enumerate(machine.ran) if line.startswith("systemctl reset-failed")]
    [called] = [index for index, line in enumerate(machine.ran) if line.startswith("systemd-run")]
    assert forgotten < called
    assert "--collect" in machine.ran[called]


def test_a_machine_in_no_cluster_reboots_at_once(machine: Machine) -> None:
    machine.write("needrestart", KERNEL)
    assert machine.run() == 0
    assert machine.slept == timedelta()
    assert machine.ran[-1] == "systemctl reboot"


def test_outside_the_window_the_reboot_waits_and_the_upgrade_does_not(machine: Machine) -> None:
    machine.settings(window="02:00-05:00")
    machine.write("needrestart", KERNEL)
    assert machine.run() == 0
    assert upgraded(machine)
    assert not machine.did("systemctl", "reboot")
    assert machine.did("systemd-run", "2026-11-22 02:00:00 UTC", "vre-patch.service")
    assert machine.state["reboot"]["why"] == ["kernel a -> b"]
    assert machine.state["window"] == "02:00-05:00 UTC"


def test_by_hand_is_by_hand(machine: Machine) -> None:
    machine.settings(window="00:00-24:00", reboot="by-hand")
    machine.write("needrestart", KERNEL)
    assert machine.run() == 0
    assert not machine.did("systemctl", "reboot")
    assert machine.state["reboot"]["why"] == ["kernel a -> b"]


def test_after_the_reboot_nothing_waits(machine: Machine) -> None:
    machine.write("needrestart", KERNEL)
    machine.run()
    machine.write("proc/sys/kernel/random/boot_id", "two\n")
    machine.write("needrestart", "")
    assert machine.run() == 0
    assert "reboot" not in machine.state


def test_a_reboot_in_vain_is_a_failure_and_not_repeated(machine: Machine) -> None:
    machine.write("needrestart", KERNEL)
    machine.run()
    machine.write("proc/sys/kernel/random/boot_id", "two\n")
    machine.log.unlink()
    assert machine.run() == 1
    assert "still: kernel a -> b" in machine.state["failure"]["said"]
    assert "systemctl reboot" not in machine.ran


def test_in_the_middle_of_a_command_it_does_not_end(machine: Machine) -> None:
    made = host.Host(host.Places(root=machine.root))
    made.busy = True
    made.end(15, None)
    made.busy = False
    with pytest.raises(SystemExit):
        made.command("needrestart")
    with pytest.raises(SystemExit):
        made.end(15, None)
    assert machine.did("needrestart")


# container images


def cluster_of_its_own(machine: Machine, monkeypatch: pytest.MonkeyPatch, roll: Callable[..., list[str]]) -> None:
    """Let it be the control machine, with an image that stands for a former one."""
    for place in ("own_api", "admin"):
        machine.write(
            str(getattr(host.Places(root=machine.root), place).relative_to(machine.root)), "server: http://a\n"
        )
    monkeypatch.setattr(containers, "settle", lambda *_: True)
    monkeypatch.setattr(containers, "standing", lambda _: {"old": "new"})
    monkeypatch.setattr(rollout.Cluster, "roll", lambda _, replaced, deadline: roll(replaced))


@pytest.mark.requirement("P-40")
def test_newer_container_images_are_taken_and_what_was_changed_is_noted(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_of_its_own(machine, monkeypatch, lambda replaced: [f"Deployment {replaced['old']}"])
    assert machine.run() == 0
    assert machine.state["rolled"]["objects"] == ["Deployment new"]
    assert machine.state["renewed"]


def test_a_machine_that_is_no_control_machine_changes_no_object(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_of_its_own(machine, monkeypatch, lambda _: pytest.fail("it did"))
    (machine.root / "etc/kubernetes/manifests/kube-apiserver.yaml").unlink()
    assert machine.run() == 0
    assert machine.state["renewed"]


def test_what_another_machine_lacks_is_waited_for(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def roll(_: object) -> list[str]:
        raise rollout.Waits("two lacks hub")

    cluster_of_its_own(machine, monkeypatch, roll)
    assert machine.run() == 0
    assert machine.state["waits"] == "two lacks hub"
    assert machine.did("systemd-run", "--unit=vre-patch-again", "2026-11-21 19:00:00 UTC")


@pytest.mark.requirement("P-39", "H-20")
def test_a_container_image_keeps_no_kernel_away(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def settle(*_: object) -> bool:
        raise containers.Unfit("404 Not Found")

    machine.write("needrestart", KERNEL)
    monkeypatch.setattr(containers, "settle", settle)
    assert machine.run() == 1
    assert machine.did("systemctl", "reboot")
    assert machine.state["failure"]["said"] == "404 Not Found"


@pytest.mark.requirement("H-20")
def test_what_did_not_get_ready_is_not_tried_again_until_there_is_something_newer(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []

    def roll(replaced: object) -> list[str]:
        tried.append(replaced)
        raise rollout.NotReady("Deployment jupyter/hub; the former images are back")

    cluster_of_its_own(machine, monkeypatch, roll)
    for _ in range(2):
        assert machine.run() == 1
        assert "jupyter/hub" in machine.state["failure"]["said"]
    assert len(tried) == 1
    monkeypatch.setattr(containers, "standing", lambda _: {"old": "newest"})
    assert machine.run() == 1
    assert len(tried) == 2


@pytest.mark.requirement("P-38", "P-40", "H-20")
def test_the_control_plane_follows_and_a_level_that_was_put_back_is_not_tried_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    faults = [rollout.NotReady("etcd 3.6.9-0 is not up; the former control plane is back"), None]

    def bring(_: object, images: dict[str, str], deadline: datetime) -> list[str]:
        asked.append(images["etcd"])
        if (fault := faults.pop(0)) is not None:
            raise fault
        return ["etcd 3.6.10-0"]

    cluster_of_its_own(machine, monkeypatch, lambda _: [])
    machine.write("etc/kubernetes/kubeadm.yaml", "kubernetesVersion: v1.36.3\n  imageTag: 3.6.8-0\n")
    monkeypatch.setattr(controlplane.ControlPlane, "bring", bring)
    for tag, code in (("3.6.8-0", 0), ("3.6.9-0", 1), ("3.6.9-0", 1), ("3.6.10-0", 0)):
        monkeypatch.setattr(containers, "whole", lambda _, tag=tag: {"etcd": f"localhost/vre/etcd:{tag}@sha256:a"})
        assert machine.run() == code
        assert ("is not up" in machine.state.get("failure", {}).get("said", "")) is bool(code)
    assert asked == [f"localhost/vre/etcd:{tag}@sha256:a" for tag in ("3.6.9-0", "3.6.10-0")]
    assert machine.state["followed"]["versions"] == ["etcd 3.6.10-0"]


def test_without_a_mirror_no_container_image_is_asked_for(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.settings(upgrade=False)
    monkeypatch.setattr(containers, "settle", lambda *_: pytest.fail("it was"))
    assert machine.run() == 0
