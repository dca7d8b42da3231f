"""How one event changes the state of its key."""

from __future__ import annotations

from typing import Any

import numpy as np

from sevenfold.algebra.cardinality import update_distinct
from sevenfold.algebra.counted import bucket_of, count_item
from sevenfold.algebra.layout import NEVER_US, Columns, Tables
from sevenfold.algebra.moments import add_deviation
from sevenfold.algebra.reads import LAST_K, QUANTILE, SKETCH, VECTOR
from sevenfold.algebra.recent import add_recent
from sevenfold.algebra.vectors import keep_vector
from sevenfold.compiled import COMPILES, array_at, at_address, borrowed, called, kernel
from sevenfold.types import Floats, Ints

__all__ = ["add_compensated", "clear", "lend", "lend_columns", "lent_tables", "settle", "update"]


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
def lend(tables: Tables) -> Tables:
    """The tables without reference counts, for a kernel to take at its start."""
    return Tables(
        borrowed(tables.levels),
        borrowed(tables.level_columns),
        borrowed(tables.moments),
        borrowed(tables.firsts),
        borrowed(tables.spans),
        borrowed(tables.lasts),
        borrowed(tables.decays),
        borrowed(tables.distincts),
        borrowed(tables.sections),
        borrowed(tables.bounds),
        borrowed(tables.reads),
        borrowed(tables.numbers),
    )


@kernel
def _ints(lent: Ints, table: int) -> Any:
    return array_at(at_address(lent[table, 0]), (lent[table, 1], lent[table, 2]), np.int64)


@kernel
def _lent(lent: Ints) -> Tables:
    return Tables(
        _ints(lent, 0),
        _ints(lent, 1),
        _ints(lent, 2),
        _ints(lent, 3),
        _ints(lent, 4),
        _ints(lent, 5),
        _ints(lent, 6),
        _ints(lent, 7),
        _ints(lent, 8),
        array_at(at_address(lent[9, 0]), lent[9, 1], np.float64),
        _ints(lent, 10),
        array_at(at_address(lent[11, 0]), (lent[11, 1], lent[11, 2]), np.float64),
    )


def _themselves(tables: Any) -> Any:
    return tables


lent_tables: Any = _lent if COMPILES else _themselves
"""For a kernel to take at its start: the tables of what `Layout.lent` is."""


@kernel
def lend_columns(columns: Columns) -> Columns:
    """The columns without reference counts, for a kernel to take at its start."""
    return Columns(
        borrowed(columns.event_us),
        borrowed(columns.known_us),
        borrowed(columns.numbers),
        borrowed(columns.marks),
    )


@kernel
def clear(tables: Tables, state: Ints, floats: Floats) -> None:
    """Make the working state that of a key which has seen nothing; `floats` views the same words."""
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
    for i in range(tables.sections.shape[0]):
        state[tables.sections[i, 4]] = 0


@kernel
def update(
    tables: Tables, state: Ints, floats: Floats, columns: Columns, row: int, read_us: int
) -> None:
    """Add the event at `row` of `columns` to a working state, which is not read before `read_us`; events of a key must come in log order.

    No tile is made that no window can reach then. Those that none can reach any more stay until there is no room, or until `settle`.
    """
    state[0] = max(state[0], columns.event_us[row])
    _update_lasts(tables, state, floats, columns, row)
    _update_decays(tables, state, floats, columns, row)
    _update_levels(tables, state, floats, columns, row, read_us)
    _update_distincts(tables, state, columns, row)
    if tables.sections.shape[0] > 0:
        _update_sections(tables, state, floats, columns, row)


@kernel
def _update_lasts(tables: Tables, state: Ints, floats: Floats, columns: Columns, row: int) -> None:
    event_us = columns.event_us[row]
    for i in range(tables.lasts.shape[0]):
        offset = tables.lasts[i, 2]
        x = columns.numbers[row, tables.lasts[i, 0]]
        # Log order breaks ties: of two events at one instant, the one known later has the last word.
        if event_us >= state[offset] and (tables.lasts[i, 1] == 1 or not np.isnan(x)):
            state[offset] = event_us
            floats[offset + 1] = x


