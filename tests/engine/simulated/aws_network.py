"""AWS's networks: ranges, routes, gateways, public addresses."""

import secrets
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import ClassVar

from tests.engine.simulated.aws_api import (
    CARD,
    EGRESS_ONLY,
    EIP,
    INSTANCE,
    INTERNET,
    NAT,
    SUBNET,
    TABLE,
    VPC,
    Api,
    changed,
    ec2,
)
from tests.engine.simulated.table import Call, CloudError, Kind
from vre.errors import Finding
from vre.provider.handler import Props

PUBLIC = ip_network("198.51.100.0/24")


def free(call: Call, subnet: str, address: str) -> None:
    """Refuse an address that is not in the subnet, or that AWS keeps for itself: the first four and the last."""
    network = ip_network(ec2(call).describe_subnets(SubnetIds=[subnet])["Subnets"][0]["CidrBlock"])
    if ip_address(address) not in network:
        raise CloudError(
            f"api error InvalidParameterValue: Address {address} does not fall within the subnet {network}"
        )
    if address in {str(network[number]) for number in (0, 1, 2, 3, -1)}:
        raise CloudError(f"api error InvalidParameterValue: Address {address} is in subnet's reserved address range")


def attached(call: Call, vpc: str) -> None:
    """Refuse what needs an internet gateway where there is none."""
    wanted = [{"Name": "attachment.vpc-id", "Values": [vpc]}]
    if not ec2(call).describe_internet_gateways(Filters=wanted)["InternetGateways"]:
        raise CloudError(f"api error Gateway.NotAttached: network {vpc} has no Internet gateway attached")


class Vpc(Api):
    """A network."""

    token = VPC
    listing = ("describe_vpcs", "VpcIds", "Vpcs")
    replace_on = frozenset({"cidrBlock"})

    def check(self, inputs: Props) -> Iterable[Finding]:
        """Refuse a network that is too wide or too narrow."""
        if isinstance(inputs.get("cidrBlock"), str) and not 16 <= ip_network(inputs["cidrBlock"]).prefixlen <= 28:
            yield Finding(key="cidrBlock", reason="InvalidVpc.Range: the block must be between /16 and /28")

    def make(self, call: Call) -> Props:
        """Make it."""
        wanted = bool(call.inputs.get("assignGeneratedIpv6CidrBlock"))
        made = ec2(call).create_vpc(CidrBlock=call.inputs["cidrBlock"], AmazonProvidedIpv6CidrBlock=wanted)["Vpc"]
        call.id = made["VpcId"]
        block = str(ip_network(made["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"])) if wanted else ""
        return {"ipv6CidrBlock": block, "arn": f"arn:aws:ec2:{call.config['region']}:123456789012:vpc/{call.id}"}

    def remove(self, call: Call) -> None:
        """Remove it."""
        ec2(call).delete_vpc(VpcId=call.id)


class Subnet(Api):
    """A range of it, in one zone."""

    token = SUBNET
    listing = ("describe_subnets", "SubnetIds", "Subnets")
    replace_on = frozenset({"vpcId", "availabilityZone", "cidrBlock"})
    refers: ClassVar = {"vpcId": VPC}

    def make(self, call: Call) -> Props:
        """Make it."""
        names = {"vpcId": "VpcId", "cidrBlock": "CidrBlock", "ipv6CidrBlock": "Ipv6CidrBlock"}
        made = ec2(call).create_subnet(
            AvailabilityZone=call.inputs["availabilityZone"], **{wire: call.inputs[key] for key, wire in names.items()}
        )
        call.id = made["Subnet"]["SubnetId"]
        return {"arn": made["Subnet"]["SubnetArn"]}

    def seen(self, call: Call, real: Props) -> Props:
        """Return whether machines in it are given public addresses."""
        return {"mapPublicIpOnLaunch": real["MapPublicIpOnLaunch"]}

    def change(self, call: Call) -> Props:
        """Change whether machines in it are given public addresses."""
        public = {"Value": bool(call.inputs.get("mapPublicIpOnLaunch"))}
        ec2(call).modify_subnet_attribute(SubnetId=call.id, MapPublicIpOnLaunch=public)
        return {}

    def remove(self, call: Call) -> None:
        """Remove it."""
        ec2(call).delete_subnet(SubnetId=call.id)


