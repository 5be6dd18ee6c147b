"""A container runtime that is replaced under running pods: nobody acts on what it says before it knows them all again.

containerd gives what runs in each pod ten seconds to answer when it starts. What a busy machine does not answer in time
counts as ended, and the kubelet ends it for that. So the kubelet waits, and containerd starts once more where it lost
something. Python's standard library only.
"""

from collections.abc import Callable

PACKAGES = frozenset({"containerd", "runc"})
STARTS = 3
LATEST, UNIT = "10min", "vre-kubelet-again"
"""The kubelet is started by then, whatever becomes of this program."""
ANY = tuple(range(256))
Run = Callable[..., str]


def quietly(run: Run, work: Callable[[], object]) -> None:
    """Do it while no kubelet runs, and see that every pod is known afterwards. `run` runs a command."""
    if run("systemctl", "is-active", "kubelet.service", accept=ANY).strip() != "active":
        work()
        return
    before = ready(run)
    start = ("systemctl", "start", "kubelet.service")
    run("systemd-run", "--quiet", "--collect", f"--unit={UNIT}", f"--on-active={LATEST}", *start, accept=ANY)
    run("systemctl", "stop", "kubelet.service")
    try:
        work()
        for _ in range(STARTS):
            if before <= ready(run):
                break
            run("systemctl", "restart", "containerd.service")
    finally:
        run(*start)
        run("systemctl", "stop", f"{UNIT}.timer", accept=ANY)


def ready(run: Run) -> set[str]:
    """Return the pods that containerd knows to be well."""
    return set(run("crictl", "pods", "--state", "Ready", "--quiet", accept=ANY).split())
