"""The CIS rules for clusters, on what kubeadm is told and on every manifest; and the page of standards."""

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.unit.test_cluster import ALONE, SLOW, everything
from tests.unit.test_services import SERVICES, made
from vre import docs, standards
from vre.cluster import kubeadm
from vre.cluster.standards import NOT_KEPT, RULES, Rule, given, kept
from vre.paths import project

TOLD = {"alone": kubeadm.read(kubeadm.first(ALONE)), "slow, with workers": kubeadm.read(kubeadm.first(SLOW))}
NAMED = [f"{rule.id} {rule.what}" for rule in RULES]


@pytest.mark.requirement("H-41", "C-19", "H-09")
@pytest.mark.parametrize("kind", TOLD)
@pytest.mark.parametrize("rule", RULES, ids=NAMED)
def test_a_rule_is_kept(rule: Rule, kind: str) -> None:
    assert kept(rule, TOLD[kind]), f"{rule.setting} of {rule.of}: {given(rule, TOLD[kind])!r}"


@pytest.mark.parametrize("rule", RULES, ids=NAMED)
def test_a_rule_can_be_broken(rule: Rule) -> None:
    """Another value, or none where one is wanted."""

    def told(value: str) -> dict[str, Any]:
        arguments = {"extraArgs": [{"name": rule.setting, "value": value}] if value else []}
        return {"ClusterConfiguration": {rule.of: arguments}, rule.of: {rule.setting: value} if value else {}}

    values = ("", "AlwaysAdmit", "TLS_RSA_WITH_RC4_128_SHA", "0.0.0.0:10249", "false")
    assert not all(kept(rule, told(value)) for value in values), "everything keeps it"


# folders of the machine

FOLDERS = {
    "flannel": {"/run/flannel"},  # what the pod network is, for whoever starts a pod
    "kube-apiserver": {  # what it reads at its start, and where its audit goes
        "/etc/kubernetes/audit", "/etc/kubernetes/admission", "/etc/kubernetes/enc", "/var/log/kubernetes/audit",
    },
}  # fmt: skip
"""Who sees which folders of the machine. The provisioner's helper gets the one that it is to make or remove."""


def folders() -> Iterator[tuple[str, str]]:
    """Yield every folder of the machine that something of ours mounts."""
    for each in [*everything(), *(thing for name in SERVICES for thing in made(name))]:
        spec = each.get("spec", {}).get("template", {}).get("spec", {})
        yield from _mounted(each["metadata"]["name"], spec)
        if "helperPod.yaml" in each.get("data", {}):
            yield from _mounted("helper-pod", yaml.safe_load(each["data"]["helperPod.yaml"])["spec"])
    for told in TOLD.values():
        for part in ("apiServer", "controllerManager", "scheduler"):
            for volume in told["ClusterConfiguration"][part].get("extraVolumes", []):
                yield "kube-apiserver" if part == "apiServer" else part, volume["hostPath"]


def _mounted(name: str, spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield from ((name, volume["hostPath"]["path"]) for volume in spec.get("volumes", []) if "hostPath" in volume)


@pytest.mark.requirement("H-28")
def test_containers_see_no_folder_of_the_machine_but_those_on_the_list() -> None:
    """What users start is no manifest: Pod Security refuses it such volumes, see below."""
    found: dict[str, set[str]] = {}
    for name, path in folders():
        found.setdefault(name, set()).add(path)
    assert found == FOLDERS


@pytest.mark.requirement("H-28")
@pytest.mark.parametrize("name", SERVICES)
def test_namespaces_of_services_refuse_folders_of_the_machine(name: str) -> None:
    """The level `restricted` refuses volumes of the kind hostPath."""
    levels = {
        each["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for each in made(name)
        if each["kind"] == "Namespace"
    }
    assert levels == {"restricted"}


# the page


def test_every_test_that_the_page_names_is_there() -> None:
    for test in standards.named():
        file, _, name = test.partition("::")
        assert name in {found for found, _, _ in docs.marked(ast.parse((project() / file).read_text()))}, test


@pytest.mark.requirement("H-09")
def test_no_rule_is_told_to_be_kept_and_not_kept() -> None:
    page = standards.text()
    ids = [
        line.split("|")[1].strip() for line in page.partition("## CIS Kubernetes")[2].splitlines() if line[:3] == "| 1"
    ]
    assert len(ids) > 20
    every = {rule.id for rule in RULES} | {id for id, _, _ in standards.ROWS["Kubernetes"]}
    assert every & set(NOT_KEPT) == set()
    for title in ("CIS Debian", "CIS Docker", "CIS Kubernetes", "Others"):
        assert page.count(f"\n## {title}\n") == 1


def test_every_row_of_the_page_has_as_many_cells_as_its_head() -> None:
    columns = 0
    for line in standards.text().splitlines():
        if not line.startswith("|"):
            columns = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1
        columns = columns or cells
        assert cells == columns, line
