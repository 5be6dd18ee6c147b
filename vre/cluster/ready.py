"""Whether Kubernetes objects are up, and what keeps those down that are not. Pure: judges what the API answered."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]
VERSIONS = {
    "Deployment": "apps/v1",
    "DaemonSet": "apps/v1",
    "StatefulSet": "apps/v1",
    "Job": "batch/v1",
    "Pod": "v1",
    "PersistentVolumeClaim": "v1",
    "Namespace": "v1",
    "Service": "v1",
    "ConfigMap": "v1",
    "Secret": "v1",
    "StorageClass": "storage.k8s.io/v1",
}
"""The kinds that can be waited for."""
HOPELESS = ("ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")
"""Reasons for which waiting does not help."""


def ready(thing: Object | None) -> bool:
    """Say whether an object, as the API server shows it, is up. One that is missing is not."""
    if thing is None:
        return False
    kind, status = thing["kind"], thing.get("status") or {}
    if kind in ("Deployment", "StatefulSet", "DaemonSet"):
        return _rolled_out(thing, status)
    if kind == "Job":
        return int(status.get("succeeded") or 0) >= int(thing["spec"].get("completions") or 1)
    if kind == "Pod":
        return _condition(status, "Ready")
    if kind == "PersistentVolumeClaim":
        return str(status.get("phase")) == "Bound"
    return True


def failed(thing: Object | None) -> bool:
    """Say whether an object will never be up: a job that has used up its tries."""
    return thing is not None and thing["kind"] == "Job" and _condition(thing.get("status") or {}, "Failed")


def _rolled_out(thing: Object, status: Mapping[str, Any]) -> bool:
    if int(status.get("observedGeneration") or 0) < int(thing["metadata"].get("generation") or 0):
        return False
    if thing["kind"] == "DaemonSet":
        wanted = int(status.get("desiredNumberScheduled") or 0)
        counts = ("updatedNumberScheduled", "numberAvailable")
        return wanted > 0 and all(int(status.get(count) or 0) >= wanted for count in counts)
    wanted = int(thing["spec"].get("replicas", 1))
    counts = (
        ("updatedReplicas", "availableReplicas")
        if thing["kind"] == "Deployment"
        else ("updatedReplicas", "readyReplicas")
    )
    return all(int(status.get(count) or 0) >= wanted for count in counts) and int(status.get("replicas") or 0) <= wanted


def _condition(status: Mapping[str, Any], kind: str) -> bool:
    return any(each["type"] == kind and each["status"] == "True" for each in status.get("conditions") or [])


def name(thing: Mapping[str, Any]) -> str:
    """Return what people call an object: `Deployment coredns in kube-system`."""
    about = thing.get("metadata") or thing
    place = f" in {about['namespace']}" if about.get("namespace") else ""
    return f"{thing['kind']} {about['name']}{place}"


def progress(waiting: Sequence[Object], total: int, pods: Iterable[Object]) -> str:
    """Return one line: how many are up, which are not, how many pods are ready."""
    counted = [pod for pod in pods if (pod.get("status") or {}).get("phase") != "Succeeded"]
    up = sum(_condition(pod.get("status") or {}, "Ready") for pod in counted)
    left = ", ".join(str(each["name"]) for each in waiting)
    return f"{total - len(waiting)} of {total} up, pods ready {up} of {len(counted)}; waiting for {left}"


def hopeless(pods: Iterable[Object]) -> str:
    """Return why waiting is in vain, or nothing."""
    for pod in pods:
        for reason, message in _waits(pod):
            if reason in HOPELESS:
                return f"{pod['metadata']['name']}: {reason}: {message}"
    return ""


def troubled(pods: Iterable[Object]) -> list[Object]:
    """Return the pods that are not up and not done."""
    return [
        pod
        for pod in pods
        if (pod.get("status") or {}).get("phase") != "Succeeded" and not _condition(pod.get("status") or {}, "Ready")
    ]


def why(pod: Object) -> list[str]:
    """Return what a pod says of itself: its phase, what its containers wait for, how they ended."""
    status = pod.get("status") or {}
    lines = [f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}: {status.get('phase', 'unknown')}"]
    lines += [
        f"  {each.get('message')}"
        for each in status.get("conditions") or []
        if each["status"] == "False" and each.get("message")
    ]
    lines += [f"  {reason}: {message}" for reason, message in _waits(pod)]
    return lines


def _waits(pod: Object) -> Iterable[tuple[str, str]]:
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = container.get("state") or {}
        ended = (container.get("lastState") or {}).get("terminated") or state.get("terminated")
        if "waiting" in state:
            yield str(state["waiting"].get("reason")), str(state["waiting"].get("message", ""))
        if ended and ended.get("exitCode"):
            yield f"ended with exit code {ended['exitCode']}", str(ended.get("message") or ended.get("reason") or "")
