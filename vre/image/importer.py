"""Runs inside the image's root while it is built, with its own Python: containers into containerd's store.

Only the standard library. Reads from standard input what there is to do: reference -> further names of the same image.
The OCI layout lies at LAYOUT. Prints nothing; ends non-zero with what failed.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

LAYOUT = Path("/run/layout")
SOCKET = Path("/run/containerd/containerd.sock")
SETTINGS = """version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/opt"
"""
PATIENCE = 60.0  # seconds until containerd must answer
# Nobody reads an image's compressed layers once it is unpacked. By this option manifests do not hold on to them.
IMPORT = ("ctr", "--namespace", "k8s.io", "images", "import", "--local", "--discard-unpacked-layers", "-")
PINNED = "io.cri-containerd.pinned=pinned"  # the kubelet's clean-up leaves these alone: they cannot be pulled again


def ctr(*words: str) -> None:
    """Run one ctr command in the kubelet's namespace."""
    done = subprocess.run(["ctr", "--namespace", "k8s.io", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"ctr {' '.join(words)}: {done.stderr.strip()}")


def main(names: dict[str, list[str]]) -> None:
    """Start containerd, import the layout, give every image its names, and stop."""
    Path("/run/settings.toml").write_text(SETTINGS)
    daemon = subprocess.Popen(["containerd", "--config", "/run/settings.toml", "--log-level", "warn"])
    try:
        limit = time.monotonic() + PATIENCE
        while not SOCKET.exists():
            if daemon.poll() is not None or time.monotonic() > limit:
                sys.exit("containerd did not start")
            time.sleep(0.05)
        tar = subprocess.Popen(
            ["tar", "--create", "--sort=name", "--directory", str(LAYOUT), "."], stdout=subprocess.PIPE
        )
        done = subprocess.run(IMPORT, stdin=tar.stdout, capture_output=True, text=True, check=False)
        if tar.wait() or done.returncode:
            sys.exit(f"the import failed: {done.stderr.strip()}")
        for name, others in names.items():
            for other in others:
                ctr("images", "tag", name, other)
            for each in [name, *others]:
                ctr("images", "label", each, PINNED)
        ctr("content", "prune", "references")  # at once, not when containerd next finds the time
    finally:
        daemon.terminate()
        daemon.wait()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
