"""The resources of the plugin `vre`, as a Pulumi program uses them.

Values inside lists and mappings keep the names of the wire (camelCase). What each input means, and what changes in
place, stands in the handler of the same name under `vre/provider`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pulumi import Input, Output, ResourceOptions

from vre import keys
from vre.resource import Resource as _Resource
from vre.resource import out as _out

AcmeCertificate = keys.AcmeCertificate
Authority = keys.Authority
Certificate = keys.Certificate
HostKey = keys.HostKey
Password = keys.Password
Request = keys.Request
Map = Mapping[str, Any]
Maps = Sequence[Input[Map]]
Texts = Sequence[Input[str]]


class Capacity(_Resource):
    """The size of a disk that may only grow."""

    TYPE = "vre:cloud:Capacity"
    gib: Output[int] = _out("gib")

    def __init__(self, name: str, *, gib: Input[int], opts: ResourceOptions | None = None) -> None:
        """Note the size in GiB, before the disk follows it."""
        super().__init__(name, {"gib": gib}, opts)


class Network(_Resource):
    """A libvirt network with its own DNS."""

    TYPE = "vre:libvirt:Network"
    name: Output[str] = _out("name")
    uuid: Output[str] = _out("uuid")
    gateways: Output[dict[str, str]] = _out("gateways")

    def __init__(
        self,
        resource_name: str,
        *,
        uri: Input[str],
        name: Input[str],
        bridge: Input[str],
        ipv4: Input[str],
        ipv6: Input[str] = "",
        mode: Input[str] = "nat",
        domain: Input[str] = "",
        hosts: Input[Maps] | None = None,
        opts: ResourceOptions | None = None,
    ) -> None:
        """Make a network: `mode` nat or isolated, ranges as CIDR, `hosts` {name, mac, ipv4, ipv6}."""
        props = {
            "uri": uri,
            "name": name,
            "bridge": bridge,
            "mode": mode,
            "ipv4": ipv4,
            "ipv6": ipv6,
            "domain": domain,
            "hosts": hosts,
        }
        super().__init__(resource_name, props, opts)


class Filter(_Resource):
    """A libvirt network filter: the firewall in front of a machine."""

    TYPE = "vre:libvirt:Filter"
    name: Output[str] = _out("name")
    uuid: Output[str] = _out("uuid")

    def __init__(
        self,
        resource_name: str,
        *,
        uri: Input[str],
        name: Input[str],
        rules: Input[Maps],
        mac: Input[str] | None = None,
        anti_spoofing: Input[bool] = True,
        opts: ResourceOptions | None = None,
    ) -> None:
        """Make a filter; a rule has direction, action, family, protocol, source, destination, ports, priority."""
        props = {"uri": uri, "name": name, "mac": mac, "rules": rules, "antiSpoofing": anti_spoofing}
        super().__init__(resource_name, props, opts)


class Pool(_Resource):
    """A directory of volumes."""

    TYPE = "vre:libvirt:Pool"
    name: Output[str] = _out("name")
    path: Output[str] = _out("path")
    uuid: Output[str] = _out("uuid")

    def __init__(
        self,
        resource_name: str,
        *,
        uri: Input[str],
        name: Input[str],
        path: Input[str],
        opts: ResourceOptions | None = None,
    ) -> None:
        """Make a pool at a path of the hypervisor."""
        props = {"uri": uri, "name": name, "path": path}
        super().__init__(resource_name, props, opts)


class Volume(_Resource):
    """A disk: empty, uploaded, on top of another, or encrypted."""

    TYPE = "vre:libvirt:Volume"
    path: Output[str] = _out("path")

    def __init__(
        self,
        resource_name: str,
        *,
        uri: Input[str],
        pool: Input[str],
        name: Input[str],
        format: Input[str],
        capacity: Input[int] | None = None,
        source: Input[str] | None = None,
        source_id: Input[str] | None = None,
        content: Input[str] | None = None,
        backing: Input[Map] | None = None,
        encryption: Input[Map] | None = None,
        opts: ResourceOptions | None = None,
    ) -> None:
        """Make a volume of `capacity` bytes; `content` is base64, `backing` {path, format}, `encryption` {secret}."""
        props = {
            "uri": uri,
            "pool": pool,
            "name": name,
            "format": format,
            "capacity": capacity,
            "source": source,
            "sourceId": source_id,
            "content": content,
            "backing": backing,
            "encryption": encryption,
        }
        super().__init__(resource_name, props, opts)


class Secret(_Resource):
    """A key that only libvirt holds: deleting it nullifies what it encrypts."""

    TYPE = "vre:libvirt:Secret"
    uuid: Output[str] = _out("uuid")

    def __init__(
        self, resource_name: str, *, uri: Input[str], name: Input[str], opts: ResourceOptions | None = None
    ) -> None:
        """Make a key; its value is in no state and no log."""
        super().__init__(resource_name, {"uri": uri, "name": name}, opts)


class Domain(_Resource):
    """A virtual machine, running."""

    TYPE = "vre:libvirt:Domain"
    uuid: Output[str] = _out("uuid")
    accelerator: Output[str] = _out("accelerator")
    running: Output[bool] = _out("running")

    def __init__(
        self,
        resource_name: str,
        *,
        uri: Input[str],
        name: Input[str],
        cpus: Input[int],
        memory: Input[int],
        disks: Input[Maps],
        interfaces: Input[Maps],
        accelerator: Input[str] = "auto",
        firmware: Input[str] = "efi",
        console: Input[str] = "",
        autostart: Input[bool] = True,
        metadata: Input[Map] | None = None,
        opts: ResourceOptions | None = None,
    ) -> None:
        """Make a machine with `memory` MiB; disks and interfaces as in the handler."""
        props = {
            "uri": uri,
            "name": name,
            "cpus": cpus,
            "memory": memory,
            "accelerator": accelerator,
            "firmware": firmware,
            "disks": disks,
            "interfaces": interfaces,
            "console": console,
            "autostart": autostart,
            "metadata": metadata,
        }
        super().__init__(resource_name, props, opts)


class Machine(_Resource):
    """A machine that has finished its first boot and answers with its pinned host key."""

    TYPE = "vre:machine:Machine"
    boot_id: Output[str] = _out("bootId")
    release: Output[str] = _out("release")
    ready: Output[str] = _out("ready")

    def __init__(
        self,
        name: str,
        *,
        machine: Input[str],
        connection: Input[Map],
        boot_keys: Input[Texts],
        host_key: Input[Map],
        opts: ResourceOptions | None = None,
    ) -> None:
        """Wait for a machine; `boot_keys` pass at first contact only, `host_key` {publicKey, privateKey} is pinned."""
        props = {"machine": machine, "connection": connection, "bootKeys": boot_keys, "hostKey": host_key}
        super().__init__(name, props, opts)


class Files(_Resource):
    """Files of a machine, kept as they were declared."""

    TYPE = "vre:machine:Files"
    digests: Output[dict[str, str]] = _out("digests")

    def __init__(
        self,
        name: str,
        *,
        machine: Input[str],
        connection: Input[Map],
        files: Input[Maps],
        after: Input[Sequence[Input[Texts]]] | None = None,
        opts: ResourceOptions | None = None,
    ) -> None:
        """Write files {path, mode, owner, content}; `after` are commands that run when something changed."""
        props = {"machine": machine, "connection": connection, "files": files, "after": after}
        super().__init__(name, props, opts)


class Software(_Resource):
    """What makes a plain Debian machine one of ours."""

    TYPE = "vre:machine:Software"

    def __init__(
        self,
        resource_name: str,
        *,
        machine: Input[str],
        connection: Input[Map],
        identity: Input[str],
        archive: Input[str],
        opts: ResourceOptions | None = None,
    ) -> None:
        """Send the `archive`, a file here, and set up what is in it; `identity` names its content."""
        props = {"machine": machine, "connection": connection, "identity": identity, "archive": archive}
        super().__init__(resource_name, props, opts)


class Images(_Resource):
    """The container images of a machine."""

    TYPE = "vre:machine:Images"

    def __init__(
        self,
        resource_name: str,
        *,
        machine: Input[str],
        connection: Input[Map],
        images: Input[Map],
        layout: Input[str],
        opts: ResourceOptions | None = None,
    ) -> None:
        """Bring `images` (short name -> full name, `@`, digest) from the OCI `layout`, a folder here."""
        props = {"machine": machine, "connection": connection, "images": images, "layout": layout}
        super().__init__(resource_name, props, opts)


class ControlPlane(_Resource):
    """The cluster's first machine, set up by kubeadm."""

    TYPE = "vre:cluster:ControlPlane"
    ca: Output[str] = _out("ca")
    ca_hash: Output[str] = _out("caHash")
    version: Output[str] = _out("version")

    def __init__(
        self,
        name: str,
        *,
        machine: Input[str],
        connection: Input[Map],
        config: Input[str],
        opts: ResourceOptions | None = None,
    ) -> None:
        """Set up a control plane from kubeadm's configuration (YAML)."""
        props = {"machine": machine, "connection": connection, "config": config}
        super().__init__(name, props, opts)


