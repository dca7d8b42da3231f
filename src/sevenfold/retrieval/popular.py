"""Popular items, overall or for each value of a field, with old events fading."""

from __future__ import annotations

import numpy as np

from sevenfold.retrieval.catalogue import Catalogue
from sevenfold.retrieval.protocol import Candidates, Query, best
from sevenfold.types import EventBatch, Floats, Ints, Texts

__all__ = ["Popular"]

# Weights are powers of two relative to a reference, a whole number of spans of so many half-lives: when it
# moves on they all change by a whole power of two, without rounding, however the log is cut into batches.
_HALF_LIVES = 256


class Popular:
    """Items by decayed number of events, among those with the query's value of the entity `by` if given."""

    def __init__(
        self,
        name: str,
        stream: str,
        item: str,
        half_life_us: int,
        limit: int,
        catalogue: Catalogue,
        by: str | None = None,
    ) -> None:
        self.name = name
        self._stream = stream
        self._item = item
        self._half_life_us = half_life_us
        self._limit = limit
        self._catalogue = catalogue
        self.by = by
        self._span_us = _HALF_LIVES * half_life_us
        self._span = 0
        self._weights: dict[str, Floats] = {}

    def observe(self, batch: EventBatch) -> None:
        """Count the events of the stream."""
        if batch.stream != self._stream or not len(batch):
            return
        codes = self._catalogue.codes(batch.keys[self._item])
        self._move_to(int(batch.event_us.max()) // self._span_us)
        spans = np.maximum(batch.event_us // self._span_us - self._span, -8)  # older is nothing
        within = np.exp2(batch.event_us % self._span_us / self._half_life_us)
        weights = np.ldexp(within, (_HALF_LIVES * spans).astype(np.int32))
        groups = batch.keys[self.by] if self.by else None
        for group, rows in _groups(groups, len(batch)):
            rows = rows[codes[rows] >= 0]
            counts = self._grown(group, len(self._catalogue))
            np.add.at(counts, codes[rows], weights[rows])

    def settle(self) -> None:
        """Nothing: counts are ready as they are."""

    def propose(self, query: Query) -> Candidates:
        """The most popular items now; none for a group never seen."""
        counts = self._weights.get(query.keys.get(self.by, "") if self.by else "")
        if counts is None:
            return Candidates(np.empty(0, np.int64), np.empty(0, np.float32))
        fading = np.exp2(-(query.t_us - self._span * self._span_us) / self._half_life_us)
        return best(np.arange(len(counts)), counts * fading, self._limit)

    def _grown(self, group: str, size: int) -> Floats:
        counts = self._weights.get(group)
        if counts is None or len(counts) < size:
            grown = np.zeros(max(size, 1024, 2 * len(counts) if counts is not None else 0))
            if counts is not None:
                grown[: len(counts)] = counts
            counts = self._weights[group] = grown
        return counts

    def _move_to(self, span: int) -> None:
        if self._weights and span > self._span:
            fewer = _HALF_LIVES * max(self._span - span, -8)
            self._weights = {group: np.ldexp(c, fewer) for group, c in self._weights.items()}
        self._span = max(span, self._span) if self._weights else span


def _groups(keys: Texts | None, n: int) -> list[tuple[str, Ints]]:
    if keys is None:
        return [("", np.arange(n))]
    rows: dict[str, list[int]] = {}
    for i, key in enumerate(keys.to_list()):
        if key is not None:
            rows.setdefault(key, []).append(i)
    return [(key, np.array(positions)) for key, positions in rows.items()]
