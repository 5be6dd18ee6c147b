"""The files of a release."""

from vre.release import manifest

SIGNED = ".dsse"
MANIFEST = f"{manifest.NAME}{SIGNED}"
BILL = f"{manifest.BILL}{SIGNED}"
PROVENANCE = f"provenance.json{SIGNED}"
TEST = f"test.json{SIGNED}"
SPDX = "application/spdx+json"
SAID = (manifest.NAME, MANIFEST, BILL, PROVENANCE)
"""What every release has beside the files that its manifest names; the test's result comes later."""
