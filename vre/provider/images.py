"""`vre:machine:Images`: the container images of a machine, brought to a standing one over SSH: only what it lacks."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from vre.artifacts import oci
from vre.errors import Finding
from vre.machine.ssh import Connection, Shell, Unreachable, wait
from vre.paths import project
from vre.provider.handler import Context, Found, Handler, Props

MIB = 1024 * 1024
SENT = "/var/tmp/vre-images.tar"  # noqa: S108 - only the machine's operator can write there as itself
RENEW = "build/image/files/usr/lib/vre/renew.py"
"""The program that brings images in: sent, so that it is there whatever the machine has."""
FORMER = "cat /var/lib/vre/containers.json 2>/dev/null || true"
NEWEST = """set -- /etc/apt/sources.list.d/vre.sources /usr/lib/vre/containers.py
if [ -e "$1" ] && [ -e "$2" ]; then exec python3 -B "$2"; fi"""
CTR = ("ctr", "--namespace", "k8s.io")
HINT = "vre ssh, and look with: sudo crictl images; sudo df /var/lib/containerd"
LONGEST = 1800.0  # seconds for an import, on an emulated processor


class Images(Handler):
    """Images by name and digest. Those that pods still run from stay; nothing else of the machine changes.

    Where a repository has newer ones the machine takes them by itself (docs/patching.md): what it once had from there,
    and has something newer for, counts as there and is not brought back.
    """

    token = "vre:machine:Images"  # noqa: S105 - a type
    replace_on: ClassVar[frozenset[str]] = frozenset({"machine"})
    ignore: ClassVar[frozenset[str]] = frozenset({"connection", "layout"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse a layout that is not there, and images without a digest."""
        found = []
        layout, images = inputs.get("layout"), inputs.get("images")
        if isinstance(layout, str) and not (Path(layout) / "index.json").is_file():
            found.append(Finding(key="layout", reason=f"there is no layout {layout}", example="vre setup"))
        texts = [each for each in images.values() if isinstance(each, str)] if isinstance(images, dict) else []
        found += [Finding(key="images", reason=f"{each} has no digest") for each in texts if "@sha256:" not in each]
        return found

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Send what is missing and import it. On a machine made from the same images that is nothing.

        Pods of a cluster that stands may be made from newer ones of the repository: those are fetched at once.
        """
        with wait(Connection.read(inputs["connection"]), context, timeout=300) as shell:
            self._ensure(context, shell, inputs, {})
            self._run(context, shell, ["sh", "-c", NEWEST])
        return str(inputs["machine"]), dict(inputs)

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Look which images are there; those that are not are left out, so that `up` brings them again."""
        try:
            with Shell(Connection.read(state["connection"])) as shell:
                newer = superseded(shell.run(["sh", "-c", FORMER], sudo=True))
                lacking = missing(digests(state["images"]), there(shell)) - newer
        except Unreachable as error:
            context.report(f"{error.message}; kept as last seen")
            return Found(inputs=dict(state), outputs=dict(state))
        left = {key: name for key, name in state["images"].items() if name.partition("@")[2] not in lacking}
        return Found(inputs={**state, "images": left}, outputs={**state, "images": left})

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Bring what is new; what it replaces goes with the next change, once no container is made from it."""
        with wait(Connection.read(inputs["connection"]), context, timeout=300) as shell:
            self._ensure(context, shell, inputs, state["images"])
        return dict(inputs)

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """They end with their machine."""

    def _ensure(self, context: Context, shell: Shell, inputs: Props, before: Mapping[str, str]) -> None:
        newer = superseded(shell.run(["sh", "-c", FORMER], sudo=True))
        names = {name: digest for name, digest in digests(inputs["images"]).items() if digest not in newer}
        new = missing(names, there(shell))
        if new:
            context.report(f"{len(new)} container images are new")
            self._send(context, shell, Path(inputs["layout"]), new)
            task = {"names": others(names), "keep": kept(digests(before)), "sent": SENT}
            self._run(context, shell, ["python3", "-", json.dumps(task)], (project() / RENEW).read_text())

    def _run(self, context: Context, shell: Shell, command: Sequence[str], stdin: str = "") -> None:
        shell.run(command, stdin=stdin, sudo=True, timeout=LONGEST, context=context, line=context.report, hint=HINT)

    def _send(self, context: Context, shell: Shell, layout: Path, new: set[str]) -> None:
        with tempfile.TemporaryDirectory(prefix="vre-images-") as folder:
            archive = Path(folder, "images.tar")
            oci.extract(layout, new, archive)
            whole = -(-archive.stat().st_size // MIB)

            def progress(sent: int, _: int) -> None:
                context.pause(0)
                context.report(f"sending container images: {sent // MIB} of {whole} MiB")

            shell.send(archive, SENT, progress)


def superseded(noted: str) -> frozenset[str]:
    """Return the digests of images for which a machine has newer ones, by what it noted of its lists. Pure."""
    lists = json.loads(noted)["lists"] if noted.strip() else []
    every = {each.partition("@")[2] for one in lists for each in one.values()}
    return frozenset(every - {each.partition("@")[2] for one in lists[-1:] for each in one.values()})


def there(shell: Shell) -> dict[str, str]:
    """Return name -> digest of every image that a machine keeps."""
    return listed(shell.run([*CTR, "images", "ls"], sudo=True))


def listed(said: str) -> dict[str, str]:
    """Return name -> digest from what `ctr images ls` prints: reference, media type, digest, and more. Pure.

    An image without the last label was not brought to the end.
    """
    from vre.image.importer import PINNED  # beside all that builds images, which takes long to import

    lines = [line.split() for line in said.splitlines()[1:] if PINNED in line]
    return {words[0]: words[2] for words in lines if len(words) > 2}


def missing(wanted: Mapping[str, str], found: Mapping[str, str]) -> set[str]:
    """Return the digests of images that are not there under both of their names. Pure."""
    pairs = [(name, other, wanted[name]) for name, other in others(wanted).items()]
    return {digest for name, other, digest in pairs if {found.get(name), found.get(other)} != {digest}}


def digests(images: Mapping[str, Any]) -> dict[str, str]:
    """Return full name -> digest of images given as short name -> full name, `@`, digest. Pure."""
    return {name: digest for name, _, digest in (each.partition("@") for each in images.values())}


def others(images: Mapping[str, str]) -> dict[str, str]:
    """Return each image's full name -> its other one, by which a pod that names a digest finds it. Pure."""
    return {name: f"{name.rpartition(':')[0]}@{digest}" for name, digest in sorted(images.items())}


def kept(images: Mapping[str, str]) -> list[str]:
    """Return every name of the images that pods may be made from until they are changed. Pure."""
    return sorted(others(images).values())
