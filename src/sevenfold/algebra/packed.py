"""States at rest: packed rows of words, updated and read many at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.layout import Layout, Tables
from sevenfold.algebra.update import clear, update
from sevenfold.algebra.value import read_state, section_offsets
from sevenfold.compiled import kernel
from sevenfold.types import Floats, Ints

__all__ = ["read_packed", "update_packed"]

Marks = npt.NDArray[np.int64]
States = npt.NDArray[np.uint8]


def update_packed(
    layout: Layout,
    old: Ints,
    old_ends: Ints,
    starts: Ints,
    order: Ints,
    columns: tuple[Ints, Ints, Floats, Marks],
) -> tuple[Ints, Ints]:
    """The packed states of g keys after their events.

    `old` holds the states one after the other, the i-th ending at `old_ends[i]` (g,); an empty one is a new
    key. The events of key i are `order[starts[i]:starts[i + 1]]`, in log order; `columns` are event_us,
    known_us (n,), numbers (n, c) and marks (n, m). Returns the new words and their ends.
    """
    groups = len(old_ends)
    room = len(old) + groups * layout.least + len(order) * layout.growth
    new = np.empty(room, dtype=np.int64)
    ends = np.empty(groups, dtype=np.int64)
    work = np.zeros(layout.words, dtype=np.int64)
    size = _update_packed(
        layout.tables, layout.fixed, old, old_ends, starts, order, *columns, work, new, ends
    )
    return new[:size], ends


def read_packed(
    layout: Layout, packed: Ints, ends: Ints, t_us: int
) -> tuple[Floats, States]:
    """The values float64 (g, f) and states uint8 (g, f) of g packed states at `t_us`; empty: unknown key."""
    values = np.empty((len(ends), layout.n_reads), dtype=np.float64)
    states = np.empty((len(ends), layout.n_reads), dtype=np.uint8)
    work = np.zeros(layout.words, dtype=np.int64)
    _read_packed(layout.tables, layout.fixed, packed, ends, t_us, work, values, states)
    return values, states


@kernel
def _update_packed(
    tables: Tables,
    fixed: int,
    old: Ints,
    old_ends: Ints,
    starts: Ints,
    order: Ints,
    event_us: Ints,
    known_us: Ints,
    numbers: Floats,
    marks: Marks,
    work: Ints,
    new: Ints,
    ends: Ints,
) -> int:
    at = 0
    begin = 0
    for group in range(old_ends.shape[0]):
        _unpack(tables, fixed, old, begin, old_ends[group], work)
        begin = old_ends[group]
        for i in range(starts[group], starts[group + 1]):
            row = order[i]
            update(tables, work, event_us[row], known_us[row], numbers[row], marks[row])
        at = _pack(tables, fixed, work, new, at)
        ends[group] = at
    return at


@kernel
def _unpack(tables: Tables, fixed: int, packed: Ints, begin: int, end: int, work: Ints) -> None:
    if end == begin:
        clear(tables, fixed, work, work.view(np.float64))
        return
    for i in range(fixed):
        work[i] = packed[begin + i]
    at = begin + fixed
    for level in range(tables.levels.shape[0]):
        size = 1 + packed[at] * tables.levels[level, 5]
        offset = tables.levels[level, 3]
        for i in range(size):
            work[offset + i] = packed[at + i]
        at += size
    for section in range(tables.distincts.shape[0]):
        size = 1 + 2 * packed[at]
        offset = tables.distincts[section, 4]
        for i in range(size):
            work[offset + i] = packed[at + i]
        at += size


@kernel
def _pack(tables: Tables, fixed: int, work: Ints, packed: Ints, at: int) -> int:
    for i in range(fixed):
        packed[at + i] = work[i]
    at += fixed
    for level in range(tables.levels.shape[0]):
        offset = tables.levels[level, 3]
        size = 1 + work[offset] * tables.levels[level, 5]
        for i in range(size):
            packed[at + i] = work[offset + i]
        at += size
    for section in range(tables.distincts.shape[0]):
        offset = tables.distincts[section, 4]
        size = 1 + 2 * work[offset]
        for i in range(size):
            packed[at + i] = work[offset + i]
        at += size
    return at


@kernel
def _read_packed(
    tables: Tables,
    fixed: int,
    packed: Ints,
    ends: Ints,
    t_us: int,
    work: Ints,
    values: Floats,
    states: States,
) -> None:
    offsets = np.empty(tables.levels.shape[0] + tables.distincts.shape[0], dtype=np.int64)
    clear(tables, fixed, work, work.view(np.float64))
    begin = 0
    for group in range(ends.shape[0]):
        if ends[group] == begin:
            # `work` is an empty state; in it every section lies at its working offset.
            _working_offsets(tables, offsets)
            read_state(tables, work, 0, offsets, t_us, values[group], states[group])
        else:
            section_offsets(tables, fixed, packed, begin, offsets)
            read_state(tables, packed, begin, offsets, t_us, values[group], states[group])
        begin = ends[group]


@kernel
def _working_offsets(tables: Tables, offsets: Ints) -> None:
    n_levels = tables.levels.shape[0]
    for i in range(n_levels):
        offsets[i] = tables.levels[i, 3]
    for i in range(tables.distincts.shape[0]):
        offsets[n_levels + i] = tables.distincts[i, 4]
