"""How many different values there are: exact up to a cap, then an estimate.

Exact are the newest cap + 1 values, each with when it was newest. A value that is pushed out goes into a
sliding HyperLogLog: a section of entries (register and rank, start of the tile), for each register those
that no later entry is as high as (Chabchoub and Hebrail 2010). Both together depend on which values were seen
when, and not on the order in which they became known.
"""

from __future__ import annotations

import math

import numpy as np

from sevenfold.algebra.layout import NEVER_US, Tables
from sevenfold.compiled import called, kernel
from sevenfold.types import Ints

__all__ = ["read_distinct", "update_distinct"]

_ALPHA = 0.5 / math.log(2.0)


@kernel
def update_distinct(
    tables: Tables, distinct: int, state: Ints, event_us: int, known_us: int, mark: int
) -> None:
    """Keep, for each value, when it was newest; of more than the cap, the newest values and a sketch.

    What is pushed out is no longer needed to count exactly: in whichever window it is, cap + 1 others are.
    """
    cap, longest = tables.distincts[distinct, 1], tables.distincts[distinct, 2]
    hop, offset = tables.distincts[distinct, 3], tables.distincts[distinct, 4]
    oldest = NEVER_US
    if hop > 0:
        oldest = ((known_us - longest) // hop) * hop
        if event_us < oldest:
            return
    if _renew(state, offset, oldest, event_us, mark):
        return
    kept = state[offset]
    if kept <= cap:
        state[offset + 1 + 2 * kept] = mark
        state[offset + 2 + 2 * kept] = event_us
        state[offset] = kept + 1
        return
    least = 0
    for i in range(1, kept):
        if state[offset + 2 + 2 * i] < state[offset + 2 + 2 * least]:
            least = i
    at = offset + 1 + 2 * least
    if event_us > state[at + 1]:
        mark, state[at] = state[at], mark
        event_us, state[at + 1] = state[at + 1], event_us
    start = (event_us // hop) * hop if hop > 0 else 0
    section = tables.distincts[distinct, 5]
    sketch, most = tables.sections[section, 4], tables.sections[section, 2]
    _add_to_sketch(state, sketch, oldest, start, mark, tables.distincts[distinct, 6], most)


@kernel
def _renew(state: Ints, offset: int, oldest: int, event_us: int, mark: int) -> bool:
    """Drop the pairs older than `oldest`; whether the value was among them and is now newer."""
    kept = 0
    found = False
    for i in range(state[offset]):
        value, newest = state[offset + 1 + 2 * i], state[offset + 2 + 2 * i]
        if value == mark:
            found = True
            newest = max(newest, event_us)
        if newest >= oldest:
            state[offset + 1 + 2 * kept] = value
            state[offset + 2 + 2 * kept] = newest
            kept += 1
    state[offset] = kept
    return found


@called
def _register(mark: int, precision: int) -> tuple[int, int]:
    """The register of a value and the rank it gives it: 1 and the zeros that the rest begins with."""
    # A mark may be the bits of a number: mixed by the finaliser of splitmix64 (Steele, Lea and Flood 2014).
    h = np.uint64(mark)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    register = int(h >> np.uint64(64 - precision))
    rest = h << np.uint64(precision)
    rank = 1
    while rank <= 64 - precision and rest >> np.uint64(63) == np.uint64(0):
        rest <<= np.uint64(1)
        rank += 1
    return register, rank


@called
def _add_to_sketch(
    state: Ints, offset: int, oldest: int, start: int, mark: int, precision: int, most: int
) -> None:
    register, rank = _register(mark, precision)
    kept = 0
    needed = True
    for i in range(state[offset]):
        entry, begins = state[offset + 1 + 2 * i], state[offset + 2 + 2 * i]
        if entry >> 6 == register:
            if begins >= start and entry & 63 >= rank:
                needed = False
            elif begins <= start and entry & 63 <= rank:
                continue
        if begins >= oldest:
            state[offset + 1 + 2 * kept] = entry
            state[offset + 2 + 2 * kept] = begins
            kept += 1
    if needed and kept < most:  # always, but in a damaged state
        state[offset + 1 + 2 * kept] = register << 6 | rank
        state[offset + 2 + 2 * kept] = start
        kept += 1
    state[offset] = kept


@kernel
def read_distinct(
    tables: Tables, distinct: int, state: Ints, offsets: Ints, tail: int
) -> tuple[float, bool]:
    """The number of values seen from `tail` on, and whether it is an estimate."""
    n_levels = tables.levels.shape[0]
    offset = offsets[n_levels + distinct]
    count = 0
    for i in range(state[offset]):
        if state[offset + 2 + 2 * i] >= tail:
            count += 1
    if count <= tables.distincts[distinct, 1]:
        return float(count), False
    sketch = offsets[n_levels + tables.distincts.shape[0] + tables.distincts[distinct, 5]]
    estimate = _estimate(state, offset, sketch, tail, tables.distincts[distinct, 6])
    return max(float(count), math.floor(estimate + 0.5)), True


@called
def _estimate(state: Ints, offset: int, sketch: int, tail: int, precision: int) -> float:
    registers = np.zeros(1 << precision, dtype=np.int64)
    for i in range(state[sketch]):
        if state[sketch + 2 + 2 * i] >= tail:
            entry = state[sketch + 1 + 2 * i]
            if 0 <= entry >> 6 < len(registers):  # a damaged state may name others
                registers[entry >> 6] = max(registers[entry >> 6], entry & 63)
    for i in range(state[offset]):
        if state[offset + 2 + 2 * i] >= tail:
            register, rank = _register(state[offset + 1 + 2 * i], precision)
            registers[register] = max(registers[register], rank)
    most = 65 - precision
    ranks = np.zeros(most + 1, dtype=np.int64)
    for i in range(len(registers)):
        ranks[min(registers[i], most)] += 1
    return _cardinality(ranks, float(1 << precision), most)


@called
def _cardinality(ranks: Ints, m: float, most: int) -> float:
    """The improved raw estimate from how many registers have each rank (Ertl 2017, algorithm 6)."""
    total = m * _tau(1.0 - ranks[most] / m)
    for rank in range(most - 1, 0, -1):
        total = 0.5 * (total + ranks[rank])
    total += m * _sigma(ranks[0] / m)
    return _ALPHA * m * m / total


@called
def _sigma(x: float) -> float:
    if x == 1.0:
        return math.inf
    y, total, before = 1.0, x, -1.0
    while total != before:
        x *= x
        before = total
        total += x * y
        y += y
    return total


@called
def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, total, before = 1.0, 1.0 - x, -1.0
    while total != before:
        x = math.sqrt(x)
        before = total
        y *= 0.5
        total -= (1.0 - x) * (1.0 - x) * y
    return total / 3.0
