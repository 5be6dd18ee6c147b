"""What a booted image is like: looked at over its only door, and from outside."""

import json
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import paramiko
from securesystemslib.signer import CryptoSigner

from vre import atomic
from vre.artifacts.golang import architecture
from vre.cli import image_logins
from vre.cli.checks import Check, State, bad, good, looked, warning, well
from vre.errors import VreError
from vre.image import boot
from vre.image.boot import Guest
from vre.paths import state
from vre.progress import Report
from vre.release import envelope, files, outside, provenance, trial
from vre.release.manifest import Manifest
from vre.release.publish import LAUNCH
from vre.release.verify import Release, Wanted, verify

AREA = "boot"
FULL = "uefi"
BRIEF = ("firmware", "cloud-init", "units")
"""What is looked at where another firmware started the same disk."""
FORMAT = "qcow2"
"""What is booted: the other formats hold the same disk."""
FAMILIES = ("ipv4", "ipv6")
ALLOWED = [22]
"""The only TCP port that a machine opens before it is given its work."""
CONTROL = "node-role.kubernetes.io/control-plane"
DRIFT = 30.0
"""Seconds that a guest's clock may be away from this machine's: an emulated one is slow to answer."""
VULNERABLE = "grep -r . /sys/devices/system/cpu/vulnerabilities"
STARTED_BY = "test -d /sys/firmware/efi && echo uefi || echo bios; mokutil --sb-state 2> /dev/null || true"
INSTALLED = "dpkg-query -W -f '${Package}\\t${Version}\\t${db:Status-Status}\\n'"
Run = Callable[[str], str]


def whole(folder: Path, wanted: Wanted, report: Report, *, launch: bool) -> tuple[list[Check], Release]:
    """Return everything that was seen of a release, and the release. Raises Refused when it is not what was signed.

    The console and the launch's log stay in the state folder, until the next test.
    """
    report("checking signatures and digests")
    release = verify(folder, replace(wanted, architecture=architecture()))
    found = [good("release", "signatures", f"every byte is as signed: {', '.join(sorted(release.manifest.files))}")]
    home = state() / "image-test"
    for firmware in boot.FIRMWARE:
        shutil.rmtree(home / firmware, ignore_errors=True)
        found += look(release.disk(FORMAT), release.manifest, home / firmware, report, firmware)
    if launch and well(found):
        found += looked(LAUNCH, LAUNCH, lambda: _launched(release, wanted, home / LAUNCH, report))
    elif launch:
        found.append(bad(LAUNCH, LAUNCH, "not tried: the image itself did not pass"))
    return found, release


def _launched(release: Release, wanted: Wanted, folder: Path, report: Report) -> Iterator[Check]:
    """Launch a stack from a release, use it as a researcher does, and take it down."""
    seen: list[Check] = []
    with trial.launched(release, list(wanted.keys), folder, report) as outputs:
        seen.append(nodes(trial.nodes(folder)))
        seen.append(good(LAUNCH, "services", ", ".join(outputs["services"].values())))
        printed = trial.cell(outputs, report).strip()
        seen.append(good(LAUNCH, "cell", printed) if printed == "42" else bad(LAUNCH, "cell", f"6 * 7 is {printed!r}"))
    yield from seen
    yield good(LAUNCH, "taken down", "nothing is left of it")
    if well(seen):
        yield good(LAUNCH, LAUNCH, "a stack was launched from it, and used")


def sign(release: Release, found: Sequence[Check], key: CryptoSigner) -> None:
    """Write the signed result beside the release: what passed and what did not."""
    names = {state: [_name(each) for each in found if (each.state == State.BAD) == state] for state in (False, True)}
    stated = provenance.test_result(release.told, set(names[False]) - set(names[True]), set(names[True]))
    atomic.write(release.folder / files.TEST, envelope.sealed(provenance.text(stated), provenance.KIND, key))


def _name(check: Check) -> str:
    return LAUNCH if check.area == check.name == LAUNCH else f"{check.area}: {check.name}"


