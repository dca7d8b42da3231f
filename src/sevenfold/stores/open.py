"""A store from its address."""

from __future__ import annotations

from sevenfold.errors import StoreError
from sevenfold.stores.kv import Store
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.memory import MemoryStore

__all__ = ["open_store"]


def open_store(url: str, readonly: bool = False) -> Store:
    """The store at `url`: `lmdb:FOLDER` on disk, `redis://HOST:PORT/DB?home=NAME`, or `memory:` while it lives.

    Raises StoreError for another scheme, or when the store cannot be opened.
    """
    scheme, colon, place = url.partition(":")
    if scheme == "lmdb" and place:
        return LmdbStore(place, readonly=readonly)
    if scheme == "memory" and colon:
        return _memory(url, place, readonly)
    if scheme in ("redis", "rediss"):
        return _redis(url, readonly)
    raise StoreError(
        f"{url!r} is no address of a store: give `lmdb:FOLDER` (on disk), `redis://HOST:PORT/DB?home=NAME` "
        "or `memory:` (gone at the end)"
    )


def _redis(url: str, readonly: bool) -> Store:
    try:
        from sevenfold.stores.redis import RedisStore
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("redis", "hiredis"):
            raise
        raise StoreError(
            "a store in Redis needs the libraries `redis` and `hiredis`: pip install 'sevenfold[redis]'"
        ) from error
    return RedisStore(url, readonly=readonly)


def _memory(url: str, place: str, readonly: bool) -> Store:
    if place:
        raise StoreError(f"{url!r} names a place: a store in memory is `memory:` and has none")
    if readonly:
        raise StoreError(
            "a store in memory is new at each opening: open to read it would always be empty"
        )
    return MemoryStore()
