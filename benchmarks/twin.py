"""What a store writes, written once more by LMDB alone: the floor of a commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import lmdb

from sevenfold.stores.kv import Hashes, Store, Transaction, kept_by_items
from sevenfold.stores.tables import TABLES
from sevenfold.types import Ints

__all__ = ["Twin"]

_MAP_BYTES = 16 << 30


class Twin:
    """A bare LMDB file that is given what another store was, key by key and commit by commit."""

    def __init__(self, folder: str) -> None:
        self._env = lmdb.open(
            str(Path(folder)),
            map_size=_MAP_BYTES,
            max_dbs=len(TABLES),
            readahead=False,
            meminit=False,
        )
        self._dbs = {name: self._env.open_db(name.encode()) for name in TABLES}
        self._puts: list[tuple[str, list[tuple[bytes, bytes]]]] = []
        self._deletes: list[tuple[str, bytes]] = []

    def watching(self, store: Store) -> Store:
        """The same store; what is written to it is noted for `write`."""
        return _Watched(store, self)

    def note(self, table: str, items: list[tuple[bytes, bytes]]) -> None:
        """Items that were put."""
        self._puts.append((table, items))

    def note_delete(self, table: str, key: bytes) -> None:
        """A key that was deleted."""
        self._deletes.append((table, key))

    def noted(self, table: str) -> int:
        """How many items of a table `write` will put."""
        return sum(len(items) for name, items in self._puts if name == table)

    def write(self) -> None:
        """Write what was noted since the last time, in one transaction; on disk at the end."""
        with self._env.begin(write=True) as txn:
            for table, items in self._puts:
                txn.cursor(self._dbs[table]).putmulti(items)
            for table, key in self._deletes:
                txn.delete(key, db=self._dbs[table])
        self._puts, self._deletes = [], []

    def close(self) -> None:
        """Let go of the file."""
        self._env.close()


class _Watched:
    def __init__(self, store: Store, twin: Twin) -> None:
        self._store = store
        self._twin = twin

    def read(self) -> AbstractContextManager[Transaction]:
        return self._store.read()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with self._store.write() as txn:
            yield _Noting(txn, self._twin)

    def close(self) -> None:
        self._store.close()


class _Noting:
    """A write transaction that tells the twin what it writes."""

    def __init__(self, txn: Transaction, twin: Twin) -> None:
        self._txn = txn
        self._twin = twin

    def __getattr__(self, name: str) -> Any:
        return getattr(self._txn, name)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._txn.put(table, key, value)
        self._twin.note(table, [(key, value)])

    def put_many(self, table: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        noted = list(items)
        self._txn.put_many(table, noted)
        self._twin.note(table, noted)

    def keep(self, table: str, prefix: bytes, hashes: Hashes, words: Ints, ends: Ints) -> None:
        kept_by_items(self, table, prefix, hashes, words, ends)

    def delete(self, table: str, key: bytes) -> bool:
        self._twin.note_delete(table, key)
        return self._txn.delete(table, key)
