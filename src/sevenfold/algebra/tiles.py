"""Tiles at rest: of a tile of few events their values, of another what they add up to.

A level whose tiles are nothing but counts, sums and extremes is kept so:

    tiles, and above them the oldest one's number       one word; one each where hops are short or tiles many
    numbers after the oldest, doubled thrice, plus kind 16 or 32 bits for each tile, oldest first
    values                                              for each tile, in the order of the tiles

The number of a tile is its start in hops. Of each column a tile keeps, by its kind, so many words:

    1   the value of its one event, null as NaN
    2   the lesser and the greater of two
    3   the least, the greatest and the middle one of three
    4   least, most, sum; events below what rounding lost of the sum, a float32
    5   one word of events for all columns; then for each count, high, low, min, max

Where a tile of 2, 3 or 4 has a null, or would not come back bit by bit, it is of the next kind that does: all bits of a
working tile come back. A level that also keeps spreads or first values is kept as it is worked on.
"""

from __future__ import annotations

import numpy as np

from sevenfold.algebra.layout import Tables
from sevenfold.algebra.moments import two_sum
from sevenfold.algebra.update import add_compensated
from sevenfold.compiled import kernel
from sevenfold.types import Floats, Ints

__all__ = [
    "STATE_FORMAT",
    "entry_of",
    "first_entry",
    "is_plain",
    "level_end",
    "oldest_number",
    "pack_level",
    "tiles_in",
    "unpack_level",
]

STATE_FORMAT = 3
"""Of states at rest; 3 since numbers and kinds of tiles share words, and tiles of three events are their values."""

_LOW = 0xFFFFFFFF
_COUNT_BITS = 17
_MOST_EVENTS = 0x7FFFFFFF
_OF_16 = 0x0001_0001_0001_0001
_OF_32 = 0x0000_0001_0000_0001


@kernel
def is_plain(tables: Tables, level: int) -> bool:
    """Whether the tiles of a level are counts, sums and extremes alone."""
    return bool(tables.levels[level, 6] + tables.levels[level, 7] == 0)


@kernel
def tiles_in(tables: Tables, level: int, packed: Ints, at: int) -> int:
    """How many tiles the plain level at rest has that begins at `at`."""
    if tables.levels[level, 9] == 2:
        return int(packed[at])
    return int(packed[at] & ((1 << _COUNT_BITS) - 1))


@kernel
def oldest_number(tables: Tables, level: int, packed: Ints, at: int) -> int:
    """The number of the first of them."""
    if tables.levels[level, 9] == 2:
        return int(packed[at + 1])
    return int(packed[at] >> _COUNT_BITS)


@kernel
def first_entry(tables: Tables, level: int, at: int) -> int:
    """Where the numbers and kinds of the level's tiles begin."""
    return int(at + tables.levels[level, 9])


@kernel
def entry_of(packed: Ints, entries: int, bits: int, i: int) -> int:
    """Number and kind of tile `i` in the words from `entries` on, `bits` for each."""
    place = i * bits
    return int((packed[entries + (place >> 6)] >> (place & 63)) & ((1 << bits) - 1))


@kernel
def _kinds_in(word: int, bits: int) -> tuple[int, int, int]:
    """The sum of the kinds in a word of `bits` for each, those of kind 5 and those of any, each still beside the others."""
    lanes = _OF_16 if bits == 16 else _OF_32
    low, middle, high = word & lanes, (word >> 1) & lanes, (word >> 2) & lanes
    return low + 2 * middle + 4 * high, low & high, (low | middle | high) ^ (middle & high)


@kernel
def _together(lanes: int, bits: int) -> int:
    """The sum of what lies beside each other in a word."""
    lanes = (lanes & _LOW) + (lanes >> 32)
    return (lanes & 0xFFFF) + (lanes >> 16) if bits == 16 else lanes


@kernel
def values_of(tables: Tables, level: int, word: int) -> int:
    """The words of values of the tiles whose numbers and kinds are in `word`."""
    bits = tables.levels[level, 8]
    kinds, wide, _ = _kinds_in(word, bits)
    return int(_together(kinds, bits) * tables.levels[level, 2] + _together(wide, bits))


