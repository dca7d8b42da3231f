"""Where each aggregate keeps its state, as flat tables that one compiled kernel reads for every view.

The state of a key is a row of 64-bit words, floats kept as their bits:

    newest event_us
    last        event_us, value or the mark of a delete     for each (column, nulls)
    decayed     reference_us, sum at the reference          for each (column, half-life)
    level       n, then n tiles by start:                   for each hop in use (0: the lifetime)
                  start_us, events, (count, high, low, min, max) for each column,
                  (high, low) of the squared deviations for each column whose spread is read,
                  (event_us, value) of the earliest for each column whose first value is read
    distinct    n, then n pairs (mark, newest event_us)     for each (column, cap)
    section     n, then n entries                           see `sections`

So it is worked on: every level has room for more tiles than a window can reach. At rest what lies there is packed, and a
tile of one event is no more than its values (see `tiles`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from sevenfold.algebra.reads import (
    AGE,
    ATTRIBUTE,
    COUNT,
    COUNT_ALL,
    DECAYED,
    DELETED,
    DISTINCT,
    FIRST,
    FOLLOWS,
    KINDS,
    LAST,
    LAST_K,
    MAX,
    MEAN,
    MIN,
    NEVER_US,
    QUANTILE,
    SINCE_LAST,
    SKETCH,
    STD,
    SUM,
    TOP_K,
    VAR,
    VECTOR,
    Read,
)
from sevenfold.algebra.sections import Section, precision_of, section_of, sections_of
from sevenfold.compiled import COMPILES
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

_COLUMN_WORDS = 5
_SPARE_TILES = 16
_NEAR_TILES = (
    1 << 12
)  # the number of a tile after the oldest, with three bits for its kind, takes 16 bits with none for a sign
_MANY_TILES = 1 << 17  # so many are counted in 17 bits of a word
_LONG_HOP_US = 1 << 17  # whose numbers take the other 47 for every instant there is


class Tables(NamedTuple):
    """A layout as arrays, for kernels.

    levels (L, 10): hop, longest window, columns, offset, capacity in tiles, words a tile, columns with a
    spread, columns with a first, bits of a tile's number at rest, words before those; level_columns (L, C): column in each slot; moments (L, M): slot of each
    spread; firsts (L, E): column of each first; spans (S, 4): level, slot, window of what one pass over
    tiles gives; lasts (K, 3): column, nulls, offset;
    decays (D, 3): column, half-life, offset; distincts (U, 7): column, capacity, longest window, hop,
    offset, its sketch, the precision of that; sections (V, 9): kind, column, capacity in entries, words an
    entry, offset, longest window, hop, setting, first of its bounds; bounds (B,): of buckets; reads (F, 6):
    kind, index of its span, level or section, place in the level, window, hop, outputs; numbers (F, 2): the
    q and the error of a quantile.
    """

    levels: Ints
    level_columns: Ints
    moments: Ints
    firsts: Ints
    spans: Ints
    lasts: Ints
    decays: Ints
    distincts: Ints
    sections: Ints
    bounds: Floats
    reads: Ints
    numbers: Floats


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


@dataclass(frozen=True, eq=False)
class Layout:
    """The state of one view: `fixed` words at the front, `words` of working room, its tables."""

    tables: Tables
    fixed: int
    words: int
    growth: int
    n_columns: int
    n_marks: int

    @cached_property
    def lent(self) -> Any:
        """The tables for a kernel that is called often, which takes them by `lent_tables`.

        To hand over twelve arrays takes as long as reading a state: their addresses and shapes are one array.
        """
        if not COMPILES:
            return self.tables
        rows = [(table.ctypes.data, *table.shape, 1)[:3] for table in self.tables]
        return np.array(rows, dtype=np.int64)

    @cached_property
    def blank(self) -> Ints:
        """The packed state of a key which has seen nothing, int64 (least,)."""
        state = np.zeros(self.least, dtype=np.int64)
        state[0] = NEVER_US
        for offset in [*self.tables.lasts[:, 2], *self.tables.decays[:, 2]]:
            state[offset] = NEVER_US
        for offset in self.tables.lasts[:, 2]:
            state.view(np.float64)[offset + 1] = np.nan
        return state

    @property
    def n_reads(self) -> int:
        """The number of outputs."""
        return len(self.tables.reads)

    @cached_property
    def least(self) -> int:
        """The words of an empty packed state."""
        tables = self.tables
        heads = int(tables.levels[:, 9].sum())
        return self.fixed + heads + len(tables.distincts) + len(tables.sections)

    @property
    def most(self) -> int:
        """The words of a packed state at most: those of working room, and of each level what may come before its tiles."""
        return self.words + 2 * len(self.tables.levels)


@dataclass(frozen=True, slots=True)
class _Level:
    """The tiles of one hop: the columns that they add up, and those whose spread or first they keep."""

    hop: int
    longest: int
    slots: list[int]
    moments: list[int]
    firsts: list[int]

    @property
    def record(self) -> int:
        """The words of a tile."""
        return 2 + _COLUMN_WORDS * len(self.slots) + 2 * len(self.moments) + 2 * len(self.firsts)


def lay_out(reads: Sequence[Read]) -> Layout:
    """The layout that keeps what `reads` need and nothing else."""
    levels = _levels(reads)
    lasts = _distinct_keys(reads, _LASTS, lambda r: (r.column, int(r.nulls)))
    decays = _distinct_keys(reads, (DECAYED,), lambda r: (r.column, r.half_life_us))
    marks = _distinct_keys(reads, (DISTINCT,), _mark)
    sections = sections_of(reads)
    first_decay = 1 + 2 * len(lasts)
    fixed = first_decay + 2 * len(decays)
    offset = fixed
    level_rows = []
    for level in levels:
        reach = level.longest // level.hop + 3 if level.hop else 1
        # Those out of reach are left when there is no more room: with some to spare, not at every new tile.
        capacity = reach + _SPARE_TILES + reach // 4 if level.hop else 1
        counts = len(level.moments), len(level.firsts)
        room = (level.hop, level.longest, len(level.slots), offset, capacity, level.record)
        level_rows.append((*room, *counts, *_at_rest(level, reach)))
        offset += 1 + capacity * level.record
    distincts = []
    for column, cap, hop, precision in marks:
        key = SKETCH, column, cap, hop, precision
        sketch = list(sections).index(key)
        distincts.append((column, cap, sections[key].longest, hop, offset, sketch, precision))
        offset += 1 + 2 * (cap + 1)
    section_rows, bounds, offset = _section_rows(sections, offset)
    spans = _spans(reads, levels)
    rows = []
    for read in reads:
        if read.kind in _SECTIONS:
            place, slot = section_of(read, sections), -1
        else:
            place, slot = _place(read, levels, spans, lasts, decays, marks)
        rows.append((read.kind, place, slot, read.window_us, read.level_hop_us, read.width))
        rows += [(FOLLOWS, 0, -1, 0, 0, 0)] * (read.width - 1)
    tables = Tables(
        _table(level_rows, 10),
        _padded([level.slots for level in levels]),
        _padded([[level.slots.index(c) for c in level.moments] for level in levels]),
        _padded([level.firsts for level in levels]),
        _table(_walked(spans), 4),
        _table([(c, nulls, 1 + 2 * i) for i, (c, nulls) in enumerate(lasts)], 3),
        _table([(c, life, first_decay + 2 * i) for i, (c, life) in enumerate(decays)], 3),
        _table(distincts, 7),
        _table(section_rows, 9),
        np.array(bounds, dtype=np.float64),
        _table(rows, 6),
        np.array([(r.q, r.error) for r in reads for _ in range(r.width)]).reshape(-1, 2),
    )
    return Layout(
        tables,
        fixed,
        offset,
        sum(level.record for level in levels)
        + 2 * len(distincts)
        + sum(section.record for section in sections.values()),
        max(
            (r.column + (r.k if r.kind == VECTOR else 1) for r in reads if r.kind != DISTINCT),
            default=0,
        ),
        max((r.column for r in reads if r.kind == DISTINCT), default=-1) + 1,
    )


def _at_rest(level: _Level, reach: int) -> tuple[int, int]:
    """The bits of a tile's number at rest, and the words before those: see `tiles`."""
    if level.moments or level.firsts:
        return 0, 1
    is_long = level.hop == 0 or level.hop >= _LONG_HOP_US
    return 16 if reach <= _NEAR_TILES else 32, 1 if is_long and reach < _MANY_TILES else 2


