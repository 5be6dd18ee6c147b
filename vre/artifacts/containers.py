"""Every container image the stack runs, built from build/containers/images.yaml: no registry, no daemon."""

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from vre.artifacts import debian, oci, sandbox
from vre.artifacts.golang import build_all
from vre.artifacts.store import Store
from vre.artifacts.table import ContainerImage, Node, Python, Table, load
from vre.errors import VreError
from vre.progress import Report
from vre.run import run

RECIPE = "1"  # raised when this module makes other bytes from the same inputs
GATHERED = "2"  # raised when `oci.gather` does
BIN = "usr/local/bin"
PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
NOBODY = 65532  # the account that static programs run as: it owns nothing
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"
ACCOUNTS = {
    "etc/passwd": f"root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{NOBODY}:{NOBODY}:nonroot:/:/sbin/nologin\n".encode(),
    "etc/group": f"root:x:0:\nnonroot:x:{NOBODY}:\n".encode(),
}
FROM_BASE = ("usr/bin/catatonit", AUTHORITIES)  # files of the Debian layer that static images use too
LEFTOVERS = ("var/lib/apt/lists/*", "var/cache/apt/*", "var/cache/ldconfig/*", "var/log/apt", "var/log/*.log")
FINISH = """set -e
chroot "$1" find / -xdev -type f -perm /6000 -exec chmod ug-s {} +
chroot "$1" python3 -m compileall -q -f -j0 --invalidation-mode unchecked-hash /usr/lib/python3 /usr/lib/python3.13
rm -f "$1"/etc/resolv.conf "$1"/etc/hostname
"""
# No file gives its caller more rights; Python's modules are compiled, never to be compared with their sources; nothing
# is left of the machine that built it.


@dataclass(frozen=True, kw_only=True)
class Containers:
    """All container images: one OCI layout, and for each image's short name its full one and its digest."""

    layout: Path
    names: Mapping[str, str]  # kube-proxy -> localhost/vre/kube-proxy:v1.36.3
    digests: Mapping[str, str]  # kube-proxy -> sha256:...
    key: str

    @property
    def references(self) -> dict[str, str]:
        """Short name -> full name with digest, as pods name the image."""
        return {short: f"{name}@{self.digests[short]}" for short, name in self.names.items()}


Programs = Callable[[], Mapping[str, Path]]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every image is built with: the store, where to report, the Debian layer's artifact, the programs."""

    store: Store
    report: Report
    base: Path
    programs: Programs


def build(store: Store, report: Report, *, table: Table | None = None, programs: Programs | None = None) -> Containers:
    """Build every image that is not in the store yet and gather them. Raises VreError with what failed.

    `programs` gives the folder of each set of programs; while it waits for them to be built, the images that need none
    are made.
    """
    table = table or load()
    sets = sorted({source for image in table.images for source in image.programs})
    base = _base(table, store, report)
    bases = {"debian": base / "layout", "static": _static(base, store, report) / "layout"}
    # The slow ones first, then what needs no program: the rest waits for its programs.
    order = sorted(table.images, key=lambda image: (bool(image.programs), not (image.python or image.node)))
    with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        waited = programs or ahead.submit(build_all, sets, report, store).result
        work = Work(store=store, report=report, base=base, programs=waited)
        built = pool.map(lambda image: _build(image, bases[image.base], work), order)
        layouts = dict(zip([image.name for image in order], built, strict=True))
    return _gather(table, layouts, store, report)


def _base(table: Table, store: Store, report: Report) -> Path:
    inputs = {"recipe": RECIPE, "finish": FINISH, "suite": table.suite, "packages": " ".join(table.packages)}
    inputs |= {"moment": moment} if (moment := debian.moment()) else {}  # every other image's key has this one's

    def make(folder: Path) -> None:
        archive = folder / "base.tar"
        debian.bootstrap(archive, suite=table.suite, packages=table.packages, report=report, hook=FINISH)
        report("Debian base layer")
        oci.start(folder / "layout")
        oci.add_layer(folder / "layout", archive, f"Debian {table.suite}")
        with tarfile.open(archive) as tar:
            for name in FROM_BASE:
                _extract(tar, name, folder / "files" / name)
        archive.unlink()

    return store.get("container-base", inputs, make, report)


