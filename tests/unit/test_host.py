"""The CIS rules for hosts: how a machine is asked, how its answers are judged, and what says that programs changed."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from types import ModuleType

import paramiko
import pytest

from tests.unit.ssh_server import Machine, serving
from vre.cli import host
from vre.cli.checks import State
from vre.cli.host_rules import Rule, order, rules
from vre.image import boot, recipe
from vre.machine.ssh import Shell

FILES = recipe.load().files
RULES = rules()
WATCHED = FILES / "etc/audit/rules.d/vre.rules"


def rule(id: str, command: str = "true", wanted: str = "") -> Rule:
    return Rule(id=id, what="something", command=command, wanted=wanted)


# the table


def test_rules_are_sorted_as_a_person_would() -> None:
    assert order("3.3.9") < order("3.3.10") < order("Docker 1.1.8") < order("Docker 1.1.14")


@pytest.mark.requirement("H-27")
@pytest.mark.parametrize("each", RULES, ids=[f"{each.id} {each.what}"[:60] for each in RULES])
def test_every_rule_can_be_broken(each: Rule) -> None:
    """A command that is not there, or finds something where nothing should be, is no answer that is wanted."""
    assert not re.fullmatch(each.wanted, "sh: 1: not found")
    re.compile(each.wanted)


def test_every_command_is_one_that_a_shell_can_read() -> None:
    done = subprocess.run(["sh", "-n"], input=host.script([each.command for each in RULES]), text=True, check=False)
    assert done.returncode == 0


# the script and its answers


def test_each_command_has_its_own_answer_and_leaves_nothing(tmp_path: Path) -> None:
    text = host.script(["echo one", "printf 'two\\nlines\\n'; exit 3", "false", "echo fault >&2"])
    done = subprocess.run(
        ["sh", "-s"], input=text, text=True, capture_output=True, check=True, env={"TMPDIR": str(tmp_path)}
    )
    assert host.answers(done.stdout) == ["one", "two\nlines", "", "fault"]
    assert list(tmp_path.iterdir()) == []


def test_a_machine_is_asked_over_ssh(tmp_path: Path) -> None:
    keys = []
    for name in ("host", "id"):
        pair = boot.new_key()
        (tmp_path / name).write_text(pair.private)
        keys.append(paramiko.PKey.from_path(tmp_path / name))
    wanted = [rule("3.3.2", "echo 0", "0"), rule("3.3.9", "echo 0", "1")]
    with (
        serving(Machine(host_key=keys[0], allowed=[keys[1]])) as machine,
        Shell(machine.connection(str(tmp_path / "id"))) as shell,
    ):
        found = list(host.asked("a", shell, wanted))
    assert [check.state for check in found[:2]] == [State.BAD, State.GOOD]
    assert [check.name for check in found] == ["a", "a CIS Debian 3, network", "a processor", "a programs"]


def test_an_answer_that_is_missing_is_a_fault() -> None:
    with pytest.raises(ValueError, match="zip"):
        host.broken([rule("1.1.1"), rule("1.1.2")], [""])


def test_a_broken_rule_is_named_with_what_was_found_and_the_others_are_counted() -> None:
    wanted = [rule("3.3.2", wanted="0"), rule("3.3.10", wanted="1"), rule("Docker 1.1.18")]
    found = list(host.judged("a", host.broken(wanted, ["0", "0", ""]), wanted))
    assert [(check.state, check.name) for check in found] == [
        (State.BAD, "a"),
        (State.GOOD, "a CIS Debian 3, network"),
        (State.GOOD, "a CIS Docker"),
    ]
    assert found[0].found == "CIS 3.3.10: not so: something; found: 0"
    assert found[1].found == "1 checks, 3.3.2"


def test_every_rule_that_is_kept_is_counted_in_its_chapter() -> None:
    told = list(host.judged("m", {}, RULES))
    assert {each.state for each in told} == {State.GOOD}
    assert sum(int(each.found.split(" checks")[0]) for each in told) == len(RULES)
    assert "m CIS Kubernetes" in {each.name for each in told}


def test_half_an_answer_is_not_enough() -> None:
    [wrong] = host.broken([rule("7.1.13", wanted="/usr/bin/sudo")], ["/usr/bin/sudo\n/usr/bin/su"])
    assert wrong.id == "7.1.13"


@pytest.mark.requirement("P-75")
def test_a_flaw_of_the_processor_is_a_warning_with_its_remedy() -> None:
    folder = "/sys/devices/system/cpu/vulnerabilities"
    told = (
        f"{folder}/spec_store_bypass:Vulnerable\n{folder}/mds:Vulnerable: Clear CPU buffers attempted, no microcode\n"
    )
    check = host.mitigations("a", told)
    assert check.state == State.WARNING
    assert "spec_store_bypass (Vulnerable), mds (Vulnerable: Clear CPU buffers attempted, no microcode)" in check.found
    assert "microcode" in check.hint
    assert "host-passthrough" in check.hint
    assert host.mitigations("a", "").state == State.GOOD


@pytest.mark.requirement("H-24")
@pytest.mark.parametrize(
    ("told", "state", "said"),
    [
        ("", State.GOOD, "not compared yet"),
        ('{"looked": "2026-11-21T12:00:00Z", "strange": [], "upgraded": 3}', State.GOOD, "as installed"),
        ('{"looked": "2026-11-21T12:00:00Z", "strange": ["/usr/bin/ls"], "upgraded": 0}', State.BAD, "/usr/bin/ls"),
    ],
)
def test_changed_programs_are_told(told: str, state: State, said: str) -> None:
    check = host.integrity("a", told)
    assert check.state == state
    assert said in check.found


# what is laid into the image


def test_every_file_that_is_watched_has_a_key_and_the_rules_end_locked() -> None:
    lines = [line for line in WATCHED.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[-1] == "-e 2"
    assert [line for line in lines if line.startswith("-a always,exit") and " -k " not in line] == []


def test_what_is_not_audited_is_nothing_that_a_rule_asks_for() -> None:
    """The first rule that fits decides: a call that is left out for speed must not be one of those that are watched."""
    calls: dict[str, set[str]] = {"never": set(), "always": set()}
    for action, names in re.findall(r"^-a (never|always),exit .*?-S (\S+)", WATCHED.read_text(), re.MULTILINE):
        calls[action] |= set(names.split(","))
    assert len(calls["never"]) > 20
    assert calls["never"] & calls["always"] == set()
    writing = {"open", "openat", "creat", "unlink", "rename", "chmod", "chown", "link", "symlink", "mkdir", "truncate"}
    assert calls["never"] & writing == set()


def test_our_own_machines_and_debians_start_with_the_same_words_for_the_kernel() -> None:
    own = (FILES / "etc/kernel/cmdline").read_text().split()
    grub = (FILES / "etc/default/grub.d/90-vre.cfg").read_text().split('"')[1].split()[1:]
    assert "audit=1" in grub
    assert set(grub) <= set(own)


@pytest.mark.requirement("H-29")
def test_only_one_program_that_gives_rights_is_left() -> None:
    given = recipe.load().overrides
    assert "usr/bin/sudo" not in given
    assert {"usr/bin/su", "usr/bin/passwd", "usr/bin/mount", "usr/lib/openssh/ssh-keysign"} <= set(given)
    assert [name for name, mode in given.items() if mode & 0o6000] == []


# what says that programs changed


@pytest.fixture
def integrity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program of the image, on a dpkg of our own."""
    spec = importlib.util.spec_from_file_location("integrity", FILES / "usr/lib/vre/integrity.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "info").mkdir()
    (tmp_path / "status").write_text("")
    for name, value in (("PACKAGES", tmp_path), ("BASE", tmp_path / "aide.db"), ("REPORT", tmp_path / "report.json")):
        monkeypatch.setattr(module, name, value)
    (tmp_path / "aide.db").write_text("")
    return module


def test_a_line_of_the_base_loses_its_inode_alone(integrity: ModuleType) -> None:
    assert integrity.without_inode("/boot 0 40755 0 0 9994969 343 abc=\n") == "/boot 0 40755 0 0 0 343 abc=\n"
    assert integrity.without_inode("@@begin_db\n") == "@@begin_db\n"


def test_what_dpkg_knows_is_found_by_where_it_lies_today(integrity: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "info/a.list").write_text("/.\n/bin\n/bin/ls\n/etc/a.conf\n")
    (tmp_path / "info/a.md5sums").write_text("0cc175b9c0f1b6a831c399e269772661  bin/ls\n")
    (tmp_path / "status").write_text("Package: a\nConffiles:\n /etc/a.conf 92eb5ffee6ae2fec3ad71c777531578f\n")
    known = integrity.packaged()
    assert known["/usr/bin/ls"] == {"0cc175b9c0f1b6a831c399e269772661"}
    assert known["/etc/a.conf"] == {"92eb5ffee6ae2fec3ad71c777531578f"}


@pytest.mark.requirement("H-24")
def test_a_package_explains_its_very_bytes_and_nothing_else(integrity: ModuleType, tmp_path: Path) -> None:
    file, link = tmp_path / "ls", tmp_path / "link"
    file.write_text("a")
    link.symlink_to("ls")
    known = {str(file): {"0cc175b9c0f1b6a831c399e269772661"}, str(link): set()}
    assert integrity.explained(file, known, upgraded=False)
    file.write_text("b")
    assert not integrity.explained(file, known, upgraded=True)
    assert not integrity.explained(file, {}, upgraded=True)
    assert integrity.explained(link, known, upgraded=True)
    assert not integrity.explained(link, known, upgraded=False)
    del known[str(link)]
    assert integrity.explained(link, known, upgraded=True), "an alternative"
    assert not integrity.explained(link, {}, upgraded=True)
    gone = tmp_path / "gone"
    assert integrity.explained(gone, {}, upgraded=True)
    assert not integrity.explained(gone, {}, upgraded=False)
    assert not integrity.explained(gone, {str(gone): set()}, upgraded=True)


def found(integrity: ModuleType, monkeypatch: pytest.MonkeyPatch, **told: object) -> tuple[int, list[str], list[str]]:
    """Run a look at what aide tells; return its exit code, what is strange, and what aide was asked."""
    asked: list[str] = []

    def aide(task: str) -> str:
        asked.append(task)
        if task == "--init":
            integrity.BASE.with_name("aide.db.new").write_text("@@begin_db\n")
        return json.dumps(told) if told else ""

    monkeypatch.setattr(integrity, "aide", aide)
    code = integrity.main([])
    return code, json.loads(integrity.REPORT.read_text())["strange"], asked


def test_the_first_look_takes_the_launchs_settings_for_right_but_no_program(
    integrity: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"added": {"/etc/hosts": "f+"}, "changed": {"/usr/bin/ls": "f   ...     H"}}
    assert found(integrity, monkeypatch, **told) == (1, ["/usr/bin/ls"], ["--check"])
    assert found(integrity, monkeypatch, **told) == (1, ["/etc/hosts", "/usr/bin/ls"], ["--check"])


def test_a_look_that_finds_nothing_strange_becomes_the_base_only_where_something_changed(
    integrity: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(integrity, monkeypatch, added={"/etc/hosts": "f+"}) == (0, [], ["--check", "--init"])
    assert found(integrity, monkeypatch) == (0, [], ["--check"])


def test_another_mode_is_never_explained_by_a_package(
    integrity: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "cat"
    file.write_text("a")
    (tmp_path / "info/a.md5sums").write_text(f"0cc175b9c0f1b6a831c399e269772661  {file}\n")
    told = {"changed": {str(file): "f   p.."}}
    assert found(integrity, monkeypatch, **told) == (0, [], ["--check", "--init"])
    rights = {"details": {str(file): {"perm": {"old": "-rwxr-xr-x", "new": "-rwsr-xr-x"}}}}
    assert found(integrity, monkeypatch, **told, **rights) == (1, [str(file)], ["--check"])
