"""Measure the program on each cloud, against an empty program and by the number of machines: part of `make bench`.

The clouds are simulated, so a preview's time is the engine's, the program's and the simulator's. Writes
docs/benchmarks-clouds.md, from what was measured and nothing else.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import RUNS, empty
from tests.engine.simulated.lifecycle import begin
from tests.oracle.configs import KEY, case
from tests.oracle.told import declared
from vre.paths import project
from vre.progress import step

PREVIEW_LIMIT, MACHINE_LIMIT, MEMORY_LIMIT = 2.0, 0.020, 250 * 1024
MACHINES = (1, 100)
SAID = 'print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))'
CLOUDS: Mapping[str, Mapping[str, Any]] = {
    "aws": {"provider": "aws", "region": "eu-west-1"},
    "gcp": {"provider": "gcp", "project": "phenome-1234", "region": "europe-west1"},
    "azure": {
        "provider": "azure", "region": "westeurope", "subscription": "00000000-0000-0000-0000-000000000000",
    },
}  # fmt: skip
PLUGINS = {"azure": "azure-native"}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds and KiB on one cloud."""

    preview: float
    machine: float
    memory: int


def preview(cloud: str, folder: Path) -> float:
    """Return the median time of a preview without changes on a simulated cloud."""
    stack = (project() / "stacks" / f"Pulumi.{cloud}.yaml").read_text().partition("config:\n")[2]
    life = begin(folder / "clone", cloud, stack, [PLUGINS.get(cloud, cloud)])
    life.up()
    return statistics.median(_timed(lambda: life.preview("--expect-no-changes")) for _ in range(RUNS))


def machine(cloud: str) -> float:
    """Return the time that one machine more takes our own code and the SDK, without the engine."""
    few, many = (_timed(partial(_declare, cloud, count)) for count in MACHINES)
    return (many - few) / (MACHINES[1] - MACHINES[0])


def _declare(cloud: str, workers: int) -> None:
    settings = {
        "cloud": CLOUDS[cloud],
        "access": {"keys": [KEY], "operators": ["203.0.113.0/24"]},
        "edge": {"provider": "direct", "domain": "example.org"},
        "machines": {"workers": {"count": workers}},
    }
    answers: dict[str, Any] = {"ipv6CidrBlock": "2001:db8::/56", "address": "192.0.2.1", "publicIp": "192.0.2.1"}
    declared(case(settings), lambda token, name, inputs: (f"{name}-id", {**answers, "name": name}), _Anything())


class _Anything(dict[str, Callable[[dict[str, Any]], dict[str, Any]]]):
    """Answers to every data source."""

    def __missing__(self, token: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return lambda _: {"names": ["a"], "id": "image", "tenantId": "tenant", "selfLink": "image", "images": []}

    def __contains__(self, token: object) -> bool:
        return True


def memory(cloud: str) -> int:
    """Return the most memory, in KiB, of the program with this cloud's packages in use."""
    text = f"from tests.bench_clouds import _declare; _declare({cloud!r}, 1); {SAID}"
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
        f"| {each.memory / 1024:.0f} MiB |\n"
        for cloud, each in found.items()
    )
    return f"""# Benchmarks on simulated clouds

Written by `make bench` on {when}. An empty Pulumi Python program without changes took {nothing:.1f} s in the same run.
The clouds' plugins are simulated in Python, and their time is part of a preview's.

| cloud | preview without changes | compared with an empty program | one machine more | memory of the program |
|---|---|---|---|---|
{rows}| *at most* | | *{PREVIEW_LIMIT:g}* | *{MACHINE_LIMIT * 1000:.0f} ms* | *{MEMORY_LIMIT / 1024:.0f} MiB* |

"One machine more" is the time between {MACHINES[0]} and {MACHINES[1]} workers, for each of them, in our own code and
Pulumi's SDK, without the engine.
"""


def main() -> int:
    """Measure, write the page, and say by the exit code whether the limits hold."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="vre-bench-") as name:
        folder = Path(name)
        nothing = statistics.median(empty(folder / "empty"))
        for cloud in CLOUDS:
            with step(f"the program on {cloud}"):
                found[cloud] = Measured(
                    preview=preview(cloud, folder / cloud), machine=machine(cloud), memory=memory(cloud)
                )
    target = project() / "docs" / "benchmarks-clouds.md"
    target.write_text(page(found, nothing, when=datetime.now(UTC).strftime("%Y-%m-%d")))
    sys.stdout.write(target.read_text())
    return int(
        any(
            each.preview / nothing > PREVIEW_LIMIT or each.machine > MACHINE_LIMIT or each.memory > MEMORY_LIMIT
            for each in found.values()
        )
    )


if __name__ == "__main__":
    sys.exit(main())
