"""The page that lists which rules of which standards are kept, and the test that holds each."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from vre.cli import host_rules
from vre.cluster import standards as cluster

HOST = "tests/machine/test_host.py::test_a_rule_is_kept"
CLUSTER = "tests/unit/test_standards.py::test_a_rule_is_kept"
PODS = "tests/unit/test_cluster.py::test_pods_have_no_more_than_they_need"
RESTRICTED = "tests/unit/test_cluster.py::test_pods_are_restricted_where_nothing_else_is_said"
ROLES = "tests/unit/test_cluster.py::test_no_role_grants_everything"
DEFAULT_DENY = "tests/machine/test_launch.py::test_every_namespace_denies_by_default"
HEAD = """# Standards

Which rules of which standards are kept, and which test holds each. Rules of hosts are asked of the started image, and
by `vre audit` of every machine of a stack. Which are not kept there, and why: [host](host.md).

Benchmarks: CIS Debian Linux 12 1.1.0, CIS Docker 1.7.0, CIS Kubernetes 1.12. Nobody outside has certified any of it.
"""
Row = tuple[str, str, str]
ROWS: dict[str, Sequence[Row]] = {
    "Kubernetes": (
        ("1.2.1", "strangers are answered for health and the join page alone",
         "tests/unit/test_cluster.py::test_anonymous_requests_reach_health_and_the_join_page_only"),
        ("1.2.28", "by a cipher that authenticates, too",
         "tests/unit/test_cluster.py::test_secrets_are_encrypted_in_etcd_by_a_key_of_32_bytes"),
        ("3.1.3", "bootstrap tokens are for joining, and short",
         "tests/unit/test_cluster.py::test_a_join_token_lives_a_quarter_of_an_hour"),
        ("3.2.2", "the audit log has who did what, and no secret's content",
         "tests/unit/test_cluster.py::test_the_audit_log_holds_no_secret_s_content"),
        ("4.2.11", "kubelets' own certificates are asked for",
         "tests/unit/test_cluster.py::test_kubelets_ask_the_cluster_for_their_certificate_and_keep_their_images"),
        ("5.1.2", "few may read secrets", ROLES),
        ("5.1.3", "no role has wildcards", ROLES),
        ("5.1.6", "only who needs it gets a token",
         "tests/unit/test_jupyter_manifest.py::test_only_the_hub_has_a_key_to_the_cluster"),
        ("5.2.1", "Pod Security admits pods in every namespace", RESTRICTED),
        ("5.2.2", "no privileged containers", PODS),
        ("5.2.3", "none sees the machine's processes", PODS),
        ("5.2.4", "none shares its memory", PODS),
        ("5.2.5", "the machine's network is for what makes the pods' network", PODS),
        ("5.2.6", "none gains rights", PODS),
        ("5.2.7", "root only where there is a reason",
         "tests/unit/test_containers.py::test_only_what_must_runs_as_root_and_says_why"),
        ("5.2.9", "capabilities are dropped", PODS),
        ("5.2.11", "folders of the machine by a short list",
         "tests/unit/test_standards.py::test_containers_see_no_folder_of_the_machine_but_those_on_the_list"),
        ("5.3.1", "policies are enforced",
         "tests/machine/test_inside.py::test_a_users_work_reaches_nothing_but_the_hub"),
        ("5.3.2", "every namespace denies by default", DEFAULT_DENY),
        ("5.4.1", "secrets come as files",
         "tests/unit/test_services.py::test_secret_values_are_in_secrets_only_and_reach_pods_as_files"),
        ("5.6.1", "each service in namespaces of its own",
         "tests/unit/test_services.py::test_a_service_stays_in_its_own_namespaces"),
        ("5.6.2", "seccomp in every container",
         "tests/machine/test_inside.py::test_every_container_is_confined_but_the_one_that_cannot_be"),
        ("5.6.3", "pods say how they are confined", PODS),
    ),
    "Docker": (
        ("4.1", "images name a user who is not root",
         "tests/unit/test_containers.py::test_only_what_must_runs_as_root_and_says_why"),
        ("4.8", "no image holds a setuid file",
         "tests/machine/test_image.py::test_no_container_image_holds_a_setuid_file"),
    ),
}  # fmt: skip
"""Rules that a test of their own holds."""
OTHERS: Sequence[Row] = (
    ("Pod Security Standards", "`restricted` in every namespace but those of the machine's own pods", RESTRICTED),
    ("Lynis", "85 points or more; USBGuard is not asked for: machines have no USB bus",
     "tests/machine/test_host.py::test_lynis_finds_it_hardened"),
    ("ssh-audit", "nothing weak; one key exchange that quantum computers may break",
     "tests/machine/test_host.py::test_sshd_offers_nothing_weak"),
    ("SPDX 2.3", "each release has a bill of materials that is valid",
     "tests/unit/test_release_build.py::test_the_bill_of_materials_is_valid_and_whole"),
    ("SLSA provenance 1, in-toto statement 1", "each release says what it was built from, signed",
     "tests/unit/test_release.py::test_a_statement_is_in_the_form_that_others_read"),
)  # fmt: skip


def text() -> str:
    """Return the page."""
    rows = [*_hosts(), *_clusters()]
    rows.sort(key=lambda each: host_rules.order(f"{each[0]} {each[1][0]}"))
    sections = (_section(f"CIS {name}", [row for _, row in some]) for name, some in groupby(rows, lambda each: each[0]))
    left = "".join(f"| {id} | {why} |\n" for id, why in cluster.NOT_KEPT.items())
    return (
        f"{HEAD}{''.join(sections)}\n### Not kept\n\n| rule | it asks for, and why not |\n|---|---|\n{left}"
        f"{_section('Others', OTHERS, first='standard')}"
    )


def named() -> set[str]:
    """Return every test that the page names."""
    return {HOST, CLUSTER, *(test for rows in (*ROWS.values(), OTHERS) for _, _, test in rows)}


def _hosts() -> Iterator[tuple[str, Row]]:
    for rule in host_rules.rules():
        benchmark, _, number = rule.id.rpartition(" ")
        # A rule for all that has no number of its own: the Kubernetes benchmark has none for the audit of its programs.
        if number[0].isdigit():
            yield benchmark or "Debian", (number, rule.what, HOST)


def _clusters() -> Iterator[tuple[str, Row]]:
    for rule in cluster.RULES:
        yield "Kubernetes", (rule.id, rule.what, CLUSTER)
    for benchmark, rows in ROWS.items():
        yield from ((benchmark, row) for row in rows)


def _section(title: str, rows: Iterable[Row], *, first: str = "rule") -> str:
    cells = ((id, what.replace("|", r"\|"), test) for id, what, test in rows)
    lines = "".join(f"| {id} | {what} | `{test}` |\n" for id, what, test in cells)
    return f"\n## {title}\n\n| {first} | what | shown by |\n|---|---|---|\n{lines}"
