"""What a machine looked like when a test of it failed: nobody can ask it afterwards."""

import re
import subprocess
from pathlib import Path

from tests.machine.stack import KUBECTL, Machine, Stack

JOURNAL = ("journalctl", "--boot=0", "--output=short-monotonic", "--no-pager")
LATELY = (*JOURNAL, "--since=-4min")
"""What the machine said of its containers is picked out of it, and shortened."""
TELLING = re.compile(
    r"containerd\[|cri-containerd-|(containerd|kubelet|vre-patch)\.service: |(Stopp|Start)(ed|ing) (containerd|kubelet)"
    r"|Reloading|python3\[|[Kk]illed process|oom|segfault|traps:",
)
DULL = re.compile(
    r"loading plugin|left-over|usually indicates|remains running|Consumed|Start cri plugin|StopPodSandbox|Connect"
    r"|RemovePodSandbox|RemoveContainer|Forcibly stopping|TearDown network|cleaning up|serving\.\.\.|syncer|NRI"
    r"|streaming server|Stream server|content store|legacy CRI|image filesystem path|subscribing"
)
SHORTER = (
    (r'time="[^"]*" level=(?:info )?', ""),
    (r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1"),
    (r"^(\[ *\d+\.\d)\d*\] \S+ ", r"\1] "),
    (r"libcontainer container|container_id:\S+|exited_at:.*|namespace=k8s.io|msg=| - containerd container runtime", ""),
)
QUESTIONS = (
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
    told = [*containers(machine)]
    for words in QUESTIONS:
        try:
            done = machine.result("sudo", "-n", *words, timeout=60)
        except subprocess.TimeoutExpired:
            told.append(f"$ {words[0]}: no answer; nothing more is asked")
            break
        told += [f"$ {' '.join(words)}", *(done.stdout + done.stderr).splitlines()[-LINES:]]
    return "\n".join(told)


def containers(machine: Machine) -> list[str]:
    """Return what was said of the machine's containers in the last minutes, and what the daily upgrade said."""
    try:
        done = machine.result("sudo", "-n", *LATELY, timeout=60)
    except subprocess.TimeoutExpired:
        return ["the journal: no answer"]
    return ["what was said of containers:", *picked(done.stdout)]


def picked(journal: str) -> list[str]:
    """Return the lines of a journal that tell what became of containers, shortened. Pure."""
    told = [line for line in journal.splitlines() if TELLING.search(line) and not DULL.search(line)]
    for long, short in SHORTER:
        told = [re.sub(long, short, line) for line in told]
    return [line[:150].rstrip() for line in told][-2 * LINES :]


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
