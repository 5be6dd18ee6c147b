"""A container runtime that is replaced under running pods: nobody acts on what it says before it knows them all again.

containerd gives each pod and each container ten seconds to answer when it starts. What does not answer in time, on a
busy machine, is unknown to it, and the kubelet ends it for that. So the kubelet waits, and containerd starts once more
where it lost something. Python's standard library only.
"""

from collections.abc import Callable

PACKAGES = frozenset({"containerd", "runc"})
STARTS = 3
LATEST, UNIT = "10min", "vre-kubelet-again"
"""The kubelet is started by then, whatever becomes of this program."""
CRICTL = ("crictl", "--timeout", "60s")
"""Its own two seconds are too few on a busy machine; and no answer would pass for nothing that runs."""
ANY = tuple(range(256))
Run = Callable[..., str]


def quietly(run: Run, say: Callable[[str], object], work: Callable[[], object]) -> None:
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
            if not (lost := before - known(run)):
                break
            say(f"containerd does not know {len(lost)} of {len(before)} that run: it starts once more")
            run("systemctl", "restart", "containerd.service")
    finally:
        run(*start)
        run("systemctl", "stop", f"{UNIT}.timer", accept=ANY)


def known(run: Run) -> set[str]:
    """Return the pods and the containers that containerd knows to be well: it can lose one of either alone."""
    pods = run(*CRICTL, "pods", "--state", "Ready", "--quiet", accept=ANY)
    return {*pods.split(), *run(*CRICTL, "ps", "--state", "Running", "--quiet", accept=ANY).split()}
