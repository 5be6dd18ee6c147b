"""The policy against what a cloud would do with what it was told: every peer, both directions, every port."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from tests.oracle import ports
from tests.oracle.peers import Peer, peers
from tests.oracle.told import Resource
from vre.inventory import Machine
from vre.policy import METADATA, Network, Policy, Protocol, Sender

if TYPE_CHECKING:  # simulated clouds know the published rules, too, and need no generated settings
    from tests.oracle.configs import Case

IN, OUT = "in", "out"
OTHER = "other"
"""Any protocol but TCP, UDP and ICMP; it has no ports: what is let through is port 0."""
PROTOCOLS = (str(Protocol.TCP), str(Protocol.UDP), OTHER)
SHOWN = 5  # peers by name in one difference


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What is asked: may a peer's packets come into a machine, or the machine's go out to the peer?"""

    direction: str
    peer: Peer
    machine: Machine
    protocol: str


Evaluator = Callable[[Flow], int]
"""Says which destination ports a cloud lets through, as in `ports`; for `OTHER`, port 0 or none."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that policy and cloud say differently, for one or more peers."""

    direction: str
    machine: Machine
    protocol: str
    peers: tuple[Peer, ...]
    policy: int
    cloud: int

    def __str__(self) -> str:
        who = ", ".join(map(str, self.peers[:SHOWN])) + (f" and {len(self.peers) - SHOWN} more" * self.more)
        way = "from" if self.direction == IN else "to"
        open_, shut = (ports.shown(each) for each in (self.cloud & ~self.policy, self.policy & ~self.cloud))
        said = [f"the cloud lets through {open_}"] if self.cloud & ~self.policy else []
        said += [f"the cloud refuses {shut}"] if self.policy & ~self.cloud else []
        return (
            f"{self.direction} {way} {who}, IPv{self.peers[0].address.version},"
            f" {self.machine.name} ({self.machine.role}), {self.protocol}: {'; '.join(said)};"
            f" the policy lets through {ports.shown(self.policy)}"
        )

    @property
    def more(self) -> bool:
        """Whether there are more peers than are shown."""
        return len(self.peers) > SHOWN


def allowed(policy: Policy, flow: Flow) -> int:
    """Return the ports that the policy lets through: as `reaches`, or as `leaves` of any sender. None of `OTHER`."""
    made = ports.NONE
    if flow.direction == IN:
        for rule in policy.into(flow.machine.role):
            if rule.protocol == flow.protocol and _within(flow.peer, policy.of(rule.origin)):
                made |= ports.span(rule.ports.first, rule.ports.last)
        return made
    for outlet in policy.out_of(flow.machine.role):
        closed = outlet.sender == Sender.PODS and flow.peer.address in METADATA
        if outlet.protocol == flow.protocol and not closed and _within(flow.peer, policy.of(outlet.destination)):
            made |= ports.span(outlet.ports.first, outlet.ports.last)
    return made


def differences(case: "Case", evaluator: Evaluator, told: Iterable[Resource] = ()) -> list[Difference]:
    """Return everything that the policy and a cloud say differently, peers with the same difference together.

    `told` is what the evaluator looks at: the edges of the networks in it are asked about, too.
    """
    found = list(_each(case, evaluator, peers(case.policy, case.plan, told)))
    key = _kind
    return [_together(list(group)) for _, group in groupby(sorted(found, key=key), key=key)]


def assert_agree(case: "Case", evaluator: Evaluator, told: Iterable[Resource] = ()) -> None:
    """Hold policy and cloud equal. Raises AssertionError with every difference in words."""
    found = differences(case, evaluator, told)
    assert not found, "\n".join(map(str, found))


def _each(case: "Case", evaluator: Evaluator, asked: Sequence[Peer]) -> Iterator[Difference]:
    for machine in case.plan.machines:
        for peer in asked:
            for direction in (IN, OUT):
                for protocol in PROTOCOLS:
                    flow = Flow(direction=direction, peer=peer, machine=machine, protocol=protocol)
                    policy, cloud = allowed(case.policy, flow), evaluator(flow)
                    if policy != cloud:
                        yield Difference(
                            direction=direction,
                            machine=machine,
                            protocol=protocol,
                            peers=(peer,),
                            policy=policy,
                            cloud=cloud,
                        )


def _kind(found: Difference) -> tuple[str, str, str, int, str, str]:
    family = found.peers[0].address.version
    return found.machine.name, found.direction, found.protocol, family, hex(found.policy), hex(found.cloud)


def _together(same: list[Difference]) -> Difference:
    one = same[0]
    every = tuple(peer for each in same for peer in each.peers)
    return Difference(**{**vars(one), "peers": every})


def _within(peer: Peer, networks: Iterable[Network]) -> bool:
    return any(peer.address.version == each.version and peer.address in each for each in networks)