def look(disk: Path, made: Manifest, folder: Path, report: Report, firmware: str) -> list[Check]:
    """Boot an image and return what was seen; what the guest wrote to its console stays in `folder`.

    By UEFI everything is looked at; by the others, that it starts, lets its operator in, and has no complaint.
    """

    def say(told: str) -> None:
        report(f"{firmware}: {told}")

    started = f"starts by {firmware}"
    try:
        with boot.boot(disk, folder, say, firmware=firmware) as guest, guest.connect() as client:
            seconds = time.monotonic() - guest.begun
            found = [good(AREA, started, f"and lets its operator in, {seconds:.0f} s after power-on")]
            return [*found, *_booted(guest, partial(said, client), made, say, firmware)]
    except VreError as error:
        return [bad(AREA, started, error.message, f"its console: {folder / 'console.log'}")]
    finally:
        for name in ("disk.qcow2", "key"):
            (folder / name).unlink(missing_ok=True)


def _booted(guest: Guest, run: Run, made: Manifest, report: Report, firmware: str) -> list[Check]:
    looks: dict[str, Callable[[], Iterable[Check]]] = {
        "firmware": lambda: [firmware_used(run(STARTED_BY), firmware)],
        "cloud-init": lambda: [initialised(run("cloud-init status --wait --format json || true"))],
        "key login": lambda: [image_logins.account(run("id -un"))],
        "logins": lambda: image_logins.look(guest),
        "units": lambda: [units(run("systemctl list-units --failed --plain --no-legend"))],
        "clock": lambda: [clock(float(run("date +%s.%N")), time.time())],
        "packages": lambda: [packages(run(INSTALLED), made)],
        "container images": lambda: [containers(run("sudo crictl images --output json"), made.containers)],
        "mitigations": lambda: mitigations(run(VULNERABLE), run("cat /proc/cmdline")),
        "ports": lambda: ports(run(f"sudo python3 -c {shlex.quote(Path(outside.__file__).read_text())}")),
    }
    found: list[Check] = []
    for name in looks if firmware == FULL else BRIEF:
        report(name)
        found += [_placed(check, guest) for check in looked(AREA, name, looks[name])]
    return found if firmware == FULL else [replace(each, name=f"{each.name} by {firmware}") for each in found]


def _placed(check: Check, guest: Guest) -> Check:
    """Say of what is bad where the machine's own words are."""
    if check.state != "bad":
        return check
    return bad(check.area, check.name, check.found, f"{check.hint or 'its console'}: {guest.console}")


def said(client: paramiko.SSHClient, command: str) -> str:
    """Run a command on the guest. Raises VreError with what it said when it fails."""
    _, out, error = client.exec_command(command, timeout=900)
    text = out.read().decode(errors="replace")
    if out.channel.recv_exit_status():
        raise VreError(f"{command[:80]}: {(error.read().decode(errors='replace') or text).strip()[-800:]}")
    return text


def firmware_used(told: str, wanted: str) -> Check:
    """Judge what started the machine, by its own word: what was asked for need not be what happened. Pure."""
    lines = told.splitlines() or [""]
    used = "secure" if "SecureBoot enabled" in lines[1:] else lines[0]
    if used == wanted:
        return good(AREA, "firmware", f"it is {wanted}")
    return bad(AREA, "firmware", f"it is {used or 'unknown'} instead of {wanted}")


def initialised(told: str) -> Check:
    """Judge what cloud-init says of itself. Pure."""
    state = json.loads(told)
    faults = [
        *state.get("errors", []),
        *(each for texts in state.get("recoverable_errors", {}).values() for each in texts),
    ]
    if state.get("status") == "done" and not faults:
        return good(AREA, "cloud-init", "done without error")
    return bad(AREA, "cloud-init", f"{state.get('status')}: {'; '.join(map(str, faults))[:600]}")


def units(told: str) -> Check:
    """Judge the list of failed units. Pure."""
    failed = [line.split()[0] for line in told.splitlines() if line.strip()]
    if failed:
        return bad(AREA, "units", f"failed: {', '.join(failed)}", f"journalctl -u {failed[0]}")
    return good(AREA, "units", "none has failed")


