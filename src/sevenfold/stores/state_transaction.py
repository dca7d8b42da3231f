"""What a transaction does with the states under hashed keys: keys of 24 bytes of table `state`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sevenfold.stores.kv import Hashes, Words
from sevenfold.stores.state_cleaning import clean
from sevenfold.stores.state_commit import Commit
from sevenfold.stores.state_files import MEMORY
from sevenfold.stores.state_layout import Head
from sevenfold.stores.state_log import StateLog
from sevenfold.stores.state_pending import Pending
from sevenfold.stores.state_records import NO_SLOTS, UNKNOWN
from sevenfold.stores.state_recovery import settle
from sevenfold.stores.state_upkeep import difference
from sevenfold.stores.state_view import View
from sevenfold.types import Ints

__all__ = ["KEY_BYTES", "States", "StatesWritten"]

KEY_BYTES = 24
_PAGE = 512  # items that a scan reads at a time
_BYTES: Any = MEMORY.data.cast("B")


def _apart(keys: Sequence[bytes]) -> Ints:
    """Keys of 24 bytes as (n, 3)."""
    return np.array(np.frombuffer(b"".join(keys), dtype=np.int64)).reshape(-1, 3)


def _hashed(asked: Sequence[tuple[bytes, Hashes]]) -> Ints:
    every = asked[0][1] if len(asked) == 1 else np.concatenate([hashes for _, hashes in asked])
    keys = np.empty((len(every), 3), dtype=np.int64)
    keys[:, 1:] = every.view(np.int64)
    prefixes, at = keys[:, 0], 0
    for prefix, hashes in asked:
        prefixes[at : at + len(hashes)] = int.from_bytes(prefix, "little", signed=True)
        at += len(hashes)
    return keys


def _by_prefix(asked: Sequence[tuple[bytes, Hashes]], places: Ints) -> list[Words]:
    np.maximum(places, 0, out=places)
    if len(asked) == 1:
        return [(MEMORY, places)]
    found, at = list[Words](), 0
    for _, hashes in asked:
        found.append((MEMORY, places[at : at + len(hashes)]))
        at += len(hashes)
    return found


class States:
    """The states of a snapshot."""

    __slots__ = ("_head", "_log", "_txn", "_view")

    def __init__(self, log: StateLog, txn: Any) -> None:
        self._log = log
        self._txn = txn
        self._head: Head | None = log.head(txn)
        self._view: View | None = None if self._head is None else log.view(txn, self._head)

    def places(self, keys: Ints) -> Ints:
        """Where the values of keys (n, 3) lie, (n, 2) bytes of `MEMORY`; twice a number below 0 for none."""
        if self._head is None or self._view is None:
            return np.full((len(keys), 2), -1, dtype=np.int64)
        return self._view.find(self._head.tail, keys)

    def get(self, key: bytes) -> bytes | None:
        """The value under a key."""
        begin, end = self.places(_apart([key])).tolist()[0]
        return None if begin < 0 else bytes(_BYTES[begin:end])

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value under each of `keys`."""
        return [
            None if begin < 0 else bytes(_BYTES[begin:end])
            for begin, end in self.places(_apart(keys)).tolist()
        ]

    def words(self, asked: Sequence[tuple[bytes, Hashes]]) -> list[Words]:
        """The values of many hashed keys, as words where they lie."""
        return _by_prefix(asked, self.places(_hashed(asked)))

    def count(self) -> int:
        """How many keys have a value."""
        return 0 if self._head is None else self._head.keys

    def scan(
        self, start: bytes, stop: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        """The items of a range in order. What is changed meanwhile may or may not be seen."""
        keys = self._keys(start, stop)
        low = bisect_left(keys, start)
        keys = keys[low : len(keys) if stop is None else max(low, bisect_left(keys, stop))]
        if reverse:
            keys.reverse()
        for begin in range(0, len(keys), _PAGE):
            page = keys[begin : begin + _PAGE]
            for key, value in zip(page, self.get_many(page), strict=True):
                if value is not None:
                    yield key, value

    def _keys(self, start: bytes, stop: bytes | None) -> list[bytes]:
        """At least the keys of a range that have a value, in order."""
        parts = list(self._found(start, stop))
        if not parts:
            return []
        found = np.concatenate(parts)
        order = np.lexsort(found.byteswap().view(np.uint64).T[::-1])
        rows: Any = np.ascontiguousarray(found[order]).view(np.dtype((np.void, KEY_BYTES)))
        keys: list[bytes] = rows.reshape(-1).tolist()
        return keys

    def _found(self, start: bytes, stop: bytes | None) -> Iterator[Ints]:
        if self._head is None or self._view is None:
            return iter(())
        least = int.from_bytes(start[:8].ljust(8, b"\0"), "big")
        greatest = int.from_bytes(
            (b"\xff" * 8 if stop is None else stop[:8]).ljust(8, b"\xff"), "big"
        )
        return self._view.keys(self._head.tail, least, greatest)


class StatesWritten(States):
    """The states of a snapshot and what the transaction has put."""

    __slots__ = ("_asked", "_pending")

    def __init__(self, log: StateLog, txn: Any) -> None:
        self._log, self._txn = log, txn
        self._head, self._view = settle(log, txn) or (None, None)
        self._asked: dict[bytes, tuple[Hashes, Ints, Ints]] = {}
        self._pending = log.pending
        self._pending.clear()

    def words(self, asked: Sequence[tuple[bytes, Hashes]]) -> list[Words]:
        """The values of many hashed keys, as words where they lie."""
        keys, at = _hashed(asked), 0
        # Who asks for states is about to put them: where their slots are need not be looked for again.
        slots = np.full(len(keys), UNKNOWN)
        if self._pending.is_empty and self._view is not None and self._head is not None:
            places = self._view.find(self._head.tail, keys, slots)
        else:
            places = self.places(keys)
        for prefix, hashes in asked:
            end = at + len(hashes)
            self._asked[prefix] = hashes, keys[at:end], slots[at:end]
            at = end
        return _by_prefix(asked, places)

    def places(self, keys: Ints) -> Ints:
        """As of a snapshot, and what was put since."""
        if self._pending.is_empty:
            return super().places(keys)
        places = self._pending.find(keys)
        rest = np.flatnonzero(places[:, 0] == -1)
        if len(rest):
            places[rest] = super().places(keys if len(rest) == len(keys) else keys[rest])
        return places

    def put_many(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Set many values."""
        lengths = np.fromiter((len(value) for _, value in items), np.int64, len(items))
        sizes = (lengths + 7) >> 3
        raw = b"".join(value + bytes(-len(value) & 7) for _, value in items)
        words = np.array(np.frombuffer(raw, dtype=np.int64))
        self._pending.note(
            _apart([key for key, _ in items]), words, np.cumsum(sizes) - sizes, lengths
        )

    def keep(self, prefix: bytes, hashes: Hashes, words: Ints, ends: Ints) -> None:
        """Set the values of many hashed keys; one of no words is a deletion."""
        if not len(hashes):
            return
        firsts = np.zeros(len(ends), dtype=np.int64)
        firsts[1:] = ends[:-1]
        lengths = 8 * (ends - firsts)
        if np.count_nonzero(lengths) < len(lengths):
            lengths[lengths == 0] = -1
        words = np.ascontiguousarray(words, dtype=np.int64)
        known, keys, slots = self._asked.get(prefix, (None, NO_SLOTS, NO_SLOTS))
        if known is not hashes:  # else they are the keys that were asked for
            keys, slots = _hashed([(prefix, hashes)]), NO_SLOTS
        self._pending.keep(prefix, (keys, slots), words, firsts, lengths)

    def delete(self, key: bytes) -> bool:
        """Remove a key; True when it was there."""
        keys = _apart([key])
        is_there = bool(self.places(keys)[0, 0] >= 0)
        if is_there:
            nothing = np.zeros(1, dtype=np.int64)
            self._pending.note(keys, nothing, nothing, nothing - 1)
        return is_there

    def count(self) -> int:
        """How many keys have a value."""
        if self._pending.is_empty:
            return super().count()
        table = np.empty(0, dtype=np.int64) if self._view is None else self._view.table
        return super().count() + sum(
            difference(MEMORY, self._pending.table, table, begin, end)
            for begin, end in self._pending.stretches()
        )

    def _found(self, start: bytes, stop: bytes | None) -> Iterator[Ints]:
        mine = self._pending.keys()
        if not len(mine):
            return super()._found(start, stop)
        everything = np.concatenate([mine, *super()._found(start, stop)])
        return iter([np.unique(everything, axis=0)])

    def commit(self) -> None:
        """Append what was put, and say so in LMDB's transaction."""
        pending = self._pending
        if pending.is_empty:
            return
        with self._log.faults():
            self._commit(pending)

    def _commit(self, pending: Pending) -> None:
        head, view = self._head, self._view
        if head is None or view is None:
            head = self._log.begin()
            view = self._log.view(self._txn, head)
        commit = Commit(self._log, self._txn, head, view)
        commit.make_room(pending.n_words * (5 if commit.view.layout.closed else 1))
        clean(commit, pending.n_words)  # first: of two records of a key the later holds
        commit.put(pending)
        commit.flush()
        commit.keep()
        commit.publish()
        if self._head is None or not commit.is_nothing():
            commit.say()

    def end(self) -> None:
        """Forget what was put."""
        self._pending.clear()
