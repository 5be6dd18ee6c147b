"""Boots an image by hand under QEMU, on a network of its own that reaches nothing: for tests and benchmarks."""

import json
import logging
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from vre.emulation import LACKING, steady
from vre.errors import VreError
from vre.progress import Report
from vre.run import Process, begin, run

USER = "vre"
OVMF = Path("/usr/share/OVMF")
META = "instance-id: boot-test\nlocal-hostname: boot-test\n"
POLL = 0.5  # seconds between two tries to get in
CONSOLE_TAIL = 40  # lines of the console shown when a guest does not come up


@dataclass(frozen=True, kw_only=True)
class Firmware:
    """What starts the machine: UEFI's code and the variables it begins with, or none of both, which is a BIOS.

    `guarded` firmware keeps its variables from the system, which Secure Boot rests on; QEMU calls that SMM.
    """

    code: str = ""
    variables: str = ""
    guarded: bool = False


FIRMWARE: Mapping[str, Firmware] = {
    "bios": Firmware(),
    "uefi": Firmware(code="OVMF_CODE_4M.fd", variables="OVMF_VARS_4M.fd"),
    # The variables hold Microsoft's keys, as a machine that is bought has them.
    "secure": Firmware(code="OVMF_CODE_4M.secboot.fd", variables="OVMF_VARS_4M.ms.fd", guarded=True),
}
"""Each firmware that a guest can be started with, by its name."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """An SSH key pair in OpenSSH's form."""

    private: str
    public: str


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A running guest: where its door is on this machine, its two keys, its console log and its process."""

    port: int
    key: Path
    host: Key
    console: Path
    process: Process
    begun: float  # time.monotonic() at power-on

    def connect(self, timeout: float = 600.0) -> paramiko.SSHClient:
        """Return a connection as `vre`, trying for `timeout` seconds; the host key is pinned. Raises VreError."""
        logging.getLogger("paramiko").addHandler(logging.NullHandler())  # it prints every refused try otherwise
        client = paramiko.SSHClient()
        kind, _, text = self.host.public.partition(" ")
        entry = paramiko.hostkeys.HostKeyEntry.from_line(f"[127.0.0.1]:{self.port} {kind} {text}")
        if entry is None or entry.key is None:
            raise VreError("the guest's host key cannot be read")
        client.get_host_keys().add(f"[127.0.0.1]:{self.port}", kind, entry.key)
        while self.process.poll() is None and time.monotonic() < self.begun + timeout:
            try:
                client.connect(
                    "127.0.0.1",
                    self.port,
                    USER,
                    key_filename=str(self.key),
                    look_for_keys=False,
                    allow_agent=False,
                    banner_timeout=5,
                )
            except (OSError, EOFError, paramiko.SSHException):
                time.sleep(POLL)
            else:
                return client
        said = self.console.read_text(errors="replace").splitlines() if self.console.exists() else []
        raise VreError("the guest did not let us in:\n    " + "\n    ".join(said[-CONSOLE_TAIL:]))


def new_key() -> Key:
    """Make an ed25519 key pair."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return Key(private=private, public=key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def user_data(host: Key, person: Key, extra: dict[str, object] | None = None) -> str:
    """Return cloud-config that lets `person` in as `vre` and gives the guest its host key."""
    account = {
        "name": USER,
        "groups": "sudo",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "shell": "/bin/bash",
        "lock_passwd": True,
        "ssh_authorized_keys": [person.public],
    }
    keys = {"ed25519_private": host.private, "ed25519_public": host.public}
    return "#cloud-config\n" + json.dumps({"users": [account], "ssh_keys": keys, **(extra or {})}, indent=1)


def seed(target: Path, user: str, meta: str = META) -> None:
    """Write a NoCloud seed: a small FAT disk labelled CIDATA."""
    with target.open("wb") as disk:
        disk.truncate(1024**2)
    run(["mformat", "-i", target, "-v", "CIDATA", "-f", "1440", "::"])
    for name, text in (("user-data", user), ("meta-data", meta)):
        run(["mcopy", "-i", target, "-", f"::{name}"], stdin=text)


@contextmanager
def boot(
    disk: Path,
    folder: Path,
    report: Report,
    *,
    memory: int = 3072,
    size: str = "12G",
    open_network: bool = False,
    khz: int = 0,
    firmware: str = "uefi",
) -> Iterator[Guest]:
    """Boot a throw-away copy of `disk` (its changes and all else go into `folder`) and end it afterwards.

    `memory` is in MiB, `khz` the frequency of this machine's time stamp counter where it is known, `firmware` one of
    FIRMWARE. Emulated, with 2 processors, as slow as it gets anywhere. Raises VreError for an unknown firmware.
    """
    if firmware not in FIRMWARE:
        raise VreError(f"there is no firmware {firmware}", hint=f"there are {', '.join(FIRMWARE)}")
    folder.mkdir(parents=True, exist_ok=True)
    host, person = new_key(), new_key()
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_text(person.private)
    seed(folder / "seed.img", user_data(host, person))
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk.resolve(), "-F", "qcow2", folder / "disk.qcow2", size])
    if FIRMWARE[firmware].variables:
        shutil.copy(OVMF / FIRMWARE[firmware].variables, folder / "vars.fd")
    port = _free_port()
    report("the guest starts")
    words = qemu(folder, port=port, memory=memory, open_network=open_network, khz=khz, firmware=firmware)
    process = begin(words, output=folder / "qemu.log")
    begun = time.monotonic()
    try:
        yield Guest(port=port, key=key, host=host, console=folder / "console.log", process=process, begun=begun)
    finally:
        process.terminate()
        process.wait()


def qemu(
    folder: Path, *, port: int, memory: int, open_network: bool, khz: int = 0, firmware: str = "uefi"
) -> Sequence[str]:
    """Return QEMU's command: q35, two emulated processors, a network that only lets us in through `port`."""
    processor = ",".join(("max", *(f"{name}=off" for name in LACKING)))
    machine = "q35,smm=on" if FIRMWARE[firmware].guarded else "q35"
    network = f"user,id=net0,ipv6=off,hostfwd=tcp:127.0.0.1:{port}-:22,restrict={'off' if open_network else 'on'}"
    return [
        *("setpriv", "--pdeathsig", "TERM"),  # no guest outlives us, however we end
        *("qemu-system-x86_64", "-machine", machine, "-accel", "tcg,thread=multi", "-cpu", processor),
        *("-smbios", f"type=11,value={steady(khz)}"),
        *("-smp", "2", "-m", str(memory), "-display", "none", "-nodefaults"),
        *_flash(FIRMWARE[firmware], folder / "vars.fd"),
        *("-drive", f"if=virtio,format=qcow2,discard=unmap,file={folder / 'disk.qcow2'}"),
        *("-drive", f"if=virtio,format=raw,readonly=on,file={folder / 'seed.img'}"),
        *("-netdev", network, "-device", "virtio-net-pci,netdev=net0,romfile="),
        *("-device", "virtio-rng-pci", "-serial", f"file:{folder / 'console.log'}"),
    ]


def _flash(firmware: Firmware, variables: Path) -> Sequence[str]:
    if not firmware.code:
        return []
    words = ["-global", "driver=cfi.pflash01,property=secure,value=on"] if firmware.guarded else []
    flash = "if=pflash,format=raw,unit"
    return [
        *words,
        *("-drive", f"{flash}=0,readonly=on,file={OVMF / firmware.code}"),
        *("-drive", f"{flash}=1,file={variables}"),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
