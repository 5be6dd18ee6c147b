"""When a set of objects is up, and when waiting for it is in vain."""

from typing import Any

import pytest

from vre.cluster import ready


def deployment(**status: Any) -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"name": "a", "generation": 2}, "spec": {"replicas": 1}, "status": status}


@pytest.mark.parametrize(
    ("status", "up"),
    [
        ({}, False),
        ({"observedGeneration": 1, "updatedReplicas": 1, "availableReplicas": 1, "replicas": 1}, False),
        ({"observedGeneration": 2, "updatedReplicas": 1, "availableReplicas": 1, "replicas": 1}, True),
        ({"observedGeneration": 2, "updatedReplicas": 1, "availableReplicas": 1, "replicas": 2}, False),
        ({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 1}, False),
    ],
)
def test_a_deployment_is_up_when_the_new_pods_are(status: dict[str, Any], up: bool) -> None:
    assert ready.ready(deployment(**status)) is up


def test_a_daemon_set_is_up_when_every_machine_has_its_pod() -> None:
    thing = {"kind": "DaemonSet", "metadata": {"generation": 1}, "status": {"observedGeneration": 1}}
    assert not ready.ready(thing)
    thing["status"] = {
        "observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 1,
    }  # fmt: skip
    assert not ready.ready(thing)
    thing["status"] = {**thing["status"], "numberAvailable": 2}  # type: ignore[dict-item]
    assert ready.ready(thing)


def test_what_is_missing_is_not_up_and_a_job_can_fail() -> None:
    job = {"kind": "Job", "metadata": {}, "spec": {}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}
    assert not ready.ready(None)
    assert not ready.ready(job)
    assert ready.failed(job)


def test_an_image_that_is_not_there_ends_the_waiting() -> None:
    waiting = {"waiting": {"reason": "ErrImageNeverPull", "message": "no image"}}
    pod = {"metadata": {"name": "p", "namespace": "n"}, "status": {"containerStatuses": [{"state": waiting}]}}
    assert "ErrImageNeverPull" in ready.hopeless([pod])
    assert ready.troubled([pod]) == [pod]
    assert "  ErrImageNeverPull: no image" in ready.why(pod)
