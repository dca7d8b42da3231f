"""Tiles at rest: those of one event as its values alone.

Of the tiles that a state keeps most hold one event, whose count is one and whose sum and extremes are its value. A level
whose tiles are nothing but counts, sums and extremes is kept so:

    tiles, and in the upper half of the word how many of them are wide
    start_us doubled, plus one for a wide tile          for each tile, oldest first
    the value, null as NaN, for each column             for each tile of one event
    events, (count, high, low, min, max) by column      for each wide tile; in the order of the tiles

All bits of a working tile come back. A level that also keeps spreads or first values is kept as it is worked on.
"""

from __future__ import annotations

import numpy as np

from sevenfold.algebra.layout import Tables
from sevenfold.compiled import kernel
from sevenfold.types import Floats, Ints

__all__ = [
    "STATE_FORMAT",
    "is_plain",
    "is_whole",
    "level_words",
    "merge_at_rest",
    "pack_level",
    "unpack_level",
]

STATE_FORMAT = 2
"""Of states at rest; 2 since tiles of one event are kept as their values."""

_LOW = 0xFFFFFFFF


@kernel
def is_plain(tables: Tables, level: int) -> bool:
    """Whether the tiles of a level are counts, sums and extremes alone."""
    return bool(tables.levels[level, 6] + tables.levels[level, 7] == 0)


@kernel
def level_words(tables: Tables, level: int, packed: Ints, at: int) -> int:
    """The words of the level at rest that begins at `at`."""
    record = tables.levels[level, 5]
    if not is_plain(tables, level):
        return int(1 + packed[at] * record)
    n, wide = packed[at] & _LOW, packed[at] >> 32
    return int(1 + n + (n - wide) * tables.levels[level, 2] + wide * (record - 1))


@kernel
def is_whole(tables: Tables, level: int, packed: Ints, at: int, end: int) -> bool:
    """Whether the tiles of the level at rest that begins at `at` are as many and as wide as it says, before `end`."""
    most, record = tables.levels[level, 4], tables.levels[level, 5]
    n = packed[at] & _LOW
    if n > most:
        return False
    if not is_plain(tables, level):
        return bool(packed[at] == n and at + 1 + n * record <= end)
    wide = packed[at] >> 32
    if not 0 <= wide <= n or at + level_words(tables, level, packed, at) > end:
        return False
    for i in range(at + 1, at + 1 + n):
        wide -= packed[i] & 1
    return bool(wide == 0)


@kernel
def unpack_level(
    tables: Tables, level: int, packed: Ints, at: int, work: Ints, floats: Floats
) -> int:
    """Write the level at rest that begins at `at` to its place in a working state; the words that it took."""
    offset, record = tables.levels[level, 3], tables.levels[level, 5]
    if not is_plain(tables, level):
        size = int(1 + packed[at] * record)
        for i in range(size):
            work[offset + i] = packed[at + i]
        return size
    n, columns = packed[at] & _LOW, tables.levels[level, 2]
    work[offset] = n
    tile, data = offset + 1, at + 1 + n
    for i in range(at + 1, at + 1 + n):
        work[tile] = packed[i] >> 1
        if packed[i] & 1:
            for word in range(record - 1):
                work[tile + 1 + word] = packed[data + word]
            data += record - 1
        else:
            work[tile + 1] = 1
            for column in range(columns):
                _spread(packed[data + column], work, floats, tile + 2 + 5 * column)
            data += columns
        tile += record
    return int(data - at)


@kernel
def _spread(bits: int, work: Ints, floats: Floats, at: int) -> None:
    """Write what a column of a tile is after the one value of those bits."""
    work[at + 1] = bits
    work[at + 2] = 0
    if np.isnan(floats[at + 1]):
        work[at] = 0
        work[at + 1] = 0
        floats[at + 3] = np.inf
        floats[at + 4] = -np.inf
    else:
        work[at] = 1
        work[at + 3] = bits
        work[at + 4] = bits