class InternetGateway(Api):
    """The way to the internet and back."""

    token = INTERNET
    listing = ("describe_internet_gateways", "InternetGatewayIds", "InternetGateways")
    refers: ClassVar = {"vpcId": VPC}

    def make(self, call: Call) -> Props:
        """Make it."""
        call.id = ec2(call).create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2(call).attach_internet_gateway(InternetGatewayId=call.id, VpcId=call.inputs["vpcId"])
        return {}

    def change(self, call: Call) -> Props:
        """Move it to another network."""
        if changed(call, "vpcId"):
            ec2(call).detach_internet_gateway(InternetGatewayId=call.id, VpcId=call.old_inputs["vpcId"])
            ec2(call).attach_internet_gateway(InternetGatewayId=call.id, VpcId=call.inputs["vpcId"])
        return {}

    def remove(self, call: Call) -> None:
        """Remove it."""
        ec2(call).detach_internet_gateway(InternetGatewayId=call.id, VpcId=call.state["vpcId"])
        ec2(call).delete_internet_gateway(InternetGatewayId=call.id)


class EgressOnly(Api):
    """The way out for IPv6."""

    token = EGRESS_ONLY
    listing = (
        "describe_egress_only_internet_gateways", "EgressOnlyInternetGatewayIds", "EgressOnlyInternetGateways",
    )  # fmt: skip
    replace_on = frozenset({"vpcId"})
    refers: ClassVar = {"vpcId": VPC}

    def make(self, call: Call) -> Props:
        """Make it."""
        made = ec2(call).create_egress_only_internet_gateway(VpcId=call.inputs["vpcId"])
        call.id = made["EgressOnlyInternetGateway"]["EgressOnlyInternetGatewayId"]
        return {}

    def remove(self, call: Call) -> None:
        """Remove it."""
        ec2(call).delete_egress_only_internet_gateway(EgressOnlyInternetGatewayId=call.id)


class Nat(Api):
    """The way out for IPv4."""

    token = NAT
    listing = ("describe_nat_gateways", "NatGatewayIds", "NatGateways")
    replace_on = frozenset({"subnetId", "allocationId", "privateIp"})
    refers: ClassVar = {"subnetId": SUBNET, "allocationId": EIP}

    def look(self, call: Call) -> Props | None:
        """Return it, unless it is deleted: AWS still names such ones for an hour."""
        found = super().look(call)
        return None if found is None or found["State"] == "deleted" else found

    def make(self, call: Call) -> Props:
        """Make it."""
        free(call, call.inputs["subnetId"], call.inputs["privateIp"])
        attached(call, ec2(call).describe_subnets(SubnetIds=[call.inputs["subnetId"]])["Subnets"][0]["VpcId"])
        made = ec2(call).create_nat_gateway(
            SubnetId=call.inputs["subnetId"], AllocationId=call.inputs["allocationId"],
            PrivateIpAddress=call.inputs["privateIp"],
        )["NatGateway"]  # fmt: skip
        call.id = made["NatGatewayId"]
        return {}

    def remove(self, call: Call) -> None:
        """Remove it, which frees its address: moto forgets that."""
        ec2(call).delete_nat_gateway(NatGatewayId=call.id)
        for each in ec2(call).describe_addresses(AllocationIds=[call.state["allocationId"]])["Addresses"]:
            if each.get("AssociationId"):
                ec2(call).disassociate_address(AssociationId=each["AssociationId"])


class Table(Api):
    """Routes."""

    token = TABLE
    listing = ("describe_route_tables", "RouteTableIds", "RouteTables")
    replace_on = frozenset({"vpcId"})
    refers: ClassVar = {"vpcId": VPC}

    def make(self, call: Call) -> Props:
        """Make it."""
        call.id = ec2(call).create_route_table(VpcId=call.inputs["vpcId"])["RouteTable"]["RouteTableId"]
        return {}

    def remove(self, call: Call) -> None:
        """Remove it."""
        ec2(call).delete_route_table(RouteTableId=call.id)


class Route(Api):
    """One of them."""

    token = "aws:ec2/route:Route"
    taggable = False
    replace_on = frozenset({"routeTableId", "destinationCidrBlock", "destinationIpv6CidrBlock"})
    unique = ("routeTableId", "destinationCidrBlock", "destinationIpv6CidrBlock")
    names: ClassVar = {
        "destinationCidrBlock": "DestinationCidrBlock",
        "destinationIpv6CidrBlock": "DestinationIpv6CidrBlock",
        "gatewayId": "GatewayId",
        "natGatewayId": "NatGatewayId",
        "egressOnlyGatewayId": "EgressOnlyInternetGatewayId",
    }
    refers: ClassVar = {
        "routeTableId": TABLE, "gatewayId": INTERNET, "natGatewayId": NAT, "egressOnlyGatewayId": EGRESS_ONLY,
    }  # fmt: skip
    # A route whose gateway is gone leads nowhere; it does not hold the gateway.
    frees = frozenset({"routeTableId", "gatewayId", "natGatewayId", "egressOnlyGatewayId"})

    def _to(self, props: Props, *keys: str) -> Props:
        return {self.names[key]: props[key] for key in keys or self.names if props.get(key)}

    def _destination(self, props: Props) -> Props:
        return self._to(props, "destinationCidrBlock", "destinationIpv6CidrBlock")

    def make(self, call: Call) -> Props:
        """Make it."""
        table = call.inputs["routeTableId"]
        ec2(call).create_route(RouteTableId=table, **self._to(call.inputs))
        call.id = f"r-{table}-{next(iter(self._destination(call.inputs).values()))}"
        return {"state": "active", "origin": "CreateRoute"}

    def look(self, call: Call) -> Props | None:
        """Return it."""
        tables = ec2(call).describe_route_tables(
            Filters=[{"Name": "route-table-id", "Values": [call.state["routeTableId"]]}]
        )["RouteTables"]
        wanted = self._destination(call.state).items()
        return next((each for table in tables for each in table["Routes"] if wanted <= each.items()), None)

    def change(self, call: Call) -> Props:
        """Lead elsewhere."""
        ec2(call).replace_route(RouteTableId=call.inputs["routeTableId"], **self._to(call.inputs))
        return {}

    def remove(self, call: Call) -> None:
        """Remove it."""
        ec2(call).delete_route(RouteTableId=call.state["routeTableId"], **self._destination(call.state))


