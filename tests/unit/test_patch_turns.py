"""The program that upgrades a machine of several: its turn, users who are told, the drain, and the way back."""

import threading
from datetime import timedelta
from typing import Any

import member
import pytest
import runtime

from tests.unit import patched
from tests.unit.patched import KERNEL, RUNTIME, Cluster, Machine, server, upgraded, worker

machine, cluster = patched.machine, patched.cluster


def rebooted(machine: Machine) -> None:
    """Let it be up again, with what it was rebooted for."""
    machine.write("proc/sys/kernel/random/boot_id", "two\n")
    machine.write("needrestart", "")


@pytest.mark.requirement("P-39")
def test_users_on_a_machine_are_told_before_it_is_drained(machine: Machine, cluster: Cluster) -> None:
    machine.write("needrestart", KERNEL)
    cluster.pods = [worker("a"), server("bob")]
    seen: list[tuple[dict[str, str], int, Any]] = []
    machine.when_asleep = lambda: seen.append((dict(cluster.notes), len(cluster.pods), dict(cluster.node["spec"])))
    assert machine.run() == 0
    notes, pods, spec = seen[0]
    assert notes["vre/reboot-at"] == "2026-11-21T18:05:00Z"
    assert (notes["vre/reboot-node"], notes["vre/reboot-why"]) == ("one", "kernel a -> b")
    assert notes["vre/holder"] == "one"  # no other begins meanwhile
    assert pods == 2
    assert spec["unschedulable"] is True  # no server is started here that would end at once
    assert machine.slept >= member.NOTICE
    assert cluster.pods == []
    assert cluster.notes["vre/reboot-at"] == "2026-11-21T18:05:00Z"  # what follows leaves it there
    assert machine.ran[-1] == "systemctl reboot"


def test_a_machine_without_users_is_drained_at_once(machine: Machine, cluster: Cluster) -> None:
    machine.write("needrestart", KERNEL)
    ended = server("bob")
    ended["status"]["phase"] = "Succeeded"
    cluster.pods = [worker("a"), ended]
    assert machine.run() == 0
    assert machine.slept < member.NOTICE
    assert "vre/reboot-at" not in cluster.notes
    assert machine.ran[-1] == "systemctl reboot"


@pytest.mark.requirement("P-23", "P-39")
def test_a_node_takes_its_turn_is_drained_reboots_and_is_back(machine: Machine, cluster: Cluster) -> None:
    machine.write("needrestart", KERNEL)
    cluster.pods = [worker("a"), worker("b")]
    assert machine.run() == 0
    assert machine.ran[-1] == "systemctl reboot"
    assert not machine.did("wall")
    assert cluster.pods == []
    assert cluster.node["spec"]["unschedulable"] is True
    assert cluster.notes["vre/holder"] == "one"
    assert "POST /api/v1/namespaces/default/events" in cluster.asked

    rebooted(machine)
    threading.Timer(0.2, cluster.set_ready, ["two"]).start()
    assert machine.run() == 0
    assert cluster.node["spec"]["unschedulable"] is None
    assert cluster.notes["vre/holder"] == ""
    assert not machine.state.get("turn")


def test_a_cordon_of_somebody_else_stays(machine: Machine, cluster: Cluster) -> None:
    cluster.node["spec"]["unschedulable"] = True
    machine.write("needrestart", KERNEL)
    machine.run()
    rebooted(machine)
    cluster.set_ready("two")
    assert machine.run() == 0
    assert cluster.node["spec"]["unschedulable"] is True
    assert cluster.notes["vre/holder"] == ""


def test_a_cordon_whose_answer_was_lost_is_taken_back(machine: Machine, cluster: Cluster) -> None:
    machine.write("needrestart", KERNEL)
    cluster.loses = 1
    assert machine.run() == 1
    assert cluster.node["spec"]["unschedulable"] is True
    rebooted(machine)
    cluster.set_ready("two")
    assert machine.run() == 0
    assert cluster.node["spec"]["unschedulable"] is None
    assert cluster.notes["vre/holder"] == ""


@pytest.mark.requirement("P-23")
def test_while_it_is_the_turn_of_another_nothing_is_cordoned(machine: Machine, cluster: Cluster) -> None:
    machine.settings(window="16:00-18:10", name="one")
    machine.write("needrestart", KERNEL)
    machine.write("upgradable", "")
    cluster.notes = {"vre/holder": "two", "vre/heard": machine.now.isoformat()}
    assert machine.run() == 0
    assert "unschedulable" not in cluster.node["spec"]
    assert not machine.did("systemctl", "reboot")
    assert machine.state["waits"] == "it is the turn of two"


