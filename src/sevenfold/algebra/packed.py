"""States at rest: packed rows of words, updated and read many at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.layout import NEVER_US, Columns, Groups, Layout, Tables
from sevenfold.algebra.tiles import level_end, pack_level, unpack_level
from sevenfold.algebra.update import clear, lend_columns, lent_tables, settle, update
from sevenfold.algebra.value import fixed_words, read_state, working_offsets
from sevenfold.compiled import borrowed, kernel, nought, soon
from sevenfold.types import Floats, Ints

__all__ = ["newest_us", "read_packed", "update_packed"]

States = npt.NDArray[np.uint8]

_AHEAD = 3  # states
_LINES = 6  # of 64 bytes


def update_packed(
    layout: Layout, words: Ints, places: Ints, events: Groups, columns: Columns
) -> tuple[Ints, Ints, int]:
    """The packed states of g keys after their events, and which is damaged, -1 when none is.

    What they were lies in `words` as for `read_packed`; an empty one is a new key. The events of each key are in log
    order. Returns the new words, one state after the other, and their ends (g,) in words. The last is the first state, as in
    `read_packed`, that does not end where its own counts say, or that takes more words than it did and than its events can add, as one may that
    is kept in a way in which its values would not be: nothing is good then. Each is looked at just before it is read: its words come from memory once.
    """
    groups = len(places)
    before = int((places[:, 1] - places[:, 0]).sum()) >> 3
    room = before + groups * layout.least + len(events.rows) * layout.growth
    # It is known that one takes too much once it is written.
    new = np.empty(room + layout.most, dtype=np.int64)
    ends = np.empty(groups, dtype=np.int64)
    work = np.zeros(layout.words, dtype=np.int64)
    bounds = np.array([layout.least, layout.growth])
    size = _update_packed(
        layout.lent, words, places, events.starts, events.rows, *columns, work, bounds, new, ends
    )
    return new[: max(size, 0)], ends, -1 - size if size < 0 else -1


def read_packed(layout: Layout, words: Ints, places: Ints, t_us: int) -> tuple[Floats, States, int]:
    """The values float64 (g, f) and states uint8 (g, f) of g packed states at `t_us`, and which is damaged.

    The i-th lies from byte `places[i, 0]` of `words` up to byte `places[i, 1]`; an empty one is an unknown key.
    The last is the first of them that does not end where its own counts say, -1 when all do: another one would have the
    kernel read outside of it. From that one on nothing is read.
    """
    values = np.empty((len(places), layout.n_reads), dtype=np.float64)
    states = np.empty((len(places), layout.n_reads), dtype=np.uint8)
    damaged = _read_packed(layout.lent, layout.blank, words, places, t_us, values, states)
    return values, states, damaged


def newest_us(words: Ints, places: Ints) -> Ints:
    """When the newest event of each of g packed states happened (g,); NEVER_US for an empty one."""
    out = np.full(len(places), NEVER_US, dtype=np.int64)
    there = places[:, 1] > places[:, 0]
    out[there] = words[places[there, 0] >> 3]
    return out


@kernel
def _is_whole(tables: Tables, packed: Ints, begin: int, end: int, offsets: Ints) -> bool:
    """Whether a packed state ends where its counts say; where each of its levels and sections begins to `offsets`."""
    at = begin + fixed_words(tables)
    n_levels = tables.levels.shape[0]
    before = n_levels + tables.distincts.shape[0]
    for section in range(before + tables.sections.shape[0]):
        if at >= end:
            return False
        offsets[section] = at
        if section < n_levels:
            at = level_end(tables, section, packed, at, end)
            if at < 0:
                return False
            continue
        if section < before:
            most, record = tables.distincts[section - n_levels, 1] + 1, 2
        else:
            most = tables.sections[section - before, 2]
            record = tables.sections[section - before, 3]
        if packed[at] < 0 or packed[at] > most:
            return False
        at += 1 + packed[at] * record
    return bool(at == end)


@kernel
def _soon(packed: Ints, begin: int, end: int) -> None:
    """Ask for the words of a state."""
    for at in range(begin, min(end, begin + 8 * _LINES), 8):
        soon(packed, at)


@kernel
def _update_packed(  # arrays one by one: of tuples of them the compiler's door takes three times as long
    lent: Any,
    old: Ints,
    places: Ints,
    starts: Ints,
    rows: Ints,
    event_us: Ints,
    known_us: Ints,
    numbers: Floats,
    marks: Ints,
    work: Ints,
    bounds: Ints,
    new: Ints,
    ends: Ints,
) -> int:
    tables, old, places = lent_tables(lent), borrowed(old), borrowed(places)
    columns = lend_columns(Columns(event_us, known_us, numbers, marks))
    starts, rows, work = borrowed(starts), borrowed(rows), borrowed(work)
    least, growth, new, ends = bounds[0], bounds[1], borrowed(new), borrowed(ends)
    at, offsets = nought(), working_offsets(tables)
    floats, old_values, new_values = (
        work.view(np.float64),
        old.view(np.float64),
        new.view(np.float64),
    )
    for key in range(places.shape[0]):
        if key + _AHEAD < places.shape[0]:
            _soon(old, places[key + _AHEAD, 0] >> 3, places[key + _AHEAD, 1] >> 3)
        begin, end = places[key, 0], places[key, 1]
        if begin != end and (
            (begin | end) & 7 or not _is_whole(tables, old, begin >> 3, end >> 3, offsets)
        ):
            return int(-1 - key)
        begin, end = begin >> 3, end >> 3
        _unpack(tables, old, old_values, begin, end, work, floats)
        for i in range(starts[key], starts[key + 1]):
            update(tables, work, floats, columns, rows[i], columns.known_us[rows[i]])
        if starts[key + 1] > starts[key]:
            settle(tables, work, columns.known_us[rows[starts[key + 1] - 1]])
        most = at + max(end - begin, least) + (starts[key + 1] - starts[key]) * growth
        at = _pack(tables, work, floats, new, new_values, at)
        if at > most:
            return int(-1 - key)
        ends[key] = at
    return at


@kernel
def _unpack(
    tables: Tables,
    packed: Ints,
    values: Floats,
    begin: int,
    end: int,
    work: Ints,
    floats: Floats,
) -> None:
    if end == begin:
        clear(tables, work, floats)
        return
    fixed = fixed_words(tables)
    for i in range(fixed):
        work[i] = packed[begin + i]
    at = begin + fixed
    for level in range(tables.levels.shape[0]):
        at = unpack_level(tables, level, packed, values, at, work, floats)
    for section in range(tables.distincts.shape[0]):
        size = 1 + 2 * packed[at]
        offset = tables.distincts[section, 4]
        for i in range(size):
            work[offset + i] = packed[at + i]
        at += size
    for section in range(tables.sections.shape[0]):
        size = 1 + packed[at] * tables.sections[section, 3]
        offset = tables.sections[section, 4]
        for i in range(size):
            work[offset + i] = packed[at + i]
        at += size


@kernel
def _pack(tables: Tables, work: Ints, floats: Floats, packed: Ints, values: Floats, at: int) -> int:
    fixed = fixed_words(tables)
    for i in range(fixed):
        packed[at + i] = work[i]
    at += fixed
    for level in range(tables.levels.shape[0]):
        at = pack_level(tables, level, work, floats, packed, values, at)
    for section in range(tables.distincts.shape[0]):
        offset = tables.distincts[section, 4]
        size = 1 + 2 * work[offset]
        for i in range(size):
            packed[at + i] = work[offset + i]
        at += size
    for section in range(tables.sections.shape[0]):
        offset = tables.sections[section, 4]
        size = 1 + work[offset] * tables.sections[section, 3]
        for i in range(size):
            packed[at + i] = work[offset + i]
        at += size
    return at


@kernel
def _read_packed(
    lent: Any,
    blank: Ints,
    words: Ints,
    places: Ints,
    t_us: int,
    values: Floats,
    states: States,
) -> int:
    tables, blank, words, places = (
        lent_tables(lent),
        borrowed(blank),
        borrowed(words),
        borrowed(places),
    )
    values, states = borrowed(values), borrowed(states)
    offsets = working_offsets(tables)
    merged = np.empty((len(tables.spans), 4), dtype=np.float64)
    words_floats, blank_floats = words.view(np.float64), blank.view(np.float64)
    for key in range(places.shape[0]):
        begin, end = places[key, 0], places[key, 1]
        state, floats = words, words_floats
        if begin == end:
            state, floats, begin, end = blank, blank_floats, nought(), 8 * blank.shape[0]
        start = begin >> 3
        if (begin | end) & 7 or not _is_whole(tables, state, start, end >> 3, offsets):
            return int(key)
        read_state(tables, state, floats, start, offsets, t_us, merged, values, states, key, True)
    return -1
