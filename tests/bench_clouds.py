"""Measure the program on each cloud, against an empty program and by the number of machines: part of `make bench`.

The clouds are simulated, so a preview's time is the engine's, the program's and the simulator's. Writes
docs/benchmarks-clouds.md, from what was measured and nothing else.
"""

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import le
from pathlib import Path

from tests.bench import RUNS, empty
from tests.bench_bare import bare
from tests.bench_declared import CLOUDS, fresh, memory
from tests.engine.moto_server import serving
from tests.engine.simulated import azure
from tests.engine.simulated.lifecycle import Life, begin
from vre.paths import project
from vre.progress import step

BARE_LIMIT = 1.5
"""So many times what the same resources take that a program without code of ours declares."""
PREVIEW_LIMIT, MACHINE_LIMIT, MEMORY_LIMIT = 2.0, 0.020, 250 * 1024
MACHINES = (1, 10, 30, 100)
EVEN_LIMIT = 2.0
"""So many times what a machine costs between the first numbers may one cost between the last: growth is a line."""
PLUGINS = {"azure": "azure-native"}
CREDENTIALS: Mapping[str, Mapping[str, str]] = {
    "aws": {"AWS_ACCESS_KEY_ID": "AKIANOBODY0000000000", "AWS_SECRET_ACCESS_KEY": "nobody"},
    "gcp": {"GOOGLE_OAUTH_ACCESS_TOKEN": "nobody"},
    "azure": dict.fromkeys(azure.CREDENTIALS, "nobody"),
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds and KiB on one cloud: `machine` is one more in our own code, `whole` in all of the program.

    `bare` is a preview of the same resources by a program that is a list of them. `memory` is with one worker, `most`
    with the most workers.
    """

    preview: float
    bare: float
    machine: float
    growth: float
    whole: float
    memory: int
    most: int

    def ours(self, nothing: float) -> float:
        """Return how many times an empty program's time ours takes, less what the list takes beyond an empty one."""
        return (self.preview - self.bare + nothing) / nothing

    def within(self, nothing: float) -> bool:
        """Say whether the limits hold, beside the time of an empty program."""
        found = (self.preview, self.preview, self.machine, self.growth, self.memory, self.most)
        limits = (
            PREVIEW_LIMIT * nothing,
            BARE_LIMIT * self.bare,
            MACHINE_LIMIT,
            EVEN_LIMIT,
            MEMORY_LIMIT,
            MEMORY_LIMIT,
        )
        return all(map(le, found, limits))


@contextlib.contextmanager
def answering(cloud: str, folder: Path) -> Iterator[Mapping[str, str]]:
    """Have what stands behind a simulated cloud. Yields the environment that its plugin wants."""
    if cloud != "aws":
        yield CREDENTIALS[cloud]
        return
    folder.mkdir(parents=True)
    with serving(folder) as url:
        yield {**CREDENTIALS[cloud], "AWS_ENDPOINT_URL": url}


def preview(cloud: str, folder: Path) -> tuple[float, float]:
    """Return the median times of a preview without changes on a simulated cloud: of ours, and of a bare list.

    In turn, so that what else the machine does meets both.
    """
    stack = (project() / "stacks" / f"Pulumi.{cloud}.yaml").read_text().partition("config:\n")[2]
    with answering(cloud, folder / "cloud") as env:
        life = begin(folder / "clone", cloud, stack, [PLUGINS.get(cloud, cloud)], env=env)
        life.up()
        program = life.engine.checkout.path / "__main__.py"
        ours = program.read_text()
        texts = (ours, bare(life))
        runs = [[_previewed(life, program, text) for text in texts] for _ in range(RUNS)]
    first, second = map(statistics.median, zip(*runs, strict=True))
    return first, second


def _previewed(life: Life, program: Path, text: str) -> float:
    program.write_text(text)
    begun = time.monotonic()
    life.preview("--expect-no-changes")
    return time.monotonic() - begun


def machine(cloud: str) -> tuple[float, float, float]:
    """Return what one machine more takes in our own code, how that grows, and what it takes in all of the program.

    Seconds of the processor. The second compares a machine between the last two numbers with one between the first and
    the third.
    """
    runs = [[fresh(cloud, count) for _ in range(RUNS)] for count in MACHINES]
    one, _, some, many = (min(each.own for each in same) for same in runs)
    whole = [min(each.whole for each in same) for same in runs]
    late, early = (many - some) / (MACHINES[3] - MACHINES[2]), (some - one) / (MACHINES[2] - MACHINES[0])
    more = MACHINES[3] - MACHINES[0]
    return (many - one) / more, late / early, (whole[3] - whole[0]) / more


def page(found: Mapping[str, Measured], nothing: float, *, when: str) -> str:
    """Return docs/benchmarks-clouds.md. Pure."""
    rows = "".join(
        f"| {cloud} | {each.preview:.1f} s | {each.preview / nothing:.2f} | {each.bare:.1f} s "
        f"| {each.bare / nothing:.2f} | {each.ours(nothing):.2f} | {each.machine * 1000:.1f} ms "
        f"| {each.growth:.2f} | {each.whole * 1000:.1f} ms | {each.memory / 1024:.0f} MiB "
        f"| {each.most / 1024:.0f} MiB |\n"
        for cloud, each in found.items()
    )
    per, weight = f"*{MACHINE_LIMIT * 1000:.0f} ms*", f"*{MEMORY_LIMIT / 1024:.0f} MiB*"
    most = f"| *at most* | | *{PREVIEW_LIMIT:g}* | | | | {per} | *{EVEN_LIMIT:g}* | | {weight} | {weight} |"
    return f"""# Benchmarks on simulated clouds

Written by `make bench` on {when}. An empty Pulumi Python program without changes took {nothing:.1f} s in the same run.
The clouds' plugins are simulated in Python, and their time is part of a preview's. Previews are without changes.

| cloud | preview | to empty | bare | to empty | ours | own code | growth | all code | memory | {MACHINES[3]} workers |
|---|---|---|---|---|---|---|---|---|---|---|
{rows}{most}

"Bare" is a preview of the same resources by a program that is a list of them: no settings, no policy, no SDK. It is
what the engine, the plugins and Pulumi's Python take, so no program can be much quicker, and an empty program, which
declares nothing and starts no plugin, is no measure for that part. "Ours" leaves it out: an empty program's time and
what our program takes beyond the bare list, to an empty program's time. A preview may
take {BARE_LIMIT:g} times bare, too.

Code is the processor's time for one worker more, between {MACHINES[0]} and {MACHINES[3]}. "Own code" is what reads the
settings, plans, declares network, firewalls, disks and machines, and writes each machine's own firewall and first boot,
with the SDK's constructors, less what Pulumi makes of each resource. "All code" is everything in the program: Pulumi,
what is sent, and the stand-in for the engine, which runs in it, too; most of that is not ours, so it has no limit.
"Growth" compares what one costs in our own code between {MACHINES[2]} and {MACHINES[3]} with what one costs between
{MACHINES[0]} and {MACHINES[2]}; 1 is a straight line. Memory is the program's most, with {MACHINES[0]} worker and with
{MACHINES[3]}, the stand-in's part included.

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
                each, growth, whole = machine(cloud)
                ours, least = preview(cloud, folder / cloud)
                found[cloud] = Measured(
                    preview=ours,
                    bare=least,
                    machine=each,
                    growth=growth,
                    whole=whole,
                    memory=memory(cloud, MACHINES[0]),
                    most=memory(cloud, MACHINES[3]),
                )
    target = project() / "docs" / "benchmarks-clouds.md"
    target.write_text(page(found, nothing, when=datetime.now(UTC).strftime("%Y-%m-%d")))
    sys.stdout.write(target.read_text())
    return int(not all(each.within(nothing) for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
