"""Events of wanted keys from a stream's kept history, a bounded part of the keys at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.grouping import bucket, match
from sevenfold.algebra.layout import Groups, Slices
from sevenfold.features.columns import counted, event_hashes
from sevenfold.features.keyed import KeyedEvents
from sevenfold.features.plan import ViewPlan
from sevenfold.stores.history import StreamHistory, cuts
from sevenfold.stores.log import levelled
from sevenfold.stores.segment import LazyColumns, Segment
from sevenfold.types import Column, EventBatch, Ints, Texts

__all__ = ["KeyedHistory", "event_bytes", "in_key_order", "reads_of"]

Hashes = npt.NDArray[np.uint64]
_DENSE = 4
"""Rows are mapped as they lie while at least one in so many of them is wanted."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyedHistory:
    """Where the events of wanted keys lie: `sizes` (g,) are how many each key has.

    The keys come in order: see `in_key_order`. Parts may be read by several threads at once.
    """

    view: ViewPlan
    segments: Sequence[Segment]
    found: Sequence[tuple[Ints, Ints]]
    head: EventBatch | None
    of_key: Ints
    sizes: Ints

    @classmethod
    def of(cls, view: ViewPlan, history: StreamHistory, hashes: Hashes) -> KeyedHistory:
        """The events of the keys `hashes` (g, 2)."""
        segments, head = history.of(view.entities)
        found = [segment.find(hashes) for segment in segments]
        sizes = np.zeros(len(hashes), dtype=np.int64)
        for begins, ends in found:
            sizes += ends - begins
        of_key = np.zeros(0, dtype=np.int64)
        if head is not None:
            of_key = match(hashes, np.ascontiguousarray(event_hashes(view, head)))
            sizes += np.bincount(of_key[of_key >= 0], minlength=len(hashes))
        return cls(view, segments, found, head, of_key, sizes)

    def cuts(self, memory_bytes: int, threads: int = 1) -> list[tuple[int, int]]:
        """Ranges of keys that cover each once.

        `threads` of them have events of at most about `memory_bytes` together, or one key each; and there are
        enough of them for all.
        """
        at_once = memory_bytes // threads // event_bytes(self.view)
        if threads > 1:
            at_once = min(at_once, -(-int(self.sizes.sum()) // (2 * threads)))
        return list(cuts(self.sizes, max(at_once, 1)))

    def part(self, low: int, high: int) -> KeyedEvents:
        """The events of the keys from number `low` up to `high`; no other part changes what they are."""
        found = [(begins[low:high], ends[low:high]) for begins, ends in self.found]
        if len(self.segments) == 1 and self.head is None:
            return _one(self.view, self.segments[0], found[0])
        later = None if self.head is None else (self.head, self.of_key, low, high)
        return _several(self.view, self.segments, found, later)


def event_bytes(view: ViewPlan) -> int:
    """What an event takes while it is read: columns, a copy of them at times, and where it lies."""
    return 8 * (2 * (len(view.numbers) + len(view.marks)) + 6)


def reads_of(reads: Groups, low: int, high: int) -> Groups:
    """The reads of the keys from number `low` up to `high`."""
    starts, rows = reads
    return Groups(starts[low : high + 1] - starts[low], rows[starts[low] : starts[high]])


def in_key_order(hashes: Hashes, reads: Groups) -> tuple[Hashes, Groups]:
    """The keys and their reads, in the order in which segments keep keys."""
    order = np.argsort(hashes[:, 0])
    first = hashes[order, 0]
    if (first[1:] == first[:-1]).any():  # two of 2^64, or keys made to meet
        order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    sizes = np.diff(reads.starts)[order]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rows = reads.rows[_ranges(reads.starts[:-1][order], sizes)]
    return hashes[order], Groups(starts, rows)


def _ranges(begins: Ints, sizes: Ints) -> Ints:
    """The positions of ranges of `sizes` from `begins` on, one after the other."""
    ends = np.cumsum(sizes)
    steps: Ints = np.arange(int(ends[-1]) if len(ends) else 0, dtype=np.int64)
    steps += np.repeat(begins - (ends - sizes), sizes)
    return steps


def _one(view: ViewPlan, segment: Segment, found: tuple[Ints, Ints]) -> KeyedEvents:
    """The events of keys that lie in one segment: mapped where most are wanted, else gathered."""
    begins, ends = found
    sizes = ends - begins
    inside = sizes > 0
    low = int(begins[inside].min()) if inside.any() else 0
    high = int(ends[inside].max()) if inside.any() else 0
    if (high - low) <= _DENSE * int(sizes.sum()):
        batch = segment.batch(slice(low, high))
        slices = Slices(np.where(inside, begins - low, 0), np.where(inside, ends - low, 0))
    else:
        batch = segment.batch(_ranges(begins, sizes))
        upto = np.cumsum(sizes)
        slices = Slices(upto - sizes, upto)
    return _counted(view, batch, slices, segment.meta.has_nulls)


def _counted(
    view: ViewPlan, batch: EventBatch, slices: Slices, nulls: dict[str, bool]
) -> KeyedEvents:
    """The events that the view counts."""

    def has_nulls(name: str) -> bool:
        return nulls.get(name, True)

    counts = counted(view, batch)
    if counts is None:
        return KeyedEvents(slices, batch.event_us, batch.known_us, batch, has_nulls=has_nulls)
    rows = np.flatnonzero(counts)
    before = np.concatenate([[0], np.cumsum(counts)])
    kept = Slices(before[slices.begins], before[slices.ends])
    known_us = batch.known_us[rows]
    event_us = known_us if batch.event_us is batch.known_us else batch.event_us[rows]
    return KeyedEvents(kept, event_us, known_us, batch, rows, has_nulls)


def _several(
    view: ViewPlan,
    segments: Sequence[Segment],
    found: Sequence[tuple[Ints, Ints]],
    later: tuple[EventBatch, Ints, int, int] | None,
) -> KeyedEvents:
    """The events of keys that lie in several segments and the head, of each key the older ones first."""
    parts, ids = [], []
    n_keys = 0
    for segment, (begins, ends) in zip(segments, found, strict=True):
        n_keys = len(begins)
        parts.append(segment.batch(_ranges(begins, ends - begins)))
        ids.append(np.repeat(np.arange(n_keys), ends - begins))
    if later is not None:
        head, of_key, low, high = later
        n_keys = high - low
        rows = np.flatnonzero((of_key >= low) & (of_key < high))
        parts.append(_taken(head, rows))
        ids.append(of_key[rows] - low)
    groups = bucket(np.concatenate(ids), n_keys)
    batch = _joined(parts, groups.rows)
    return _counted(view, batch, Slices(groups.starts[:-1], groups.starts[1:]), {})


def _taken(batch: EventBatch, rows: Ints) -> EventBatch:
    keys = LazyColumns(tuple(batch.keys), lambda name: batch.keys[name].take(rows))
    fields = LazyColumns(tuple(batch.fields), lambda name: _rows(batch.fields[name], rows))
    ids = batch.event_ids.take(rows)
    return EventBatch(batch.stream, batch.event_us[rows], batch.known_us[rows], ids, keys, fields)


def _joined(parts: Sequence[EventBatch], rows: Ints) -> EventBatch:
    """The batches one after the other, then those of their events that are at `rows`."""
    parts = levelled(list(parts))
    first = parts[0]
    known_us = np.concatenate([part.known_us for part in parts])[rows]
    event_us = np.concatenate([part.event_us for part in parts])[rows]
    same = np.array_equal(event_us, known_us)
    keys = LazyColumns(
        tuple(first.keys), lambda name: Texts.concat([part.keys[name] for part in parts]).take(rows)
    )
    names = dict.fromkeys(name for part in parts for name in part.fields)
    fields = LazyColumns(tuple(names), lambda name: _rows(_whole(parts, name), rows))
    nothing = Texts.of([None] * 0)
    return EventBatch(first.stream, known_us if same else event_us, known_us, nothing, keys, fields)


def _whole(parts: Sequence[EventBatch], name: str) -> Column:
    """A field of all parts: null where it was not declared when they were logged."""
    columns = {i: part.fields[name] for i, part in enumerate(parts) if name in part.fields}
    if any(isinstance(column, Texts) for column in columns.values()):
        empty = [Texts.of([None] * len(part)) for part in parts]
        return Texts.concat(
            [c if isinstance(c := columns.get(i), Texts) else empty[i] for i in range(len(parts))]
        )
    nulls = [np.full(len(part), np.nan) for part in parts]
    return np.concatenate([np.asarray(columns.get(i, nulls[i])) for i in range(len(parts))])


def _rows(column: Column, rows: Ints) -> Column:
    return column.take(rows) if isinstance(column, Texts) else column[rows]
