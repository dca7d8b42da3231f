"""Where each aggregate keeps its state, as flat tables that one compiled kernel reads for every view.

The state of a key is a row of 64-bit words, floats kept as their bits:

    newest event_us
    last        event_us, value or the mark of a delete     for each (column, nulls)
    decayed     reference_us, sum at the reference          for each (column, half-life)
    level       n, then n tiles by start:                   for each hop in use (0: the lifetime)
                  start_us, events, (count, high, low, min, max) for each column
    distinct    n, then n pairs (mark, newest event_us)     for each (column, cap)

At rest the tiles lie packed; while it is worked on, every level has room for all tiles a window can reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sevenfold.types import Floats, Ints

__all__ = [
    "AGE",
    "ATTRIBUTE",
    "COUNT",
    "COUNT_ALL",
    "DECAYED",
    "DELETED",
    "DISTINCT",
    "KINDS",
    "LAST",
    "MAX",
    "MEAN",
    "MIN",
    "NEVER_US",
    "SINCE_LAST",
    "SUM",
    "Columns",
    "Groups",
    "Layout",
    "Read",
    "Slices",
    "Tables",
    "lay_out",
]

COUNT_ALL, COUNT, SUM, MEAN, MIN, MAX, LAST, SINCE_LAST, DECAYED, DISTINCT, ATTRIBUTE = range(11)
AGE = 64  # far from the others, so that those have room to grow
KINDS = {
    "count": COUNT,
    "sum": SUM,
    "mean": MEAN,
    "min": MIN,
    "max": MAX,
    "last": LAST,
    "since_last": SINCE_LAST,
    "decayed": DECAYED,
    "distinct": DISTINCT,
    "attribute": ATTRIBUTE,
    "age": AGE,
}
NEVER_US = -(1 << 63)
DELETED = 0x7FF8 << 48 | 0xDE1
"""The bits in place of an attribute's value where its row is a delete: a NaN that no null is written as."""

_COLUMN_WORDS = 5


@dataclass(frozen=True, slots=True)
class Read:
    """One output of a view: an aggregate of one column over one window.

    `column` indexes the number columns (or the mark columns, for distinct); -1 is no column.
    `window_us` 0 is the lifetime; for an attribute it is the ttl and 0 is none.
    """

    kind: int
    column: int = -1
    window_us: int = 0
    hop_us: int = 0
    half_life_us: int = 0
    cap: int = 0
    nulls: bool = False


class Tables(NamedTuple):
    """A layout as arrays, for kernels.

    levels (L, 6): hop, longest window, columns, offset, capacity in tiles, words a tile;
    level_columns (L, C): column in each slot; spans (S, 5): level, slot, window, whether its sum and
    whether its extremes are wanted: what one pass over tiles gives; lasts (K, 3): column, nulls, offset;
    decays (D, 3): column, half-life, offset; distincts (U, 5): column, capacity, longest window, hop,
    offset; reads (F, 5): kind, index of its span or other section, -1, window, hop.
    """

    levels: Ints
    level_columns: Ints
    spans: Ints
    lasts: Ints
    decays: Ints
    distincts: Ints
    reads: Ints


class Columns(NamedTuple):
    """What the kernels read of n events: `numbers` (n, c) with NaN and `marks` (n, m) with 0 for null."""

    event_us: Ints
    known_us: Ints
    numbers: Floats
    marks: Ints


class Groups(NamedTuple):
    """Rows by key: those of key i are `rows[starts[i]:starts[i + 1]]`."""

    starts: Ints
    rows: Ints


