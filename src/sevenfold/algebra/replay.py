"""States as of many past instants: one walk over each key's events and reads, in time order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.layout import Layout, Tables
from sevenfold.algebra.update import clear, update
from sevenfold.algebra.value import read_state
from sevenfold.compiled import kernel
from sevenfold.types import Floats, Ints

__all__ = ["replay"]

Marks = npt.NDArray[np.int64]
States = npt.NDArray[np.uint8]


def replay(
    layout: Layout,
    events: tuple[Ints, Ints],
    columns: tuple[Ints, Ints, Floats, Marks],
    reads: tuple[Ints, Ints],
    t_us: Ints,
) -> tuple[Floats, States]:
    """The values float64 (n, f) and states uint8 (n, f) of n reads, each at its own instant `t_us` (n,).

    `events` and `reads` are (starts, rows) by key, of the same keys: a key's events in log order, its
    reads in order of time. `columns` are event_us, known_us (m,), numbers (m, c) and marks (m, k).
    """
    values = np.empty((len(t_us), layout.n_reads), dtype=np.float64)
    states = np.empty((len(t_us), layout.n_reads), dtype=np.uint8)
    work = np.zeros(layout.words, dtype=np.int64)
    _replay(layout.tables, layout.fixed, *events, *columns, *reads, t_us, work, values, states)
    return values, states


@kernel
def _replay(
    tables: Tables,
    fixed: int,
    event_starts: Ints,
    event_rows: Ints,
    event_us: Ints,
    known_us: Ints,
    numbers: Floats,
    marks: Marks,
    read_starts: Ints,
    read_rows: Ints,
    t_us: Ints,
    work: Ints,
    values: Floats,
    states: States,
) -> None:
    n_levels = tables.levels.shape[0]
    offsets = np.empty(n_levels + tables.distincts.shape[0], dtype=np.int64)
    for i in range(n_levels):
        offsets[i] = tables.levels[i, 3]
    for i in range(tables.distincts.shape[0]):
        offsets[n_levels + i] = tables.distincts[i, 4]
    for key in range(len(read_starts) - 1):
        clear(tables, fixed, work, work.view(np.float64))
        event, events_end = event_starts[key], event_starts[key + 1]
        before = np.int64(-1)
        for i in range(read_starts[key], read_starts[key + 1]):
            row = read_rows[i]
            t = t_us[row]
            if before >= 0 and t_us[before] == t:
                # Many candidates of one request share the keys of its query.
                values[row] = values[before]
                states[row] = states[before]
                continue
            while event < events_end and known_us[event_rows[event]] < t:
                at = event_rows[event]
                update(tables, work, event_us[at], known_us[at], numbers[at], marks[at])
                event += 1
            read_state(tables, work, 0, offsets, t, values[row], states[row])
            before = row
