"""A store in memory: for tests, simulations and trying things out. Nothing outlives the process.

A table is a tree of two levels: sorted runs of at most a few hundred keys, and the list of the runs' first
keys. A writer copies the runs it touches and publishes the new lists by one assignment, so a reader's
snapshot is the old lists: no reader waits, and leaving a write transaction by an exception costs nothing.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from sevenfold.errors import StoreError
from sevenfold.stores.kv import (
    MAX_KEY_BYTES,
    Hashes,
    Transaction,
    Words,
    bad_key,
    ended,
    joined,
    kept_by_items,
    spread,
)
from sevenfold.stores.tables import TABLES, unknown_table
from sevenfold.types import Ints

__all__ = ["MemoryStore"]

_RUN = 256  # keys in a run before it is cut in two; larger copies more at a write, smaller searches more


class _Run:
    """Up to `_RUN` items in key order; only the draft named by `owner` may change it."""

    __slots__ = ("keys", "owner", "values")

    def __init__(self, keys: list[bytes], values: list[bytes], owner: object) -> None:
        self.keys = keys
        self.values = values
        self.owner = owner


class _Table:
    """Runs in key order. Published tables never change; a draft is a copy with an `owner`."""

    __slots__ = ("count", "firsts", "owner", "runs")

    def __init__(self, firsts: list[bytes], runs: list[_Run], count: int, owner: object) -> None:
        self.firsts = (
            firsts  # the first key of every run but the leftmost, which takes all smaller keys
        )
        self.runs = runs
        self.count = count
        self.owner = owner

    def draft(self) -> _Table:
        """A copy to write to, sharing every run until it is written."""
        return _Table(self.firsts.copy(), self.runs.copy(), self.count, object())

    def get(self, key: bytes) -> bytes | None:
        run = self.runs[bisect_right(self.firsts, key)]
        at = bisect_left(run.keys, key)
        return run.values[at] if at < len(run.keys) and run.keys[at] == key else None

    def put(self, key: bytes, value: bytes) -> None:
        which = bisect_right(self.firsts, key)
        run = self._own(which)
        at = bisect_left(run.keys, key)
        if at < len(run.keys) and run.keys[at] == key:
            run.values[at] = value
            return
        run.keys.insert(at, key)
        run.values.insert(at, value)
        self.count += 1
        if len(run.keys) > _RUN:
            # A run that grows at its end is a log being written: leave it full rather than half empty.
            half = _RUN if at == _RUN else _RUN // 2
            rest = _Run(run.keys[half:], run.values[half:], self.owner)
            del run.keys[half:], run.values[half:]
            self.firsts.insert(which, rest.keys[0])
            self.runs.insert(which + 1, rest)

    def delete(self, key: bytes) -> bool:
        which = bisect_right(self.firsts, key)
        keys = self.runs[which].keys
        at = bisect_left(keys, key)
        if at == len(keys) or keys[at] != key:
            return False
        run = self._own(which)
        del run.keys[at], run.values[at]
        self.count -= 1
        if not run.keys and len(self.runs) > 1:
            del self.runs[which], self.firsts[max(which - 1, 0)]
        return True

    def scan(
        self, start: bytes, stop: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        first = bisect_right(self.firsts, start)
        last = len(self.firsts) if stop is None else bisect_right(self.firsts, stop)
        runs = self.runs[first : last + 1]
        for run in reversed(runs) if reverse else runs:
            begin = bisect_left(run.keys, start)
            end = len(run.keys) if stop is None else bisect_left(run.keys, stop)
            items = list(zip(run.keys[begin:end], run.values[begin:end], strict=True))
            yield from reversed(items) if reverse else items

    def freeze(self) -> _Table:
        """This table as it is now; the draft goes on by copying again."""
        frozen = _Table(self.firsts.copy(), self.runs.copy(), self.count, None)
        self.owner = object()
        return frozen

    def _own(self, which: int) -> _Run:
        run = self.runs[which]
        if run.owner is not self.owner:
            run = _Run(run.keys.copy(), run.values.copy(), self.owner)
            self.runs[which] = run
        return run


class _Snapshot:
    """A read transaction: the tables as they were published."""

    def __init__(self, tables: dict[str, _Table]) -> None:
        self._tables = tables

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._table(table).get(key)

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        get = self._table(table).get
        return [get(key) for key in keys]

    def gather(self, table: str, keys: Sequence[bytes]) -> tuple[bytes, Ints]:
        return joined(self.get_many(table, keys))

    def words(self, table: str, asked: Sequence[tuple[bytes, Hashes]]) -> list[Words]:
        return spread(self, table, asked)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        raise self._refuse()

    def put_many(self, table: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        raise self._refuse()

    def keep(self, table: str, prefix: bytes, hashes: Hashes, words: Ints, ends: Ints) -> None:
        raise self._refuse()

    def delete(self, table: str, key: bytes) -> bool:
        raise self._refuse()

    def scan(
        self, table: str, start: bytes = b"", stop: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._table(table).scan(start, stop, reverse)

    def count(self, table: str) -> int:
        return self._table(table).count

    def end(self) -> None:
        """Make any further use an error."""
        self._tables = {}

    def _table(self, name: str) -> _Table:
        found = self._tables.get(name)
        if found is None:
            raise unknown_table(name) if self._tables else ended()
        return found

    def _refuse(self) -> StoreError:
        return StoreError("this is a read transaction: write inside `with store.write() as txn`")


class _Draft:
    """The write transaction: a copy of each table it has written to."""

    def __init__(self, tables: dict[str, _Table]) -> None:
        self.tables = dict(tables)
        self._written: dict[str, _Table] = {}

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._table(table).get(key)

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        get = self._table(table).get
        return [get(key) for key in keys]

    def gather(self, table: str, keys: Sequence[bytes]) -> tuple[bytes, Ints]:
        return joined(self.get_many(table, keys))

    def words(self, table: str, asked: Sequence[tuple[bytes, Hashes]]) -> list[Words]:
        return spread(self, table, asked)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        if not 0 < len(key) <= MAX_KEY_BYTES:
            raise bad_key(table, key)
        self._draft(table).put(key, value)

    def put_many(self, table: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        put = self._draft(table).put
        for key, value in items:
            if not 0 < len(key) <= MAX_KEY_BYTES:
                raise bad_key(table, key)
            put(key, value)

    def keep(self, table: str, prefix: bytes, hashes: Hashes, words: Ints, ends: Ints) -> None:
        kept_by_items(self, table, prefix, hashes, words, ends)

    def delete(self, table: str, key: bytes) -> bool:
        return self._draft(table).delete(key)

    def scan(
        self, table: str, start: bytes = b"", stop: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        found = self._table(table)
        return (found.freeze() if table in self._written else found).scan(start, stop, reverse)

    def count(self, table: str) -> int:
        return self._table(table).count

    def end(self) -> None:
        """Make any further use an error."""
        self.tables = {}
        self._written = {}

    def _table(self, name: str) -> _Table:
        found = self.tables.get(name)
        if found is None:
            raise unknown_table(name) if self.tables else ended()
        return found

    def _draft(self, name: str) -> _Table:
        found = self._written.get(name)
        if found is None:
            found = self._table(name).draft()
            self.tables[name] = self._written[name] = found
        return found


class MemoryStore:
    """A store in the memory of this process, with the behaviour of the durable one but its durability.

    >>> store = MemoryStore()
    >>> with store.write() as txn:
    ...     txn.put("meta", b"a", b"1")
    >>> with store.read() as txn:
    ...     txn.get("meta", b"a")
    b'1'
    """

    def __init__(self) -> None:
        self._tables = {name: _Table([], [_Run([], [], None)], 0, None) for name in TABLES}
        self._turn = threading.Lock()
        self._writer: int | None = None

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A snapshot of what is committed now."""
        snapshot = _Snapshot(self._open())
        try:
            yield snapshot
        finally:
            snapshot.end()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """The one writer; its changes are published on a clean exit."""
        if self._writer == threading.get_ident():
            raise StoreError("this thread is already inside `store.write()`: use that transaction")
        with self._turn:
            draft = _Draft(self._open())
            self._writer = threading.get_ident()
            try:
                yield draft
                self._tables = draft.tables
            finally:
                self._writer = None
                draft.end()

    def aside(self) -> None:
        """Nothing is put aside: a commit waits for no disk of this process."""

    def close(self) -> None:
        """Let go of the tables; what was in them is gone."""
        self._tables = {}

    def _open(self) -> dict[str, _Table]:
        if not self._tables:
            raise StoreError("this store is closed: open another")
        return self._tables
