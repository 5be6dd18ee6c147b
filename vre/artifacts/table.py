"""What container images there are: build/containers/images.yaml and the versions, read once and true from there on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vre import paths, yamltext
from vre.errors import VreError


@dataclass(frozen=True, kw_only=True)
class Python:
    """A virtual environment from hashed requirements, at `folder`, less what `remove`'s patterns name in it."""

    requirements: Path
    folder: str
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Node:
    """The npm packages of a lock file, installed at `folder`."""

    source: Path
    folder: str


@dataclass(frozen=True, kw_only=True)
class ContainerImage:
    """One container image: what it holds, whom it runs as, where its source is and under which licences."""

    name: str
    tag: str
    version: str  # of what is in it; the tag may be another where kubeadm asks for a certain one
    base: str
    user: str
    source: str
    licences: str
    root_because: str = ""
    entrypoint: tuple[str, ...] = ()
    folder: str = "/"
    programs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    from_base: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    accounts: Mapping[str, int] = field(default_factory=dict)
    python: Python | None = None
    node: Node | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """All images, and the packages of the layer that those with a userland share."""

    registry: str
    suite: str
    packages: tuple[str, ...]
    images: tuple[ContainerImage, ...]

    def full_name(self, image: ContainerImage) -> str:
        """Return the name a pod uses: registry, name, tag."""
        return f"{self.registry}/{image.name}:{image.tag}"


def load(file: Path | None = None, versions: Path | None = None) -> Table:
    """Read the table (build/containers/images.yaml) and the versions. Raises VreError when its shape is wrong."""
    build = paths.project() / "build"
    file = file or build / "containers" / "images.yaml"
    raw, pinned = (yamltext.load(source.read_text()) for source in (file, versions or build / "versions.yaml"))
    try:
        shared = raw["bases"]["debian"]
        table = Table(
            registry=raw["registry"],
            suite=shared["suite"],
            packages=tuple(shared["packages"]),
            images=tuple(_image(name, dict(entry), pinned["programs"]) for name, entry in raw["images"].items()),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VreError(f"{file}: {error!r}", hint="compare it with vre/artifacts/containers.py") from error
    unsafe = [image.name for image in table.images if image.user == "0" and not image.root_because]
    if unsafe:
        raise VreError(
            f"{file}: user 0 without root_because: {', '.join(unsafe)}", hint="name another user, or say why"
        )
    return table


def _image(name: str, entry: dict[str, Any], versions: Mapping[str, Any]) -> ContainerImage:
    python, node = entry.pop("python", None), entry.pop("node", None)
    programs = {source: tuple(binaries) for source, binaries in entry.pop("programs", {}).items()}
    version = versions[next(iter(programs))]["version"] if programs else entry["tag"]
    tag = entry.pop("tag", version)
    home = paths.project()
    return ContainerImage(
        name=name,
        tag=tag,
        version=version,
        programs=programs,
        python=python
        and Python(
            requirements=home / python["requirements"],
            folder=python["folder"],
            remove=tuple(python.get("remove", ())),
        ),
        node=node and Node(source=home / node["from"], folder=node["folder"]),
        entrypoint=tuple(entry.pop("entrypoint", ())),
        packages=tuple(entry.pop("packages", ())),
        **entry,
    )
