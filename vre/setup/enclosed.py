"""Run by itself inside a new mount namespace: lays the hypervisor's own folders over the system's, starts libvirtd.

It must not import the rest of the package: it runs with an empty environment.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PLACES = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "run": "/run/libvirt",
    "cache": "/var/cache/libvirt",
}
# Frames between bridged machines pass the stateful rules of their filters only with these at 1.
SETTINGS = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")
KERNEL = Path("/proc/sys")


def start(folder: Path) -> None:
    """Mount, set, and become libvirtd, which then puts itself in the background."""
    for name, place in PLACES.items():
        subprocess.run(["mount", "--bind", str(folder / name), place], check=True)
    if not (KERNEL / SETTINGS[0]).exists() and shutil.which("modprobe"):
        subprocess.run(["modprobe", "br_netfilter"], check=False)
    for setting in SETTINGS:
        _remember(folder / "settings" / setting.replace("/", "."), KERNEL / setting)
    os.execvp("libvirtd", ["libvirtd", "-d", "-f", "/etc/libvirt/libvirtd.conf", "-p", str(folder / "libvirtd.pid")])  # noqa: S606


def restore(folder: Path) -> None:
    """Give the kernel its settings back."""
    for setting in SETTINGS:
        record = folder / "settings" / setting.replace("/", ".")
        if record.exists() and (KERNEL / setting).exists():
            (KERNEL / setting).write_text(record.read_text())
            record.unlink()


def _remember(record: Path, setting: Path) -> None:
    if not setting.exists():
        return
    if not record.exists():
        record.parent.mkdir(exist_ok=True)
        record.write_text(setting.read_text())
    setting.write_text("1")


if __name__ == "__main__":
    {"start": start, "restore": restore}[sys.argv[1]](Path(sys.argv[2]))
