"""The test of an image: what is judged good and bad, and that only what passed is signed as passed."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit import releases
from tests.unit.releases import KEY, WANTED
from vre import clouds
from vre.cli import image_checks
from vre.cli.checks import Check, State, bad, good
from vre.errors import Refused, VreError
from vre.load import load
from vre.policy import Peer
from vre.progress import silent
from vre.release import outside, provenance, publish, trial, verify
from vre.stackfile import parse

DPKG = "bash\t5.2-1\tinstalled\ngone\t1\tconfig-files\n"


def judged(*checks: Check) -> list[str]:
    return [f"{each.state}: {each.found}" for each in checks]


def test_cloud_init_is_good_only_when_it_is_done_and_nothing_went_wrong() -> None:
    told: dict[str, object] = {"status": "done", "errors": [], "recoverable_errors": {}}
    assert image_checks.initialised(json.dumps(told)).state == State.GOOD
    wrongs: list[dict[str, object]] = [
        {"status": "running"},
        {"errors": ["x"]},
        {"recoverable_errors": {"WARNING": ["y"]}},
    ]
    for wrong in wrongs:
        assert image_checks.initialised(json.dumps({**told, **wrong})).state == State.BAD


def test_a_failed_unit_is_named() -> None:
    assert image_checks.units("").state == State.GOOD
    assert image_checks.units("ssh.service loaded failed failed OpenSSH\n").found == "failed: ssh.service"


def test_a_clock_that_is_wrong_is_bad() -> None:
    assert image_checks.clock(1000.0, 1003.0).state == State.GOOD
    assert image_checks.clock(1000.0, 1031.0).state == image_checks.clock(1031.0, 1000.0).state == State.BAD


def test_packages_are_those_of_the_manifest() -> None:
    made = releases.described()
    assert image_checks.packages(DPKG, made).state == State.GOOD
    assert image_checks.packages(f"{DPKG}vim\t9\tinstalled\n", made).found == "not as the manifest says: vim"
    assert "bash" in image_checks.packages("bash\t5.2-2\tinstalled\n", made).found


def test_a_container_image_that_is_missing_or_another_is_named() -> None:
    wanted = releases.described().containers
    there = {"images": [{"repoDigests": [f"localhost/vre/pause@sha256:{'a' * 64}"]}]}
    assert image_checks.containers(json.dumps(there), wanted).state == State.GOOD
    other: dict[str, object] = {"images": [{"repoDigests": [f"localhost/vre/pause@sha256:{'b' * 64}"]}]}
    none: dict[str, object] = {"images": []}
    for told in (other, none):
        assert image_checks.containers(json.dumps(told), wanted).found == "missing: pause"


def test_open_faults_of_a_processor_are_a_warning_and_switching_off_is_bad() -> None:
    told = "/sys/devices/system/cpu/vulnerabilities/mds:Vulnerable: Clear CPU buffers attempted, no microcode\n"
    fine = "/sys/devices/system/cpu/vulnerabilities/mds:Not affected\n"
    assert judged(*image_checks.mitigations(told, "quiet")) == ["warning: vulnerable here: mds"]
    assert [each.state for each in image_checks.mitigations(fine, "quiet")] == [State.GOOD]
    assert State.BAD in [each.state for each in image_checks.mitigations(fine, "root=x mitigations=off")]


def test_the_scan_lets_22_answer_and_nothing_else() -> None:
    assert [each.state for each in image_checks.ports('{"ipv4": [22], "ipv6": [22]}\n')] == [State.GOOD, State.GOOD]
    assert judged(*image_checks.ports('{"ipv4": [22, 5355], "ipv6": []}')) == [
        "bad: answers on 5355", "bad: does not answer on 22",
    ]  # fmt: skip


def test_what_scans_finds_what_listens_and_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port, other = (each.getsockname()[1] for each in (listening, closed))
        assert outside.knock("127.0.0.1", range(port, port + 1)) == [port]
        assert outside.knock("127.0.0.1", range(other, other + 1)) == []
        assert outside.knock("::1", range(port, port + 1)) == []


def test_every_port_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "knock", lambda _, ports: list(ports))
    assert outside.scan("198.18.77.1") == list(range(1, 65536))


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> verify.Release:
    monkeypatch.setenv("VRE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(image_checks, "architecture", lambda: "amd64")
    return verify.verify(releases.release(tmp_path / "dist"), WANTED)


READY = {
    "metadata": {"name": "image-test-control", "labels": {image_checks.CONTROL: ""}},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}


def outcome(
    release: verify.Release, monkeypatch: pytest.MonkeyPatch, seen: list[Check], printed: str, *nodes: dict[str, Any]
) -> list[Check]:
    """Test a release that boots as `seen` says and whose cell prints something; nothing is started."""

    @contextmanager
    def launched(*_: object) -> Iterator[Mapping[str, Any]]:
        yield {"services": {"jupyter": "https://192.168.94.10/jupyter/"}}

    monkeypatch.setattr(image_checks, "look", lambda *_: seen)
    monkeypatch.setattr(trial, "launched", launched)
    monkeypatch.setattr(trial, "nodes", lambda _: json.dumps({"items": nodes or [READY]}))
    monkeypatch.setattr(trial, "cell", lambda *_: printed)
    found, same = image_checks.whole(release.folder, WANTED, silent, launch=True)
    image_checks.sign(same, found, KEY)
    return found


def test_a_release_that_passed_everything_may_be_promoted(
    release: verify.Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome(release, monkeypatch, [good("boot", "units", "none has failed")], "42\n")
    passed = verify.tested(verify.verify(release.folder, WANTED), [KEY.public_key])
    assert {publish.LAUNCH, "boot: units", "launch: kubeadm init", "launch: cell", "release: signatures"} <= set(passed)


@pytest.mark.parametrize(
    ("seen", "printed", "nodes"),
    [
        ([bad("boot", "units", "failed: ssh.service")], "42", [READY]),
        ([good("boot", "units", "none")], "43", [READY]),
        ([good("boot", "units", "none")], "42", [READY, {"metadata": {"name": "worker"}, "status": {}}]),
    ],
)
def test_a_release_that_failed_anything_may_not_be_promoted(
    release: verify.Release,
    monkeypatch: pytest.MonkeyPatch,
    seen: list[Check],
    printed: str,
    nodes: list[dict[str, Any]],
) -> None:
    found = outcome(release, monkeypatch, seen, printed, *nodes)
    assert any(each.state == State.BAD for each in found)
    with pytest.raises(VreError, match="did not pass its test"):
        verify.tested(verify.verify(release.folder, WANTED), [KEY.public_key])


def test_a_launch_that_fails_is_told_and_not_signed_as_passed(
    release: verify.Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def launched(*_: object) -> Iterator[Mapping[str, Any]]:
        raise VreError("no machine came up", hint="all of it: launch.log")
        yield {}

    monkeypatch.setattr(image_checks, "look", lambda *_: [good("boot", "units", "none has failed")])
    monkeypatch.setattr(trial, "launched", launched)
    found, _ = image_checks.whole(release.folder, WANTED, silent, launch=True)
    assert judged(*found)[-1] == "bad: no machine came up"
    assert found[-1].hint == "all of it: launch.log"
    stated = provenance.test_result(release.told, [], ["launch"])
    assert stated["predicate"]["result"] == "FAILED"


def test_nothing_is_booted_that_is_not_what_was_signed(
    release: verify.Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    (release.folder / "disk.qcow2").write_bytes(b"A disk\n")
    monkeypatch.setattr(image_checks, "look", None)
    with pytest.raises(Refused, match=r"disk\.qcow2"):
        image_checks.whole(release.folder, WANTED, silent, launch=False)


def test_a_candidate_is_current_only_in_the_copy_that_tests_it(
    release: verify.Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vre.release import channel, envelope, place, reading

    copy = tmp_path / "copy"
    (copy / ".vre").mkdir(parents=True)
    checkout = trial.Checkout(path=copy, env=trial.environment(copy, copy / ".vre"))
    trial.offered(checkout, release, [KEY.public_key])
    monkeypatch.setenv("VRE_STATE", str(checkout.state))
    monkeypatch.setattr("vre.paths.project", lambda: copy)
    keys = envelope.trusted()
    assert KEY.public_key.keyid in {key.keyid for key in keys}
    now = reading.channel_at(place.at(str(checkout.state / "images")), keys)
    assert now.current is not None
    there = checkout.state / "images" / channel.RELEASES / now.current.id
    assert verify.verify(there, replace(WANTED, keys=keys)).told == release.told


@pytest.mark.parametrize(("moment", "mode"), [("", "nat"), ("20261120T000000Z", "isolated")])
def test_a_release_of_one_moment_is_tried_with_nothing_newer(release: verify.Release, moment: str, mode: str) -> None:
    made = replace(release, manifest=replace(release.manifest, moment=moment))
    asked = load(parse(trial.stack(made), Path("x")))
    assert (getattr(asked.cloud, "mode", ""), bool(clouds.policy(asked).of(Peer.MIRRORS))) == (mode, not moment)
