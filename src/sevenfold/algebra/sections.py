"""Sections of a state that grow: a count of entries, then the entries, each of a few words.

recent      event_us, value                 the newest k values of a column, newest first
histogram   bucket, start of a tile, count  the logarithmic buckets of a column's values
tally       value, start of a tile, count   the values of a column that are tracked
sketch      register and rank, start        what a distinct count knows beyond its cap
vector      event_us, float32 numbers       the newest vector, two numbers to a word
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sevenfold.algebra.reads import DISTINCT, LAST_K, QUANTILE, SKETCH, TOP_K, VECTOR, Read

__all__ = ["Section", "bucket_bounds", "precision_of", "section_of", "sections_of"]


@dataclass(frozen=True, slots=True)
class Section:
    """A section: what it keeps of which column, for how many entries of how many words it has room.

    `setting` is the number of `bounds` of a histogram, of values that a tally tracks, the precision of a
    sketch, the numbers of a vector, whose columns begin at `column`.
    """

    kind: int
    column: int
    capacity: int
    record: int
    longest: int = 0
    hop: int = 0
    setting: int = 0
    bounds: tuple[float, ...] = ()


def sections_of(reads: Sequence[Read]) -> dict[tuple[int, ...], Section]:
    """The sections that `reads` need, each once, by what tells them apart."""
    groups: dict[tuple[int, ...], list[Read]] = {}
    for read in reads:
        key = _key(read)
        if key:
            groups.setdefault(key, []).append(read)
    return {key: _section(group) for key, group in sorted(groups.items())}


def section_of(read: Read, sections: dict[tuple[int, ...], Section]) -> int:
    """The place of the section that `read` is answered from."""
    return list(sections).index(_key(read))


def bucket_bounds(error: float, smallest: float, largest: float) -> tuple[float, ...]:
    """The upper bounds of buckets whose middles are within `error` of all they hold."""
    growth = (1 + error) / (1 - error)
    bounds = [smallest]
    while bounds[-1] < largest:
        bounds.append(bounds[-1] * growth)
    return tuple(bounds)


def precision_of(error: float) -> int:
    """The bits of a register's number for a relative standard error of at most `error`: 1.04 / 2^(p / 2).

    >>> precision_of(0.05)
    9
    """
    return math.ceil(2 * math.log2(1.04 / error))


def _key(read: Read) -> tuple[int, ...]:
    """What tells the section of a read apart; nothing for a read that needs none."""
    if read.kind in (LAST_K, VECTOR):
        return read.kind, read.column
    if read.kind == QUANTILE:
        # Floats with their bits told apart by ratio; equal settings are equal numbers.
        exact = (part for x in read.buckets for part in x.as_integer_ratio())
        return QUANTILE, read.column, read.level_hop_us, *exact
    if read.kind == TOP_K:
        # Which values are tracked depends on the window: it is not shared.
        return TOP_K, read.column, read.level_hop_us, read.window_us, read.tracked
    if read.kind == DISTINCT:
        return SKETCH, read.column, read.cap, read.level_hop_us, precision_of(read.error)
    return ()


def _section(reads: Sequence[Read]) -> Section:
    read = reads[0]
    hop, longest = read.level_hop_us, max(r.window_us for r in reads)
    tiles = longest // hop + 3 if hop else 1
    if read.kind == LAST_K:
        return Section(LAST_K, read.column, max(r.k for r in reads), 2)
    if read.kind == VECTOR:
        return Section(VECTOR, read.column, 1, 1 + (read.k + 1) // 2, setting=read.k)
    if read.kind == QUANTILE:
        bounds = bucket_bounds(*read.buckets)
        room = tiles * (2 * len(bounds) + 1)
        return Section(QUANTILE, read.column, room, 3, longest, hop, len(bounds), bounds)
    if read.kind == TOP_K:
        return Section(TOP_K, read.column, tiles * read.tracked, 3, longest, hop, read.tracked)
    precision = precision_of(read.error)
    room = (1 << precision) * min(tiles, 65 - precision)
    return Section(SKETCH, read.column, room, 2, longest, hop, precision)
