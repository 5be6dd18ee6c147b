"""Whether this machine's KVM really runs a guest: the device being there does not say so."""

import json
import tempfile
from pathlib import Path

from vre import atomic, paths
from vre.errors import VreError
from vre.progress import Report, silent
from vre.run import run

DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
EMULATOR = "qemu-system-x86_64"
FIRMWARE_SIZE = 65536
RESET_VECTOR = 0xFFF0  # where an x86 processor begins, as an offset in the firmware
PORT = 0xF4  # of the device that ends QEMU with the exit code 2 * value + 1
VALUE = 61
EXIT_CODE = 2 * VALUE + 1  # nothing else ends QEMU with this code
PATIENCE = 20  # seconds


def kvm_works(report: Report = silent) -> bool:
    """Return whether a guest's first instructions run under KVM here, tried once for each boot of this machine."""
    record = paths.state() / "kvm.json"
    boot = BOOT_ID.read_text().strip()
    known = atomic.remembered(record)
    if known.get("boot") != boot or (known.get("works") is False and known.get("device") != DEVICE.exists()):
        works = DEVICE.exists() and _try(report)
        known = {"boot": boot, "device": DEVICE.exists(), "works": works}
        record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic.write(record, json.dumps(known).encode())
    return bool(known.get("works"))


def firmware() -> bytes:
    """Return a firmware that does nothing but end its machine with our exit code: mov al, VALUE; out PORT, al; hlt."""
    image = bytearray(b"\xf4" * FIRMWARE_SIZE)
    code = bytes([0xB0, VALUE, 0xE6, PORT, 0xF4])
    image[RESET_VECTOR : RESET_VECTOR + len(code)] = code
    return bytes(image)


def command(image: Path, accelerator: str) -> list[str]:
    """Return the command that runs such a firmware, on the processor that a machine of ours would have."""
    model = "host" if accelerator == "kvm" else "max"
    return [
        EMULATOR,
        *("-machine", "q35", "-accel", accelerator, "-cpu", model, "-smp", "2", "-m", "64"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-bios", str(image)),
        *("-device", f"isa-debug-exit,iobase={PORT:#x},iosize=0x04"),
    ]


def _try(report: Report) -> bool:
    report("trying whether KVM works here")
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "firmware"
        image.write_bytes(firmware())
        try:
            run(command(image, "kvm"), timeout=PATIENCE, accept=[EXIT_CODE])
        except VreError:
            return False
    return True
