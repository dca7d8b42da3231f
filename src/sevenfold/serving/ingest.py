"""Rows to events: validated, put in order, deduplicated, logged and applied in one durable transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Protocol

import numpy as np

from sevenfold.clock import Clock
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import NotFoundError, ServingError
from sevenfold.features.plan import Plan, ViewPlan
from sevenfold.serving.alerts import count_alerts, volume_alerts
from sevenfold.serving.backfill import backfill, kept_views, leave_out
from sevenfold.serving.enrich import Enriching
from sevenfold.serving.instants import Instants
from sevenfold.serving.schema import keep_schemas
from sevenfold.serving.together import log_together
from sevenfold.sources.expectations import Alert
from sevenfold.sources.protocol import Origin, Poison
from sevenfold.sources.raw import Raw
from sevenfold.sources.validate import Validated, Validator
from sevenfold.spec.stream import Stream
from sevenfold.spec.units import parse_duration
from sevenfold.stores.clamped import keep_originals
from sevenfold.stores.dead_letters import bury
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import append, arranged, floor_us, fresh, position
from sevenfold.stores.tables import META
from sevenfold.types import DeadLetter, EventBatch, Instant, Ints

__all__ = [
    "Beside",
    "Counts",
    "Ingest",
    "IngestResult",
    "Observer",
    "Post",
    "Refusal",
    "read_counts",
    "uncount_letters",
]

_LOG = logging.getLogger(__name__)


class Observer(Protocol):
    """Something that learns from every event of the log, in its order."""

    def observe(self, batch: EventBatch) -> None:
        """Learn from a batch."""
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that is now a dead letter: its place among the rows given, why, and the whole sentence."""

    index: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Post:
    """Rows of a stream that somebody has sent, and waits to hear of; they arrive when they are taken in."""

    stream: str
    rows: Sequence[Any]


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What became of the rows: every one is an event, a duplicate or refused; `position` is the log's end.

    `alerts` are the expectations of the stream that they breach.
    """

    position: int
    events: int
    duplicates: int
    refused: list[Refusal] = field(default_factory=list)
    alerts: Sequence[Alert] = ()


@dataclass(frozen=True, slots=True)
class Counts:
    """What came in since the store was made: rows_in = events + duplicates + dead_letters."""

    rows_in: int = 0
    events: int = 0
    duplicates: int = 0
    dead_letters: int = 0


@dataclass(frozen=True, slots=True)
class Beside:
    """What commits together with rows: letters of what could not be read as one, and further writes.

    `origin` says where row i came from; a dead letter of it keeps that.
    """

    poison: Sequence[Poison] = ()
    origin: Origin | None = None
    write: Callable[[Transaction], None] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Checked:
    """Rows that were looked at, the letters to bury with them, when that was, and whether they are history."""

    rows: Validated
    letters: list[DeadLetter]
    now_us: Instant
    history: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Arrived:
    """Posts that were looked at together: their places among those given, and how many events there are of each."""

    places: list[int]
    sizes: list[int]
    checked: _Checked


class Ingest:
    """The one door into a store: the log, the states and the counts of an ingest commit together.

    What `observers` are told has been committed before. Views that the store does not keep yet are filled
    from its log at the start. Where other processes read beside it, `instants` tells them what is coming. With
    `fills` off another process is that door, and nothing is written here.
    """

    def __init__(
        self,
        store: Store,
        streams: Mapping[str, Stream],
        engine: OnlineEngine,
        clock: Clock,
        observers: Sequence[Observer] = (),
        fills: bool = True,
    ) -> None:
        self._store = store
        self._clock = clock
        self._observers = observers
        self.instants: Instants | None = None
        if fills:
            keep_schemas(store, streams)
            if (filled := backfill(store, engine.plan)) and self._position():
                _LOG.info("states filled from the log views=%s", ",".join(filled))
        self.read_us: Instant = -(1 << 62)
        self.use(streams, engine)

    def use(self, streams: Mapping[str, Stream], engine: OnlineEngine) -> None:
        """Take events of `streams` from now on, and keep the states of the views of `engine`."""
        self._engine = engine
        self._ids = {view.view_id for view in engine.plan.views}
        self._validators = {name: Validator(stream) for name, stream in streams.items()}
        self._horizons = {name: parse_duration(s.horizon) for name, s in streams.items()}
        self._enriching = Enriching(streams, self._ids)

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Keep no states while a history is loaded; at the end they are computed from the log in one pass.

        They are then those that every event would have left one by one. Nothing may be served meanwhile: states
        stay at the position where this began. Killed at it, the next start computes them.
        """
        engine = self._engine
        # Events are enriched from rows of tables as they come in: those are kept all along.
        rows = tuple(view for view in engine.plan.views if view.kept)
        with self._store.write() as txn:
            self._require_ours(txn)
            leave_out(txn, {view.view_id for view in rows})
        self._keep(OnlineEngine(Plan(rows, ())))
        try:
            yield
        finally:
            backfill(self._store, engine.plan)
            self._keep(engine)

    def _keep(self, engine: OnlineEngine) -> None:
        self._engine = engine
        self._ids = {view.view_id for view in engine.plan.views}

    def _position(self) -> int:
        with self._store.read() as txn:
            return position(txn)

    def rehearse(self, batch: EventBatch) -> None:
        """Take a batch in that nobody gave: what takes others in is then compiled."""
        with self._store.write() as txn:
            self._take(txn, batch)

    @property
    def views(self) -> tuple[ViewPlan, ...]:
        """The views whose states every ingest keeps up to date."""
        return self._engine.plan.views

    def now_us(self) -> Instant:
        """The instant now, by the clock that rows arrive by."""
        return self._clock.now_us()

    def read_at(self, t_us: Instant) -> None:
        """Note a read that no log keeps: no event of this process becomes known before it any more."""
        self.read_us = max(self.read_us, t_us)

    def accept(
        self,
        stream: str,
        rows: Sequence[Any] | Mapping[str, Raw],
        known_us: Instant | None = None,
        history: bool = False,
        beside: Beside | None = None,
    ) -> IngestResult:
        """Take rows (or columns) of `stream` in; returns after what is kept is on disk.

        Rows arrive at `known_us`, now when not given; with `history` each was known when the stream says,
        and at `known_us` at the latest where that is given. What is `beside` them commits with them.
        Raises NotFoundError for a stream that the system does not declare.
        """
        checked = self._checked(stream, rows, known_us, history, beside)
        with self._writing() as txn:
            kept, _ = self._take(txn, checked.rows.batch)
            keep_originals(txn, stream, _clamped(checked.rows, [kept]))
            result = self._settle(txn, stream, checked, len(kept))
            if beside is not None and beside.write is not None:
                beside.write(txn)
        self._tell([kept])
        return result

    def accept_posts(self, posts: Sequence[Post]) -> list[IngestResult]:
        """Take several posts in with one commit; what became of each, all of them or none.

        Each is as if it had come alone, at one instant: an id that two of them bring is a duplicate in the later one.
        Raises what any of them is refused for.
        """
        arrived = self._arrived(posts)
        kept: dict[str, EventBatch] = {}
        events = np.zeros(len(posts), dtype=np.int64)
        with self._writing() as txn:
            for stream, some in arrived.items():
                post_of = np.concatenate([np.repeat(one.places, one.sizes) for one in some])
                batch = EventBatch.concat([one.checked.rows.batch for one in some])
                kept[stream], rows = self._take(txn, batch)
                events += np.bincount(post_of[rows], minlength=len(posts))
            results: dict[int, IngestResult] = {}
            everything = [(stream, one) for stream, some in arrived.items() for one in some]
            for stream, one in sorted(everything, key=lambda each: each[1].places[0]):
                keep_originals(txn, stream, _clamped(one.checked.rows, [kept[stream]]))
                n = int(events[one.places].sum())
                told = self._settle(txn, stream, one.checked, n)
                for place, size in zip(one.places, one.sizes, strict=True):
                    new = events.item(place)
                    results[place] = replace(told, events=new, duplicates=size - new)
        self._tell(list(kept.values()))
        return [results[place] for place in range(len(posts))]

    def _arrived(self, posts: Sequence[Post]) -> dict[str, list[_Arrived]]:
        """The posts of each stream, looked at together where that tells of each what it would alone."""
        streams: dict[str, list[int]] = {}
        for place, post in enumerate(posts):
            streams.setdefault(post.stream, []).append(place)
        return {
            stream: self._arrived_of(stream, places, [posts[place].rows for place in places])
            for stream, places in streams.items()
        }

    def _arrived_of(
        self, stream: str, places: list[int], rows: Sequence[Sequence[Any]]
    ) -> list[_Arrived]:
        # A row costs what a hundred cost that are looked at with it. What is expected is expected of a post, and who is
        # refused a row is told which of the post's.
        if len(places) > 1 and stream in self._validators and not self._expects(stream):
            checked = self._checked(stream, list(chain.from_iterable(rows)), None, False)
            if not checked.letters:
                return [_Arrived(places, list(map(len, rows)), checked)]
        each = [self._checked(stream, some, None, False) for some in rows]
        return [
            _Arrived([place], [len(one.rows.batch)], one)
            for place, one in zip(places, each, strict=True)
        ]

    def _expects(self, stream: str) -> bool:
        return bool(self._validators[stream].stream.expect)

    def accept_together(
        self,
        rows: Mapping[str, Sequence[Any] | Mapping[str, Raw]],
        known_us: Instant | None = None,
        history: bool = False,
    ) -> dict[str, IngestResult]:
        """Take rows of several streams in, in the order in which they became known; all or nothing.

        Each event is enriched by the rows of tables that were known before it, as if each had come alone.
        At one instant events come before rows of tables, which they cannot see.
        """
        checked = {
            name: self._checked(name, given, known_us, history) for name, given in rows.items()
        }
        with self._writing() as txn:
            batches = [one.rows.batch for one in checked.values()]
            logged = log_together(txn, batches, self._horizons, self._enriching, self.read_us)
            kept = {batch.stream: batch for batch in logged.batches}
            for batch in logged.batches:  # a view sees no other stream
                self._engine.apply(txn, batch)
            for name, one in checked.items():
                mine = [kept[name]] if name in kept else []
                keep_originals(txn, name, _clamped(one.rows, mine))
            results = {
                name: self._settle(txn, name, one, len(kept[name]) if name in kept else 0)
                for name, one in checked.items()
            }
        if self._observers:
            self._tell(logged.in_order())
        return results

    @contextmanager
    def _writing(self) -> Iterator[Transaction]:
        """The transaction that events are taken in by, announced to those who read beside it."""
        try:
            with self._store.write() as txn:
                self._require_ours(txn)
                if self.instants is not None:
                    # Once: whoever saw a later announcement could read after what this one has let in.
                    floor = max(floor_us(txn), self.read_us)
                    self.read_us = self.instants.announce(floor)
                yield txn
        finally:
            if self.instants is not None:
                self.instants.withdraw()

    def _checked(
        self,
        stream: str,
        rows: Sequence[Any] | Mapping[str, Raw],
        known_us: Instant | None,
        history: bool,
        beside: Beside | None = None,
    ) -> _Checked:
        if stream not in self._validators:
            known = ", ".join(self._validators)
            raise NotFoundError(f"$.stream: no stream {stream!r}; there are {known}")
        now_us = self._clock.now_us() if known_us is None else known_us
        arrival = (None, known_us) if history else (now_us, None)
        validator = self._validators[stream]
        if isinstance(rows, Mapping):
            checked = validator.columns(rows, *arrival)
        else:
            checked = validator.rows(rows, *arrival)
        letters = _letters(stream, checked, beside, now_us)
        return _Checked(checked, letters, now_us, history)

    def _take(self, txn: Transaction, batch: EventBatch) -> tuple[EventBatch, Ints]:
        """The events that are new, as they are now at the end of the log and in the states, and their rows."""
        kept, rows = self._log(txn, batch)
        self._engine.apply(txn, kept)
        return kept, rows

    def _log(self, txn: Transaction, batch: EventBatch) -> tuple[EventBatch, Ints]:
        """The events that are new, as they are now at the end of the log, and their rows."""
        batch, order = arranged(batch, max(floor_us(txn), self.read_us))
        horizon_us = self._horizons[batch.stream]
        new = fresh(txn, batch.stream, batch.event_ids, batch.known_us, horizon_us)
        whole = np.count_nonzero(new) == len(new)
        kept = self._enriching.fill(txn, batch if whole else batch.take(new))
        append(txn, kept)
        return kept, order[new]

    def _settle(
        self, txn: Transaction, stream: str, checked: _Checked, events: int
    ) -> IngestResult:
        """What became of the rows, counted, the refused ones buried; `events` of them are in the log."""
        rows, letters = checked.rows, checked.letters
        bury(txn, letters)
        duplicates = len(rows.batch) - events
        _count(txn, stream, (events, duplicates, len(letters)))
        alerts = [*rows.alerts]
        if not checked.history:
            expect = self._validators[stream].stream.expect
            alerts += volume_alerts(txn, stream, expect, events, checked.now_us)
        count_alerts(txn, stream, alerts)
        refused = [
            Refusal(int(row), letter.reason, letter.detail)
            for row, letter in zip(rows.letter_rows.tolist(), rows.letters, strict=True)
        ]
        return IngestResult(position(txn), events, duplicates, refused, alerts)

    def _tell(self, kept: Iterable[EventBatch]) -> None:
        for batch in kept:
            for observer in self._observers:
                observer.observe(batch)

    def _require_ours(self, txn: Transaction) -> None:
        """Refuse to write where another definition has taken over: its states would miss these events."""
        if kept_views(txn) != self._ids:
            raise ServingError(
                "the store keeps the views of another definition by now: another process or a change has "
                "taken it over; open it again with the declaration that is served"
            )


