"""Commands that reach into a launched stack: a shell, kubectl, logs, the hypervisor."""

import glob
import re
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from vre.cli import outputs
from vre.cli.options import DEFAULT, Machine, Stack
from vre.errors import VreError
from vre.paths import state
from vre.run import become, run

if TYPE_CHECKING:
    from vre.cli.outputs import Node, Outputs

MOMENT = f"{'[0-9]' * 8}T{'[0-9]' * 6}Z"
"""How the moment in a log's name looks: a longer stack's name is not taken for one."""
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")
"""What a word is like that is meant to name a machine, not a command."""
KUBECTL = ("sudo", "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")


class WordsAsGiven(TyperCommand):
    """A command that sees whether its words begin with `--`, which is left out otherwise."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return the words that are no options of the command itself."""
        given = args.count("--")
        words = super().parse_args(ctx, args)
        if words.count("--") < given:
            words.insert(0, "--")
        return words


def ssh(context: typer.Context, *, stack: Stack = DEFAULT) -> None:
    """Open a shell on a machine, or run [MACHINE] [-- COMMAND]"""
    there = outputs.machines(stack)
    node, words = chosen(there, context.args)
    become(openssh(there, node, words))


def kubectl(context: typer.Context, *, stack: Stack = DEFAULT) -> None:
    """Run kubectl on the control machine"""
    there = outputs.machines(stack)
    become(openssh(there, there.machine(), [*KUBECTL, *context.args]))


def chosen(there: "Outputs", words: list[str]) -> tuple["Node", list[str]]:
    """Return the machine that the first word names, else the control machine; and the words of the command."""
    rest = [word for index, word in enumerate(words) if word != "--" or "--" in words[:index]]
    if rest and words[0] != "--":
        try:
            return there.machine(rest[0]), rest[1:]
        except VreError:
            if "--" in words or (len(rest) == 1 and NAME.fullmatch(rest[0])):
                raise
    return there.machine(), rest


def openssh(there: "Outputs", node: "Node", words: list[str]) -> list[str]:
    """Return the OpenSSH command that reaches a machine: its pinned host keys and no others, the stack's key.

    Words stay words on the machine; a single one is a line for its shell, as OpenSSH itself takes it.
    """
    known = known_hosts(there)
    key = ["-i", there.identity, "-o", "IdentitiesOnly=yes"] if there.identity else []
    terminal = ["-t"] if words and sys.stdin.isatty() and sys.stdout.isatty() else []
    client = [
        "ssh", "-F", "none",
        "-o", f"UserKnownHostsFile={known}",
        "-o", "GlobalKnownHostsFile=/dev/null",
        "-o", "StrictHostKeyChecking=yes",
        "-o", "UpdateHostKeys=no",
        "-o", "PasswordAuthentication=no",
        "-o", "LogLevel=ERROR",
        *key,
    ]  # fmt: skip
    way = there.way(node)
    # Not ProxyJump: it would leave out the options, and with them the pinned host keys.
    proxy = ["-o", f"ProxyCommand={shlex.join([*client, '-W', '%h:%p', f'vre@{way.addresses[0]}'])}"] if way else []
    line = [shlex.join(words)] if words[1:] else words
    return [*client, *proxy, *terminal, f"vre@{node.addresses[0]}", *line]


def known_hosts_file(stack: str) -> Path:
    """Return where a stack's pinned host keys lie for OpenSSH."""
    return state() / f"known_hosts.{stack}"


def known_hosts(there: "Outputs") -> Path:
    """Write the pinned host keys of a stack as OpenSSH reads them; return the file."""
    lines = [f"{address} {key}\n" for node in there.machines for address in node.addresses for key in node.host_keys]
    file = known_hosts_file(there.stack)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(lines))
    return file


class What(StrEnum):
    """What there are logs of. Any other word is the beginning of a pod's name."""

    LAUNCH = "launch"
    CONSOLE = "console"
    BOOT = "boot"
    KUBELET = "kubelet"
    CONTAINERS = "containers"
    FIREWALL = "firewall"


