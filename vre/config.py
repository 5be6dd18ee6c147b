"""What a user may write in a stack file: defaults, rules, and errors that name the key, the reason and an example.

The words are the same on every cloud. Frozen models; unknown keys are refused.
"""

import itertools
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from vre.cloud import Cloud
from vre.fields import (
    Archive,
    Day,
    Directory,
    Domain,
    Email,
    NameServer,
    Networks,
    PublicKey,
    Repository,
    StackName,
    Window,
    Zone,
)
from vre.model import Model
from vre.services.settings import Services


class Terms(Model):
    """The terms of use, accepted by a person."""

    accepted_by: str = Field(min_length=3, description="Who accepted", examples=["Alice Example"])
    on: Day = Field(description="When", examples=["2026-11-21"])


class Acme(Model):
    """A certificate by a public authority that speaks ACME, the names proven in DNS by the launch."""

    terms: Terms = Field(
        description="The authority's terms of service, accepted by a person",
        examples=[{"accepted-by": "Alice Example", "on": "2026-11-21"}],
    )
    directory: Directory = Field(
        default="https://acme-v02.api.letsencrypt.org/directory", description="The authority's directory",
        examples=["https://acme.example.org/directory"],
    )  # fmt: skip
    contact: Email | None = Field(
        default=None, description="Whom the authority may write to", examples=["operators@example.org"]
    )
    server: NameServer | None = Field(
        default=None, description="The name server that takes dynamic updates of the domain; none: it is a zone at "
        "Cloudflare", examples=["192.0.2.53"],
    )  # fmt: skip


class Direct(Model):
    """Users come straight to the VRE; its certificate is from the stack's own authority, or by ACME."""

    provider: Literal["direct"] = Field(default="direct", description="What stands in front", examples=["direct"])
    domain: Domain | None = Field(
        default=None, description="The zone below which the VRE has its name; none: it is reached by its address",
        examples=["example.org"],
    )  # fmt: skip
    networks: Networks = Field(
        default=(), description="Who may open the pages; none: the operators' networks", examples=[["198.51.100.0/24"]]
    )
    acme: Acme | None = Field(
        default=None, description="A certificate that every browser trusts; none: the stack's own authority signs",
        examples=[{"terms": {"accepted-by": "Alice Example", "on": "2026-11-21"}}],
    )  # fmt: skip


class Cloudflare(Model):
    """Cloudflare's proxy stands in front: http(s) is admitted from its ranges only."""

    provider: Literal["cloudflare"] = Field(description="What stands in front", examples=["cloudflare"])
    zone: Domain = Field(
        description="The zone: the VRE is NAME.ZONE, a service SERVICE-NAME.ZONE", examples=["example.org"]
    )
    managed_rules: bool = Field(
        default=False, description="Run Cloudflare's managed rules for the VRE's names: for zones of a paid plan",
        examples=[True],
    )  # fmt: skip
    rate_limit: bool = Field(
        default=True, description="One rate-limiting rule, for logins; off where the zone's plan has room for no more",
        examples=[False],
    )  # fmt: skip


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


class Native(Model):
    """A size by the cloud's own word for it."""

    type: str = Field(min_length=2, description="The cloud's own name of a size", examples=["m7i.large"])


class Shape(Model):
    """A size in numbers."""

    cpus: int = Field(ge=1, le=128, description="Virtual processors", examples=[2])
    memory: float = Field(ge=1.5, le=2048, description="Memory in GiB", examples=[4])


def _kind(size: Any) -> str:
    """Say which way a size is written."""
    if isinstance(size, Shape | Native):
        return type(size).__name__.lower()
    return ("native" if "type" in size else "shape") if isinstance(size, dict) else "word"


Size = Annotated[
    Annotated[Literal["small", "medium", "large"], Tag("word")]
    | Annotated[Shape, Tag("shape")]
    | Annotated[Native, Tag("native")],
    Discriminator(_kind),
]
SIZE_TAGS = frozenset({"word", "shape", "native"})
SHAPES = {
    "small": Shape(cpus=2, memory=4),
    "medium": Shape(cpus=4, memory=16),
    "large": Shape(cpus=16, memory=64),
}


def shape(size: str | Shape) -> Shape:
    """Return a portable size in numbers: the same words mean the same on every cloud."""
    return SHAPES[size] if isinstance(size, str) else size


SIZES = "small, medium, large, or cpus and memory, or a cloud's own type"


class Control(Model):
    """The machine with the control plane and the ingress."""

    size: Size = Field(default="small", description=SIZES)
    disk: int = Field(default=12, ge=8, le=2048, description="System disk in GiB; may grow later")
    data: int = Field(default=10, ge=1, le=65536, description="Data disk for homes and volumes in GiB; may grow later")