class Slices(NamedTuple):
    """Rows in order of their keys: those of key i are `begins[i]` to `ends[i]`."""

    begins: Ints
    ends: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The state of one view: `fixed` words at the front, `words` of working room, its tables."""

    tables: Tables
    fixed: int
    words: int
    growth: int
    n_columns: int
    n_marks: int

    @property
    def n_reads(self) -> int:
        """The number of outputs."""
        return len(self.tables.reads)

    @property
    def least(self) -> int:
        """The words of an empty packed state."""
        return self.fixed + len(self.tables.levels) + len(self.tables.distincts)


def lay_out(reads: Sequence[Read]) -> Layout:
    """The layout that keeps what `reads` need and nothing else."""
    tiled = [read for read in reads if read.kind in _TILED]
    hops = sorted({_level_hop(read) for read in tiled})
    columns = [
        sorted({r.column for r in tiled if _level_hop(r) == hop and r.column >= 0}) for hop in hops
    ]
    lasts = _distinct_keys(reads, _LASTS, lambda r: (r.column, int(r.nulls)))
    decays = _distinct_keys(reads, (DECAYED,), lambda r: (r.column, r.half_life_us))
    marks = _distinct_keys(reads, (DISTINCT,), lambda r: (r.column, r.cap, _level_hop(r)))
    first_decay = 1 + 2 * len(lasts)
    fixed = first_decay + 2 * len(decays)
    offset = fixed
    levels = []
    for hop, slots in zip(hops, columns, strict=True):
        longest = max(r.window_us for r in tiled if _level_hop(r) == hop)
        capacity = longest // hop + 3 if hop else 1
        record = 2 + _COLUMN_WORDS * len(slots)
        levels.append((hop, longest, len(slots), offset, capacity, record))
        offset += 1 + capacity * record
    distincts = []
    for column, cap, hop in marks:
        windows = [r.window_us for r in reads if _mark_of(r) == (column, cap, hop)]
        distincts.append((column, cap, max(windows) if hop else 0, hop, offset))
        offset += 1 + 2 * cap
    spans = _spans(tiled, hops, columns)
    tables = Tables(
        _table(levels, 6),
        _table(
            [slots + [-1] * (_widest(columns) - len(slots)) for slots in columns], _widest(columns)
        ),
        _table([(*span, *wanted) for span, wanted in spans.items()], 5),
        _table([(c, nulls, 1 + 2 * i) for i, (c, nulls) in enumerate(lasts)], 3),
        _table([(c, life, first_decay + 2 * i) for i, (c, life) in enumerate(decays)], 3),
        _table(distincts, 5),
        _table(
            [_read_row(read, hops, columns, list(spans), lasts, decays, marks) for read in reads], 5
        ),
    )
    return Layout(
        tables,
        fixed,
        offset,
        sum(level[5] for level in levels) + 2 * len(distincts),
        max((r.column for r in reads if r.kind != DISTINCT), default=-1) + 1,
        max((r.column for r in reads if r.kind == DISTINCT), default=-1) + 1,
    )


_TILED = (COUNT_ALL, COUNT, SUM, MEAN, MIN, MAX)
_LASTS = (LAST, ATTRIBUTE, AGE)


def _spans(
    tiled: Sequence[Read], hops: list[int], columns: list[list[int]]
) -> dict[tuple[int, int, int], tuple[int, int]]:
    """Each (level, slot, window) that is read, with whether its sum and whether its extremes are."""
    spans: dict[tuple[int, int, int], tuple[int, int]] = {}
    for read in tiled:
        span = _span_of(read, hops, columns)
        sums, extremes = spans.get(span, (0, 0))
        spans[span] = (
            sums or int(read.kind in (SUM, MEAN)),
            extremes or int(read.kind in (MIN, MAX)),
        )
    return spans


def _span_of(read: Read, hops: list[int], columns: list[list[int]]) -> tuple[int, int, int]:
    level = hops.index(_level_hop(read))
    slot = columns[level].index(read.column) if read.column >= 0 else -1
    return level, slot, read.window_us


def _level_hop(read: Read) -> int:
    return read.hop_us if read.window_us else 0


def _mark_of(read: Read) -> tuple[int, int, int] | None:
    return (read.column, read.cap, _level_hop(read)) if read.kind == DISTINCT else None


def _distinct_keys(
    reads: Sequence[Read], kinds: tuple[int, ...], key: Callable[[Read], tuple[int, ...]]
) -> list[tuple[int, ...]]:
    return sorted({key(read) for read in reads if read.kind in kinds})


def _widest(columns: list[list[int]]) -> int:
    return max((len(slots) for slots in columns), default=0) or 1


def _table(rows: Sequence[Sequence[int]], width: int) -> Ints:
    return np.array(rows, dtype=np.int64).reshape(len(rows), width)


def _read_row(
    read: Read,
    hops: list[int],
    columns: list[list[int]],
    spans: list[tuple[int, int, int]],
    lasts: list[tuple[int, ...]],
    decays: list[tuple[int, ...]],
    marks: list[tuple[int, ...]],
) -> tuple[int, int, int, int, int]:
    hop = _level_hop(read)
    if read.kind in _TILED:
        place = spans.index(_span_of(read, hops, columns))
        return read.kind, place, -1, read.window_us, hop
    if read.kind in _LASTS:
        place = lasts.index((read.column, int(read.nulls)))
    elif read.kind == DECAYED:
        place = decays.index((read.column, read.half_life_us))
    elif read.kind == DISTINCT:
        place = marks.index((read.column, read.cap, hop))
    else:
        place = 0
    return read.kind, place, -1, read.window_us, hop
