"""The program's own work for a stack on a cloud, without the engine: what `make bench` times and weighs.

It imports what a launch imports and a stand-in for the engine, and nothing else of the tests: all of it is weighed.
"""

import contextlib
import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pulumi
from pulumi import Output, ResourceOptions

from tests.oracle.declared import SEED, played
from vre import clouds
from vre.clouds import site
from vre.clouds.site import Disk, Order
from vre.config import Config
from vre.inventory import Machine
from vre.machine.cloudinit import HostKey
from vre.paths import project
from vre.plan import plan

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMVPIJqWJSfZNiNFfmFO7xBHK7LEcDJkxjRgWEzo8dsL a"
CLOUDS: Mapping[str, Mapping[str, Any]] = {
    "aws": {"provider": "aws", "region": "eu-west-1"},
    "gcp": {"provider": "gcp", "project": "phenome-1234", "region": "europe-west1"},
    "azure": {
        "provider": "azure", "region": "westeurope", "subscription": "00000000-0000-0000-0000-000000000000",
    },
}  # fmt: skip
COMPUTED: Mapping[str, Any] = {"ipv6CidrBlock": "2001:db8::/56", "address": "192.0.2.1", "publicIp": "192.0.2.1"}
"""What a cloud answers to everything that is made there."""
SAID = 'print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))'


@dataclass(frozen=True, kw_only=True)
class Took:
    """Seconds of the processor: in code of ours, and in all of the program with the SDKs and the stand-in."""

    own: float
    whole: float


def declared(cloud: str, workers: int) -> Took:
    """Do what a launch does for machines apart from asking anybody, and say what it took.

    Our own code is what reads the settings, plans, declares, and writes what each machine is told: its firewall and its
    first boot. What Pulumi makes of a resource is in the whole only, and so are the answers of the stand-in.
    """
    settings = {
        "name": "bench",
        "cloud": CLOUDS[cloud],
        "access": {"keys": [KEY], "operators": ["203.0.113.0/24"]},
        "edge": {"provider": "direct", "domain": "example.org"},
        "machines": {"workers": {"count": workers}},
    }
    own: list[float] = []

    def program() -> None:
        with _apart() as pulumis:
            whole = worked(lambda: _launched(settings))
        own.append(whole - sum(pulumis))

    with _untidied():
        whole = worked(
            lambda: played(
                program, "bench", lambda _, name, __: (f"{name}-id", {**COMPUTED, "name": name}), _Anything()
            )
        )
    return Took(own=own[0], whole=whole)


@contextlib.contextmanager
def _untidied() -> Iterator[None]:
    """Look for no garbage, as the program does not; what an earlier run left is taken away before."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def fresh(cloud: str, workers: int) -> Took:
    """Do the same in a process of its own, as the program does: what an earlier run left makes the next one slower."""
    first = f"declared({cloud!r}, 1)"  # what is imported is not a machine's
    text = f"{first}; took = declared({cloud!r}, {workers}); print(took.own, took.whole)"
    own, whole = _told(text).split()
    return Took(own=float(own), whole=float(whole))


def memory(cloud: str, workers: int) -> int:
    """Return the most memory, in KiB, of a program that declares so many workers on a cloud."""
    return int(_told(f"declared({cloud!r}, {workers}); {SAID}").split()[-2])


def _told(text: str) -> str:
    text = f"from tests.bench_declared import declared; {text}"
    done = subprocess.run([sys.executable, "-c", text], cwd=project(), capture_output=True, text=True, check=True)
    return done.stdout


def worked(work: Callable[[], object]) -> float:
    """Return the seconds that the processor worked on something, whatever else runs on this machine."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


@contextlib.contextmanager
def _apart() -> Iterator[list[float]]:
    """Yield a list that gets the seconds which Pulumi itself takes for each resource."""
    spent: list[float] = []
    begin_one = pulumi.Resource.__init__

    def timed(self: pulumi.Resource, *args: Any, **more: Any) -> None:
        spent.append(worked(lambda: begin_one(self, *args, **more)))

    with mock.patch.object(pulumi.Resource, "__init__", timed):
        yield spent


def _launched(settings: Mapping[str, Any]) -> None:
    """Declare everything of a cloud's own, and write what each machine is told."""
    config = Config.model_validate(settings)
    disk = Disk(path="/image", id="image")
    order = Order(config=config, plan=plan(config), policy=clouds.policy(config), image=disk)
    room = clouds.room(config)
    net = room.network(order, ResourceOptions())
    guards = room.firewalls(net)
    for each in order.plan.machines:
        room.machine(net, each, guards[each.name], room.data(net, each), Output.secret(SEED))
        site.rules(config, order.policy, each)
        site.seed(_Dhcp(), order, each, HostKey(public="public", private="private"), "/dev/data")


class _Dhcp:
    """A network that tells machines itself who they are."""

    gateways: Sequence[str] = ()
    resolvers: Sequence[str] = ()

    def interfaces(self, machine: Machine) -> Sequence[str]:
        """Return nothing."""
        return ()


class _Anything(dict[str, Callable[[dict[str, Any]], dict[str, Any]]]):
    """Answers to every data source."""

    def __missing__(self, token: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return lambda _: {"names": ["a"], "id": "image", "tenantId": "tenant", "selfLink": "image", "images": []}

    def __contains__(self, token: object) -> bool:
        return True
