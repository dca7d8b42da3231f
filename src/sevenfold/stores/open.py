"""A store from its address."""

from __future__ import annotations

from sevenfold.errors import StoreError
from sevenfold.stores.kv import Store
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.memory import MemoryStore

__all__ = ["open_store"]


def open_store(url: str, readonly: bool = False) -> Store:
    """The store at `url`: `lmdb:FOLDER` on disk, or `memory:` for the life of the process.

    Raises StoreError for another scheme, or when the store cannot be opened.
    """
    scheme, colon, place = url.partition(":")
    if scheme == "lmdb" and place:
        return LmdbStore(place, readonly=readonly)
    if scheme == "memory" and colon:
        return _memory(url, place, readonly)
    raise StoreError(
        f"{url!r} is no address of a store: give `lmdb:FOLDER` (on disk) or `memory:` (gone at the end)"
    )


def _memory(url: str, place: str, readonly: bool) -> Store:
    if place:
        raise StoreError(f"{url!r} names a place: a store in memory is `memory:` and has none")
    if readonly:
        raise StoreError(
            "a store in memory is new at each opening: open to read it would always be empty"
        )
    return MemoryStore()
