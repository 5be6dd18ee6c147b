"""One lab, one launched stack for all tests of this folder, hosts around it: it all goes again, whatever happens."""

import atexit
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest

from tests.checkout import Checkout, clone, environment
from tests.machine import autopsy, secrets
from tests.machine.browser import browser
from tests.machine.lab import NAMESPACE, Host, Lab
from tests.machine.stack import Machine, Say, Stack
from vre.clouds import libvirt
from vre.setup import hypervisor as own

ORDER = (
    "test_launch",
    "test_browser",
    "test_doors",
    "test_inside",
    "test_wire",
    "test_origin",
    "test_policies",
    "test_runtime",
    "test_newer_images",
    "test_power",
    "test_drift",
    "test_end",
    "test_drills",
)
"""What changes the site comes after what looks at it, then its end. The drills have a stack of their own, and with the
first one gone the processors to themselves. Modules not named here come first: none of them needs the site, which would
run beside all that comes after it.
"""
TOOLS = ("ip", "nft", "nmap", "virsh", "ssh", "curl", "qemu-system-x86_64", "certutil", "chromium", "tcpdump")
NAME = "proof"
OPERATOR = ("192.168.77.200", "fd76:7265:77::c8")
STRANGER = ("192.168.77.201", "fd76:7265:77::c9")
STACK = """
config:
  vre:name: {name}
  vre:cloud:
    provider: libvirt
    uri: "{uri}"
    pool: {pool}
    network: 192.168.{number}.0/24
    network6: "fd76:7265:{number}::/64"
  vre:access:
    keys: [.vre/id_ed25519.pub]
    operators: [{operators}]
  vre:machines:
    control: {{size: {{cpus: 2, memory: 3}}, disk: 10, data: 2}}
  vre:services:
    jupyter: {{admin: researcher}}
"""


def clone_of(lab: Lab) -> Checkout:
    """Return the lab's clone as it stands."""
    target = lab.home / "clone"
    return Checkout(path=target, env=environment(target, target / ".vre"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    if here:
        first = items.index(here[0])
        rest = [item for item in items if item not in here]
        items[:] = [*rest[:first], *sorted(here, key=_place), *rest[first:]]


def _place(item: pytest.Item) -> int:
    if item.path.stem in ORDER:
        return ORDER.index(item.path.stem)
    if {"lab", "site"} <= set(getattr(item, "fixturenames", ())):
        raise pytest.UsageError(f"{item.path.name} is about the launched site: it wants its place in ORDER")
    return -1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: "pytest.CallInfo[None]"
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test of the launched stack that failed says how the machine is: nobody can ask it afterwards."""
    report = yield
    site = getattr(item, "funcargs", {}).get("site")
    if report.failed and isinstance(site, Launch) and not site.lost and item.path.stem != "test_end":
        report.sections.append(("the machine", autopsy.look(site.control)))
    return report


@pytest.fixture(autouse=True)
def standing(request: pytest.FixtureRequest) -> None:
    """End tests of a site that did not come back at once, but for its end: each would wait for it in vain."""
    if request.module.__name__.endswith("test_end") or "site" not in request.fixturenames:
        return
    site = request.getfixturevalue("site")  # of a module's own, it may be something else
    if isinstance(site, Launch) and site.lost:
        pytest.fail(f"the site was lost: {site.lost}", pytrace=False)


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Say:
    """Tell the person who waits what is being done."""
    begun = time.monotonic()
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def tell(message: str) -> None:
        with capture.global_and_fixture_disabled():
            # Not to standard output: beside other tests that is a line between processes.
            print(f"\n  [{(time.monotonic() - begun) / 60:5.1f} min] {message}", end="", file=sys.stderr, flush=True)

    return tell


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The place apart. VRE_KEEP=1 leaves it standing after the tests, and a later run goes on with it."""
    if os.geteuid():
        pytest.fail("tests/machine makes network namespaces and machines: run it as root", pytrace=False)
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)}; run: make setup", pytrace=False)
    place = Lab(keep=bool(os.environ.get("VRE_KEEP")))
    atexit.register(place.close)
    # Asked to end, the tests end as with Ctrl-C: what they made goes with them.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, _interrupt)
    place.open()
    yield place
    if not place.keep:
        own.stop(clone_of(place).state, grace=0)
    place.close()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="session")
def hypervisor(lab: Lab, checkout: Checkout, say: Say) -> str:
    """The address of a libvirtd of the tests' own, inside the lab."""
    say("starting a hypervisor in a network namespace of its own")
    return own.ensure(checkout.state, say, netns=NAMESPACE)


