"""What a machine looked like when a test of it failed: nobody can ask it afterwards."""

import re
import subprocess
from pathlib import Path

from tests.machine.stack import KUBECTL, Machine, Stack

LOST = "[Uu]nknown state|SandboxChanged|[Ff]ailed to load|shim disconnected|dead shim|[Kk]illing|will be restarted"
"""What containerd and the kubelet say when a container does not live on."""
JOURNAL = ("journalctl", "--boot=0", "--output=short-monotonic", "--no-pager")
QUESTIONS = (
    (*JOURNAL, "--lines=15", "--unit=containerd", "--unit=kubelet", f"--grep={LOST}"),
    (*JOURNAL, "--lines=15", "--unit=vre-patch"),
    (*KUBECTL, "get", "pods", "--all-namespaces", "--output=wide"),
    (*KUBECTL, "get", "endpointslices", "--all-namespaces"),
    (*KUBECTL, "get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
    (
        *KUBECTL,
        "logs",
        "--namespace=jupyter",
        "--tail=15",
        "--prefix",
        "--selector=app.kubernetes.io/name=jupyter",
        "--all-containers",
    ),
    (*KUBECTL, "logs", "--namespace=kube-system", "--tail=15", "--prefix", "--selector=app=network-policies"),
    ("nft", "list", "table", "inet", "kube-network-policies"),
    (*JOURNAL, "--lines=25"),
    ("uptime",),
)
LINES = 40


def look(machine: Machine) -> str:
    """Return how the machine and its cluster are, the last lines of each answer, or that it does not answer."""
    told = []
    for words in QUESTIONS:
        try:
            done = machine.result("sudo", "-n", *words, timeout=60)
        except subprocess.TimeoutExpired:
            told.append(f"$ {words[0]}: no answer; nothing more is asked")
            break
        told += [f"$ {' '.join(words)}", *(done.stdout + done.stderr).splitlines()[-LINES:]]
    return "\n".join(told)


def launch(stack: Stack) -> str:
    """Return what can be known of the machines of a launch that failed: their consoles, and their own answers."""
    told = []
    for console in sorted((stack.folder / "pool").rglob("*-console.log")):
        told += [f"$ tail {console.name}", *_printed(console)[-LINES:]]
    try:
        told += [look(machine) for machine in stack.machines()]
    except (RuntimeError, LookupError) as error:
        told.append(f"nothing more can be asked: {error}")
    return "\n".join(told)


def _printed(console: Path) -> list[str]:
    text = console.read_text(errors="replace")
    return [line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", text).splitlines() if line.strip()]


def reason(text: str) -> str:
    """Return the engine's own words for what went wrong, of all it printed."""
    _, _, after = text.partition("\nDiagnostics:")
    told = re.split(r"\n(?:Outputs|Resources|Policies):", after or text[-1500:])[0]
    return "\n".join(line.strip() for line in told.splitlines() if line.strip())[:1500]
