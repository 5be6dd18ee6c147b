"""What libvirt leaves in the firewall when its last network is down: chains without rules. Pure, but for `clean`."""

from collections.abc import Sequence

from vre.run import run

FAMILIES = ("iptables", "ip6tables")
PREFIXES = ("LIBVIRT_", "libvirt-")
PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def clean(inside: Sequence[str] = ()) -> None:
    """Remove libvirt's empty chains. `inside` is what leads into a network namespace."""
    for family in FAMILIES:
        for command in leftovers(run([*inside, f"{family}-save"], env=PATH), family):
            run([*inside, *command], env=PATH)


def leftovers(saved: str, family: str) -> list[list[str]]:
    """Return the commands that remove libvirt's chains from what `iptables-save` printed, if none does anything.

    A chain does something when it holds a rule that is not only a jump to another one of libvirt's chains.
    """
    table, chains, jumps = "", [], []
    for line in saved.splitlines():
        words = line.split()
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":") and words[0][1:].startswith(PREFIXES):
            chains.append((table, words[0][1:]))
        elif line.startswith("-A"):
            to_libvirt = words[-2] in ("-j", "-g") and words[-1].startswith(PREFIXES)
            if words[1].startswith(PREFIXES) and not to_libvirt:
                return []
            if to_libvirt:
                jumps.append((table, words[1:]))
    remove = [[family, "-w", "-t", name, "-D", *rule] for name, rule in jumps]
    return remove + [[family, "-w", "-t", name, "-X", chain] for name, chain in chains]