@kernel
def level_end(tables: Tables, level: int, packed: Ints, at: int, end: int) -> int:
    """Where the level at rest that begins at `at` ends; -1 unless it is whole and does so before `end`, or there."""
    most, record = tables.levels[level, 4], tables.levels[level, 5]
    if not is_plain(tables, level):
        n = packed[at]
        stop = at + 1 + n * record
        return int(stop) if 0 <= n <= most and stop <= end else -1
    n, bits = tiles_in(tables, level, packed, at), tables.levels[level, 8]
    entries = first_entry(tables, level, at)
    data = entries + ((n * bits + 63) >> 6)
    if not 0 <= n <= most or data > end:
        return -1
    kinds, wide, known = 0, 0, 0
    for i in range(entries, data):
        some = _kinds_in(packed[i], bits)
        kinds += some[0]
        wide += some[1]
        known += some[2]
    unused = (n * bits) & 63
    if _together(known, bits) != n or (unused and packed[data - 1] >> unused):
        return -1
    stop = data + _together(kinds, bits) * tables.levels[level, 2] + _together(wide, bits)
    return int(stop) if stop <= end else -1


@kernel
def unpack_level(
    tables: Tables,
    level: int,
    packed: Ints,
    packed_floats: Floats,
    at: int,
    work: Ints,
    floats: Floats,
) -> int:
    """Write the level at rest that begins at `at` to its place in a working state; where it ends."""
    offset, record = tables.levels[level, 3], tables.levels[level, 5]
    if not is_plain(tables, level):
        size = int(1 + packed[at] * record)
        for i in range(size):
            work[offset + i] = packed[at + i]
        return at + size
    n, bits, columns = (
        tiles_in(tables, level, packed, at),
        tables.levels[level, 8],
        tables.levels[level, 2],
    )
    hop, oldest = tables.levels[level, 0], oldest_number(tables, level, packed, at)
    entries = first_entry(tables, level, at)
    tile, data = offset + 1, entries + ((n * bits + 63) >> 6)
    work[offset] = n
    for i in range(n):
        entry = entry_of(packed, entries, bits, i)
        kind = entry & 7
        work[tile] = (oldest + (entry >> 3)) * hop
        if kind == 5:
            for word in range(record - 1):
                work[tile + 1 + word] = packed[data + word]
            data += 1
        else:
            work[tile + 1] = kind
            for column in range(columns):
                place = tile + 2 + 5 * column
                if kind == 1:
                    _spread(packed[data + column], work, floats, place)
                else:
                    _widen(packed, packed_floats, data + kind * column, kind, work, floats, place)
                    work[tile + 1] = work[place]
        data += kind * columns
        tile += record
    return int(data)


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
def _widen(
    packed: Ints, values: Floats, data: int, kind: int, work: Ints, floats: Floats, at: int
) -> None:
    """Write a column of a tile of kind 2, 3 or 4."""
    high, low, events = sum_at_rest(packed, values, data, kind)
    work[at] = events
    floats[at + 1] = high
    floats[at + 2] = low
    floats[at + 3] = values[data]
    floats[at + 4] = values[data + 1]


@kernel
def sum_at_rest(packed: Ints, values: Floats, data: int, kind: int) -> tuple[float, float, int]:
    """The sum of a column of a tile of kind 2, 3 or 4, what rounding lost of it, and of how many events it is.

    All are computed and one is taken: to mistake which kind comes next costs more.
    """
    is_three, is_many = kind == 3, kind == 4
    third = values[data + 1 + (kind > 2)]
    last = packed[data + 1 + 2 * is_many]
    high, low = two_sum(values[data], values[data + 1])
    high_of_three, low_of_three = add_compensated(high, low, third)
    high, low = (high_of_three if is_three else high), (low_of_three if is_three else low)
    lost = float(np.uint32((last >> 32) & _LOW).view(np.float32))
    events = int(last & _LOW)
    return (third if is_many else high), (lost if is_many else low), (events if is_many else kind)