class Workers(Model):
    """Machines that only run workloads."""

    size: Size = Field(default="small", description=SIZES)
    count: int = Field(default=0, ge=0, le=100, description="How many")
    without: Annotated[tuple[Annotated[int, Field(ge=1, le=200)], ...], Field(max_length=100)] = Field(
        default=(), description="Numbers that are left out: so worker 2 of 3 goes, and 1 and 3 stay", examples=[[2]]
    )
    disk: int = Field(default=12, ge=8, le=2048, description="System disk in GiB")
    data: int = Field(default=10, ge=1, le=65536, description="Data disk in GiB")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the workers, lowest first."""
        kept = (number for number in itertools.count(1) if number not in self.without)
        return tuple(itertools.islice(kept, self.count))


class Machines(Model):
    """The machines of the VRE."""

    control: Control = Field(
        default_factory=Control, description="The control plane, which also works when there are no workers"
    )
    workers: Workers = Field(default_factory=Workers, description="More machines for users' work")


class Approval(Model):
    """An ethics committee's approval of the work on the data."""

    body: str = Field(min_length=3, description="Who approved", examples=["Ethics committee of Example University"])
    reference: str = Field(min_length=1, description="Its number or mark", examples=["2026/117"])
    until: Day = Field(description="The last day on which it is valid", examples=["2028-12-31"])


class Data(Model):
    """What kind of data is worked on: decides where the VRE may stand and what may go out."""

    class_: Literal["public", "anonymised", "pseudonymised", "sensitive"] = Field(
        default="public", alias="class", description="The most sensitive data in the VRE", examples=["anonymised"]
    )
    approval: Approval | None = Field(
        default=None, description="The ethics approval; sensitive data needs one",
        examples=[{"body": "Ethics committee of Example University", "reference": "2026/117", "until": "2028-12-31"}],
    )  # fmt: skip


class Outbound(Model):
    """What machines may reach outside. All else is closed."""

    resolvers: Networks = Field(
        default=(),
        description="Name servers, at least one by its address; none: the network's own",
        examples=[["192.0.2.53/32"]],
    )
    time: Networks = Field(
        default=(),
        description="Time servers, at least one by its address; none: the hypervisor's clock",
        examples=[["192.0.2.123/32"]],
    )
    mirrors: Networks = Field(
        default=(), description="Package mirrors, for the package manager only; none: any address, for it only",
        examples=[["192.0.2.80/32"]],
    )  # fmt: skip
    networks: Networks = Field(
        default=(), description="Other networks that machines may reach", examples=[["192.0.2.0/28"]]
    )


class Patches(Model):
    """How machines keep themselves patched: every 24 hours, whatever is written here."""

    window: Window = Field(
        default="02:00-05:00", description="When machines may reboot, every day", examples=["22:00-04:00"]
    )
    zone: Zone = Field(default="UTC", description="By whose clocks", examples=["Europe/Berlin"])
    reboot: Literal["window", "by-hand"] = Field(
        default="window", description="by-hand: `vre status` says that a reboot waits, and a person does it",
        examples=["by-hand"],
    )  # fmt: skip
    repository: Repository | None = Field(
        default=None, description="A signed repository with newer patch levels of Kubernetes and container images; "
        "none: programs come with a new image, container images with `vre up`", examples=["https://packages.example.org/vre"],
    )  # fmt: skip
    key: str = Field(
        default="", description="Path of the repository's public key; empty: this project's own",
        examples=["packages.asc"],
    )  # fmt: skip
    from_: Literal["tested", "newest"] | None = Field(
        default=None, alias="from", description="Which state of Debian's archive machines take: the one that the "
        "repository announces as tested, or what Debian has now; none: tested where an archive is named",
        examples=["newest"],
    )  # fmt: skip
    archive: Archive | None = Field(
        default=None, description="Where the archive's old states are, {archive} for debian and debian-security, "
        "{moment} for a time",
        examples=["https://mirror.example.org/{archive}/{moment}"],
    )  # fmt: skip

    @property
    def takes(self) -> Literal["tested", "newest"]:
        """Which state of Debian's archive machines take."""
        return self.from_ or ("tested" if self.archive else "newest")


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
    patches: Patches = Field(
        default_factory=Patches, description="When machines may reboot", examples=[{"window": "22:00-04:00"}]
    )
    services: Services = Field(default_factory=Services, description="What runs in it", examples=[{"jupyter": {}}])


def public_authority(config: Config) -> Acme | None:
    """Return what is asked of a public authority; nothing where the certificate comes from elsewhere."""
    return config.edge.acme if isinstance(config.edge, Direct) else None


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
