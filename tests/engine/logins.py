"""Who launches on each simulated cloud: what answers behind the plugin, and the environment of somebody logged in."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.engine import moto_server
from tests.engine.simulated import azure
from vre.paths import project

LOGIN = "canary-of-a-login-33518"
ELSEWHERE = "another"
"""A second network that leads outside, on OpenStack."""


@contextmanager
def logged_in(plugin: str, folder: Path) -> Iterator[Mapping[str, str]]:
    """Have a cloud answer until the end of the block; yield the environment of whoever launches there."""
    match plugin:
        case "aws":
            with moto_server.serving(folder) as url:
                login = {"AWS_ACCESS_KEY_ID": f"key-{LOGIN}", "AWS_SECRET_ACCESS_KEY": f"secret-{LOGIN}"}
                yield {**login, "AWS_ENDPOINT_URL": url}
        case "azure-native":
            yield {name: f"{name.lower()}-{LOGIN}" for name in azure.CREDENTIALS}
        case "gcp":
            yield {"GOOGLE_OAUTH_ACCESS_TOKEN": f"ya29.{LOGIN}"}
        case "openstack":
            with _openstack(folder / "services") as env:
                yield env
        case _:
            raise ValueError(f"nobody knows how to log in to {plugin}")


@contextmanager
def _openstack(folder: Path) -> Iterator[Mapping[str, str]]:
    from tests.engine.openstack_services import services  # whose library takes seconds to load

    allowed = yaml.safe_load((project() / "docs" / "clouds" / "openstack-permissions.yaml").read_text())
    with services(folder) as started:
        network = started.admin().network
        outside = network.create_network(name=ELSEWHERE, is_router_external=True)
        network.create_subnet(network_id=outside.id, cidr="198.51.100.0/24", ip_version=4, is_dhcp_enabled=False)
        yield started.project("research", allowed["access_rules"])


def secrets(env: Mapping[str, str]) -> list[str]:
    """Return what of such an environment nobody else may know."""
    return [value for value in env.values() if "canary" in value]
