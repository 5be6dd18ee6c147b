"""A cloud as small as can be, for the tests of the frame: networks, subnets and keys under OpenStack's SDK."""

from collections.abc import Iterable
from ipaddress import ip_network
from typing import ClassVar

from tests.engine.simulated.store import Thing
from tests.engine.simulated.table import Call, CloudError, Kind, Provider
from vre.errors import Finding
from vre.provider.handler import Props

NETWORK = "openstack:networking/network:Network"


class Network(Kind):
    """A network."""

    token = NETWORK
    named = "name"
    known_by = ("name",)
    replace_on = frozenset({"region"})

    def outputs(self, call: Call) -> Props:
        """Give the attributes that the cloud makes up."""
        return {"region": call.config.get("region", "RegionOne"), "tenantId": "0" * 32, "allTags": []}


class Subnet(Kind):
    """A range of addresses in a network."""

    token = "openstack:networking/subnet:Subnet"
    named = "name"
    replace_on = frozenset({"networkId", "cidr"})
    refers: ClassVar = {"networkId": NETWORK}

    def check(self, inputs: Props) -> Iterable[Finding]:
        """Refuse what is no range."""
        if isinstance(inputs.get("cidr"), str):
            try:
                ip_network(inputs["cidr"])
            except ValueError as error:
                yield Finding(key="cidr", reason=str(error))

    def outputs(self, call: Call) -> Props:
        """Give the gateway."""
        return {"gatewayIp": str(next(ip_network(call.inputs["cidr"]).hosts()))}


class Keypair(Kind):
    """A public key, whose name is its id."""

    token = "openstack:compute/keypair:Keypair"
    named = "name"
    unique = ("name",)
    replace_on = frozenset({"name", "publicKey"})
    secret_outputs = frozenset({"privateKey"})

    def identify(self, call: Call) -> str:
        """Take the name."""
        return str(call.inputs["name"])

    def outputs(self, call: Call) -> Props:
        """Give a fingerprint."""
        return {"fingerprint": "aa:bb", "privateKey": ""}


def find_network(call: Call) -> Props:
    """Find a network by its name."""
    found = call.find(NETWORK, call.inputs["name"])
    if found is None:
        raise CloudError("Your query returned no results. Please change your search criteria and try again.")
    return {**call.inputs, "id": found.id, "adminStateUp": "true"}


class Toy(Provider):
    """The cloud."""

    name = "openstack"
    sdk = "pulumi_openstack"
    kinds = (Network, Subnet, Keypair)
    functions: ClassVar = {"openstack:networking/getNetwork:getNetwork": find_network}
    replace_on = frozenset({"region"})

    def configure(self, config: Props) -> None:
        """Refuse one password."""
        if config.get("password") == "wrong":
            raise CloudError("Authentication failed")

    def given(self, config: Props) -> Iterable[Thing]:
        """Have a public network."""
        yield Thing(type=NETWORK, id="public-network-id", inputs={"name": "public"}, outputs={"name": "public"})


PROVIDER = Toy
