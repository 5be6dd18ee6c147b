"""The small disk from which a machine reads what it is to become: an ISO image known to cloud-init by its label."""

import base64
import io

import pycdlib
from pycdlib.dates import DirectoryRecordDate

from vre.machine.cloudinit import Seed

LABEL = "CIDATA"
BEGINNING = bytes([70, 1, 1, 0, 0, 0, 0])
VOLUME_BEGINNING = b"1970010100000000\0"
SECTOR = 2048
DESCRIPTORS = (16, 17)
"""The sectors of the volume descriptors: plain names, then long ones."""
DATES = (813, 830, 864)
"""Where creation, modification and validity are in each (ECMA-119, 8.4)."""


def iso(seed: Seed) -> bytes:
    """Return the image. The same seed gives the same bytes: another image would be another disk."""
    made = pycdlib.PyCdlib()
    made.new(interchange_level=3, joliet=3, vol_ident=LABEL)
    for number, (name, text) in enumerate(seed.files().items()):
        content = text.encode()
        made.add_fp(io.BytesIO(content), len(content), f"/FILE{number}.;1", joliet_path=f"/{name}")
    for volume in (made.pvd, *made.svds):
        root = volume.root_directory_record()
        for record in (root, *root.children):
            record.date = DirectoryRecordDate()
            record.date.parse(BEGINNING)
    sink = io.BytesIO()
    made.write_fp(sink)
    made.close()
    return _undated(bytearray(sink.getvalue()))


def encoded(seed: Seed) -> str:
    """Return the image as base64, as a volume's `content` wants it."""
    return base64.b64encode(iso(seed)).decode()


def _undated(image: bytearray) -> bytes:
    """Put the beginning of time where pycdlib writes the present, whatever it is told."""
    for sector in DESCRIPTORS:
        for place in DATES:
            begin = sector * SECTOR + place
            image[begin : begin + len(VOLUME_BEGINNING)] = VOLUME_BEGINNING
    return bytes(image)
