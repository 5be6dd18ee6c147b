"""The pages about security: what they promise is named where it is shown, and what is open is said to be open."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.oracle.configs import KEY, data
from vre import clouds, docs
from vre.config import Config, Data
from vre.conflicts import conflicts
from vre.paths import project
from vre.plan import Surroundings, doors, plan
from vre.policy import Peer, Protocol, Rule

SECURITY = project() / "docs" / "security"
STANDING = {each.id: each for each in docs.requirements()}
SHOWN = docs.shown_by()
ATTACKS = {
    "C-11", "C-15", "P-58", "P-67", "P-68", "P-69", "P-70", "P-71", "P-73", "P-74", "P-75", "P-77", "P-78", "P-84",
    "P-99",
}  # fmt: skip
"""Requirements that are about an attack: each needs a row."""


def tables(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each row of a page's tables with the heading above it."""
    heading = ""
    for line in page.read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and not re.fullmatch(r"[|-]+", line):
            yield heading, cells


THREATS = [(heading, cells) for heading, cells in tables(SECURITY / "threats.md") if cells[-1] != "see"]


@pytest.mark.requirement("C-02", "P-08")
def test_accidents_and_attacks_are_apart() -> None:
    assert {heading for heading, _ in THREATS} == {"Accidents (safe)", "Attacks (secure)"}


@pytest.mark.requirement("C-02", "P-08")
@pytest.mark.parametrize("cells", [cells for _, cells in THREATS], ids=lambda cells: cells[0][:60])
def test_what_stands_against_a_threat_is_shown_or_said_to_be_missing(cells: list[str]) -> None:
    threat, _, left, see = cells
    named = [STANDING[id] for id in see.split(", ")]
    missing = [each.id for each in named if each.id not in SHOWN and not each.why]
    assert not missing or "not in place" in left, f"{threat}: no test shows {missing}"


@pytest.mark.requirement("P-08")
def test_every_attack_that_a_requirement_names_has_a_row() -> None:
    named = {id for heading, cells in THREATS if heading.startswith("Attacks") for id in cells[-1].split(", ")}
    assert ATTACKS - named == set()


DATA = (project() / "docs" / "data-protection.md").read_text()
ARROW = re.compile(r"^  (\w+)(?:[\[{].*?[\]}])? -->(?:\|(\w+)\|)? (\w+)(?:[\[{]\"(.*?)\"[\]}])?$", re.MULTILINE)


@pytest.mark.requirement("P-86")
def test_every_way_through_the_chart_ends_with_a_class_of_data_or_with_a_no() -> None:
    [chart] = re.findall(r"```mermaid\nflowchart TD\n(.*?)```", DATA, re.DOTALL)
    arrows = ARROW.findall(chart)
    assert len(arrows) == len(chart.splitlines())
    ways: dict[str, dict[str, str]] = {}
    for origin, answer, to, _ in arrows:
        assert answer not in ways.setdefault(origin, {})
        ways[origin][answer] = to
    assert {frozenset(each) for name, each in ways.items() if name != "start"} == {frozenset({"yes", "no"})}
    said = {to: text for _, _, to, text in arrows if text}
    ends = {text for to, text in said.items() if to not in ways}
    classes = get_args(Data.model_fields["class_"].annotation)
    assert ends == {"It does not come in", *(f"data.class: {each}" for each in classes)}
    assert set(ways) - {"start"} == {to for to in said if to in ways}, "a question that nobody comes to"


@pytest.mark.requirement("P-86")
def test_sensitive_data_is_not_come_to_without_an_ethics_committee() -> None:
    """Take the committee out, and no way leads there any more."""
    arrows = [(origin, to) for origin, _, to, _ in ARROW.findall(DATA)]
    reached, ahead = set(), ["start"]
    while ahead:
        here = ahead.pop()
        reached.add(here)
        ahead += [to for origin, to in arrows if origin == here and to not in {"ethics", *reached}]
    assert "anonymised" in reached
    assert reached & {"pseudonymised", "sensitive"} == set()


