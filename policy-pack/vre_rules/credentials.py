"""What a machine could do to the cloud: nothing. And how its metadata service answers."""

from collections.abc import Mapping

from vre_rules.resource import Report, Resource, Rule

AWS_MACHINES = (
    "aws:ec2/instance:Instance",
    "aws:ec2/spotInstanceRequest:SpotInstanceRequest",
    "aws:ec2/launchTemplate:LaunchTemplate",
)
IDENTITIES: Mapping[str, str] = {
    **dict.fromkeys(AWS_MACHINES, "iamInstanceProfile"),
    "gcp:compute/instance:Instance": "serviceAccount",
    "gcp:compute/instanceTemplate:InstanceTemplate": "serviceAccount",
    "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate": "serviceAccount",
    "azure-native:compute:VirtualMachine": "identity",
    "azure-native:compute:VirtualMachineScaleSet": "identity",
}
"""What gives a machine credentials, by the kind of machine."""
HOPS = 1
"""As far as the answers of the metadata service get: to the machine, and to no pod on it."""


def no_identity(resource: Resource, report: Report) -> None:
    """Refuse credentials on a machine: whoever gets onto it would have them."""
    key = IDENTITIES.get(resource.kind)
    if key and resource[key].given and not (key == "identity" and resource[key]["type"].value == "None"):
        report(f"{key}: whoever gets onto the machine has these credentials; leave it out")


def tokens(resource: Resource, report: Report) -> None:
    """Refuse a metadata service that answers whoever asks: a tricked program on the machine is enough then."""
    if resource.kind not in AWS_MACHINES:
        return
    options = resource["metadataOptions"]
    if options["httpEndpoint"].value == "disabled":
        return
    if not options["httpTokens"].may_be("required"):
        report(f"{options.path}.httpTokens: IMDSv1 is let in; httpTokens: required")
    if not options["httpPutResponseHopLimit"].may_be(HOPS):
        report(f"{options.path}.httpPutResponseHopLimit: pods get answers, too; httpPutResponseHopLimit: {HOPS}")


RULES = (
    Rule(
        name="no-instance-credentials",
        description="No machine has credentials of the cloud",
        check=no_identity,
    ),
    Rule(
        name="metadata-tokens",
        description="The metadata service answers only who asks for a token first (IMDSv2), and no pod",
        check=tokens,
    ),
)
