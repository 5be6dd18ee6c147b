"""libvirt's XML as we write it: valid by libvirt's own schemas, and read back to what it was made from."""

import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from vre.emulation import LACKING
from vre.provider.handler import UNKNOWN, Props
from vre.provider.libvirt import filter as nwfilter
from vre.provider.libvirt import machine, network, pool, secret, volume
from vre.provider.libvirt.domain import Domain
from vre.provider.libvirt.filter import Filter
from vre.provider.libvirt.network import Network
from vre.provider.libvirt.pool import Pool
from vre.provider.libvirt.secret import Secret
from vre.provider.libvirt.volume import Volume
from vre.provider.libvirt.xml import drifted, node, parse, text

SCHEMAS = Path("/usr/share/libvirt/schemas")
NETWORK: Props = {
    "uri": "auto",
    "name": "vre-local",
    "bridge": "vre12345678",
    "mode": "nat",
    "ipv4": "192.168.77.0/24",
    "ipv6": "fd00:77::/64",
    "domain": "local.internal",
    "hosts": [{"name": "control", "ipv4": "192.168.77.10", "ipv6": "fd00:77::10"}],
}
RULES: list[dict[str, Any]] = [
    {"direction": "in", "action": "accept", "family": "arp", "protocol": "all", "priority": 100},
    {"direction": "in", "action": "accept", "family": "ipv4", "protocol": "icmp", "priority": 200},
    {"direction": "in", "action": "accept", "family": "ipv6", "protocol": "icmpv6", "priority": 200},
    {
        "direction": "in",
        "action": "accept",
        "family": "ipv4",
        "protocol": "tcp",
        "source": "203.0.113.0/24",
        "ports": "22",
        "priority": 300,
        "comment": "operators & <friends>",
    },
    {
        "direction": "out",
        "action": "accept",
        "family": "ipv6",
        "protocol": "udp",
        "destination": "fd00::/8",
        "ports": "8472-8473",
        "priority": 300,
    },
    {
        "direction": "in",
        "action": "accept",
        "family": "ipv4",
        "protocol": "all",
        "source": "192.168.77.0/24",
        "priority": 250,
        "established": True,
    },
    {"direction": "in", "action": "drop", "family": "any", "protocol": "all", "priority": 900},
]
FILTER: Props = {"uri": "auto", "name": "vre-control", "rules": RULES, "antiSpoofing": True}
DOMAIN: Props = {
    "uri": "auto",
    "name": "vre-control",
    "cpus": 2,
    "memory": 3072,
    "accelerator": "tcg",
    "firmware": "efi",
    "disks": [
        {"volume": "/p/system.qcow2", "format": "qcow2", "device": "disk", "target": "vda", "serial": "vre-system"},
        {
            "volume": "/p/data.img",
            "format": "raw",
            "device": "disk",
            "target": "vdb",
            "serial": "vre-data",
            "secret": "d10c8e10-7f71-5982-8e6e-41f443b37ef4",
        },
        {"volume": "/p/seed.iso", "format": "raw", "device": "cdrom", "target": "sda"},
    ],
    "interfaces": [
        {
            "network": "vre-local",
            "mac": "52:54:00:00:00:01",
            "filter": "vre-control",
            "addresses": ["192.168.77.10", "fd00:77::10"],
        }
    ],
    "console": "/p/console.log",
    "autostart": True,
    "metadata": {"role": "control"},
}
VOLUME: Props = {"uri": "auto", "pool": "p", "name": "data.img", "format": "raw", "capacity": 1 << 30}
LOCKED: Props = {**VOLUME, "encryption": {"secret": "d10c8e10-7f71-5982-8e6e-41f443b37ef4"}}
ON_TOP: Props = {**VOLUME, "format": "qcow2", "backing": {"path": "/p/base.qcow2", "format": "qcow2"}}
DOCUMENTS = [
    ("network", network.document(NETWORK)),
    ("network", network.document({**NETWORK, "mode": "isolated", "ipv6": "", "domain": "", "hosts": []})),
    ("nwfilter", nwfilter.document(FILTER)),
    ("nwfilter", nwfilter.document({**FILTER, "mac": "52:54:00:00:00:01", "rules": []})),
    ("storagepool", pool.document({"name": "vre-local", "path": "/var/lib/libvirt/images/vre"})),
    ("storagevol", volume.document(VOLUME, 1 << 30)),
    ("storagevol", volume.document(LOCKED, 1 << 30)),
    ("storagevol", volume.document(ON_TOP, 1 << 30)),
    ("secret", secret.document("vre-data")),
    ("domain", machine.document(DOMAIN)),
    ("domain", machine.document({**DOMAIN, "accelerator": "kvm", "console": "", "metadata": {}})),
]


