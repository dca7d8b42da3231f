"""How one event changes the state of its key."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.layout import NEVER_US, Tables
from sevenfold.compiled import kernel
from sevenfold.types import Floats, Ints

__all__ = ["add_compensated", "clear", "update"]

Marks = npt.NDArray[np.int64]


@kernel
def add_compensated(high: float, low: float, x: float) -> tuple[float, float]:
    """The double-double (high, low) plus x, by the two-sum of Knuth (TAOCP 2, 4.2.2)."""
    total = high + x
    part = total - high
    error = (high - (total - part)) + (x - part)
    rest = low + error
    new_high = total + rest
    return new_high, rest - (new_high - total)


@kernel
def clear(tables: Tables, fixed: int, state: Ints, floats: Floats) -> None:
    """Make the working state that of a key which has seen nothing."""
    state[0] = NEVER_US
    for i in range(tables.lasts.shape[0]):
        offset = tables.lasts[i, 2]
        state[offset] = NEVER_US
        floats[offset + 1] = np.nan
    for i in range(tables.decays.shape[0]):
        offset = tables.decays[i, 2]
        state[offset] = NEVER_US
        floats[offset + 1] = 0.0
    for i in range(tables.levels.shape[0]):
        state[tables.levels[i, 3]] = 0
    for i in range(tables.distincts.shape[0]):
        state[tables.distincts[i, 4]] = 0


@kernel
def update(
    tables: Tables,
    state: Ints,
    event_us: int,
    known_us: int,
    numbers: Floats,
    marks: Marks,
) -> None:
    """Add one event to a working state; events of a key must come in log order.

    `numbers` (c,) and `marks` (m,) are the event's columns; NaN and mark 0 are null.
    """
    floats = state.view(np.float64)
    if event_us > state[0]:
        state[0] = event_us
    for i in range(tables.lasts.shape[0]):
        offset = tables.lasts[i, 2]
        x = numbers[tables.lasts[i, 0]]
        # Log order breaks ties: of two events at one instant, the one known later has the last word.
        if event_us >= state[offset] and (tables.lasts[i, 1] == 1 or not np.isnan(x)):
            state[offset] = event_us
            floats[offset + 1] = x
    for i in range(tables.decays.shape[0]):
        x = 1.0 if tables.decays[i, 0] < 0 else numbers[tables.decays[i, 0]]
        if not np.isnan(x):
            _decay(state, floats, tables.decays[i, 2], float(tables.decays[i, 1]), event_us, x)
    for i in range(tables.levels.shape[0]):
        _update_level(tables, i, state, floats, event_us, known_us, numbers)
    for i in range(tables.distincts.shape[0]):
        mark = marks[tables.distincts[i, 0]]
        if mark != 0:
            _update_distinct(tables.distincts[i], state, event_us, known_us, mark)


@kernel
def _decay(
    state: Ints, floats: Floats, offset: int, half_life: float, event_us: int, x: float
) -> None:
    reference = state[offset]
    if reference == NEVER_US:
        state[offset] = event_us
        floats[offset + 1] = x
    elif event_us >= reference:
        floats[offset + 1] = floats[offset + 1] * 2.0 ** (-(event_us - reference) / half_life) + x
        state[offset] = event_us
    else:
        floats[offset + 1] += x * 2.0 ** (-(reference - event_us) / half_life)


@kernel
def _update_level(
    tables: Tables,
    level: int,
    state: Ints,
    floats: Floats,
    event_us: int,
    known_us: int,
    numbers: Floats,
) -> None:
    hop, longest = tables.levels[level, 0], tables.levels[level, 1]
    columns, offset, record = tables.levels[level, 2], tables.levels[level, 3], tables.levels[level, 5]
    start = np.int64(0)
    if hop > 0:
        start = (event_us // hop) * hop
        oldest = ((known_us - longest) // hop) * hop
        _drop_tiles(state, offset, record, oldest)
        if start < oldest:
            return
    tile = _find_tile(state, floats, offset, record, start, columns)
    state[tile + 1] += 1
    for slot in range(columns):
        x = numbers[tables.level_columns[level, slot]]
        if not np.isnan(x):
            at = tile + 2 + 5 * slot
            state[at] += 1
            high, low = add_compensated(floats[at + 1], floats[at + 2], x)
            floats[at + 1] = high
            floats[at + 2] = low
            floats[at + 3] = min(floats[at + 3], x)
            floats[at + 4] = max(floats[at + 4], x)


@kernel
def _drop_tiles(state: Ints, offset: int, record: int, oldest: int) -> None:
    """Forget the tiles that no window can reach any more: every later read is after `known_us`."""
    n = state[offset]
    gone = 0
    while gone < n and state[offset + 1 + gone * record] < oldest:
        gone += 1
    if gone > 0:
        first = offset + 1
        for i in range((n - gone) * record):
            state[first + i] = state[first + gone * record + i]
        state[offset] = n - gone


@kernel
def _find_tile(
    state: Ints, floats: Floats, offset: int, record: int, start: int, columns: int
) -> int:
    """The offset of the tile that begins at `start`, made and put in its place when there is none."""
    n = state[offset]
    place = n
    while place > 0 and state[offset + 1 + (place - 1) * record] > start:
        place -= 1
    if place > 0 and state[offset + 1 + (place - 1) * record] == start:
        return int(offset + 1 + (place - 1) * record)
    tile = offset + 1 + place * record
    for i in range((n - place) * record - 1, -1, -1):
        state[tile + record + i] = state[tile + i]
    state[offset] = n + 1
    state[tile] = start
    state[tile + 1] = 0
    for slot in range(columns):
        at = tile + 2 + 5 * slot
        state[at] = 0
        floats[at + 1] = 0.0
        floats[at + 2] = 0.0
        floats[at + 3] = np.inf
        floats[at + 4] = -np.inf
    return int(tile)


@kernel
def _update_distinct(
    row: Ints, state: Ints, event_us: int, known_us: int, mark: int
) -> None:
    """Keep, for each value, when it was newest; of more than the cap, the newest values.

    What is dropped at the cap can never come back: `cap` other values are newer than it for good.
    """
    cap, longest, hop, offset = row[1], row[2], row[3], row[4]
    n = state[offset]
    oldest = NEVER_US
    if hop > 0:
        oldest = ((known_us - longest) // hop) * hop
        if event_us < oldest:
            return
    kept = 0
    found = False
    for i in range(n):
        value, newest = state[offset + 1 + 2 * i], state[offset + 2 + 2 * i]
        if value == mark:
            found = True
            newest = max(newest, event_us)
        if newest >= oldest:
            state[offset + 1 + 2 * kept] = value
            state[offset + 2 + 2 * kept] = newest
            kept += 1
    state[offset] = kept
    if found:
        return
    if kept < cap:
        state[offset + 1 + 2 * kept] = mark
        state[offset + 2 + 2 * kept] = event_us
        state[offset] = kept + 1
        return
    least = 0
    for i in range(1, kept):
        newest, least_newest = state[offset + 2 + 2 * i], state[offset + 2 + 2 * least]
        older = newest < least_newest
        tied = newest == least_newest and state[offset + 1 + 2 * i] < state[offset + 1 + 2 * least]
        if older or tied:
            least = i
    if event_us > state[offset + 2 + 2 * least]:
        state[offset + 1 + 2 * least] = mark
        state[offset + 2 + 2 * least] = event_us
