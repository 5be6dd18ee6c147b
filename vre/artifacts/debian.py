"""Debian roots with mmdebstrap, from the mirror this machine already uses."""

import os
import platform
import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from vre.artifacts.sandbox import inside
from vre.errors import VreError
from vre.progress import Report
from vre.run import run

EPOCH = 1767225600  # 2026-01-01: no file of ours is newer, so that the same packages give the same bytes
FIXED_TIME = {"SOURCE_DATE_EPOCH": str(EPOCH), "TZ": "UTC"}
"""Tells programs which time to write instead of the clock's (https://reproducible-builds.org/specs/source-date-epoch/)."""
EXCLUDED = (
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/i18n/locales/*",
    "/usr/share/doc/*",
    "/usr/share/lintian/*",
    "/usr/share/bug/*",
)
ARCHIVE = "{archive}"
MOMENT = re.compile(r"/([0-9]{8}T[0-9]{6}Z)(?=[/\s]|$)")
"""How a state of Debian's archive is named in its address."""
LACKING = re.compile(r"E: (?:Unable to locate package |Package '?)([a-z0-9][a-z0-9.+-]*)(?:'? has no installation.*)?$")
"""What apt says of a package that there is none of, or none any more."""
KEPT = ("/usr/share/doc/*/copyright",)  # the licences


def bootstrap(
    target: Path, *, suite: str, packages: Sequence[str], report: Report, keep_lists: bool = False, hook: str = ""
) -> None:
    """Make a Debian root as the tar file `target`. `hook` is a command that mmdebstrap runs with the root as $1.

    With `keep_lists` apt's package lists stay, so that the first update is a quick revalidation.
    Raises VreError when a package is not to be had, with its name where there is none of it.
    """
    report(f"Debian {suite}: {len(packages)} packages and what they need")
    command: list[str | Path] = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--skip=output/dev",
        "--include",
        ",".join(packages),
    ]
    command += ['--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"']
    command += ['--aptopt=Acquire::Retries "5"']
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
    command += [f"--dpkgopt=path-include={pattern}" for pattern in KEPT]
    command += ["--skip=cleanup/apt/lists"] if keep_lists else []
    command += [f"--customize-hook={hook}"] if hook else []
    part = target.with_suffix(".part.tar")
    try:
        run(
            [*command, suite, part, *sources(suite)],
            env={**FIXED_TIME, "TMPDIR": str(target.parent)},
            hint="is the Debian mirror reachable? VRE_DEBIAN_MIRROR names another one",
        )
    except VreError as error:
        raise _without(suite, lacking(error.message)) or error from None
    part.rename(target)


def lacking(said: str) -> list[str]:
    """Return the packages that apt says there are none of. Pure."""
    return sorted({name for line in said.splitlines() for name in LACKING.findall(line)})


def _without(suite: str, names: Sequence[str]) -> VreError | None:
    if not names:
        return None
    listed = "build/image/image.yaml lists them; build/containers/images.yaml those of container images"
    return VreError(f"Debian {suite} has no package {', '.join(names)}", hint=f"is it spelled as Debian does? {listed}")


def sources(suite: str) -> list[str]:
    """Return the apt source lines to build from: VRE_DEBIAN_MIRROR, else this machine's own mirror, else none.

    `{archive}` in the mirror's address stands for `debian` and `debian-security`. None means mmdebstrap's own default,
    which is Debian's. Raises VreError for a moment that is none.
    """
    given = _given()
    if moment():  # an old state of the archive has expired by Debian's word
        return source_lines(suite, *_both(given), option="[check-valid-until=no] ")
    if given:
        return source_lines(suite, *_both(given))
    return _own(suite)


def _own(suite: str) -> list[str]:
    """Return the source lines of this machine's own mirror, none where it is not Debian."""
    if platform.freedesktop_os_release().get("ID") != "debian" or not shutil.which("apt-get"):
        return []
    listed = run(["apt-get", "indextargets", "--format", "$(LABEL)\t$(RELEASE)\t$(REPO_URI)"])
    mirrors = configured_mirrors(listed)
    if mirrors is None:
        return []
    return source_lines(suite, *mirrors)


