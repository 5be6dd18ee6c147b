"""A machine that started from a plain Debian image becomes one of ours: packages, programs, images, settings."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vre import image
from vre.artifacts import debian
from vre.artifacts.store import Store
from vre.image import boot, disk, grub, root
from vre.image.recipe import Recipe, load
from vre.machine import cloudinit
from vre.machine.nftables import Site, ruleset
from vre.machine.ssh import Connection, File, Shell, wait
from vre.paths import project
from vre.policy import ANYWHERE, Doors, Role, decide
from vre.progress import silent
from vre.provider.handler import Context
from vre.provider.software import Software

pytestmark = pytest.mark.drill
PLAIN = ("openssh-server", "sudo", "iproute2", "ca-certificates", "debian-archive-keyring", "systemd-resolved")
"""What Debian's cloud images have beside what starts them."""


def plain(folder: Path) -> Recipe:
    """Return the recipe of a disk with nothing of ours but what starts it."""
    ours = load()
    files = folder / "files"
    for source in ours.files.rglob("*"):
        name = str(source.relative_to(ours.files))
        if source.is_file() and name.startswith(ours.boot_files):
            (files / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, files / name)
    modes = {name: mode for name, mode in ours.modes.items() if name.startswith(ours.boot_files)}
    enable = ("systemd-networkd.service", "ssh.service")
    return replace(
        ours, files=files, packages=PLAIN, programs={}, accounts=(), folders={}, modes=modes, enable=enable, mask=()
    )


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Boot a plain Debian disk that reaches its mirror."""
    folder = tmp_path_factory.mktemp("plain")
    recipe = plain(folder)
    tar, work = folder / "root.tar", folder / "root"
    root.bootstrap(tar, recipe, silent)
    debian.unpack(tar, work)
    root.fill(work, recipe, None, silent)
    loader = grub.pieces(Store(), recipe.suite, silent)
    sizes = disk.Sizes(containerd=4096)
    disk.assemble(work, folder / "plain.qcow2", silent, key="plain", loader=loader, sizes=sizes)
    with boot.boot(folder / "plain.qcow2", folder / "guest", silent, open_network=True) as guest:
        connection = Connection(
            address="127.0.0.1", port=guest.port, host_keys=(guest.host.public,), identity=str(guest.key)
        )
        with wait(connection, Context(), timeout=900) as opened:
            opened.run(["cloud-init", "status", "--wait"], timeout=600)
            # The firewall comes while this connection stands: the machine says nothing more before it hears from us.
            transport = opened.client.get_transport()
            assert transport is not None
            transport.set_keepalive(10)
            yield opened


def inputs(shell: Shell, identity: str, archive: Path) -> dict[str, Any]:
    there = shell.connection
    connection = {
        "address": there.address, "port": there.port, "hostKeys": list(there.host_keys), "identity": there.identity
    }  # fmt: skip
    return {"machine": "plain", "connection": connection, "identity": identity, "archive": str(archive)}


def test_a_plain_debian_machine_becomes_one_of_ours(shell: Shell) -> None:
    ours, built = load(), image.software(Store(), silent)
    everybody = Doors(operators=ANYWHERE, edge=ANYWHERE, nodes=(), mirrors=ANYWHERE, resolver=ANYWHERE)
    rules = ruleset(decide(everybody), Role.CONTROL, Site(addresses=(), dhcp=True))
    machine = cloudinit.Boot(
        name="plain", mac="52:54:00:00:00:01", addresses=(), keys=("ssh-ed25519 AAAA a",), firewall=rules, nodes={},
        host_key=cloudinit.HostKey(public="a", private="b"), packages=ours.packages, upgrade=False,
    )  # fmt: skip
    script = cloudinit.first_boot(machine)
    unit = (project() / "cloud-init" / "firewall.service").read_bytes()
    shell.put(
        File(path="/etc/vre/firewall.nft", content=rules.encode(), mode="0600"),
        File(path="/etc/systemd/system/vre-firewall.service", content=unit),
        File(path="/usr/local/sbin/vre-first-boot", content=script.encode(), mode="0755"),
    )
    shell.run(["/usr/local/sbin/vre-first-boot"], sudo=True, timeout=1800)
    software, context = Software(), Context()
    _, made = software.create(context, inputs(shell, built.id, built.path))
    found = software.read(context, "plain", made)
    assert found is not None
    images = json.loads(shell.run(["crictl", "images", "--output", "json"], sudo=True))["images"]
    assert {tag for each in images for tag in each["repoTags"]} == {
        reference.partition("@")[0] for reference in built.images.values()
    }
    installed = shell.run(["dpkg-query", "--show", "--showformat", "${Package}\n"]).split()
    assert set(ours.packages) <= set(installed)
    assert shell.run(["kubeadm", "version", "--output", "short"]).startswith("v1.36")
    assert "table inet vre" in shell.run(["nft", "list", "tables"], sudo=True)
    assert shell.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]) == ""
    passing = "--ignore-preflight-errors=NumCPU,Mem,ImagePull"
    shell.run(["kubeadm", "init", "phase", "preflight", passing], sudo=True, timeout=300)


def test_what_is_done_is_not_sent_again(shell: Shell, tmp_path: Path) -> None:
    identity = shell.run(["cat", "/var/lib/vre/software/done"], sudo=True).strip()
    asked = inputs(shell, identity, tmp_path / "none")
    assert Software().create(Context(), asked) == ("plain", asked)
