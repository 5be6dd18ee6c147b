"""Measure the base image's build, size and start against Debian's own means: part of `make bench`.

Ratios within one run, since machines differ. Writes docs/benchmarks-image.md, from what was measured and nothing else.
"""

import dataclasses
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import RUNS
from vre import image, paths
from vre.artifacts import debian
from vre.artifacts.store import Store, spread
from vre.image import boot, disk, recipe, root
from vre.image.recipe import Recipe
from vre.progress import Report, elapsed, silent, step
from vre.run import run

BUILD_LIMIT, REBUILD_LIMIT, SIZE_LIMIT = 1.3, 20.0, 900
GENERIC = ("openssh-server", "sudo", "iproute2", "systemd-resolved", "systemd-timesyncd", "apparmor", "ca-certificates")
"""What Debian's generic cloud image has beside kernel, loaders and cloud-init that plays a part until sshd is ready."""
GENERIC_FILES = ("efi/", "etc/fstab", "etc/initramfs-tools/", "etc/kernel/", "etc/repart.d/")
WRITE = "partitions"
"""What `disk.assemble` reports first: from then on the disk is written."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds and bytes, all from one run on one machine."""

    build: float
    write: float
    bare: float
    rebuild: float
    ready: float
    generic_ready: float
    size: int
    generic_size: int

    @property
    def build_ratio(self) -> float:
        """How long a build takes, compared with bare packages and the disk's write."""
        return self.build / (self.bare + self.write)

    @property
    def fits(self) -> bool:
        """Whether every limit holds."""
        limits = (self.build_ratio <= BUILD_LIMIT, self.rebuild <= REBUILD_LIMIT, self.size <= SIZE_LIMIT * disk.MIB)
        return all(limits)


class Stages:
    """A report that keeps when each thing was begun."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.begun: dict[str, float] = {}

    def __call__(self, message: str) -> None:
        """Keep the time of a message and hand it on."""
        self.begun.setdefault(message, time.monotonic())
        self.report(message)


def build(folder: Path, wanted: Recipe, parts: image.Parts, report: Report) -> tuple[float, float]:
    """Build the image, packages and all; programs and container images are there. Return all of it, the disk's write.

    `folder` is empty. Debian's part and the image are made apart, as they are in the store.
    """
    stages = Stages(report)
    spread(folder)
    debian_part, whole = (Path(tempfile.mkdtemp(dir=folder)) for _ in range(2))
    begun = time.monotonic()
    archive = debian_part / "root.tar"
    root.bootstrap(archive, wanted, stages)
    image.assemble(whole, wanted, dataclasses.replace(parts, debian=archive), "bench", stages)
    ended = time.monotonic()
    shutil.rmtree(folder)
    return ended - begun, ended - stages.begun[WRITE]


def bare(target: Path, wanted: Recipe) -> float:
    """Return the time of a plain mmdebstrap of the same packages, into a tar file."""
    included = ",".join((*wanted.boot, *wanted.packages))
    words = ["--mode=root", "--variant=minbase", '--aptopt=APT::Install-Recommends "false"', "--include", included]
    spread(target.parent)  # what ours gains by that is no lead over mmdebstrap
    place = tempfile.mkdtemp(dir=target.parent)
    begun = time.monotonic()
    run(["mmdebstrap", *words, wanted.suite, target, *debian.sources(wanted.suite)], env={"TMPDIR": place})
    target.unlink()
    return time.monotonic() - begun


def rebuild() -> float:
    """Return the time of a build with nothing changed."""
    begun = time.monotonic()
    words = [str(Path(sys.prefix, "bin", "vre")), "setup", "image"]
    subprocess.run(words, cwd=paths.project(), check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return time.monotonic() - begun


def generic(folder: Path, wanted: Recipe, loader: Path, report: Report) -> Path:
    """Return a disk like Debian's generic cloud image, made by the means of ours: same kernel, loaders, cloud-init.

    cloud-init, sshd and systemd are set up as Debian's packages do it.
    """
    files = folder / "files"
    modes = {name: mode for name, mode in wanted.modes.items() if name.startswith(GENERIC_FILES)}
    for source in recipe.laid(wanted):
        name = str(source.relative_to(wanted.files))
        if name.startswith(GENERIC_FILES):
            (files / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, files / name)
    plain = Recipe(
        suite=wanted.suite,
        packages=GENERIC,
        boot_files=wanted.boot_files,
        boot=wanted.boot,
        files=files,
        modes=modes,
        enable=("systemd-networkd.service", "ssh.service"),
        mask=("apt-daily.timer", "apt-daily-upgrade.timer"),  # there is no network in the measurement
    )
    archive, work, target = folder / "generic.tar", folder / "generic", folder / "generic.qcow2"
    root.bootstrap(archive, plain, report)
    debian.unpack(archive, work)
    root.fill(work, plain, None, report)
    disk.assemble(work, target, report, key="generic", loader=loader)
    return target


def ready(file: Path, folder: Path) -> float:
    """Return the time from power-on until somebody was let in by ssh."""
    try:
        with boot.boot(file, folder, silent) as guest, guest.connect():
            return time.monotonic() - guest.begun
    finally:
        shutil.rmtree(folder)


def measure() -> Measured:
    """Measure everything, one after the other. Where the cache is there must be 10 GiB of room."""
    wanted, store = recipe.load(), Store()
    with tempfile.TemporaryDirectory(prefix="vre-bench-", dir=paths.cache()) as name:
        folder = Path(name)
        with step("the image") as report:
            ours = image.build(store, report)
            parts = image.gather(store, report, wanted)
        with step("a build with nothing changed"):
            again = statistics.median(rebuild() for _ in range(RUNS))
        with step("packages alone"):
            alone = bare(folder / "bare.tar", wanted)
        with step("a build") as report:
            (folder / "build").mkdir()
            whole, write = build(folder / "build", wanted, parts, report)
        with step("Debian's generic image") as report:
            plain = generic(folder, wanted, parts.loader, report)
        with step("starts") as report:
            ours_ready, plain_ready = starts([ours.path, plain], folder / "guest", report)
        size, plain_size = ours.path.stat().st_size, plain.stat().st_size
    return Measured(
        build=whole,
        write=write,
        bare=alone,
        rebuild=again,
        ready=ours_ready,
        generic_ready=plain_ready,
        size=size,
        generic_size=plain_size,
    )


def starts(files: Sequence[Path], folder: Path, report: Report) -> list[float]:
    """Return each disk's median time until sshd is ready; they take turns, so that what slows the machine slows all."""
    found: dict[Path, list[float]] = {file: [] for file in files}
    for turn in range(RUNS):
        for file in files:
            report(f"{file.name}, {turn + 1} of {RUNS}")
            found[file].append(ready(file, folder))
    return [statistics.median(each) for each in found.values()]