@kernel
def _update_decays(tables: Tables, state: Ints, floats: Floats, columns: Columns, row: int) -> None:
    for i in range(tables.decays.shape[0]):
        column = tables.decays[i, 0]
        x = 1.0 if column < 0 else columns.numbers[row, column]
        if not np.isnan(x):
            _decay(tables, i, state, floats, columns.event_us[row], x)


@kernel
def _update_levels(
    tables: Tables, state: Ints, floats: Floats, columns: Columns, row: int, read_us: int
) -> None:
    for i in range(tables.levels.shape[0]):
        tile = _tile_of(tables, i, state, columns.event_us[row], read_us)
        if tile < 0:
            continue
        is_new = state[tile + 1] == 0
        is_plain = tables.levels[i, 6] + tables.levels[i, 7] == 0
        state[tile + 1] += 1
        if is_new and not is_plain:
            for slot in range(tables.levels[i, 2]):
                _begin(state, floats, tile + 2 + 5 * slot)
        if not is_plain:
            _update_rest(tables, i, state, floats, columns, row, tile)
        for slot in range(tables.levels[i, 2]):
            x = columns.numbers[row, tables.level_columns[i, slot]]
            if is_new and is_plain:
                _begin_with(state, floats, tile + 2 + 5 * slot, x)
            elif not np.isnan(x):
                _add(state, floats, tile + 2 + 5 * slot, x)


@called
def _update_rest(
    tables: Tables, level: int, state: Ints, floats: Floats, columns: Columns, row: int, tile: int
) -> None:
    """Add the event to the spreads and first values of a tile, before its sums have it."""
    at = tile + 2 + 5 * tables.levels[level, 2]
    for i in range(tables.levels[level, 6]):
        slot = tables.moments[level, i]
        x = columns.numbers[row, tables.level_columns[level, slot]]
        if not np.isnan(x):
            add_deviation(state, floats, tile + 2 + 5 * slot, at, x)
        at += 2
    for i in range(tables.levels[level, 7]):
        x = columns.numbers[row, tables.firsts[level, i]]
        # As for the last value, of two events at one instant the one known later counts.
        is_first = state[at] == NEVER_US or columns.event_us[row] <= state[at]
        if is_first and not np.isnan(x):
            state[at] = columns.event_us[row]
            floats[at + 1] = x
        at += 2