_MERGED = (COUNT_ALL, COUNT, SUM, MEAN, MIN, MAX)
_SPREADS = (VAR, STD)
_SECTIONS = (LAST_K, QUANTILE, TOP_K, VECTOR)
_LASTS = (LAST, ATTRIBUTE, AGE)


def _levels(reads: Sequence[Read]) -> list[_Level]:
    tiled = [read for read in reads if read.kind in (*_MERGED, *_SPREADS, FIRST)]
    levels = []
    for hop in sorted({read.level_hop_us for read in tiled}):
        here = [read for read in tiled if read.level_hop_us == hop]
        levels.append(
            _Level(
                hop,
                max(read.window_us for read in here),
                sorted({r.column for r in here if r.kind != FIRST and r.column >= 0}),
                sorted({r.column for r in here if r.kind in _SPREADS}),
                sorted({r.column for r in here if r.kind == FIRST}),
            )
        )
    return levels


def _spans(reads: Sequence[Read], levels: Sequence[_Level]) -> list[tuple[int, int, int]]:
    """Each (level, slot, window) that is read."""
    return list(dict.fromkeys(_span_of(read, levels) for read in reads if read.kind in _MERGED))


def _walked(spans: list[tuple[int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Each span with the span of no column that its walk fills too, -1 for none; the slot of that one is then -2."""
    rows, filled = [], set()
    for level, slot, window in spans:
        events = (level, -1, window)
        is_first = slot >= 0 and events in spans and events not in filled
        if is_first:
            filled.add(events)
        rows.append((level, slot, window, spans.index(events) if is_first else -1))
    return [
        (level, -2, window, -1) if (level, slot, window) in filled else (level, slot, window, place)
        for level, slot, window, place in rows
    ]


def _span_of(read: Read, levels: Sequence[_Level]) -> tuple[int, int, int]:
    level = _level_of(read, levels)
    slot = levels[level].slots.index(read.column) if read.column >= 0 else -1
    return level, slot, read.window_us


def _level_of(read: Read, levels: Sequence[_Level]) -> int:
    return [level.hop for level in levels].index(read.level_hop_us)


def _section_rows(
    sections: dict[tuple[int, ...], Section], offset: int
) -> tuple[list[tuple[int, ...]], list[float], int]:
    """The rows of the sections from word `offset` on, the bounds of them all, and the word after them."""
    rows: list[tuple[int, ...]] = []
    bounds: list[float] = []
    for s in sections.values():
        room = (s.kind, s.column, s.capacity, s.record, offset)
        rows.append((*room, s.longest, s.hop, s.setting, len(bounds)))
        bounds += s.bounds
        offset += 1 + s.capacity * s.record
    return rows, bounds, offset


def _mark(read: Read) -> tuple[int, ...]:
    return read.column, read.cap, read.level_hop_us, precision_of(read.error)


def _distinct_keys(
    reads: Sequence[Read], kinds: tuple[int, ...], key: Callable[[Read], tuple[int, ...]]
) -> list[tuple[int, ...]]:
    return sorted({key(read) for read in reads if read.kind in kinds})


def _padded(rows: Sequence[list[int]]) -> Ints:
    widest = max((len(row) for row in rows), default=0) or 1
    return _table([row + [-1] * (widest - len(row)) for row in rows], widest)


def _table(rows: Sequence[Sequence[int]], width: int) -> Ints:
    return np.array(rows, dtype=np.int64).reshape(len(rows), width)


def _place(
    read: Read,
    levels: Sequence[_Level],
    spans: list[tuple[int, int, int]],
    lasts: list[tuple[int, ...]],
    decays: list[tuple[int, ...]],
    marks: list[tuple[int, ...]],
) -> tuple[int, int]:
    """The index of the span, level or section that a read is answered from, and the place in the level."""
    if read.kind in _MERGED:
        return spans.index(_span_of(read, levels)), -1
    if read.kind in _SPREADS or read.kind == FIRST:
        level = _level_of(read, levels)
        kept = levels[level].firsts if read.kind == FIRST else levels[level].moments
        return level, kept.index(read.column)
    if read.kind in _LASTS:
        return lasts.index((read.column, int(read.nulls))), -1
    if read.kind == DECAYED:
        return decays.index((read.column, read.half_life_us)), -1
    if read.kind == DISTINCT:
        return marks.index(_mark(read)), -1
    return 0, -1
