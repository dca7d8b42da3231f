"""What a transaction of the durable store does: states under hashed keys lie in their log, all else in LMDB's tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import Any

from sevenfold.errors import StoreError
from sevenfold.stores.kv import Hashes, Words, ended, joined, kept_by_items, spread
from sevenfold.stores.lmdb_pages import Pages
from sevenfold.stores.state_log import StateLog
from sevenfold.stores.state_transaction import KEY_BYTES, States, StatesWritten
from sevenfold.stores.tables import unknown_table
from sevenfold.types import Ints

__all__ = ["FIRST", "Reading", "Writing"]

FIRST = "state"
"""The table that a transaction is begun with: gets from it need not name it, which takes a tenth off each."""

_PAGE = 512  # items a writer's scan takes at a time
_AT_ONCE = 4_096  # states put together


class Reading:
    """A read transaction. It is begun with buffers: what it finds is copied once, and not when it is gathered."""

    __slots__ = ("_dbs", "_get", "_log", "_pages", "_states", "_txn")

    def __init__(
        self, txn: Any, dbs: dict[str, Any], pages: Pages | None, log: StateLog | None
    ) -> None:
        self._log = log
        self._states: States | None = None
        self._txn = txn
        self._get = txn.get
        self._dbs = dbs
        self._pages = pages

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value under `key`, or None."""
        db = self._db(table)
        if table == FIRST and len(key) == KEY_BYTES and self._log is not None:
            return self._here().get(key)
        found = self._get(key, None, db)
        return None if found is None else bytes(found)

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value under each of `keys`."""
        # Measured: a third faster than Cursor.getmulti, which also drops the keys that are not there.
        get, db = self._get, self._db(table)
        if table == FIRST and self._log is not None and keys:
            if all(len(key) == KEY_BYTES for key in keys):
                return self._here().get_many(keys)
            return [self.get(table, key) for key in keys]
        found = [get(key, None, db) for key in keys]
        return [None if value is None else bytes(value) for value in found]

    def gather(self, table: str, keys: Sequence[bytes]) -> tuple[bytes, Ints]:
        """The values under `keys` one after the other, and their lengths."""
        get, db = self._get, self._db(table)
        if table == FIRST and self._log is not None:
            return joined(self.get_many(table, keys))
        if table == FIRST:
            return joined(list(map(get, keys)))
        return joined([get(key, b"", db) for key in keys])

    def words(self, table: str, asked: Sequence[tuple[bytes, Hashes]]) -> list[Words]:
        """The values of many hashed keys, as words where they lie."""
        if table == FIRST and self._log is not None and asked and self._dbs:
            return self._here().words(asked)
        pages = self._pages
        if pages is None or not asked:
            return spread(self, table, asked)
        self._db(table)
        record = self._get(table.encode(), None, pages.names)
        found = []
        for prefix, hashes in asked:
            places = pages.find(record, prefix, hashes)
            if places is None:
                return spread(self, table, asked)
            found.append((pages.words, places))
        return found

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Set the value under `key`."""
        raise StoreError("this is a read transaction: write inside `with store.write() as txn`")

    def put_many(self, table: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Set many values."""
        raise StoreError("this is a read transaction: write inside `with store.write() as txn`")

    def keep(self, table: str, prefix: bytes, hashes: Hashes, words: Ints, ends: Ints) -> None:
        """Set the values of many hashed keys."""
        raise StoreError("this is a read transaction: write inside `with store.write() as txn`")

    def delete(self, table: str, key: bytes) -> bool:
        """Remove `key`; True when it was there."""
        raise StoreError("this is a read transaction: write inside `with store.write() as txn`")

    def scan(
        self, table: str, start: bytes = b"", stop: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The items of a range in order."""
        found = self._walked(table, start, stop, reverse)
        if table != FIRST or self._log is None:
            return found
        return merge(found, self._here().scan(start, stop, reverse), reverse=reverse)

    def count(self, table: str) -> int:
        """The number of keys in the table."""
        entries: int = self._txn.stat(self._db(table))["entries"]
        if table == FIRST and self._log is not None:
            entries += self._here().count()
        return entries

    def end(self) -> None:
        """Let go of the snapshot of a read, and make any further use an error."""
        self._dbs = {}
        self._states = None
        self._txn.abort()

    def _here(self) -> States:
        """The states that lie in their log."""
        if self._states is None:
            assert self._log is not None
            self._states = States(self._log, self._txn)
        return self._states

    def _walked(
        self, table: str, start: bytes, stop: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        return _walk(self._txn.cursor(self._db(table)), start, stop, reverse)

    def _db(self, table: str) -> Any:
        found = self._dbs.get(table)
        if found is None:
            raise unknown_table(table) if self._dbs else ended()
        return found


class Writing(Reading):
    """The write transaction.

    It is begun without buffers: states are small, and a buffer is a thing more for the collector of garbage,
    which made reading those of a batch take 1.7 times as long.
    """

    __slots__ = ("_written",)

    def __init__(
        self, txn: Any, dbs: dict[str, Any], pages: Pages | None, log: StateLog | None
    ) -> None:
        super().__init__(txn, dbs, pages, log)
        self._written: set[str] = set()

    def commit(self) -> None:
        """Have the states that were put in LMDB's transaction, which is then to be committed."""
        if self._states is not None:
            self._put_here().commit()

    def end(self) -> None:
        """Make any further use an error; it is committed, or not, by whoever began it."""
        self._dbs = {}
        if self._states is not None:
            self._put_here().end()
            self._states = None

    def words(self, table: str, asked: Sequence[tuple[bytes, Hashes]]) -> list[Words]:
        """The values of many hashed keys, as words where they lie."""
        # What a writer changes are copies until it commits: the pages of the last commit are as good as a reader's.
        if table in self._written:
            return spread(self, table, asked)
        return super().words(table, asked)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Set the value under `key`."""
        db = self._db(table)
        if table == FIRST and self._log is not None:
            if len(key) == KEY_BYTES:
                self._put_here().put_many([(key, value)])
                return
        else:
            self._written.add(table)
        self._txn.put(key, value, db=db)

    def put_many(self, table: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Set many values."""
        db = self._db(table)
        if table == FIRST and self._log is not None:
            self._put_states(iter(items), db)
            return
        self._written.add(table)
        self._txn.cursor(db).putmulti(items)

    def keep(self, table: str, prefix: bytes, hashes: Hashes, words: Ints, ends: Ints) -> None:
        """Set the values of many hashed keys."""
        self._db(table)
        if table == FIRST and self._log is not None:
            self._put_here().keep(prefix, hashes, words, ends)
        else:
            kept_by_items(self, table, prefix, hashes, words, ends)

    def delete(self, table: str, key: bytes) -> bool:
        """Remove `key`; True when it was there."""
        db = self._db(table)
        if table == FIRST and self._log is not None:
            if len(key) == KEY_BYTES:
                return self._put_here().delete(key)
        else:
            self._written.add(table)
        removed: bool = self._txn.delete(key, db=db)
        return removed

    def _put_states(self, items: Iterator[tuple[bytes, bytes]], db: Any) -> None:
        while some := list(islice(items, _AT_ONCE)):
            here = [item for item in some if len(item[0]) == KEY_BYTES]
            if here:
                self._put_here().put_many(here)
            if len(here) < len(some):
                there = (item for item in some if len(item[0]) != KEY_BYTES)
                self._txn.cursor(db).putmulti(there)

    def _here(self) -> States:
        return self._put_here()

    def _put_here(self) -> StatesWritten:
        if self._states is None:
            assert self._log is not None
            self._states = StatesWritten(self._log, self._txn)
        assert isinstance(self._states, StatesWritten)
        return self._states

    def _walked(
        self, table: str, start: bytes, stop: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        """A page at a time, because a cursor does not survive writes beside it."""
        db = self._db(table)
        while True:
            page = list(islice(_walk(self._txn.cursor(db), start, stop, reverse), _PAGE))
            yield from page
            if len(page) < _PAGE:
                return
            if reverse:
                stop = page[-1][0]
            else:
                start = page[-1][0] + b"\0"


def _walk(
    cursor: Any, start: bytes, stop: bytes | None, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    if reverse:
        placed = cursor.last() if stop is None else _before(cursor, stop)
        if not placed:
            return
        for key, value in map(_copied, cursor.iterprev()):
            if key < start:
                return
            yield key, value
        return
    if not (cursor.set_range(start) if start else cursor.first()):
        return
    for key, value in map(_copied, cursor.iternext()):
        if stop is not None and key >= stop:
            return
        yield key, value


def _copied(item: tuple[Any, Any]) -> tuple[bytes, bytes]:
    return bytes(item[0]), bytes(item[1])


def _before(cursor: Any, stop: bytes) -> bool:
    placed: bool
    if not stop:
        return False
    placed = cursor.prev() if cursor.set_range(stop) else cursor.last()
    return placed
