"""The durable store: one LMDB environment, a memory-mapped B+tree with one writer and many readers.

A commit is on disk (fsync) before `write()` returns. Readers, in this process or another, hold a snapshot
and never wait. A snapshot held for long keeps the pages of its time from being reused: end it soon.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb

from sevenfold.errors import StoreError, StoreFullError
from sevenfold.stores.aside import AsideFile
from sevenfold.stores.kv import (
    Aside,
    Hashes,
    Transaction,
    Words,
    ended,
    joined,
    kept_by_items,
    spread,
)
from sevenfold.stores.lmdb_pages import Pages, pages_of
from sevenfold.stores.tables import ADDED, TABLES, unknown_table
from sevenfold.types import Ints

__all__ = ["DEFAULT_MAP_BYTES", "LmdbStore"]

DEFAULT_MAP_BYTES = 64 << 30
"""The address space reserved, 64 GiB; the file itself grows with what is in it."""

_LOG = logging.getLogger(__name__)
_READERS = 256
_SPARE = 8  # ended read transactions kept for the next: begins one in under a microsecond
_PAGE = 512  # items a writer's scan takes at a time
_STATES = (
    "state"  # the table of most reads: gets from it need not name it, which takes a tenth off each
)
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_LEAST_ROOM_BYTES = 1 << 20


class _Reading:
    """A read transaction. It is begun with buffers: what it finds is copied once, and not when it is gathered."""

    __slots__ = ("_dbs", "_get", "_pages", "_txn")

    def __init__(self, txn: Any, dbs: dict[str, Any], pages: Pages | None = None) -> None:
        self._txn = txn
        self._get = txn.get
        self._dbs = dbs
        self._pages = pages

    def get(self, table: str, key: bytes) -> bytes | None:
        found = self._get(key, None, self._db(table))
        return None if found is None else bytes(found)

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        # Measured: a third faster than Cursor.getmulti, which also drops the keys that are not there.
        get, db = self._get, self._db(table)
        found = [get(key, None, db) for key in keys]
        return [None if value is None else bytes(value) for value in found]

    def gather(self, table: str, keys: Sequence[bytes]) -> tuple[bytes, Ints]:
        get, db = self._get, self._db(table)
        if table == _STATES:
            return joined(list(map(get, keys)))
        return joined([get(key, b"", db) for key in keys])

    def words(self, table: str, asked: Sequence[tuple[bytes, Hashes]]) -> list[Words]:
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
        raise StoreError("this is a read transaction: write inside `with store.write() as txn`")

    def put_many(self, table: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        raise StoreError("this is a read transaction: write inside `with store.write() as txn`")

    def keep(self, table: str, prefix: bytes, hashes: Hashes, words: Ints, ends: Ints) -> None:
        raise StoreError("this is a read transaction: write inside `with store.write() as txn`")

    def delete(self, table: str, key: bytes) -> bool:
        raise StoreError("this is a read transaction: write inside `with store.write() as txn`")

    def scan(
        self, table: str, start: bytes = b"", stop: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return _walk(self._txn.cursor(self._db(table)), start, stop, reverse)

    def count(self, table: str) -> int:
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


class _Writing(_Reading):
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
        # What a writer changes are copies until it commits: the pages of the last commit are as good as a reader's.
        if table in self._written:
            return spread(self, table, asked)
        return super().words(table, asked)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._written.add(table)
        self._txn.put(key, value, db=self._db(table))

    def put_many(self, table: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        self._written.add(table)
        self._txn.cursor(self._db(table)).putmulti(items)

    def keep(self, table: str, prefix: bytes, hashes: Hashes, words: Ints, ends: Ints) -> None:
        kept_by_items(self, table, prefix, hashes, words, ends)

    def delete(self, table: str, key: bytes) -> bool:
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


class _Snapshot:
    """The `with` of a read; one made of generators takes as long as the search for a key."""

    __slots__ = ("_reading", "_store")

    def __init__(self, store: LmdbStore) -> None:
        self._store = store

    def __enter__(self) -> Transaction:
        try:
            self._reading = self._store.begun()
        except lmdb.Error as error:
            raise self._store.named(error) from error
        return self._reading

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._reading.end()
        if isinstance(error, lmdb.Error):
            raise self._store.named(error) from error


class LmdbStore:
    """The store in the folder `path`, which is made if it is not there.

    `readonly` opens what another process writes. One process opens a folder once: share the store between
    threads. Raises StoreError when the folder cannot be opened.
    """

    def __init__(
        self,
        path: Path | str,
        readonly: bool = False,
        map_bytes: int = DEFAULT_MAP_BYTES,
        zeroed: bool = False,
    ) -> None:
        self.path = Path(path)
        self._readonly = readonly
        self._turn = threading.Lock()
        self._writer: int | None = None
        if readonly and not (self.path / "data.mdb").exists():
            raise StoreError(f"no store in {str(self.path)!r}: a store opened to read must exist")
        self._aside = AsideFile(self.path / "aside")
        if readonly and self._aside.path.exists():
            _put_into(self.path, map_bytes)
        try:
            if not readonly:
                self.path.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(
                str(self.path),
                map_size=map_bytes,
                readonly=readonly,
                create=not readonly,
                max_dbs=32,
                max_readers=_READERS,
                max_spare_txns=_SPARE,
                readahead=False,
                meminit=zeroed,
            )
        except (lmdb.Error, OSError) as error:
            raise StoreError(
                f"the store in {str(self.path)!r} cannot be opened: {error}"
            ) from error
        self._dbs = self._open_tables()
        self._pages = pages_of(self._env)
        self._file = self.path / "data.mdb"
        self._identity = _identity(self._file)

    def read(self) -> AbstractContextManager[Transaction]:
        """A snapshot of what is committed now, by any process."""
        return _Snapshot(self)

    def begun(self) -> _Reading:
        """A read transaction, to be ended by whoever asked for it."""
        try:
            txn = self._env.begin(self._dbs[_STATES], buffers=True)
        except lmdb.MapResizedError:  # another process reserved more: take over its size
            self._env.set_mapsize(0)
            self._pages = pages_of(self._env)
            txn = self._env.begin(self._dbs[_STATES], buffers=True)
        return _Reading(txn, self._dbs, self._pages)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """The one writer of all processes; on disk when the `with` is left, nothing after an exception."""
        if self._readonly:
            raise StoreError(
                f"the store in {str(self.path)!r} is open to read: open it with readonly=False to write"
            )
        if _identity(self._file) != self._identity:
            # The file lives on without its name while it is open: what is written would be gone at the end.
            raise StoreError(
                f"the file of the store in {str(self.path)!r} was moved or deleted while it is open: put it back; "
                "nothing is written until it is there"
            )
        if self._writer == threading.get_ident():
            raise StoreError("this thread is already inside `store.write()`: use that transaction")
        with self._turn, self._faults():
            try:
                txn = self._env.begin(self._dbs[_STATES], write=True)
            except lmdb.MapResizedError:
                self._env.set_mapsize(0)
                self._pages = pages_of(self._env)
                txn = self._env.begin(self._dbs[_STATES], write=True)
            self._writer = threading.get_ident()
            try:
                with txn:
                    writing = _Writing(txn, self._dbs, self._pages)
                    try:
                        mark = self._aside.put_into(writing)
                        yield writing
                    finally:
                        writing.end()
                if mark is not None:
                    self._aside.is_done(mark)
            finally:
                self._writer = None

    def aside(self) -> Aside | None:
        """Where this process, the only one to do so, may put writes aside from now on; None where the disk has no room for it.

        What is put aside is in the tables of every transaction that is begun to write after it, in the order in which it was put, and of reads some time later.
        """
        with self.write() as txn:  # what somebody was killed at is in the tables with its commit
            pass
        with self.read() as txn:
            mark = self._aside.mark(txn)
        try:
            self._aside.begin(mark)
        except OSError as error:
            _LOG.warning("nothing is put aside path=%s error=%s", self.path, error)
            return None
        return self._aside

    def close(self) -> None:
        """Close the environment; ended transactions have already let go of it."""
        if self._aside.is_open:
            with suppress(
                StoreError
            ):  # the disk is full: it stays aside until the store is opened to write
                with self.write():
                    pass
                self._aside.remove()
        self._aside.close()
        self._env.close()

    def _open_tables(self) -> dict[str, Any]:
        try:
            self._env.reader_check()  # free the slots of readers that were killed
            if self._readonly:  # a handle opened inside a read transaction would end with it
                return self._existing()
            with self._env.begin(write=True) as txn:
                return {name: self._env.open_db(name.encode(), txn=txn) for name in TABLES}
        except lmdb.Error as error:
            self._env.close()
            raise StoreError(
                f"the folder {str(self.path)!r} holds no Sevenfold store, or one of another version: {error}"
            ) from error

    def _existing(self) -> dict[str, Any]:
        found = {}
        for name in TABLES:
            try:
                found[name] = self._env.open_db(name.encode(), create=False)
            except lmdb.NotFoundError:
                if name not in ADDED:
                    raise
        return found

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            raise self.named(error) from error

    def named(self, error: lmdb.Error) -> StoreError:
        """What an error of LMDB means here."""
        if isinstance(error, lmdb.BadValsizeError):
            return StoreError(f"a key has 1 to 511 bytes: {error}")
        if isinstance(error, lmdb.MapFullError):
            return StoreFullError(
                f"the store in {str(self.path)!r} is full: open it with a larger map_bytes"
            )
        if self._has_no_room(error.code):
            return StoreFullError(
                f"the disk has no room for the store in {str(self.path)!r}: {error}; make room, it goes on by itself"
            )
        return StoreError(f"the store in {str(self.path)!r} failed: {error}")

    def _has_no_room(self, code: int) -> bool:
        if code != errno.EIO:
            return code in _NO_ROOM
        # So LMDB calls a write that was cut short too, which is how a disk first says that it is full.
        found = os.statvfs(self.path)
        soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        room = found.f_bavail * found.f_frsize
        if soft != resource.RLIM_INFINITY:
            room = min(room, soft - self._file.stat().st_size)
        return room < _LEAST_ROOM_BYTES


def _put_into(path: Path, map_bytes: int) -> None:
    """Have in the tables what is put aside by now, where this process may write; a reader would see it some time later."""
    try:
        store = LmdbStore(path, map_bytes=map_bytes)
    except StoreError:
        return
    try:
        with store.read() as txn:
            waits = next(store._aside.waiting(txn), None) is not None
        if waits:
            with suppress(StoreError), store.write():
                pass
    finally:
        store.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file lies at a path; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


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