class Node(_Resource):
    """The first machine as a node of its cluster."""

    TYPE = "vre:cluster:Node"

    def __init__(
        self,
        resource_name: str,
        *,
        machine: Input[str],
        connection: Input[Map],
        name: Input[str],
        addresses: Input[Sequence[Input[str]]],
        opts: ResourceOptions | None = None,
    ) -> None:
        """Certify a node called `name`; its certificate may say `addresses` and nothing else."""
        props = {"machine": machine, "connection": connection, "name": name, "addresses": addresses}
        super().__init__(resource_name, props, opts)


class Worker(_Resource):
    """A machine joined to a cluster."""

    TYPE = "vre:cluster:Worker"
    joined: Output[str] = _out("joined")

    def __init__(
        self,
        resource_name: str,
        *,
        machine: Input[str],
        connection: Input[Map],
        control: Input[Map],
        name: Input[str],
        config: Input[str],
        opts: ResourceOptions | None = None,
    ) -> None:
        """Join a machine; `control` is the connection of the control plane, `name` the node's."""
        props = {"machine": machine, "connection": connection, "control": control, "name": name, "config": config}
        super().__init__(resource_name, props, opts)


class Objects(_Resource):
    """Kubernetes objects: applied together, pruned together, waited for."""

    TYPE = "vre:cluster:Objects"

    def __init__(
        self,
        resource_name: str,
        *,
        machine: Input[str],
        connection: Input[Map],
        name: Input[str],
        objects: Input[Maps],
        ready: Input[Maps] | None = None,
        timeout: Input[int] | None = None,
        opts: ResourceOptions | None = None,
    ) -> None:
        """Apply `objects` as the set `name`; `ready` {kind, name, namespace} are waited for, `timeout` seconds each."""
        props = {
            "machine": machine,
            "connection": connection,
            "name": name,
            "objects": objects,
            "ready": ready,
            "timeout": timeout,
        }
        super().__init__(resource_name, props, opts)


