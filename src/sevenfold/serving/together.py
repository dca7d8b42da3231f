"""Events of several streams into the log together, as if every run of one stream had come alone.

What a run becomes depends on those before it: an event becomes known after the last one of the log, which is the last one that
was new, and whether it is new depends on when it becomes known. Both are found for all events at once, by turns, until
neither changes; as the first run depends on none and each on earlier ones only, there is one answer, that of one
run after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sevenfold.serving.enrich import Enriching
from sevenfold.serving.runs import Runs, runs
from sevenfold.stores.dedupe import Seen
from sevenfold.stores.kv import Transaction
from sevenfold.stores.log import append_runs, arranged, floor_us
from sevenfold.types import EventBatch, Instant, Ints

__all__ = ["Logged", "log_together"]

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Logged:
    """The events that were new, of each stream, and the runs in which they lie in the log: batch, first event, the one after."""

    batches: list[EventBatch]
    runs: list[tuple[int, int, int]]

    def in_order(self) -> Iterator[EventBatch]:
        """The runs."""
        for which, first, last in self.runs:
            yield self.batches[which].take(np.arange(first, last))


def log_together(
    txn: Transaction,
    batches: Sequence[EventBatch],
    horizons: Mapping[str, int],
    enriching: Enriching,
    read_us: Instant,
) -> Logged:
    """The events of `batches`, a stream each, that are new, as they are now at the end of the log.

    They lie in the order in which they became known, enriched by the rows of tables before them. None becomes known
    before `read_us`.
    """
    found = runs(batches, enriching.tables)
    rows = [np.flatnonzero(found.which == part) for part in range(len(found.parts))]
    seen = [Seen(txn, part.stream, part.event_ids, horizons[part.stream]) for part in found.parts]
    floor = max(floor_us(txn), read_us)
    new = np.ones(len(found.which), dtype=np.bool_)
    while True:
        known_us, place = _raised(found, new, floor)
        before, new = new, np.empty_like(new)
        for one, mine in zip(seen, rows, strict=True):
            new[mine] = one.fresh(known_us[mine], place[mine])
        if (new == before).all():
            break
    kept, places = [], []
    for part, one, mine in zip(found.parts, seen, rows, strict=True):
        one.remember(new[mine], known_us[mine], place[mine])
        places.append(mine[new[mine]])
        kept.append(replace(part.take(place[places[-1]]), known_us=known_us[places[-1]]))
    tables = {
        batch.stream: (batch, at)
        for batch, at in zip(kept, places, strict=True)
        if batch.stream in enriching.tables
    }
    kept = [enriching.fill(txn, batch, at, tables) for batch, at in zip(kept, places, strict=True)]
    logged = Logged(kept, _runs_of(found, new))
    append_runs(txn, kept, logged.runs)
    return logged


def _raised(found: Runs, new: Bools, floor: Instant) -> tuple[Ints, Ints]:
    """When each event becomes known (n,), after those that are `new` before its run; and which of its part it is (n,).

    Events of a run that come to one instant are put in order again.
    """
    known_us, place = found.known_us.copy(), found.place.copy()
    if not len(new):
        return known_us, place
    lasts = np.maximum.reduceat(np.where(new, np.arange(len(new)), -1), found.starts).tolist()
    starts = found.starts.tolist()
    firsts_us = known_us[found.starts].tolist()
    for begin, end, last, first_us in zip(
        starts, [*starts[1:], len(new)], lasts, firsts_us, strict=True
    ):
        if first_us < floor:
            if end == begin + 1:
                known_us[begin] = floor
            else:
                _raise_run(found, slice(begin, end), floor, known_us, place)
        if last >= 0:
            floor = max(floor, known_us.item(last) + 1)
    return known_us, place


def _raise_run(found: Runs, run: slice, floor: Instant, known_us: Ints, place: Ints) -> None:
    part = found.parts[found.which.item(run.start)]
    batch, order = arranged(part.take(place[run]), floor)
    known_us[run] = batch.known_us
    place[run] = place[run][order]


def _runs_of(found: Runs, new: Bools) -> list[tuple[int, int, int]]:
    """The runs of the events that are `new`: of which part, its first and the one after its last among those of the part."""
    if not len(new):
        return []
    counts = np.add.reduceat(new.astype(np.int64), found.starts)
    parts = found.which[found.starts]
    ends = np.empty_like(counts)
    for part in range(len(found.parts)):
        ends[parts == part] = np.cumsum(counts[parts == part])
    there = counts > 0
    lists = (parts[there], (ends - counts)[there], ends[there])
    return list(zip(*(one.tolist() for one in lists), strict=True))
