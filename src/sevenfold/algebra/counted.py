"""How often each item occurred in each tile: what quantiles and the most frequent values are read from.

A section of entries (item, start of the tile, count), sorted by item, then tile.
"""

from __future__ import annotations

import math

import numpy as np

from sevenfold.compiled import called
from sevenfold.types import Floats, Ints

__all__ = ["bucket_of", "count_item", "read_quantile", "read_top"]


@called
def bucket_of(bounds: Floats, first: int, n: int, x: float) -> int:
    """The signed number of the bucket that x falls into: 0 for those nearer to zero than the first bound.

    Bucket i + 1 holds magnitudes above bound i - 1 and up to bound i; the last also those beyond it. The
    bounds are a table and not a logarithm, which differs between machines in the last bit.
    """
    size = abs(x)
    if size < bounds[first]:
        return 0
    low, high = 0, n - 1
    while low < high:
        middle = (low + high) // 2
        if bounds[first + middle] < size:
            low = middle + 1
        else:
            high = middle
    return low + 1 if x > 0 else -low - 1


@called
def count_item(
    state: Ints, offset: int, oldest: int, start: int, item: int, most: tuple[int, int]
) -> None:
    """Count an item in the tile that begins at `start`; tiles before `oldest` are dropped when room is made.

    `most` are the items that are tracked, and the entries. Of more different items, unless that is 0, the one that ranks last is forgotten with all
    its counts: the least frequent, of equals the largest. More entries than there may be has a damaged state only; it takes none.
    """
    tracked, capacity = most
    place = _place(state, offset, item, start)
    at = offset + 1 + 3 * place
    if place < state[offset] and state[at] == item and state[at + 1] == start:
        state[at + 2] += 1
        return
    _drop(state, offset, oldest)
    if tracked > 0:
        _make_room(state, offset, item, tracked)
    if state[offset] >= capacity:
        return
    place = _place(state, offset, item, start)
    at = offset + 1 + 3 * place
    for i in range(offset + 3 * state[offset], at - 1, -1):
        state[i + 3] = state[i]
    state[at] = item
    state[at + 1] = start
    state[at + 2] = 1
    state[offset] += 1


@called
def _place(state: Ints, offset: int, item: int, start: int) -> int:
    """The number of entries before (item, start)."""
    low, high = 0, state[offset]
    while low < high:
        middle = (low + high) // 2
        at = offset + 1 + 3 * middle
        if state[at] < item or (state[at] == item and state[at + 1] < start):
            low = middle + 1
        else:
            high = middle
    return low


@called
def _drop(state: Ints, offset: int, oldest: int) -> None:
    kept = 0
    for i in range(state[offset]):
        if state[offset + 2 + 3 * i] >= oldest:
            for word in range(1, 4):
                state[offset + word + 3 * kept] = state[offset + word + 3 * i]
            kept += 1
    state[offset] = kept


@called
def _make_room(state: Ints, offset: int, item: int, tracked: int) -> None:
    """Forget the item that ranks last when `item` is new and would be one too many."""
    different, i = 0, 0
    last, least = 0, 0
    while i < state[offset]:
        here = state[offset + 1 + 3 * i]
        if here == item:
            return
        total = 0
        while i < state[offset] and state[offset + 1 + 3 * i] == here:
            total += state[offset + 3 + 3 * i]
            i += 1
        if different == 0 or total < least or (total == least and _is_larger(here, last)):
            last, least = here, total
        different += 1
    if different >= tracked:
        kept = 0
        for i in range(state[offset]):
            if state[offset + 1 + 3 * i] != last:
                for word in range(1, 4):
                    state[offset + word + 3 * kept] = state[offset + word + 3 * i]
                kept += 1
        state[offset] = kept


@called
def _is_larger(item: int, other: int) -> bool:
    """Whether the number with the bits `item` is the larger one."""
    return bool(np.int64(item).view(np.float64) > np.int64(other).view(np.float64))


@called
def read_quantile(
    state: Ints,
    offset: int,
    tail: int,
    q: float,
    bounds: Floats,
    buckets: tuple[int, int],
    error: float,
) -> float:
    """The value that a share q of those from `tail` on lie below, within `error` of it; NaN for none.

    `buckets` are the first of their bounds and how many there are: a damaged state may name others, which have no value. Source: DDSketch, Masson, Rim and Lee 2019.
    """
    n = 0
    for i in range(state[offset]):
        if state[offset + 2 + 3 * i] >= tail:
            n += state[offset + 3 + 3 * i]
    rank = math.floor(q * (n - 1))
    below = 0
    for i in range(state[offset]):
        if state[offset + 2 + 3 * i] >= tail:
            below += state[offset + 3 + 3 * i]
            if below > rank:
                bucket = state[offset + 1 + 3 * i]
                if bucket == 0:
                    return 0.0
                if not 1 <= abs(bucket) <= buckets[1]:
                    return np.nan
                # The middle of the bucket, from which both of its ends are `error` away.
                middle = bounds[buckets[0] + abs(bucket) - 1] * (1 - error)
                return float(middle if bucket > 0 else -middle)
    return np.nan


@called
def read_top(state: Ints, floats: Floats, offset: int, tail: int, k: int, values: Floats) -> None:
    """Write the k most frequent values from `tail` on and their counts in turn; of equals the smaller first."""
    values[: 2 * k] = np.nan
    i = 0
    while i < state[offset]:
        at = offset + 1 + 3 * i
        total = 0
        while i < state[offset] and state[offset + 1 + 3 * i] == state[at]:
            if state[offset + 2 + 3 * i] >= tail:
                total += state[offset + 3 + 3 * i]
            i += 1
        if total > 0:
            _rank(values, k, floats[at], float(total))


@called
def _rank(values: Floats, k: int, value: float, count: float) -> None:
    place = k
    while place > 0:
        before = values[2 * place - 1]
        if before > count or (before == count and values[2 * place - 2] < value):
            break
        place -= 1
    if place == k:
        return
    for i in range(2 * k - 1, 2 * place + 1, -1):
        values[i] = values[i - 2]
    values[2 * place] = value
    values[2 * place + 1] = count
