"""What counts of values mean, by brute force: quantiles, the most frequent values, how many different ones.

Every number is looked at again; nothing is kept from one instant to the next.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence

from sevenfold.hashing import siphash128
from sevenfold.spec.aggregate import Aggregate

__all__ = ["different", "quantile_of", "ranked"]

_NAN_BITS = 0x7FF8 << 48
_WORD = (1 << 64) - 1


def quantile_of(aggregate: Aggregate, numbers: Iterable[float]) -> float:
    """The exact quantile of numbers: those nearer to zero than `smallest` are 0, none lies beyond `largest`."""
    clamped = []
    for x in numbers:
        size = min(abs(x), aggregate.largest)
        clamped.append(math.copysign(size, x) if size >= aggregate.smallest else 0.0)
    clamped.sort()
    return clamped[math.floor(aggregate.q * (len(clamped) - 1))]


def ranked(
    events: Iterable[tuple[int, int, float]], tracked: int, width: int, hop: int, tail: int
) -> list[tuple[float, int]]:
    """The values with their counts from `tail` on, most frequent first, of equals the smaller.

    `events` are (event_us, known_us, value) in log order; of a lifetime, `hop` is 0. When one more than
    `tracked` values would be counted, that which ranks last is forgotten with its counts.
    """
    kept: dict[float, list[int]] = {}
    for event_us, known_us, x in events:
        if hop:
            oldest = (known_us - width) // hop * hop
            if event_us < oldest:
                continue
            younger = {v: [at for at in times if at >= oldest] for v, times in kept.items()}
            kept = {v: times for v, times in younger.items() if times}
        if x not in kept and len(kept) == tracked:
            del kept[max(kept, key=lambda v: (-len(kept[v]), v))]
        kept.setdefault(x + 0.0, []).append(event_us)
    counts = {v: sum(at >= tail or not hop for at in times) for v, times in kept.items()}
    order = sorted(counts, key=lambda v: (-counts[v], v))
    return [(v, counts[v]) for v in order if counts[v]]


def different(values: Sequence[float | str], cap: int, error: float) -> tuple[float, bool]:
    """How many different values there are, and whether that is an estimate: it is beyond the cap."""
    unlike = {value + 0.0 if isinstance(value, float) else value for value in values}
    if len(unlike) <= cap:
        return float(len(unlike)), False
    bits = next(p for p in range(65) if 1.04 / 2 ** (p / 2) <= error)
    registers = [0] * 2**bits
    for value in unlike:
        text = format(_mixed(_mark(value)), "064b")
        register, rest = int(text[:bits], 2), text[bits:]
        rank = len(rest) - len(rest.lstrip("0")) + 1
        registers[register] = max(registers[register], rank)
    return max(float(cap + 1), math.floor(_estimate(registers, 64 - bits) + 0.5)), True


def _mark(value: float | str) -> int:
    if isinstance(value, str):
        return siphash128(value.encode())[0]
    return int(struct.unpack("<Q", struct.pack("<d", value))[0]) ^ _NAN_BITS


def _mixed(mark: int) -> int:
    mark = (mark ^ mark >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    mark = (mark ^ mark >> 27) * 0x94D049BB133111EB & _WORD
    return mark ^ mark >> 31


def _estimate(registers: Sequence[int], rest_bits: int) -> float:
    """Ertl's improved estimate: the sum of 2^-rank, its empty and its full registers put right."""
    m = len(registers)
    total = math.fsum(2.0**-rank for rank in registers if 0 < rank <= rest_bits)
    empty = registers.count(0) / m
    if empty == 1:
        return 0.0
    low, x, weight = empty, empty, 1.0
    while True:
        x *= x
        more = low + x * weight
        if more == low:
            break
        low, weight = more, 2 * weight
    full, x, weight = 1.0, 1 - registers.count(rest_bits + 1) / m, 1.0
    high = 0.0
    if 0 < x < 1:
        full = 1 - x
        while True:
            x, weight = math.sqrt(x), weight / 2
            less = full - (1 - x) ** 2 * weight
            if less == full:
                break
            full = less
        high = full / 3 * 2.0**-rest_bits
    return m * m / (2 * math.log(2) * (total + m * low + m * high))
