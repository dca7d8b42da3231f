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
    if scheme == "memory" and colon and not place and not readonly:
        return MemoryStore()
    if scheme == "memory":
        raise StoreError(
            f"{url!r} opened {'to read ' if readonly else ''}would always be empty: "
            "a store in memory is `memory:`, new at each opening and open to write"
            if not place
            else f"{url!r} names a place: a store in memory is `memory:` and has none"
        )
    raise StoreError(
        f"{url!r} is no address of a store: give `lmdb:FOLDER` (on disk) or `memory:` (gone at the end)"
    )
