"""The libvirt drivers on a real libvirtd of the project's own, in a network namespace. Machines run firmware only."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.patience import until
from vre.errors import VreError
from vre.machine.cloudinit import Seed
from vre.machine.seed import encoded
from vre.provider.handler import Cancelled, Context, Props
from vre.provider.libvirt.connection import connect
from vre.provider.libvirt.domain import Domain
from vre.provider.libvirt.filter import Filter
from vre.provider.libvirt.network import Network
from vre.provider.libvirt.pool import Pool
from vre.provider.libvirt.secret import Secret
from vre.provider.libvirt.volume import Volume
from vre.provider.libvirt.xml import parse, text
from vre.setup import enclosed, hypervisor

NAMESPACE = "vre-libvirt"
MAC = "52:54:00:12:34:56"
MIB = 1024**2
CONTEXT = Context()
pytestmark = pytest.mark.timeout(900)


def inside(*words: str) -> str:
    """Run a command in the tests' network namespace."""
    return subprocess.run(["ip", "netns", "exec", NAMESPACE, *words], check=True, capture_output=True, text=True).stdout


def places() -> dict[str, list[str]]:
    """Return what lies in the folders of a system libvirt."""
    folders = [Path(place) for place in enclosed.PLACES.values()]
    return {str(folder): sorted(map(str, folder.rglob("*"))) for folder in folders if folder.exists()}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where this module's libvirtd lives."""

    state: Path
    uri: str
    before: dict[str, list[str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if os.geteuid():
        pytest.fail("needs root: network namespaces and machines", pytrace=False)
    state, before = tmp_path_factory.mktemp("own"), places()
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    inside("ip", "link", "set", "lo", "up")
    try:
        yield Place(state=state, uri=hypervisor.ensure(state, netns=NAMESPACE), before=before)
    finally:
        hypervisor.stop(state, grace=0)
        subprocess.run(["ip", "netns", "delete", NAMESPACE], check=True)


@dataclass(frozen=True, kw_only=True)
class Made:
    """One resource that is there."""

    handler: Any
    id: str
    inputs: Props
    state: Props

    def quiet(self) -> bool:
        """Tell whether a refresh and a diff find nothing to do."""
        found = self.handler.read(CONTEXT, self.id, self.state)
        changes = self.handler.diff({**found.inputs, **found.outputs}, self.inputs)
        return not changes.update | changes.replace

    def updated(self, **change: Any) -> "Made":
        """Change it in place."""
        inputs = {**self.inputs, **change}
        state = self.handler.update(CONTEXT, self.id, self.state, inputs)
        return Made(handler=self.handler, id=self.id, inputs=inputs, state=state)


def make(handler: Any, **given: Any) -> Made:
    assert handler.check(given) == []
    inputs = handler.normalise(given)
    resource_id, state = handler.create(CONTEXT, inputs)
    return Made(handler=handler, id=resource_id, inputs=inputs, state=state)


@pytest.fixture(scope="module")
def site(place: Place) -> Iterator[dict[str, Made]]:
    """A whole machine with everything around it, made by the handlers and removed by them."""
    made: dict[str, Made] = {}
    try:
        _build(place, made)
        yield made
    finally:
        for each in reversed(made.values()):
            each.handler.delete(CONTEXT, each.id, each.state)
            assert each.handler.read(CONTEXT, each.id, each.state) is None
            each.handler.delete(CONTEXT, each.id, each.state)


def _build(place: Place, made: dict[str, Made]) -> None:
    uri, pool = place.uri, place.state / "pool"
    host = {"name": "control", "ipv4": "192.168.177.10", "ipv6": "fd00:177::10"}
    ranges = {"ipv4": "192.168.177.0/24", "ipv6": "fd00:177::/64"}
    rule = {"direction": "in", "action": "accept", "family": "ipv4", "protocol": "tcp", "ports": "22"}
    made["network"] = make(
        Network(), uri=uri, name="vre-lib", bridge="vrelib0", domain="lib.internal", hosts=[host], **ranges
    )
    neighbours = [
        {"direction": direction, "action": "accept", "family": "ipv6", "protocol": "icmpv6"}
        for direction in ("in", "out")
    ]
    made["filter"] = make(Filter(), uri=uri, name="vre-lib", rules=[rule, *neighbours])
    made["pool"] = make(Pool(), uri=uri, name="vre-lib", path=str(pool))
    made["secret"] = make(Secret(), uri=uri, name="vre-lib")
    common = {"uri": uri, "pool": "vre-lib"}
    image = _image(place.state / "image.qcow2")
    made["system"] = make(
        Volume(), **common, name="system", format="qcow2", capacity=512 * MIB, source=str(image), sourceId="1"
    )
    key = {"secret": made["secret"].state["uuid"]}
    made["data"] = make(Volume(), **common, name="data", format="raw", capacity=64 * MIB, encryption=key)
    seed = encoded(Seed(meta_data="", user_data="#cloud-config\n", network_config=""))
    made["seed"] = make(Volume(), **common, name="seed", format="raw", content=seed)
    made["domain"] = make(
        Domain(),
        uri=uri,
        name="vre-lib",
        cpus=1,
        memory=256,
        console=f"{pool}/console.log",
        disks=[
            _disk(made["system"], target="vda", serial="vre-system"),
            _disk(made["data"], target="vdb", secret=key["secret"]),
            _disk(made["seed"], target="sda", device="cdrom"),
        ],
        interfaces=[
            {"network": "vre-lib", "mac": MAC, "filter": "vre-lib", "addresses": ["192.168.177.10", "fd00:177::10"]}
        ],
    )


def _image(path: Path) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 7 1M 8M", path], check=True, capture_output=True)
    return path


def _disk(volume: Made, **more: str) -> dict[str, str]:
    return {"volume": volume.state["path"], "format": volume.inputs["format"], "device": "disk", **more}


def live(place: Place) -> Any:
    return connect(place.uri).lookupByName("vre-lib")


def test_everything_is_there_and_a_second_look_finds_nothing_to_do(site: dict[str, Made]) -> None:
    assert {name: made.quiet() for name, made in site.items()} == dict.fromkeys(site, True)


def test_making_everything_again_adopts_it(site: dict[str, Made]) -> None:
    for name in ("network", "filter", "pool", "secret", "data", "domain"):
        made = site[name]
        assert made.handler.create(CONTEXT, made.inputs) == (made.id, made.state)


def test_the_machine_runs_its_firmware(site: dict[str, Made]) -> None:
    console = Path(site["domain"].inputs["console"])
    until(lambda: re.search(b"UEFI|BdsDxe", console.read_bytes()), "its firmware says its name", seconds=120)
    assert site["domain"].state["accelerator"] in ("kvm", "tcg")


def test_the_uploaded_disk_holds_the_image_and_is_as_large_as_asked_for(site: dict[str, Made]) -> None:
    path = site["system"].state["path"]
    told = subprocess.run(["qemu-img", "info", "-U", path], check=True, capture_output=True, text=True).stdout
    assert "virtual size: 512 MiB" in told
    read = ["qemu-io", "-U", "-r", "-c", "read -P 7 1M 8M", path]
    assert "Pattern verification failed" not in subprocess.run(read, capture_output=True, text=True).stdout


@pytest.mark.requirement("H-36")
def test_the_data_disk_is_encrypted_and_its_key_is_shown_to_nobody(site: dict[str, Made], place: Place) -> None:
    assert Path(site["data"].state["path"]).read_bytes()[:4] == b"LUKS"
    shown = connect(place.uri).secretLookupByUUIDString(site["secret"].state["uuid"])
    with pytest.raises(Exception, match="private"):
        shown.value()
    assert "value" not in site["secret"].state


def test_a_disk_in_use_grows_while_its_machine_runs(site: dict[str, Made], place: Place) -> None:
    site["data"] = site["data"].updated(capacity=96 * MIB)
    assert live(place).isActive()
    assert live(place).blockInfo("vdb")[0] == 96 * MIB
    assert site["data"].quiet()


def test_a_disk_in_use_is_not_removed(site: dict[str, Made]) -> None:
    with pytest.raises(VreError, match="is a disk of vre-lib"):
        Volume().delete(CONTEXT, site["data"].id, site["data"].state)


def test_names_of_machines_change_while_the_network_runs(site: dict[str, Made]) -> None:
    more = [*site["network"].inputs["hosts"], {"name": "worker", "ipv4": "192.168.177.11", "ipv6": "fd00:177::11"}]
    site["network"] = site["network"].updated(hosts=more)
    assert site["network"].quiet()
    site["network"] = site["network"].updated(hosts=more[1:])
    assert site["network"].quiet()


def test_a_machine_that_was_switched_off_is_started_again(site: dict[str, Made], place: Place) -> None:
    live(place).destroy()
    assert not site["domain"].quiet()
    found = Domain().read(CONTEXT, "vre-lib", site["domain"].state)
    assert found is not None
    Domain().update(CONTEXT, "vre-lib", {**found.inputs, **found.outputs}, site["domain"].inputs)
    assert live(place).isActive()
    assert site["domain"].quiet()


def test_memory_changes_in_place(site: dict[str, Made], place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vre.provider.libvirt.domain.GRACE", 1)
    before = site["domain"].state["uuid"]
    site["domain"] = site["domain"].updated(memory=320)
    assert live(place).maxMemory() == 320 * 1024
    assert site["domain"].state["uuid"] == before == live(place).UUIDString()
    assert site["domain"].quiet()


def test_a_changed_filter_reaches_the_running_machine(site: dict[str, Made]) -> None:
    rules = [*site["filter"].inputs["rules"], {**site["filter"].inputs["rules"][0], "ports": "4711"}]
    site["filter"] = site["filter"].updated(rules=rules)
    assert "dport 4711" in inside("iptables-save")
    assert site["filter"].quiet()


def test_a_rule_against_spoofing_taken_out_by_hand_is_seen_and_put_back(site: dict[str, Made], place: Place) -> None:
    made, connection = site["filter"], connect(place.uri)
    assert made.quiet()
    live = connection.nwfilterLookupByName("vre-lib").XMLDesc(0)
    root = parse(live)
    guard = [rule for rule in root.iterfind("rule") if int(rule.get("priority", "0")) < 0]
    assert len(guard) > 10
    root.remove(guard[2])
    connection.nwfilterDefineXML(text(root))
    assert not made.quiet()
    made.handler.update(CONTEXT, made.id, made.state, made.inputs)
    assert made.quiet()


def test_neighbour_discovery_passes_the_filter_untracked(site: dict[str, Made]) -> None:
    lines = [line for line in inside("ip6tables-save").splitlines() if "-p ipv6-icmp" in line]
    assert {line.split()[1][:2] for line in lines} == {"FI", "FO", "HI"}
    assert all("ctstate" not in line for line in lines)


def test_a_machine_of_somebody_else_is_not_touched(site: dict[str, Made], place: Place) -> None:
    theirs = "<domain type='qemu'><name>theirs</name><memory>65536</memory><os><type>hvm</type></os></domain>"
    other = connect(place.uri).defineXML(theirs)
    try:
        with pytest.raises(VreError, match="did not make"):
            Domain().create(CONTEXT, {**site["domain"].inputs, "name": "theirs"})
        with pytest.raises(VreError, match="did not make"):
            Domain().delete(CONTEXT, "theirs", {"uri": place.uri})
    finally:
        other.undefine()


def test_a_cancelled_upload_leaves_nothing(site: dict[str, Made], place: Place) -> None:
    context = Context()
    context.cancelled.set()
    inputs = {**site["seed"].inputs, "name": "half"}
    with pytest.raises(Cancelled):
        Volume().create(context, inputs)
    assert not (place.state / "pool" / "half").exists()


def test_machines_survive_the_daemon_and_come_back_with_it(site: dict[str, Made], place: Place) -> None:
    pid = int((place.state / "hypervisor" / "libvirtd.pid").read_text())
    machine = live(place).UUIDString()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not hypervisor.status(place.state).running, "the daemon is gone", seconds=60)
    assert hypervisor.ensure(place.state) == place.uri
    assert live(place).isActive()
    hypervisor.stop(place.state, grace=0)
    assert "vrelib0" not in inside("ip", "-br", "link")
    assert hypervisor.ensure(place.state) == place.uri
    until(lambda: live(place).isActive(), "the machine runs again", seconds=60)
    assert live(place).UUIDString() == machine
    # It has looked at its pool anew, and guesses from what it finds there.
    assert "iso" in connect(place.uri).storagePoolLookupByName("vre-lib").storageVolLookupByName("seed").XMLDesc(0)
    assert {name: made.quiet() for name, made in site.items()} == dict.fromkeys(site, True)


def test_nothing_is_left_and_the_systems_own_libvirt_was_never_touched(site: dict[str, Made], place: Place) -> None:
    hypervisor.stop(place.state, grace=0)
    try:
        assert not hypervisor.status(place.state).running
        assert "LIBVIRT" not in inside("iptables-save") + inside("ip6tables-save")
        assert [line.split()[0] for line in inside("ip", "-br", "link").splitlines()] == ["lo"]
        assert subprocess.run(["ip", "netns", "pids", NAMESPACE], capture_output=True).stdout == b""
        assert places() == place.before
        mounted = {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()}
        assert not mounted & set(enclosed.PLACES.values())
    finally:
        hypervisor.ensure(place.state)  # for the site, which still has to go
