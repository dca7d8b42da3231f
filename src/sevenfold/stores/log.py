"""The log: every event once, in the order in which it became known.

The log is in the order of (`known_us`, `event_id`), and nothing is ever put in before what is there or
before an instant that was read: `arrange` raises `known_us` to the floor that keeps this true. All that is
known later (states, labels, metrics) can be computed again from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sevenfold.errors import StoreError
from sevenfold.stores.block import MAX_EVENTS, Encoder, decode_block, key_of, position_of
from sevenfold.stores.dedupe import fresh
from sevenfold.stores.kv import Transaction
from sevenfold.stores.tables import LOG, META
from sevenfold.types import Column, EventBatch, Instant, Ints, Texts

__all__ = [
    "Departed",
    "append",
    "append_runs",
    "arrange",
    "arranged",
    "blocks",
    "departed",
    "floor_us",
    "fresh",
    "frontier_us",
    "generation",
    "last_known_us",
    "levelled",
    "note_departed",
    "note_rewrite",
    "position",
    "raise_frontier",
    "read_stream",
    "rewrites",
]

_POSITION = b"position"
_LAST_KNOWN = b"last_known_us"
_FRONTIER = b"frontier_us"
_REWRITES = b"rewrites"
_DEPARTURES = b"departures"
_DEPARTED = b"departed/"
_IDENTITY = b"identity"
_BEFORE_ALL = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Departed:
    """Where the log of a stream begins: its events before `position` have left, all that were known before `known_us`."""

    position: int = 0
    known_us: Instant = _BEFORE_ALL


def position(txn: Transaction) -> int:
    """How many events the log holds: the position of the next one."""
    return _number(txn, _POSITION, 0)


def last_known_us(txn: Transaction) -> Instant:
    """The `known_us` of the newest event; -2^62, before all time, for an empty log."""
    return _number(txn, _LAST_KNOWN, _BEFORE_ALL)


def frontier_us(txn: Transaction) -> Instant:
    """The latest instant at which features were read; -2^62 when none were."""
    return _number(txn, _FRONTIER, _BEFORE_ALL)


def raise_frontier(txn: Transaction, t_us: Instant) -> None:
    """Note a read at `t_us`: no event may become known before it any more."""
    if t_us > frontier_us(txn):
        txn.put(META, _FRONTIER, _packed(t_us))


def rewrites(txn: Transaction) -> int:
    """How often events that were in the log have been changed or taken out: what was computed from it may differ now."""
    return _number(txn, _REWRITES, 0) + _number(txn, _DEPARTURES, 0)


def note_rewrite(txn: Transaction) -> None:
    """Note that events of the log were changed or taken out: what was made of it before is void."""
    txn.put(META, _REWRITES, _packed(_number(txn, _REWRITES, 0) + 1))


def departed(txn: Transaction, stream: str) -> Departed:
    """Where the log of a stream begins, as last noted."""
    raw = txn.get(META, _DEPARTED + stream.encode())
    if raw is None:
        return Departed()
    return Departed(int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big", signed=True))


def note_departed(txn: Transaction, stream: str, begin: Departed) -> None:
    """Note that the oldest events of a stream have left: what was made of the others stays good."""
    raw = begin.position.to_bytes(8, "big") + _packed(begin.known_us)
    txn.put(META, _DEPARTED + stream.encode(), raw)
    txn.put(META, _DEPARTURES, _packed(_number(txn, _DEPARTURES, 0) + 1))


def generation(txn: Transaction) -> str:
    """A name for what the log holds so far: another log has another, and so has this one once it is rewritten.

    It stays when the oldest events of a stream leave: see `departed`.
    """
    return f"{(txn.get(META, _IDENTITY) or b'').hex()}-{_number(txn, _REWRITES, 0)}"


def floor_us(txn: Transaction) -> Instant:
    """The earliest `known_us` that a new event may have."""
    return max(last_known_us(txn) + 1, frontier_us(txn))


def arrange(batch: EventBatch, floor: Instant) -> EventBatch:
    """The batch as the log takes it: `known_us` at least `floor`, in order of (`known_us`, `event_id`).

    Ids are compared as bytes of UTF-8; equal ones keep their order.
    """
    return arranged(batch, floor)[0]


def arranged(batch: EventBatch, floor: Instant) -> tuple[EventBatch, Ints]:
    """The same, and which event of `batch` each of its events is (n,)."""
    known = np.maximum(batch.known_us, floor)
    raised = EventBatch(
        batch.stream, batch.event_us, known, batch.event_ids, batch.keys, batch.fields
    )
    if len(batch) < 2 or np.count_nonzero(known[1:] <= known[:-1]) == 0:
        return raised, np.arange(len(batch), dtype=np.int64)
    order = _order(known, batch.event_ids)
    return (raised if (np.diff(order) == 1).all() else raised.take(order)), order


def append(txn: Transaction, batch: EventBatch) -> int:
    """The position after the batch, which is written at the end of the log.

    Raises StoreError when the batch is not in log order or begins before the floor: see `arrange`.
    """
    return append_runs(txn, [batch], [(0, 0, len(batch))] if len(batch) else [])


def append_runs(
    txn: Transaction, batches: Sequence[EventBatch], runs: Sequence[tuple[int, int, int]]
) -> int:
    """The position after the runs, which are written at the end of the log one after the other.

    A run is which of `batches` it is of, its first event and the one after its last; none is empty. Raises StoreError
    when they are not in log order, or begin before the floor.
    """
    start = seq = position(txn)
    if not runs:
        return start
    last_us = _require_order(batches, runs, floor_us(txn))
    txn.put_many(LOG, _blocks_of([Encoder(batch) for batch in batches], runs, start))
    seq += sum(last - first for _, first, last in runs)
    if not start:
        txn.put(META, _IDENTITY, np.random.default_rng().bytes(16))
    txn.put(META, _POSITION, _packed(seq))
    txn.put(META, _LAST_KNOWN, _packed(last_us))
    return seq


def _require_order(
    batches: Sequence[EventBatch], runs: Sequence[tuple[int, int, int]], floor: Instant
) -> Instant:
    """When the last event became known."""
    columns = [batch.known_us for batch in batches]
    falls = [np.count_nonzero(known_us[1:] < known_us[:-1]) > 0 for known_us in columns]
    known = [known_us.item for known_us in columns]
    for which, first, last in runs:
        if falls[which] or known[which](first) < floor:
            raise StoreError(
                f"events of stream {batches[which].stream!r} are not in log order: known_us must not fall and must "
                f"begin at {floor} or later, it begins at {known[which](first)}; call arrange() first"
            )
        floor = known[which](last - 1) + 1
    return floor - 1


def _blocks_of(
    encoders: Sequence[Encoder], runs: Sequence[tuple[int, int, int]], seq: int
) -> Iterator[tuple[bytes, bytes]]:
    for which, first, last in runs:
        block = encoders[which].block
        for begin in range(first, last, MAX_EVENTS):
            end = min(last, begin + MAX_EVENTS)
            yield key_of(seq), block(begin, end, seq)
            seq += end - begin


def blocks(
    txn: Transaction, stream: str | None = None, start: int = 0, stop: int | None = None
) -> Iterator[tuple[int, EventBatch]]:
    """The log from position `start` up to but not `stop`, as (position of the first event, events).

    With `stream`, its events only. Raises StoreError for a damaged block, naming its position.
    """
    head = next(txn.scan(LOG, stop=key_of(start + 1), reverse=True), None)
    begin = head[0] if head else b""
    end = None if stop is None else key_of(stop)
    for key, value in txn.scan(LOG, begin, end):
        seq = position_of(key)
        batch = decode_block(value, seq, stream)
        if batch is None:
            continue
        low = max(start - seq, 0)
        high = len(batch) if stop is None else min(stop - seq, len(batch))
        if low >= high:
            continue
        if (low, high) != (0, len(batch)):
            batch = batch.take(np.arange(low, high))
        yield seq + low, batch


def read_stream(txn: Transaction, stream: str) -> EventBatch | None:
    """All events of `stream` in log order; None when the log has none of it."""
    parts = [batch for _, batch in blocks(txn, stream)]
    return EventBatch.concat(levelled(parts)) if parts else None


def levelled(parts: list[EventBatch]) -> list[EventBatch]:
    """The parts with the fields and keys of all of them: null where one was not declared when they were logged."""
    kinds = {name: column for part in parts for name, column in part.fields.items()}
    entities = dict.fromkeys(name for part in parts for name in part.keys)
    return [
        part
        if part.fields.keys() == kinds.keys() and part.keys.keys() == entities.keys()
        else replace(
            part,
            keys={n: part.keys.get(n, Texts.of([None] * len(part))) for n in entities},
            fields={n: part.fields.get(n, _nulls(k, len(part))) for n, k in kinds.items()},
        )
        for part in parts
    ]


def _nulls(like: Column, n: int) -> Column:
    return (
        Texts.of([None] * n) if isinstance(like, Texts) else np.full((n, *like.shape[1:]), np.nan)
    )


def _order(known: Ints, ids: Texts) -> Ints:
    """The stable order by (known, id), reading only as many bytes of the ids as ties need."""
    widest = int(np.diff(ids.offsets).max(initial=1))
    words = [_word(ids, 0)]
    order = np.lexsort((words[0], known))
    for at in range(8, widest, 8):
        same = np.diff(known[order]) == 0
        for word in words:
            same &= word[order][1:] == word[order][:-1]
        if not same.any():
            return order
        words.append(_word(ids, at))
        order = np.lexsort((*reversed(words), known))
    return order


def _word(ids: Texts, at: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Bytes `at` to `at` + 8 of each id as a big-endian number, zeros past its end."""
    out = np.zeros(len(ids), dtype=np.uint64)
    starts, ends = ids.offsets[:-1] + at, ids.offsets[1:]
    last = len(ids.data) - 1
    if last < 0:
        return out
    for step in range(8):
        where = starts + step
        byte = np.where(where < ends, ids.data[np.minimum(where, last)], 0)
        out |= byte.astype(np.uint64) << np.uint64(56 - 8 * step)
    return out


def _number(txn: Transaction, key: bytes, default: int) -> int:
    raw = txn.get(META, key)
    return default if raw is None else int.from_bytes(raw, "big", signed=True)


def _packed(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)
