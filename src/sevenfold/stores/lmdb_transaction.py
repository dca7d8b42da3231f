"""What a transaction of LMDB does with the tables in its tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from sevenfold.errors import StoreError
from sevenfold.stores.kv import Hashes, Words, ended, joined, kept_by_items, spread
from sevenfold.stores.lmdb_pages import Pages
from sevenfold.stores.tables import unknown_table
from sevenfold.types import Ints

__all__ = ["FIRST", "Reading", "Writing"]

FIRST = "state"
"""The table that a transaction is begun with: gets from it need not name it, which takes a tenth off each."""

_PAGE = 512  # items a writer's scan takes at a time


class Reading:
    """A read transaction. It is begun with buffers: what it finds is copied once, and not when it is gathered."""

    __slots__ = ("_dbs", "_get", "_pages", "_txn")

    def __init__(self, txn: Any, dbs: dict[str, Any], pages: Pages | None = None) -> None:
        self._txn = txn
        self._get = txn.get
        self._dbs = dbs
        self._pages = pages

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value under `key`, or None."""
        found = self._get(key, None, self._db(table))
        return None if found is None else bytes(found)

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value under each of `keys`."""
        # Measured: a third faster than Cursor.getmulti, which also drops the keys that are not there.
        get, db = self._get, self._db(table)
        found = [get(key, None, db) for key in keys]
        return [None if value is None else bytes(value) for value in found]

    def gather(self, table: str, keys: Sequence[bytes]) -> tuple[bytes, Ints]:
        """The values under `keys` one after the other, and their lengths."""
        get, db = self._get, self._db(table)
        if table == FIRST:
            return joined(list(map(get, keys)))
        return joined([get(key, b"", db) for key in keys])

    def words(self, table: str, asked: Sequence[tuple[bytes, Hashes]]) -> list[Words]:
        """The values of many hashed keys, as words where they lie."""
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
        return _walk(self._txn.cursor(self._db(table)), start, stop, reverse)

    def count(self, table: str) -> int:
        """The number of keys in the table."""
        entries: int = self._txn.stat(self._db(table))["entries"]
        return entries

    def end(self) -> None:
        """Let go of the snapshot of a read, and make any further use an error."""
        self._dbs = {}
        self._txn.abort()

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

    def __init__(self, txn: Any, dbs: dict[str, Any], pages: Pages | None) -> None:
        super().__init__(txn, dbs, pages)
        self._written: set[str] = set()

    def end(self) -> None:
        """Make any further use an error; it is committed, or not, by whoever began it."""
        self._dbs = {}

    def words(self, table: str, asked: Sequence[tuple[bytes, Hashes]]) -> list[Words]:
        """The values of many hashed keys, as words where they lie."""
        # What a writer changes are copies until it commits: the pages of the last commit are as good as a reader's.
        if table in self._written:
            return spread(self, table, asked)
        return super().words(table, asked)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Set the value under `key`."""
        self._written.add(table)
        self._txn.put(key, value, db=self._db(table))

    def put_many(self, table: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Set many values."""
        self._written.add(table)
        self._txn.cursor(self._db(table)).putmulti(items)

    def keep(self, table: str, prefix: bytes, hashes: Hashes, words: Ints, ends: Ints) -> None:
        """Set the values of many hashed keys."""
        kept_by_items(self, table, prefix, hashes, words, ends)

    def delete(self, table: str, key: bytes) -> bool:
        """Remove `key`; True when it was there."""
        self._written.add(table)
        removed: bool = self._txn.delete(key, db=self._db(table))
        return removed

    def scan(
        self, table: str, start: bytes = b"", stop: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As in the protocol; a page at a time, because a cursor does not survive writes beside it."""
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
