"""The contract between the clouds and everything after them: which machines there are and how to reach each."""

from dataclasses import dataclass

from vre.policy import Role


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine as planned: its place in the stack, before any cloud has made it.

    `memory` is in MiB, `disk` and `data` (the data disk, 0 for none) in GiB. Addresses are what the machine has inside
    the stack's own network; without an own IPv6 range there, `ipv6` is empty. `native` is the cloud's own word for the
    size, in place of numbers.
    """

    name: str
    role: Role
    cpus: int
    memory: int
    disk: int
    data: int
    ipv4: str
    ipv6: str
    mac: str
    native: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every machine of a stack, the control plane's first. Names do not change when others come or go."""

    machines: tuple[Machine, ...]

    @property
    def control(self) -> Machine:
        """The machine with the control plane and the ingress."""
        return next(machine for machine in self.machines if machine.role == Role.CONTROL)

    @property
    def workers(self) -> tuple[Machine, ...]:
        """The machines that only run workloads."""
        return tuple(machine for machine in self.machines if machine.role == Role.WORKER)

    @property
    def roles(self) -> frozenset[Role]:
        """The roles that occur."""
        return frozenset(machine.role for machine in self.machines)