def test_a_dead_machines_turn_ends(machine: Machine, cluster: Cluster) -> None:
    machine.write("needrestart", KERNEL)
    cluster.notes = {"vre/holder": "two", "vre/heard": (machine.now - timedelta(minutes=50)).isoformat()}
    assert machine.run() == 0
    assert machine.ran[-1] == "systemctl reboot"
    assert timedelta(minutes=10) <= machine.slept <= timedelta(minutes=11)


def test_a_pod_that_its_budget_keeps_leaves_the_machine_as_it_was(machine: Machine, cluster: Cluster) -> None:
    machine.write("needrestart", KERNEL)
    cluster.pods, cluster.stubborn = [worker("a")], True
    assert machine.run() == 1
    assert "default/a" in machine.state["failure"]["said"]
    assert "budget" in machine.state["failure"]["said"]
    assert cluster.node["spec"]["unschedulable"] is None
    assert cluster.notes["vre/holder"] == ""
    assert "systemctl reboot" not in machine.ran


@pytest.mark.requirement("H-04", "H-20")
def test_a_newer_runtime_is_taken_in_turn_and_nothing_is_drained(machine: Machine, cluster: Cluster) -> None:
    machine.write("upgradable", RUNTIME)
    cluster.pods = [worker("a")]
    assert machine.run() == 0
    assert upgraded(machine)
    assert cluster.pods == [worker("a")]
    assert "unschedulable" not in cluster.node["spec"]
    assert "PUT /api/v1/namespaces/kube-system/configmaps/vre-patch" in cluster.asked
    assert cluster.notes["vre/holder"] == ""


@pytest.mark.requirement("P-38")
def test_pods_that_did_not_live_through_a_newer_runtime_are_noted(
    machine: Machine, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lost in (["jupyter/hub-1"], []):
        monkeypatch.setattr(runtime, "quietly", lambda run, say, work, lost=lost: [work(), lost][1])
        machine.write("upgradable", RUNTIME)
        assert machine.run() == 0
        assert machine.state.get("lost", {"pods": []})["pods"] == lost
        (machine.root / "log.installed").unlink()


def test_a_runtime_waits_for_its_turn_and_is_tried_again(machine: Machine, cluster: Cluster) -> None:
    machine.write("upgradable", RUNTIME)
    cluster.notes = {"vre/holder": "two", "vre/heard": (machine.now + timedelta(hours=2)).isoformat()}
    assert machine.run() == 0
    assert not upgraded(machine)
    assert machine.state["waits"] == "it is the turn of two"
    assert machine.did("systemd-run", "--unit=vre-patch-again")


def test_a_runtime_that_broke_the_node_is_mended_by_the_next_one(machine: Machine, cluster: Cluster) -> None:
    machine.write("upgradable", RUNTIME)
    cluster.node["status"]["conditions"] = []
    assert machine.run() == 1
    assert "not ready" in machine.state["failure"]["said"]
    assert cluster.notes["vre/holder"] == "one"  # what broke it should not go on to the next

    (machine.root / "log.installed").unlink()
    machine.log.unlink()
    cluster.becomes_ready_after = " upgrade --with-new-pkgs", machine.log
    assert machine.run() == 0
    assert upgraded(machine)
    assert cluster.notes["vre/holder"] == ""
    assert not machine.state["turn"]


def test_a_node_that_is_not_back_is_upgraded_and_fails_after_it(machine: Machine, cluster: Cluster) -> None:
    machine.write("needrestart", KERNEL)
    assert machine.run() == 0
    machine.write("proc/sys/kernel/random/boot_id", "two\n")
    (machine.root / "log.installed").unlink()
    machine.log.unlink()
    assert machine.run() == 1
    assert upgraded(machine)
    assert "not ready" in machine.state["failure"]["said"]
    assert machine.state["cordoned"]
    assert (machine.root / "var/lib/vre/patch-resume").exists()
    assert "systemctl reboot" not in machine.ran


@pytest.mark.parametrize(("own", "reboots"), [(True, True), (False, False)])
def test_without_an_answer_only_the_machine_of_the_api_itself_reboots(
    machine: Machine, own: bool, reboots: bool
) -> None:
    machine.write("etc/kubernetes/kubelet.conf", "    server: http://127.0.0.1:9\n")
    machine.write("needrestart", KERNEL)
    machine.write("upgradable", RUNTIME)
    if own:
        machine.write("etc/kubernetes/manifests/kube-apiserver.yaml", "")
    assert machine.run() == (0 if reboots else 1)
    assert upgraded(machine)  # what is broken may be what the upgrade mends
    assert ("systemctl reboot" in machine.ran) == reboots