@pytest.mark.skipif(not SCHEMAS.is_dir() or not shutil.which("xmllint"), reason="libvirt's schemas are not here")
@pytest.mark.parametrize(("schema", "document"), DOCUMENTS, ids=lambda value: value if isinstance(value, str) else "")
def test_documents_are_valid_by_libvirts_schemas(schema: str, document: Element, tmp_path: Path) -> None:
    file = tmp_path / "document.xml"
    file.write_text(text(document))
    judged = subprocess.run(
        ["xmllint", "--noout", "--relaxng", SCHEMAS / f"{schema}.rng", file], capture_output=True, text=True
    )
    assert judged.returncode == 0, judged.stderr + file.read_text()


def again(document: Element) -> Element:
    return parse(text(document))


def test_network_reads_back() -> None:
    described = network.describe(again(network.document(NETWORK)))
    assert {"uri": "auto", **described} == NETWORK


def test_isolated_network_forwards_nothing() -> None:
    document = network.document({**NETWORK, "mode": "isolated"})
    assert document.find("forward") is None
    assert network.describe(document)["mode"] == "isolated"


def test_network_has_no_dhcp_and_the_first_address_is_the_gateway() -> None:
    document = network.document(NETWORK)
    assert [ip.get("address") for ip in document.iterfind("ip")] == ["192.168.77.1", "fd00:77::1"]
    assert document.find("ip/dhcp") is None


def test_filter_reads_back_with_any_split_into_both_families() -> None:
    described = nwfilter.describe(again(nwfilter.document(FILTER)))
    one_family = [rule for rule in RULES if rule["family"] != "any"]
    both = [{**RULES[-1], "family": family} for family in ("ipv4", "ipv6")]
    assert described["rules"] == sorted(one_family + both, key=lambda rule: sorted(rule.items()))
    assert described["antiSpoofing"]
    assert "mac" not in described


def test_filter_reads_back_its_fixed_address() -> None:
    document = nwfilter.document({**FILTER, "mac": "52:54:00:00:00:01"})
    assert nwfilter.describe(document)["mac"] == "52:54:00:00:00:01"


def test_filter_without_spoofing_rules_has_only_the_rules_asked_for() -> None:
    document = nwfilter.document({**FILTER, "antiSpoofing": False, "rules": RULES[:1]})
    assert len(document.findall("rule")) == 1


def test_neighbours_are_found_whatever_connection_tracking_thinks_of_them() -> None:
    rules = nwfilter.document({**FILTER, "antiSpoofing": False}).findall("rule")
    stateless = {rule[0].tag for rule in rules if rule.get("statematch") == "false"}
    assert stateless == {"icmp", "icmpv6"}


def test_what_has_begun_goes_on_and_nothing_begins_by_that_rule() -> None:
    rules = nwfilter.document({**FILTER, "antiSpoofing": False}).findall("rule")
    [begun] = [rule for rule in rules if rule[0].get("state")]
    assert (begun.get("action"), begun[0].tag, begun[0].get("state")) == ("accept", "all", "ESTABLISHED")
    assert begun.get("statematch") is None


def test_a_slow_machine_gets_a_tick_that_never_stops_and_a_fast_one_does_not() -> None:
    slow, fast = machine.document(DOMAIN), machine.document({**DOMAIN, "accelerator": "kvm"})
    assert "nohz=off" in slow.findtext("sysinfo/oemStrings/entry", "")
    assert fast.find("sysinfo") is None


def test_a_slow_machine_is_told_how_fast_its_counter_runs_instead_of_measuring_it() -> None:
    told = machine.document(DOMAIN, khz=2445422).findtext("sysinfo/oemStrings/entry", "")
    unknown = machine.document(DOMAIN).findtext("sysinfo/oemStrings/entry", "")
    assert "tsc_early_khz=2445422" in told
    assert "clocksource=hpet" in unknown
    assert "clocksource" not in told


def test_frames_from_foreign_addresses_are_dropped_before_anything_is_accepted() -> None:
    rules = nwfilter.document(FILTER).findall("rule")
    first = min(rules, key=lambda rule: int(rule.get("priority", "0")))
    guard = first.find("mac")
    assert (first.get("action"), first.get("direction")) == ("drop", "out")
    assert guard is not None
    assert (guard.get("match"), guard.get("srcmacaddr")) == ("no", "$MAC")


def test_machine_reads_back() -> None:
    described = machine.describe(again(machine.document(DOMAIN)))
    assert {"uri": "auto", "autostart": True, **described} == DOMAIN


def test_a_machine_of_ours_is_known_by_its_metadata() -> None:
    assert machine.is_ours(again(machine.document(DOMAIN)))
    assert not machine.is_ours(node("domain", node("name", "vre-control")))