@pytest.fixture(scope="session")
def checkout(lab: Lab) -> Checkout:
    """A fresh clone, with state, passphrase and key of its own."""
    return clone_of(lab) if (lab.home / "clone").exists() else clone(lab.home / "clone")


@pytest.fixture(scope="session")
def stack(lab: Lab, checkout: Checkout, hypervisor: str, say: Say) -> Stack:
    """The stack that all tests share, not launched yet."""
    return make_stack(lab, checkout, hypervisor, say)


def make_stack(lab: Lab, checkout: Checkout, uri: str, say: Say, *, name: str = NAME, network: int = 77) -> Stack:
    """Write the stack's file and make it known to the engine."""
    made = Stack(name=name, checkout=checkout, host=lab.hypervisor, uri=uri, say=say)
    file = checkout.path / "stacks" / f"Pulumi.{name}.yaml"
    if not file.exists():
        operators = ", ".join(f'"{each}/{128 if ":" in each else 32}"' for each in OPERATOR)
        values = {"name": name, "uri": uri, "pool": lab.home / "pool", "operators": operators, "number": network}
        checkout.stack(name, STACK.format(**values))
        made.pulumi("stack", "init", "--secrets-provider", "passphrase")
    return made


class Launch:
    """What a launch was like: its time, all it printed, every command line seen meanwhile."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        stack.say("pulumi up")
        with secrets.watching() as seen:
            self.ended = stack.command(*stack.engine("up"))
        self.arguments = frozenset(seen.seen)
        stack.say(f"pulumi up: exit code {self.ended.code} after {self.ended.seconds:.0f} s")
        if self.ended.code:
            # All of it once, as it happened; of what each test repeats, only the engine's own words.
            stack.say(f"{self.ended.text[-6000:]}\n{autopsy.launch(stack)}")
            pytest.fail(f"the launch failed: {autopsy.reason(self.ended.text)}", pytrace=False)
        self.outputs = stack.outputs()
        self.machines = stack.machines(self.outputs)
        self.lost = ""
        """Why nothing more can be expected of it."""

    @property
    def control(self) -> Machine:
        """The control machine."""
        return self.machines[0]

    def secrets(self) -> dict[str, str]:
        """Return every key and password that the launch made, by the resource that made it."""
        made = self.stack.export(opened=True)["deployment"]["resources"]
        return {
            f"{each['urn'].rsplit('::', 1)[1]} {name}": text
            for each in made
            if each["type"].startswith("vre:crypto:")
            for name, value in each["outputs"].items()
            for text in secrets.opened(value)
        }

    def canaries(self) -> set[str]:
        """Return what must not be seen."""
        return secrets.canaries(self.secrets().values())


@pytest.fixture(scope="session")
def site(stack: Stack) -> Launch:
    """The launched stack."""
    return Launch(stack)


@pytest.fixture(scope="session")
def join(lab: Lab, stack: Stack, site: Launch) -> Callable[[str, tuple[str, str]], Host]:
    """Make hosts on the stack's network."""

    def make(namespace: str, addresses: tuple[str, str]) -> Host:
        ranges = stack.of("libvirt:Network")[0]["inputs"]
        lengths = (ranges["ipv4"].split("/")[1], ranges["ipv6"].split("/")[1])
        four, six = (f"{address}/{length}" for address, length in zip(addresses, lengths, strict=True))
        return lab.beside(namespace, libvirt.bridge(NAME), four, six, gateways=("192.168.77.1",))

    return make


@pytest.fixture(scope="session")
def outside(join: Callable[[str, tuple[str, str]], Host]) -> Host:
    """Another host on the network, at an operator's address."""
    return join("vre-outside", OPERATOR)


@pytest.fixture(scope="session")
def stranger(join: Callable[[str, tuple[str, str]], Host]) -> Host:
    """Another host on the network, whose address is nobody's."""
    return join("vre-stranger", STRANGER)


@pytest.fixture(scope="session")
def notebook(site: Launch, tmp_path_factory: pytest.TempPathFactory, say: Say) -> str:
    """The pod of a user's server."""
    if not _servers(site):
        say("starting a user's server")
        with browser(
            tmp_path_factory.mktemp("chromium"), authority=site.outputs["authority"], space=NAMESPACE
        ) as chromium:
            chromium.login(site.outputs["services"]["jupyter"], site.outputs["user"], site.outputs["password"])
    return _servers(site)[0]


def _servers(site: Launch) -> list[str]:
    pods = site.control.objects("pods", "--namespace", "jupyter-users")
    return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"]
