"""What a machine looked like when a test of it failed: nobody can ask it afterwards."""

import subprocess

from tests.machine.stack import KUBECTL, Machine

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
    ("journalctl", "--boot=0", "--lines=25", "--output=short-monotonic", "--no-pager"),
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
