"""A store written anew: what was deleted or overwritten is in no page of its file any more."""

from __future__ import annotations

import os
import shutil
from itertools import islice
from pathlib import Path

from sevenfold.stores.history import HISTORY
from sevenfold.stores.kv import Store
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.tables import META, TABLES

__all__ = ["COMPACT", "compact", "is_due"]

COMPACT = b"compact"
"""In `meta` when the file holds pages that a deletion has left behind."""

_PAGE = 1_024
_FOLDER = ".compacting"


def is_due(path: Path) -> bool:
    """Whether something was deleted that the store's file may still hold in unused pages."""
    if not (path / "data.mdb").exists():
        return False
    store = LmdbStore(path, readonly=True)
    try:
        with store.read() as txn:
            return txn.get(META, COMPACT) is not None
    finally:
        store.close()


def compact(path: Path) -> tuple[int, int]:
    """The bytes of the store's file before and after it was written anew; nobody may have it open.

    Every item is put into a new file, rather than pages copied, because a page keeps bytes of what it held
    before. The histories beside the store, made of its log, go too. The new file takes the place of the old when it is whole and on disk: a process killed at it
    leaves one of the two.
    """
    partial = path / _FOLDER
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(path.parent / HISTORY, ignore_errors=True)
    before = (path / "data.mdb").stat().st_size
    # Opened to write: a store of an earlier version then has the tables that were added since.
    source, target = LmdbStore(path), LmdbStore(partial, zeroed=True)
    try:
        with source.write():  # what is aside is in the tables then
            pass
        for table in TABLES:
            _copy(source, target, table)
        with target.write() as into:
            into.delete(META, COMPACT)
    finally:
        source.close()
        target.close()
    after = (partial / "data.mdb").stat().st_size
    (partial / "data.mdb").replace(path / "data.mdb")
    (path / "aside").unlink(missing_ok=True)
    # Readers and their slots belong to the old file.
    (path / "lock.mdb").unlink(missing_ok=True)
    _sync(path)
    shutil.rmtree(partial, ignore_errors=True)
    return before, after


def _copy(source: Store, target: Store, table: str) -> None:
    with source.read() as txn:
        items = txn.scan(table)
        while page := list(islice(items, _PAGE)):
            with target.write() as into:
                into.put_many(table, page)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