class Rule(_Resource):
    """One rule of a Cloudflare zone, beside those that others have there."""

    TYPE = "vre:cloudflare:Rule"

    def __init__(
        self,
        name: str,
        *,
        zone: Input[str],
        phase: Input[str],
        ref: Input[str],
        rule: Input[Map],
        opts: ResourceOptions | None = None,
    ) -> None:
        """Add a rule to a phase of a zone (its id); `ref` is its name there, `rule` is in the words of the API."""
        props = {"zone": zone, "phase": phase, "ref": ref, "rule": rule}
        super().__init__(name, props, opts)


class Door(_Resource):
    """An https address that answers with the right certificate."""

    TYPE = "vre:service:Door"
    answered: Output[str] = _out("answered")

    def __init__(
        self,
        name: str,
        *,
        url: Input[str],
        authority: Input[str],
        address: Input[str] | None = None,
        path: Input[str] | None = None,
        expect: Input[Map] | None = None,
        timeout: Input[int] | None = None,
        opts: ResourceOptions | None = None,
    ) -> None:
        """Wait until `url` answers as in `expect` {status, text}, its chain verified against `authority` (PEM)."""
        props = {
            "url": url,
            "address": address,
            "authority": authority,
            "path": path,
            "expect": expect,
            "timeout": timeout,
        }
        super().__init__(name, props, opts)
