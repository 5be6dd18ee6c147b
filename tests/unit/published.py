"""What clouds publish of their sizes and regions, as Boavizta's package keeps it; AWS's own packages have AWS's.

The package is one wheel (requirements/cloud-lists.txt), unpacked in the cache and read as files: none of it runs.
"""

import csv
import hashlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import botocore.session
from filelock import FileLock
from moto.utilities.utils import load_resource

from vre import paths
from vre.run import run

LOCK = "requirements/cloud-lists.txt"
DATA = Path("boaviztapi/data/archetypes/cloud")
PREFIX = "standard_"
"""What the names of Azure's sizes begin with; the list leaves it out of most."""
RESTRICTED = (
    "australiacentral2", "brazilsoutheast", "francesouth", "germanynorth", "norwaywest", "southafricawest",
    "switzerlandwest", "uaecentral",
)  # fmt: skip
"""Azure's regions that a subscription gets for disaster recovery only, when it asks
(https://learn.microsoft.com/azure/reliability/regions-list)."""
UNLISTED = tuple(f"Standard_D{cpus}ls_v5" for cpus in (2, 4, 8, 16, 32))
"""Sizes of Azure's that the list leaves out; each is its twin without the `l`, for low, with half of the memory
(https://learn.microsoft.com/azure/virtual-machines/sizes/general-purpose/dlsv5-series)."""
Sizes = Mapping[str, tuple[int, float]]


class Known(NamedTuple):
    """What a cloud has: processors and GiB of its sizes, and the regions that anybody may use."""

    sizes: Sizes
    regions: frozenset[str]


@cache
def amazon() -> Known:
    """Return what the packages of AWS have: botocore its regions, moto its sizes."""
    types = load_resource("ec2/resources/instance_types.json")
    sizes = {
        name: (each["VCpuInfo"]["DefaultVCpus"], each["MemoryInfo"]["SizeInMiB"] / 1024) for name, each in types.items()
    }
    return Known(sizes, frozenset(botocore.session.get_session().get_available_regions("ec2")))


@cache
def google() -> Known:
    """Return what the list has of Google Cloud."""
    return Known({each["id"]: _holds(each) for each in _rows("gcp.csv")}, _regions("gcp"))


@cache
def microsoft() -> Known:
    """Return what the list has of Azure, its sizes in small letters: Azure itself does not tell them apart."""
    sizes = {PREFIX + each["id"].lower().removeprefix(PREFIX): _holds(each) for each in _rows("azure.csv")}
    return Known(sizes, _regions("azure") - set(RESTRICTED))


def _holds(row: Mapping[str, str]) -> tuple[int, float]:
    return int(float(row["vcpu"])), float(row["memory"])


def _regions(cloud: str) -> frozenset[str]:
    return frozenset(each["region"] for each in _rows("regions.csv") if each["provider"] == cloud)


def _rows(name: str) -> Iterator[dict[str, str]]:
    yield from csv.DictReader((_package() / DATA / name).read_text().splitlines())


@cache
def _package() -> Path:
    """Return where the package is, unpacked once for what the lock says."""
    lock = paths.project() / LOCK
    folder = paths.cache() / "cloud-lists" / hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            uv = Path(sys.prefix, "bin", "uv")
            run([uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", sys.executable,
                 "--target", folder, "--requirement", lock])  # fmt: skip
            (folder / "whole").touch()
    return folder
