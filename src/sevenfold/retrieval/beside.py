"""A generator in a thread of its own, which can be left behind when it is slow."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from sevenfold.retrieval.catalogue import Catalogue
from sevenfold.retrieval.protocol import Candidates, Generator, Query
from sevenfold.types import EventBatch

__all__ = ["Beside", "Place"]

_Work = tuple[Callable[[], Candidates], "Future[Candidates]"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the items of a generator come from: its stream, and the entity of it that is an item."""

    stream: str
    item: str
    catalogue: Catalogue


class Beside:
    """Asks a generator in its own thread.

    While the thread is at work, nothing else touches the generator: events that come meanwhile wait, and are learnt when it is
    back, in their order; only their items are given their codes at once, so that codes are those of the log's order
    whatever was slow. One that is still at work on an earlier query is not asked: it would only fall further behind.
    """

    def __init__(self, generator: Generator, timeout_s: float, place: Place) -> None:
        self.name = generator.name
        self.timeout_s = timeout_s
        self._generator = generator
        self._place = place
        self._waiting: list[EventBatch] = []
        self._asked: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._running: Future[Candidates] | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the thread is still at work."""
        return self._running is not None and not self._running.done()

    def observe(self, batch: EventBatch) -> None:
        """Learn from events, now or when the thread is back."""
        if self.is_busy:
            if batch.stream == self._place.stream:
                self._place.catalogue.codes(batch.keys[self._place.item])
            self._waiting.append(batch)
            return
        self._catch_up()
        self._generator.observe(batch)

    def settle(self) -> None:
        """Do what is due, unless the thread is at work."""
        if not self.is_busy:
            self._catch_up()
            self._generator.settle()

    def propose(self, query: Query) -> Candidates:
        """The proposals, however long they take, made in the thread that asks."""
        if self._running is not None:
            self._running.exception()  # waits
        self.settle()
        return self._generator.propose(query)

    def start(self, query: Query) -> Future[Candidates] | None:
        """The proposals to come; None when the thread is still at work on an earlier query."""
        if self.is_busy:
            return None
        self.settle()
        if self._thread is None:
            # It ends with the process, however long its work would take.
            name = f"sevenfold-{self.name}"
            self._thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._thread.start()
        self._running = Future()
        self._asked.put((lambda: self._generator.propose(query), self._running))
        return self._running

    def close(self) -> None:
        """Have the thread end when it has nothing to do."""
        self._asked.put(None)

    def _catch_up(self) -> None:
        waiting, self._waiting = self._waiting, []
        for batch in waiting:
            self._generator.observe(batch)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            work, outcome = asked
            try:
                outcome.set_result(work())
            except BaseException as error:  # noqa: BLE001  whoever waits hears of it
                outcome.set_exception(error)
