"""What every service of the catalogue says about itself: settings, images, secrets, objects, door, outputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import SecretStr

from vre.model import Model

Object = dict[str, Any]
"""One Kubernetes object."""

S = TypeVar("S", bound=Model)


@dataclass(frozen=True, kw_only=True)
class SecretRequest:
    """A secret that a service needs: `given` by the stack file, else generated. `hints` must not occur in it."""

    name: str
    why: str
    given: SecretStr | None = None
    length: int = 20
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a service is told about its VRE.

    `base` is the path below which it answers at `host`, with a slash at both ends. `images` maps an image's name to its
    full reference. `api_servers` are the addresses of the machines whose API server answers on port 6443. `private` are
    the networks (machines, pods, services) that a user's work never reaches, whatever the stack file opens. `secrets`
    maps the names of the service's requests to values, which only ever go into `Secret` objects: a value may be
    anything that whoever applies the objects understands.
    """

    host: str
    base: str
    images: Mapping[str, str]
    api_servers: tuple[str, ...]
    private: tuple[str, ...] = ()
    service_network: str = "10.96.0.0/16"
    storage_class: str = "local"
    ingress_namespace: str = "ingress"
    secrets: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Route:
    """Which requests at the VRE's door go to which port of which Kubernetes service."""

    path: str
    namespace: str
    service: str
    port: int


@dataclass(frozen=True, kw_only=True)
class Check:
    """What the door answers once the service is usable."""

    path: str
    status: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Service(Generic[S]):
    """One entry of the catalogue. Everything is pure: what happens is up to whoever applies the objects.

    `ready` are the objects {kind, name, namespace} that must be available; `namespaces` are the service's own.
    """

    name: str
    title: str
    settings: type[S]
    images: tuple[str, ...]
    namespaces: tuple[str, ...]
    secrets: Callable[[S], tuple[SecretRequest, ...]]
    objects: Callable[[S, Context], list[Object]]
    ready: tuple[Mapping[str, str], ...]
    route: Callable[[Context], Route]
    check: Callable[[Context], Check]
    outputs: Callable[[S, Context], dict[str, Any]]
