"""What no single key of a stack file shows: parts of it that do not go together. Pure."""

from collections.abc import Iterator
from ipaddress import ip_network

from vre.cloud import Libvirt, OpenStack, public, workers_part
from vre.config import FIRST_WORKER, Config, Native, public_authority
from vre.errors import Finding
from vre.fields import servers
from vre.policy import PODS, SERVICES


def conflicts(config: Config) -> list[Finding]:
    """Return every contradiction in a stack file; keys are without `vre:`."""
    every = (_data, _cloud, _edge, _openstack, _networks, _visitors, _outbound, _sizes, _patches)
    return [finding for look in every for finding in look(config)]


def _patches(config: Config) -> Iterator[Finding]:
    wanted = config.patches
    if wanted.takes == "tested" and not wanted.repository:
        yield Finding(
            key="patches.from",
            reason="nobody says what was tested: name the signed repository that announces it",
            example="repository: https://packages.example.org/vre",
        )
    if wanted.takes == "tested" and not wanted.archive:
        yield Finding(
            key="patches.archive",
            reason="what was tested is an old state of Debian's archive: name where those are",
            example="archive: https://mirror.example.org/{archive}/{moment}",
        )
    if wanted.archive and wanted.takes == "newest":
        yield Finding(
            key="patches.archive",
            reason="no old state of the archive is taken as long as machines take the newest",
            example="from: tested",
        )


def _data(config: Config) -> Iterator[Finding]:
    if public(config.cloud) and config.data.class_ in {"pseudonymised", "sensitive"}:
        yield Finding(
            key="data.class",
            reason=f"{config.data.class_} data never goes to a public cloud ({config.cloud.provider})",
            example="cloud: {provider: libvirt}",
        )
    elif config.data.class_ == "sensitive" and not config.data.approval:
        yield Finding(
            key="data.approval",
            reason="sensitive data needs an ethics approval: who gave it, its reference, and the last day of it",
            example='approval: {body: Ethics committee of Example, reference: 2026/117, until: "2028-12-31"}',
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
        if config.cloud.channel and not config.cloud.image:
            reason = "nothing is taken from the channel as long as no image is named"
            yield Finding(key="cloud.image", reason=reason, example="image: current")
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
    if fetches and not config.outbound.resolvers:
        yield Finding(
            key="outbound.resolvers",
            reason="an OpenStack network has no name server of its own: name those that its operator recommends",
            example="resolvers: [192.0.2.53/32]",
        )


def _edge(config: Config) -> Iterator[Finding]:
    if config.edge.provider != "cloudflare":
        if public_authority(config) and not config.edge.domain and isinstance(config.cloud, Libvirt):
            reason = "a public authority certifies names, not addresses: name the domain that the VRE is reached by"
            yield Finding(key="edge.domain", reason=reason, example="domain: example.org")
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


def _visitors(config: Config) -> Iterator[Finding]:
    """Yield who cannot come from where the stack file says: a cloud's network is the stack's alone."""
    if isinstance(config.cloud, Libvirt):
        return
    own = ip_network(config.cloud.network)
    named = {"access.operators": config.access.operators, "edge.networks": getattr(config.edge, "networks", ())}
    for key, networks in named.items():
        for text in networks:
            other = ip_network(text)
            if own.overlaps(other) and other.prefixlen >= own.prefixlen:
                yield Finding(
                    key=key,
                    reason=f"{text} overlaps the stack's own network, {own}: nobody comes from there",
                    example="cloud.network: another private range, such as 10.78.0.0/16",
                )


def _outbound(config: Config) -> Iterator[Finding]:
    examples = {"resolvers": "[192.0.2.53/32]", "time": "[192.0.2.123/32]"}
    for key, example in examples.items():
        named = getattr(config.outbound, key)
        if named and not servers(named):
            yield Finding(
                key=f"outbound.{key}",
                reason="machines ask single servers: name at least one by its address, with /32 or /128",
                example=f"{key}: {example}",
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
