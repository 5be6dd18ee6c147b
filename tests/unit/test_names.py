"""Where the VRE and its services answer: names one label below the zone, or paths of its address."""

import pytest

from vre.config import Config
from vre.edge.names import front, names, service

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL alice"


def config(edge: dict[str, object]) -> Config:
    return Config.model_validate(
        {"name": "phenome", "cloud": {"provider": "libvirt"}, "access": {"keys": [KEY]}, "edge": edge}
    )


def test_without_a_zone_services_are_paths_of_the_address() -> None:
    stack = config({"provider": "direct"})
    assert front(stack, "192.0.2.10").url == "https://192.0.2.10/"
    assert service(stack, "192.0.2.10", "jupyter").url == "https://192.0.2.10/jupyter/"
    assert names(stack, ("jupyter",)) == ()


@pytest.mark.requirement("P-19")
@pytest.mark.parametrize(
    "edge", [{"provider": "direct", "domain": "example.org"}, {"provider": "cloudflare", "zone": "example.org"}]
)
def test_with_a_zone_every_name_is_one_label_below_it(edge: dict[str, object]) -> None:
    stack = config(edge)
    assert front(stack, "192.0.2.10").url == "https://phenome.example.org/"
    assert service(stack, "192.0.2.10", "jupyter").url == "https://jupyter-phenome.example.org/"
    assert all(name.count(".") == 2 for name in names(stack, ("jupyter",)))
    assert names(stack, ("jupyter",)) == ("phenome.example.org", "jupyter-phenome.example.org")
