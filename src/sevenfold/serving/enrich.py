"""What tables say of an event as it comes in, written into the event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from sevenfold.algebra.grouping import group
from sevenfold.engines.rows import Row, read_rows, read_rows_among
from sevenfold.errors import Problem, SpecError
from sevenfold.features.columns import key_hashes
from sevenfold.features.plan import ViewPlan, row_views
from sevenfold.spec.field import Id, Text
from sevenfold.spec.stream import Lookup, Stream
from sevenfold.spec.units import parse_duration
from sevenfold.stores.kv import Transaction
from sevenfold.types import Column, EventBatch, Ints, Texts

__all__ = ["Enriching"]

_FOR_EVER_US = 1 << 62


@dataclass(frozen=True, slots=True)
class _Found:
    """One looked-up field of a stream: its name, its lookup, the place of the value in the row."""

    name: str
    lookup: Lookup
    place: int


class Enriching:
    """Looks the further fields of streams up in the rows that the store keeps.

    `kept` are the ids of the views that every ingest brings up to date; raises SpecError when the rows of a
    table are not among them.
    """

    def __init__(self, streams: Mapping[str, Stream], kept: Iterable[bytes]) -> None:
        ids = set(kept)
        views = row_views(streams.values())
        for view in views.values():
            if view.view_id not in ids:
                message = f"events look up rows of {view.stream!r} that no view keeps"
                remedy = "compile the plan with the streams: compile_plan(features, streams)"
                raise SpecError([Problem("$.data", message, remedy)])
        self._streams = dict(streams)
        self._tables = {
            name: _by_table(stream, views) for name, stream in streams.items() if stream.enrich
        }

    @property
    def tables(self) -> set[str]:
        """The tables that events are enriched from."""
        return {view.stream for found in self._tables.values() for view, _ in found}

    def fill(
        self,
        txn: Transaction,
        batch: EventBatch,
        places: Ints | None = None,
        beside: Mapping[str, tuple[EventBatch, Ints]] | None = None,
    ) -> EventBatch:
        """The batch with its further fields and keys, from the rows that `txn` sees.

        That are the rows before it in the log, for it is about to be written at the end: a row is visible
        to an event if and only if it was known strictly before it. Where rows of tables come in between, they are
        `beside` it by table, with their places in the log, and the events have `places` (n,).
        """
        stream = self._streams[batch.stream]
        columns: dict[str, Column] = {}
        for view, wanted in self._tables.get(batch.stream, ()):
            hashes = np.ascontiguousarray(key_hashes(view.entities, batch.keys))
            if places is not None and beside and view.stream in beside:
                rows, ids = read_rows_among(txn, view, (hashes, places), beside[view.stream])
            else:
                ids, firsts = group(hashes)
                rows = read_rows(txn, view, hashes[firsts])
            for found in wanted:
                columns[found.name] = _column(found, rows, ids, batch.known_us)
        if not columns:
            return batch
        keys = dict(batch.keys)
        for entity in stream.keys:
            looked_up = columns.pop(stream.key_field(entity), None)
            if isinstance(looked_up, Texts):
                keys[entity.name] = looked_up
        return replace(batch, keys=keys, fields={**batch.fields, **columns})


def _by_table(stream: Stream, views: Mapping[str, ViewPlan]) -> list[tuple[ViewPlan, list[_Found]]]:
    wanted: dict[str, list[_Found]] = {}
    for name, lookup in stream.enrich.items():
        place = views[lookup.table.name].kept.index(lookup.field)
        wanted.setdefault(lookup.table.name, []).append(_Found(name, lookup, place))
    return [(views[table], found) for table, found in wanted.items()]


def _column(found: _Found, rows: list[Row | None], ids: Ints, known_us: Ints) -> Column:
    """The value of each event; `ids` (n,) says which of `rows` is its own."""
    lookup = found.lookup
    cells = [row.values[found.place] if row and row.values else None for row in rows]
    if lookup.ttl is not None:
        since = np.array([row.event_us if row else -_FOR_EVER_US for row in rows], dtype=np.int64)
        is_fresh = known_us - since[ids] < parse_duration(lookup.ttl)
        ids = np.where(is_fresh, ids, len(rows))
    cells.append(None)  # what those find whose row is too old
    if isinstance(lookup.table.fields[lookup.field], Id | Text):
        return Texts.of([cell if isinstance(cell, str) else None for cell in cells]).take(ids)
    numbers = [cell if isinstance(cell, float) else np.nan for cell in cells]
    return np.array(numbers, dtype=np.float64)[ids]
