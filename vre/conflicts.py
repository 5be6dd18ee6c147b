"""What no single key of a stack file shows: parts of it that do not go together. Pure."""

from collections.abc import Iterator
from ipaddress import ip_network

from vre.cloud import Libvirt, OpenStack, public, workers_part
from vre.config import FIRST_WORKER, Config, Native
from vre.errors import Finding
from vre.policy import PODS, SERVICES


def conflicts(config: Config) -> list[Finding]:
    """Return every contradiction in a stack file; keys are without `vre:`."""
    return [*_data(config), *_cloud(config), *_edge(config), *_openstack(config), *_networks(config), *_sizes(config)]


def _data(config: Config) -> Iterator[Finding]:
    if public(config.cloud) and config.data.class_ in {"pseudonymised", "sensitive"}:
        yield Finding(
            key="data.class",
            reason=f"{config.data.class_} data never goes to a public cloud ({config.cloud.provider})",
            example="cloud: {provider: libvirt}",
        )
    jupyter = config.services.jupyter
    if config.data.class_ == "sensitive" and jupyter and jupyter.egress:
        yield Finding(
            key="services.jupyter.egress",
            reason="sensitive data must have no way out through users' servers",
            example="egress: closed",
        )


def _cloud(config: Config) -> Iterator[Finding]:
    if isinstance(config.cloud, Libvirt):
        return
    if not config.access.operators:
        yield Finding(
            key="access.operators", reason="name the networks that operators come from", example="[203.0.113.0/24]"
        )
    if config.edge.provider == "direct" and not config.edge.domain:
        yield Finding(
            key="edge.domain",
            reason="a cloud gives the address only at the launch: name the domain that the VRE is reached by",
            example="edge: {provider: direct, domain: example.org}",
        )


def _openstack(config: Config) -> Iterator[Finding]:
    if not isinstance(config.cloud, OpenStack):
        return
    if config.data.class_ != "public" and not config.cloud.volume_type:
        yield Finding(
            key="cloud.volume-type",
            reason=f"{config.data.class_} data needs encrypted disks: name the cloud's volume type that encrypts",
            example="volume-type: LUKS",
        )
    # Nothing is looked up where nothing may be fetched.
    fetches = config.data.class_ != "sensitive" or config.outbound.mirrors
    if fetches and not any(ip_network(each).num_addresses == 1 for each in config.outbound.resolvers):
        yield Finding(
            key="outbound.resolvers",
            reason="an OpenStack network has no name server of its own: name those that its operator recommends",
            example="resolvers: [192.0.2.53/32]",
        )


def _edge(config: Config) -> Iterator[Finding]:
    if config.edge.provider != "cloudflare":
        return
    if isinstance(config.cloud, Libvirt):
        yield Finding(
            key="edge.provider",
            reason="Cloudflare cannot come to a machine in a hypervisor's own network",
            example="edge: {provider: direct, domain: example.org}",
        )
    if config.data.class_ in {"pseudonymised", "sensitive"}:
        yield Finding(
            key="edge.provider",
            reason=f"{config.data.class_} data must not pass Cloudflare, which reads along: it ends the visitors' TLS",
            example="edge: {provider: direct, domain: example.org}",
        )


def _networks(config: Config) -> Iterator[Finding]:
    network = ip_network(config.cloud.network)
    last = max(config.machines.workers.numbers, default=0)
    if network.num_addresses - workers_part(config.cloud) <= FIRST_WORKER + last + 1:
        yield Finding(
            key="cloud.network",
            reason=f"{network} has no room for worker {last}",
            example="network: 10.77.0.0/16",
        )
    for name, text in (("pods", PODS), ("services", SERVICES)):
        if network.overlaps(ip_network(text)):
            yield Finding(
                key="cloud.network",
                reason=f"{network} overlaps the cluster's own range for {name}, {text}",
                example="network: 10.77.0.0/16",
            )


def _sizes(config: Config) -> Iterator[Finding]:
    if not isinstance(config.cloud, Libvirt):
        return
    for group, size in (("control", config.machines.control.size), ("workers", config.machines.workers.size)):
        if isinstance(size, Native):
            yield Finding(
                key=f"machines.{group}.size",
                reason="libvirt has no types of its own: say it in numbers",
                example="size: {cpus: 2, memory: 4}",
            )
