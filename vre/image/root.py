"""The base image's root file system: Debian's packages, our files and programs, the kernel's boot entries."""

import os
import shutil
from pathlib import Path

from vre.artifacts import debian
from vre.artifacts.sandbox import inside
from vre.errors import VreError
from vre.image.recipe import Recipe, laid
from vre.progress import Report

BOOT = "efi"  # where the ESP is mounted; its files are moved out of the root by vre/image/disk.py
LENT = "/run/packages"
LOADER = "usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed"
SHIM_HOOK = "/var/lib/dpkg/info/systemd-boot.postinst"
"""Debian's own: puts the signed shim where firmware looks for it, now and whenever a package brings a newer one."""
# The folder stands for the ESP, which must be a mount point: there is no such partition yet.
ESP = {
    "SYSTEMD_RELAX_ESP_CHECKS": "1",
    "SYSTEMD_RELAX_XBOOTLDR_CHECKS": "1",
    "SYSTEMD_ESP_PATH": f"/{BOOT}",
    **debian.FIXED_TIME,
    "BOOT_MNT": f"/{BOOT}",
}
STARTED = ("EFI/BOOT/BOOTX64.efi", "EFI/debian/shimx64.efi", "EFI/systemd/systemd-bootx64.efi", "grub/grub.cfg")
MEASURE = "usr/lib/vre/integrity.py"
# What must not be the same on two machines, or says where the image was built.
PERSONAL = ("etc/ssh/ssh_host_*", "var/lib/systemd/random-seed", "var/log/*.log", "var/log/apt/*")


def bootstrap(target: Path, recipe: Recipe, report: Report) -> None:
    """Make the Debian part as a tar file: the slow half, which only the package list changes."""
    debian.bootstrap(
        target, suite=recipe.suite, packages=(*recipe.boot, *recipe.packages), report=report, keep_lists=True
    )


def fill(root: Path, recipe: Recipe, packages: Path | None, report: Report) -> None:
    """Lay our files and packages into an unpacked root, make accounts and folders, and write the boot entries."""
    report("our files and programs")
    lay(root, recipe)
    if packages:
        install(root, packages)
    for account in recipe.accounts:
        inside(
            root,
            ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", account],
            env=debian.FIXED_TIME,
        )
    for name, folder in recipe.folders.items():
        _folder(root, name, folder.mode, folder.owner)
    for command in overrides(recipe):
        inside(root, command)
    for task, units in (("enable", recipe.enable), ("mask", recipe.mask)):
        if units:
            inside(root, ["systemctl", task, *units])
    for generator in recipe.generators:
        _off(root / "etc/systemd/system-generators" / generator)
    debian.compile_python(root, ["/usr/lib/python3", "/usr/lib/python3.*"])
    report("initrd and boot entries")
    boot_entries(root)
    forget(root)
    if (root / MEASURE).exists():
        report("measuring programs and settings")
        inside(root, ["python3", "-c", f"import runpy; runpy.run_path('/{MEASURE}')['take']()"])
    settle(root)
    inside(root, ["/usr/lib/systemd/systemd-update-done"])  # or ldconfig, sysusers and more run at the first start


def lay(root: Path, recipe: Recipe) -> None:
    """Copy what is in no package as it is, owned by root, with the modes that the recipe names."""
    for source in laid(recipe):
        name = str(source.relative_to(recipe.files))
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)
        target.chmod(recipe.mode(name))


def install(root: Path, packages: Path) -> None:
    """Install every package of a folder: from then on dpkg knows them, and apt upgrades them like all others."""
    names = [f"{LENT}/{file.name}" for file in sorted(packages.glob("*.deb"))]
    inside(root, ["dpkg", "--install", *names], lend={LENT: packages}, env={"DEBIAN_FRONTEND": "noninteractive"})


def overrides(recipe: Recipe) -> list[list[str]]:
    """Return the commands that give Debian's own files other modes, kept by dpkg over every upgrade. Pure."""
    words = ["dpkg-statoverride", "--update", "--force-statoverride-add", "--add", "root", "root"]
    return [[*words, f"{mode:04o}", f"/{name}"] for name, mode in recipe.overrides.items()]


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
    inside(root, ["update-initramfs", "-c", "-k", version], env=debian.FIXED_TIME)
    mounted = {f"/{BOOT}": root / BOOT}
    command = ["kernel-install", f"--esp-path=/{BOOT}", f"--boot-path=/{BOOT}", "--make-entry-directory=yes", "add"]
    inside(root, [*command, version, f"/boot/vmlinuz-{version}"], share=mounted, env=ESP)
    target = root / BOOT / "EFI/systemd/systemd-bootx64.efi"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / LOADER, target)
    inside(root, [SHIM_HOOK, "triggered", "/usr/lib/shim"], share=mounted, env=ESP)
    missing = [name for name in STARTED if not (root / BOOT / name).is_file()]
    if missing:
        raise VreError(f"the ESP lacks {', '.join(missing)}", hint="what do systemd-boot's and shim's packages do now?")


def settle(root: Path) -> None:
    """Give every file that this build wrote the same time: no file is newer than Debian's packages may be."""
    for path in [*root.rglob("*"), root]:
        if path.lstat().st_mtime > debian.EPOCH:
            os.utime(path, (debian.EPOCH, debian.EPOCH), follow_symlinks=False)


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