def _clamped(checked: Validated, kept: Sequence[EventBatch]) -> dict[str, Instant]:
    """What the new events that were clamped said of their time, by their ids."""
    if checked.originals is None:
        return {}
    rows = np.flatnonzero(checked.originals != checked.batch.event_us)
    names = checked.batch.event_ids.take(rows).to_list()
    new = {name for part in kept for name in part.event_ids.to_list()}
    told = zip(reversed(names), reversed(checked.originals[rows].tolist()), strict=True)
    # Of two of one id the first counts: the other is a second delivery.
    return {name: us for name, us in told if name is not None and name in new}


def _letters(
    stream: str, checked: Validated, beside: Beside | None, now_us: Instant
) -> list[DeadLetter]:
    """The letters to bury: of what could not be read first, then of the rows."""
    if beside is None:
        return [replace(letter, buried_us=now_us) for letter in checked.letters]
    origin = beside.origin
    return [
        DeadLetter(stream, one.reason, one.detail, one.row, one.origin, now_us)
        for one in beside.poison
    ] + [
        replace(letter, buried_us=now_us, origin={} if origin is None else origin(row))
        for row, letter in zip(checked.letter_rows.tolist(), checked.letters, strict=True)
    ]


def read_counts(txn: Transaction, streams: Sequence[str]) -> Counts:
    """What came in on `streams` together."""
    events = duplicates = dead = 0
    for stream in streams:
        one = _counts(txn, stream)
        events, duplicates, dead = events + one[0], duplicates + one[1], dead + one[2]
    return Counts(events + duplicates + dead, events, duplicates, dead)


def uncount_letters(txn: Transaction, stream: str, n: int) -> None:
    """Take `n` dead letters of a stream out of its counts: their rows are counted anew."""
    _count(txn, stream, (0, 0, -n))


def _count(txn: Transaction, stream: str, more: tuple[int, int, int]) -> None:
    total = [max(a + b, 0) for a, b in zip(_counts(txn, stream), more, strict=True)]
    txn.put(META, _counts_key(stream), b"".join(n.to_bytes(8, "big") for n in total))


def _counts(txn: Transaction, stream: str) -> tuple[int, int, int]:
    raw = txn.get(META, _counts_key(stream)) or bytes(24)
    return (
        int.from_bytes(raw[:8], "big"),
        int.from_bytes(raw[8:16], "big"),
        int.from_bytes(raw[16:], "big"),
    )


def _counts_key(stream: str) -> bytes:
    return b"counts/" + stream.encode()
