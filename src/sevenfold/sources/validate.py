"""Rows in, events and dead letters out: every row ends as exactly one of the two.

A row is refused for the first thing wrong with it, and never takes a good one with it. The same checks are
done on JSON rows and on columns of a file, by bringing both into one form first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sevenfold.errors import InputError
from sevenfold.hashing import combine128, hash128
from sevenfold.sources.cells import parse_field, parse_names
from sevenfold.sources.content import (
    Hashes,
    cell_hashes,
    content_ids,
    instant_hashes,
    name_hash,
    sum_of_fields,
)
from sevenfold.sources.expectations import Alert, alerts_of, refuse_unexpected
from sevenfold.sources.flaws import Flaws
from sevenfold.sources.raw import OTHER, Raw, RawColumn
from sevenfold.sources.times import LocalTime, parse_times
from sevenfold.spec.field import CONTENT, Id, Text, Vector
from sevenfold.spec.stream import Stream
from sevenfold.spec.units import parse_duration
from sevenfold.types import US_PER_S, Column, DeadLetter, EventBatch, Instant, Ints, Texts

__all__ = ["Validated", "Validator", "no_events", "validate"]

_Arrival = tuple[Instant | None, Instant | None]
_Events = tuple[EventBatch, Ints | None]
_NOTHING: Hashes = np.zeros((0, 2), dtype=np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class Validated:
    """What became of the rows: `batch` of `event_rows` (m,), and `letters` of `letter_rows` (k,).

    The events are in the order of their rows; together the two index arrays hold every row once. `alerts` are
    the expectations of the stream that the batch breaches, `originals` (m,) the times that the events gave
    themselves where some happened after they became known, and count from then.
    """

    batch: EventBatch
    letters: list[DeadLetter]
    event_rows: Ints
    letter_rows: Ints
    alerts: Sequence[Alert] = ()
    originals: Ints | None = None


def validate(
    stream: Stream, rows: Sequence[Any] | Mapping[str, Raw], known_us: Instant | None = None
) -> Validated:
    """The events and dead letters of a list of rows or of a mapping of columns; see `Validator`."""
    validator = Validator(stream)
    if isinstance(rows, Mapping):
        return validator.columns(rows, known_us)
    return validator.rows(rows, known_us)


def no_events(stream: Stream) -> EventBatch:
    """An empty batch of a stream, with all its keys and fields."""
    nothing = Texts.of([])
    fields: dict[str, Column] = {
        name: nothing if isinstance(declared, Id | Text) else np.empty(0)
        for name, declared in stream.logged.items()
    }
    fields |= {
        name: np.empty((0, declared.width))
        for name, declared in stream.logged.items()
        if isinstance(declared, Vector)
    }
    none = np.empty(0, dtype=np.int64)
    keys = {entity.name: nothing for entity in stream.keys}
    return EventBatch(stream.name, none, none, nothing, keys, fields)


class Validator:
    """The checks of one stream.

    With `known_us`, the rows arrive live at that instant; without, they are history, known at the time
    in the field `stream.known` or `stream.delay` after they happened, but at `latest_us` where that is
    given and earlier: then a row that happens later still is from the future. Raises TimeError for a stream whose
    time zone or durations cannot be used.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._zone = None if stream.timezone is None else LocalTime(stream.timezone)
        self._delay_us = parse_duration(stream.delay)
        self._skew_us = parse_duration(stream.skew)
        self._optional = {entity.name for entity in stream.optional_keys}
        self._names = stream.names()
        self._name_hashes = [name_hash(name) for name in self._names]

    def rows(
        self, rows: Sequence[Any], known_us: Instant | None = None, latest_us: Instant | None = None
    ) -> Validated:
        """The events and dead letters of rows as JSON gives them: a mapping a row, else it is refused."""
        flaws = Flaws(len(rows))
        fit = [type(row) is dict or isinstance(row, Mapping) for row in rows]
        objects = [row if ok else {} for row, ok in zip(rows, fit, strict=True)]
        if not all(fit):
            flaws.add(
                ~np.array(fit, dtype=np.bool_),
                "not_an_object",
                lambda row: f"$[{row}]: a row is an object of fields and values.",
            )
        columns = {name: RawColumn.of([row.get(name) for row in objects]) for name in self._names}
        rest = self._undeclared(objects, flaws) if self.stream.id == CONTENT else _NOTHING
        events = self._events(columns, rest, (known_us, latest_us), flaws)
        told = flaws.told()
        bad = [objects[row] if fit[row] else {"row": rows[row]} for row, _, _ in told]
        return self._answer(events, told, bad, flaws)

    def columns(
        self,
        columns: Mapping[str, Raw],
        known_us: Instant | None = None,
        latest_us: Instant | None = None,
    ) -> Validated:
        """The events and dead letters of columns of equal length.

        Raises InputError when a declared column is not there or the lengths differ.
        """
        missing = [name for name in self._names if name not in columns]
        if missing:
            raise InputError(
                f"stream {self.stream.name!r}: no column {', '.join(map(repr, missing))}; "
                f"given are {', '.join(columns) or 'none'}"
            )
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            raise InputError(
                f"stream {self.stream.name!r}: columns of one chunk have lengths {sorted(lengths)}"
            )
        raw = {name: RawColumn.of(column) for name, column in columns.items()}
        flaws = Flaws(lengths.pop())
        rest = self._undeclared_columns(raw, flaws) if self.stream.id == CONTENT else _NOTHING
        events = self._events(raw, rest, (known_us, latest_us), flaws)
        told = flaws.told()
        picked = np.array([row for row, _, _ in told], dtype=np.intp)
        cells = [column.pick(picked) for column in raw.values()]
        bad = [dict(zip(raw, values, strict=True)) for values in zip(*cells, strict=True)]
        return self._answer(events, told, bad, flaws)

    def _events(
        self,
        columns: Mapping[str, RawColumn],
        rest: Hashes,
        arrival: _Arrival,
        flaws: Flaws,
    ) -> _Events:
        """The events of the rows in which nothing is wrong, and their own times where some were clamped."""
        stream = self.stream
        event_us = parse_times(columns[stream.time], stream.time, self._zone, flaws)
        known = self._known(columns, event_us, arrival, flaws)
        keys = {
            entity.name: self._keys(entity.name, stream.key_field(entity), columns, flaws)
            for entity in stream.given_keys
        }
        fields = {
            name: parse_field(field, name, columns[name], flaws)
            for name, field in stream.fields.items()
        }
        if stream.id == CONTENT:
            ids = self._content(columns, rest, event_us, known, flaws)
        else:
            ids = parse_names(stream.id, columns[stream.id], flaws)
            flaws.add(
                ~ids.valid,
                "missing_id",
                lambda row: f"$[{row}].{stream.id}: the id of the event is missing.",
            )
        clamped = np.minimum(event_us, known)
        batch = EventBatch(stream.name, clamped, known, ids, keys, fields)
        if stream.expect:
            refuse_unexpected(stream.expect, batch, flaws)
        if not flaws.is_none:
            batch, event_us = batch.take(flaws.free), event_us[flaws.free]
        was_clamped = np.count_nonzero(batch.event_us != event_us) > 0
        return batch, event_us if was_clamped else None

    def _known(
        self,
        columns: Mapping[str, RawColumn],
        event_us: Ints,
        arrival: _Arrival,
        flaws: Flaws,
    ) -> Ints:
        """When each row became known (n,); rows that happen later than the skew allows are refused."""
        stream = self.stream
        known_us, latest_us = arrival
        if known_us is not None:
            known = np.full(len(event_us), known_us, dtype=np.int64)
        elif stream.known is not None:
            known = parse_times(columns[stream.known], stream.known, self._zone, flaws)
        else:
            known = event_us + self._delay_us
        if latest_us is not None:
            known = np.minimum(known, latest_us)
        ahead = event_us - known
        flaws.add(
            ahead > self._skew_us,
            "from_the_future",
            lambda row: (
                f"$[{row}].{stream.time}: the event happens {ahead[row] / US_PER_S:.6g} s after it became "
                f"known, {stream.skew} are allowed; check the clock of the sender."
            ),
        )
        return known

    def _keys(
        self, entity: str, path: str, columns: Mapping[str, RawColumn], flaws: Flaws
    ) -> Texts:
        keys = parse_names(path, columns[path], flaws)
        if entity not in self._optional:
            flaws.add(
                ~keys.valid,
                f"missing_{entity}",
                lambda row: (
                    f"$[{row}].{path}: the key of entity {entity!r} is missing; give it, or declare the "
                    "entity among the stream's optional_keys."
                ),
            )
        return keys

    def _content(
        self,
        columns: Mapping[str, RawColumn],
        rest: Hashes,
        event_us: Ints,
        known_us: Ints,
        flaws: Flaws,
    ) -> Texts:
        """The ids (n,) of the rows by their content; times count as the instants they name."""
        instants = {self.stream.time: event_us, self.stream.known: known_us}
        cells: list[Hashes] = []
        for name in self._names:
            times = instants.get(name)
            if times is not None:
                cells.append(instant_hashes(times))
            else:
                cells.append(cell_hashes(columns[name]))
                _refuse_unspoken(columns[name], cells[-1], name, flaws)
        return content_ids(sum_of_fields(self._name_hashes, cells) + rest)

    def _undeclared(self, rows: Sequence[Mapping[str, Any]], flaws: Flaws) -> Hashes:
        """The sum of the hashes of the fields that are not declared, uint64 (n, 2)."""
        declared = frozenset(self._names)
        cells = [
            (at, name, value)
            for at, row in enumerate(rows)
            for name, value in row.items()
            if name not in declared
        ]
        total = np.zeros((len(rows), 2), dtype=np.uint64)
        if not cells:
            return total
        where = np.array([at for at, _, _ in cells], dtype=np.intp)
        column = RawColumn.of([value for _, _, value in cells])
        parts = cell_hashes(column)
        unspoken = np.zeros(len(rows), dtype=np.bool_)
        unspoken[where[column.is_kind(OTHER) & ~parts.any(axis=1)]] = True
        flaws.add(
            unspoken,
            "wrong_type",
            lambda row: f"$[{row}]: a field holds what JSON cannot hold; leave it out.",
        )
        spelled = {name: _utf8(name) for _, name, _ in cells}
        names = hash128(Texts.of([spelled[name] for _, name, _ in cells]))
        np.add.at(total, where, combine128([names, parts]))
        return total

    def _undeclared_columns(self, columns: Mapping[str, RawColumn], flaws: Flaws) -> Hashes:
        """The same for columns."""
        further = [name for name in columns if name not in self._names]
        if not further:
            return np.zeros((len(flaws.free), 2), dtype=np.uint64)
        cells = [cell_hashes(columns[name]) for name in further]
        for name, hashes in zip(further, cells, strict=True):
            _refuse_unspoken(columns[name], hashes, name, flaws)
        return sum_of_fields([name_hash(name) for name in further], cells)

    def _answer(
        self,
        events: _Events,
        told: list[tuple[int, str, str]],
        rows: Sequence[Mapping[str, Any]],
        flaws: Flaws,
    ) -> Validated:
        batch, originals = events
        alerts = alerts_of(self.stream.expect, batch)
        if flaws.is_none:
            all_rows = np.arange(len(batch), dtype=np.int64)
            return Validated(batch, [], all_rows, all_rows[:0], alerts, originals)
        name = self.stream.name
        letters = [
            DeadLetter(name, reason, detail, row)
            for (_, reason, detail), row in zip(told, rows, strict=True)
        ]
        rows_of = np.flatnonzero(flaws.free), np.flatnonzero(~flaws.free)
        return Validated(batch, letters, *rows_of, alerts, originals)


def _refuse_unspoken(column: RawColumn, hashes: Hashes, name: str, flaws: Flaws) -> None:
    if OTHER not in column.present:
        return
    flaws.add(
        column.is_kind(OTHER) & ~hashes.any(axis=1),
        "wrong_type",
        lambda row: f"$[{row}].{name}: holds what JSON cannot hold; leave it out.",
    )


def _utf8(name: object) -> str:
    return str(name).encode("utf-8", "backslashreplace").decode()