class SubnetRoutes(Api):
    """Which routes a subnet has."""

    token = "aws:ec2/routeTableAssociation:RouteTableAssociation"
    taggable = False
    replace_on = frozenset({"subnetId"})
    refers: ClassVar = {"routeTableId": TABLE, "subnetId": SUBNET}
    unique = ("subnetId",)

    def make(self, call: Call) -> Props:
        """Make it."""
        table, subnet = call.inputs["routeTableId"], call.inputs["subnetId"]
        call.id = ec2(call).associate_route_table(RouteTableId=table, SubnetId=subnet)["AssociationId"]
        return {}

    def look(self, call: Call) -> Props | None:
        """Return it."""
        tables = ec2(call).describe_route_tables()["RouteTables"]
        every = [each for table in tables for each in table["Associations"]]
        return next((each for each in every if each.get("RouteTableAssociationId") == call.id), None)

    def remove(self, call: Call) -> None:
        """Remove it."""
        ec2(call).disassociate_route_table(AssociationId=call.id)


class Eip(Api):
    """A public address."""

    token = EIP
    listing = ("describe_addresses", "AllocationIds", "Addresses")
    replace_on = frozenset({"domain"})

    def make(self, call: Call) -> Props:
        """Make it, of those that are for documentation: moto would give one of this machine's own."""
        taken = {each["PublicIp"] for each in ec2(call).describe_addresses()["Addresses"]}
        address = secrets.choice([each for each in map(str, PUBLIC.hosts()) if each not in taken])
        made = ec2(call).allocate_address(Domain="vpc", Address=address)
        call.id = made["AllocationId"]
        return {"allocationId": call.id, "publicIp": made["PublicIp"]}

    def remove(self, call: Call) -> None:
        """Remove it."""
        ec2(call).release_address(AllocationId=call.id)


class EipAssociation(Api):
    """Where a public address leads."""

    token = "aws:ec2/eipAssociation:EipAssociation"
    taggable = False
    replace_on = frozenset({"allocationId", "networkInterfaceId", "instanceId"})
    refers: ClassVar = {"allocationId": EIP, "networkInterfaceId": CARD, "instanceId": INSTANCE}

    def make(self, call: Call) -> Props:
        """Make it. Without an internet gateway, AWS refuses; asked twice for the same, it does nothing more."""
        card = call.inputs["networkInterfaceId"]
        vpc = ec2(call).describe_network_interfaces(NetworkInterfaceIds=[card])["NetworkInterfaces"][0]["VpcId"]
        attached(call, vpc)
        own = call.inputs["allocationId"]
        [now] = ec2(call).describe_addresses(AllocationIds=[own])["Addresses"]
        if now.get("AssociationId") and now.get("NetworkInterfaceId") == card:
            call.id = now["AssociationId"]
        else:
            call.id = ec2(call).associate_address(AllocationId=own, NetworkInterfaceId=card)["AssociationId"]
        return {"publicIp": self._address(call)["PublicIp"]}

    def _address(self, call: Call) -> Props:
        every = ec2(call).describe_addresses()["Addresses"]
        return next((each for each in every if each.get("AssociationId") == call.id), {})

    def look(self, call: Call) -> Props | None:
        """Return it."""
        return self._address(call) or None

    def remove(self, call: Call) -> None:
        """Remove it."""
        ec2(call).disassociate_address(AssociationId=call.id)


KINDS: tuple[type[Kind], ...] = (
    Vpc, Subnet, InternetGateway, EgressOnly, Nat, Table, Route, SubnetRoutes, Eip, EipAssociation,
)  # fmt: skip
