"""The story of a launch: what was asked for, who may reach what, machines, cluster, services, outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi import Output, ResourceOptions

from vre import clouds, image, resources, stackfile
from vre.artifacts.finished import Finished
from vre.cloud import Libvirt, stock
from vre.clouds.site import Disk, Node, Order, Site, inside
from vre.cluster.cluster import READY_SECONDS, Cluster
from vre.cluster.objects import Route
from vre.config import Config
from vre.edge import front, names, refresh
from vre.edge.contract import Front
from vre.errors import Refused
from vre.image import Image, recipe
from vre.plan import plan
from vre.policy import PODS, SERVICES, Peer
from vre.progress import silent
from vre.review import review
from vre.services import CATALOGUE, Context, Service

if TYPE_CHECKING:
    from vre.release.taken import Taken

DOOR_SECONDS = 900
"""How long a service may take to answer at the door after its pods are up."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A service that the stack file asks for, with its settings and its place in this VRE."""

    service: Service[Any]
    settings: Any
    context: Context

    @property
    def route(self) -> Route:
        """Which requests at the door are this service's."""
        asked = self.service.route(self.context)
        host = "" if self.context.base != "/" else self.context.host
        return Route(path=asked.path, namespace=asked.namespace, service=asked.service, port=asked.port, host=host)

    @property
    def url(self) -> str:
        """The address to type into a browser."""
        return f"https://{self.context.host}{self.context.base}"


def launch() -> None:
    """Declare the whole environment of the stack that is selected. Raises VreError before any resource."""
    config = configuration(pulumi.get_stack())
    own_plugin()
    warned = refresh(config)
    if warned:
        pulumi.log.warn(warned)
    plain = stock(config.cloud)
    built = _image(config)
    stack = plan(config)
    policy = clouds.policy(config)

    services = asked(config, stack.control.ipv4, built.images)
    disk = Disk(path=str(built.path), id=built.id, images=built.images, layout=str(built.layout or ""))
    packages = recipe.load().packages if plain else ()
    site = Site(Order(config=config, plan=stack, policy=policy, image=disk, packages=packages))
    # After what the cloud has to be asked about: what it refuses ends the launch before anything stands at the edge.
    edge: Front = front(config).Edge(config, stack.control.ipv4, tuple(each.service.name for each in services))
    published = edge.publish(site.nodes[0].address)
    cluster = Cluster(
        config.name,
        site.nodes,
        images=built.images,
        certificate=edge.certificate,
        routes=[each.route for each in services],
        home=next((each.url if each.context.base == "/" else each.context.base for each in services), ""),
    )
    for each in services:
        run(each, cluster, edge, published)
    export(config, site, edge, services)
    pulumi.export("visitors", [str(network) for network in policy.of(Peer.EDGE)])
    pulumi.export("certificateUntil", edge.certificate.not_after)


def _image(config: Config) -> "Image | Taken":
    """Return what machines start from. Raises VreError when it is not built, or a release is not what was signed."""
    if isinstance(config.cloud, Libvirt) and config.cloud.image:
        from vre.release import envelope, taken  # with all that checks signatures, only where there are some

        def tell(told: str) -> None:
            pulumi.log.info(told, ephemeral=True)

        return taken.take(config.cloud, pulumi.get_stack(), tell, key=envelope.named())
    return (image.software if stock(config.cloud) else image.build)(Finished(), silent)