def moment() -> str:
    """Return the moment of Debian's archive that is built from, as VRE_DEBIAN_MIRROR names it; empty where none is.

    Raises VreError for one that is no time, or has not passed: what it will be is not known yet.
    """
    found = MOMENT.search(_given())
    if found is None:
        return ""
    try:
        at = datetime.strptime(found[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        at = None
    if at is None or at > datetime.now(UTC):
        raise VreError(
            f"VRE_DEBIAN_MIRROR: {found[1]} is no moment that has passed", hint="write one such as 20261121T000000Z"
        )
    return found[1]


def _given() -> str:
    return os.environ.get("VRE_DEBIAN_MIRROR", "").rstrip("/")


def _both(mirror: str) -> tuple[str, str]:
    if ARCHIVE in mirror:
        return mirror.replace(ARCHIVE, "debian"), mirror.replace(ARCHIVE, "debian-security")
    return mirror, f"{mirror.removesuffix('/debian')}/debian-security"


def source_lines(suite: str, mirror: str, security: str, *, option: str = "") -> list[str]:
    """Return the three source lines of a stable suite. `option` is one of apt's own, for each line."""
    return [
        f"deb {option}{mirror} {suite} main",
        f"deb {option}{mirror} {suite}-updates main",
        f"deb {option}{security} {suite}-security main",
    ]


def configured_mirrors(listed: str) -> tuple[str, str] | None:
    """Return the mirror and the security mirror out of `apt-get indextargets`' lines of label, release and address."""
    found: dict[str, str] = {}
    for line in listed.splitlines():
        label, release, address = [*line.split("\t"), "", ""][:3]
        if label in {"Debian", "Debian-Security"} and "backports" not in release:
            found.setdefault(label, address.rstrip("/"))
    if "Debian" not in found or "Debian-Security" not in found:
        return None
    return found["Debian"], found["Debian-Security"]


def deb822(lines: str) -> str:
    """Return one-line sources in the form that Debian's own images have today, checked with Debian's keys only.

    A moment that an image was made from is not where its machines stay: they get VRE_DEBIAN_NEWEST, else the mirror of
    the machine that builds. Raises VreError where neither is there.
    """
    if MOMENT.search(lines):
        suite = lines.split()[-2].partition("-")[0]
        given = os.environ.get("VRE_DEBIAN_NEWEST", "").rstrip("/")
        lines = "\n".join(source_lines(suite, *_both(given)) if given else _own(suite))
        if not lines:
            raise VreError(
                "what was made from one moment needs a mirror for its machines, and this one has none of Debian's",
                hint="name one: VRE_DEBIAN_NEWEST=https://mirror.example.org/{archive}",
            )
    entries = [line.split() for line in lines.splitlines() if line.startswith("deb ")]
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    form = "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\nSigned-By: {}\n"
    return "\n".join(form.format(*words[-3:], keys) for words in entries)


def compile_python(root: Path, places: Sequence[str]) -> None:
    """Compile Python's modules in a root, never to be compared with their sources: imports are quicker by far.

    A package that is upgraded later compiles its own again.
    """
    found = sorted(f"/{path.relative_to(root)}" for place in places for path in root.glob(place.lstrip("/")))
    options = ["-q", "-f", "-j0", "--invalidation-mode", "unchecked-hash", "-x", "/tests?/"]
    inside(root, ["python3", "-m", "compileall", *options, *found])


def unpack(archive: Path, root: Path) -> None:
    """Unpack a root made by `bootstrap`, owners, devices and attributes included. Raises VreError."""
    if os.geteuid():
        raise VreError("the images are built as root", hint="run it as root, or with sudo")
    root.mkdir(parents=True)
    run(
        [
            "tar",
            "--extract",
            "--file",
            archive,
            "--directory",
            root,
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
        ]
    )
