"""What a user may write in a stack file: defaults, rules, and errors that name the key, the reason and an example.

The words are the same on every cloud. Frozen models; unknown keys are refused.
"""

from datetime import date
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from vre.errors import Finding
from vre.fields import Cidr4, Cidr6, Domain, Networks, PublicKey, StackName
from vre.model import Model
from vre.services.settings import Services


class Libvirt(Model):
    """A hypervisor of one's own, here or behind ssh."""

    provider: Literal["libvirt"] = Field(description="The cloud", examples=["libvirt"])
    uri: str = Field(
        default="auto",
        description="The hypervisor; auto: the system's libvirtd, or the one that `make setup` starts",
        examples=["qemu:///system", "qemu+ssh://root@hypervisor/system"],
    )
    network: Cidr4 = Field(default="192.168.77.0/24", description="IPv4 range of the stack's own network")
    network6: Cidr6 = Field(default="fd76:7265:77::/64", description="IPv6 range of the stack's own network")
    mode: Literal["nat", "isolated"] = Field(default="nat", description="Whether the network leads outside")
    pool: str = Field(
        default="", description="Folder on the hypervisor for disks; empty: beside libvirt's other images",
        examples=["/srv/vre"],
    )  # fmt: skip
    accelerator: Literal["auto", "kvm", "tcg"] = Field(
        default="auto", description="auto: KVM where it works, else emulation, with a warning"
    )

    @field_validator("network")
    @classmethod
    def _roomy(cls, value: str) -> str:
        if ip_network(value).prefixlen > 26:
            raise ValueError("the network needs room for machines: /26 or wider")
        return value


class Aws(Model):
    """Amazon Web Services."""

    provider: Literal["aws"] = Field(description="The cloud", examples=["aws"])
    region: str = Field(description="Where the machines stand", examples=["eu-west-1"])
    network: Cidr4 = Field(default="10.77.0.0/16", description="IPv4 range of the stack's own network")


class Gcp(Model):
    """Google Cloud."""

    provider: Literal["gcp"] = Field(description="The cloud", examples=["gcp"])
    project: str = Field(description="The project that pays", examples=["phenome-1234"])
    region: str = Field(description="Where the machines stand", examples=["europe-west1"])
    network: Cidr4 = Field(default="10.77.0.0/16", description="IPv4 range of the stack's own network")


class Azure(Model):
    """Microsoft Azure."""

    provider: Literal["azure"] = Field(description="The cloud", examples=["azure"])
    subscription: str = Field(
        description="The subscription that pays", examples=["00000000-0000-0000-0000-000000000000"]
    )
    region: str = Field(description="Where the machines stand", examples=["westeurope"])
    network: Cidr4 = Field(default="10.77.0.0/16", description="IPv4 range of the stack's own network")


class OpenStack(Model):
    """An OpenStack cloud, public or an institution's own."""

    provider: Literal["openstack"] = Field(description="The cloud", examples=["openstack"])
    region: str = Field(description="Where the machines stand", examples=["RegionOne"])
    public: bool = Field(description="Whether it is a public cloud: decides which data may go there", examples=[True])
    external_network: str = Field(description="The network that floating addresses come from", examples=["public"])
    network: Cidr4 = Field(default="10.77.0.0/16", description="IPv4 range of the stack's own network")


Cloud = Annotated[Libvirt | Aws | Gcp | Azure | OpenStack, Field(discriminator="provider")]


class Direct(Model):
    """Users come straight to the VRE; its certificate is from the stack's own authority."""

    provider: Literal["direct"] = Field(default="direct", description="What stands in front", examples=["direct"])
    domain: Domain | None = Field(
        default=None, description="The zone below which the VRE has its name; none: it is reached by its address",
        examples=["example.org"],
    )  # fmt: skip
    networks: Networks = Field(
        default=(), description="Who may open the pages; none: the operators' networks", examples=[["198.51.100.0/24"]]
    )


