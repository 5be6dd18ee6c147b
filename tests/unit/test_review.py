"""All that is wrong with a stack file at once: one fault hides another only where that hangs on it."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from vre import clouds, stackfile
from vre.errors import Finding, VreError
from vre.load import apart
from vre.plan import plan
from vre.review import review

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO7pYHNTKlbjhJcKVYz4oTCdoBH/V1KdbSFHwMcjSSo2"
HERE = "vre:cloud: {provider: libvirt}"
MINE = f"vre:access: {{keys: [{KEY}]}}"


def faults(*lines: str, prepared: bool = True) -> list[str]:
    text = "\n  ".join(("config:", *lines))
    config, found = review(stackfile.parse(text, Path("stacks/Pulumi.x.yaml")), prepared=prepared)
    assert config is None or plan(config).machines
    return [each.key for each in found]


def test_a_file_that_is_right_has_no_faults() -> None:
    assert faults(HERE, MINE) == []


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        # a key that is unknown, and one that contradicts another
        ((HERE, MINE, "vre:x: 1", "vre:machines: {control: {size: {type: a.b}}}"), ["x", "machines.control.size"]),
        # no word of access, and a contradiction elsewhere
        ((HERE, "vre:machines: {control: {size: {type: a.b}}}"), ["access", "machines.control.size"]),
        # a key that is none beside a file that is not there: neither hides the other, nor the rest
        ((HERE, f"vre:access: {{keys: [{KEY}], identity: absent}}", "vre:x: 1"), ["x", "access.identity"]),
        # a key's example is none: then the whole part stands in
        (
            (HERE, "vre:access: {keys: [nothing]}", "vre:machines: {control: {size: {type: a.b}}}"),
            ["access.keys.0", "machines.control.size"],
        ),
        # what stands in for a wrong value is not judged: newest is not what was asked for
        ((HERE, MINE, "vre:patches: {from: testd, archive: 'https://a.example/{archive}/{moment}'}"), ["patches.from"]),
        # nobody can say for whom a cloud stands in
        (("vre:cloud: {provider: nimbus}", MINE, "vre:x: 1"), ["cloud", "x"]),
        # the room for machines hangs on how many there are
        (
            ("vre:cloud: {provider: libvirt, network: 192.168.1.0/26}", MINE, "vre:machines: {workers: {count: 100}}"),
            ["cloud.network"],
        ),
    ],
)
def test_everything_that_is_wrong_is_told_at_once(lines: tuple[str, ...], found: list[str]) -> None:
    assert faults(*lines) == [f"vre:{each}" for each in found]


@pytest.mark.requirement("P-83")
@pytest.mark.parametrize(("days", "found"), [(0, []), (1, []), (-1, ["vre:data.approval.until"])])
def test_an_approval_that_has_ended_is_no_approval(days: int, found: list[str]) -> None:
    until = date.today() + timedelta(days=days)
    approval = f"{{body: Committee, reference: 2026/117, until: {until}}}"
    assert faults(HERE, MINE, f"vre:data: {{class: sensitive, approval: {approval}}}") == found


def test_what_the_cloud_would_refuse_is_told_with_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = [Finding(key="vre:machines.control.disk", reason="too big"), Finding(key="vre:name", reason="too long")]
    monkeypatch.setattr(clouds, "faults", lambda config: refused)
    assert faults(HERE, MINE, "vre:x: 1") == ["vre:x", "vre:machines.control.disk", "vre:name"]
    assert faults(HERE, MINE, "vre:name: A B") == ["vre:name", "vre:machines.control.disk"]


def test_packages_of_a_cloud_are_missed_after_set_up_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(config: object) -> None:
        raise VreError("the Python packages for aws are not installed", hint="install them: vre setup aws-packages")

    monkeypatch.setattr(clouds, "faults", absent)
    assert faults(HERE, MINE) == ["vre:cloud.provider"]
    assert faults(HERE, MINE, prepared=False) == []


def test_only_the_keys_that_set_up_makes_may_be_missing_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VRE_STATE", str(tmp_path))
    asked = (HERE, "vre:access: {keys: [.vre/id_ed25519.pub, other.pub], identity: .vre/id_ed25519}")
    assert faults(*asked, prepared=False) == ["vre:access.keys.1"]
    assert faults(*asked) == ["vre:access.keys.0", "vre:access.keys.1", "vre:access.identity"]
    (tmp_path / "id_ed25519.pub").write_text("no key")
    assert faults(*asked, prepared=False) == ["vre:access.keys.0", "vre:access.keys.1"]


def test_each_finding_has_the_line_of_its_list_element() -> None:
    text = f"config:\n  {HERE}\n  vre:access:\n    keys:\n    - {KEY}\n    - absent.pub\n"
    [found] = review(stackfile.parse(text, Path("stacks/Pulumi.x.yaml")))[1]
    assert found.where == "stacks/Pulumi.x.yaml:6"


def test_a_finding_hangs_on_another_of_its_key_or_of_one_around_it() -> None:
    first = [Finding(key="vre:cloud.network", reason="x")]

    def left(key: str, *, parts: bool = False) -> bool:
        return bool(apart([Finding(key=key, reason="y")], first, parts=parts))

    assert (left("vre:cloud.network"), left("vre:cloud"), left("vre:cloud.network.deep")) == (False, False, False)
    assert (left("vre:cloud.network6"), left("vre:name"), left("passphrase")) == (True, True, True)
    assert (left("vre:cloud.network6", parts=True), left("vre:name", parts=True)) == (False, True)
