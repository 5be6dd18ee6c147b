"""What a change or an end takes away that nothing brings back. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from vre.events import title

RENTED = frozenset({
    "aws:ec2/instance:Instance",
    "gcp:compute/instance:Instance",
    "azure-native:compute:VirtualMachine",
    "openstack:compute/instance:Instance",
})  # fmt: skip
MACHINES = RENTED | {"vre:libvirt:Domain"}
DISKS = frozenset({
    "vre:libvirt:Volume",
    "aws:ebs/volume:Volume",
    "gcp:compute/disk:Disk",
    "azure-native:compute:Disk",
    "openstack:blockstorage/volume:Volume",
})  # fmt: skip
SERVICES = frozenset({"vre:cluster:Objects"})
HOLD = {
    **dict.fromkeys(DISKS, "with everything on it"),
    # The disk that a rented machine starts from goes with it; on libvirt it is a volume of its own.
    **dict.fromkeys(RENTED, "with the disk that it starts from"),
    **dict.fromkeys(SERVICES, "with what its users saved"),
}
GOING = {"delete": "deleted", "replace": "made anew"}
"""The engine's steps in which what was there goes, and what they are called here."""


def kind(urn: str) -> str:
    """Return the type of a resource."""
    return urn.split("::")[2].rsplit("$", 1)[-1]


def held(urns: Iterable[str]) -> bool:
    """Say whether there is anything among resources that could be lost."""
    return any(_holds(urn) for urn in urns)


def of_change(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what a change would take away, one line for each, by the events of its preview."""
    found = {}
    for event in events:
        step = event.get("resourcePreEvent", {}).get("metadata", {})
        urn, going = str(step.get("urn", "")), GOING.get(str(step.get("op")))
        if urn and going and _holds(urn):
            found[urn] = f"{title(urn)}: {going}, {HOLD[kind(urn)]}"
    return sorted(found.values())


def of_end(stack: str, urns: Iterable[str]) -> str:
    """Return what destroying a stack takes away."""
    every = list(urns)
    machines = [title(urn).split()[-1] for urn in every if kind(urn) in MACHINES]
    disks = [urn for urn in every if kind(urn) in DISKS]
    told = f"Stack {stack} will be destroyed: {len(every)} resources"
    told += f", machines {', '.join(machines)}" if machines else ""
    told += f", {len(disks)} disks with all notebooks and data on them" if disks else ""
    return f"{told}.\nThe key of the data disks is destroyed with them: nothing brings the data back.\n"


def _holds(urn: str) -> bool:
    # What a machine is told at its first start is a disk as well, on libvirt, and holds nothing of anybody's.
    return kind(urn) in HOLD and not (kind(urn) in DISKS and urn.endswith("-seed"))