@kernel
def pack_level(tables: Tables, level: int, work: Ints, packed: Ints, at: int) -> int:
    """Write a level of a working state as it is kept, from `at` on; the words that it takes."""
    offset, record = tables.levels[level, 3], tables.levels[level, 5]
    n, columns = work[offset], tables.levels[level, 2]
    if not is_plain(tables, level):
        size = int(1 + n * record)
        for i in range(size):
            packed[at + i] = work[offset + i]
        return size
    wide, data = 0, at + 1 + n
    tile = offset + 1
    for i in range(at + 1, at + 1 + n):
        if _is_alone(work, tile, columns):
            packed[i] = work[tile] << 1
            for column in range(columns):
                value = tile + 3 + 5 * column
                packed[data + column] = work[value] if work[value - 1] else _NAN
            data += columns
        else:
            wide += 1
            packed[i] = (work[tile] << 1) | 1
            for word in range(record - 1):
                packed[data + word] = work[tile + 1 + word]
            data += record - 1
        tile += record
    packed[at] = n | (wide << 32)
    return int(data - at)


_NAN = int(np.array([np.nan]).view(np.int64)[0])


@kernel
def _is_alone(work: Ints, tile: int, columns: int) -> bool:
    """Whether a tile is no more than one event's values: a minus zero, which its sum has lost, is more."""
    if work[tile + 1] != 1:
        return False
    for column in range(columns):
        at = tile + 2 + 5 * column
        if work[at] == 1 and (work[at + 1] != work[at + 3] or work[at + 2] != 0):
            return False
    return True


@kernel
def merge_at_rest(
    tables: Tables, span: int, packed: Ints, floats: Floats, at: int, t_us: int, merged: Floats
) -> None:
    """Write count, sum, least and most over the tiles of a span of a plain level at rest to `merged`.

    The same additions in the same order as over working tiles, so the same bits.
    """
    level, slot = tables.spans[span, 0], tables.spans[span, 1]
    further = tables.levels[level, 5] - 1
    stop = at + 1 + (packed[at] & _LOW)
    first, data = _tail(tables, span, packed, at, t_us)
    columns = tables.levels[level, 2]
    if slot < 0:
        merged[span, 0] = _count(packed, first, stop, data, (columns, further))
        return
    events, count, high, low = 0, 0, 0.0, 0.0
    least, most = np.inf, -np.inf
    for i in range(first, stop):
        if packed[i] & 1:
            place = data + 1 + 5 * slot
            events += packed[data]
            count += packed[place]
            x, rest = floats[place + 1], floats[place + 2]
            small, large = floats[place + 3], floats[place + 4]
            data += further
        else:
            x, rest = floats[data + slot], 0.0
            events += 1
            data += columns
            if np.isnan(x):
                continue
            count += 1
            small, large = x, x
        total = high + x
        part = total - high
        low += (high - (total - part)) + (x - part) + rest
        high = total
        least, most = min(least, small), max(most, large)
    merged[span, 0] = count
    merged[span, 1] = high + low
    merged[span, 2] = least
    merged[span, 3] = most
    if tables.spans[span, 3] >= 0:
        merged[tables.spans[span, 3], 0] = events


@kernel
def _tail(tables: Tables, span: int, packed: Ints, at: int, t_us: int) -> tuple[int, int]:
    """Where the starts and where the values of the tiles of a span begin; they go on to the end of the level."""
    level, window = tables.spans[span, 0], tables.spans[span, 2]
    hop, columns, further = (
        tables.levels[level, 0],
        tables.levels[level, 2],
        tables.levels[level, 5] - 1,
    )
    n, wide = packed[at] & _LOW, packed[at] >> 32
    starts = at + 1
    if hop == 0:
        return int(starts), int(starts + n)
    # Starts are multiples of the hop: those from the window's tail on are those that end after its length.
    end_after = (t_us - window - hop) * 2 + 1
    first, data = starts + n, starts + n + (n - wide) * columns + wide * further
    while first > starts and packed[first - 1] > end_after:
        first -= 1
        data -= further if packed[first] & 1 else columns
    return int(first), int(data)


@kernel
def _count(packed: Ints, first: int, stop: int, data: int, steps: tuple[int, int]) -> int:
    """The events of tiles, whose values take `steps` words, of one event and of more."""
    columns, further = steps
    count = 0
    for i in range(first, stop):
        if packed[i] & 1:
            count += packed[data]
            data += further
        else:
            count += 1
            data += columns
    return count
