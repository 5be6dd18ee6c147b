"""The drivers against libvirt's own test driver, which keeps networks, pools and volumes in memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vre.errors import VreError
from vre.provider.handler import Cancelled, Context, Props
from vre.provider.libvirt import accelerator, connection, upload
from vre.provider.libvirt.network import Network
from vre.provider.libvirt.pool import Pool
from vre.provider.libvirt.volume import Volume

libvirt = pytest.importorskip("libvirt")
URI = "test:///default"
CONTEXT = Context()
NETWORK: Props = {
    "uri": URI,
    "name": "vre-unit",
    "bridge": "vreunit",
    "mode": "nat",
    "ipv4": "192.168.177.0/24",
    "ipv6": "",
    "domain": "unit.internal",
    "hosts": [{"name": "control", "ipv4": "192.168.177.10"}],
}


@pytest.fixture
def network() -> Iterator[Props]:
    state = Network().create(CONTEXT, NETWORK)[1]
    yield state
    Network().delete(CONTEXT, "vre-unit", state)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Props]:
    inputs = {"uri": URI, "name": "vre-unit", "path": str(tmp_path / "pool")}
    state = Pool().create(CONTEXT, inputs)[1]
    yield state
    Pool().delete(CONTEXT, "vre-unit", state)


def quiet(handler: Any, resource_id: str, state: Props, inputs: Props) -> bool:
    found = handler.read(CONTEXT, resource_id, state)
    changes = handler.diff({**found.inputs, **found.outputs}, inputs)
    return not changes.update | changes.replace


def test_network_is_made_up_and_unchanged(network: Props) -> None:
    live = connection.connect(URI).networkLookupByName("vre-unit")
    assert live.isActive()
    assert live.autostart()
    assert live.UUIDString() == network["uuid"]
    assert quiet(Network(), "vre-unit", network, NETWORK)


def test_making_a_network_twice_keeps_the_first(network: Props) -> None:
    assert Network().create(CONTEXT, NETWORK) == ("vre-unit", network)


def test_a_network_that_went_down_is_brought_up(network: Props) -> None:
    live = connection.connect(URI).networkLookupByName("vre-unit")
    live.destroy()
    found = Network().read(CONTEXT, "vre-unit", network)
    assert found is not None
    state = {**found.inputs, **found.outputs}
    assert Network().diff(state, NETWORK).update == {"active"}
    Network().update(CONTEXT, "vre-unit", state, NETWORK)
    assert live.isActive()


def test_an_overlapping_network_is_refused_by_name(network: Props) -> None:
    other = {**NETWORK, "name": "vre-other", "bridge": "vreother", "ipv4": "192.168.176.0/23", "hosts": []}
    with pytest.raises(
        VreError, match=r"192\.168\.176\.0/23 is taken by the hypervisor's network 'vre-unit'"
    ) as caught:
        Network().create(CONTEXT, other)
    assert "another range" in caught.value.hint


def test_a_network_of_somebody_else_is_not_touched() -> None:
    theirs = {**NETWORK, "name": "default"}
    for call in (lambda: Network().create(CONTEXT, theirs), lambda: Network().delete(CONTEXT, "default", theirs)):
        with pytest.raises(VreError, match="did not make"):
            call()
    assert connection.connect(URI).networkLookupByName("default").isActive()


def test_a_network_that_is_gone_reads_as_gone_and_deletes_in_peace() -> None:
    assert Network().read(CONTEXT, "vre-nothing", {**NETWORK, "name": "vre-nothing"}) is None
    Network().delete(CONTEXT, "vre-nothing", NETWORK)


def test_pool_is_made_up_and_unchanged(pool: Props) -> None:
    inputs = {key: pool[key] for key in ("uri", "name", "path")}
    assert connection.connect(URI).storagePoolLookupByName("vre-unit").isActive()
    assert quiet(Pool(), "vre-unit", pool, inputs)
    assert Pool().create(CONTEXT, inputs) == ("vre-unit", pool)


@pytest.fixture
def volume(pool: Props) -> Iterator[Props]:
    inputs = {"uri": URI, "pool": "vre-unit", "name": "data.img", "format": "raw", "capacity": 1 << 20}
    state = Volume().create(CONTEXT, inputs)[1]
    yield state
    Volume().delete(CONTEXT, "vre-unit/data.img", state)


def test_volume_has_its_path_and_is_unchanged(volume: Props, pool: Props) -> None:
    inputs = {key: value for key, value in volume.items() if key != "path"}
    assert volume["path"] == f"{pool['path']}/data.img"
    assert quiet(Volume(), "vre-unit/data.img", volume, inputs)


def test_a_volume_that_is_there_is_adopted_only_if_it_is_the_same(volume: Props) -> None:
    inputs = {key: value for key, value in volume.items() if key != "path"}
    assert Volume().create(CONTEXT, inputs)[1] == volume
    with pytest.raises(VreError, match=r"has another volume 'data\.img'"):
        Volume().create(CONTEXT, {**inputs, "format": "qcow2"})


def test_a_pool_with_volumes_is_not_removed(volume: Props, pool: Props) -> None:
    with pytest.raises(VreError, match=r"still holds data\.img"):
        Pool().delete(CONTEXT, "vre-unit", pool)
    assert connection.connect(URI).storagePoolLookupByName("vre-unit").isActive()


def test_shrinking_is_refused_before_anything_happens(volume: Props) -> None:
    inputs = {key: value for key, value in volume.items() if key != "path"}
    with pytest.raises(VreError, match="cannot shrink from 1048576 to 4096 bytes"):
        Volume().diff(volume, {**inputs, "capacity": 4096})


def test_odd_sizes_become_whole_sectors_and_stay_unchanged(pool: Props) -> None:
    inputs = {"uri": URI, "pool": "vre-unit", "name": "odd.img", "format": "raw", "capacity": 100_001}
    resource_id, state = Volume().create(CONTEXT, inputs)
    assert quiet(Volume(), resource_id, state, inputs)
    Volume().delete(CONTEXT, resource_id, state)


def test_an_image_that_is_not_there_is_missed_only_when_it_is_needed(pool: Props) -> None:
    inputs = {"uri": URI, "pool": "vre-unit", "name": "x", "format": "raw", "source": "/not/there"}
    assert Volume().check(inputs) == []
    with pytest.raises(VreError, match="there is no file /not/there to fill it with"):
        Volume().create(CONTEXT, inputs)


def test_a_source_with_an_id_may_move() -> None:
    state = {"pool": "p", "name": "n", "format": "raw", "source": "/a", "sourceId": "1", "path": "/p/n"}
    inputs = {"pool": "p", "name": "n", "format": "raw", "source": "/b", "sourceId": "1"}
    assert Volume().diff(state, inputs).replace == frozenset()
    assert Volume().diff(state, {**inputs, "sourceId": "2"}).replace == {"sourceId", "source"}


def test_a_raw_volume_stays_what_it_is_whatever_libvirt_guesses_from_its_content() -> None:
    inputs = {"pool": "p", "name": "n", "format": "raw", "content": "c2VlZA=="}
    noted = {**inputs, "format": "iso", "path": "/p/n"}
    assert Volume().diff(noted, inputs).replace == frozenset()
    assert Volume().diff(noted, {**inputs, "format": "qcow2"}).replace == {"format"}
    assert Volume().diff({**noted, "format": "qcow2"}, inputs).replace == {"format"}


def test_one_connection_serves_all_and_a_broken_one_is_made_again() -> None:
    first = connection.connect(URI)
    assert connection.connect(URI) is first
    first.close()
    assert connection.connect(URI).getURI() == URI


def test_an_address_where_nothing_answers_says_what_to_do(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    uri = f"qemu+unix:///system?socket={tmp_path}/none"
    with pytest.raises(VreError, match="does not answer") as caught:
        connection.connect(uri)
    assert "make setup" in caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_libvirts_errors_become_words_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(VreError, match="looking: "), connection.told("looking", hint="look elsewhere"):
        connection.connect(URI).networkLookupByName("nothing")
    assert capfd.readouterr() == ("", "")


def test_pieces_of_a_sparse_file_are_its_holes_and_its_data(tmp_path: Path) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as opened:
        opened.seek(1 << 20)
        opened.write(b"x" * 300_000)
        opened.truncate(3 << 20)
    with file.open("rb", buffering=0) as opened:
        found = list(upload.pieces(opened, 3 << 20))
    assert sum(length for _, length in found) == 3 << 20
    assert found[0][0]
    assert sum(length for hole, length in found if hole) > 1 << 20
    assert max(length for hole, length in found if not hole) <= upload.CHUNK


def test_the_size_of_an_image_is_its_virtual_one(tmp_path: Path) -> None:
    header = b"QFI\xfb" + bytes(20) + (5 << 30).to_bytes(8, "big")
    assert upload.virtual_size(header, "qcow2") == 5 << 30
    assert upload.virtual_size(b"12345", "raw") == 5
    with pytest.raises(VreError, match="no qcow2 image"):
        upload.virtual_size(b"12345", "qcow2")


class Stream:
    def __init__(self) -> None:
        self.data, self.ended = b"", ""

    def send(self, data: bytes) -> int:
        self.data += data[:1000]
        return len(data[:1000])

    def sendHole(self, length: int) -> None:
        self.data += bytes(length)

    def finish(self) -> None:
        self.ended = "finished"

    def abort(self) -> None:
        self.ended = "aborted"


class Target:
    def __init__(self) -> None:
        self.stream = Stream()

    def connect(self) -> "Target":
        return self

    def newStream(self) -> Stream:
        return self.stream

    def upload(self, stream: Stream, offset: int, length: int, flags: int) -> None:
        assert (offset, flags) == (0, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)


def test_an_upload_sends_everything_and_tells_how_far_it_is() -> None:
    told: list[str] = []
    target, data = Target(), bytes(range(256)) * 3000
    upload.upload(Context(report=told.append), target, data, "seed")
    assert target.stream.data == data
    assert target.stream.ended == "finished"
    assert told[-1] == "uploading seed: 100 %"
    assert len(told) > 1


def test_a_cancelled_upload_is_aborted() -> None:
    context, target = Context(), Target()
    context.cancelled.set()
    with pytest.raises(Cancelled):
        upload.upload(context, target, b"x" * 10, "seed")
    assert target.stream.ended == "aborted"


def test_the_firmware_ends_its_machine_by_itself() -> None:
    image = accelerator.firmware()
    assert len(image) == accelerator.FIRMWARE_SIZE
    assert image[accelerator.RESET_VECTOR :][:5] == bytes([0xB0, 61, 0xE6, 0xF4, 0xF4])


def test_whether_kvm_works_is_tried_once_a_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    told: list[str] = []
    first = accelerator.kvm_works(told.append)
    assert accelerator.kvm_works(told.append) == first
    assert len(told) <= 1


@pytest.mark.parametrize("cut", ["", "{", "[]", '{"boot": '])
def test_a_note_of_kvm_that_was_cut_off_counts_as_none(
    cut: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    monkeypatch.setattr(accelerator, "DEVICE", tmp_path / "kvm")
    (tmp_path / "kvm.json").write_text(cut)
    assert accelerator.kvm_works() is False
    assert json.loads((tmp_path / "kvm.json").read_text())["works"] is False
