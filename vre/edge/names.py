"""Under which names and paths the VRE and its services answer. Pure."""

from dataclasses import dataclass

from vre.config import Config


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where something answers: a host (name or address) and a path that begins and ends with a slash."""

    host: str
    base: str

    @property
    def url(self) -> str:
        """The address to type into a browser."""
        return f"https://{self.host}{self.base}"


def zone(config: Config) -> str:
    """Return the zone below which the names lie, or nothing when the VRE is reached by its address."""
    return (config.edge.domain or "") if config.edge.provider == "direct" else config.edge.zone


def front(config: Config, address: str) -> Place:
    """Return where the VRE itself answers."""
    below = zone(config)
    return Place(host=f"{config.name}.{below}" if below else address, base="/")


def service(config: Config, address: str, name: str) -> Place:
    """Return where a service answers: a name of its own one label below the zone (P-19), else a path."""
    below = zone(config)
    if below:
        return Place(host=f"{name}-{config.name}.{below}", base="/")
    return Place(host=address, base=f"/{name}/")


def names(config: Config, services: tuple[str, ...]) -> tuple[str, ...]:
    """Return every DNS name that the certificate is for; none when the VRE is reached by its address."""
    if not zone(config):
        return ()
    return tuple(place.host for place in (front(config, ""), *(service(config, "", name) for name in services)))


def certified(config: Config) -> tuple[str, ...]:
    """Return every DNS name that the VRE's certificate is for, with the services that the stack file asks for."""
    asked = (name for name in type(config.services).model_fields if getattr(config.services, name) is not None)
    return names(config, tuple(asked))
