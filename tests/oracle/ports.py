"""Sets of ports as integers of 65,536 bits, so that all ports are compared at once."""

from collections.abc import Iterator

NONE = 0
ALL = (1 << 65536) - 1
SOME = ALL & ~1
"""Every port that a packet can really have: port 0 is none."""


def span(first: int, last: int) -> int:
    """Return the ports from first to last, both included. Raises ValueError where there are no such ports."""
    if not 0 <= first <= last <= 65535:
        raise ValueError(f"no such ports: {first}-{last}")
    return ((1 << (last - first + 1)) - 1) << first


def one(port: int) -> int:
    """Return a single port."""
    return span(port, port)


def ranges(ports: int) -> Iterator[tuple[int, int]]:
    """Yield first and last of each unbroken range, lowest first."""
    start = 0
    while ports:
        gap = (ports & -ports).bit_length() - 1
        ports >>= gap
        length = (~ports & (ports + 1)).bit_length() - 1
        yield start + gap, start + gap + length - 1
        ports >>= length
        start += gap + length


def shown(ports: int) -> str:
    """Return the ports as a person writes them: `22, 80-443`."""
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges(ports)) or "none"