ON_MACHINE = {
    What.BOOT: ["sudo", "cat", "/var/log/cloud-init-output.log"],
    What.KUBELET: ["sudo", "journalctl", "--no-pager", "--unit", "kubelet", "--lines", "200"],
    What.CONTAINERS: ["sudo", "journalctl", "--no-pager", "--unit", "containerd", "--lines", "200"],
    What.FIREWALL: ["sudo", "journalctl", "--no-pager", "--dmesg", "--grep", "vre .* refused", "--lines", "200"],
}


def logs(
    what: Annotated[
        str, typer.Argument(help=f"{', '.join(What)}, or how a pod's name begins", show_default=True)
    ] = What.LAUNCH,
    *,
    stack: Stack = DEFAULT,
    machine: Machine = "",
) -> None:
    """Show what was logged, on the machines and here"""
    if what == What.LAUNCH:
        sys.stdout.write(launch_log(stack))
        return
    if what == What.CONSOLE:
        sys.stdout.write(console_log(stack, machine))
        return
    there = outputs.machines(stack)
    node = there.machine(machine)
    if what in ON_MACHINE:
        become(openssh(there, node, ON_MACHINE[What(what)]))
    for namespace, pod in pods(there, what):
        sys.stdout.write(f"== {namespace}/{pod}\n")
        command = [*KUBECTL, "logs", "--namespace", namespace, pod, "--all-containers", "--tail", "200", "--prefix"]
        sys.stdout.write(run(openssh(there, there.machine(), command)))


def launch_log(stack: str) -> str:
    """Return what the engine said in the newest launch."""
    found = sorted((state() / "logs").glob(f"{glob.escape(stack)}-{MOMENT}-up.log"))
    if not found:
        raise VreError(f"stack {stack} was not launched from here", hint=f"launch it: {outputs.up(stack)}")
    return f"{found[-1]}\n{found[-1].read_text(errors='replace')}"


def console_log(stack: str, machine: str) -> str:
    """Return what a machine wrote on its serial console. Raises VreError when the hypervisor has no such file here."""
    from vre import engine
    from vre.provider.libvirt.connection import here

    disks = [each for each in engine.resources(stack) if each.get("type") == "vre:libvirt:Domain"]
    named = [each["inputs"] for each in disks if not machine or str(each["inputs"]["name"]).endswith(machine)]
    if not named:
        raise VreError(f"stack {stack} has no such machine", hint=f"vre status -s {stack}")
    # Who names none means the machine that the VRE is reached by.
    named.sort(key=lambda each: not str(each["name"]).endswith("-control"))
    path = here(str(named[0].get("uri", "")), Path(str(named[0].get("console") or "")))
    try:
        return f"{path}\n{path.read_text(errors='replace')}"
    except OSError as error:
        raise VreError(
            f"the console's log {path} cannot be read here: {error}", hint="it lies on the hypervisor"
        ) from error


def pods(there: "Outputs", prefix: str) -> list[tuple[str, str]]:
    """Return (namespace, name) of the pods whose names begin so. Raises VreError when there is none."""
    columns = "custom-columns=NS:.metadata.namespace,NAME:.metadata.name"
    told = run(
        openssh(there, there.machine(), [*KUBECTL, "get", "pods", "-A", "--no-headers", "-o", columns]), timeout=60
    )
    rows = [line.split() for line in told.splitlines() if len(line.split()) == 2]
    found = [(namespace, name) for namespace, name in rows if name.startswith(prefix)]
    if not found:
        names = ", ".join(sorted(name for _, name in rows))
        raise VreError(f"no pod's name begins with {prefix}", hint=f"there are {', '.join(What)}; and the pods {names}")
    return found


class Action(StrEnum):
    """What can be done with the project's own hypervisor."""

    START = "start"
    STOP = "stop"
    STATUS = "status"


def hypervisor(action: Annotated[Action, typer.Argument(help="Say what to do")] = Action.STATUS) -> None:
    """Start, stop or show the hypervisor that set-up starts"""
    from vre.cli import parts

    sys.stdout.write(f"{parts.hypervisor(action.value)}\n")