class Cloudflare(Model):
    """Cloudflare's proxy stands in front: http(s) is admitted from its ranges only."""

    provider: Literal["cloudflare"] = Field(description="What stands in front", examples=["cloudflare"])
    zone: Domain = Field(
        description="The zone: the VRE is NAME.ZONE, a service SERVICE-NAME.ZONE", examples=["example.org"]
    )


Edge = Annotated[Direct | Cloudflare, Field(discriminator="provider")]

CONTROL_HOST = 10
FIRST_WORKER = 20
"""Where in the stack's network its machines have their addresses: adding one moves no other."""
FROM_ANYWHERE = "any address may try to connect"


class Access(Model):
    """Who operates the VRE: from where, with which keys."""

    keys: Annotated[tuple[PublicKey, ...], Field(min_length=1)] = Field(
        description="Public SSH keys of the operators, or paths of .pub files",
        examples=[["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ... alice", ".vre/id_ed25519.pub"]],
    )
    anywhere: Literal["any address may try to connect"] | None = Field(
        default=None, description="The words that allow 0.0.0.0/0 or ::/0 as operators", examples=[FROM_ANYWHERE]
    )
    operators: Networks = Field(
        default=(), description="Networks that operators come from; libvirt always adds the hypervisor itself",
        examples=[["203.0.113.0/24"]],
    )  # fmt: skip
    identity: str = Field(
        default="", description="The private key that launches; empty: beside the first .pub path, or the agent's",
        examples=["~/.ssh/id_ed25519"],
    )  # fmt: skip

    @field_validator("operators")
    @classmethod
    def _closed(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        wide = [network for network in value if ip_network(network).prefixlen == 0]
        if wide and info.data.get("anywhere") is None:
            raise ValueError(f"{', '.join(wide)} is everybody; name your networks, or add anywhere: {FROM_ANYWHERE}")
        return value


class Shape(Model):
    """A size in numbers."""

    cpus: int = Field(ge=1, le=128, description="Virtual processors", examples=[2])
    memory: float = Field(ge=1.5, le=2048, description="Memory in GiB", examples=[4])


Size = Literal["small", "medium", "large"] | Shape
SHAPES = {
    "small": Shape(cpus=2, memory=4),
    "medium": Shape(cpus=4, memory=16),
    "large": Shape(cpus=16, memory=64),
}


def shape(size: Size) -> Shape:
    """Return a size in numbers: the same words mean the same on every cloud."""
    return SHAPES[size] if isinstance(size, str) else size


class Control(Model):
    """The machine with the control plane and the ingress."""

    size: Size = Field(default="small", description="small, medium, large, or cpus and memory")
    disk: int = Field(default=12, ge=8, le=2048, description="System disk in GiB; may grow later")
    data: int = Field(default=10, ge=1, le=65536, description="Data disk for homes and volumes in GiB; may grow later")


class Workers(Model):
    """Machines that only run workloads."""

    size: Size = Field(default="small", description="small, medium, large, or cpus and memory")
    count: int = Field(default=0, ge=0, le=100, description="How many")
    disk: int = Field(default=12, ge=8, le=2048, description="System disk in GiB")
    data: int = Field(default=10, ge=1, le=65536, description="Data disk in GiB")


class Machines(Model):
    """The machines of the VRE."""

    control: Control = Field(
        default_factory=Control, description="The control plane, which also works when there are no workers"
    )
    workers: Workers = Field(default_factory=Workers, description="More machines for users' work")


class Terms(Model):
    """The terms of use, accepted by a person."""

    accepted_by: str = Field(min_length=3, description="Who accepted", examples=["Alice Example"])
    on: date = Field(description="When", examples=["2026-11-21"])


class Data(Model):
    """What kind of data is worked on: decides where the VRE may stand and what may go out."""

    class_: Literal["public", "anonymised", "pseudonymised", "sensitive"] = Field(
        default="public", alias="class", description="The most sensitive data in the VRE", examples=["anonymised"]
    )
    terms: Terms | None = Field(
        default=None,
        description="Accepted terms of use",
        examples=[{"accepted-by": "Alice Example", "on": "2026-11-21"}],
    )


class Outbound(Model):
    """What machines may reach outside. All else is closed."""

    resolvers: Networks = Field(
        default=(), description="Name servers; none: the network's own", examples=[["192.0.2.53/32"]]
    )
    time: Networks = Field(
        default=(), description="Time servers; none: the hypervisor's clock", examples=[["192.0.2.123/32"]]
    )
    mirrors: Networks = Field(
        default=(), description="Package mirrors, for the package manager only; none: any address, for it only",
        examples=[["192.0.2.80/32"]],
    )  # fmt: skip
    networks: Networks = Field(
        default=(), description="Other networks that machines may reach", examples=[["192.0.2.0/28"]]
    )


class Config(Model):
    """The whole stack file, below `vre:`."""

    name: StackName = Field(
        default="local", description="The VRE's name: part of every resource's name", examples=["phenome"]
    )
    cloud: Cloud = Field(description="Where the machines stand", examples=[{"provider": "libvirt"}])
    access: Access = Field(description="Who operates it", examples=[{"keys": [".vre/id_ed25519.pub"]}])
    edge: Edge = Field(default_factory=Direct, description="What stands in front", examples=[{"provider": "direct"}])
    machines: Machines = Field(
        default_factory=Machines, description="How many, how big", examples=[{"workers": {"count": 2}}]
    )
    data: Data = Field(default_factory=Data, description="What kind of data", examples=[{"class": "public"}])
    outbound: Outbound = Field(default_factory=Outbound, description="What may be reached outside")
    services: Services = Field(default_factory=Services, description="What runs in it", examples=[{"jupyter": {}}])


def public_cloud(cloud: Libvirt | Aws | Gcp | Azure | OpenStack) -> bool:
    """Say whether a cloud belongs to somebody else, so that only public or anonymised data may go there (P-79)."""
    return cloud.public if isinstance(cloud, OpenStack) else cloud.provider != "libvirt"


def conflicts(config: Config) -> list[Finding]:
    """Return what single keys cannot show: parts of the file that do not go together."""
    found = []
    if public_cloud(config.cloud) and config.data.class_ in {"pseudonymised", "sensitive"}:
        found.append(
            Finding(
                key="data.class",
                reason=f"{config.data.class_} data never goes to a public cloud ({config.cloud.provider})",
                example="cloud: {provider: libvirt}",
            )
        )
    if config.cloud.provider != "libvirt" and not config.access.operators:
        found.append(
            Finding(
                key="access.operators", reason="name the networks that operators come from", example="[203.0.113.0/24]"
            )
        )
    needed = FIRST_WORKER + config.machines.workers.count + 1
    if ip_network(config.cloud.network).num_addresses <= needed:
        found.append(
            Finding(
                key="cloud.network",
                reason=f"{config.cloud.network} has no room for {config.machines.workers.count} workers",
                example="network: 10.77.0.0/16",
            )
        )
    jupyter = config.services.jupyter
    if config.data.class_ == "sensitive" and jupyter and jupyter.egress:
        found.append(
            Finding(
                key="services.jupyter.egress",
                reason="sensitive data must have no way out through users' servers",
                example="egress: closed",
            )
        )
    return found


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a stack file as editors and the docs use it."""
    inner = Config.model_json_schema(by_alias=True)
    definitions = inner.pop("$defs", {})
    properties = {f"vre:{key}": value for key, value in inner["properties"].items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "VRE stack file",
        "type": "object",
        "properties": {
            "config": {
                "type": "object",
                "properties": properties,
                "required": [f"vre:{key}" for key in inner.get("required", [])],
                "patternProperties": {"^(?!vre:)": {}},
                "additionalProperties": False,
            },
            "encryptionsalt": {"type": "string"},
            "secretsprovider": {"type": "string"},
            "encryptedkey": {"type": "string"},
        },
        "$defs": definitions,
    }