@pytest.mark.requirement("P-87")
def test_the_guidance_says_of_each_class_what_the_stack_file_does_with_it() -> None:
    rows = {cells[0].strip("`"): cells[1:] for _, cells in tables(project() / "docs" / "data-protection.md")}
    for class_ in get_args(Data.model_fields["class_"].annotation):
        stands, way_out, mirrors = rows[class_]
        jupyter = {"services": {"jupyter": {"egress": ["192.0.2.80/32"]}}}
        aws = {"cloud": {"provider": "aws", "region": "eu-west-1"}}
        assert _refused(class_, aws, "data.class") == ("not on a public cloud" in stands)
        assert _refused(class_, {"edge": CLOUDFLARE, **aws}, "edge.provider") == ("not behind Cloudflare" in stands)
        assert _refused(class_, jupyter, "services.jupyter.egress") == (way_out == "none")
        stack = _config(class_, {})
        closed = doors(stack, plan(stack), Surroundings(operators=(), resolvers=())).mirrors == ()
        assert closed == (mirrors == "only those that are named")


CLOUDFLARE = {"provider": "cloudflare", "zone": "example.org"}


def _config(class_: str, more: dict[str, Any]) -> Config:
    whole = {"name": "a", "cloud": {"provider": "libvirt"}, "access": {"keys": [KEY], "operators": ["192.0.2.0/24"]}}
    return Config.model_validate({**whole, **more, "data": data(class_)})


def _refused(class_: str, more: dict[str, Any], key: str) -> bool:
    return key in {each.key for each in conflicts(_config(class_, more))}


@pytest.mark.requirement("P-88")
def test_the_form_of_a_data_provider_asks_for_what_the_stack_file_and_the_law_need() -> None:
    asked = [cells for _, cells in tables(project() / "docs" / "data-provider-form.md") if cells[0]]
    assert [cells for cells in asked if cells[1:] != [""]] == [], "filled in"
    words = " ".join(cells[0] for cells in asked)
    classes = get_args(Data.model_fields["class_"].annotation)
    for each in (*(f"`{each}`" for each in classes), "Ethics approval: body, reference, valid until", "Legal ground",
                 "Consent", "Data protection officer", "To be deleted on", "To be told of a breach"):  # fmt: skip
        assert each in words


@pytest.mark.requirement("P-89")
@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("Regulation (EU) 2016/679", "eur-lex.europa.eu/eli/reg/2016/679"),
        ("GA4GH", "www.ga4gh.org/product/framework-for-responsible-sharing-of-genomic-and-health-related-data"),
        ("BioMedBridges Ethical Governance Framework", "biomedbridges-ethical-governance-framework"),
    ],
)
def test_the_texts_behind_it_are_named_and_linked(name: str, address: str) -> None:
    assert name in DATA
    assert any(address in link for link in re.findall(r"\]\((https://[^)]+)\)", DATA))


@pytest.mark.requirement("P-90")
def test_each_duty_of_the_regulation_has_a_row_that_says_what_is_done() -> None:
    rows = {
        cells[0]: cells
        for heading, cells in tables(project() / "docs" / "data-protection.md")
        if "Regulation" in heading
    }
    articles = {int(number) for cell in rows for number in re.findall(r"\d+", cell)}
    assert {5, 6, 9, 15, 17, 25, 28, 30, 32, 33, 34, 35, 44, 89} - articles == set()
    assert [cells for cells in rows.values() if not all(cells)] == []


@pytest.mark.requirement("P-101")
def test_reviewers_are_told_what_was_found_and_led_to_what_is_there() -> None:
    page = (SECURITY / "review.md").read_text()
    assert "## Findings" in page
    named = re.findall(r"`([a-z]+/[^`*]+)`", page)
    assert len(named) > 10
    assert [path for path in named if not (project() / path).exists()] == []


@pytest.mark.requirement("F-01")
def test_the_ports_on_the_page_about_security_are_those_that_the_policy_opens() -> None:
    """From whom, to which ports: what site security staff read first."""
    rows = [cells for heading, cells in tables(project() / "docs" / "security.md") if heading == "What comes in"][1:]
    told = {(who.split(" (")[0], port) for who, ports, _ in rows for port in ports.split(", ")}
    policy = clouds.policy(_config("public", {}))
    names = {Peer.OPERATORS: "operators", Peer.EDGE: "edge", Peer.NODES: "the stack's own machines"}
    assert told == {(names[rule.origin], _port(rule)) for rule in policy.inbound if rule.origin in names}
    assert {rule.origin for rule in policy.inbound} <= set(names)


def _port(rule: Rule) -> str:
    first, last = rule.ports.first, rule.ports.last
    numbers = str(first) if first == last else f"{first}-{last}"
    return numbers if rule.protocol == Protocol.TCP else f"{numbers}/{rule.protocol.value}"
