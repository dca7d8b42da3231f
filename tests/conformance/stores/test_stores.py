"""Every store keeps the laws of the public suite."""

from __future__ import annotations

from pathlib import Path

from sevenfold.stores.kv import Store
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.memory import MemoryStore
from sevenfold.testing.store_suite import DurableSuite, StoreSuite


class TestMemory(StoreSuite):
    def open(self, folder: Path) -> Store:
        return MemoryStore()


class TestLmdb(DurableSuite):
    program = "from sevenfold.stores.lmdb import LmdbStore\nstore = LmdbStore(sys.argv[1])"

    def open(self, folder: Path) -> Store:
        return LmdbStore(folder)
