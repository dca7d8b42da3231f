"""States as of many past instants: one walk over each key's events and reads, in time order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.layout import Columns, Groups, Layout, Tables
from sevenfold.algebra.update import clear, update
from sevenfold.algebra.value import read_state, working_offsets
from sevenfold.compiled import kernel
from sevenfold.types import Floats, Ints

__all__ = ["replay"]

States = npt.NDArray[np.uint8]


def replay(
    layout: Layout, events: Groups, columns: Columns, reads: Groups, t_us: Ints
) -> tuple[Floats, States]:
    """The values float64 (n, f) and states uint8 (n, f) of n reads, each at its own instant `t_us` (n,).

    `events` and `reads` are grouped by the same keys: a key's events in log order, its reads in order of
    time.
    """
    values = np.empty((len(t_us), layout.n_reads), dtype=np.float64)
    states = np.empty((len(t_us), layout.n_reads), dtype=np.uint8)
    work = np.zeros(layout.words, dtype=np.int64)
    # One gather beats a walk that jumps through memory at every event.
    rows = events.rows
    by_key = Columns(
        columns.event_us[rows], columns.known_us[rows], columns.numbers[rows], columns.marks[rows]
    )
    _replay(layout.tables, events.starts, by_key, reads, t_us[reads.rows], work, (values, states))
    return values, states


@kernel
def _replay(
    tables: Tables,
    event_starts: Ints,
    columns: Columns,
    reads: Groups,
    t_us: Ints,
    work: Ints,
    out: tuple[Floats, States],
) -> None:
    values, states = out
    offsets = working_offsets(tables)
    floats = work.view(np.float64)
    for key in range(len(reads.starts) - 1):
        clear(tables, work, floats)
        event, events_end = event_starts[key], event_starts[key + 1]
        before = np.int64(-1)
        for i in range(reads.starts[key], reads.starts[key + 1]):
            row = reads.rows[i]
            t = t_us[i]
            if before >= 0 and t_us[i - 1] == t:
                # Many candidates of one request share the keys of its query.
                for i_read in range(values.shape[1]):
                    values[row, i_read] = values[before, i_read]
                    states[row, i_read] = states[before, i_read]
                continue
            while event < events_end and columns.known_us[event] < t:
                update(tables, work, floats, columns, event)
                event += 1
            read_state(tables, work, floats, 0, offsets, t, values, states, row)
            before = row