def mebibytes(size: int) -> str:
    """Return a size in bytes for people. Pure."""
    return f"{size / disk.MIB:.0f} MiB"


def page(found: Measured, *, when: str) -> str:
    """Return docs/benchmarks-image.md. Pure."""
    return f"""# Benchmarks of the base image

Written by `make bench` on {when}. Ratios are within this one run; times on another machine are others. Programs and
container images were there. Times until sshd is ready are medians of {RUNS}, all of it emulated.

| what | measured | at most |
|---|---|---|
| build: Debian's packages, our files, container images, disk | {elapsed(found.build)} | |
| of that: the disk's write | {elapsed(found.write)} | |
| bare mmdebstrap of the same packages | {elapsed(found.bare)} | |
| **build, compared with bare packages plus the disk's write** | **{found.build_ratio:.2f}** | {BUILD_LIMIT} |
| **build with nothing changed** (median of {RUNS}) | **{found.rebuild:.1f} s** | {REBUILD_LIMIT:.0f} s |

| what | this image | Debian's generic image |
|---|---|---|
| power-on until sshd lets somebody in | {found.ready:.1f} s | {found.generic_ready:.1f} s |
| size, compressed (at most {SIZE_LIMIT} MiB) | **{mebibytes(found.size)}** | {mebibytes(found.generic_size)} |

"Debian's generic image" is made by the same means, with the same kernel, loaders and partitions, cloud-init as Debian's
package sets it up, and {", ".join(GENERIC)}.
This image holds all of Kubernetes and every container image besides.
"""


def main(measured: Callable[[], Measured] = measure) -> int:
    """Measure, write the page, and say by the exit code whether the limits hold."""
    found = measured()
    target = paths.project() / "docs" / "benchmarks-image.md"
    target.write_text(page(found, when=datetime.now(UTC).strftime("%Y-%m-%d")))
    sys.stdout.write(target.read_text())
    return int(not found.fits)


if __name__ == "__main__":
    sys.exit(main())
