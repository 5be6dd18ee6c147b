"""The XML of a virtual machine: headless, UEFI, virtio throughout, a console that is a file."""

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from vre.emulation import LACKING, steady
from vre.provider.handler import Props
from vre.provider.libvirt.filter import parameters
from vre.provider.libvirt.xml import attribute, node

NAMESPACE = "urn:vre:machine"
OURS = f"{{{NAMESPACE}}}machine"
ITEM = f"{{{NAMESPACE}}}item"
TYPES = {"kvm": "kvm", "tcg": "qemu"}
TRANSLATIONS = 512  # MiB for code that TCG has translated: QEMU's own 1024 would be a third of a small guest
LONGEST_SERIAL = 20  # bytes, virtio's limit
BUSES = {"v": "virtio", "s": "scsi"}  # by the first letter of the target: vda, sda


def document(inputs: Mapping[str, Any], *, uuid: str = "", khz: int = 0) -> Element:
    """Return the XML of a machine; `accelerator` must be chosen. libvirt gives a new machine its UUID.

    `khz` is the frequency of the hypervisor's time stamp counter, 0 where it is not known.
    """
    ElementTree.register_namespace("vre", NAMESPACE)
    return node(
        "domain",
        node("name", inputs["name"]),
        node("uuid", uuid) if uuid else None,
        node("metadata", _metadata(inputs.get("metadata") or {})),
        node("memory", str(inputs["memory"]), unit="MiB"),
        node("vcpu", str(inputs["cpus"])),
        *_firmware(inputs["accelerator"], khz),
        _features(inputs["accelerator"]),
        _processor(inputs),
        node("clock", offset="utc"),
        node("on_poweroff", "destroy"),
        node("on_reboot", "restart"),
        node("on_crash", "restart"),
        _devices(inputs),
        type=TYPES[inputs["accelerator"]],
    )


def describe(root: Element) -> Props:
    """Return the inputs that a machine's XML amounts to, but for what the XML does not hold (autostart)."""
    kinds = {value: key for key, value in TYPES.items()}
    return {
        "name": root.findtext("name", ""),
        "cpus": int(root.findtext("vcpu", "0")),
        "memory": _mebibytes(root.findtext("memory", "0"), attribute(root, "memory", "unit", "KiB")),
        "accelerator": kinds.get(root.get("type", ""), root.get("type", "")),
        "firmware": attribute(root, "os", "firmware"),
        "disks": [_disk_of(disk) for disk in root.iterfind("devices/disk")],
        "interfaces": [_interface_of(each) for each in root.iterfind("devices/interface")],
        "console": attribute(root, "devices/serial/source", "path"),
        "metadata": {item.get("name", ""): item.get("value", "") for item in root.iterfind(f"metadata/{OURS}/{ITEM}")},
    }


def is_ours(root: Element) -> bool:
    """Return whether this project made a machine."""
    return root.find(f"metadata/{OURS}") is not None


def _metadata(items: Mapping[str, Any]) -> Element:
    made = Element(OURS)
    for name, value in sorted(items.items()):
        made.append(Element(ITEM, {"name": name, "value": str(value)}))
    return made


def _firmware(accelerator: str, khz: int) -> list[Element]:
    # The image starts with them, too; but machines that stand have a firmware without keys.
    off = ("secure-boot", "enrolled-keys")
    told = accelerator == "tcg"
    os = node(
        "os",
        node("type", "hvm", arch="x86_64", machine="q35"),
        node("firmware", *(node("feature", enabled="no", name=name) for name in off)),
        node("boot", dev="hd"),
        node("smbios", mode="sysinfo") if told else None,
        firmware="efi",
    )
    return [os, node("sysinfo", node("oemStrings", node("entry", steady(khz))), type="smbios")] if told else [os]


def _features(accelerator: str) -> Element:
    cache = node("tcg", node("tb-cache", str(TRANSLATIONS), unit="MiB")) if accelerator == "tcg" else None
    return node("features", node("acpi"), node("apic"), cache)


def _processor(inputs: Mapping[str, Any]) -> Element:
    topology = node("topology", sockets=1, dies=1, cores=inputs["cpus"], threads=1)
    if inputs["accelerator"] == "kvm":
        return node("cpu", topology, mode="host-passthrough", migratable="off")
    lacking = [node("feature", policy="disable", name=name) for name in LACKING]
    return node("cpu", topology, *lacking, mode="maximum")


def _devices(inputs: Mapping[str, Any]) -> Element:
    return node(
        "devices",
        *(_disk(disk) for disk in inputs["disks"]),
        node("controller", type="scsi", index=0, model="virtio-scsi"),
        *(_interface(each) for each in inputs["interfaces"]),
        *_console(inputs["console"]),
        node("controller", type="usb", model="none"),
        node("video", node("model", type="none")),
        node("memballoon", model="virtio", freePageReporting="on"),
        node("rng", node("backend", "/dev/urandom", model="random"), model="virtio"),
        node("panic", model="pvpanic"),
    )


def _disk(disk: Mapping[str, Any]) -> Element:
    secret = disk.get("secret")
    writable = disk["device"] == "disk"
    discard = "unmap" if writable else None
    return node(
        "disk",
        node("driver", name="qemu", type=disk["format"], discard=discard, detect_zeroes=discard),
        node(
            "source",
            node("encryption", node("secret", type="passphrase", uuid=secret), format="luks") if secret else None,
            file=disk["volume"],
        ),
        node("target", dev=disk["target"], bus=_bus(disk["target"])),
        node("serial", disk["serial"][:LONGEST_SERIAL]) if disk.get("serial") else None,
        None if writable else node("readonly"),
        type="file",
        device=disk["device"],
    )


def _disk_of(disk: Element) -> dict[str, str]:
    told = {
        "volume": attribute(disk, "source", "file"),
        "format": attribute(disk, "driver", "type"),
        "device": disk.get("device", "disk"),
        "target": attribute(disk, "target", "dev"),
        "serial": disk.findtext("serial", ""),
        "secret": attribute(disk, "source/encryption/secret", "uuid"),
    }
    return {key: value for key, value in told.items() if value}


def _bus(target: str) -> str:
    return BUSES.get(target[:1], "virtio")


def _interface(interface: Mapping[str, Any]) -> Element:
    guard = interface.get("filter")
    return node(
        "interface",
        node("mac", address=interface["mac"]),
        node("source", network=interface["network"]),
        node("model", type="virtio"),
        node("filterref", *parameters(list(interface.get("addresses") or ())), filter=guard) if guard else None,
        type="network",
    )


def _interface_of(interface: Element) -> dict[str, Any]:
    told: dict[str, Any] = {
        "network": attribute(interface, "source", "network"),
        "mac": attribute(interface, "mac", "address"),
        "filter": attribute(interface, "filterref", "filter"),
        "addresses": sorted(
            each.get("value", "")
            for each in interface.iterfind("filterref/parameter")
            if each.get("value") not in ("0.0.0.0", "::")  # noqa: S104 nobody's address, see filter.parameters
        ),
    }
    return {key: value for key, value in told.items() if value}


def _console(path: str) -> tuple[Element, Element]:
    source = node("source", path=path, append="on") if path else None
    kind = "file" if path else "pty"
    return (
        node("serial", source, node("target", type="isa-serial", port=0), type=kind),
        node("console", source, node("target", type="serial", port=0), type=kind),
    )


def _mebibytes(number: str, unit: str) -> int:
    units = {"b": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
    return int(number) * units[unit] // units["MiB"]
