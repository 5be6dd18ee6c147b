"""Bad stack files: every fault at once, each with its key, line, reason and an example, and never what was written."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.oracle.configs import data
from vre.config import Config
from vre.errors import Refused
from vre.fields import networks, servers
from vre.load import load
from vre.stackfile import parse

FILE = Path("stacks/Pulumi.test.yaml")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO7pYHNTKlbjhJcKVYz4oTCdoBH/V1KdbSFHwMcjSSo2 alice"
OPENSTACK = {"provider": "openstack", "region": "r", "external-network": "x", "volume-type": "LUKS"}
GOOD: dict[str, Any] = {"cloud": {"provider": "libvirt"}, "access": {"keys": [KEY]}}


def read(values: dict[str, Any]) -> Config:
    text = yaml.safe_dump({"config": {f"vre:{key}": value for key, value in values.items()}}, sort_keys=False)
    return load(parse(text, FILE))


def refused(**changes: Any) -> str:
    with pytest.raises(Refused) as told:
        read({**GOOD, **changes})
    return str(told.value)


def test_a_minimal_file_is_enough() -> None:
    config = read(GOOD)
    assert (config.name, config.machines.control.disk, config.services.jupyter) == ("local", 12, None)


def test_every_fault_is_told_at_once_in_the_order_of_the_file() -> None:
    with pytest.raises(Refused) as told:
        read({"name": "Bad Name", "cloud": {"provider": "libvirt", "network": "10.0.0.1/8"}, "acess": {}})
    findings = told.value.findings
    assert [finding.key for finding in findings] == ["vre:access", "vre:name", "vre:cloud.network", "vre:acess"]
    assert "nothing was changed" in str(told.value)


def test_a_fault_has_key_line_reason_and_example() -> None:
    with pytest.raises(Refused) as told:
        read({**GOOD, "machines": {"control": {"disk": 2}}})
    [finding] = told.value.findings
    assert finding.key == "vre:machines.control.disk"
    assert finding.where == "stacks/Pulumi.test.yaml:10"
    assert "8" in finding.reason


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"machnes": {}}, "did you mean machines?"),
        ({"cloud": {"provider": "libvirt", "netwrok": "10.0.0.0/24"}}, "did you mean network?"),
        ({"services": {"jupyer": {}}}, "did you mean jupyter?"),
        ({"services": {"jupyter": {"idle-minute": 5}}}, "did you mean idle-minutes?"),
        (
            {"cloud": {"provider": "libvirt", "region": "x"}},
            "vre:cloud.region: is a key of aws, gcp, azure, openstack, not",
        ),
        ({"cloud": {"provider": "amazon"}}, "vre:cloud: no such provider; there are: 'libvirt', 'aws'"),
        ({"cloud": {}}, "missing provider"),
        ({"cloud": "libvirt"}, "vre:cloud: has keys of its own below it"),
        ({"cloud": {"provider": "aws"}}, "vre:cloud.region: missing\n    for example: region: eu-west-1"),
        ({"access": {}}, "vre:access.keys: missing"),
        ({"access": {"keys": []}}, "vre:access.keys: needs at least 1\n"),
        ({"access": {"keys": KEY}}, "vre:access.keys"),
        ({"access": {"keys": [KEY], "operators": ["0.0.0.0/0"]}}, "is everybody"),
        ({"access": {"keys": [KEY], "operators": ["::/0"]}}, "is everybody"),
        ({"access": {"keys": [KEY], "operators": ["203.0.113.7/24"]}}, "did you mean 203.0.113.0/24?"),
        ({"access": {"keys": [KEY], "operators": ["203.0.113.0/24", "203.0.113.128/25"]}}, "overlap"),
        ({"access": {"keys": [KEY], "operators": ["203.0.113"]}}, "is no network"),
        ({"access": {"keys": ["-----BEGIN OPENSSH PRIVATE KEY-----\nx"]}}, "this is a PRIVATE key"),
        ({"access": {"keys": ["ssh-dss AAAA"]}}, "no public SSH key"),
        (
            {"access": {"keys": [KEY[:60]]}},
            "1 fault, nothing was changed:\n  stacks/Pulumi.test.yaml:6: vre:access.keys.0",
        ),
        ({"access": {"keys": [KEY[:60]]}}, "cut off"),
        ({"access": {"keys": ["ssh-ed25519 AAAA"]}}, "cut off"),
        ({"access": {"keys": [KEY.replace("ssh-ed25519", "ssh-rsa", 1)]}}, "differ"),
        ({"name": "a" * 21}, "1 to 20"),
        ({"name": "a--b"}, "single hyphens"),
        ({"name": 7}, "vre:name"),
        ({"edge": {"provider": "direct", "domain": "Example.org"}}, "no domain name"),
        ({"edge": {"provider": "direct", "domain": "localhost"}}, "no domain name"),
        ({"edge": {"provider": "cloudflare"}}, "vre:edge.zone: missing"),
        ({"cloud": {"provider": "libvirt", "network": "192.168.0.0/30"}}, "/26 or wider"),
        ({"cloud": {"provider": "libvirt", "network": "fd00::/64"}}, "is no IPv4 network"),
        ({"cloud": {"provider": "libvirt", "network6": "10.0.0.0/24"}}, "is no IPv6 network"),
        ({"cloud": {"provider": "libvirt", "network6": "fd76::/125"}}, "vre:cloud.network6: an IPv6 network is a /64"),
        ({"cloud": {**OPENSTACK, "public": True, "network6": "fd76::/125"}}, "vre:cloud.network6: an IPv6 network"),
        ({"cloud": {"provider": "libvirt", "network": "127.0.0.0/24"}}, "in 127.0.0.0/8 (loopback); take a private"),
        ({"cloud": {"provider": "libvirt", "network": "224.0.0.0/24"}}, "(multicast)"),
        ({"cloud": {"provider": "libvirt", "network": "169.254.0.0/16"}}, "(link-local)"),
        ({"cloud": {"provider": "aws", "region": "r", "network": "0.0.0.0/0"}}, "no machine has an address of its own"),
        ({"cloud": {"provider": "libvirt", "network6": "fe80::/64"}}, "vre:cloud.network6: no machine has an address"),
        ({"cloud": {"provider": "libvirt", "network6": "ff02::/64"}}, "(multicast)"),
        ({"cloud": {"provider": "libvirt", "network6": "::/0"}}, "(reserved, with loopback)"),
        ({"outbound": {"resolvers": ["192.0.2.0/28"]}}, "vre:outbound.resolvers: machines ask single servers"),
        ({"outbound": {"time": ["192.0.2.0/28", "2001:db8::/64"]}}, "vre:outbound.time: machines ask single servers"),
        ({"machines": {"control": {"size": "huge"}}}, "size: is 'small', 'medium' or 'large', or cpus and memory"),
        (
            {"machines": {"control": {"size": {"cpus": 0, "memory": 4}}}},
            "1 fault, nothing was changed:\n  stacks/Pulumi.test.yaml:11: vre:machines.control.size.cpus",
        ),
        ({"machines": {"workers": {"count": -1}}}, "vre:machines.workers.count"),
        ({"machines": {"workers": {"count": "two"}}}, "vre:machines.workers.count"),
        ({"services": {"jupyter": {"memory": "lots"}}}, "vre:services.jupyter.memory"),
        ({"services": {"jupyter": {"admin": "Root!"}}}, "vre:services.jupyter.admin"),
        ({"data": {"class": "secret"}}, "vre:data.class"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], told: str) -> None:
    assert told in refused(**changes)


@pytest.mark.parametrize(
    ("network", "network6"), [("172.16.0.0/12", "fd76:7265::/32"), ("100.64.0.0/16", "2600:1f18:1234::/64")]
)
def test_private_and_global_ranges_are_taken(network: str, network6: str) -> None:
    cloud = read({**GOOD, "cloud": {"provider": "libvirt", "network": network, "network6": network6}}).cloud
    assert cloud.network == network


def test_a_wide_network_beside_a_server_admits_and_is_no_server() -> None:
    named = ["192.0.2.0/28", "198.51.100.53/32", "2001:db8::53/128"]
    config = read({**GOOD, "outbound": {"resolvers": named, "time": [*named]}})
    assert servers(config.outbound.resolvers) == ("198.51.100.53", "2001:db8::53")
    assert servers(networks(config.outbound.time)) == ("198.51.100.53", "2001:db8::53")


def test_a_wide_open_network_needs_its_words() -> None:
    words = "any address may try to connect"
    open_ = {"keys": [KEY], "operators": ["0.0.0.0/0"], "anywhere": words}
    assert read({**GOOD, "access": open_}).access.operators == ("0.0.0.0/0",)
    assert "is everybody" in refused(access={"keys": [KEY], "operators": ["0.0.0.0/0"]})
    assert "vre:access.anywhere" in refused(access={**open_, "anywhere": "yes"})


@pytest.mark.requirement("P-79", "P-80", "P-82")
@pytest.mark.parametrize("class_", ["public", "anonymised", "pseudonymised", "sensitive"])
@pytest.mark.parametrize(
    ("cloud", "public"),
    [
        ({"provider": "libvirt"}, False),
        ({"provider": "aws", "region": "eu-west-1"}, True),
        ({"provider": "gcp", "project": "p", "region": "r"}, True),
        ({"provider": "azure", "subscription": "s", "region": "r"}, True),
        ({**OPENSTACK, "public": True}, True),
        ({**OPENSTACK, "public": False}, False),
    ],
)
def test_only_anonymised_data_goes_to_a_public_cloud(class_: str, cloud: dict[str, Any], public: bool) -> None:
    access = {"keys": [KEY], "operators": ["203.0.113.0/24"]}
    edge = {"provider": "direct", "domain": "example.org"}
    outbound = {"resolvers": ["192.0.2.53/32"]}
    values = {"cloud": cloud, "access": access, "edge": edge, "data": data(class_), "outbound": outbound}
    if public and class_ in {"pseudonymised", "sensitive"}:
        with pytest.raises(Refused, match="never goes to a public cloud") as told:
            read(values)
        assert told.value.findings[0].where.startswith("stacks/Pulumi.test.yaml:")
    else:
        assert read(values).data.class_ == class_


@pytest.mark.requirement("P-84", "O-08")
def test_sensitive_data_has_no_way_out_through_users_servers() -> None:
    open_ = {"services": {"jupyter": {"egress": ["192.0.2.80/32"]}}}
    assert "vre:services.jupyter.egress: sensitive data" in refused(data=data("sensitive"), **open_)
    assert read({**GOOD, **open_, "data": {"class": "pseudonymised"}}).services.jupyter
    closed = {"services": {"jupyter": {"egress": "closed"}}}
    assert read({**GOOD, **closed, "data": data("sensitive")}).data.class_ == "sensitive"


@pytest.mark.requirement("P-83")
def test_sensitive_data_needs_the_whole_approval_of_an_ethics_committee() -> None:
    whole = data("sensitive")["approval"]
    assert "vre:data.approval: sensitive data needs an ethics approval" in refused(data={"class": "sensitive"})
    for key in whole:
        rest = {name: value for name, value in whole.items() if name != key}
        assert f"vre:data.approval.{key}: missing" in refused(data={"class": "sensitive", "approval": rest})
    assert "vre:data.approval.until" in refused(data={"class": "sensitive", "approval": {**whole, "until": "soon"}})
    assert read({**GOOD, "data": {"class": "pseudonymised"}}).data.approval is None


def test_whether_an_openstack_is_public_has_to_be_said() -> None:
    assert "vre:cloud.public: missing" in refused(cloud=OPENSTACK)


def test_operators_are_needed_on_a_cloud() -> None:
    assert "vre:access.operators" in refused(cloud={"provider": "aws", "region": "eu-west-1"})


def test_what_was_written_is_never_repeated_where_it_may_be_a_secret() -> None:
    told = refused(services={"jupyter": {"password": ["hunter2hunter2"], "cpus": "hunter2hunter2"}})
    assert "vre:services.jupyter.password" in told
    assert "hunter2hunter2" not in told


def test_a_private_key_is_never_repeated() -> None:
    body = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE\n-----END OPENSSH PRIVATE KEY-----"
    assert "b3BlbnNzaC1rZXktdjE" not in refused(access={"keys": [body]}, name="Bad")


def test_a_sealed_secret_counts_as_text() -> None:
    config = read({**GOOD, "services": {"jupyter": {"password": {"secure": "v1:abc"}}}})
    assert config.services.jupyter is not None
    assert config.services.jupyter.password is not None


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates()
names = st.sampled_from(
    [
        "provider",
        "libvirt",
        "keys",
        "operators",
        "size",
        "cpus",
        "control",
        "jupyter",
        "secure",
        "network",
        "class",
        "on",
    ]
) | st.text(max_size=8)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
tops = st.sampled_from(["name", "cloud", "access", "edge", "machines", "data", "outbound", "services", "other"])


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(tops, anything, max_size=5))
def test_any_values_load_or_are_refused_with_their_keys(values: dict[str, Any]) -> None:
    try:
        config = read({**GOOD, **values})
    except Refused as refused:
        assert all(finding.key and finding.reason for finding in refused.findings)
    else:
        assert config.cloud


def test_a_finding_reads_as_a_line_with_an_example() -> None:
    told = refused(access={})
    assert "stacks/Pulumi.test.yaml:4: vre:access.keys: missing\n    for example: keys: [ssh-ed25519" in told
