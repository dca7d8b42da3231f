"""What came of answers: the outcomes in the log that name a request, held for as long as its label may still come true."""

from __future__ import annotations

from typing import NamedTuple

from sevenfold.serving.prediction_log import Prediction
from sevenfold.spec.task import Ranking
from sevenfold.spec.units import parse_duration
from sevenfold.stores.kv import Transaction
from sevenfold.stores.log import blocks, generation, position
from sevenfold.types import EventBatch, Instant, Texts

__all__ = ["Outcomes"]

_EVENTS = 2_000  # of the log at a time: nobody waits for more


class _Named(NamedTuple):
    """The outcomes that name one request: when the first became known, and the items with when each happened."""

    known_us: Instant
    items: list[tuple[str, Instant]]


class Outcomes:
    """Reads the outcomes of the task's label from the log, onwards; asked for answers in the order of their instants.

    What is held is what was named since the oldest answer that may still be asked for: as many requests as have an outcome
    within the label's time. When the log is rewritten it is read again.
    """

    def __init__(self, task: Ranking) -> None:
        label = task.label
        self.within_us = parse_duration(label.within)
        self._stream, self._request, self._item = label.outcome.name, label.request, task.item.name
        self._named: dict[str, _Named] = {}
        self._generation = ""
        self._next = 0

    def follow(self, txn: Transaction, since_us: Instant) -> bool:
        """Read on; whether all is known now that the log has on answers at `since_us` or later."""
        now = generation(txn)
        if now != self._generation:
            self._generation, self._named = now, {}
            self._next = _first_known(txn, since_us)
        end = position(txn)
        stop = min(end, self._next + _EVENTS)
        for _, batch in blocks(txn, self._stream, self._next, stop):
            self._note(batch)
        self._next = stop
        while self._named:
            oldest = next(iter(self._named))
            if self._named[oldest].known_us >= since_us:
                break
            del self._named[oldest]
        return stop == end

    def took(self, answer: Prediction) -> bool:
        """Whether something that the answer showed came true: it happened after it, and within the label's time."""
        named = self._named.get(answer.request_id)
        if named is None:
            return False
        until_us = answer.t_us + self.within_us
        shown = {item for item, at_us in named.items if answer.t_us < at_us <= until_us}
        return not shown.isdisjoint(answer.slate())

    def _note(self, batch: EventBatch) -> None:
        requests = batch.fields.get(self._request)
        if not isinstance(requests, Texts):
            return
        items = batch.keys[self._item].to_list()
        times, known = batch.event_us.tolist(), batch.known_us.tolist()
        for row, request in enumerate(requests.to_list()):
            item = items[row]
            if request is not None and item is not None:
                named = self._named.setdefault(request, _Named(known[row], []))
                named.items.append((item, times[row]))


def _first_known(txn: Transaction, since_us: Instant) -> int:
    """The position of the first event that became known at an instant or later."""
    low, high = 0, position(txn)
    while low < high:
        middle = (low + high) // 2
        _, batch = next(blocks(txn, None, middle, middle + 1))
        if int(batch.known_us[0]) < since_us:
            low = middle + 1
        else:
            high = middle
    return low
