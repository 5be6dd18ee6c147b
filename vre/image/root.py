"""The base image's root file system: Debian's packages, our files and programs, the kernel's boot entries."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from vre.artifacts import debian
from vre.artifacts.sandbox import inside
from vre.errors import VreError
from vre.image.recipe import Recipe
from vre.progress import Report

BOOT = "efi"  # where the ESP is mounted; its files are moved out of the root by vre/image/disk.py
LOADER = "usr/lib/systemd/boot/efi"
# What must not be the same on two machines, or says where the image was built.
PERSONAL = ("etc/ssh/ssh_host_*", "var/lib/systemd/random-seed", "var/log/*.log", "var/log/apt/*")


def bootstrap(target: Path, recipe: Recipe, report: Report) -> None:
    """Make the Debian part as a tar file: the slow half, which only the package list changes."""
    debian.bootstrap(
        target, suite=recipe.suite, packages=(*recipe.boot, *recipe.packages), report=report, keep_lists=True
    )


def fill(root: Path, recipe: Recipe, programs: Mapping[str, Path], report: Report) -> None:
    """Lay files and programs into an unpacked root, make accounts and folders, and write the kernel's boot entries."""
    report("our files and programs")
    lay(root, recipe)
    place(root, recipe, programs)
    for account in recipe.accounts:
        inside(
            root, ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", account]
        )
    for name, folder in recipe.folders.items():
        _folder(root, name, folder.mode, folder.owner)
    inside(root, ["systemctl", "enable", *recipe.enable])
    inside(root, ["systemctl", "mask", *recipe.mask])
    for generator in recipe.generators:
        _off(root / "etc/systemd/system-generators" / generator)
    debian.compile_python(root, ["/usr/lib/python3", "/usr/lib/python3.*"])
    report("initrd and boot entries")
    boot_entries(root)
    forget(root)
    inside(root, ["/usr/lib/systemd/systemd-update-done"])  # or ldconfig, sysusers and more run at the first start


def lay(root: Path, recipe: Recipe) -> None:
    """Copy the files as they are, owned by root, with the modes that the recipe names."""
    for source in sorted(recipe.files.rglob("*")):
        name = str(source.relative_to(recipe.files))
        target = root / name
        if source.is_dir():
            target.mkdir(exist_ok=True)
            continue
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)
        target.chmod(recipe.modes.get(name, 0o755 if os.access(source, os.X_OK) else 0o644))


def place(root: Path, recipe: Recipe, programs: Mapping[str, Path]) -> None:
    """Copy the programs built from source to where the recipe wants each set."""
    for source, wanted in recipe.programs.items():
        folder = root / wanted.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in wanted.only or sorted(file.name for file in programs[source].iterdir()):
            shutil.copyfile(programs[source] / name, folder / name)
            (folder / name).chmod(0o755)


def _off(unit: Path) -> None:
    unit.parent.mkdir(exist_ok=True)
    unit.symlink_to("/dev/null")


def _folder(root: Path, name: str, mode: int, owner: str) -> None:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    if owner != "root":
        inside(root, ["chown", f"{owner}:{owner}", f"/{name}"])
    folder.chmod(mode)


def boot_entries(root: Path) -> None:
    """Make the initrd and the ESP's files with Debian's own hooks, so that an upgraded kernel lands just there."""
    versions = sorted(path.name for path in (root / "usr/lib/modules").iterdir())
    if len(versions) != 1:
        raise VreError(f"the root has {len(versions)} kernels instead of one", hint="one kernel package is wanted")
    version = versions[0]
    inside(root, ["update-initramfs", "-c", "-k", version])
    # The folder stands for the ESP, which must be a mount point: there is no such partition yet.
    environment = {"SYSTEMD_RELAX_ESP_CHECKS": "1", "SYSTEMD_RELAX_XBOOTLDR_CHECKS": "1", "BOOT_MNT": f"/{BOOT}"}
    command = ["kernel-install", f"--esp-path=/{BOOT}", f"--boot-path=/{BOOT}", "--make-entry-directory=yes", "add"]
    mounted = {f"/{BOOT}": root / BOOT}
    inside(root, [*command, version, f"/boot/vmlinuz-{version}"], share=mounted, env=environment)
    loader = next((root / LOADER).glob("systemd-bootx64.efi*"))
    for name in ("EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"):
        target = root / BOOT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(loader, target)


def forget(root: Path) -> None:
    """Take out what would be the same on every machine and must not be: keys, identity, logs."""
    for pattern in PERSONAL:
        for found in root.glob(pattern):
            found.unlink()
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (root / "etc/machine-id").write_text("")  # empty, not missing: set at every first start, and no preset is run
    (root / "etc/hostname").unlink(missing_ok=True)
    listed = root / "etc/apt/sources.list"
    (root / "etc/apt/sources.list.d/debian.sources").write_text(debian.deb822(listed.read_text()))
    listed.unlink()