def own_plugin() -> None:
    """Have our resources served by a plugin of their own.

    The default one would be given all of the stack's configuration, and take `vre:name` for the plugin's name.
    """
    plugin = pulumi.ProviderResource("vre", "vre", {})

    def serve(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        if not args.type_.startswith("vre:") or not isinstance(args.resource, pulumi.CustomResource):
            return None
        opts = ResourceOptions.merge(args.opts, ResourceOptions(provider=plugin))
        return pulumi.ResourceTransformationResult(args.props, opts)

    pulumi.runtime.register_stack_transformation(serve)


def configuration(stack: str) -> Config:
    """Return the checked configuration of a stack as the engine read it. Raises Refused with every finding."""
    values = pulumi.Config("vre")
    config, found = review(stackfile.opened(stackfile.read(stackfile.path(stack)), values.get))
    if config is None or found:
        raise Refused(found)
    return config


def asked(config: Config, address: str, images: Mapping[str, str]) -> list[Running]:
    """Return the services that the stack file asks for, each with its secrets made or checked (P-37)."""
    named = {name: getattr(config.services, name) for name in CATALOGUE}
    return [
        Running(
            service=CATALOGUE[name],
            settings=settings,
            context=replace(
                _context(config, address, name, images), secrets=_secrets(config, CATALOGUE[name], settings)
            ),
        )
        for name, settings in named.items()
        if settings is not None
    ]


def _context(config: Config, address: str, name: str, images: Mapping[str, str]) -> Context:
    place = names.service(config, address, name)
    ranges = (config.cloud.network, getattr(config.cloud, "network6", ""), PODS, SERVICES)
    return Context(
        host=place.host,
        base=place.base,
        images=images,
        api_servers=(address,),
        private=tuple(each for each in ranges if each),
    )


def _secrets(config: Config, service: Service[Any], settings: Any) -> dict[str, Output[str]]:
    return {
        wanted.name: resources.Password(
            f"{service.name}-{wanted.name}",
            given=Output.secret(wanted.given.get_secret_value()) if wanted.given else None,
            length=wanted.length,
            hints=[*wanted.hints, config.name],
        ).password
        for wanted in service.secrets(settings)
    }


def run(each: Running, cluster: Cluster, edge: Front, published: Sequence[pulumi.Resource]) -> None:
    """Apply a service's objects and wait until it answers at the door: ready means usable."""
    node = cluster.control
    applied = resources.Objects(
        each.service.name,
        machine=node.id,
        connection=node.connection,
        name=each.service.name,
        objects=each.service.objects(each.settings, each.context),
        ready=[dict(thing) for thing in each.service.ready],
        timeout=READY_SECONDS,
        opts=inside(ResourceOptions(), node.resource, cluster.plane, *cluster.images),
    )
    check = each.service.check(each.context)
    reach = edge.reach(node.address)
    resources.Door(
        each.service.name,
        url=f"https://{each.context.host}",
        address=reach.address,
        authority=reach.authority,
        path=check.path,
        expect={"status": check.status, "text": check.text},
        timeout=DOOR_SECONDS,
        opts=inside(ResourceOptions(), node.resource, applied, cluster.base, *cluster.workers, *published),
    )


def export(config: Config, site: Site, edge: Front, services: list[Running]) -> None:
    """Export the stack's outputs: the same on every cloud."""
    first = services[0].service.outputs(services[0].settings, services[0].context) if services else {}
    user = first.get("admin", "")
    pulumi.export("url", names.front(config, site.nodes[0].machine.ipv4).url)
    pulumi.export("services", {each.service.name: each.url for each in services})
    pulumi.export("user", user)
    pulumi.export("password", Output.secret(first.get("passwords", {}).get(user, "")))
    pulumi.export("passwords", Output.secret(first.get("passwords", {})))
    pulumi.export("authority", edge.reach(site.nodes[0].address).authority)
    pulumi.export("machines", [_machine(node) for node in site.nodes])


def _distinct(addresses: Sequence[str]) -> list[str]:
    """Return the addresses once each, the one that operators reach first."""
    return [address for address in dict.fromkeys(addresses) if address]


def _machine(node: Node) -> dict[str, Any]:
    return {
        "name": node.machine.name,
        "role": str(node.machine.role),
        "addresses": Output.all(node.address, node.machine.ipv4, node.machine.ipv6).apply(_distinct),
        "through": (node.connection.get("through") or {}).get("address", ""),
        "hostKey": node.host_key,
        "accelerator": node.accelerator,
    }
