'''Simulated clouds for the real engine: plugins on the real protocol, for the official SDKs.

How a cloud is written. One module a cloud, with a class for each resource type and a function for each data source:

    from typing import ClassVar
    from tests.engine.simulated.table import Call, CloudError, Kind, Provider, hexadecimal

    class Vpc(Kind):
        """An own network."""
        token = "aws:ec2/vpc:Vpc"
        replace_on = frozenset({"cidrBlock"})           # paths; `networkInterfaces[*].subnet` for inside lists
        def identify(self, call: Call) -> str:
            return hexadecimal(17, "vpc-")
        def outputs(self, call: Call) -> Props:         # call.inputs, call.id, call.config, call.find(token, id)
            return {"arn": f"arn:aws:ec2:...:vpc/{call.id}", "mainRouteTableId": ...}

    class Subnet(Kind):
        """A range of it."""
        token = "aws:ec2/subnet:Subnet"
        refers: ClassVar = {"vpcId": Vpc.token}         # creating refuses ids that do not exist,
        ...                                             # deleting a Vpc refuses while a Subnet refers to it

    class Aws(Provider):
        """The cloud."""
        name, sdk = "aws", "pulumi_aws"
        kinds = (Vpc, Subnet)
        functions: ClassVar = {"aws:ec2/getAmi:getAmi": find_image}     # def find_image(call) -> outputs
        def missing(self, path, token, value): return CloudError(f"InvalidVpcID.NotFound: ...")
        def in_use(self, thing, users): return CloudError("DependencyViolation: ...")

    PROVIDER = Aws

What the frame does. `check` refuses unknown, missing and ill-typed properties, from the SDK itself (schema.py). Diffs
are per path. References, unique names, made-up names, unknowns, secrets, previews, refresh and import work without
further code. Outputs that the SDK does not know are a fault of the simulation. Optional hooks of a Kind: `check`,
`defaults`, `create`, `read`, `update`, `delete`, `references` (table.py), to put a backend behind it.

What stands in the cloud, the journal of calls and the planned faults are in one file (store.py):

    cloud.resources("aws:ec2/vpc:Vpc")                  # Thing(type, id, urn, name, inputs, outputs)
    cloud.journal("create")                             # Entry(method, type, urn, id, told, outcome, fault)
    cloud.change(vpc.type, vpc.id, tags={"by": "hand"})  # drift;   cloud.remove(vpc.type, vpc.id)
    cloud.plan(Fault(what="lose", method="create", type="aws:ec2/instance:Instance"))

How it is used. `simulated(checkout, {"aws": "tests.engine.simulated.aws"})` writes the plugins into a clone's
Pulumi.yaml and returns the checkout to run the engine in, and its `Cloud`. The project's own plugin is replaced as well
(machines.py): its real handlers, but nothing is done on a machine; what would have been sent there is in the cloud's
file, too. lifecycle.py drives a whole life.
'''
