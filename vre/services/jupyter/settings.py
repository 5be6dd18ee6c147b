"""What a stack file may say about Jupyter."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from vre.fields import Networks, networks
from vre.model import Model

USER = re.compile(r"[a-z0-9]([a-z0-9._-]{0,38}[a-z0-9])?")
QUANTITY = re.compile(r"[1-9][0-9]{0,4}(Mi|Gi)")


def _user(value: str) -> str:
    if not USER.fullmatch(value) or ".." in value:
        raise ValueError("a user name has 1 to 40 of a-z, 0-9, dot, underscore, hyphen; letters or digits at its ends")
    return value


def _quantity(value: str) -> str:
    if not QUANTITY.fullmatch(value):
        raise ValueError("write a whole number and Mi or Gi, such as 512Mi or 2Gi")
    return value


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}")
    return values


def _closed(value: Any) -> Any:
    return () if value == "closed" else value


User = Annotated[str, AfterValidator(_user)]
Quantity = Annotated[str, AfterValidator(_quantity)]


def mebibytes(quantity: str) -> int:
    """Return a quantity such as 512Mi or 2Gi in MiB."""
    return int(quantity[:-2]) * (1024 if quantity.endswith("Gi") else 1)


class Jupyter(Model):
    """Notebooks in the browser: JupyterHub, one closed pod a user."""

    admin: User = Field(default="admin", description="Who adds users and sets their passwords", examples=["alice"])
    password: SecretStr | None = Field(
        default=None,
        description="The admin's password, as a Pulumi secret; none: a strong one is generated",
        examples=[{"secure": "v1:..."}],
    )
    users: Annotated[tuple[User, ...], AfterValidator(_distinct)] = Field(
        default=(), description="Users, each with a generated first password", examples=[["bob", "carol"]]
    )  # fmt: skip
    blocked: Annotated[tuple[User, ...], AfterValidator(_distinct)] = Field(
        default=(), description="Users who are shut out, from users or added by the admin", examples=[["mallory"]]
    )
    cpus: float = Field(default=1, ge=0.1, le=128, description="Processors a user's server may use at most")
    memory: Quantity = Field(default="1Gi", description="Memory a user's server may use at most", examples=["4Gi"])
    disk: Quantity = Field(default="1Gi", description="Size of a user's home, once it is made", examples=["20Gi"])
    servers: int = Field(default=20, ge=1, le=1000, description="How many users' servers may run at once")
    idle_minutes: int = Field(default=60, ge=5, le=10080, description="An idle server is stopped after this time")
    session_hours: int = Field(default=12, ge=1, le=336, description="A login lasts this long")
    terminal: bool = Field(default=True, description="Whether the interface offers a terminal")
    egress: Annotated[Networks, BeforeValidator(_closed)] = Field(
        default=(), description="Networks that users' servers may reach; closed: none", examples=[["192.0.2.80/32"]]
    )
    resolvers: Networks = Field(
        default=(), description="Name servers, inside egress, that users' servers may ask; none: names do not resolve",
        examples=[["192.0.2.53/32"]],
    )  # fmt: skip

    @model_validator(mode="after")
    def _consistent(self) -> "Jupyter":
        if self.admin in self.users:
            raise ValueError(f"{self.admin} is the admin already; take the name out of users")
        if self.admin in self.blocked:
            raise ValueError(f"{self.admin} is the admin and cannot be blocked; name another admin first")
        if mebibytes(self.memory) < 256:
            raise ValueError("memory below 256Mi is too little for a notebook server")
        for resolver in networks(self.resolvers):
            if resolver.num_addresses != 1:
                raise ValueError(f"{resolver} is no single name server; write its address with /32 or /128")
            if not any(one.version == resolver.version and resolver.overlaps(one) for one in networks(self.egress)):
                raise ValueError(f"the name server {resolver} lies in no network of egress")
        return self
