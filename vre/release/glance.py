"""Releases into the image service of an OpenStack: checked before, read back after, found again by what they are.

https://docs.openstack.org/api-ref/image/v2/
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vre.errors import VreError
from vre.image import formats
from vre.progress import Report
from vre.release.verify import Release, Wanted, verify

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

SCHEME = "openstack://"
TAKES = ("qcow2", "raw")
"""Which of a release's formats are uploaded, the better one first."""
RELEASE = "vre_release"
"""The property that says which release an image is."""
ABOUT = {"architecture": "x86_64", "os_type": "linux", "os_distro": "debian", "os_version": "13"}
LEAST = 8  # GiB of a disk that the image fits on
HINT = "log in with OS_CLOUD and clouds.yaml (docs/clouds/openstack.md); a project may need the right to upload"


def publish(release: Path, address: str, keys: "Sequence[SSlibKey]", report: Report) -> str:
    """Upload a release and return the id that the cloud gives it; what is there already is not uploaded again.

    `address` is `openstack://`, then the cloud's name in clouds.yaml, else the environment says which, then perhaps `/`
    and a region. Raises Refused with what is wrong with the release, VreError with what the cloud says.
    """
    report("checking signatures and digests")
    found = verify(release, Wanted(keys=keys, known=tuple(formats.FORMATS)))
    kind = next((each for each in TAKES if found.manifest.disk(each)), TAKES[0])
    disk = found.disk(kind)
    from keystoneauth1.exceptions import ClientException
    from openstack.exceptions import SDKException

    try:
        return _bring(_connection(address).image, found, disk, kind, report)
    except (SDKException, ClientException) as error:
        raise VreError(f"{address}: {' '.join(str(error).split())}", hint=HINT) from None


def _connection(address: str) -> Any:
    import openstack

    cloud, _, region = address.removeprefix(SCHEME).partition("/")
    return openstack.connect(cloud=cloud or None, region_name=region or None, app_name="vre")


def _bring(service: Any, release: Release, disk: Path, kind: str, report: Report) -> str:
    for there in list(_there(service, release)):
        report("reading back what is there")
        if there.status == "active" and _same(there, disk):
            return str(there.id)
        service.delete_image(there.id)  # of an upload that was broken off
    report(f"uploading {disk.stat().st_size // 1024**2} MiB")
    with disk.open("rb") as stream:
        made = service.create_image(
            name(release.manifest.id), data=stream, disk_format=kind, container_format="bare", wait=True,
            allow_duplicates=True, min_disk=LEAST, visibility="private", **ABOUT, **{RELEASE: release.manifest.id},
        )  # fmt: skip
    report("reading back what was stored")
    stored = service.get_image(made.id)
    if stored.status != "active" or not _same(stored, disk):
        service.delete_image(made.id)
        raise VreError(
            f"the cloud did not store what was sent: image {made.id} is {stored.status}, with another digest",
            hint="where the cloud turns images into raw ones, send that: vre image build --format raw",
        )
    return str(made.id)


def _there(service: Any, release: Release) -> Iterator[Any]:
    for each in service.images(name=name(release.manifest.id)):
        if (each.properties or {}).get(RELEASE) == release.manifest.id:
            yield each


def name(release: str) -> str:
    """Return what a release is called in a cloud, as a stack file may name it. Pure."""
    return f"vre-{release}"


def _same(image: Any, disk: Path) -> bool:
    """Say whether a cloud holds just these bytes, by the digest that it made of them itself."""
    if image.hash_algo not in hashlib.algorithms_guaranteed or not image.hash_value:
        return False
    with disk.open("rb") as stream:
        return hashlib.file_digest(stream, image.hash_algo).hexdigest() == str(image.hash_value)
