"""Measure the program on each cloud, against an empty program and by the number of machines: part of `make bench`.

The clouds are simulated, so a preview's time is the engine's, the program's and the simulator's. Writes
docs/benchmarks-clouds.md, from what was measured and nothing else.
"""

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import le
from pathlib import Path
from typing import Any
from unittest import mock

import pulumi

from tests.bench import RUNS, empty
from tests.engine.moto_server import serving
from tests.engine.simulated import azure
from tests.engine.simulated.lifecycle import begin
from tests.oracle.configs import KEY, Case, case
from tests.oracle.told import declare, played
from vre.clouds import site
from vre.clouds.site import Disk, Order
from vre.inventory import Machine
from vre.machine.cloudinit import HostKey
from vre.paths import project
from vre.progress import step

PREVIEW_LIMIT, MACHINE_LIMIT, MEMORY_LIMIT = 2.0, 0.020, 250 * 1024
MACHINES = (1, 10, 30, 100)
EVEN_LIMIT = 2.0
"""So many times what a machine costs between the first numbers may one cost between the last: growth is a line."""
SAID = 'print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))'
CLOUDS: Mapping[str, Mapping[str, Any]] = {
    "aws": {"provider": "aws", "region": "eu-west-1"},
    "gcp": {"provider": "gcp", "project": "phenome-1234", "region": "europe-west1"},
    "azure": {
        "provider": "azure", "region": "westeurope", "subscription": "00000000-0000-0000-0000-000000000000",
    },
}  # fmt: skip
PLUGINS = {"azure": "azure-native"}
CREDENTIALS: Mapping[str, Mapping[str, str]] = {
    "aws": {"AWS_ACCESS_KEY_ID": "AKIANOBODY0000000000", "AWS_SECRET_ACCESS_KEY": "nobody"},
    "gcp": {"GOOGLE_OAUTH_ACCESS_TOKEN": "nobody"},
    "azure": dict.fromkeys(azure.CREDENTIALS, "nobody"),
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds and KiB on one cloud: `memory` with one worker, `most` with the most workers."""

    preview: float
    machine: float
    growth: float
    sdk: float
    memory: int
    most: int

    def within(self, nothing: float) -> bool:
        """Say whether the limits hold, beside the time of an empty program."""
        limits = (PREVIEW_LIMIT * nothing, MACHINE_LIMIT, EVEN_LIMIT, MEMORY_LIMIT)
        return all(map(le, (self.preview, self.machine, self.growth, self.memory), limits))


@contextlib.contextmanager
def answering(cloud: str, folder: Path) -> Iterator[Mapping[str, str]]:
    """Have what stands behind a simulated cloud. Yields the environment that its plugin wants."""
    if cloud != "aws":
        yield CREDENTIALS[cloud]
        return
    folder.mkdir(parents=True)
    with serving(folder) as url:
        yield {**CREDENTIALS[cloud], "AWS_ENDPOINT_URL": url}


def preview(cloud: str, folder: Path) -> float:
    """Return the median time of a preview without changes on a simulated cloud."""
    stack = (project() / "stacks" / f"Pulumi.{cloud}.yaml").read_text().partition("config:\n")[2]
    with answering(cloud, folder / "cloud") as env:
        life = begin(folder / "clone", cloud, stack, [PLUGINS.get(cloud, cloud)], env=env)
        life.up()
        return statistics.median(_timed(lambda: life.preview("--expect-no-changes")) for _ in range(RUNS))


def machine(cloud: str) -> tuple[float, float, float]:
    """Return the seconds that one machine more takes our own code, how they grow, and the seconds with all of the SDK.

    Our own code is what reads the settings, plans, declares, and writes what each machine is told: its firewall and its
    first boot. What Pulumi makes of a resource is in the third figure. The second compares a machine between the last
    two numbers with one between the first and the third.
    """
    _declare(cloud, 1)  # what is imported is not a machine's
    runs = [[_declare(cloud, count) for _ in range(RUNS)] for count in MACHINES]
    one, _, some, many = (min(own for own, _ in each) for each in runs)
    whole = [min(all_of_it for _, all_of_it in each) for each in runs]
    late, early = (many - some) / (MACHINES[3] - MACHINES[2]), (some - one) / (MACHINES[2] - MACHINES[0])
    more = MACHINES[3] - MACHINES[0]
    return (many - one) / more, late / early, (whole[3] - whole[0]) / more


def _declare(cloud: str, workers: int) -> tuple[float, float]:
    """Return the seconds that our own code took, and those of all."""
    settings = {
        "cloud": CLOUDS[cloud],
        "access": {"keys": [KEY], "operators": ["203.0.113.0/24"]},
        "edge": {"provider": "direct", "domain": "example.org"},
        "machines": {"workers": {"count": workers}},
    }
    answers: dict[str, Any] = {"ipv6CidrBlock": "2001:db8::/56", "address": "192.0.2.1", "publicIp": "192.0.2.1"}
    own: list[float] = []

    def program() -> None:
        with _apart() as pulumis:
            whole = _timed(lambda: _launched(case(settings)))
        own.append(whole - sum(pulumis))

    whole = _timed(
        lambda: played(program, "bench", lambda _, name, __: (f"{name}-id", {**answers, "name": name}), _Anything())
    )
    return own[0], whole


@contextlib.contextmanager
def _apart() -> Iterator[list[float]]:
    """Yield a list that gets the seconds which Pulumi itself takes for each resource."""
    spent: list[float] = []
    begin_one = pulumi.Resource.__init__

    def timed(self: pulumi.Resource, *args: Any, **more: Any) -> None:
        spent.append(_timed(lambda: begin_one(self, *args, **more)))

    with mock.patch.object(pulumi.Resource, "__init__", timed):
        yield spent


def _launched(stack: Case) -> None:
    """Do what a launch does for machines apart from asking anybody: declare them, and write what they are told."""
    declare(stack)
    order = Order(config=stack.config, plan=stack.plan, policy=stack.policy, image=Disk(path="", id=""))
    for each in stack.plan.machines:
        site.rules(stack.config, stack.policy, each)
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


def memory(cloud: str, workers: int) -> int:
    """Return the most memory, in KiB, of the program with this cloud's packages in use."""
    text = f"from tests.bench_clouds import _declare; _declare({cloud!r}, {workers}); {SAID}"
    told = subprocess.run([sys.executable, "-c", text], cwd=project(), capture_output=True, text=True, check=True)
    return int(told.stdout.split()[-2])


def _timed(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def page(found: Mapping[str, Measured], nothing: float, *, when: str) -> str:
    """Return docs/benchmarks-clouds.md. Pure."""
    rows = "".join(
        f"| {cloud} | {each.preview:.1f} s | {each.preview / nothing:.2f} | {each.machine * 1000:.1f} ms "
        f"| {each.growth:.2f} | {each.sdk * 1000:.0f} ms | {each.memory / 1024:.0f} MiB "
        f"| {each.most / 1024:.0f} MiB |\n"
        for cloud, each in found.items()
    )
    most = (
        f"| *at most* | | *{PREVIEW_LIMIT:g}* | *{MACHINE_LIMIT * 1000:.0f} ms* | *{EVEN_LIMIT:g}* | "
        f"| *{MEMORY_LIMIT / 1024:.0f} MiB* | |"
    )
    return f"""# Benchmarks on simulated clouds

Written by `make bench` on {when}. An empty Pulumi Python program without changes took {nothing:.1f} s in the same run.
The clouds' plugins are simulated in Python, and their time is part of a preview's.

| cloud | preview without changes | to an empty one's | one machine more | growth | with the SDK | memory | at most |
|---|---|---|---|---|---|---|---|
{rows}{most}

"One machine more" is the time between {MACHINES[0]} and {MACHINES[3]} workers, for each of them, in our own code:
reading, planning, declaring network, firewalls, disks and machines, and writing each machine's own firewall and first
boot. "Growth" compares what one costs between {MACHINES[2]} and {MACHINES[3]} with what one costs between {MACHINES[0]}
and {MACHINES[2]}; 1 is a straight line. "With the SDK" is all that happens in the program; Azure's gives each resource
tens of aliases, one for each version of its interface. Memory is with {MACHINES[0]} worker, and at most with
{MACHINES[3]}, where what stands for the engine keeps everything that it is told.

OpenStack is not measured: its simulation stands on a real keystone and neutron, whose time would be most of it.
"""


def main() -> int:
    """Measure, write the page, and say by the exit code whether the limits hold."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="vre-bench-") as name:
        folder = Path(name)
        nothing = statistics.median(empty(folder / "empty"))
        for cloud in CLOUDS:
            with step(f"the program on {cloud}"):
                each, growth, sdk = machine(cloud)
                found[cloud] = Measured(
                    preview=preview(cloud, folder / cloud),
                    machine=each,
                    growth=growth,
                    sdk=sdk,
                    memory=memory(cloud, MACHINES[0]),
                    most=memory(cloud, MACHINES[3]),
                )
    target = project() / "docs" / "benchmarks-clouds.md"
    target.write_text(page(found, nothing, when=datetime.now(UTC).strftime("%Y-%m-%d")))
    sys.stdout.write(target.read_text())
    return int(not all(each.within(nothing) for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