def test_processor_and_type_follow_the_accelerator() -> None:
    slow, fast = machine.document(DOMAIN), machine.document({**DOMAIN, "accelerator": "kvm"})
    kinds = [(document.get("type"), document.find("cpu").get("mode")) for document in (slow, fast)]  # type: ignore[union-attr]
    assert kinds == [("qemu", "maximum"), ("kvm", "host-passthrough")]
    lacking = [{each.get("name") for each in root.iterfind("cpu/feature")} for root in (slow, fast)]
    assert lacking == [set(LACKING), set()]
    assert fast.find("features/tcg") is None


def test_an_interface_without_addresses_tells_its_filter_nobodys() -> None:
    told = [(each.get("name"), each.get("value")) for each in nwfilter.parameters([])]
    assert told == [("IP", "0.0.0.0"), ("IPV6", "::")]


def test_names_with_markup_stay_text() -> None:
    document = again(nwfilter.document(FILTER))
    comments = [each.get("comment") for each in document.iter("tcp")]
    assert comments == ["operators & <friends>"]


def test_drift_is_what_the_live_document_contradicts() -> None:
    live = again(network.document({**NETWORK, "bridge": "other"}))
    live.append(node("mac", address="52:54:00:00:00:99"))
    assert drifted(NETWORK, network.document(NETWORK), live, network.describe) == {**NETWORK, "bridge": "other"}
    assert drifted(NETWORK, network.document(NETWORK), again(network.document(NETWORK)), network.describe) == NETWORK


GOOD = [(Network(), NETWORK), (Filter(), FILTER), (Domain(), DOMAIN), (Volume(), VOLUME), (Volume(), LOCKED)]
WRONG: list[tuple[Any, Props, dict[str, Any], str]] = [
    (Network(), NETWORK, {"name": "a b"}, "name"),
    (Network(), NETWORK, {"bridge": "sixteen-letters-"}, "bridge"),
    (Network(), NETWORK, {"mode": "bridge"}, "mode"),
    (Network(), NETWORK, {"ipv4": "192.168.77.1/24"}, "ipv4"),
    (Network(), NETWORK, {"ipv4": "fd00::/64"}, "ipv4"),
    (Network(), NETWORK, {"ipv6": "fd00::/127"}, "ipv6"),
    (Network(), NETWORK, {"hosts": [{"name": "x", "ipv4": "10.0.0.1"}]}, "hosts[0].ipv4"),
    (Filter(), FILTER, {"rules": [{**RULES[3], "direction": "inout"}]}, "rules[0].direction"),
    (Filter(), FILTER, {"rules": [{**RULES[3], "family": "ipv6"}]}, "rules[0].source"),
    (Filter(), FILTER, {"rules": [{**RULES[3], "ports": "80-22"}]}, "rules[0].ports"),
    (Filter(), FILTER, {"rules": [{**RULES[3], "ports": "0"}]}, "rules[0].ports"),
    (Filter(), FILTER, {"rules": [{**RULES[1], "ports": "22"}]}, "rules[0].ports"),
    (Filter(), FILTER, {"rules": [{**RULES[1], "family": "ipv6"}]}, "rules[0].protocol"),
    (Filter(), FILTER, {"rules": [{**RULES[1], "priority": 1001}]}, "rules[0].priority"),
    (Filter(), FILTER, {"rules": [{**RULES[3], "source": "everywhere"}]}, "rules[0].source"),
    (Domain(), DOMAIN, {"cpus": 0}, "cpus"),
    (Domain(), DOMAIN, {"memory": "3 GiB"}, "memory"),
    (Domain(), DOMAIN, {"accelerator": "xen"}, "accelerator"),
    (Domain(), DOMAIN, {"disks": [{"volume": "/x", "format": "raw", "device": "disk"}]}, "disks[0].target"),
    (Volume(), VOLUME, {"format": "vmdk"}, "format"),
    (Volume(), VOLUME, {"capacity": None}, "capacity"),
    (Volume(), VOLUME, {"content": "!", "capacity": 5}, "content"),
    (Volume(), LOCKED, {"content": "eA=="}, "encryption"),
    (Volume(), ON_TOP, {"content": "eA=="}, "backing"),
    (Pool(), {"name": "p", "path": "/x"}, {"path": "relative"}, "path"),
    (Secret(), {"name": "s"}, {"name": ""}, "name"),
]


@pytest.mark.parametrize(("handler", "inputs"), GOOD)
def test_good_inputs_pass(handler: Any, inputs: Props) -> None:
    assert handler.check(inputs) == []


@pytest.mark.parametrize(("handler", "inputs", "change", "key"), WRONG)
def test_bad_inputs_are_refused_by_key(handler: Any, inputs: Props, change: Props, key: str) -> None:
    assert [finding.key for finding in handler.check({**inputs, **change})] == [key]


@pytest.mark.parametrize(("handler", "inputs"), GOOD)
def test_unknown_inputs_pass(handler: Any, inputs: Props) -> None:
    assert handler.check(dict.fromkeys(inputs, UNKNOWN)) == []
