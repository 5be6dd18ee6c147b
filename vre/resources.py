"""The resources of the plugin `vre`, as a Pulumi program uses them.

Values inside lists and mappings keep the names of the wire (camelCase). What each input means, and what changes in
place, stands in the handler of the same name under `vre/provider`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi import Input, Output, ResourceOptions

Map = Mapping[str, Any]
Maps = Sequence[Input[Map]]
Texts = Sequence[Input[str]]


class _Out:
    """An output under its Python name; `wire` is the name that the plugin gives it."""

    def __init__(self, wire: str) -> None:
        self.wire = wire

    def __get__(self, instance: object | None, owner: type) -> Any:
        return self if instance is None else vars(instance)[self.wire]


def _out(wire: str) -> Any:
    return _Out(wire)


def outputs(resource: type) -> dict[str, str]:
    """Return the declared outputs of a resource class: Python name to the wire's."""
    return {name: value.wire for name, value in vars(resource).items() if isinstance(value, _Out)}


class _Resource(pulumi.CustomResource):
    TYPE = ""
    SECRETS: tuple[str, ...] = ()

    def __init__(self, name: str, props: Mapping[str, Any], opts: ResourceOptions | None) -> None:
        own = ResourceOptions(additional_secret_outputs=list(self.SECRETS))
        computed = dict.fromkeys(outputs(type(self)).values())
        super().__init__(self.TYPE, name, {**computed, **props}, ResourceOptions.merge(own, opts))


class Authority(_Resource):
    """A certificate authority of the stack's own."""

    TYPE = "vre:crypto:Authority"
    SECRETS = ("privateKey",)
    certificate: Output[str] = _out("certificate")
    private_key: Output[str] = _out("privateKey")
    not_after: Output[str] = _out("notAfter")

    def __init__(
        self, name: str, *, common_name: Input[str], valid_days: Input[int], opts: ResourceOptions | None = None
    ) -> None:
        """Make an authority valid for `valid_days`."""
        props = {"commonName": common_name, "validDays": valid_days}
        super().__init__(name, props, opts)


class Certificate(_Resource):
    """A server certificate signed by an authority, renewed by `up` when its end is near."""

    TYPE = "vre:crypto:Certificate"
    SECRETS = ("authorityKey", "privateKey")
    certificate: Output[str] = _out("certificate")
    private_key: Output[str] = _out("privateKey")
    not_after: Output[str] = _out("notAfter")

    def __init__(
        self,
        name: str,
        *,
        authority_certificate: Input[str],
        authority_key: Input[str],
        names: Input[Texts] | None = None,
        addresses: Input[Texts] | None = None,
        valid_days: Input[int] | None = None,
        renew_before_days: Input[int] | None = None,
        opts: ResourceOptions | None = None,
    ) -> None:
        """Issue a certificate for DNS names and IP addresses; `certificate` holds the leaf and the authority's."""
        props = {
            "authorityCertificate": authority_certificate,
            "authorityKey": authority_key,
            "names": names,
            "addresses": addresses,
            "validDays": valid_days,
            "renewBeforeDays": renew_before_days,
        }
        super().__init__(name, props, opts)


class HostKey(_Resource):
    """An SSH host key (Ed25519), made before its machine so that it can be pinned."""

    TYPE = "vre:crypto:HostKey"
    SECRETS = ("privateKey",)
    public_key: Output[str] = _out("publicKey")
    private_key: Output[str] = _out("privateKey")

    def __init__(self, name: str, *, opts: ResourceOptions | None = None) -> None:
        """Make a key pair; the private key is in OpenSSH's PEM format."""
        super().__init__(name, {}, opts)


class Password(_Resource):
    """A password: the one given, if it is strong enough, or one that is made."""

    TYPE = "vre:crypto:Password"
    SECRETS = ("given", "password")
    password: Output[str] = _out("password")

    def __init__(
        self,
        name: str,
        *,
        given: Input[str] | None = None,
        length: Input[int] | None = None,
        hints: Input[Texts] | None = None,
        opts: ResourceOptions | None = None,
    ) -> None:
        """Make or check a password; `hints` are words it must not hold, such as the user's name."""
        props = {"given": given, "length": length, "hints": hints}
        super().__init__(name, props, opts)


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
