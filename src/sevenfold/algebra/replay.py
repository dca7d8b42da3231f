"""States as of many past instants: one walk over each key's events and reads, in time order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.layout import Columns, Groups, Layout, Slices, Tables
from sevenfold.algebra.update import clear, lend, lend_columns, update
from sevenfold.algebra.value import read_state, working_offsets
from sevenfold.compiled import borrowed, kernel, nought, released
from sevenfold.types import Floats, Ints

__all__ = ["replay"]

States = npt.NDArray[np.uint8]
_ROOM = 1 << 14
"""Bytes of values that are held until they go to their places: few enough to stay near the core beside the state."""


def replay(
    layout: Layout,
    keys: Slices,
    columns: Columns,
    reads: Groups,
    t_us: Ints,
    out: tuple[Floats, States],
) -> None:
    """Write the values and states of reads, each at its own instant `t_us` (n,), to their places in `out`.

    `columns` are events in the order of `keys`, each key's in log order; `reads` are grouped by the same
    keys, each key's in order of time. `out` is float64 (f, n) and uint8 (f, n): a column lies together.
    """
    work = np.zeros(layout.words, dtype=np.int64)
    shape = max(_ROOM // 8 // max(layout.n_reads, 1), 1), layout.n_reads
    held = np.empty(shape), np.empty(shape, dtype=np.uint8)
    _replay(layout.tables, keys, columns, reads, t_us[reads.rows], (work, *held), out)


@released
def _replay(
    tables: Tables,
    keys: Slices,
    columns: Columns,
    reads: Groups,
    t_us: Ints,
    room: tuple[Ints, Floats, States],
    out: tuple[Floats, States],
) -> None:
    tables, columns, work = lend(tables), lend_columns(columns), borrowed(room[0])
    held_values, held_states = borrowed(room[1]), borrowed(room[2])
    values, states = borrowed(out[0]), borrowed(out[1])
    offsets = working_offsets(tables)
    merged = np.empty((len(tables.spans), 4), dtype=np.float64)
    floats = work.view(np.float64)
    begins, ends = borrowed(keys.begins), borrowed(keys.ends)
    starts, rows = borrowed(reads.starts), borrowed(reads.rows)
    first, n = nought(), nought()
    for key in range(len(starts) - 1):
        clear(tables, work, floats)
        event, events_end = begins[key], ends[key]
        for i in range(starts[key], starts[key + 1]):
            if n == len(held_values):
                _place(values, states, held_values, held_states, rows, i - n, n)
                n = nought()
            t = t_us[i]
            # Many candidates of one request share the keys of its query: one read does for all.
            if i > starts[key] and t_us[i - 1] == t:
                before = (n if n > 0 else len(held_values)) - 1
                held_values[n], held_states[n] = held_values[before], held_states[before]
            else:
                while event < events_end and columns.known_us[event] < t:
                    update(tables, work, floats, columns, event, t)
                    event += 1
                read_state(
                    tables,
                    work,
                    floats,
                    first,
                    offsets,
                    t,
                    merged,
                    held_values,
                    held_states,
                    n,
                    False,
                )
            n += 1
    _place(values, states, held_values, held_states, rows, starts[-1] - n, n)


@kernel
def _place(
    values: Floats,
    states: States,
    held_values: Floats,
    held_states: States,
    rows: Ints,
    first: int,
    n: int,
) -> None:
    """Write the `n` reads that are held, the first of them read `first`, to their rows of each column.

    A column at a time: the places of one are all on their way at once then, and are not waited for one by one.
    """
    for i_read in range(values.shape[0]):
        for i in range(n):
            values[i_read, rows[first + i]] = held_values[i, i_read]
    for i_read in range(values.shape[0]):
        for i in range(n):
            states[i_read, rows[first + i]] = held_states[i, i_read]
