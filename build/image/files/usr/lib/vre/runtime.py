"""A container runtime that is replaced under running pods: nobody acts on what it says before it knows them all again.

containerd gives each pod and each container ten seconds to answer when it starts. What does not answer in time, on a busy
machine, is unknown to it, and the kubelet ends it for that. So the kubelet waits, and containerd starts once more where
it lost something. Python's standard library only.
"""

from collections.abc import Callable

PACKAGES = frozenset({"containerd", "runc"})
STARTS = 3
LATEST, UNIT = "10min", "vre-kubelet-again"
"""The kubelet is started by then, whatever becomes of this program."""
ANY = tuple(range(256))
Run = Callable[..., str]


def quietly(run: Run, work: Callable[[], object]) -> None:
    """Do it while no kubelet runs, and see that all that runs is known afterwards. `run` runs a command."""
    if run("systemctl", "is-active", "kubelet.service", accept=ANY).strip() != "active":
        work()
        return
    before = known(run)
    start = ("systemctl", "start", "kubelet.service")
    run("systemd-run", "--quiet", "--collect", f"--unit={UNIT}", f"--on-active={LATEST}", *start, accept=ANY)
    run("systemctl", "stop", "kubelet.service")
    try:
        work()
        for _ in range(STARTS):
            if before <= known(run):
                break
            run("systemctl", "restart", "containerd.service")
    finally:
        run(*start)
        run("systemctl", "stop", f"{UNIT}.timer", accept=ANY)


def known(run: Run) -> set[str]:
    """Return the pods and the containers that containerd knows to be well: it can lose one of either alone."""
    pods = run("crictl", "pods", "--state", "Ready", "--quiet", accept=ANY)
    return {*pods.split(), *run("crictl", "ps", "--state", "Running", "--quiet", accept=ANY).split()}
