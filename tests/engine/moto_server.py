"""Moto on loopback, with Debian's images in it: AWS for as long as a test or a measurement takes."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NEWEST = "ami-0d13000000000002"
IMAGES = [(NEWEST, "20261101-2290"), ("ami-0d13000000000001", "20260901-2229")]
PATIENCE = 60.0  # seconds for moto to come up


def images() -> list[dict[str, Any]]:
    """Return what moto has of Debian's images, and one that only has the same name."""
    common = {
        "state": "available", "public": True, "image_location": "amazon/debian", "sriov": "simple",
        "root_device_type": "ebs", "root_device_name": "/dev/xvda", "description": "Debian 13", "image_type": "machine",
        "architecture": "x86_64", "virtualization_type": "hvm", "hypervisor": "xen",
    }  # fmt: skip
    own = [
        {
            **common,
            "ami_id": name,
            "owner_id": "136693071363",
            "name": f"debian-13-amd64-{day}",
            "creation_date": f"{day[:4]}-{day[4:6]}-{day[6:8]}T00:00:00.000Z",
        }
        for name, day in IMAGES
    ]
    false = {"ami_id": "ami-0d13000000000666", "owner_id": "666666666666", "name": "debian-13-amd64-20991231-1"}
    return [*own, {**common, **false, "creation_date": "2099-12-31T00:00:00.000Z"}]


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run moto until the end of the block. Yields its address. Raises RuntimeError when it does not come up."""
    (folder / "amis.json").write_text(json.dumps(images()))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    env = {**os.environ, "MOTO_AMIS_PATH": str(folder / "amis.json")}
    with (folder / "log").open("w") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as server:
        try:
            _wait(server, port, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not _answers(port):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"moto does not answer: {log.read_text()}")
        time.sleep(0.1)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