def clock(there: float, here: float) -> Check:
    """Judge a guest's clock by this machine's; seconds since 1970. Pure."""
    away = abs(there - here)
    if away > DRIFT:
        return bad(AREA, "clock", f"{away:.0f} s away from this machine's")
    return good(AREA, "clock", f"right to {max(away, 1):.0f} s")


def packages(told: str, made: Manifest) -> Check:
    """Judge whether a machine has the packages that its manifest names. Pure."""
    lines = (line.split("\t") for line in told.splitlines())
    there = {(name, version) for name, version, state in lines if state == "installed"}
    named = {(each.name, each.version) for each in made.packages}
    wrong = sorted({name for name, _ in there ^ named})
    if wrong:
        return bad(AREA, "packages", f"not as the manifest says: {', '.join(wrong[:10])}")
    return good(AREA, "packages", f"the {len(named)} that the manifest names")


def containers(told: str, wanted: Mapping[str, str]) -> Check:
    """Judge whether every container image is there, by its digest. Pure."""
    there = {digest.rpartition("@")[2] for each in json.loads(told)["images"] for digest in each["repoDigests"]}
    missing = sorted(name for name, reference in wanted.items() if reference.rpartition("@")[2] not in there)
    if missing:
        return bad(AREA, "container images", f"missing: {', '.join(missing)}")
    return good(AREA, "container images", f"all {len(wanted)} are imported")


def mitigations(told: str, cmdline: str) -> Iterator[Check]:
    """Judge what the kernel does about its processor's faults. Pure."""
    if "mitigations=off" in cmdline.split():
        yield bad(AREA, "mitigations", "switched off on the kernel's command line")
    lines = (line.partition(":") for line in told.splitlines())
    open_ = sorted(path.rpartition("/")[2] for path, _, state in lines if state.strip().startswith("Vulnerable"))
    if open_:
        hint = "the processor model of this test; on machines: microcode, host-passthrough, a newer hypervisor"
        yield warning(AREA, "mitigations", f"vulnerable here: {', '.join(open_)}", hint)
    else:
        yield good(AREA, "mitigations", "none of the known faults is open")


def ports(told: str) -> Iterator[Check]:
    """Judge which TCP ports answered from outside. Pure."""
    found = json.loads(told.strip().splitlines()[-1]) if told.strip() else {}
    for family in FAMILIES:
        if family in found:
            yield only(AREA, f"ports {family}", found[family], ALLOWED)
        else:
            yield bad(AREA, f"ports {family}", "was not scanned")


def nodes(told: str) -> Check:
    """Judge the nodes of the cluster that kubeadm made, as kubectl tells them in JSON. Pure."""
    found = {each["metadata"]["name"]: each for each in json.loads(told)["items"]}
    lazy = sorted(name for name, each in found.items() if not _is_ready(each))
    control = [name for name, each in found.items() if CONTROL in each["metadata"].get("labels", {})]
    if lazy or not control:
        why = f"not ready: {', '.join(lazy)}" if lazy else "there is no control machine"
        return bad(LAUNCH, "kubeadm init", why, "kubectl describe node, and journalctl -u kubelet there")
    return good(LAUNCH, "kubeadm init", f"ready: {', '.join(sorted(found))}")


def _is_ready(node: Mapping[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"].get("conditions", []))


def only(area: str, name: str, answered: Sequence[int], allowed: Sequence[int]) -> Check:
    """Judge which of all TCP ports answered. Pure."""
    more, less = sorted(set(answered) - set(allowed)), sorted(set(allowed) - set(answered))
    if more or less:
        told = [f"answers on {', '.join(map(str, more))}"] if more else []
        told += [f"does not answer on {', '.join(map(str, less))}"] if less else []
        return bad(area, name, "; ".join(told), "what listens: ss -tlnp")
    return good(area, name, f"of 65535, {', '.join(map(str, answered))} answer")
