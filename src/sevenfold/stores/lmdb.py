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
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import lmdb

from sevenfold.errors import StoreError, StoreFullError
from sevenfold.stores.aside import AsideFile
from sevenfold.stores.kv import Aside, Transaction
from sevenfold.stores.lmdb_pages import pages_of
from sevenfold.stores.lmdb_transaction import FIRST, Reading, Writing
from sevenfold.stores.state_layout import SEGMENT_BITS
from sevenfold.stores.state_log import NO_ROOM, StateLog
from sevenfold.stores.state_move import LOG, OTHERS, has_log, mark, move
from sevenfold.stores.state_recovery import settle
from sevenfold.stores.tables import ADDED, STATE, TABLES

__all__ = ["DEFAULT_MAP_BYTES", "LmdbStore"]

DEFAULT_MAP_BYTES = 64 << 30
"""The address space reserved, 64 GiB; the file itself grows with what is in it."""

_LOG = logging.getLogger(__name__)
_READERS = 256
_SPARE = 8  # ended read transactions kept for the next: begins one in under a microsecond
_LEAST_ROOM_BYTES = 1 << 20


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
        segment_bits: int = SEGMENT_BITS,
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
        self._log: StateLog | None = None
        self._dbs = self._open_tables(segment_bits)
        self._pages = pages_of(self._env)
        self._file = str(self.path / "data.mdb")  # of a path it would be made for each commit
        self._identity = _identity(self._file)

    def read(self) -> AbstractContextManager[Transaction]:
        """A snapshot of what is committed now, by any process."""
        return _Snapshot(self)

    def begun(self) -> Reading:
        """A read transaction, to be ended by whoever asked for it."""
        try:
            txn = self._env.begin(self._dbs[FIRST], buffers=True)
        except lmdb.MapResizedError:  # another process reserved more: take over its size
            self._env.set_mapsize(0)
            self._pages = pages_of(self._env)
            txn = self._env.begin(self._dbs[FIRST], buffers=True)
        if self._log is None and has_log(txn, self._names):  # another process has moved the states
            txn.abort()
            self._dbs = self._open_tables(SEGMENT_BITS)
            txn = self._env.begin(self._dbs[FIRST], buffers=True)
        return Reading(txn, self._dbs, self._pages, self._log)

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
                txn = self._env.begin(self._dbs[FIRST], write=True)
            except lmdb.MapResizedError:
                self._env.set_mapsize(0)
                self._pages = pages_of(self._env)
                txn = self._env.begin(self._dbs[FIRST], write=True)
            self._writer = threading.get_ident()
            try:
                with txn:
                    writing = Writing(txn, self._dbs, self._pages, self._log)
                    try:
                        mark = self._aside.put_into(writing)
                        yield writing
                        writing.commit()
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
        if self._log is not None:
            self._log.let_go()
        self._env.close()

    def _open_tables(self, bits: int) -> dict[str, Any]:
        try:
            self._env.reader_check()  # free the slots of readers that were killed
            self._names = self._env.open_db(None)
            with self._env.begin() as txn:
                has = has_log(txn, self._names)
            if self._readonly:  # a handle opened inside a read transaction would end with it
                return self._existing(bool(has), bits)
            return self._made(has, bits)
        except lmdb.Error as error:
            self._env.close()
            raise StoreError(
                f"the folder {str(self.path)!r} holds no Sevenfold store, or one of another version: {error}"
            ) from error
        except StoreError:
            self._env.close()
            raise

    def _made(self, has: bool | None, bits: int) -> dict[str, Any]:
        """The tables of a store to write to, made or mended where they have to be."""
        names = [(name, OTHERS if name == STATE else name.encode()) for name in TABLES]
        with self._env.begin(write=True) as txn:
            found = {name: self._env.open_db(own, txn=txn) for name, own in names}
            table = self._env.open_db(LOG, txn=txn)
            if has is None:
                mark(txn, self._names)
        log = StateLog(self.path, self._env, table, write=True, bits=bits)
        with self._faults():
            if has is False:
                move(log, self._names, found[STATE])
            with self._env.begin(write=True) as txn:
                settle(log, txn)
                head = log.head(txn)
            log.sweep(None if head is None else head.layout().folder)
        self._log = log
        return found

    def _existing(self, has: bool, bits: int) -> dict[str, Any]:
        found = {}
        for name in TABLES:
            own = OTHERS if has and name == STATE else name.encode()
            try:
                found[name] = self._env.open_db(own, create=False)
            except lmdb.NotFoundError:
                if name not in ADDED:
                    raise
        if has:
            table = self._env.open_db(LOG, create=False)
            self._log = StateLog(self.path, self._env, table, write=False, bits=bits)
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
            return code in NO_ROOM
        # So LMDB calls a write that was cut short too, which is how a disk first says that it is full.
        found = os.statvfs(self.path)
        soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        room = found.f_bavail * found.f_frsize
        if soft != resource.RLIM_INFINITY:
            room = min(room, soft - os.stat(self._file).st_size)
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


def _identity(path: str) -> tuple[int, int] | None:
    """Which file lies at a path; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
