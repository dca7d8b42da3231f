"""The columns that a view's kernels read, taken from a batch of events."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.layout import DELETED, Columns
from sevenfold.errors import InputError
from sevenfold.features.plan import KeyPart, ViewPlan
from sevenfold.features.reach import key_part
from sevenfold.hashing import combine128, hash128
from sevenfold.spec.aggregate import RowFunction, Source
from sevenfold.types import EventBatch, Floats, Ints, Texts

__all__ = [
    "HashedBatch",
    "ViewColumns",
    "counted",
    "event_hashes",
    "key_hashes",
    "mark_column",
    "mark_deletes",
    "number_column",
    "number_columns",
    "require_log_order",
    "view_columns",
]

Hashes = npt.NDArray[np.uint64]
_NAN_BITS = 0x7FF8 << 48
_DELETE = np.array([DELETED], dtype=np.int64).view(np.float64)[0]


@dataclass(frozen=True, slots=True, eq=False)
class ViewColumns:
    """The events of one batch that a view counts, in log order.

    `hashes` is uint64 (n, 2), `numbers` float64 (n, c), `marks` int64 (n, m) with 0 for null.
    """

    hashes: Hashes
    event_us: Ints
    known_us: Ints
    numbers: Floats
    marks: Ints

    def arrays(self) -> Columns:
        """The columns as the kernels take them."""
        return Columns(self.event_us, self.known_us, self.numbers, self.marks)


def event_hashes(view: ViewPlan, batch: EventBatch) -> Hashes:
    """The hashes of the keys that events have for a view, uint64 (n, 2).

    Events from before the stream had one of the keys touch none: the null key.
    """
    if all(entity in batch.keys for entity in view.entities):
        return key_hashes(view.entities, batch.keys)
    return np.zeros((len(batch), 2), dtype=np.uint64)


def key_hashes(entities: tuple[str, ...], keys: Any) -> Hashes:
    """The hashes of composite keys, uint64 (n, 2), from a mapping of entity name to Texts."""
    return combine128([hash128(keys[entity]) for entity in entities])


class HashedBatch:
    """A batch for several views: found to be in log order, and each of its key columns hashed once.

    Raises InputError when the batch is not in log order.
    """

    def __init__(self, batch: EventBatch) -> None:
        require_log_order(batch)
        self.batch = batch
        self._hashes: dict[str, Hashes] = {}

    def hashes(self, view: ViewPlan) -> Hashes:
        """The hashes of the keys that the events have for `view`, uint64 (n, 2); see `event_hashes`."""
        keys = self.batch.keys
        if not all(entity in keys for entity in view.entities):
            return event_hashes(view, self.batch)
        for entity in view.entities:
            if entity not in self._hashes:
                self._hashes[entity] = hash128(keys[entity])
        return combine128([self._hashes[entity] for entity in view.entities])


def view_columns(view: ViewPlan, hashed: HashedBatch) -> ViewColumns:
    """What `view` reads of a batch: events with a key for which `where` holds."""
    batch = hashed.batch
    hashes = hashed.hashes(view)
    keep = (hashes[:, 0] | hashes[:, 1]) != 0
    counts = counted(view, batch)
    if counts is not None:
        keep &= counts
    numbers = number_columns(view, batch)
    if view.has_rows:
        mark_deletes(view, batch, numbers)
    marks = np.empty((len(batch), len(view.marks)), dtype=np.int64)
    for i, source in enumerate(view.marks):
        marks[:, i] = mark_column(source, batch)
    if np.count_nonzero(keep) == len(keep):
        return ViewColumns(hashes, batch.event_us, batch.known_us, numbers, marks)
    return ViewColumns(
        hashes[keep], batch.event_us[keep], batch.known_us[keep], numbers[keep], marks[keep]
    )


def number_columns(view: ViewPlan, batch: EventBatch) -> Floats:
    """The number columns of `view`, float64 (n, c): its sources, then the numbers of its vectors."""
    numbers = np.empty((len(batch), view.layout.n_columns), dtype=np.float64)
    for i, source in enumerate(view.numbers):
        numbers[:, i] = number_column(source, batch)
    first = len(view.numbers)
    for name, width in view.vectors:
        column = batch.fields.get(name)
        given = np.nan if column is None else np.asarray(column).reshape(len(batch), width)
        numbers[:, first : first + width] = given
        first += width
    return numbers


def counted(view: ViewPlan, batch: EventBatch) -> npt.NDArray[np.bool_] | None:
    """Which events of `batch` the view counts (n,); None for all of them."""
    if view.where is None:
        return None
    holds = np.asarray(_call(view.where, batch), dtype=np.bool_)
    return np.broadcast_to(holds, len(batch))


def require_log_order(batch: EventBatch) -> None:
    """Raise InputError unless the events are in log order and none was known before it happened.

    Compiled kernels rely on it: a state has room for no more tiles than such a log can make.
    """
    early = batch.event_us > batch.known_us
    if np.count_nonzero(early):
        row = int(early.argmax())
        raise InputError(
            f"event {row} of stream {batch.stream!r} happens at {batch.event_us[row]} us and was known "
            f"before, at {batch.known_us[row]} us; give a known_us that is not before its event_us"
        )
    back = batch.known_us[1:] < batch.known_us[:-1]
    if np.count_nonzero(back):
        row = int(back.argmax())
        raise InputError(
            f"events of stream {batch.stream!r} are not in log order: event {row + 1} became known "
            f"before event {row}; sort them by known_us, then event id"
        )


def mark_deletes(view: ViewPlan, batch: EventBatch, numbers: Floats) -> None:
    """Write the mark of a delete into the numbers (n, ...) of events that are deletes, and no other null."""
    numbers[np.isnan(numbers)] = np.nan  # no null of a foreign log may have the bits of a delete
    if view.delete is not None:
        gone = np.nan_to_num(np.asarray(number_column(view.delete, batch), dtype=np.float64)) != 0
        numbers[np.broadcast_to(gone, len(batch))] = _DELETE


def _call(function: RowFunction, batch: EventBatch) -> Any:
    names = tuple(inspect.signature(function).parameters)
    result = function(*(_field(name, batch) for name in names))
    if np.shape(result) not in ((), (len(batch),)):
        raise InputError(
            f"{function.__name__} gave an array of shape {np.shape(result)} for {len(batch)} events; "
            "a row-level function gives one value an event"
        )
    return result


def number_column(source: Source | KeyPart, batch: EventBatch) -> Any:
    """The numbers of `source`, float64 (n,) or one for all events, null as NaN; a text or a vector is 1.

    An infinity that a function gives is null: no stream has one, and a sum could not lose it again.
    """
    if isinstance(source, KeyPart):
        return key_part(_column(source.field, batch), source.part)
    if not isinstance(source, str):
        computed = np.asarray(_call(source, batch), dtype=np.float64)
        return (
            computed
            if np.isfinite(computed).all()
            else np.where(np.isinf(computed), np.nan, computed)
        )
    column = _column(source, batch)
    if isinstance(column, Texts):
        # Text has no number; that it is there can still be counted.
        return np.where(column.valid, 1.0, np.nan)
    if np.ndim(column) > 1:  # a vector: it is there, or it is not
        return np.where(np.isnan(column[:, 0]), np.nan, 1.0)
    return column


def mark_column(source: Source, batch: EventBatch) -> Ints:
    """What tells the values of `source` apart, int64 (n,) or one for all events, null as 0."""
    column = _column(source, batch) if isinstance(source, str) else number_column(source, batch)
    if isinstance(column, Texts):
        return hash128(column)[:, 0].view(np.int64)
    # Adding 0.0 makes one value of -0.0 and 0.0; no number has the bits of NaN, so none becomes the null mark.
    bits = (np.asarray(column, dtype=np.float64) + 0.0).view(np.int64) ^ _NAN_BITS
    return np.where(np.isnan(column), np.int64(0), bits)


def _column(source: str, batch: EventBatch) -> Any:
    return batch.keys[source] if source in batch.keys else _field(source, batch)


def _field(name: str, batch: EventBatch) -> Any:
    """The column of a field; null where it was declared after these events were logged."""
    column = batch.fields.get(name)
    return np.full(len(batch), np.nan) if column is None else column
