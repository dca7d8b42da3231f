"""Events by key: those of each wanted key together, in log order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.grouping import bucket, match
from sevenfold.algebra.layout import Columns, Slices
from sevenfold.algebra.lookup import Numbers
from sevenfold.features.columns import (
    counted,
    event_hashes,
    mark_column,
    mark_deletes,
    number_column,
    number_columns,
    require_log_order,
)
from sevenfold.features.plan import ViewPlan
from sevenfold.types import EventBatch, Floats, Ints

__all__ = ["KeyedEvents", "key_events"]

Hashes = npt.NDArray[np.uint64]
_SAME = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class KeyedEvents:
    """The events of wanted keys: `slices` of rows in order of the keys, each key's in log order.

    `event_us` and `known_us` are in that order, and one array where they are equal. Row i is event
    `places[i]` of `batch`, or event i when `places` is empty. `has_nulls` tells whether a number field of
    the batch may have nulls; without it the field is looked through.
    """

    slices: Slices
    event_us: Ints
    known_us: Ints
    batch: EventBatch
    places: Ints = field(default_factory=lambda: _SAME)
    has_nulls: Callable[[str], bool] | None = None

    def number(self, view: ViewPlan, i: int) -> Numbers:
        """Number column i of `view`, left where it lies when it can be."""
        source = view.numbers[i]
        x = np.asarray(number_column(source, self.batch), dtype=np.float64)
        if x.ndim == 0:
            x = np.full(len(self.batch), x)
        if isinstance(source, str) and self.has_nulls is not None:
            has_nulls = self.has_nulls(source)
        else:
            # Infinite sums on the way of both signs too: then one looks in vain.
            with np.errstate(over="ignore", invalid="ignore"):
                has_nulls = bool(np.isnan(x.sum()))
        if view.has_rows and (has_nulls or view.delete is not None):
            x = x.copy()
            mark_deletes(view, self.batch, x)
        return Numbers(np.ascontiguousarray(x), self.places, has_nulls)

    def columns(self, view: ViewPlan) -> Columns:
        """All that the kernels of `view` read, in the order of the keys."""
        n = len(self.known_us)
        if view.vectors:
            numbers = number_columns(view, self.batch)
            mark_deletes(view, self.batch, numbers)
            numbers = numbers[self.places] if len(self.places) or not n else numbers
        elif len(view.numbers) == 1:  # as it is: a further copy would take as long as half the walk
            numbers = np.ascontiguousarray(self._numbers(view, 0)).reshape(n, 1)
        else:
            numbers = np.empty((n, len(view.numbers)), dtype=np.float64)
            for i in range(len(view.numbers)):
                numbers[:, i] = self._numbers(view, i)
        marks = np.empty((n, len(view.marks)), dtype=np.int64)
        for i, source in enumerate(view.marks):
            marks[:, i] = self._placed(mark_column(source, self.batch))
        return Columns(self.event_us, self.known_us, numbers, marks)

    def _numbers(self, view: ViewPlan, i: int) -> Floats:
        column = np.broadcast_to(number_column(view.numbers[i], self.batch), len(self.batch))
        if view.has_rows:
            column = column.copy()
            mark_deletes(view, self.batch, column)
        placed: Floats = self._placed(column)
        return placed

    def _placed(self, column: Any) -> Any:
        spread = np.broadcast_to(column, len(self.batch))
        return spread[self.places] if len(self.places) or not len(self.known_us) else spread


def key_events(view: ViewPlan, batch: EventBatch, wanted: Hashes) -> KeyedEvents:
    """The events of `batch`, which is in log order, that `view` counts for the keys `wanted` (g, 2).

    Raises InputError when the batch is not in log order.
    """
    require_log_order(batch)
    ids = match(wanted, np.ascontiguousarray(event_hashes(view, batch)))
    counts = counted(view, batch)
    if counts is not None:
        ids[~counts] = -1
    groups = bucket(ids, len(wanted))
    known_us = batch.known_us[groups.rows]
    same = batch.event_us is batch.known_us or np.array_equal(batch.event_us, batch.known_us)
    event_us = known_us if same else batch.event_us[groups.rows]
    slices = Slices(groups.starts[:-1], groups.starts[1:])
    return KeyedEvents(slices, event_us, known_us, batch, groups.rows)
