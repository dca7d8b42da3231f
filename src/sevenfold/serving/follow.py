"""A source into the log: its rows and how far it has been read commit together, batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field, replace

from sevenfold.errors import InputError
from sevenfold.serving.ingest import Beside, Ingest
from sevenfold.sources.known import known_times
from sevenfold.sources.protocol import Batch, Source, row_count
from sevenfold.spec.stream import Stream
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import last_known_us, position
from sevenfold.stores.offsets import KeptSource, move_offset, read_offset, read_sources

__all__ = ["Follower", "Taken"]


@dataclass(slots=True)
class Taken:
    """What became of the rows of a source: rows = events + duplicates + dead letters."""

    rows: int = 0
    events: int = 0
    duplicates: int = 0
    position: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    alerts: Counter[str] = field(default_factory=Counter)


class Follower:
    """Takes a source into one stream of a store, from where the store says that it was left.

    What is there at the beginning was known when the stream says, though never later than now. Once a follower
    that goes on (`onward`) has caught up, what comes next is known when it comes, also after a restart; with
    `late` so is everything. Ended at any moment, it goes on with nothing lost and nothing twice.
    """

    def __init__(
        self,
        ingest: Ingest,
        store: Store,
        stream: Stream,
        source: Source,
        late: bool = False,
        onward: bool = False,
    ) -> None:
        self._ingest, self._store, self._stream, self._source = ingest, store, stream, source
        self._late, self._onward = late, onward
        self._batches: Generator[Batch, None, None] | None = None
        self.taken = Taken()
        fresh = KeptSource(stream.name, source.name)
        with store.read() as txn:
            before = {(one.stream, one.name): one for one in read_sources(txn)}
            self._kept = before.get((fresh.stream, fresh.name), fresh)
            self._begun = bool(read_offset(txn, stream.name, source.name))
            self._end_us = last_known_us(txn) if position(txn) else None
            self.taken.position = position(txn)

    @property
    def source(self) -> Source:
        """Where the rows come from."""
        return self._source

    def step(self) -> bool:
        """Take one batch; False when there is nothing more for now.

        Raises InputError when the source cannot be read, and when a first read of it would put rows behind
        the end of the log that were known before it.
        """
        if self._batches is None:
            with self._store.read() as txn:
                offset = read_offset(txn, self._stream.name, self._source.name)
            self._batches = self._source.read(offset)
        batch = next(self._batches, None)
        if batch is None:
            self._batches = None
            if self._onward and not self._kept.caught_up and not self._source.waiting:
                self._kept = replace(self._kept, caught_up=True)
                with self._store.write() as txn:
                    move_offset(txn, self._kept, {})
            return False
        self._take(batch)
        return True

    def close(self) -> None:
        """Let go of the source, in the middle of a read too."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None
        self._source.close()

    def _take(self, batch: Batch) -> None:
        live = self._late or self._kept.caught_up
        n = row_count(batch.rows)
        if n and not live and not self._begun:
            self._require_after_the_log(batch)
        self._begun = True

        def write(txn: Transaction) -> None:
            move_offset(txn, self._kept, batch.offset)

        result = self._ingest.accept(
            self._stream.name,
            batch.rows,
            known_us=self._ingest.now_us(),
            history=not live,
            beside=Beside(batch.poison, batch.origin, write),
        )
        taken = self.taken
        taken.rows += n + len(batch.poison)
        taken.events += result.events
        taken.duplicates += result.duplicates
        taken.position = result.position
        taken.dead.update(refusal.reason for refusal in result.refused)
        taken.dead.update(poison.reason for poison in batch.poison)
        taken.alerts.update(alert.expectation for alert in result.alerts)
        taken.notes.extend(batch.notes)
        taken.notes.extend(alert.detail for alert in result.alerts)

    def _require_after_the_log(self, batch: Batch) -> None:
        if self._end_us is None:
            return
        known_us, readable = known_times(self._stream, batch.rows)
        early = int((readable & (known_us <= self._end_us)).sum())
        if early:
            raise InputError(
                f"{self._source.name}: the log ends after {early:,} of its first rows were known: they would "
                "count as known only from now on. Give --late if so it was, or take in first what was known first"
            )
