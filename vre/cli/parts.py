"""The parts of set-up, in their order. Each is quick when it has been done; none is done twice."""

import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path

from vre.errors import VreError
from vre.paths import project, state
from vre.progress import Report, silent, step
from vre.run import run


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of set-up. `ensure` does what is missing."""

    name: str
    title: str
    ensure: Callable[[Report], object]
    usual: bool = True
    """Whether it is done without being named."""


def _building() -> list[str]:
    """Return the groups of packages that building needs; npm may be there from elsewhere."""
    return ["image", "operate", *([] if shutil.which("npm") else ["npm"])]


def _packages(report: Report) -> None:
    from vre.setup import packages

    packages.ensure_packages(["hypervisor", "libvirt-module", *_building()], report)


def _test_packages(report: Report) -> None:
    from vre.setup import packages

    packages.ensure_packages(["test"], report)


def _image_packages(report: Report) -> None:
    from vre.setup import packages

    packages.ensure_packages(_building(), report)


def _sdk(extra: str) -> Callable[[Report], None]:
    """Return what installs the Python packages of a provider, or of releases, into this environment."""

    def ensure(report: Report) -> None:
        report(f"Python packages for {extra}")
        _pip(project() / "requirements" / f"{extra}.txt")

    return ensure


def _pip(lock: Path, *flags: str) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", *flags, "--requirement", lock], timeout=900)


def _binding(report: Report) -> None:
    """libvirt's binding is compiled against the libvirt of this machine, so it comes after the packages."""
    lock = project() / "requirements" / "local.txt"
    try:
        import libvirt  # noqa: F401
    except ImportError:
        report("compiling libvirt's Python binding")
        _pip(lock, "--no-build-isolation")


def _engine(report: Report) -> None:
    from vre.setup import engine

    engine.ensure_engine(Path(sys.prefix), report)


def _secrets(report: Report) -> None:
    from vre.setup import secrets

    secrets.ensure_passphrase(state())
    secrets.ensure_key(state())


def _programs(report: Report) -> None:
    from vre.artifacts import golang

    golang.build_all(report=report)


def _image(report: Report) -> None:
    from vre import image
    from vre.artifacts.store import Store

    image.build(Store(), report)


def _software(report: Report) -> None:
    from vre import image
    from vre.artifacts.store import Store

    image.software(Store(), report)


def _policy_pack(report: Report) -> None:
    from vre.setup import policy_pack

    policy_pack.ensure_policy_pack(project() / "policy-pack", report)


def _hypervisor(report: Report) -> None:
    from vre.provider.libvirt.connection import system_answers
    from vre.setup import hypervisor

    if not system_answers():
        hypervisor.ensure(state(), report)


RELEASED = ("packages", "binding", "engine", "secrets", "hypervisor")
"""What a launch from a release needs of this machine: nothing of the image is built."""
SDKS = ("aws", "gcp", "azure", "openstack", "cloudflare", "acme")
"""Whose Python packages are installed only where a stack asks for them."""
RELEASE = "release"
"""What describes releases, compares them with known faults and raises what is pinned: launches do without."""
PARTS = (
    Part(name="packages", title="host packages", ensure=_packages),
    Part(name="binding", title="libvirt's Python binding", ensure=_binding),
    Part(name="engine", title="Pulumi engine", ensure=_engine),
    Part(name="secrets", title="passphrase and key", ensure=_secrets),
    Part(name="programs", title="Kubernetes and the other programs", ensure=_programs),
    Part(name="image", title="disk image", ensure=_image),
    Part(name="hypervisor", title="hypervisor", ensure=_hypervisor),
    Part(name="test-packages", title="host packages for the tests", ensure=_test_packages, usual=False),
    Part(name="software", title="software for plain Debian machines", ensure=_software, usual=False),
    Part(name="image-packages", title="host packages for the image", ensure=_image_packages, usual=False),
    Part(name="policy-pack", title="policy pack", ensure=_policy_pack, usual=False),
    *(
        Part(name=f"{each}-packages", title=f"Python packages for {each}", ensure=_sdk(each), usual=False)
        for each in (*SDKS, RELEASE)
    ),
)


def ensure(names: Iterable[str] = ()) -> None:
    """Do these parts, or all. Raises VreError for a name that is none."""
    wanted = list(names)
    known = [part.name for part in PARTS]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise VreError(f"set-up has no part {', '.join(unknown)}", hint=f"there are: {', '.join(known)}")
    for part in PARTS:
        if part.name in wanted or (part.usual and not wanted):
            with step(part.title) as report:
                part.ensure(report)


def ensure_modules(extra: str, *modules: str) -> None:
    """Install the Python packages of a provider, or of releases, where one of their modules is not there."""
    if any(find_spec(module) is None for module in modules):
        ensure([f"{extra}-packages"])
        invalidate_caches()


def hypervisor(action: str) -> str:
    """Start, stop or look at the project's own hypervisor; return what is so now."""
    from vre.setup import hypervisor as own

    if action == "start":
        own.ensure(state())
    if action == "stop":
        own.stop(state())
    now = own.status(state())
    return f"runs at {now.uri}" if now.running else "does not run" + (", holds machines" if now.defined else "")


def tidy() -> None:
    """Stop the project's own hypervisor when nothing is defined in it any more."""
    from vre.setup import hypervisor as own

    now = own.status(state())
    if now.running and not now.defined:
        own.stop(state())


def unbuilt() -> float:
    """Return which share of the sets of programs is still to be built, the engine's not among them."""
    from vre.artifacts import golang

    usual = set(golang.usual())
    there = [
        path.exists() for name, path in golang.current().items() if name in usual and not name.startswith("pulumi")
    ]
    return there.count(False) / max(1, len(there))


def missing() -> list[str]:
    """Return the long parts of set-up that are still to be done, without doing anything."""
    from vre import image
    from vre.artifacts import golang
    from vre.artifacts.finished import Finished

    lacking = {name for name, path in golang.current().items() if name in golang.usual() and not path.exists()}
    engine = {name for name in lacking if name.startswith("pulumi")}
    todo = ["engine"] if engine and not Path(sys.prefix, "bin", "pulumi").exists() else []
    if lacking - engine:
        todo.append("programs")
    try:
        image.build(Finished(), silent)
    except VreError:
        todo.append("image")
    return todo