def _extract(tar: tarfile.TarFile, name: str, target: Path) -> None:
    data = tar.extractfile(f"./{name}")
    if data is None:
        raise VreError(f"the Debian base layer has no file {name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data.read())
    target.chmod(0o755 if "/bin/" in f"/{name}" else 0o644)


def _static(base: Path, store: Store, report: Report) -> Path:
    def make(folder: Path) -> None:
        layer = folder / "layer.tar"
        oci.pack(layer, {**ACCOUNTS, AUTHORITIES: base / "files" / AUTHORITIES}, folders={"tmp": 0o1777})
        oci.start(folder / "layout")
        oci.add_layer(folder / "layout", layer, "accounts and certificate authorities")
        layer.unlink()

    return store.get("container-static", {"recipe": RECIPE, "base": base.name}, make, report)


def _build(image: ContainerImage, below: Path, work: Work) -> Path:
    """Build one image on top of the layout `below`, or find it in the store; return its layout."""
    programs = work.programs() if image.programs else {}
    entry = json.dumps(asdict(image), default=lambda path: path.name)
    inputs: dict[str, bytes | str] = {
        "recipe": RECIPE,
        "image": entry,
        "base": work.base.name,
        "below": below.parent.name,
    }
    inputs |= {f"programs/{source}": programs[source].name for source in image.programs}
    inputs |= {f"file/{file.name}": file.read_bytes() for file in sources(image)}

    def make(folder: Path) -> None:
        work.report(f"container image {image.name}")
        target = folder / "layout"
        oci.start(target, below)
        if image.programs or image.from_base:
            _add_programs(image, target, work.base, programs)
        if image.packages or image.python or image.node or image.accounts:
            _add_userland(image, target, folder / "bundle")
        oci.configure(target, _settings(image))

    return work.store.get(f"container-{image.name}", inputs, make, work.report) / "layout"


def sources(image: ContainerImage) -> list[Path]:
    """Return the lock files that an image is made from."""
    python = [image.python.requirements] if image.python else []
    node = [image.node.source / name for name in ("package.json", "package-lock.json")] if image.node else []
    return python + node


def _settings(image: ContainerImage) -> oci.Settings:
    labels = {"title": image.name, "version": image.version, "source": image.source, "licenses": image.licences}
    return oci.Settings(
        user=image.user,
        entrypoint=image.entrypoint,
        environment={"PATH": PATH, "LC_ALL": "C.UTF-8"},
        folder=image.folder,
        labels={f"org.opencontainers.image.{name}": value for name, value in labels.items()},
    )


def _add_programs(image: ContainerImage, layout: Path, base: Path, programs: Mapping[str, Path]) -> None:
    files: dict[str, Path | bytes] = {target: base / "files" / name for name, target in image.from_base.items()}
    for source, names in image.programs.items():
        files |= {f"{BIN}/{name}": programs[source] / name for name in names}
    layer = layout.with_suffix(".tar")
    oci.pack(layer, files)
    oci.add_layer(layout, layer, f"{', '.join(sorted(files))} {image.version}")
    layer.unlink()


def _add_userland(image: ContainerImage, layout: Path, bundle: Path) -> None:
    """Change the unpacked image with its own tools and add what is new as one layer."""
    root = oci.unpack(layout, bundle)
    lent = sandbox.network(os.environ, Path.home())
    if image.packages:
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        sandbox.inside(root, ["apt-get", "update", "--quiet"], lend=lent, env=environment)
        install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *image.packages]
        sandbox.inside(root, install, lend=lent, env=environment)
    for name, number in image.accounts.items():
        _add_account(root, name, number)
    if image.python:
        _add_python(image.python, root, lent)
    if image.node:
        _add_node(image.node, root)
    for pattern in LEFTOVERS if image.packages else ():
        _remove(root, pattern)
    oci.repack(layout, bundle, f"{image.name} {image.tag}")
    shutil.rmtree(bundle)


def _add_account(root: Path, name: str, number: int) -> None:
    for file, line in (
        ("etc/passwd", f"{name}:x:{number}:{number}::/home/{name}:/bin/bash\n"),
        ("etc/group", f"{name}:x:{number}:\n"),
    ):
        with (root / file).open("a") as out:
            out.write(line)
    home = root / "home" / name
    home.mkdir(mode=0o755)
    os.chown(home, number, number)


def _add_python(python: Python, root: Path, lent: Mapping[str, Path]) -> None:
    """Make the virtual environment. A source package is built with Debian's setuptools, never with one just fetched."""
    place = f"/{python.folder}"
    pip = [f"{place}/bin/python3", "-m", "pip", "--no-input", "--no-cache-dir", "--disable-pip-version-check"]
    wheels = root / "usr/share/python-wheels"
    setuptools = next(f"/{wheel.relative_to(root)}" for wheel in wheels.glob("setuptools-*.whl"))
    sandbox.inside(root, ["python3", "-m", "venv", place])
    sandbox.inside(root, [*pip, "install", "--no-index", "--no-deps", "--no-compile", setuptools])
    requirements = {**lent, "/run/requirements.txt": python.requirements}
    options = ["--require-hashes", "--no-deps", "--no-compile", "--no-build-isolation"]
    hint = "each line of the file needs a hash that the index still has"
    sandbox.inside(root, [*pip, "install", *options, "-r", "/run/requirements.txt"], lend=requirements, hint=hint)
    sandbox.inside(root, [*pip, "uninstall", "--yes", "setuptools", "pip"])
    for pattern in python.remove:
        _remove(root / python.folder, pattern)
    debian.compile_python(root, [place])


def _add_node(node: Node, root: Path) -> None:
    """Install the lock file's packages with this machine's npm: no package's own scripts are run."""
    target = root / node.folder
    target.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(node.source / name, target / name)
    options = ["--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    run(["npm", "ci", *options], cwd=target)
    for name in ("package.json", "package-lock.json"):
        (target / name).unlink()
    run(["chown", "--recursive", "--no-dereference", "root:root", target])


def _remove(root: Path, pattern: str) -> None:
    for found in sorted(root.glob(pattern), reverse=True):
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found)
        else:
            found.unlink(missing_ok=True)


def _gather(table: Table, layouts: Mapping[str, Path], store: Store, report: Report) -> Containers:
    names = {image.name: table.full_name(image) for image in table.images}
    inputs = {"recipe": f"{RECIPE}.{GATHERED}"}
    inputs |= {names[short]: oci.descriptor(layout)["digest"] for short, layout in layouts.items()}

    def make(folder: Path) -> None:
        report("layers of container images")
        oci.gather({names[short]: layout for short, layout in layouts.items()}, folder / "layout")

    path = store.get("containers", inputs, make, report)
    found = oci.digests(path / "layout")
    digests = {short: found[name] for short, name in names.items()}
    return Containers(layout=path / "layout", names=names, digests=digests, key=path.name)