@called
def _update_sections(
    tables: Tables, state: Ints, floats: Floats, columns: Columns, row: int
) -> None:
    event_us, known_us = columns.event_us[row], columns.known_us[row]
    for i in range(tables.sections.shape[0]):
        kind, offset = tables.sections[i, 0], tables.sections[i, 4]
        if kind == SKETCH:
            continue  # filled by the distinct count that it belongs to
        if kind == VECTOR:
            first, width = tables.sections[i, 1], tables.sections[i, 7]
            keep_vector(state, offset, event_us, columns.numbers, row, first, width)
            continue
        x = columns.numbers[row, tables.sections[i, 1]]
        if np.isnan(x):
            continue
        if kind == LAST_K:
            add_recent(state, floats, offset, tables.sections[i, 2], event_us, x)
            continue
        longest, hop = tables.sections[i, 5], tables.sections[i, 6]
        start, oldest = 0, 0
        if hop > 0:
            start = event_us // hop * hop
            oldest = ((known_us - longest) // hop) * hop
        if start >= oldest:
            if kind == QUANTILE:
                first = tables.sections[i, 8]
                item = bucket_of(tables.bounds, first, tables.sections[i, 7], x)
                count_item(state, offset, oldest, start, item, (0, tables.sections[i, 2]))
            else:
                # Adding 0.0 makes one value of -0.0 and 0.0.
                bits = int(np.float64(x + 0.0).view(np.int64))
                most = tables.sections[i, 7], tables.sections[i, 2]
                count_item(state, offset, oldest, start, bits, most)


@kernel
def _update_distincts(tables: Tables, state: Ints, columns: Columns, row: int) -> None:
    for i in range(tables.distincts.shape[0]):
        mark = columns.marks[row, tables.distincts[i, 0]]
        if mark != 0:
            event_us, known_us = columns.event_us[row], columns.known_us[row]
            update_distinct(tables, i, state, event_us, known_us, mark)


@kernel
def _decay(
    tables: Tables, decay: int, state: Ints, floats: Floats, event_us: int, x: float
) -> None:
    half_life, offset = float(tables.decays[decay, 1]), tables.decays[decay, 2]
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
def settle(tables: Tables, state: Ints, known_us: int) -> None:
    """Forget the tiles of a working state that no window can reach: every later read is after `known_us`."""
    for i in range(tables.levels.shape[0]):
        if tables.levels[i, 0] > 0:
            _drop_tiles(tables, i, state, known_us)


@kernel
def _tile_of(tables: Tables, level: int, state: Ints, event_us: int, read_us: int) -> int:
    """The offset of the tile that an event falls into, -1 when no window can reach it at `read_us` or later."""
    hop, offset, record = tables.levels[level, 0], tables.levels[level, 3], tables.levels[level, 5]
    start, n = np.int64(0), state[offset]
    if hop > 0:
        last_gone = _last_gone(tables, level, read_us)
        if event_us <= last_gone:
            return -1
        # Most events fall into the newest tile: no division for them, it would take longer than the rest.
        newest = offset + 1 + (n - 1) * record
        if n > 0 and state[newest] <= event_us < state[newest] + hop:
            start = state[newest]
        else:
            start = (event_us // hop) * hop
        if start <= last_gone:
            return -1
        if n == tables.levels[level, 4]:
            _drop_tiles(tables, level, state, read_us)
    return _find_tile(tables, level, state, int(start))


@kernel
def _last_gone(tables: Tables, level: int, known_us: int) -> int:
    """The newest start that a tile out of reach can have: one that is a multiple of the hop ends in time."""
    return int(known_us - tables.levels[level, 1] - tables.levels[level, 0])


@kernel
def _begin(state: Ints, floats: Floats, at: int) -> None:
    state[at] = 0
    floats[at + 1] = 0.0
    floats[at + 2] = 0.0
    floats[at + 3] = np.inf
    floats[at + 4] = -np.inf


@kernel
def _begin_with(state: Ints, floats: Floats, at: int, x: float) -> None:
    """What `_add` makes of nothing and x: in one go, as most tiles are of one event."""
    if np.isfinite(x):
        state[at] = 1
        floats[at + 1] = 0.0 + x
        floats[at + 2] = 0.0
        floats[at + 3] = x
        floats[at + 4] = x
        return
    _begin(state, floats, at)
    if not np.isnan(x):
        _add(state, floats, at, x)


@kernel
def _add(state: Ints, floats: Floats, at: int, x: float) -> None:
    state[at] += 1
    high, low = add_compensated(floats[at + 1], floats[at + 2], x)
    floats[at + 1] = high
    floats[at + 2] = low
    floats[at + 3] = min(floats[at + 3], x)
    floats[at + 4] = max(floats[at + 4], x)


@kernel
def _drop_tiles(tables: Tables, level: int, state: Ints, known_us: int) -> None:
    offset, record = tables.levels[level, 3], tables.levels[level, 5]
    last_gone, n = _last_gone(tables, level, known_us), state[offset]
    gone = 0
    while gone < n and state[offset + 1 + gone * record] <= last_gone:
        gone += 1
    if gone > 0:
        first = offset + 1
        for i in range((n - gone) * record):
            state[first + i] = state[first + gone * record + i]
        state[offset] = n - gone


@kernel
def _find_tile(tables: Tables, level: int, state: Ints, start: int) -> int:
    """The offset of the tile that begins at `start`, put in its place when there is none: of no events then, and its columns are for who adds the first to begin.

    -1 where there is no room, as there may be none in a damaged state: whatever it says, nothing is written outside of it.
    """
    offset, record = tables.levels[level, 3], tables.levels[level, 5]
    columns, firsts = tables.levels[level, 2], tables.levels[level, 7]
    n = state[offset]
    place = n
    while place > 0 and state[offset + 1 + (place - 1) * record] > start:
        place -= 1
    if place > 0 and state[offset + 1 + (place - 1) * record] == start:
        return int(offset + 1 + (place - 1) * record)
    if n >= tables.levels[level, 4]:
        return -1
    tile = offset + 1 + place * record
    for i in range((n - place) * record - 1, -1, -1):
        state[tile + record + i] = state[tile + i]
    state[offset] = n + 1
    state[tile] = start
    state[tile + 1] = 0
    for at in range(tile + 2 + 5 * columns, tile + record):
        state[at] = 0
    for at in range(tile + record - 2 * firsts, tile + record, 2):
        state[at] = NEVER_US
    return int(tile)