@kernel
def pack_level(
    tables: Tables, level: int, work: Ints, floats: Floats, packed: Ints, values: Floats, at: int
) -> int:
    """Write a level of a working state as it is kept, from `at` on; where it ends. `values` views `packed`."""
    offset, record = tables.levels[level, 3], tables.levels[level, 5]
    n, columns = work[offset], tables.levels[level, 2]
    if not is_plain(tables, level):
        size = int(1 + n * record)
        for i in range(size):
            packed[at + i] = work[offset + i]
        return at + size
    bits, tile = tables.levels[level, 8], offset + 1
    entries = first_entry(tables, level, at)
    data = entries + ((n * bits + 63) >> 6)
    for i in range(at, data):
        packed[i] = 0
    oldest, per_us = _head(tables, level, work, packed, at)
    for i in range(n):
        kind = _kind(work, floats, tile, columns)
        number = int((work[tile] - oldest) * per_us + 0.5)
        place = i * bits
        packed[entries + (place >> 6)] |= ((number << 3) | kind) << (place & 63)
        if kind == 5:
            for word in range(record - 1):
                packed[data + word] = work[tile + 1 + word]
            data += 1
        else:
            for column in range(columns):
                _narrow(
                    work, floats, tile + 2 + 5 * column, kind, packed, values, data + kind * column
                )
        data += kind * columns
        tile += record
    return int(data)


@kernel
def _head(tables: Tables, level: int, work: Ints, packed: Ints, at: int) -> tuple[int, float]:
    """Write the words before the entries of a level; the start of its oldest tile, and hops a microsecond."""
    hop, offset = tables.levels[level, 0], tables.levels[level, 3]
    n = work[offset]
    if n == 0 or hop == 0:
        packed[at] = n
        return 0, 0.0
    oldest = work[offset + 1]
    if tables.levels[level, 9] == 2:
        packed[at] = n
        packed[at + 1] = oldest // hop
    else:
        packed[at] = ((oldest // hop) << _COUNT_BITS) | n
    return int(oldest), 1.0 / hop


@kernel
def _kind(work: Ints, floats: Floats, tile: int, columns: int) -> int:
    """The least kind of which the tile comes back bit by bit."""
    events = work[tile + 1]
    if events == 1 and _are_alone(work, tile, columns):
        return 1
    for column in range(columns):
        if work[tile + 2 + 5 * column] != events:
            return 5
    if (events == 2 or events == 3) and _are_few(work, floats, tile, columns, events):
        return int(events)
    if columns == 0 or events > _MOST_EVENTS:
        return 5
    for column in range(columns):
        low = floats[tile + 4 + 5 * column]
        if not np.isfinite(low) or _bits(float(np.float32(low))) != work[tile + 4 + 5 * column]:
            return 5
    return 4


@kernel
def _are_alone(work: Ints, tile: int, columns: int) -> bool:
    """Whether the sums are one event's values: a minus zero, which its sum has lost, is not."""
    for at in range(tile + 2, tile + 2 + 5 * columns, 5):
        if work[at] == 1 and (work[at + 1] != work[at + 3] or work[at + 2] != 0):
            return False
    return True


@kernel
def _are_few(work: Ints, floats: Floats, tile: int, columns: int, events: int) -> bool:
    """Whether the sums of two or three events come of their extremes, and of what is left of the sum without them."""
    for at in range(tile + 2, tile + 2 + 5 * columns, 5):
        high, low = two_sum(floats[at + 3], floats[at + 4])
        if events == 3:
            high, low = add_compensated(high, low, _middle(floats, at))
        if _bits(high) != work[at + 1] or _bits(low) != work[at + 2]:
            return False
    return True


@kernel
def _middle(floats: Floats, at: int) -> float:
    """The third of three values, of which least, most and sum are known."""
    rest, low = two_sum(floats[at + 1], -floats[at + 3])
    middle, lower = two_sum(rest, -floats[at + 4])
    return float(middle + (low + lower + floats[at + 2]))


@kernel
def _bits(x: float) -> int:
    return int(np.float64(x).view(np.int64))


@kernel
def _narrow(
    work: Ints, floats: Floats, at: int, kind: int, packed: Ints, values: Floats, data: int
) -> None:
    """Write a column of a tile of kind 1 to 4."""
    if kind == 1:
        packed[data] = work[at + 3] if work[at] else _NAN
        return
    packed[data] = work[at + 3]
    packed[data + 1] = work[at + 4]
    if kind == 3:
        values[data + 2] = _middle(floats, at)
    elif kind == 4:
        packed[data + 2] = work[at + 1]
        low = np.int64(np.float32(floats[at + 2]).view(np.uint32))
        packed[data + 3] = (low << 32) | work[at]


_NAN = int(np.array([np.nan]).view(np.int64)[0])
