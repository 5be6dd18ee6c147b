"""What the clouds that are somebody else's have in common: tags, sizes, and the policy as single flows. Pure."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from vre.errors import Finding, VreError
from vre.inventory import Machine
from vre.policy import Network, Peer, Policy, Ports, Protocol, Role


@dataclass(frozen=True, kw_only=True)
class Type:
    """A size of machine as the cloud names it; memory in GiB."""

    name: str
    cpus: int
    memory: float


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One thing that a firewall lets through. Without a `network` its other end is every machine of the stack."""

    inbound: bool
    protocol: Protocol
    ports: Ports
    network: Network | None
    why: str

    @property
    def key(self) -> str:
        """A name that stays the same whatever other flows come or go."""
        other = str(self.network).replace(":", "-").replace("/", "_") if self.network else "nodes"
        return f"{'in' if self.inbound else 'out'}-{self.protocol}-{self.ports}-{other}"


def tags(stack: str, role: Role | None = None) -> dict[str, str]:
    """Return what everything of a stack is tagged with, so that its cost can be told and nothing is left behind."""
    return {"managed-by": "vre", "vre": stack, **({"vre-role": str(role)} if role else {})}


def native(types: Sequence[Type], machine: Machine) -> str:
    """Return the cloud's name for a machine's size: the first type, cheapest first, that holds it.

    Raises VreError when none does.
    """
    if machine.native:
        return machine.native
    for each in types:
        if each.cpus >= machine.cpus and each.memory * 1024 >= machine.memory:
            return each.name
    raise VreError(
        f"{machine.name}: no size has {machine.cpus} processors and {machine.memory / 1024:g} GiB",
        hint=f"name one of the cloud's own, such as size: {{type: {types[-1].name}}}",
    )


def sizes(machines: Iterable[Machine], named: Callable[[Machine], str]) -> Iterator[Finding]:
    """Yield each size that the cloud has not, once; `named` returns the cloud's name for it, or raises VreError."""
    firsts: dict[str, Machine] = {}
    for machine in machines:
        firsts.setdefault(size_key(machine), machine)
    for key, machine in firsts.items():
        try:
            named(machine)
        except VreError as error:
            yield Finding(key=f"vre:{key}", reason=error.message, example=error.hint)


def size_key(machine: Machine) -> str:
    """Return the key of the stack file that a machine's size stands under."""
    return f"machines.{'control' if machine.role == Role.CONTROL else 'workers'}.size"


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the known word that is most like a mistyped one, else the first few of those known."""
    known = sorted(words)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return near[0] if near else f"one of {', '.join(known[:5])}, ..."


def meant(word: str, words: Iterable[str]) -> str:
    """Return the question that ends a fault about a mistyped word; nothing where no known word is like it."""
    known = list(words)
    near = nearest(word, known)
    return f"; did you mean {near}?" if near in known else ""


def unknown_region(cloud: str, region: str, known: Sequence[str]) -> Finding:
    """Return the finding about a region that a cloud has not, with the one that may be meant."""
    reason = f"{cloud} has no region {region}{meant(region, known)}"
    return Finding(key="vre:cloud.region", reason=reason, example=f"region: {nearest(region, known)}")


def flows(policy: Policy, role: Role) -> tuple[Flow, ...]:
    """Return what is let into and out of machines of a role, each flow once: a cloud cannot tell who sends."""
    kept: dict[str, Flow] = {}
    for flow in _every(policy, role):
        kept.setdefault(flow.key, flow)
    return tuple(kept.values())


def _every(policy: Policy, role: Role) -> Iterator[Flow]:
    for rule in policy.into(role):
        for network in _ends(policy, rule.origin):
            yield Flow(inbound=True, protocol=rule.protocol, ports=rule.ports, network=network, why=rule.why)
    for outlet in policy.out_of(role):
        for network in _ends(policy, outlet.destination):
            yield Flow(inbound=False, protocol=outlet.protocol, ports=outlet.ports, network=network, why=outlet.why)


def _ends(policy: Policy, peer: Peer) -> tuple[Network | None, ...]:
    return (None,) if peer == Peer.NODES else policy.of(peer)
