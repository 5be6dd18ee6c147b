"""Stack files as people might write them, generated, and what they mean: the machines and the policy."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

from hypothesis import strategies as st

from vre import clouds
from vre.config import Config
from vre.conflicts import conflicts
from vre.fields import networks
from vre.inventory import Plan
from vre.plan import doors, plan
from vre.policy import Policy, decide

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL a"
APPROVAL = {"body": "Committee", "reference": "2026/117", "until": "9999-12-31"}
POOL = (
    "203.0.113.0/24", "203.0.113.64/26", "203.0.113.7/32", "198.51.100.0/25", "198.51.100.128/25", "192.0.2.0/24",
    "192.0.2.53/32", "8.0.0.0/7", "2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::7/128", "2001:db8:8000::/33",
)  # fmt: skip
"""Networks to choose from: of both families, one inside the other, side by side, single addresses."""
EDGE = ("173.245.48.0/20", "104.16.0.0/13", "2400:cb00::/32", "2606:4700::/32")
"""Where Cloudflare comes from: two of its ranges of each family stand for all."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A stack file, and what it means."""

    config: Config
    plan: Plan
    policy: Policy

    def __repr__(self) -> str:
        return f"Case({self.config.model_dump_json(by_alias=True, exclude_defaults=True)}, {self.policy.networks})"


def case(settings: Mapping[str, Any], **switched: tuple[str, ...]) -> Case:
    """Return what a stack file means; `switched` are doors that are no fields yet: sftp, vpn, registry."""
    config = Config.model_validate(
        {"name": "oracle", "access": {"keys": [KEY], "operators": ["203.0.113.0/24"]}, **settings}
    )
    assert conflicts(config) == []
    machines = plan(config)
    edge = networks(EDGE) if config.edge.provider == "cloudflare" else ()
    decided = doors(config, machines, clouds.room(config).surroundings(config), edge=edge)
    more: dict[str, Any] = {name: networks(each) for name, each in switched.items()}
    return Case(config=config, plan=machines, policy=decide(replace(decided, **more)))


def data(class_: str) -> dict[str, Any]:
    """Return what a stack file says about a class of data: with the approval that sensitive data needs."""
    return {"class": class_, **({"approval": APPROVAL} if class_ == "sensitive" else {})}


def cases(
    cloud: Mapping[str, Any], *, classes: tuple[str, ...] = ("public", "anonymised"), resolvers: int = 0
) -> st.SearchStrategy[Case]:
    """Generate cases for a cloud, given its part of the stack file; `resolvers`: how many it needs at least."""

    def made(parts: dict[str, Any]) -> Case:
        switched = parts.pop("switched")
        return case({"cloud": dict(cloud), **parts}, **switched)

    return st.fixed_dictionaries(
        {
            "access": st.fixed_dictionaries({"keys": st.just([KEY]), "operators": _networks(least=1)}),
            "edge": _edges(cloud["provider"]),
            "machines": st.fixed_dictionaries({"workers": st.fixed_dictionaries({"count": st.integers(0, 3)})}),
            "outbound": st.fixed_dictionaries(
                {
                    "resolvers": _hosts(least=resolvers),
                    "time": _hosts(),
                    "mirrors": _networks(),
                    "networks": _networks(),
                }
            ),
            "data": st.sampled_from([data(each) for each in classes]),
            "services": st.one_of(st.just({}), _jupyter()) if "sensitive" not in classes else st.just({}),
            "switched": st.fixed_dictionaries({"sftp": _networks(), "vpn": _networks(), "registry": _networks()}),
        }
    ).map(made)


def _edges(provider: str) -> st.SearchStrategy[dict[str, Any]]:
    direct = st.fixed_dictionaries(
        {"provider": st.just("direct"), "domain": st.just("example.org"), "networks": _networks()}
    )
    cloudflare = st.just({"provider": "cloudflare", "zone": "example.org"})
    # Cloudflare cannot come to a hypervisor's own network.
    return direct if provider == "libvirt" else st.one_of(direct, cloudflare)


def _jupyter() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"jupyter": st.fixed_dictionaries({"admin": st.just("researcher"), "egress": _networks()})}
    )


def _networks(least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    """Generate networks that do not overlap."""
    return st.lists(st.sampled_from(POOL), min_size=least, max_size=4).map(_apart)


def _hosts(least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    hosts = [each for each in POOL if ip_network(each).num_addresses == 1]
    return st.lists(st.sampled_from(hosts), min_size=least, max_size=2).map(_apart)


def _apart(chosen: list[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for text in chosen:
        one = ip_network(text)
        if not any(one.version == ip_network(each).version and one.overlaps(ip_network(each)) for each in kept):
            kept.append(text)
    return tuple(kept)
