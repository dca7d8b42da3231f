"""What is older than its retention leaves the log, the dead letters and the prediction log, bit by bit.

An event leaves that long after it became known, in log order. What it was known by stays as it is: states hold
no more than windows that the retention covers, which is checked when the system is declared.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import msgspec
import numpy as np

from sevenfold.serving.rotation import drop_before
from sevenfold.serving.sealed_answers import SealedAnswers
from sevenfold.spec.system import System
from sevenfold.spec.units import parse_duration
from sevenfold.stores.block import decode_block, encode_block, key_of, position_of
from sevenfold.stores.dead_letters import letter_stream, next_letter
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import Departed, departed, note_departed
from sevenfold.stores.tables import DEAD, LOG, META, PREDICTIONS, REQUESTS, SHADOWS
from sevenfold.types import US_PER_DAY, US_PER_S, Instant

__all__ = ["Removed", "Retention"]

_CURSOR = b"retained/"
_MARKS = b"retained-letters"
_DAY = b"retained-day/"
_BLOCKS = 8
_ROWS = 512
_EVERY_US = 60 * US_PER_S
_MARK_US = 3_600 * US_PER_S


class Removed(msgspec.Struct):
    """How much has left since the process began."""

    events: int = 0
    predictions: int = 0
    dead_letters: int = 0


class Retention:
    """The job: keeps what the declaration says, no longer. `now_us` is told the snapshot it may read.

    `sealed` are the files of answers, where the home has any.
    """

    name = "retention"

    def __init__(
        self, store: Store, system: System, now_us: Callable[[Transaction], Instant]
    ) -> None:
        self._store = store
        self.sealed: SealedAnswers | None = None
        self._now_us = now_us
        self._next_us = -(1 << 62)
        self.removed = Removed()
        self.use(system)

    def use(self, system: System) -> None:
        """Keep what `system` says from now on."""
        self._streams = {
            stream.name: parse_duration(stream.retention)
            for stream in system.data
            if stream.retention is not None
        }
        log = system.serving.log
        self._answers = parse_duration(log.retention) if log and log.retention else None

    def step(self) -> bool:
        """Remove a slice of what is too old; whether there was any. Looks once a minute."""
        if not self._streams and self._answers is None:
            return False
        with self._store.read() as txn:
            now_us = self._now_us(txn)
        if now_us < self._next_us:
            return False
        for stream, kept_us in self._streams.items():
            if self._drop_events(stream, now_us - kept_us):
                return True
        if self._drop_predictions(now_us) or self._drop_letters(now_us):
            return True
        self._next_us = now_us + _EVERY_US
        return False

    def failed(self, error: Exception) -> None:
        """Nothing is lost: the slice was undone and is tried again."""

    def _drop_events(self, stream: str, cutoff_us: Instant) -> bool:
        """Remove events of `stream` known before `cutoff_us` from the next blocks; whether to come again."""
        cursor = _CURSOR + stream.encode()
        with self._store.read() as txn:
            start = txn.get(META, cursor) or b""
            page = list(islice(txn.scan(LOG, start), _BLOCKS))
            is_noted = not start or not _is_due(txn, stream, start, cutoff_us)
        gone: list[bytes] = []
        put: list[tuple[bytes, bytes]] = []
        events = 0
        after = start
        all_gone = len(page) < _BLOCKS
        for key, value in page:
            seq = position_of(key)
            batch = decode_block(value, seq, stream)
            if batch is not None:
                old = int(np.searchsorted(batch.known_us, cutoff_us))
                all_gone |= old < len(batch)
                if not old:
                    break
                gone.append(key)
                events += old
                if old < len(batch):
                    after = key_of(seq + old)
                    put.append((after, encode_block(batch, old, len(batch), seq + old)))
                    break
            after = key + b"\0"
        if after == start and (is_noted or not all_gone):
            return False
        with self._store.write() as txn:
            for key in gone:
                txn.delete(LOG, key)
            txn.put_many(LOG, put)
            txn.put(META, cursor, after)
            if all_gone and _is_due(txn, stream, after, cutoff_us):
                _note(txn, stream, after, cutoff_us)
        self.removed.events += events
        return bool(gone) or len(page) == _BLOCKS

    def _drop_predictions(self, now_us: Instant) -> bool:
        if self._answers is None or now_us < self._answers:
            return False
        stop = (now_us - self._answers).to_bytes(8, "big")
        with self._store.read() as txn:
            keys = [key for key, _ in islice(txn.scan(PREDICTIONS, b"", stop), _ROWS)]
        if not keys:
            gone = drop_before(self._store, self.sealed, stop)
            self.removed.predictions += gone or 0
            return gone is not None
        with self._store.write() as txn:
            for key in keys:
                txn.delete(PREDICTIONS, key)
                txn.delete(SHADOWS, key)
                txn.delete(REQUESTS, key[8:])
        self.removed.predictions += len(keys)
        return True

    def _drop_letters(self, now_us: Instant) -> bool:
        """Remove letters of streams with a retention.

        A letter does not say when it was buried; how many there were is noted once an hour.
        """
        with self._store.read() as txn:
            buried = next_letter(txn)
            raw = txn.get(META, _MARKS)
            marks: list[tuple[int, int]] = msgspec.msgpack.decode(raw) if raw else []
            doomed: list[bytes] = []
            for stream, kept_us in self._streams.items():
                old = [count for at_us, count in marks if at_us <= now_us - kept_us]
                stop = max(old, default=0).to_bytes(8, "big")
                doomed += [
                    key
                    for key, value in txn.scan(DEAD, b"", stop)
                    if letter_stream(value) == stream
                ]
        longest = max(self._streams.values(), default=0)
        # An older mark has done its work once nothing before it is left.
        wanted = [mark for mark in marks if doomed or mark[0] > now_us - longest - 2 * _MARK_US]
        if buried and (not marks or now_us - marks[-1][0] >= _MARK_US):
            wanted.append((now_us, buried))
        if doomed or len(wanted) != len(marks):
            with self._store.write() as txn:
                txn.put(META, _MARKS, msgspec.msgpack.encode(wanted))
                for key in doomed[:_ROWS]:
                    txn.delete(DEAD, key)
            self.removed.dead_letters += len(doomed[:_ROWS])
        return bool(doomed)


def _is_due(txn: Transaction, stream: str, cursor: bytes, cutoff_us: Instant) -> bool:
    """Whether to note where the log of a stream begins: once a day, for its histories by key are then cut there."""
    day = (cutoff_us // US_PER_DAY).to_bytes(8, "big", signed=True)
    moved = _begin(cursor) > departed(txn, stream).position
    return moved and txn.get(META, _DAY + stream.encode()) != day


def _note(txn: Transaction, stream: str, cursor: bytes, cutoff_us: Instant) -> None:
    """Note that all events of a stream that were known before an instant lie before the cursor, and have left."""
    day = (cutoff_us // US_PER_DAY).to_bytes(8, "big", signed=True)
    txn.put(META, _DAY + stream.encode(), day)
    note_departed(txn, stream, Departed(_begin(cursor), cutoff_us))


def _begin(cursor: bytes) -> int:
    """The position that a cursor stands for: that of a block that is left, or behind the beginning of one that is not."""
    return position_of(cursor[:8]) + len(cursor) - 8
