"""Where a VRE may stand: each cloud's part of the stack file.

A network is always the stack's own; machines have fixed addresses in it.
"""

import re
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vre.fields import Cidr4, Cidr6
from vre.model import Model

DEBIAN = "debian"
"""The word for Debian's own image of a cloud, found by its owner and name."""
IMAGE = re.compile(r"|current|previous|[0-9a-f]{32}")
"""What a stack on libvirt may start from: this checkout's own image, a word of a channel, or a release's id."""


RESERVED = {
    "0.0.0.0/8": "this network", "127.0.0.0/8": "loopback", "169.254.0.0/16": "link-local",
    "224.0.0.0/4": "multicast", "240.0.0.0/4": "reserved",
    "::/8": "reserved, with loopback", "fe80::/10": "link-local", "ff00::/8": "multicast",
}  # fmt: skip
"""Where no network of machines can be. RFC 6890, RFC 4291."""


def _roomy(value: str) -> str:
    if ip_network(value).prefixlen > 26:
        raise ValueError("the network needs room for machines: /26 or wider")
    return value


def _roomy6(value: str) -> str:
    if ip_network(value).prefixlen > 64:
        raise ValueError("an IPv6 network is a /64 or wider, such as fd76:7265:77::/64")
    return value


def _usable(value: str) -> str:
    network = ip_network(value)
    for text, what in RESERVED.items():
        reserved = ip_network(text)
        if network.version == reserved.version and network.overlaps(reserved):
            raise ValueError(f"no machine has an address of its own in {reserved} ({what}); take a private range")
    return value


def _released(value: str) -> str:
    if not IMAGE.fullmatch(value):
        raise ValueError("is current, previous, or the id of a release (32 of 0-9, a-f); empty: what is built here")
    return value


def _channel(value: str) -> str:
    if value and not value.startswith(("/", "~/", "https://")):
        raise ValueError("a channel is a folder by its whole path, or https://...; nobody may change it on the way")
    return value


def _sixty_four(value: str) -> str:
    if ip_network(value).prefixlen != 64:
        raise ValueError("an IPv6 subnet of Azure's is a /64, such as fd76:7265:77::/64")
    return value


Roomy4 = Annotated[Cidr4, AfterValidator(_roomy), AfterValidator(_usable)]
Roomy6 = Annotated[Cidr6, AfterValidator(_roomy6), AfterValidator(_usable)]
Subnet6 = Annotated[Roomy6, AfterValidator(_sixty_four)]


class Libvirt(Model):
    """A hypervisor of one's own, here or behind ssh."""

    provider: Literal["libvirt"] = Field(description="The cloud", examples=["libvirt"])
    uri: str = Field(
        default="auto",
        description="The hypervisor; auto: the system's libvirtd, or the one that `make setup` starts",
        examples=["qemu:///system", "qemu+ssh://root@hypervisor/system"],
    )
    network: Roomy4 = Field(default="192.168.77.0/24", description="IPv4 range of the stack's own network")
    network6: Roomy6 = Field(
        default="fd76:7265:77::/64", description="IPv6 range of the stack's own network, a /64 or wider"
    )
    mode: Literal["nat", "isolated"] = Field(default="nat", description="Whether the network leads outside")
    pool: str = Field(
        default="", description="Folder on the hypervisor for disks; empty: beside libvirt's other images",
        examples=["/srv/vre"],
    )  # fmt: skip
    accelerator: Literal["auto", "kvm", "tcg"] = Field(
        default="auto", description="auto: KVM where it works, else emulation, with a warning"
    )
    image: Annotated[str, AfterValidator(_released)] = Field(
        default="", description="What machines start from: current or previous of the channel, or a release's id; "
        "empty: what this checkout builds", examples=["current", "0123456789abcdef0123456789abcdef"],
    )  # fmt: skip
    channel: Annotated[str, AfterValidator(_channel)] = Field(
        default="", description="Where releases of the image are: a folder or https; empty: this checkout's own",
        examples=["https://images.example.org/vre", "/srv/images"],
    )  # fmt: skip


class _Rented(Model):
    """What every cloud has whose hypervisors are somebody else's."""

    network: Roomy4 = Field(default="10.77.0.0/16", description="IPv4 range of the stack's own network")
    image: str = Field(
        default=DEBIAN, description="What machines start from: debian (Debian 13's own), or the id of an image of ours",
        min_length=1, examples=["ami-0123456789abcdef0"],
    )  # fmt: skip


class Aws(_Rented):
    """Amazon Web Services."""

    provider: Literal["aws"] = Field(description="The cloud", examples=["aws"])
    region: str = Field(description="Where the machines stand", examples=["eu-west-1"])
    zone: str = Field(
        default="", description="The availability zone; empty: the region's first", examples=["eu-west-1b"]
    )


class Gcp(_Rented):
    """Google Cloud."""

    provider: Literal["gcp"] = Field(description="The cloud", examples=["gcp"])
    project: str = Field(description="The project that pays", examples=["phenome-1234"])
    region: str = Field(description="Where the machines stand", examples=["europe-west1"])
    zone: str = Field(default="", description="The zone; empty: the region's b", examples=["europe-west1-c"])


class Azure(_Rented):
    """Microsoft Azure."""

    provider: Literal["azure"] = Field(description="The cloud", examples=["azure"])
    subscription: str = Field(
        description="The subscription that pays", examples=["00000000-0000-0000-0000-000000000000"]
    )
    region: str = Field(description="Where the machines stand", examples=["westeurope"])
    network6: Subnet6 = Field(default="fd76:7265:77::/64", description="IPv6 range of the stack's own network")


class OpenStack(_Rented):
    """An OpenStack cloud, public or an institution's own."""

    provider: Literal["openstack"] = Field(description="The cloud", examples=["openstack"])
    region: str = Field(description="Where the machines stand", examples=["RegionOne"])
    public: bool = Field(description="Whether it is a public cloud: decides which data may go there", examples=[True])
    external_network: str = Field(description="The network that floating addresses come from", examples=["public"])
    volume_type: str = Field(
        default="", description="The volume type that encrypts disks; none: not encrypted, for public data only",
        examples=["LUKS"],
    )  # fmt: skip
    network6: Roomy6 = Field(
        default="fd76:7265:77::/64", description="IPv6 range of the stack's own network, a /64 or wider"
    )


Cloud = Annotated[Libvirt | Aws | Gcp | Azure | OpenStack, Field(discriminator="provider")]


def workers_part(cloud: Libvirt | Aws | Gcp | Azure | OpenStack) -> int:
    """Return at which host of the network the workers' part begins: on AWS half of it, a subnet with its own routes."""
    return ip_network(cloud.network).num_addresses // 2 if isinstance(cloud, Aws) else 0


def stock(cloud: Libvirt | Aws | Gcp | Azure | OpenStack) -> bool:
    """Say whether machines start from Debian's own image, and are brought to the state of ours by the launch."""
    return not isinstance(cloud, Libvirt) and cloud.image == DEBIAN


def released(cloud: Libvirt | Aws | Gcp | Azure | OpenStack) -> bool:
    """Say whether machines start from a release of the image, not from what this checkout builds."""
    return isinstance(cloud, Libvirt) and bool(cloud.image)


def public(cloud: Libvirt | Aws | Gcp | Azure | OpenStack) -> bool:
    """Say whether a cloud belongs to somebody else, so that only public or anonymised data may go there (P-79)."""
    return cloud.public if isinstance(cloud, OpenStack) else not isinstance(cloud, Libvirt)
