"""A store written anew: what was deleted or overwritten is in none of its files any more."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

from sevenfold.stores.durable import sync_folder, sync_tree
from sevenfold.stores.history import HISTORY
from sevenfold.stores.kv import Store
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.state_layout import FOLDER as STATES
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
    """The bytes of the store's files before and after they were written anew; nobody may have it open.

    Every item is put into new files, rather than pages copied, because a page keeps bytes of what it held
    before, and so does a segment of states. The histories beside the store, made of its log, go too. The new file takes the place of the old when
    it is whole and on disk, and names the folder of its states: a process killed at it leaves one of the two, and what it left besides goes when the store is opened to write.
    """
    partial = path / _FOLDER
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(path.parent / HISTORY, ignore_errors=True)
    # Opened to write: a store of an earlier version then has the tables that were added since, and its states in their log.
    source, target = LmdbStore(path), LmdbStore(partial, zeroed=True)
    try:
        with source.write():  # what is aside is in the tables then
            pass
        before = _bytes(path)
        for table in TABLES:
            _copy(source, target, table)
        with target.write() as into:
            into.delete(META, COMPACT)
    finally:
        source.close()
        target.close()
    old, new = list(path.glob(STATES + "*")), list(partial.glob(STATES + "*"))
    for folder in new:
        sync_tree(folder)
        folder.replace(path / folder.name)
    sync_folder(path)
    (partial / "data.mdb").replace(path / "data.mdb")
    (path / "aside").unlink(missing_ok=True)
    # Readers and their slots belong to the old file.
    (path / "lock.mdb").unlink(missing_ok=True)
    sync_folder(path)
    for folder in [*old, partial]:
        shutil.rmtree(folder, ignore_errors=True)
    return before, _bytes(path)


def _bytes(path: Path) -> int:
    """The bytes of a store's files; of what has holes, those that are there."""
    files = [path / "data.mdb", *path.glob(STATES + "*/*")]
    found = [file.stat() for file in files]
    return sum(min(one.st_size, 512 * one.st_blocks) for one in found)


def _copy(source: Store, target: Store, table: str) -> None:
    with source.read() as txn:
        items = txn.scan(table)
        while page := list(islice(items, _PAGE)):
            with target.write() as into:
                into.put_many(table, page)
