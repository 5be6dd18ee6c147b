"""The cluster as the program declares it: control plane, workers, and the objects that every cluster has."""

from collections.abc import Mapping, Sequence

import pulumi
from pulumi import ResourceOptions

from vre import resources
from vre.clouds.site import Node, inside
from vre.cluster import kubeadm, objects
from vre.cluster.objects import Route
from vre.edge.contract import Certificate
from vre.inventory import Machine

READY_SECONDS = 1500
"""How long objects may take to be up: an emulated processor is ten times slower than a real one."""


class Cluster(pulumi.ComponentResource):
    """Kubernetes on a site's machines."""

    control: Node
    plane: resources.ControlPlane
    base: resources.Objects
    workers: list[resources.Worker]
    images: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        nodes: Sequence[Node],
        *,
        images: Mapping[str, str],
        certificate: Certificate,
        routes: Sequence[Route],
        home: str,
    ) -> None:
        """Set up the first machine, join the others, and apply network, policies, storage and ingress."""
        super().__init__("vre:cluster:Cluster", name)
        self.control, *others = nodes
        child = ResourceOptions(parent=self)
        self.plane = self._control_plane(name, kubeadm.versions(images), alone=not others, child=child)
        self.images = [image for node in nodes for image in node.images]
        after = inside(child, self.control.resource, self.plane, *self.images)
        address = self.control.machine.ipv4
        self.base = resources.Objects(
            "cluster",
            machine=self.control.id,
            connection=self.control.connection,
            name="cluster",
            objects=_objects(images, self.control.machine, certificate, routes, home),
            ready=list(objects.READY),
            timeout=READY_SECONDS,
            opts=after,
        )
        # Beside the objects: signing takes until the controllers run, and only looking at logs needs it.
        resources.Node(
            self.control.machine.name,
            machine=self.control.id,
            connection=self.control.connection,
            name=self.control.machine.name,
            addresses=[address],
            opts=after,
        )
        self.workers = [self._worker(node, child) for node in others]
        self.register_outputs({"version": self.plane.version})

    def _control_plane(
        self, name: str, versions: kubeadm.Versions, *, alone: bool, child: ResourceOptions
    ) -> resources.ControlPlane:
        node = self.control
        key = resources.Password("etcd-key", length=64, opts=child)
        settings = resources.Files(
            "control-plane-files",
            machine=node.id,
            connection=node.connection,
            files=kubeadm.files(key.password.apply(kubeadm.encryption)),
            opts=inside(child, node.resource, node.ready),
        )

        def config(accelerator: str) -> str:
            slow = accelerator == "tcg"
            control = kubeadm.Control(
                name=node.machine.name,
                address=node.machine.ipv4,
                cluster=name,
                alone=alone,
                slow=slow,
                versions=versions,
            )
            return kubeadm.first(control)

        return resources.ControlPlane(
            "control-plane",
            machine=node.id,
            connection=node.connection,
            config=node.accelerator.apply(config),
            opts=inside(child, node.resource, settings, *node.images),
        )

    def _worker(self, node: Node, child: ResourceOptions) -> resources.Worker:
        def config(accelerator: str) -> str:
            return kubeadm.joining(node.machine.name, node.machine.ipv4, slow=accelerator == "tcg")

        return resources.Worker(
            node.machine.name,
            machine=node.id,
            connection=node.connection,
            control=self.control.connection,
            name=node.machine.name,
            config=node.accelerator.apply(config),
            opts=ResourceOptions.merge(child, ResourceOptions(depends_on=[node.ready, *node.images, self.plane])),
        )


def _objects(
    images: Mapping[str, str], control: Machine, certificate: Certificate, routes: Sequence[Route], home: str
) -> list[objects.Object]:
    # The key goes into its Secret as the output it is: so it alone is secret, and all else can be shown.
    shown = objects.Certificate(
        chain=certificate.chain,
        private_key=certificate.key,
        until=certificate.not_after,
        clients=certificate.clients,
    )
    return objects.everything(images, control.ipv4, shown, routes, node=control.name, home=home)
