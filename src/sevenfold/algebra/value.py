"""What a state is worth at an instant."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.layout import (
    ATTRIBUTE,
    COUNT,
    COUNT_ALL,
    DECAYED,
    DISTINCT,
    LAST,
    MAX,
    MEAN,
    MIN,
    NEVER_US,
    SINCE_LAST,
    SUM,
    Tables,
)
from sevenfold.algebra.update import add_compensated
from sevenfold.compiled import kernel
from sevenfold.types import Floats, Ints

__all__ = ["read_state", "section_offsets"]

States = npt.NDArray[np.uint8]
_VALUE, _NULL, _MISSING, _STALE = 0, 1, 2, 3
_US_PER_S = 1_000_000.0


@kernel
def section_offsets(
    tables: Tables, fixed: int, state: Ints, start: int, offsets: Ints
) -> int:
    """Where each level and each distinct section of a packed state begins; returns the state's end."""
    at = start + fixed
    n_levels = tables.levels.shape[0]
    for i in range(n_levels):
        offsets[i] = at
        at += 1 + state[at] * tables.levels[i, 5]
    for i in range(tables.distincts.shape[0]):
        offsets[n_levels + i] = at
        at += 1 + 2 * state[at]
    return at


@kernel
def read_state(
    tables: Tables,
    state: Ints,
    start: int,
    offsets: Ints,
    t_us: int,
    values: Floats,
    states: States,
) -> None:
    """Write the value and the state of every read of one key at `t_us` to `values` and `states` (f,).

    The state begins at word `start`, its levels and distincts at `offsets`; every event in it must be
    visible at `t_us`.
    """
    floats = state.view(np.float64)
    nothing = state[start] == NEVER_US
    empty = _MISSING if nothing else _NULL
    for i in range(tables.reads.shape[0]):
        kind, place = tables.reads[i, 0], tables.reads[i, 1]
        window, hop = tables.reads[i, 3], tables.reads[i, 4]
        tail = ((t_us - window) // hop) * hop if window > 0 and hop > 0 else NEVER_US
        value, seen = np.nan, empty
        if kind <= MAX:
            value = _read_level(tables, i, state, floats, offsets[place], tail)
        elif kind == LAST:
            at = start + tables.lasts[place, 2]
            if state[at] != NEVER_US and state[at] >= tail:
                value = floats[at + 1]
        elif kind == ATTRIBUTE:
            at = start + tables.lasts[place, 2]
            if state[at] != NEVER_US and window > 0 and t_us - state[at] >= window:
                seen = _STALE
            elif state[at] != NEVER_US:
                value = floats[at + 1]
        elif kind == SINCE_LAST:
            if not nothing:
                value = (t_us - state[start]) / _US_PER_S
        elif kind == DECAYED:
            at = start + tables.decays[place, 2]
            value = 0.0
            if state[at] != NEVER_US:
                age = float(t_us - state[at])
                value = floats[at + 1] * 2.0 ** (-age / float(tables.decays[place, 1]))
        elif kind == DISTINCT:
            value = _read_distinct(state, offsets[tables.levels.shape[0] + place], tail)
        values[i] = value
        states[i] = seen if np.isnan(value) else _VALUE


@kernel
def _read_level(
    tables: Tables, read: int, state: Ints, floats: Floats, offset: int, tail: int
) -> float:
    """The value over the tiles from `tail` on, merged in time order."""
    kind, level, slot = tables.reads[read, 0], tables.reads[read, 1], tables.reads[read, 2]
    record = tables.levels[level, 5]
    n = state[offset]
    first = n
    while first > 0 and state[offset + 1 + (first - 1) * record] >= tail:
        first -= 1
    if tables.levels[level, 0] == 0:
        first = 0
    count = 0
    high, low = 0.0, 0.0
    least, most = np.inf, -np.inf
    for i in range(first, n):
        tile = offset + 1 + i * record
        if kind == COUNT_ALL:
            count += state[tile + 1]
            continue
        at = tile + 2 + 5 * slot
        count += state[at]
        if kind == SUM or kind == MEAN:
            high, low = add_compensated(high, low, floats[at + 1])
            high, low = add_compensated(high, low, floats[at + 2])
        elif kind == MIN:
            least = min(least, floats[at + 3])
        elif kind == MAX:
            most = max(most, floats[at + 4])
    if kind == COUNT_ALL or kind == COUNT:
        return float(count)
    if kind == SUM:
        return high
    if count == 0:
        return np.nan
    if kind == MEAN:
        return high / count
    return least if kind == MIN else most


@kernel
def _read_distinct(state: Ints, offset: int, tail: int) -> float:
    count = 0
    for i in range(state[offset]):
        if state[offset + 2 + 2 * i] >= tail:
            count += 1
    return float(count)
