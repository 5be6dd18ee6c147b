"""Runs as root on a machine that started from Debian's own image, after the archive it came in was unpacked.

Only the standard library. Does what is missing and can be run again. Ends non-zero with what failed; the last thing it
writes is `done`, which holds the identity that it was given.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parent
LAYOUT = Path("/run/layout")
STOPPED = ("kubelet.service", "containerd.service")


def run(*words: str) -> None:
    """Run one command; end with what it said when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)[:200]}: {(done.stderr or done.stdout).strip()[-2000:]}")


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, flush=True)


def main(identity: str) -> None:
    """Make accounts and folders, import the container images, start what has to run."""
    task = json.loads((HOME / "task.json").read_text())
    for account in task["accounts"]:
        if subprocess.run(["id", account], capture_output=True, check=False).returncode:
            run("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", account)
    for name, (mode, owner) in task["folders"].items():
        run("install", "--directory", "--mode", mode, "--owner", owner, "--group", owner, f"/{name}")
    for command in task["overrides"]:
        run(*command)
    say("installing our packages")
    # The kubelet's unit is in vre-machine; the kubelet's own package starts it anew where it runs.
    for packages in ("vre-machine_*.deb", "*.deb"):
        run("dpkg", "--install", "--skip-same-version", *map(str, sorted((HOME / "packages").glob(packages))))
    shutil.rmtree(HOME / "packages")
    run("systemctl", "daemon-reload")
    run("systemctl", "stop", *STOPPED)
    say("importing the container images")
    LAYOUT.unlink(missing_ok=True)
    LAYOUT.symlink_to(HOME / "layout")
    run(sys.executable, str(HOME / "importer.py"), json.dumps(task["images"]))
    LAYOUT.unlink()
    shutil.rmtree(HOME / "layout")
    say("starting services")
    if shutil.which("update-grub"):
        run("update-grub")  # what the kernel is told, from the next start on
    run("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/vre.conf")
    run("systemctl", "restart", "systemd-modules-load.service", "systemd-sysctl.service", "systemd-journald.service")
    run("sshd", "-t")
    run("systemctl", "enable", "--now", *task["enable"])
    run("systemctl", "reload", "ssh.service")
    os.sync()  # what it stands for is on the disk before it
    (HOME / "done").write_text(f"{identity}\n")


if __name__ == "__main__":
    main(sys.argv[1])
