"""What a window holds, from the tiles at rest as they lie."""

from __future__ import annotations

import numpy as np

from sevenfold.algebra.layout import Tables
from sevenfold.algebra.tiles import (
    entry_of,
    first_entry,
    oldest_number,
    sum_at_rest,
    tiles_in,
    values_of,
)
from sevenfold.compiled import kernel
from sevenfold.types import Floats, Ints

__all__ = ["merge_at_rest"]

_LOW = 0xFFFFFFFF


@kernel
def merge_at_rest(
    tables: Tables, span: int, packed: Ints, floats: Floats, at: int, t_us: int, merged: Floats
) -> None:
    """Write count, sum, least and most over the tiles of a span of a plain level at rest to `merged`.

    The same additions in the same order as over working tiles, so the same bits.
    """
    level, slot = tables.spans[span, 0], tables.spans[span, 1]
    bits, columns = tables.levels[level, 8], tables.levels[level, 2]
    entries = first_entry(tables, level, at)
    first, n, data = _tail(tables, span, packed, at, t_us)
    if slot < 0:
        merged[span, 0] = _count(packed, entries, (first, n), data, (bits, columns))
        return
    events, count, high, low = 0, 0, 0.0, 0.0
    least, most = np.inf, -np.inf
    for i in range(first, n):
        kind = entry_of(packed, entries, bits, i) & 7
        place = data + kind * slot
        data += kind * columns
        if kind == 1:
            x, rest = floats[place], 0.0
            events += 1
            if np.isnan(x):
                continue
            count += 1
            small, large = x, x
        elif kind == 5:
            place = data - 5 * (columns - slot) + 1
            events += packed[data - 5 * columns]
            data += 1
            count += packed[place]
            x, rest = floats[place + 1], floats[place + 2]
            small, large = floats[place + 3], floats[place + 4]
        else:
            x, rest, of_tile = sum_at_rest(packed, floats, place, kind)
            events += of_tile
            count += of_tile
            small, large = floats[place], floats[place + 1]
        high, low = _added(high, low, x, rest)
        least, most = min(least, small), max(most, large)
    merged[span, 0] = count
    merged[span, 1] = high + low
    merged[span, 2] = least
    merged[span, 3] = most
    if tables.spans[span, 3] >= 0:
        merged[tables.spans[span, 3], 0] = events


@kernel
def _added(high: float, low: float, x: float, rest: float) -> tuple[float, float]:
    """A sum with x added, and what the additions have lost with what was lost of x: Sum2, as for working tiles."""
    total = high + x
    part = total - high
    return total, low + ((high - (total - part)) + (x - part) + rest)


@kernel
def _tail(tables: Tables, span: int, packed: Ints, at: int, t_us: int) -> tuple[int, int, int]:
    """The first tile of a span and the one after its last, that of its level, and where the values of the first begin."""
    level, window = tables.spans[span, 0], tables.spans[span, 2]
    hop, columns, bits = tables.levels[level, 0], tables.levels[level, 2], tables.levels[level, 8]
    entries, n = first_entry(tables, level, at), tiles_in(tables, level, packed, at)
    first, data = 0, entries + ((n * bits + 63) >> 6)
    if hop == 0:
        return first, n, int(data)
    # Those from the window's tail on are those that end after its length.
    end_after = t_us - window - hop - oldest_number(tables, level, packed, at) * hop
    a_word = 4 if bits == 16 else 2
    while (
        first + a_word <= n and _after(packed, entries, bits, first + a_word - 1) * hop <= end_after
    ):
        data += values_of(tables, level, packed[entries + ((first * bits) >> 6)])
        first += a_word
    while first < n and _after(packed, entries, bits, first) * hop <= end_after:
        kind = entry_of(packed, entries, bits, first) & 7
        data += kind * columns + (kind == 5)
        first += 1
    return first, n, int(data)


@kernel
def _after(packed: Ints, entries: int, bits: int, i: int) -> int:
    """How many hops after the oldest tile of its level tile `i` begins."""
    return entry_of(packed, entries, bits, i) >> 3


@kernel
def _count(
    packed: Ints, entries: int, tiles: tuple[int, int], data: int, widths: tuple[int, int]
) -> int:
    """The events of tiles; `widths` are the bits of an entry and the columns of the level."""
    bits, columns = widths
    count = 0
    for i in range(tiles[0], tiles[1]):
        kind = entry_of(packed, entries, bits, i) & 7
        if kind == 5:
            count += packed[data]
            data += 1
        else:
            count += packed[data + 3] & _LOW if kind == 4 else kind
        data += kind * columns
    return count
