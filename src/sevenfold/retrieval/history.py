"""What each customer took, newest instant and decayed count by item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sevenfold.retrieval.catalogue import Catalogue
from sevenfold.retrieval.protocol import Candidates, Query, best
from sevenfold.types import EventBatch, Floats, Ints

__all__ = ["BoughtBefore", "History", "Past"]


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """The items of one customer: codes, newest instants and decayed counts at `t_us`, each (n,)."""

    codes: Ints
    newest_us: Ints
    counts: Floats


class History:
    """Each customer's items of one stream, kept as events arrive.

    A count halves every `half_life_us`.
    """

    def __init__(
        self, stream: str, customer: str, item: str, half_life_us: int, catalogue: Catalogue
    ) -> None:
        self.stream = stream
        self.customer = customer
        self._item = item
        self._half_life_us = half_life_us
        self._catalogue = catalogue
        self._rows: dict[str, dict[int, tuple[int, float]]] = {}

    def observe(self, batch: EventBatch) -> None:
        """Add the events of the stream that name both a customer and an item."""
        if batch.stream != self.stream:
            return
        codes = self._catalogue.codes(batch.keys[self._item]).tolist()
        customers = batch.keys[self.customer].to_list()
        for customer, code, event_us in zip(customers, codes, batch.event_us.tolist(), strict=True):
            if customer is not None and code >= 0:
                self._add(self._rows.setdefault(customer, {}), code, event_us)

    def forget(self, customer: str) -> None:
        """Let go of what a customer took."""
        self._rows.pop(customer, None)

    def past(self, customer: str | None, t_us: int) -> Past:
        """What the customer took, as of `t_us`."""
        rows = self._rows.get(customer, {}) if customer is not None else {}
        n = len(rows)
        codes = np.fromiter(rows.keys(), dtype=np.int64, count=n)
        newest = np.fromiter((row[0] for row in rows.values()), dtype=np.int64, count=n)
        counts = np.fromiter((row[1] for row in rows.values()), dtype=np.float64, count=n)
        return Past(codes, newest, counts * np.exp2(-(t_us - newest) / self._half_life_us))

    def _add(self, rows: dict[int, tuple[int, float]], code: int, event_us: int) -> None:
        newest, count = rows.get(code, (event_us, 0.0))
        if event_us >= newest:
            count = count * 2.0 ** (-(event_us - newest) / self._half_life_us) + 1.0
            rows[code] = (event_us, count)
        else:
            rows[code] = (newest, count + 2.0 ** (-(newest - event_us) / self._half_life_us))


class BoughtBefore:
    """The customer's own items by decayed count; reads a shared history that the caller feeds."""

    def __init__(self, name: str, history: History, limit: int) -> None:
        self.name = name
        self._history = history
        self._limit = limit

    def observe(self, batch: EventBatch) -> None:
        """Nothing: the history is fed once for all that read it."""

    def settle(self) -> None:
        """Nothing: counts are ready as they are."""

    def propose(self, query: Query) -> Candidates:
        """The customer's items, the most and latest taken first; none for a new customer."""
        past = self._history.past(query.keys.get(self._history.customer), query.t_us)
        return best(past.codes, past.counts, self._limit)
