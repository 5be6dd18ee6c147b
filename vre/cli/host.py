"""Whether a machine keeps the CIS rules for hosts: one script over SSH, judged here."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vre.cli.checks import Check, bad, good, warning
from vre.cli.host_rules import PREPARE, Rule, rules
from vre.cli.outputs import Node, Outputs
from vre.machine.ssh import Shell

AREA = "host"
END = "\x1e"  # ASCII's record separator: in no answer
SHOWN = 300  # characters of an answer
WEAK = "grep -rH Vulnerable /sys/devices/system/cpu/vulnerabilities/"
INTEGRITY = "cat /var/lib/vre/integrity.json 2> /dev/null"
CHAPTERS = {
    "1": "file systems and programs",
    "2": "services",
    "3": "network",
    "5": "logins",
    "6": "logs and integrity",
    "7": "files and accounts",
}


def look(there: Outputs, node: Node) -> Iterator[Check]:
    """Look at one machine over SSH."""
    with Shell(there.connection(node)) as shell:
        yield from asked(node.name, shell, rules())


def asked(name: str, shell: Shell, wanted: Sequence[Rule]) -> Iterator[Check]:
    """Ask a machine for every rule, for its processor's flaws, and for what its daily comparison found."""
    told = shell.run(["sh", "-s"], stdin=script([rule.command for rule in wanted]), sudo=True, timeout=300)
    weak = shell.run(["sh", "-c", f"{WEAK} || true"])
    measured = shell.run(["sh", "-c", f"{INTEGRITY} || true"], sudo=True)
    yield from judged(name, broken(wanted, answers(told)), wanted)
    yield mitigations(name, weak)
    yield integrity(name, measured)


def script(commands: Sequence[str]) -> str:
    """Return one script that gives the answer to every command. Pure."""
    begin = f'here=$(mktemp -d) && cd "$here" || exit 1\nexport LC_ALL=C\n{{ {PREPARE}; }} > /dev/null 2>&1\n'
    body = "".join(f"( {command} ) 2>&1\nprintf '\\036'\n" for command in commands)
    return f'{begin}{body}cd /\nrm -r "$here"\n'


def answers(told: str) -> list[str]:
    """Return the answers out of what the script printed. Pure."""
    return [answer.strip() for answer in told.split(END)[:-1]]


def broken(wanted: Sequence[Rule], given: Sequence[str]) -> dict[Rule, str]:
    """Return the rules that are not kept, each with what was found instead. Pure. Raises ValueError."""
    return {
        rule: answer for rule, answer in zip(wanted, given, strict=True) if not re.fullmatch(rule.wanted, answer, re.M)
    }


def judged(name: str, wrong: Mapping[Rule, str], wanted: Iterable[Rule]) -> Iterator[Check]:
    """Judge a machine: a line for each rule that is broken, and one a chapter for those that are kept. Pure."""
    for rule, answer in wrong.items():
        told = f"CIS {rule.id}: not so: {rule.what}; found: {answer[:SHOWN] or 'nothing'}"
        yield bad(AREA, name, told, "docs/security/host.md says how it is meant")
    kept: dict[str, list[str]] = {}
    for rule in wanted:
        if rule not in wrong:
            kept.setdefault(chapter(rule.id), []).append(rule.id.rpartition(" ")[2])
    for title, ids in kept.items():
        numbers = list(dict.fromkeys(ids))
        yield good(AREA, f"{name} {title}", f"{len(ids)} checks, {', '.join(numbers)}")


def chapter(id: str) -> str:
    """Return the heading of a rule's number. Pure."""
    benchmark, _, number = id.rpartition(" ")
    if number[0] in CHAPTERS and not benchmark:
        return f"CIS Debian {number[0]}, {CHAPTERS[number[0]]}"
    return f"CIS {benchmark or number}"


def mitigations(name: str, told: str) -> Check:
    """Judge what the kernel says of its processor's flaws. Pure."""
    flaws = [line.rpartition("/")[2].partition(":") for line in told.splitlines() if ":" in line]
    if not flaws:
        return good(AREA, f"{name} processor", "no flaw without a remedy")
    listed = ", ".join(f"{flaw} ({rest.strip()})" for flaw, _, rest in flaws)
    hint = (
        "newer microcode on the hypervisor, and its processor's features handed on: libvirt's CPU mode host-passthrough"
    )
    return warning(AREA, f"{name} processor", listed, hint)


def integrity(name: str, told: str) -> Check:
    """Judge what the machine found when it last compared its programs with what was installed. Pure."""
    if not told.strip():
        return good(
            AREA,
            f"{name} programs",
            "measured when the image was made, not compared yet: the first look is within an hour",
        )
    found = json.loads(told)
    if found["strange"]:
        paths = ", ".join(found["strange"][:10])
        hint = f"who did it: vre ssh {name} -- sudo ausearch -f PATH; was it you: sudo /usr/lib/vre/integrity.py accept"
        return bad(AREA, f"{name} programs", f"changed, and by no package, seen {found['looked']}: {paths}", hint)
    return good(AREA, f"{name} programs", f"as installed, seen {found['looked']}")
