"""A container runtime that is replaced under running pods: nobody acts on what it says before it knows them all again.

What containerd does not know yet when it has just started, the kubelet would take for ended: so the kubelet waits. What
containerd ends itself, having found another shim than the pod's own (the file `shim` says how that comes about), the
kubelet makes anew; it is named. Python's standard library only.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

PACKAGES = frozenset({"containerd", "runc"})
LATEST, UNIT = "10min", "vre-kubelet-again"
"""The kubelet is started by then, whatever becomes of this program."""
CRICTL = ("crictl", "--timeout", "60s")
"""Its own two seconds are too few on a busy machine; and no answer would pass for nothing that runs."""
LISTS = (("pods", "--state", "Ready", "--output", "json"), ("ps", "--state", "Running", "--output", "json"))
"""It can lose a pod or a container alone."""
POD = ("io.kubernetes.pod.namespace", "io.kubernetes.pod.name")
ANY = tuple(range(256))
Run = Callable[..., str]


def quietly(run: Run, say: Callable[[str], object], work: Callable[[], object]) -> list[str]:
    """Do it while no kubelet runs, and see that all that runs is known afterwards. `run` runs a command.

    Returns the pods (`namespace/name`, sorted) that did not come through it: the kubelet starts them anew.
    """
    if run("systemctl", "is-active", "kubelet.service", accept=ANY).strip() != "active":
        work()
        return []
    before = known(run)
    start = ("systemctl", "start", "kubelet.service")
    run("systemd-run", "--quiet", "--collect", f"--unit={UNIT}", f"--on-active={LATEST}", *start, accept=ANY)
    run("systemctl", "stop", "kubelet.service")
    try:
        work()
        pods = sorted({before[each] for each in before.keys() - known(run).keys()})
        if pods:
            say(f"did not live through it, and start anew: {', '.join(pods)}")
        return pods
    finally:
        run(*start)
        run("systemctl", "stop", f"{UNIT}.timer", accept=ANY)


def known(run: Run) -> dict[str, str]:
    """Return the pods and the containers that containerd knows to be well: the identity of each, and its pod."""
    return {each["id"]: _pod(each) for words in LISTS for each in _listed(run(*CRICTL, *words, accept=ANY))}


def _listed(told: str) -> list[Mapping[str, Any]]:
    """Read what crictl prints; what it could not ask is not known."""
    try:
        lists: Mapping[str, list[Mapping[str, Any]]] = json.loads(told)
    except ValueError:
        return []
    return [each for listed in lists.values() for each in listed or ()]


def _pod(of: Mapping[str, Any]) -> str:
    labels = of.get("labels") or {}
    return "/".join(labels.get(name, "?") for name in POD)
