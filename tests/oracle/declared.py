"""What a cloud is told: the resources that a module of a cloud declares, without the engine."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi import Output, ResourceOptions
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks, set_mocks

from tests.oracle.told import Props, Resource
from vre import clouds
from vre.clouds.site import Disk, Order
from vre.machine.cloudinit import Seed

if TYPE_CHECKING:  # the benchmark weighs what is imported
    from tests.oracle.configs import Case

Answer = Callable[[str, str, Props], tuple[str, Props]]
"""From type, name and inputs of a resource to its id and what the cloud computes."""
SEED = Seed(user_data="#cloud-config\n{}\n", network_config="", meta_data="")
SIGNATURE = "4dabf18193072939515e22adb298388d"


def simply(token: str, name: str, inputs: Props) -> tuple[str, Props]:
    """Give an id that shows where it comes from, and compute nothing."""
    return f"{name}-id", {}


def declared(
    case: "Case", answer: Answer = simply, calls: Mapping[str, Callable[[Props], Props]] | None = None
) -> list[Resource]:
    """Return what the chosen cloud's module declares: network, firewalls, disks and machines, first made first.

    `answer` computes what the cloud would, `calls` answer the data sources by token. User-data is a stand-in.
    """
    return played(lambda: declare(case), case.config.name, answer, calls)


def declare(case: "Case") -> None:
    """Have the chosen cloud's module declare everything of its own, first what the rest stands on."""
    order = Order(config=case.config, plan=case.plan, policy=case.policy, image=Disk(path="/image", id="image"))
    room = clouds.room(case.config)
    net = room.network(order, ResourceOptions())
    guards = room.firewalls(net)
    for machine in case.plan.machines:
        data = room.data(net, machine)
        room.machine(net, machine, guards[machine.name], data, Output.secret(SEED))


def played(
    program: Callable[[], None],
    stack: str,
    answer: Answer = simply,
    calls: Mapping[str, Callable[[Props], Props]] | None = None,
) -> list[Resource]:
    """Run a program with a stand-in for the engine. Returns what it declared, first made first."""
    told = _Told(answer, {} if calls is None else calls)
    set_mocks(told, project="vre", stack=stack, preview=False)
    run: Callable[[], None] = pulumi.runtime.test(program)  # type: ignore[no-untyped-call]
    run()
    return told.seen


class _Told(Mocks):
    """Stands for the engine: notes every resource, and answers."""

    def __init__(self, answer: Answer, calls: Mapping[str, Callable[[Props], Props]]) -> None:
        self.seen: list[Resource] = []
        self._answer = answer
        self._calls = calls

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        """Note a resource, and make it of what was asked and what is computed."""
        inputs = _plain(args.inputs)
        identity, computed = self._answer(args.typ, args.name, inputs)
        self.seen.append(Resource(type=args.typ, name=args.name, id=identity, inputs=inputs, outputs=computed))
        return identity, {**args.inputs, **computed}

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Answer a data source."""
        if args.token not in self._calls:
            raise AssertionError(f"nobody answers {args.token}: give it in `calls`")
        return self._calls[args.token](_plain(args.args)), []


def _plain(value: Any) -> Any:
    """Return a value without marks of secrets, and with whole numbers where they are."""
    match value:
        case dict() if SIGNATURE in value:
            return _plain(value.get("value"))
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case list():
            return [_plain(each) for each in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value
